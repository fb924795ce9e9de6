"""Episodes of a suite on another engine, with the same draws, tasks and policies."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vnl_envs.envs.core import Rows, Step, draw
from vnl_envs.envs.functional import FunctionalEnv
from vnl_envs.tasks.metrics import Accumulator
from vnl_envs.tasks.task import ReferenceAction, Start


class CrossSimulation:
    """One simulation on MJX, see `vnl_envs.evaluation.simulations.Simulations`.

    It is compiled when it is made, which takes a minute.

    Args:
        env: functional environment on MJX.
    """

    def __init__(self, env: FunctionalEnv) -> None:
        self.task, self.num = env.task, 1
        self._put, self._advance = jax.jit(env.put), jax.jit(env.step)
        self._accumulator = Accumulator(env.task.metrics)
        self.reset(np.array([0]), draw(env.task, [np.random.default_rng(0)]))
        self.size = self.observation.shape[-1]
        self.step(np.zeros((1, env.action_size), np.float32))

    def reset(self, ids: np.ndarray, episode: Rows) -> None:
        """See `Simulations`."""
        start, carry = self.task.begin(episode)
        first = Start(*(None if part is None else part[0] for part in start))
        self.episode = {k: np.array(v) for k, v in episode.items()}
        rows = [{k: v[0] for k, v in part.items()} for part in (episode, carry)]
        self._read(self._put(first, *rows))

    def step(self, action: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """See `Simulations`."""
        state = self._advance(self._state, jnp.asarray(action[0]))
        self._read(state)
        flags = {name: np.asarray(value)[None] > 0 for name, value in state.info.items()}
        return Step(
            reward=np.asarray(state.reward)[None],
            terminated=(np.asarray(state.done)[None] > 0) & ~flags["truncation"],
            truncated=flags["truncation"],
            diverged=flags["diverged"],
            success=flags["is_success"],
            terms={},
        )

    def figures_of(self, index: int) -> dict[str, float]:
        """See `Simulations`."""
        figures = self._accumulator.result(self._totals[index])
        return dict(zip(self._accumulator.names, figures.tolist(), strict=True))

    def reference_action(self, kind: ReferenceAction) -> np.ndarray | None:
        """See `Simulations`."""
        return self.task.unwrapped.reference_action(self.episode, self._carry, kind)

    def _read(self, state: Any) -> None:
        """Take over a state of the environment."""
        self._state = state
        self._carry = {k: np.asarray(v)[None] for k, v in state.data.carry.items()}
        self.observation = np.asarray(state.data.observation)[None]
        self._totals = np.asarray(state.data.totals)[None]
