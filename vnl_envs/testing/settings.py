"""Settings of the conformance kit, which a subclass overrides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vnl_envs.tasks.task import Carry, Episode, Task
from vnl_envs.testing.environments import episode_of


class Settings:
    """Attributes and methods to override. `task_id` must be set.

    For several ids use `pytest.mark.parametrize("task_id", ids, scope="class")` instead.
    """

    task_id: str
    """Registered id of the task."""

    module: str = ""
    """Name of the module that registers the id. Spawned interpreters import it. Without it, they
    are not tested."""

    max_episode_steps: int | None = None
    """Time limit of rollouts, for tasks whose episodes do not end under random actions."""

    penetration: float = 0.005
    """Greatest depth to which a start may reach into the ground, m."""

    bounded: bool = True
    """Whether the reward lies in [0, 1]."""

    lasts_to_horizon: bool = True
    """Whether only the horizon truncates an episode, counted in the carry's `step`."""

    @property
    def limits(self) -> dict[str, Any]:
        """Arguments of the environments of rollouts."""
        limit = self.max_episode_steps
        return {} if limit is None else {"max_episode_steps": limit}

    def move_world(
        self, task: Task, episode: Episode, carry: Carry, shift: np.ndarray, yaw: float
    ) -> tuple[Task, Episode, Carry] | None:
        """The task, episodes and carries of a world turned by yaw, rad, then shifted by (x, y), m.

        Return None if the scenery cannot move. Then only the body's own observations are compared.
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
