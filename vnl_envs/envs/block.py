"""Simulations that begin new episodes by themselves: what each process of a vector does."""

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
    """What a control step gave.

    Attributes:
        numbers: (num, K) the reward, its terms, and the metrics of the episode so far.
        flags: (num, 4) bool, `FLAGS`.
        final: parts of the last observations, (ended, ...), of simulations that have begun a new
            episode in the same step.
        ended: which those are.
    """

    numbers: np.ndarray
    flags: np.ndarray
    final: Rows
    ended: np.ndarray


class Block:
    """The simulations of one core, each with the generator of its own episodes.

    Args:
        gym: of the core.
        mode: when a simulation whose episode is over begins the next one.
        limit: steps after which an episode is truncated; None leaves it to the task.
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
        """Begin episodes in simulations `ids`.

        Args:
            ids: which.
            seeds: for the generator of each of them; None lets it go on.
            episode: rows of len(ids); None draws them.
        """
        for i, seed in zip(ids, seeds, strict=True):
            if seed is not None:
                self._generators[i], self._seeds[i] = seeding.np_random(seed)
        if episode is None:
            episode = self._core.draw([self._generators[i] for i in ids])
        self._core.reset(ids, episode)

    def step(self, actions: np.ndarray, over: np.ndarray) -> Results:
        """One control step with actions (num, nu) float32 in [-1, 1].

        Where an episode is `over`, (num,) bool, there is none: that simulation begins the next.
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
        """What the task or the limit truncates, (num,) bool."""
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
        """The current episodes, one row per simulation."""
        return {k: v.copy() for k, v in self._core.episode.items()}

    def carries(self) -> Rows:
        """What the task remembers of each episode, one row per simulation."""
        return {k: v.copy() for k, v in self._core.carry.items()}

    def generators(self) -> list[tuple[np.random.Generator, int]]:
        """Each simulation's generator, and what it was seeded with; -1 if it came with a state."""
        return list(zip(self._generators, self._seeds, strict=True))

    def data(self, index: int) -> mujoco.MjData:
        """A snapshot of one simulation."""
        return self._core.engine.data(index)

    def draw(self, width: int, height: int) -> list[np.ndarray]:
        """A picture of each simulation, (height, width, 3) uint8."""
        if self._view is None:
            self._view = View(self._core, width, height)
        return [self._view.draw(i) for i in range(self._core.num)]

    def get_state(self) -> dict[str, Any]:
        """What the coming steps depend on, generators included, as plain arrays."""
        generators = [rng.bit_generator.state for rng in self._generators]
        return {**self._core.get_state(), "generator": generators}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore `get_state`'s, whose shapes are right.

        Raises:
            ValueError: a generator's state is not one.
        """
        generators = [restored_generator(saved) for saved in state["generator"]]
        self._core.set_state(state)
        self._generators, self._seeds = generators, [-1] * len(generators)

    def check_open(self) -> None:
        """Raise where there is nothing to step any more: here there always is."""

    def close(self) -> None:
        """Free the pictures' memory."""
        for part in (self._view, self._gym):
            if part is not None:
                part.close()
