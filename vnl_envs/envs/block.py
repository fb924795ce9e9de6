"""Simulations with autoreset, the part of a vector environment that one process steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode

from vnl_envs.envs.base import restored_generator
from vnl_envs.envs.core import Rows, Step
from vnl_envs.envs.gym_core import GymCore
from vnl_envs.envs.view import View
from vnl_envs.physics import columns

_NONE = np.array([], int)
FLAGS = ("terminated", "truncated", "success", "diverged")


@dataclass(frozen=True)
class Results:
    """The results of a control step.

    Attributes:
        numbers: (num, K) reward, its terms, and the metrics of the episode so far.
        flags: (num, 4) bool, in the order of `FLAGS`.
        final: parts of the last observations, (n, ...) each, of the n simulations that started a
            new episode in the same step.
        ended: (n,) indices of these simulations.
    """

    numbers: np.ndarray
    flags: np.ndarray
    final: Rows
    ended: np.ndarray


class Block:
    """The simulations of one core, each with its own generator of episodes.

    Args:
        gym: core with spaces.
        mode: autoreset mode.
        limit: number of steps after which an episode is truncated; None uses the task's horizon.
    """

    def __init__(self, gym: GymCore, mode: AutoresetMode, limit: int | None = None) -> None:
        self._gym, self._core, self._mode, self._limit = gym, gym.core, mode, limit
        self._generators: list[np.random.Generator] = []
        self._seeds: list[int] = []
        for _ in range(gym.core.num):
            generator, seed = seeding.np_random()
            self._generators.append(generator)
            self._seeds.append(seed)
        self._view: View | None = None

    def reset(self, ids: np.ndarray, seeds: Sequence[int | None], episode: Rows | None) -> None:
        """Start episodes in simulations `ids`.

        Args:
            ids: (n,) simulations.
            seeds: n seeds of their generators; None continues a generator.
            episode: rows (n, ...) of episodes; None draws them.
        """
        for i, seed in zip(ids, seeds, strict=True):
            if seed is not None:
                self._generators[i], self._seeds[i] = seeding.np_random(seed)
        if episode is None:
            episode = self._core.draw([self._generators[i] for i in ids])
        self._core.reset(ids, episode)

    def step(self, actions: np.ndarray, over: np.ndarray) -> Results:
        """One control step with actions (num, nu) float32 in [-1, 1].

        Simulations whose episode is `over`, (num,) bool, do not step. In mode NEXT_STEP they start
        the next episode.
        """
        core = self._core
        ids = np.flatnonzero(~over) if over.any() else None
        result = core.step(actions, ids)
        terms = [result.terms[name] for name in self._core.task.reward_terms]
        numbers = np.concatenate(
            [columns(result.reward, *terms), core.figure_rows()], axis=1, dtype=np.float64
        )
        terminated, truncated = result.terminated, self._cut_short(result)
        flags = columns(terminated, truncated, result.success, result.diverged)
        if ids is not None:
            numbers[over], flags[over] = 0.0, False
        ended, final = _NONE, {}
        if self._mode == AutoresetMode.SAME_STEP:
            ended = np.flatnonzero(terminated | truncated)
            final = self._gym.parts(ended) if len(ended) else {}
            self._renew(ended)
        elif self._mode == AutoresetMode.NEXT_STEP:
            self._renew(np.flatnonzero(over))
        return Results(numbers, flags, final, ended)

    def _cut_short(self, result: Step) -> np.ndarray:
        """Whether the task or the limit truncates an episode, (num,) bool."""
        if self._limit is None:
            return result.truncated
        steps = self._core.figures()["length"]
        return result.truncated | ((steps >= self._limit) & ~result.terminated)

    def _renew(self, ids: np.ndarray) -> None:
        if len(ids):
            self.reset(ids, [None] * len(ids), None)

    def observe(self) -> Rows:
        """The parts of the observations of all simulations; see `GymCore.parts`."""
        return {name: part.copy() for name, part in self._gym.parts().items()}

    def episodes(self) -> Rows:
        """The current episodes, as rows (num, ...)."""
        return {k: v.copy() for k, v in self._core.episode.items()}

    def carries(self) -> Rows:
        """The current carries, as rows (num, ...)."""
        return {k: v.copy() for k, v in self._core.carry.items()}

    def generators(self) -> list[tuple[np.random.Generator, int]]:
        """Each simulation's generator and its seed, which is -1 if its state was restored."""
        return list(zip(self._generators, self._seeds, strict=True))

    def data(self, index: int) -> mujoco.MjData:
        """A snapshot of one simulation."""
        return self._core.engine.data(index)

    def draw(self, width: int, height: int) -> list[np.ndarray]:
        """An image of each simulation, (height, width, 3) uint8."""
        if self._view is None:
            self._view = View(self._core, width, height)
        return [self._view.draw(i) for i in range(self._core.num)]

    def get_state(self) -> dict[str, Any]:
        """Everything on which the next steps depend, with the generators, as plain arrays."""
        generators = [rng.bit_generator.state for rng in self._generators]
        return {**self._core.get_state(), "generator": generators}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state from `get_state`, whose shapes have been checked.

        Raises:
            ValueError: the state of a generator is invalid.
        """
        generators = [restored_generator(saved) for saved in state["generator"]]
        self._core.set_state(state)
        self._generators, self._seeds = generators, [-1] * len(generators)

    def check_open(self) -> None:
        """Do nothing: a block in this process is never closed."""

    def close(self) -> None:
        """Free the renderers."""
        for part in (self._view, self._gym):
            if part is not None:
                part.close()
