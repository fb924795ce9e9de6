"""Delay of actions."""

from __future__ import annotations

from typing import Any

from vnl_envs.perturbations.kind import Kind, Parts, Setting, part
from vnl_envs.physics import Array, namespace
from vnl_envs.tasks.task import Start, Task
from vnl_envs.utils import checks

_MOST = 50


def _check(name: str, value: Any) -> int:
    delay = checks.integer(name, value, 0)
    if delay > _MOST:
        raise ValueError(f"{name} must be at most {_MOST} steps, got {delay}")
    return delay


class ActionDelay(Kind):
    """Actions take effect some control steps late. The delay is constant in an episode."""

    settings = (
        Setting(
            name="action_delay",
            values=f"control steps, up to {_MOST}",
            text="actions take effect 0 to this many steps late, constant in an episode; the "
            "standing pose comes first",
            check=_check,
            example=2,
            off=0,
            in_every_hash=True,
        ),
    )
    uniforms = 1
    privileged = ("action_delay",)

    def __init__(self, task: Task, most: int) -> None:
        self._most, self._nu = most, task.body.nu

    def draw(self, u: Array) -> dict[str, Array]:
        """The delay in control steps, (...,) int32."""
        xp = namespace(u)
        steps = xp.astype(u[..., 0] * (self._most + 1.0), xp.int32)
        # The product may be rounded up.
        return {"action_delay": xp.minimum(steps, self._most)}

    def check_episode(self, episode: Parts) -> None:
        """Check that the delay is not longer than the carry remembers."""
        checks.number(part("action_delay"), int(episode["action_delay"]), 0, self._most, "steps")

    def first_carry(self, start: Start) -> dict[str, Array]:
        """The last actions, newest first, (..., most, nu) float32: the standing pose."""
        xp, batch = namespace(start.qpos), start.qpos.shape[:-1]
        return {"actions": xp.zeros((*batch, self._most, self._nu), dtype=xp.float32)}

    def next_carry(self, given: Array, passed: Array, carry: Parts) -> dict[str, Array]:
        """The last actions, with the new one and without the oldest."""
        xp = namespace(given)
        newest = xp.astype(given, xp.float32)[..., None, :]
        return {"actions": xp.concat([newest, carry["actions"][..., : self._most - 1, :]], axis=-2)}

    def command(self, action: Array, episode: Parts, carry: Parts) -> Array:
        """The action from as many steps ago as the episode's delay."""
        xp = namespace(action)
        queue = xp.concat([action[..., None, :], carry["actions"]], axis=-2)
        delay = xp.astype(episode["action_delay"], xp.int32)[..., None, None]
        return xp.take_along_axis(queue, delay, axis=-2)[..., 0, :]
