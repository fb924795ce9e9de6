"""Policies that reach goals, on tasks that they were not trained on.

Their proprioception is that of every task of a body. The goal is put where the task's own
observations lead: to a target, along a corridor, in the direction of a command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vnl_envs.envs.core import Core
from vnl_envs.evaluation.onnx_policy import OnnxPolicy

Directions = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""From the parts of observations to directions (n, 2), forward and left; their lengths are free."""


def _along(parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Along a corridor and to its middle, which is a metre ahead."""
    aside = -parts["lateral_offset"][:, 0]
    c, s = parts["heading"].T
    return np.stack([c + s * aside, c * aside - s], axis=1)


def _to_treats(parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """To a treat in sight, or else where the walls are farthest."""
    walls = parts["wall_distance"]
    angle = 2 * np.pi * walls.argmax(axis=1) / walls.shape[1]
    free = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.where(parts["treat_in_sight"] > 0, parts["treat_position"], free)


def _away(parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Away from the origin; ahead at the origin itself."""
    return np.array([1e-3, 0.0]) - parts["origin"]


WAYS: dict[str, tuple[str, Directions]] = {
    "goal_position": ("to the goal", lambda parts: parts["goal_position"]),
    "target_position": ("to the target", lambda parts: parts["target_position"][:, :2]),
    "command": ("where the command leads", lambda parts: parts["command"][:, :2]),
    "treat_position": ("to treats in sight", _to_treats),
    "origin": ("away from the start", _away),
    "lateral_offset": ("along the corridor", _along),
}
"""Observation of a task -> what is told of the way, and the way."""


class Reused:
    """A goal-reaching policy on another task.

    Args:
        path: ONNX file of the policy.
        core: simulations of the task.
        distance: m, of the goal that the policy observes.

    Attributes:
        about: where the goal is put; None if the task has no such observation.
    """

    def __init__(self, path: str | Path, core: Core, distance: float) -> None:
        self._distance = distance
        self._parts = {name.partition("/")[2]: span for name, span in core.layout.items()}
        self._body = core.groups["proprioception"]
        ways = [way for name, way in WAYS.items() if name in self._parts]
        self.about = ways[0][0] if ways else None
        self._directions = ways[0][1] if ways else None
        size = self._body.stop - self._body.start + 3
        self._policy = OnnxPolicy(path, 1, size, core.task.body.nu)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Actions (..., nu) for observations (..., D)."""
        assert self._directions is not None
        rows = observation.reshape(-1, observation.shape[-1])
        way = self._directions({name: rows[:, span] for name, span in self._parts.items()})
        length = np.linalg.norm(way, axis=1, keepdims=True)
        goal = way * self._distance / np.maximum(length, 1e-6)
        lag = np.zeros((len(rows), 1))
        seen = np.concatenate([rows[:, self._body], goal, lag], axis=1).astype(np.float32)
        return self._policy.act(seen).reshape(*observation.shape[:-1], -1)
