"""What an evaluation needs of simulations, whatever steps them."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vnl_envs.envs.core import Rows, Step
from vnl_envs.tasks.task import ReferenceAction, Task


class Simulations(Protocol):
    """Simulations of one task, one episode in each at a time.

    `Core` is one in this process, `SpreadSimulations` one over several processes, and
    `CrossSimulation` one on MJX.

    Attributes:
        task: the task.
        num: how many simulations.
        size: length D of an observation.
        observation: (num, D) float32, always current.
        episode: rows (num, ...) of the episodes that are run.
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
        """One control step of simulations `ids` (all if None) with actions (num, nu) float32.

        Results of the others mean nothing.
        """
        ...

    def figures_of(self, index: int) -> dict[str, float]:
        """The metrics of one simulation's episode so far."""
        ...

    def reference_action(self, kind: ReferenceAction) -> np.ndarray | None:
        """See `Task.reference_action`: of every simulation, (num, nu).

        Raises:
            ValueError: see there.
        """
        ...
