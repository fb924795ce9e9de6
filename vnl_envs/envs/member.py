"""One environment of a vector."""

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
    """Environment `index` of a vector with what `SingleEnv` has, but for `step` and `close`.

    Args:
        env: the vector.
        index: of the environment.
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
        """Itself."""
        return self

    @property
    def np_random(self) -> np.random.Generator:
        """The generator that draws the episodes."""
        return self._env.np_random[self._index]

    @property
    def np_random_seed(self) -> int:
        """What the generator was seeded with; -1 where it came with a state."""
        return self._env.np_random_seed[self._index]

    @property
    def episode(self) -> dict[str, np.ndarray]:
        """The current episode, for `reset(options={"episode": …})`."""
        return {name: rows[self._index] for name, rows in self._env.episodes.items()}

    @property
    def data(self) -> mujoco.MjData:
        """A snapshot of the simulation: writing to it changes nothing."""
        return self._env.data(self._index)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode here and nowhere else; see `SingleEnv.reset`."""
        given = check_reset_options(reset_options(options))
        chosen = np.arange(self._env.num_envs) == self._index
        rows: dict[str, Any] = {"reset_mask": chosen}
        if given is not None:
            rows["episode"] = (
                {name: np.asarray(part)[None] for name, part in given.items()}
                if isinstance(given, dict)
                else given
            )
        seeds = [seed if here else None for here in chosen]
        observation, infos = self._env.reset(seed=seeds, options=rows)
        return _row(observation, self._index), info_of(infos, self._index)

    def render(self) -> np.ndarray | None:
        """A picture (height, width, 3) uint8 in mode "rgb_array", else None."""
        pictures = self._env.render()
        return None if pictures is None else pictures[self._index]

    def get_state(self) -> dict[str, Any]:
        """Everything the coming steps depend on, generator included, as `SingleEnv` has it."""
        state = self._env.get_state()
        generator, over = state.pop("generator")[self._index], state.pop("over")[self._index]
        one = slice(self._index, self._index + 1)
        return {**_row(state, one), "generator": generator, "over": bool(over)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore `get_state`'s, or a single environment's; the next steps give the same bits.

        Raises:
            ValueError: the state is of another task.
        """
        whole = self._env.get_state()
        if not isinstance(state, dict) or not set(whole) <= set(state):
            raise ValueError(f"a state has the parts {sorted(whole)}")
        for name, rows in whole.items():
            if name in ("generator", "over"):
                rows[self._index] = state[name]
            else:
                _replace(name, rows, state[name], self._index)
        self._env.set_state(whole)


def _row(rows: Any, index: int | slice) -> Any:
    """A row of an array, or of each array in nested dictionaries."""
    if isinstance(rows, dict):
        return {name: _row(part, index) for name, part in rows.items()}
    return rows[index]


def _replace(name: str, rows: Any, row: Any, index: int) -> None:
    """Write a row (1, ...) to an array at an index, or to each array in nested dictionaries."""
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
