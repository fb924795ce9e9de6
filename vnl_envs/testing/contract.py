"""The tests of a task."""

from __future__ import annotations

from vnl_envs.testing.determinism import DeterminismChecks
from vnl_envs.testing.episodes import EpisodeChecks
from vnl_envs.testing.frames import FrameChecks
from vnl_envs.testing.physics import PhysicsChecks
from vnl_envs.testing.processes import ProcessChecks
from vnl_envs.testing.spaces import SpaceChecks
from vnl_envs.testing.states import StateChecks


class TaskContract(
    SpaceChecks,
    DeterminismChecks,
    StateChecks,
    EpisodeChecks,
    FrameChecks,
    PhysicsChecks,
    ProcessChecks,
):
    """The contract of a task, to inherit in a test file; see `Settings` for its attributes."""
