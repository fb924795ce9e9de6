"""Follow a commanded velocity: forward, sideways and yaw rate, redrawn within the episode."""

from __future__ import annotations

from typing import Any

import numpy as np

from vnl_envs.physics import Array, Physics, namespace, pick
from vnl_envs.scenes.floor import Floor
from vnl_envs.scenes.world import World
from vnl_envs.tasks import rewards
from vnl_envs.tasks.metrics import POSITIVE, Metric, PrimaryMetric
from vnl_envs.tasks.observations import Frame, frame
from vnl_envs.tasks.task import Carry, Episode, Marker, Outcome, Overlay, Start, Task

# More commands than fit into 20 s; after the last one the sequence repeats.
COMMANDS = 12
# Commands slower than this fraction of the fastest are commands to stand.
SMALLEST = 0.25
# An episode is a success once it has earned this fraction of the greatest return.
SUCCESS = 0.5


class Velocity(Task):
    """A sequence of commands (forward m/s, left m/s, yaw rate rad/s) in the body's heading.

    Running averages of commands and velocities are compared: swaying in place has no velocity, and
    the oscillation of a stride costs nothing. With both as fractions of the fastest command, the
    reward is 1 - |average velocity - average command| / |average command|, at least 0, times
    uprightness. So standing still earns nothing under a command to move, and everything under a
    command to stand.

    Args:
        world: a flat floor with the body.
        horizon: number of control steps.
        forward: fastest forward command, m/s; no command is backwards.
        sideways: fastest command to either side, m/s.
        turning: fastest yaw rate in either direction, rad/s.
        standing: probability of a command to stand; slow commands count as such in addition.
        duration: shortest and longest duration of a command, s.
        averaging: time constant of the averages, s.
    """

    about = "follow commanded velocities of up to {forward:g} m/s"
    metrics = (
        Metric("moving_return", "1", "sum", "higher", POSITIVE),
        Metric("velocity_error", "m/s", "mean", "lower", POSITIVE),
        Metric("yaw_rate_error", "rad/s", "mean", "lower", POSITIVE),
        Metric("fallen", "1", "last", "lower", (0.0, 1.0)),
    )
    primary = PrimaryMetric(
        metric="moving_return",
        form="per_step",
        name="reward per step under commands to move",
        formula="sum of rewards under commands to move / horizon; nine commands in ten are",
        ceiling=0.85,
    )

    def __init__(
        self,
        world: World,
        *,
        horizon: int,
        forward: float,
        sideways: float,
        turning: float,
        standing: float,
        duration: tuple[float, float],
        averaging: float,
    ) -> None:
        super().__init__(world, horizon)
        self.forward, self.sideways, self.turning = forward, sideways, turning
        self.standing = standing
        self.duration = duration
        self.averaging = averaging
        self.uniforms = 5 * COMMANDS + 1
        self._full = np.array([forward, forward, turning])

    @classmethod
    def scene(cls, **settings: Any) -> Floor:
        """A floor with tiles as wide as the way of the fastest command in a second."""
        return Floor(tile=settings["forward"])

    @property
    def reward_terms(self) -> dict[str, str]:
        """Names and meanings of the reward terms."""
        return {"tracking": "1 less the error relative to the command, times uprightness"}

    def episode(self, u: Array) -> Episode:
        """Commands (..., COMMANDS * 3), each m/s forward, m/s left and rad/s; ends (..., COMMANDS)
        int32, the first step after each; the start's yaw (...,) rad.
        """
        xp = namespace(u)
        parts = u[..., : 5 * COMMANDS].reshape((*u.shape[:-1], 5, COMMANDS))
        ahead, aside, turn, stand, time = (parts[..., i, :] for i in range(5))
        command = xp.stack(
            [
                self.forward * ahead,
                self.sideways * (2 * aside - 1),
                self.turning * (2 * turn - 1),
            ],
            axis=-1,
        )
        still = (self._size(command) < SMALLEST) | (stand < self.standing)
        command = xp.where(still[..., None], xp.zeros_like(command), command)
        low, high = (round(seconds / self.dt) for seconds in self.duration)
        steps = low + xp.astype((high - low) * time, xp.int32)
        return {
            "commands": command.reshape((*u.shape[:-1], 3 * COMMANDS)),
            "ends": xp.astype(xp.cumulative_sum(steps, axis=-1), xp.int32),
            "yaw": 2 * np.pi * u[..., 5 * COMMANDS],
        }

    def begin(self, episode: Episode) -> tuple[Start, Carry]:
        """Standing at the origin. The average of commands starts at the first command."""
        yaw = episode["yaw"]
        xp = namespace(yaw)
        zero = xp.zeros_like(yaw)
        count = xp.zeros(yaw.shape, dtype=xp.int32)
        command = self.command(episode, count)
        carry = {
            "step": count,
            "earned": zero,
            "command_average": command,
            "velocity_average": xp.zeros_like(command),
        }
        return self.standing_start(yaw.shape, zero, zero, yaw), carry

    def command(self, episode: Episode, step: Array) -> Array:
        """The command of control step `step`, counted from 0, (..., 3)."""
        xp = namespace(step)
        ends = episode["ends"]
        within = (step % ends[..., -1])[..., None]
        index = (ends <= within).sum(axis=-1, keepdims=True)
        return pick(episode["commands"], 3 * xp.astype(index, xp.int32) + _THREE)

    def evaluate(
        self, physics: Physics, action: Array, episode: Episode, carry: Carry
    ) -> tuple[Carry, Outcome]:
        """See `Task.evaluate`; the class describes the reward."""
        xp = namespace(physics.qpos)
        own = frame(self.body, physics)
        command = self.command(episode, carry["step"])
        wanted = self._averaged(carry["command_average"], command)
        velocity = self._averaged(carry["velocity_average"], level_velocity(physics, own))
        error = velocity - wanted
        relative = self._size(error) / xp.maximum(self._size(wanted), SMALLEST)
        upright = rewards.uprightness(own, self.body.body.upright)
        reward = xp.maximum(1.0 - relative, 0.0) * upright
        moving = xp.where(self._size(command) > 0, 1.0, 0.0)
        step = carry["step"] + 1
        fallen = self.fallen(physics, carry)
        carry = {
            "step": step,
            "earned": carry["earned"] + reward,
            "command_average": wanted,
            "velocity_average": velocity,
        }
        return carry, Outcome(
            observation=self.observe(physics, episode, carry, own),
            reward=reward,
            terms={"tracking": reward},
            terminated=fallen,
            truncated=(step >= self.horizon) & ~fallen,
            metrics={
                "moving_return": reward * moving,
                "velocity_error": xp.sqrt((error[..., :2] * error[..., :2]).sum(axis=-1)),
                "yaw_rate_error": xp.abs(error[..., 2]),
                "fallen": fallen,
            },
            success=carry["earned"] >= SUCCESS * self.horizon,
        )

    def observe_task(
        self, physics: Physics, own: Frame, episode: Episode, carry: Carry
    ) -> dict[str, Array]:
        """Observe command, command_average and velocity_average.

        Each is (3,): m/s forward, m/s left, rad/s.
        """
        return {
            "command": self.command(episode, carry["step"]),
            "command_average": carry["command_average"],
            "velocity_average": carry["velocity_average"],
        }

    def overlays(self, physics: Physics, episode: Episode, carry: Carry) -> list[Overlay]:
        """A marker at the place to which the command leads within half a second."""
        ahead, aside, turn = 0.5 * self.command(episode, carry["step"])
        hx, hy = frame(self.body, physics).heading()
        # Halfway through the turn.
        c, s = np.cos(turn / 2), np.sin(turn / 2)
        hx, hy = c * hx - s * hy, s * hx + c * hy
        x, y = physics.qpos[:2] + ahead * np.array([hx, hy]) + aside * np.array([-hy, hx])
        return [Marker(np.array([x, y, 0.0]), 0.05 * self.forward, (0.1, 0.6, 1.0, 0.7))]

    def _averaged(self, average: Array, now: Array) -> Array:
        return average + self.dt / self.averaging * (now - average)

    def _size(self, velocity: Array) -> Array:
        """Length relative to the fastest command, (..., 3) -> (...,)."""
        xp = namespace(velocity)
        # In the array's own type: an episode is float32.
        parts = velocity / xp.asarray(self._full, dtype=velocity.dtype)
        return xp.sqrt((parts * parts).sum(axis=-1))


def level_velocity(physics: Physics, own: Frame) -> Array:
    """Velocity of the root, (..., 3): m/s forward and left of the heading, rad/s about world z."""
    xp = namespace(physics.qvel)
    # The world's z axis in the root's own frame, which is that of angular velocities.
    up = physics.xmat[..., 0, 6:9]
    yaw_rate = (up * physics.qvel[..., 3:6]).sum(axis=-1, keepdims=True)
    return xp.concat([own.level(physics.qvel[..., :2]), yaw_rate], axis=-1)


_THREE = np.arange(3)
