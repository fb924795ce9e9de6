"""One environment of a vector environment."""

from __future__ import annotations

import copy
from typing import Any

import mujoco
import numpy as np

from vnl_envs.envs.base import check_reset_options, reset_options
from vnl_envs.envs.gym_core import METADATA
from vnl_envs.envs.vector import VectorEnv, info_of

_SHARED = ("spec", "task", "dt", "layout", "model", "env_hash")


class Member:
    """One environment of a vector, with the interface of `SingleEnv` except `step` and `close`.

    Args:
        env: vector environment.
        index: index of the environment.
    """

    def __init__(self, env: VectorEnv, index: int) -> None:
        self._env, self._index = env, index
        self.metadata = copy.deepcopy(METADATA)
        self.render_mode = env.render_mode
        self.observation_space = env.single_observation_space
        self.action_space = env.single_action_space

    def __getattr__(self, name: str) -> Any:
        if name in _SHARED:
            return getattr(self._env, name)
        raise AttributeError(f"an environment of a vector has no attribute {name!r}")

    @property
    def unwrapped(self) -> Member:
        """The environment itself."""
        return self

    @property
    def np_random(self) -> np.random.Generator:
        """The generator that draws the episodes."""
        return self._env.np_random[self._index]

    @property
    def np_random_seed(self) -> int:
        """Seed of the generator; -1 if its state was restored."""
        return self._env.np_random_seed[self._index]

    @property
    def episode(self) -> dict[str, np.ndarray]:
        """The current episode, for `reset(options={"episode": …})`."""
        return {name: rows[self._index] for name, rows in self._env.episodes.items()}

    @property
    def data(self) -> mujoco.MjData:
        """A snapshot of the simulation. Writing to it changes nothing."""
        return self._env.data(self._index)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode in this environment only; see `SingleEnv.reset`."""
        given = check_reset_options(reset_options(options))
        mask = np.arange(self._env.num_envs) == self._index
        rows: dict[str, Any] = {"reset_mask": mask}
        if given is not None:
            rows["episode"] = (
                {name: np.asarray(part)[None] for name, part in given.items()}
                if isinstance(given, dict)
                else given
            )
        seeds = [seed if chosen else None for chosen in mask]
        observation, infos = self._env.reset(seed=seeds, options=rows)
        return _row(observation, self._index), info_of(infos, self._index)

    def render(self) -> np.ndarray | None:
        """An image (height, width, 3) uint8 in mode "rgb_array", else None."""
        images = self._env.render()
        return None if images is None else images[self._index]

    def get_state(self) -> dict[str, Any]:
        """Everything on which the next steps depend, in the form of `SingleEnv.get_state`."""
        state = self._env.get_state()
        generator, over = state.pop("generator")[self._index], state.pop("over")[self._index]
        one = slice(self._index, self._index + 1)
        return {**_row(state, one), "generator": generator, "over": bool(over)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state from `get_state`, or from a single environment.

        The next steps give the same bits.

        Raises:
            ValueError: the state is of another task.
        """
        states = self._env.get_state()
        if not isinstance(state, dict) or not set(states) <= set(state):
            raise ValueError(f"a state has the parts {sorted(states)}")
        for name, rows in states.items():
            if name in ("generator", "over"):
                rows[self._index] = state[name]
            else:
                _replace(name, rows, state[name], self._index)
        self._env.set_state(states)


def _row(rows: Any, index: int | slice) -> Any:
    """Row `index` of an array, or of each array in nested dictionaries."""
    if isinstance(rows, dict):
        return {name: _row(part, index) for name, part in rows.items()}
    return rows[index]


def _replace(name: str, rows: Any, row: Any, index: int) -> None:
    """Write a row (1, ...) into an array (n, ...), or into each array in nested dictionaries."""
    if isinstance(rows, dict):
        for part, own in rows.items():
            _replace(f"{name}/{part}", own, row.get(part), index)
    elif np.shape(row) != (1, *rows.shape[1:]):
        raise ValueError(
            f"state part {name!r} has shape {np.shape(row)}, expected {(1, *rows.shape[1:])}: "
            "it is of another task"
        )
    else:
        rows[index] = row[0]
