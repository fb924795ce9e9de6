"""Simulations of an evaluation, stepped by several processes."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from vnl_envs.envs.block import FLAGS
from vnl_envs.envs.core import Rows, Step
from vnl_envs.envs.gym_core import GymCore
from vnl_envs.envs.processes.workers import Workers
from vnl_envs.tasks.task import ReferenceAction, Task


class SpreadSimulations:
    """See `vnl_envs.evaluation.simulations.Simulations`. The processes end with the context.

    Args:
        task: task of the simulations.
        num: number of simulations.
        processes: number of processes, see `Workers`.
        threads: number of threads of each process; 0 divides the CPUs among them.
    """

    def __init__(self, task: Task, num: int, processes: int, threads: int = 0) -> None:
        self.task, self.num = task, num
        gym = GymCore(task, 1, 1, False)
        core = gym.core
        self.size = core.size
        self.observation = np.zeros((num, core.size), np.float32)
        self.episode = {k: np.repeat(rows, num, axis=0) for k, rows in core.episode.items()}
        self._names, self._first_figures = core.finalizer.accumulator.names, core.first_figures()
        self._figures = np.tile(self._first_figures, (num, 1))
        self._workers = Workers(gym, num, processes, threads, AutoresetMode.DISABLED)

    def __enter__(self) -> SpreadSimulations:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._workers.close()

    def reset(self, ids: np.ndarray, episode: Rows) -> None:
        """See `Simulations`."""
        self._workers.reset(ids, [None] * len(ids), episode)
        for name, rows in episode.items():
            self.episode[name][ids] = rows
        self._figures[ids] = self._first_figures
        self.observation = self._workers.observe()["flat"]

    def step(self, action: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """See `Simulations`."""
        idle = np.zeros(self.num, bool)
        if ids is not None:
            idle[:] = True
            idle[ids] = False
        results = self._workers.step(action, idle)
        names = tuple(self.task.reward_terms)
        reward, *terms = results.numbers[:, : 1 + len(names)].T.copy()
        self._figures = results.numbers[:, 1 + len(names) :].copy()
        self.observation = self._workers.observe()["flat"]
        flags: dict[str, Any] = dict(zip(FLAGS, results.flags.T.copy(), strict=True))
        return Step(reward=reward, terms=dict(zip(names, terms, strict=True)), **flags)

    def figures_of(self, index: int) -> dict[str, float]:
        """See `Simulations`."""
        return dict(zip(self._names, self._figures[index].tolist(), strict=True))

    def reference_action(self, kind: ReferenceAction) -> np.ndarray | None:
        """See `Simulations`."""
        return self.task.unwrapped.reference_action(self.episode, self._workers.carries(), kind)
