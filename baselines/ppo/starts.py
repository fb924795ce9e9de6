"""Episodes of imitation that start rather where they have failed."""

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
"""What ends an episode begins about this many frames before it, 0.5 s."""
FAILURES_KEPT = 0.99
"""Share of the counts that is left after an update."""
_STEPS = 2**24
"""Uniform numbers are multiples of its inverse."""


class FailureStarts(FunctionalEnv):
    """An imitation task whose start is drawn by counts of failures.

    All starts, clip by clip and frame by frame, lie in `BINS` bins of the first uniform number.
    `info["bin"]` is the one half a second before the present frame.

    Args:
        arguments, options: see `FunctionalEnv`.

    Raises:
        ValueError: the task is no imitation of frames that are drawn.
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
        """See the function of that name; counts (`BINS`,)."""
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
        """Of the frame half a second before that of a state."""
        clip = data.episode["clip"]
        frame = jnp.maximum(data.episode["start"] + data.carry["step"] - LOOKBACK, 0)
        first, last = jnp.asarray(self._begins)[clip], jnp.asarray(self._ends)[clip]
        return (jnp.minimum(first + frame, last) * BINS // self._starts).astype(jnp.int32)


def preferred(u: jax.Array, failures: jax.Array) -> jax.Array:
    """A uniform number (...,) in [0, 1) as one whose density follows counts in bins, (B,).

    A share `UNIFORM` of the density is even.
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
    """While functions of an environment are traced: its starts are drawn by counts of failures.

    Nothing, where it draws them evenly.
    """
    env = env.unwrapped
    even = contextlib.nullcontext()
    return env.preferring(failures) if isinstance(env, FailureStarts) else even


def failed(after: Any, terminated: jax.Array) -> dict[str, jax.Array]:
    """How many of a batch's episodes failed in each bin, (`BINS`,); nothing without bins."""
    if "bin" not in after.info:
        return {}
    return {"failures": jnp.zeros(BINS).at[after.info["bin"]].add(terminated)}
