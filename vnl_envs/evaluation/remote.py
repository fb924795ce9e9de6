"""A policy that runs in its own process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vnl_envs.sandbox.client import PolicyProcess, largest


class RemotePolicy:
    """A policy process as a `Policy` of one simulation.

    If the policy fails, `begin` and `act` raise `PolicyError`. The episode ends with the error's
    code as its reason, and the next `begin` starts the process again.

    Args:
        process: process of the policy.

    Attributes:
        clipped: number of values in this episode's actions that were out of range.
    """

    def __init__(self, process: PolicyProcess) -> None:
        self.process = process
        self.clipped = 0

    def begin(self, ids: np.ndarray, generators: Sequence[np.random.Generator]) -> None:
        """Start a new episode."""
        self.clipped = 0
        self.process.reset()

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The policy's action, (1, A), clipped to [-1, 1]."""
        action = self.process.act(observation[0])
        if largest(action) > 1:
            self.clipped += int(np.count_nonzero(np.abs(action) > 1))
            np.clip(action, -1, 1, out=action)
        return action[None]
