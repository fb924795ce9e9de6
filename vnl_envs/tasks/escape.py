"""Get away from the bottom of a hilly bowl."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vnl_envs.physics import Array, Physics, columns, namespace, pick
from vnl_envs.scenes.hills import WIDTH, Hills
from vnl_envs.scenes.world import World
from vnl_envs.tasks import rewards
from vnl_envs.tasks.lattice import window
from vnl_envs.tasks.metrics import POSITIVE, Metric, PrimaryMetric
from vnl_envs.tasks.observations import Frame, frame
from vnl_envs.tasks.task import (
    Carry,
    Episode,
    ExternalInputs,
    Marker,
    Outcome,
    Overlay,
    Start,
    Task,
)

# Least height of a hill, as a fraction of the bowl's height at its place; dm_control's value.
LOWEST = 0.5
# Number of directions in which the ground is observed, at each distance.
DIRECTIONS = 8
# Uprightness is 1 within this angle, rad; dm_control's value.
UPRIGHT = math.radians(30)
_COLOUR = (0.47, 0.53, 0.5, 1.0)


class Escape(Task):
    """A start at the bottom of a bowl; the reward is the distance from it.

    After dm_control's `Escape` (Merel et al. 2020): the reward is the distance from the start
    divided by the bowl's radius, at most 1, times uprightness. The height of the bowl, 0 in the
    middle and at the rim and greatest halfway, is that of `dm_control.locomotion.arenas.bowl`.
    Here it is the height of round hills on a lattice. In every episode each hill is lower by a
    random factor.

    Args:
        world: `Hills` with the body.
        horizon: number of control steps.
        radius: radius of the bowl, m.
        height: height of the bowl, m.
        spacing, curvature: see `Hills`.
        seen: distances at which the ground is observed, m.
    """

    about = "get {radius:g} m away over hills of up to {height:g} m"
    metrics = (
        Metric("distance", "m", "last", "higher", POSITIVE),
        Metric("furthest", "m", "max", "higher", POSITIVE),
        Metric("time_to_escape", "s", "last", "lower", POSITIVE),
        Metric("fallen", "1", "last", "lower", (0.0, 1.0)),
    )
    primary = PrimaryMetric(
        metric="return",
        form="per_step",
        name="distance from the start over the radius, upright",
        formula="sum of min(distance / radius, 1) times uprightness / horizon; 0.93 at top speed",
        ceiling=0.93,
    )

    def __init__(
        self,
        world: World,
        *,
        horizon: int,
        radius: float,
        height: float,
        spacing: float,
        curvature: float,
        seen: tuple[float, float],
    ) -> None:
        super().__init__(world, horizon)
        self.radius, self.height = radius, height
        self.spacing, self.curvature = spacing, curvature
        self.seen = seen
        self._half = math.ceil(radius / spacing)
        self._side = 2 * self._half + 1
        self.uniforms = self._side**2 + 1
        row = spacing * np.arange(-self._half, self._half + 1)
        self._bowl = height * bowl(np.hypot(*np.meshgrid(row, row, indexing="ij")) / radius)
        self._bowl[self._half, self._half] = 0.0
        angle = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        self._points = np.concatenate([distance * ring for distance in seen])

    @classmethod
    def scene(cls, **settings: Any) -> Hills:
        """Hills with tiles of half a lattice step."""
        spacing = settings["spacing"]
        return Hills(spacing, settings["curvature"], tile=spacing / 2)

    @property
    def reward_terms(self) -> dict[str, str]:
        """Names and meanings of the reward terms."""
        return {"escape": "distance from the start over the radius, times uprightness"}

    def episode(self, u: Array) -> Episode:
        """Heights of the hills (..., n²) m, by x, then y, and the start's yaw (...,) rad."""
        xp = namespace(u)
        size = self._side**2
        bowl = xp.asarray(self._bowl.ravel(), dtype=u.dtype)
        return {
            "heights": bowl * (LOWEST + (1 - LOWEST) * u[..., :size]),
            "yaw": 2 * np.pi * u[..., size],
        }

    def begin(self, episode: Episode) -> tuple[Start, Carry]:
        """Standing at the origin, where the ground is level."""
        yaw = episode["yaw"]
        xp = namespace(yaw)
        zero = xp.zeros_like(yaw)
        hills = self._hills(columns(zero, zero), episode)
        carry = {
            "step": xp.zeros(yaw.shape, dtype=xp.int32),
            "origin": columns(zero, zero),
            "hills": hills,
            "escape_time": xp.full(yaw.shape, xp.inf, dtype=yaw.dtype),
        }
        start = self.standing_start(yaw.shape, zero, zero, yaw)
        return start._replace(mocap_pos=hills), carry

    def external_inputs(self, episode: Episode, carry: Carry) -> ExternalInputs:
        """The hills around the body."""
        return ExternalInputs(mocap_pos=carry["hills"])

    def evaluate(
        self, physics: Physics, action: Array, episode: Episode, carry: Carry
    ) -> tuple[Carry, Outcome]:
        """See `Task.evaluate`; the class describes the reward."""
        xp = namespace(physics.qpos)
        own = frame(self.body, physics)
        position = physics.qpos[..., :2]
        away = position - carry["origin"]
        distance = xp.sqrt((away * away).sum(axis=-1))
        fraction = xp.minimum(distance / self.radius, 1.0)
        reward = fraction * rewards.upright_within(own, UPRIGHT)
        step = carry["step"] + 1
        lowest = self.fallen_height(carry)
        carry = {
            "step": step,
            "origin": carry["origin"],
            "hills": self._hills(position, episode),
            "escape_time": xp.where(
                distance >= self.radius,
                xp.minimum(carry["escape_time"], step * self.dt),
                carry["escape_time"],
            ),
        }
        fallen = self._above_ground(physics, carry) < lowest
        return carry, Outcome(
            observation=self.observe(physics, episode, carry, own),
            reward=reward,
            terms={"escape": reward},
            terminated=fallen,
            truncated=(step >= self.horizon) & ~fallen,
            metrics={
                "distance": distance,
                "furthest": distance,
                "time_to_escape": carry["escape_time"],
                "fallen": fallen,
            },
            success=xp.isfinite(carry["escape_time"]),
        )

    def observe_task(
        self, physics: Physics, own: Frame, episode: Episode, carry: Carry
    ) -> dict[str, Array]:
        """Observe origin (2, m to the start, forward and left of the heading) and ground
        (`DIRECTIONS` per distance, m above the ground under the root, counterclockwise from ahead).
        """
        position = physics.qpos[..., :2]
        heading = own.heading()
        left = columns(-heading[..., 1], heading[..., 0])
        offset = (
            self._points[:, :1] * heading[..., None, :] + self._points[:, 1:] * left[..., None, :]
        )
        around = self._ground(position[..., None, :] + offset, carry)
        return {
            "origin": own.level(carry["origin"] - position),
            "ground": around - self.elevation(physics, carry)[..., None],
        }

    def elevation(self, physics: Physics, carry: Carry) -> Array:
        """Height of the hill under the root, (...,), m."""
        return self._ground(physics.qpos[..., None, :2], carry)[..., 0]

    def clearance(self, points: Array, carry: Carry) -> Array:
        """Signed distance of points (..., n, 3) to the floor and the hills near the body, m."""
        xp = namespace(points)
        # Axis by axis: sums over a last axis of three are slow.
        x, y, z = (points[..., k, None] - carry["hills"][..., None, :, k] for k in range(3))
        square = (x * x + y * y + z * z).min(axis=-1)
        return xp.minimum(points[..., 2], xp.sqrt(square) - self.curvature)

    def overlays(self, physics: Physics, episode: Episode, carry: Carry) -> list[Overlay]:
        """The hills that are not near the body and exist in pictures only."""
        shown = {(float(x), float(y)) for x, y, z in carry["hills"]}
        places = self.spacing * (np.indices((self._side, self._side)) - self._half)
        tops = np.stack([*places, episode["heights"].reshape(self._side, -1)], axis=-1)
        return [
            Marker(np.array([x, y, z - self.curvature]), self.curvature, _COLOUR)
            for x, y, z in tops.reshape(-1, 3)
            if z > 0 and (float(x), float(y)) not in shown
        ]

    def _above_ground(self, physics: Physics, carry: Carry) -> Array:
        return physics.qpos[..., 2] - self.elevation(physics, carry)

    def _ground(self, points: Array, carry: Carry) -> Array:
        """Height of the ground at points (..., n, 2) near the body, (..., n), m."""
        xp = namespace(points)
        away = points[..., :, None, :] - carry["hills"][..., None, :, :2]
        square = self.curvature**2 - (away * away).sum(axis=-1)
        top = carry["hills"][..., None, :, 2] + xp.sqrt(xp.maximum(square, 0.0))
        return xp.maximum(xp.where(square > 0, top, 0.0).max(axis=-1), 0.0)

    def _hills(self, position: Array, episode: Episode) -> Array:
        """Centres of the spheres around a place (..., 2), (..., WIDTH², 3), m.

        A hill stays in its slot, see `window`, so no sphere moves while a limb can touch it. Where
        there is no hill the sphere lies deep.
        """
        xp = namespace(position)
        site = window(xp.astype(xp.round(position / self.spacing), xp.int32), WIDTH)
        index = site + self._half
        inside = ((index >= 0) & (index < self._side)).all(axis=-1)
        index = xp.minimum(xp.maximum(index, 0), self._side - 1)
        height = pick(episode["heights"], index[..., 0] * self._side + index[..., 1])
        sunk = xp.where(inside & (height > 0), height - self.curvature, -2 * self.curvature)
        x, y = site[..., 0] * self.spacing, site[..., 1] * self.spacing
        return xp.astype(xp.stack([x, y, sunk], axis=-1), position.dtype)


def bowl(radius: np.ndarray) -> np.ndarray:
    """Height of dm_control's bowl over its greatest height, at distances over its radius."""
    return 0.5 - np.cos(2 * np.pi * np.clip(radius, 0.1, 1.0)) / 2
