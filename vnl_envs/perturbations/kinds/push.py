"""Pushes of the body."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vnl_envs.perturbations import counter_rng
from vnl_envs.perturbations.kind import Kind, Parts, Setting
from vnl_envs.physics import Array, namespace
from vnl_envs.tasks.task import Task
from vnl_envs.utils import checks


@dataclass(frozen=True)
class Push:
    """Horizontal pushes of the root, one in every interval, at a random time in it.

    Attributes:
        force: force of a push, in weights of the unperturbed body.
        duration: duration of a push, s.
        interval: length of an interval, s; at least the duration.
    """

    force: float
    duration: float
    interval: float

    def __post_init__(self) -> None:
        checks.number("push force", self.force, 0.0, 100.0, "body weights")
        checks.number("push duration", self.duration, 1e-3, 1e3, "s")
        checks.number("push interval", self.interval, self.duration, 1e6, "s")

    @classmethod
    def from_mapping(cls, value: Any) -> Push | None:
        """Make a push from a mapping whose keys are these attributes; None if the force is 0.

        Raises:
            ValueError: `value` is neither such a mapping nor a `Push`, or a number is out of its
                bounds.
        """
        if isinstance(value, Mapping):
            names = {f.name for f in dataclasses.fields(cls)}
            if set(value) != names:
                raise ValueError(f"push has the keys {sorted(names)}, got {sorted(value)}")
            value = cls(**value)
        if not isinstance(value, cls):
            raise ValueError(f"push must be a mapping or a Push, got {value!r}")
        return value if value.force > 0 else None


class Pushes(Kind):
    """One push of the root in every interval, of fixed strength and in a random direction."""

    settings = (
        Setting(
            name="push",
            values="`force` in body weights, `duration` s, `interval` s",
            text="in each interval one horizontal push of the root, at a random time and in a "
            "random direction",
            check=lambda _, value: None if value is None else Push.from_mapping(value),
            example={"force": 0.3, "duration": 0.1, "interval": 0.5},
            off=None,
            in_every_hash=True,
        ),
    )
    stream = 1

    def __init__(self, task: Task, push: Push) -> None:
        self._force = push.force
        self._duration = max(1, round(push.duration / task.dt))
        self._interval = max(self._duration, round(push.interval / task.dt))
        gravity = float(np.linalg.norm(task.world.model.opt.gravity))
        self._weight = float(task.body.mass.sum()) * gravity

    def force(self, episode: Parts, carry: Parts) -> Array:
        """The force of the push, N, world frame, (..., 3)."""
        push = self._weights(episode, carry) * np.float32(self._weight)
        xp = namespace(push)
        return xp.concat([push, xp.zeros_like(push[..., :1])], axis=-1)

    def privileged_parts(
        self, episode: Parts, carry: Parts, level: Callable[[Array], Array]
    ) -> dict[str, Array]:
        """The force in the coming step as "push" (..., 2): body weights, forward and left."""
        return {"push": level(self._weights(episode, carry))}

    def _weights(self, episode: Parts, carry: Parts) -> Array:
        """Horizontal force in the coming step, in body weights, (..., 2), world frame."""
        seed, step = episode["seed"], carry["step"]
        xp = namespace(step)
        since = step % self._interval
        u = counter_rng.uniform(seed, step // self._interval, self.stream, 2)
        begin = xp.astype(u[..., 0] * float(self._interval - self._duration + 1), xp.int32)
        on = (since >= begin) & (since < begin + self._duration)
        angle = np.float32(2.0 * math.pi) * u[..., 1]
        force = xp.where(on, np.float32(self._force), np.float32(0.0))
        return xp.stack([force * xp.cos(angle), force * xp.sin(angle)], axis=-1)
