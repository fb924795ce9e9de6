"""What a subclass says of its task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vnl_envs.tasks.task import Carry, Episode, Task
from vnl_envs.testing.environments import episode_of


class Settings:
    """Attributes and methods to override; `task_id` must be set.

    Several ids are tested by `pytest.mark.parametrize("task_id", ids, scope="class")` instead.
    """

    task_id: str
    """The registered id."""

    module: str = ""
    """Name of the module that registers the id. Freshly started interpreters import it; without
    it, they are not tested."""

    max_episode_steps: int | None = None
    """Truncates the episodes of rollouts, so that some end where random actions end none."""

    penetration: float = 0.005
    """How deep a start may reach into the ground, m."""

    bounded: bool = True
    """Whether the reward lies in [0, 1]."""

    lasts_to_horizon: bool = True
    """Whether time alone truncates an episode, counted in the carry's `step`."""

    @property
    def limits(self) -> dict[str, Any]:
        """Arguments of the environments of rollouts."""
        limit = self.max_episode_steps
        return {} if limit is None else {"max_episode_steps": limit}

    def move_world(
        self, task: Task, episode: Episode, carry: Carry, shift: np.ndarray, yaw: float
    ) -> tuple[Task, Episode, Carry] | None:
        """The task, episodes and carries of a world turned by yaw rad and shifted by (x, y) m.

        None where the scenery cannot move: then only the body's own observations are compared.
        """
        return None

    def start_episodes(self, task: Task) -> Episode:
        """Episodes whose starts are checked, (n, ...) each."""
        return episode_of(task, 100)

    @pytest.fixture(name="task_id")
    def _task_id(self, request: pytest.FixtureRequest) -> str:
        named = getattr(request.cls, "task_id", None)
        if not isinstance(named, str):
            message = f"{request.cls.__name__} sets no task_id, such as 'mylab/Mine-v0'"
            pytest.fail(message, pytrace=False)
        return named
