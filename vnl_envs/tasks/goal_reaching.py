"""Reach a sequence of goals on the floor, one after the other."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np

from vnl_envs.physics import Array, Physics, namespace
from vnl_envs.scenes.floor import Floor
from vnl_envs.scenes.world import World
from vnl_envs.tasks import rewards
from vnl_envs.tasks.metrics import POSITIVE, Metric, fraction_of_reachable
from vnl_envs.tasks.observations import Frame
from vnl_envs.tasks.task import Carry, Episode, Marker, Outcome, Overlay, Start, Task
from vnl_envs.utils import checks

# More goals than an animal can reach within the horizon. After the last one the sequence repeats.
GOALS = 80


class Arrival(NamedTuple):
    """State of the current goal after a step, each (...,).

    Attributes:
        paid: whether the animal earned the goal.
        passed: whether the goal is finished and the next one appears.
        count: number of finished goals so far.
    """

    paid: Array
    passed: Array
    count: Array


class GoalReaching(Task):
    """A sequence of goals, each at a random distance and direction from the one before.

    The reward is the progress to a *new* closest distance, 1 per step at the target speed, and 1
    on reaching a goal. Approaching, retreating and approaching again pays once; hovering outside
    the radius pays nothing. `reward="sparse"` keeps only the 1 on reaching a goal.

    Args:
        world: flat floor with the body.
        horizon: number of control steps after which an episode is truncated.
        target_speed: speed that earns reward 1 per step, m/s.
        radius: horizontal distance of the root within which a goal is reached, m.
        distance: least and greatest distance from one goal to the next, m.
        reward: "progress" or "sparse".
    """

    about = "reach goals {distance[0]:g}–{distance[1]:g} m apart"
    options = {"reward": '"progress" (default) or "sparse": 1 on reaching a goal, else 0'}  # noqa: RUF012
    metrics = (
        Metric("goals_reached", "goals", "last", "higher", POSITIVE),
        Metric("goals_per_minute", "1/min", "last", "higher", POSITIVE),
        Metric("time_to_first_goal", "s", "last", "lower", POSITIVE),
        Metric("fallen", "1", "last", "lower", (0.0, 1.0)),
    )

    def __init__(
        self,
        world: World,
        *,
        horizon: int,
        target_speed: float,
        radius: float,
        distance: tuple[float, float],
        reward: Literal["progress", "sparse"] = "progress",
    ) -> None:
        super().__init__(world, horizon)
        self.reward = checks.choice("reward", reward, ("progress", "sparse"))
        self.target_speed = target_speed
        self.radius = radius
        self.distance = distance
        self.uniforms = 2 * GOALS + 1
        reachable = target_speed * horizon * self.dt / float(np.mean(distance))
        self.primary = fraction_of_reachable("goals_reached", "goals reached", reachable)

    @classmethod
    def scene(cls, **settings: Any) -> Floor:
        """A floor whose tiles are as wide as the goals."""
        return Floor(tile=2 * settings["radius"])

    @property
    def reward_terms(self) -> dict[str, str]:
        """See `Task`."""
        terms = {"reached": "1 on reaching a goal"}
        if self.reward == "progress":
            terms["progress"] = "new closest distance at the target speed, 0 on reaching"
        return terms

    def episode(self, u: Array) -> Episode:
        """Goals (..., GOALS, 2), m, relative to the start, and yaw at the start (...,), rad."""
        xp = namespace(u)
        low, high = self.distance
        step = low + (high - low) * u[..., :GOALS]
        angle = 2 * np.pi * u[..., GOALS : 2 * GOALS]
        offset = xp.stack([step * xp.cos(angle), step * xp.sin(angle)], axis=-1)
        return {
            "goals": xp.cumulative_sum(offset, axis=-2),
            "yaw": 2 * np.pi * u[..., 2 * GOALS],
        }

    def begin(self, episode: Episode) -> tuple[Start, Carry]:
        """Standing at the origin."""
        yaw, target = episode["yaw"], episode["goals"][..., 0, :]
        zero = namespace(yaw).zeros_like(yaw)
        start = self.standing_start(yaw.shape, zero, zero, yaw)
        return start, self.first_carry(target, length(target))

    def first_carry(self, target: Array, distance: Array) -> Carry:
        """The carry at a start, from the first goal (..., 2), m, and its distance (...,), m."""
        xp = namespace(distance)
        count = xp.zeros(distance.shape, dtype=xp.int32)
        return {
            "step": count,
            "reached": count,
            "target": target,
            "closest": distance,
            "first_time": xp.full(distance.shape, xp.inf, dtype=distance.dtype),
        }

    def arrival(self, distance: Array, carry: Carry) -> Arrival:
        """The goal's state from the distances to it, (...,), m."""
        within = distance < self.radius
        return Arrival(within, within, carry["reached"] + within)

    def evaluate(
        self, physics: Physics, action: Array, episode: Episode, carry: Carry
    ) -> tuple[Carry, Outcome]:
        """See the class."""
        xp = namespace(physics.qpos)
        position = physics.qpos[..., :2]
        distance = length(carry["target"] - position)
        paid, passed, count = self.arrival(distance, carry)
        step = carry["step"] + 1
        gain = rewards.progress(-distance, -carry["closest"], self.target_speed, self.dt)
        terms = {"reached": xp.where(paid, 1.0, 0.0)}
        if self.reward == "progress":
            terms["progress"] = xp.where(paid, 0.0, gain)
        before, reached = carry["reached"], carry["reached"] + paid
        target = self.goal(episode, count)
        elapsed = step * self.dt
        closest = xp.minimum(distance, carry["closest"])
        fallen = self.fallen(physics, carry)
        carry = {
            "step": step,
            "reached": reached,
            "target": target,
            "closest": xp.where(passed, length(target - position), closest),
            "first_time": xp.where(paid & (before == 0), elapsed, carry["first_time"]),
        }
        return carry, Outcome(
            observation=self.observe(physics, episode, carry),
            reward=sum(terms.values()),
            terms=terms,
            terminated=fallen,
            truncated=(step >= self.horizon) & ~fallen,
            metrics={
                "goals_reached": reached,
                "goals_per_minute": reached * 60.0 / elapsed,
                "time_to_first_goal": carry["first_time"],
                "fallen": fallen,
            },
            success=reached > 0,
        )

    def observe_task(
        self, physics: Physics, own: Frame, episode: Episode, carry: Carry
    ) -> dict[str, Array]:
        """goal_position (2, m, forward and left), goal_lag (1, m, beyond the closest distance)."""
        offset = carry["target"] - physics.qpos[..., :2]
        lag = length(offset) - carry["closest"]
        return {"goal_position": own.level(offset), "goal_lag": lag[..., None]}

    def overlays(self, physics: Physics, episode: Episode, carry: Carry) -> list[Overlay]:
        """The current goal."""
        x, y = carry["target"]
        return [Marker(np.array([x, y, 0.0]), self.radius, (1.0, 0.55, 0.1, 0.5))]

    def goal(self, episode: Episode, index: Array) -> Array:
        """Position of goal `index` (...,) of the repeated sequence, (..., 2), m."""
        goals = episode["goals"]
        first = namespace(index).arange(math.prod(index.shape)).reshape(index.shape) * GOALS
        goal = goals.reshape((-1, 2)).take(first + index % GOALS, axis=0)
        return goal + (index // GOALS)[..., None] * goals[..., -1, :]


def length(vector: Array) -> Array:
    """Euclidean length of vectors (..., n), (...,)."""
    xp = namespace(vector)
    return xp.sqrt((vector * vector).sum(axis=-1))
