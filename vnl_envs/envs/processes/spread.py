"""A core whose simulations are stepped by several processes."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from vnl_envs.envs.block import FLAGS
from vnl_envs.envs.core import Core, Rows, Step
from vnl_envs.envs.gym_core import GymCore
from vnl_envs.envs.processes.workers import Workers
from vnl_envs.tasks.task import Task


class SpreadCore(Core):
    """What an evaluation asks of a core. Ends its processes when left.

    Args:
        task: the task.
        num: simulations.
        processes: see `Workers`.
        threads: of each process; 0 divides the CPUs among them.
    """

    def __init__(self, task: Task, num: int, processes: int, threads: int = 0) -> None:
        super().__init__(task, 1, 1)
        self._workers = Workers(GymCore(task, 1, 1, False), num, processes, threads,
                                AutoresetMode.DISABLED)  # fmt: skip
        self.num = num
        self.episode = {k: np.repeat(rows, num, axis=0) for k, rows in self.episode.items()}
        self._figures = np.tile(self.first_figures(), (num, 1))

    def __enter__(self) -> SpreadCore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._workers.close()

    def reset(self, ids: np.ndarray, episode: Rows) -> None:
        """See `Core`."""
        self._workers.reset(ids, [None] * len(ids), episode)
        for name, rows in episode.items():
            self.episode[name][ids] = rows
        self._figures[ids] = self.first_figures()
        self._read()

    def step(self, action: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """See `Core`."""
        idle = np.zeros(self.num, bool)
        if ids is not None:
            idle[:] = True
            idle[ids] = False
        results = self._workers.step(action, idle)
        names = tuple(self.task.reward_terms)
        reward, *terms = results.numbers[:, : 1 + len(names)].T.copy()
        self._figures = results.numbers[:, 1 + len(names) :].copy()
        self._read()
        flags: dict[str, Any] = dict(zip(FLAGS, results.flags.T.copy(), strict=True))
        return Step(reward=reward, terms=dict(zip(names, terms, strict=True)), **flags)

    def figure_rows(self) -> np.ndarray:
        """See `Core`."""
        return self._figures

    def figures_of(self, index: int) -> dict[str, float]:
        """See `Core`."""
        names = self.judge.accumulator.names
        return dict(zip(names, self._figures[index].tolist(), strict=True))

    def _read(self) -> None:
        """Take over what policies may look at."""
        self.observation = self._workers.observe()["flat"]
        self.carry = self._workers.carries()
