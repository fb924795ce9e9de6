"""Run along a corridor over hurdles and stairs and around walls."""

from __future__ import annotations

from typing import Any

import numpy as np

from vnl_envs.physics import Array, Physics, columns, namespace, pick
from vnl_envs.scenes.obstacle_corridor import (
    HURDLE,
    KINDS,
    STAIRS,
    WALL,
    WINDOW,
    ObstacleCorridor,
)
from vnl_envs.scenes.world import World
from vnl_envs.tasks import rewards
from vnl_envs.tasks.cells import Ladder
from vnl_envs.tasks.distances import to_boxes
from vnl_envs.tasks.metrics import POSITIVE, Metric, fraction_of_reachable
from vnl_envs.tasks.observations import Frame, frame
from vnl_envs.tasks.periodic import around, count_passed, located
from vnl_envs.tasks.task import Carry, Episode, ExternalInputs, Outcome, Start, Task
from vnl_envs.utils import checks

# More obstacles than an animal can pass within the horizon; beyond them the sequence repeats.
OBSTACLES = 32
# Number of obstacles ahead that are observed.
AHEAD = 2
# An episode is a success once this many obstacles are behind the body.
SUCCESS_OBSTACLES = 5


class Obstacles(Task):
    """A corridor along +x; obstacle k is centred at `places[k]`.

    The reward is that of `JumpGap`: progress to a *new* furthest x, 1 per step at the target speed,
    times uprightness.

    Args:
        world: an `ObstacleCorridor` with the body.
        horizon: number of control steps.
        target_speed: speed that earns reward 1 per step, m/s.
        spacing: least and greatest distance between the middles of neighbouring obstacles, m.
        start_front: distance from the start to the first obstacle's middle, m.
        hurdle: least and greatest height of a hurdle, m.
        rise: least and greatest height of one step of stairs, m.
        wall: least and greatest width of a wall, from one side of the corridor, m.
        half_width, thickness, tread, landing, depth, wall_height: see `ObstacleCorridor`.
        obstacles: "hurdles", "stairs", "walls" or "mixed".
        level: size of every obstacle within its range, 0 least and 1 greatest; None is random.
    """

    about = "run past obstacles {spacing[0]:g}–{spacing[1]:g} m apart: hurdles, stairs and walls"
    options = {  # noqa: RUF012
        "obstacles": '"hurdles", "stairs", "walls" or "mixed" (default)',
        "level": "size of every obstacle within its range, from 0 to 1, for a ladder of sizes",
    }
    metrics = (
        Metric("obstacles_passed", "obstacles", "last", "higher", POSITIVE),
        Metric("distance", "m", "last", "higher", POSITIVE),
        Metric("fallen", "1", "last", "lower", (0.0, 1.0)),
    )
    cells = Ladder(option="level", name="level")

    def __init__(
        self,
        world: World,
        *,
        horizon: int,
        target_speed: float,
        spacing: tuple[float, float],
        start_front: float,
        hurdle: tuple[float, float],
        rise: tuple[float, float],
        wall: tuple[float, float],
        half_width: float,
        thickness: float,
        tread: float,
        landing: float,
        depth: float,
        wall_height: float,
        obstacles: str = "mixed",
        level: float | None = None,
    ) -> None:
        super().__init__(world, horizon)
        self.obstacles = _checked(obstacles)
        self.level = level if level is None else checks.number("level", level, 0.0, 1.0)
        self.target_speed = target_speed
        self.spacing, self.start_front = spacing, start_front
        self.hurdle, self.rise, self.wall = hurdle, rise, wall
        self.half_width, self.thickness, self.tread = half_width, thickness, tread
        self.landing, self.depth, self.wall_height = landing, depth, wall_height
        self.uniforms = 4 * OBSTACLES + 2
        assert isinstance(world.scene, ObstacleCorridor)
        self._sunk = -world.scene.below
        parts = world.scene.parts()
        self._kind = np.array([part.kind for part in parts])
        self._step = np.array([part.step for part in parts])
        half = np.array([part.half for part in parts])
        # One row per box in the window.
        self._half = np.tile(half, (WINDOW, 1))
        self._floors = np.tile(self._kind != HURDLE, WINDOW)
        self._reach = float(half[:, 0].max())
        # A limb's reach, and the way of a step at five times the target speed.
        behind = self.body.body.reach + 5 * target_speed * self.dt + self._reach
        self._ahead_and_behind = np.array([self._reach, behind])
        reachable = (target_speed * horizon * self.dt - start_front) / float(np.mean(spacing))
        self.primary = fraction_of_reachable("obstacles_passed", "obstacles passed", reachable)

    @classmethod
    def scene(cls, **settings: Any) -> ObstacleCorridor:
        """The corridor with the lengths in the settings."""
        names = ("half_width", "thickness", "tread", "landing", "depth", "wall_height")
        return ObstacleCorridor(
            obstacles=_checked(settings.get("obstacles", "mixed")),
            wall_width=settings["wall"][1],
            **{name: settings[name] for name in names},
        )

    @property
    def reward_terms(self) -> dict[str, str]:
        """Names and meanings of the reward terms."""
        return {"progress": "new furthest x at the target speed, times uprightness"}

    def episode(self, u: Array) -> Episode:
        """Obstacles and start.

        Arrays (..., OBSTACLES): places (middles, m), kinds (int32), sizes (height of a hurdle,
        height of a step or width of a wall, m), sides (of a wall, 1 left and -1 right). Arrays
        (...,): period after which they repeat, m; the start's y, m, and yaw, rad.
        """
        xp = namespace(u)
        parts = u[..., : 4 * OBSTACLES].reshape((*u.shape[:-1], 4, OBSTACLES))
        gap, kind, size, side = (parts[..., i, :] for i in range(4))
        low, high = self.spacing
        gaps = low + (high - low) * gap
        places = self.start_front + xp.cumulative_sum(gaps, axis=-1) - gaps[..., :1]
        if self.obstacles == "mixed":
            kinds = xp.minimum(xp.astype(len(KINDS) * kind, xp.int32), len(KINDS) - 1)
        else:
            kinds = xp.full(kind.shape, KINDS.index(self.obstacles), dtype=xp.int32)
        if self.level is not None:
            size = xp.full_like(size, self.level)
        sizes = xp.zeros_like(size)
        for number, (low, high) in enumerate((self.hurdle, self.rise, self.wall)):
            sizes = xp.where(kinds == number, low + (high - low) * size, sizes)
        return {
            "places": places,
            "kinds": kinds,
            "sizes": sizes,
            "sides": xp.where(side < 0.5, xp.ones_like(side), -xp.ones_like(side)),
            "period": places[..., -1] - places[..., 0] + gaps[..., 0],
            "y": (u[..., 4 * OBSTACLES] - 0.5) * (0.4 * self.half_width),
            "yaw": (u[..., 4 * OBSTACLES + 1] - 0.5) * 0.2,
        }

    def begin(self, episode: Episode) -> tuple[Start, Carry]:
        """Standing at x = 0, with a heading close to the corridor's."""
        y = episode["y"]
        xp = namespace(y)
        zero = xp.zeros_like(y)
        count = xp.zeros(y.shape, dtype=xp.int32)
        start = self.standing_start(y.shape, zero, y, episode["yaw"])
        course = self._course(zero, episode)
        carry = {"step": count, "furthest": zero, **course}
        return start._replace(mocap_pos=carry["boxes"]), carry

    def external_inputs(self, episode: Episode, carry: Carry) -> ExternalInputs:
        """The boxes of the obstacles around the body."""
        return ExternalInputs(mocap_pos=carry["boxes"])

    def evaluate(
        self, physics: Physics, action: Array, episode: Episode, carry: Carry
    ) -> tuple[Carry, Outcome]:
        """See `Task.evaluate`; the class describes the reward."""
        xp = namespace(physics.qpos)
        x, y = physics.qpos[..., 0], physics.qpos[..., 1]
        own = frame(self.body, physics)
        gain = rewards.progress(x, carry["furthest"], self.target_speed, self.dt)
        reward = gain * rewards.uprightness(own, self.body.body.upright)
        step = carry["step"] + 1
        before = carry["passed"]
        course = self._course(x, episode)
        height = physics.qpos[..., 2] - self.elevation(physics, course)
        terminated = (height < self.fallen_height(carry)) | (xp.abs(y) > self.half_width)
        passed = xp.where(terminated, before, xp.maximum(course["passed"], before))
        carry = {
            "step": step,
            "furthest": xp.maximum(x, carry["furthest"]),
            **course,
            "passed": passed,
        }
        return carry, Outcome(
            observation=self.observe(physics, episode, carry, own),
            reward=reward,
            terms={"progress": reward},
            terminated=terminated,
            truncated=(step >= self.horizon) & ~terminated,
            metrics={
                "obstacles_passed": passed,
                "distance": carry["furthest"],
                "fallen": terminated,
            },
            success=passed >= SUCCESS_OBSTACLES,
        )

    def observe_task(
        self, physics: Physics, own: Frame, episode: Episode, carry: Carry
    ) -> dict[str, Array]:
        """Observe the next `AHEAD` obstacles and the place in the corridor.

        For each obstacle: obstacle_kind (3, 1 at its place in `KINDS`), obstacle_position (1, m to
        its middle), obstacle_size (1, m), opening (2: side of a wall, 1 left and -1 right, and m to
        the left to its end; 0 for others). Then lateral_offset (1, m left of the middle), heading
        (2, cosine and sine to the corridor), lag (1, m behind the furthest x).
        """
        xp = namespace(physics.qpos)
        x, y = physics.qpos[..., 0:1], physics.qpos[..., 1:2]
        kind, size = carry["next_kind"], carry["next_size"]
        flags = [xp.where(kind == k, 1.0, 0.0) for k in (HURDLE, STAIRS, WALL)]
        side = carry["next_side"] * flags[WALL]
        end = (side * (self.half_width - size) - y) * flags[WALL]
        batch = x.shape[:-1]
        return {
            "obstacle_kind": columns(*flags).reshape((*batch, AHEAD * len(KINDS))),
            "obstacle_position": carry["next_x"] - x,
            "obstacle_size": size,
            "opening": columns(side, end).reshape((*batch, 2 * AHEAD)),
            "lateral_offset": y,
            "heading": own.heading(),
            "lag": carry["furthest"][..., None] - x,
        }

    def clearance(self, points: Array, carry: Carry) -> Array:
        """Signed distance of points (..., n, 3) to the floor and the boxes near the body, m."""
        xp = namespace(points)
        return xp.minimum(points[..., 2], to_boxes(points, carry["boxes"], self._half))

    def elevation(self, physics: Physics, carry: Carry) -> Array:
        """Height of the stairs under the root, or of the wall around it, (...,), m.

        A hurdle does not count as ground.
        """
        xp = namespace(physics.qpos)
        away = xp.abs(physics.qpos[..., None, :2] - carry["boxes"][..., :2])
        over = (away < self._half[:, :2]).all(axis=-1) & self._floors
        top = carry["boxes"][..., 2] + self._half[:, 2]
        return xp.maximum(xp.where(over, top, 0.0).max(axis=-1), 0.0)

    def _course(self, x: Array, episode: Episode) -> dict[str, Array]:
        """The obstacles around x (...,).

        Returns:
            passed (...,), number of obstacles that end at or before x; next_x (m), next_kind,
            next_size (m) and next_side of the next ones, (..., AHEAD) each; boxes (..., WINDOW *
            parts, 3), middles of the boxes in the window, m. The window starts at the first
            obstacle within reach of a limb, so no box moves while a limb can touch it.
        """
        places, period = episode["places"], episode["period"]
        passed = count_passed(x[..., None] - self._ahead_and_behind, places, period)
        index = around(passed[..., :1], passed[..., 1:], AHEAD, WINDOW)
        slot, place = located(index, places, period)
        kind, size, side = (pick(episode[n], slot) for n in ("kinds", "sizes", "sides"))
        shown = (part[..., AHEAD:] for part in (place, kind, size, side))
        return {
            "passed": passed[..., 0],
            "next_x": place[..., :AHEAD],
            "next_kind": kind[..., :AHEAD],
            "next_size": size[..., :AHEAD],
            "next_side": side[..., :AHEAD],
            "boxes": self._boxes(*shown),
        }

    def _boxes(self, place: Array, kind: Array, size: Array, side: Array) -> Array:
        """Middles of the boxes of obstacles, (..., WINDOW) -> (..., WINDOW * parts, 3), m."""
        xp = namespace(place)
        place, kind, size, side = (part[..., None] for part in (place, kind, size, side))
        wall = self._kind == WALL
        half = self._half[: len(self._kind)]
        high = xp.where(wall, self.wall_height, size * (self._step + 1)) - half[:, 2]
        across = xp.where(wall, side * (self.half_width - size + half[:, 1]), 0.0)
        used = kind == self._kind
        z = xp.where(used, high, self._sunk)
        x, y = xp.broadcast_to(place, z.shape), xp.where(used, across, 0.0)
        boxes = xp.stack([x, xp.astype(y, place.dtype), xp.astype(z, place.dtype)], axis=-1)
        return boxes.reshape((*boxes.shape[:-3], -1, 3))


def _checked(obstacles: str) -> str:
    return checks.choice("obstacles", obstacles, (*KINDS, "mixed"))
