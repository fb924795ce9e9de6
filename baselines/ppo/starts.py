"""Imitation episodes that start more often where earlier ones failed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vnl_envs import FunctionalEnv

BINS = 128
UNIFORM = 0.2
"""Share of the starts that are drawn as the task draws them."""
LOOKBACK = 25
"""A failure is attributed to the frame this many frames earlier, 0.5 s."""
FAILURES_KEPT = 0.99
"""Decay factor of the counts per update."""
_STEPS = 2**24
"""Uniform numbers are multiples of the inverse."""


class FailureStarts(FunctionalEnv):
    """An imitation task whose starts are drawn by counts of failures.

    The starts, ordered by clip and frame, lie in `BINS` bins of the first uniform number.
    `info["bin"]` is the bin of the frame half a second before the present one.

    Args:
        arguments, options: see `FunctionalEnv`.

    Raises:
        ValueError: the task is not an imitation task, or it does not draw its starts.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._failures: Any = None
        super().__init__(*arguments, **options)
        task: Any = self.task
        starts = getattr(task, "starts", None)
        if starts is None or task.start is not None:
            raise ValueError("starts='failures' needs an imitation task whose starts are drawn")
        clips = np.arange(len(task.reference.length))
        self._begins = np.searchsorted(starts[:, 0], clips)
        self._ends = np.searchsorted(starts[:, 0], clips, side="right") - 1
        self._starts = len(starts)

    @contextlib.contextmanager
    def preferring(self, failures: jax.Array) -> Iterator[None]:
        """See the function `preferring`; counts (`BINS`,)."""
        self._failures = failures
        try:
            yield
        finally:
            self._failures = None

    def uniforms(self, rng: jax.Array) -> jax.Array:
        """See `FunctionalEnv.uniforms`; the first is drawn by the counts."""
        u = super().uniforms(rng)
        return u if self._failures is None else u.at[0].set(preferred(u[0], self._failures))

    def reset(self, rng: jax.Array) -> Any:
        """The start of an episode drawn from a key."""
        state = super().reset(rng)
        return state.replace(info={**state.info, "bin": jnp.zeros((), jnp.int32)})

    def step(self, state: Any, action: jax.Array) -> Any:
        """One control step with an action (nu,)."""
        state = super().step(state, action)
        return state.replace(info={**state.info, "bin": self._bin(state.data)})

    def _bin(self, data: Any) -> jax.Array:
        """The bin, (), of the frame half a second before the state's frame."""
        clip = data.episode["clip"]
        frame = jnp.maximum(data.episode["start"] + data.carry["step"] - LOOKBACK, 0)
        first, last = jnp.asarray(self._begins)[clip], jnp.asarray(self._ends)[clip]
        return (jnp.minimum(first + frame, last) * BINS // self._starts).astype(jnp.int32)


def preferred(u: jax.Array, failures: jax.Array) -> jax.Array:
    """Map uniform numbers (...,) in [0, 1) to numbers whose density follows counts in bins, (B,).

    A share `UNIFORM` of the density is uniform.
    """
    bins = len(failures)
    counts = failures + 1e-6
    share = UNIFORM / bins + (1.0 - UNIFORM) * counts / counts.sum()
    upper = jnp.cumsum(share)
    chosen = jnp.minimum(jnp.searchsorted(upper, u, side="right"), bins - 1)
    within = (u - upper[chosen] + share[chosen]) / share[chosen]
    moved = (chosen + jnp.clip(within, 0.0, 1.0)) / bins
    return jnp.minimum(jnp.floor(moved * _STEPS), _STEPS - 1) / _STEPS


def preferring(env: Any, failures: jax.Array) -> contextlib.AbstractContextManager[None]:
    """Context in which the traced functions of an environment draw starts by counts of failures.

    It has no effect on an environment without bins.
    """
    env = env.unwrapped
    even = contextlib.nullcontext()
    return env.preferring(failures) if isinstance(env, FailureStarts) else even


def failed(after: Any, terminated: jax.Array) -> dict[str, jax.Array]:
    """The number of a batch's episodes that failed in each bin, (`BINS`,); {} without bins."""
    if "bin" not in after.info:
        return {}
    return {"failures": jnp.zeros(BINS).at[after.info["bin"]].add(terminated)}
