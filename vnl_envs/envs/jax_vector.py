"""Gymnasium's vector interface for a functional environment, with JAX arrays."""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode

from vnl_envs.envs.autoreset import wrap_for_training
from vnl_envs.envs.base import reset_options
from vnl_envs.envs.functional import FunctionalEnv, State
from vnl_envs.envs.gym_core import METADATA
from vnl_envs.utils import checks


class JaxVectorEnv(gymnasium.vector.VectorEnv[Any, jax.Array, jax.Array]):
    """`num_envs` simulations of a registered task, stepped by one compiled function.

    Observations, rewards, flags and the entries of `infos` are JAX arrays. For NumPy or torch, wrap
    the environment in `gymnasium.wrappers.vector.JaxToNumpy` or `JaxToTorch`. The autoreset mode is
    SAME_STEP: when an episode ends, the observation is the first of the next episode, the last one
    of the finished episode is in `infos["final_obs"]`, and everything else belongs to the finished
    episode.

    Args:
        task_id: registered id.
        num_envs: number of simulations.
        impl, observation, threads, options: see `FunctionalEnv`.
    """

    metadata = {**METADATA, "render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        task_id: str,
        num_envs: int = 1,
        impl: str = "auto",
        observation: str = "flat",
        threads: int = 0,
        **options: Any,
    ) -> None:
        self.num_envs = checks.integer("num_envs", num_envs, 1)
        self.functional = FunctionalEnv(task_id, impl, observation, threads, **options)
        self.single_observation_space = _space(self.functional.observation_size)
        shape = (self.functional.action_size,)
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, shape, np.float32)
        batch = gymnasium.vector.utils.batch_space
        self.observation_space = batch(self.single_observation_space, num_envs)
        self.action_space = batch(self.single_action_space, num_envs)
        self.state: State | None = None
        self._compile()

    def _compile(self) -> None:
        env = wrap_for_training(self.functional)

        # Compiled code returns separate arrays for the two uses of the observation: callers may
        # donate theirs without changing the state.
        def reset(keys: jax.Array) -> tuple[State, Any]:
            state = env.reset(keys)
            return state, state.obs

        def step(state: State, actions: jax.Array) -> tuple[State, tuple[Any, ...]]:
            state = env.step(state, actions)
            done, truncated = state.done > 0, state.info["truncation"] > 0
            flags = done & ~truncated, truncated
            return state, (state.obs, state.reward, *flags, _infos(state, done))

        self._reset, self._step = jax.jit(reset), jax.jit(step)

    def __getstate__(self) -> dict[str, Any]:
        compiled = ("_reset", "_step")
        return {name: value for name, value in vars(self).items() if name not in compiled}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._compile()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes. Simulation i draws its episodes from the key of seed + i.

        Without a seed, `np_random` draws one. A seed also seeds `np_random`.

        Raises:
            ValueError: there are options, or the seed is not an integer of at least 0.
        """
        if reset_options(options):
            raise ValueError(f"reset has no options here, got {sorted(options or {})}")
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        else:
            seed = checks.integer("seed", seed, 0)
            super().reset(seed=seed)
        seeds = jnp.arange(self.num_envs, dtype=jnp.uint32) + np.uint32(seed % 2**32)
        self.state, observation = self._reset(jax.vmap(jax.random.PRNGKey)(seeds))
        return observation, {}

    def step(
        self, actions: jax.Array
    ) -> tuple[Any, jax.Array, jax.Array, jax.Array, dict[str, Any]]:
        """One control step with actions (num_envs, nu) in [-1, 1].

        Raises:
            ValueError: the actions have a wrong shape.
            gymnasium.error.ResetNeeded: `reset` was not called before.
        """
        if self.state is None:
            raise gymnasium.error.ResetNeeded("call reset() before step(): no episode is under way")
        if np.shape(actions) != self.action_space.shape:
            raise ValueError(
                f"actions must have shape {self.action_space.shape}, got {np.shape(actions)}"
            )
        self.state, out = self._step(self.state, actions)
        return out


def _infos(state: State, done: jax.Array) -> dict[str, Any]:
    everywhere = jnp.ones(done.shape, bool)
    terms = {k.removeprefix("reward/"): v for k, v in state.metrics.items() if "/" in k}
    figures = {k: v for k, v in state.info["episode_metrics"].items() if "/" not in k}
    return {
        "reward_terms": _masked(terms, everywhere),
        "metrics": _masked(figures, everywhere),
        **_masked({k: state.info[k] > 0 for k in ("is_success", "diverged")}, everywhere),
        "final_obs": state.info["final_obs"],
        "_reward_terms": everywhere,
        "_metrics": everywhere,
        "_final_obs": done,
    }


def _space(size: Any) -> gymnasium.Space:
    """The space of one observation: (D,), or name -> (size,)."""
    if isinstance(size, dict):
        return gymnasium.spaces.Dict({name: _space(shape[0]) for name, shape in size.items()})
    return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)


def _masked(values: dict[str, Any], mask: jax.Array) -> dict[str, Any]:
    """Infos in Gymnasium's form, each with the mask."""
    return {**values, **{f"_{name}": mask for name in values}}
