"""Episodes of a suite on another engine: the same draws, tasks and policies, other physics."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vnl_envs.envs.core import Core, Rows, Step
from vnl_envs.envs.functional import FunctionalEnv
from vnl_envs.tasks.task import Start


class CrossCore(Core):
    """A core of one simulation whose physics is MJX's. Compiled when made, which takes a minute.

    Args:
        env: a task on MJX.
    """

    def __init__(self, env: FunctionalEnv) -> None:
        super().__init__(env.task, 1, 1)
        self._put, self._advance = jax.jit(env.put), jax.jit(env.step)
        self._state: Any = None
        self.reset(np.array([0]), self.episode)
        self.step(np.zeros((1, env.action_size), np.float32))

    def reset(self, ids: np.ndarray, episode: Rows) -> None:
        """See `Core`."""
        start, carry = self.task.begin(episode)
        first = Start(*(None if part is None else part[0] for part in start))
        self.episode = {k: np.array(v) for k, v in episode.items()}
        rows = [{k: v[0] for k, v in part.items()} for part in (episode, carry)]
        self._state = self._put(first, *rows)
        self._read()

    def step(self, action: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """See `Core`."""
        self._state = state = self._advance(self._state, jnp.asarray(action[0]))
        self._read()
        flags = {name: np.asarray(value)[None] > 0 for name, value in state.info.items()}
        return Step(
            reward=np.asarray(state.reward)[None],
            terminated=(np.asarray(state.done)[None] > 0) & ~flags["truncation"],
            truncated=flags["truncation"],
            diverged=flags["diverged"],
            success=flags["is_success"],
            terms={},
        )

    def _read(self) -> None:
        """Take over what is known of the state."""
        data = self._state.data
        self.carry = {k: np.asarray(v)[None] for k, v in data.carry.items()}
        self.observation = np.asarray(data.observation)[None]
        self._totals = np.asarray(data.totals)[None]
