"""The interface of simulations that evaluations use, for all engines."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vnl_envs.envs.core import Rows, Step
from vnl_envs.tasks.task import ReferenceAction, Task


class Simulations(Protocol):
    """Simulations of one task, each with one episode at a time.

    Implementations are `Core` in this process, `SpreadSimulations` over several processes, and
    `CrossSimulation` on MJX.

    Attributes:
        task: the task.
        num: number of simulations.
        size: length D of an observation.
        observation: (num, D) float32, current observations.
        episode: rows (num, ...) of the current episodes.
    """

    task: Task
    num: int
    size: int
    observation: np.ndarray
    episode: Rows

    def reset(self, ids: np.ndarray, episode: Rows) -> None:
        """Start episodes (rows of len(ids)) in simulations `ids`."""
        ...

    def step(self, action: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """Advance simulations `ids` (None: all) by one control step with actions (num, nu) float32.

        The results of other simulations have no meaning.
        """
        ...

    def figures_of(self, index: int) -> dict[str, float]:
        """The metrics of one simulation's episode so far."""
        ...

    def reference_action(self, kind: ReferenceAction) -> np.ndarray | None:
        """`Task.reference_action` of every simulation, (num, nu).

        Raises:
            ValueError: see there.
        """
        ...
