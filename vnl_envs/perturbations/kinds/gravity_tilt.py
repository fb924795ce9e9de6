"""Direction of gravity."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from vnl_envs.perturbations.kind import Kind, Parts, Setting, part
from vnl_envs.physics import Array, namespace
from vnl_envs.tasks.task import Task
from vnl_envs.utils import checks


class GravityTilt(Kind):
    """Gravity is tilted by a random angle towards a random direction."""

    settings = (
        Setting(
            name="gravity_tilt",
            values="rad, up to π/4",
            text="gravity turned by up to this angle, in any direction",
            check=lambda name, value: checks.number(name, value, 0.0, math.pi / 4, "rad"),
            example=0.1,
            in_every_hash=True,
        ),
    )
    uniforms = 2
    privileged = ("gravity_tilt_forward", "gravity_tilt_left")

    def __init__(self, task: Task, angle: float) -> None:
        self._angle, self._gravity = angle, task.world.model.opt.gravity.copy()

    def draw(self, u: Array) -> dict[str, Array]:
        """The tilt of gravity towards x and y, rad, (..., 2)."""
        xp = namespace(u)
        angle, direction = self._angle * u[..., 0], 2.0 * math.pi * u[..., 1]
        tilt = [angle * xp.cos(direction), angle * xp.sin(direction)]
        return {"gravity_tilt": xp.stack(tilt, axis=-1)}

    def check_episode(self, episode: Parts) -> None:
        """Check that gravity does not point upwards."""
        angle = float(np.hypot(*np.asarray(episode["gravity_tilt"], float)))
        checks.number(f"the angle of {part('gravity_tilt')}", angle, 0.0, math.pi / 2, "rad")

    def model_fields(self, episode: Parts) -> dict[str, Array]:
        """Gravity, m/s², (..., 3), turned by the tilt (..., 2), whose length is the angle, rad."""
        tilt = episode["gravity_tilt"]
        xp = namespace(tilt)
        # In the model's precision, so that a tilt of 0 gives the model's gravity exactly.
        strength = np.full(3, np.linalg.norm(self._gravity))
        angle = xp.sqrt((tilt * tilt).sum(axis=-1, keepdims=True))
        # The sine over the angle, which is 1 at 0.
        ratio = xp.where(angle > 0, xp.sin(angle) / xp.where(angle > 0, angle, 1.0), 1.0)
        gravity = strength * xp.concat([ratio * tilt, -xp.cos(angle)], axis=-1)
        return {"opt.gravity": gravity}

    def privileged_entries(self, episode: Parts, level: Callable[[Array], Array]) -> list[Array]:
        """The tilt (..., 2) relative to the body's heading, rad."""
        return [level(episode["gravity_tilt"])]
