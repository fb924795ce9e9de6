"""Tasks: which episodes there are, what is observed, what is rewarded and when it ends."""

from __future__ import annotations

from vnl_envs.tasks.escape import Escape
from vnl_envs.tasks.forage import Forage
from vnl_envs.tasks.goal_reaching import GoalReaching
from vnl_envs.tasks.imitation import Imitation
from vnl_envs.tasks.jump_gap import JumpGap
from vnl_envs.tasks.obstacles import Obstacles
from vnl_envs.tasks.task import Task
from vnl_envs.tasks.two_touch import TwoTouch
from vnl_envs.tasks.velocity import Velocity

__all__ = [
    "Escape",
    "Forage",
    "GoalReaching",
    "Imitation",
    "JumpGap",
    "Obstacles",
    "Task",
    "TwoTouch",
    "Velocity",
]
