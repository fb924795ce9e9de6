"""Tasks: which episodes there are, what is observed, what is rewarded and when it ends."""

from __future__ import annotations

from vnl_envs.tasks.goal_reaching import GoalReaching
from vnl_envs.tasks.imitation import Imitation
from vnl_envs.tasks.jump_gap import JumpGap
from vnl_envs.tasks.task import Task
from vnl_envs.tasks.velocity import Velocity

__all__ = ["GoalReaching", "Imitation", "JumpGap", "Task", "Velocity"]
