"""Find the treats in a maze that is new in every episode."""

from __future__ import annotations

from typing import Any

import numpy as np

from vnl_envs.physics import Array, Physics, columns, namespace, pick
from vnl_envs.scenes.maze import COLOUR, WIDTH, Maze
from vnl_envs.scenes.world import World
from vnl_envs.tasks import mazes
from vnl_envs.tasks.distances import to_boxes
from vnl_envs.tasks.lattice import window
from vnl_envs.tasks.metrics import POSITIVE, Metric, PrimaryMetric
from vnl_envs.tasks.observations import Frame
from vnl_envs.tasks.task import (
    Block,
    Carry,
    Episode,
    ExternalInputs,
    Marker,
    Outcome,
    Overlay,
    Start,
    Task,
)

PER_ROOM = 3
TREATS = mazes.ROOMS * PER_ROOM
# Number of directions in which the distance to the next wall is observed.
RAYS = 12


class Forage(Task):
    """A maze of 11 x 11 cells with treats in its rooms, after dm_control's foraging tasks.

    The reward is 1 in a step in which a treat is found, and 0 otherwise: progress towards treats
    pays nothing. The observation has only walls and treats that are visible from the body.

    Args:
        world: a `Maze` with the body.
        horizon: number of control steps.
        cell, wall_height: see `Maze`.
        radius: horizontal distance of the root within which a treat is found, m.
        treat_height: height at which treats are drawn, m.
    """

    about = "find treats in a maze of {cell:g} m cells"
    metrics = (
        Metric("treats_found", "treats", "last", "higher", POSITIVE),
        Metric("time_to_first_treat", "s", "last", "lower", POSITIVE),
        Metric("fallen", "1", "last", "lower", (0.0, 1.0)),
    )
    primary = PrimaryMetric(
        metric="treats_found",
        form="capped",
        cap=float(TREATS),
        name="fraction of the 12 treats found",
        formula="treats found / 12",
    )

    def __init__(
        self,
        world: World,
        *,
        horizon: int,
        cell: float,
        wall_height: float,
        radius: float,
        treat_height: float,
    ) -> None:
        super().__init__(world, horizon)
        self.cell, self.wall_height = cell, wall_height
        self.radius, self.treat_height = radius, treat_height
        self.uniforms = mazes.UNIFORMS + mazes.ROOMS + TREATS + 2
        assert isinstance(world.scene, Maze)
        self._half = np.array(world.scene.half)
        self._sunk = world.scene.sunk
        angle = 2 * np.pi * np.arange(RAYS) / RAYS
        self._rays = np.stack([np.cos(angle), np.sin(angle)], axis=-1)

    @classmethod
    def scene(cls, **settings: Any) -> Maze:
        """The maze with the lengths in the settings."""
        return Maze(settings["cell"], settings["wall_height"])

    @property
    def reward_terms(self) -> dict[str, str]:
        """Names and meanings of the reward terms."""
        return {"found": "1 in a step in which a treat is found"}

    def episode(self, u: Array) -> Episode:
        """Walls (..., CELLS²) int32, 1 in cells with a wall, ordered by x, then y; treats
        (..., TREATS * 2) m, x and y in turn; the start (..., 2) m and its yaw (...,) rad.
        """
        xp = namespace(u)
        walls, rooms = mazes.maze(u[..., : mazes.UNIFORMS])
        turn, far, place, yaw = self._uniforms_of_treats_and_start(u)
        # Three treats around the middle of each room.
        angle = 2 * np.pi * (turn[..., None] + np.arange(PER_ROOM, dtype=np.float32) / PER_ROOM)
        distance = 0.5 + 0.5 * far.reshape((*u.shape[:-1], mazes.ROOMS, PER_ROOM))
        around = distance[..., None] * xp.stack([xp.cos(angle), xp.sin(angle)], axis=-1)
        middle = self._metres(xp.astype(mazes.post_cells(rooms), u.dtype))
        treats = middle[..., None, :] + self.cell * around
        node = xp.minimum(xp.astype(place * mazes.NODES, xp.int32), mazes.NODES - 1)
        return {
            "walls": xp.astype(walls, xp.int32),
            "treats": xp.astype(treats.reshape((*u.shape[:-1], 2 * TREATS)), u.dtype),
            "start": self._metres(xp.astype(mazes.node_cells(node), u.dtype)),
            "yaw": 2 * np.pi * yaw,
        }

    def _uniforms_of_treats_and_start(self, u: Array) -> list[Array]:
        """The uniform numbers after those of the maze: for rooms, treats, start and its yaw."""
        first = mazes.UNIFORMS
        middle, last = first + mazes.ROOMS, first + mazes.ROOMS + TREATS
        return [u[..., first:middle], u[..., middle:last], u[..., last], u[..., last + 1]]

    def begin(self, episode: Episode) -> tuple[Start, Carry]:
        """Standing in a corridor or room; treats within reach are removed."""
        start, yaw = episode["start"], episode["yaw"]
        xp = namespace(yaw)
        count = xp.zeros(yaw.shape, dtype=xp.int32)
        carry = {
            "step": count,
            "found": count,
            "gone": xp.where(self._near(start, episode), 1, 0),
            "first_time": xp.full(yaw.shape, xp.inf, dtype=yaw.dtype),
            "blocks": self._blocks(start, episode),
        }
        carry["gone"] = xp.astype(carry["gone"], xp.int32)
        state = self.standing_start(yaw.shape, start[..., 0], start[..., 1], yaw)
        return state._replace(mocap_pos=carry["blocks"]), carry

    def external_inputs(self, episode: Episode, carry: Carry) -> ExternalInputs:
        """The blocks of wall around the body."""
        return ExternalInputs(mocap_pos=carry["blocks"])

    def evaluate(
        self, physics: Physics, action: Array, episode: Episode, carry: Carry
    ) -> tuple[Carry, Outcome]:
        """See `Task.evaluate`; the class describes the reward."""
        xp = namespace(physics.qpos)
        position = physics.qpos[..., :2]
        new = self._near(position, episode) & (carry["gone"] == 0)
        reward = xp.where(new.any(axis=-1), 1.0, 0.0)
        step = carry["step"] + 1
        first = new.any(axis=-1) & (carry["found"] == 0)
        fallen = self.fallen(physics, carry)
        carry = {
            "step": step,
            "found": carry["found"] + xp.astype(new.sum(axis=-1), xp.int32),
            "gone": xp.maximum(carry["gone"], xp.astype(new, xp.int32)),
            "first_time": xp.where(first, step * self.dt, carry["first_time"]),
            "blocks": self._blocks(position, episode),
        }
        return carry, Outcome(
            observation=self.observe(physics, episode, carry),
            reward=reward,
            terms={"found": reward},
            terminated=fallen,
            truncated=(step >= self.horizon) & ~fallen,
            metrics={
                "treats_found": carry["found"],
                "time_to_first_treat": carry["first_time"],
                "fallen": fallen,
            },
            success=carry["found"] > 0,
        )

    def observe_task(
        self, physics: Physics, own: Frame, episode: Episode, carry: Carry
    ) -> dict[str, Array]:
        """Observe wall_distance (`RAYS`, m, counterclockwise from ahead), treat_in_sight (1: 1 if
        one is in sight, else 0) and treat_position (2, m to the nearest treat in sight, forward and
        left; 0 if none is).
        """
        xp = namespace(physics.qpos)
        position = physics.qpos[..., :2]
        heading = own.heading()
        left = columns(-heading[..., 1], heading[..., 0])
        rays = self._rays[:, :1] * heading[..., None, :] + self._rays[:, 1:] * left[..., None, :]
        away = self._treats(episode) - position[..., None, :]
        distance = xp.sqrt((away * away).sum(axis=-1))
        towards = away / xp.maximum(distance, 1e-6)[..., None]
        walls, cells = episode["walls"] > 0, position / self.cell + mazes.CELLS / 2
        free = self.cell * mazes.free_distance(walls, cells, xp.concat([rays, towards], axis=-2))
        seen = (free[..., RAYS:] > distance) & (carry["gone"] == 0)
        far = xp.where(seen, distance, xp.inf)
        nearest = far.argmin(axis=-1)[..., None]
        sight = xp.where(seen.any(axis=-1), 1.0, 0.0)[..., None]
        x, y = (pick(away[..., axis], nearest)[..., 0] for axis in (0, 1))
        return {
            "wall_distance": free[..., :RAYS],
            "treat_in_sight": sight,
            "treat_position": own.level(columns(x, y)) * sight,
        }

    def clearance(self, points: Array, carry: Carry) -> Array:
        """Signed distance of points (..., n, 3) to the floor and the walls near the body, m."""
        xp = namespace(points)
        return xp.minimum(points[..., 2], to_boxes(points, carry["blocks"], self._half[None]))

    def overlays(self, physics: Physics, episode: Episode, carry: Carry) -> list[Overlay]:
        """The walls that are not near the body, and the treats that are not found yet."""
        near = {(round(float(x), 3), round(float(y), 3)) for x, y, _ in carry["blocks"]}
        cells = self._metres(np.argwhere(episode["walls"].reshape(mazes.CELLS, -1) > 0))
        half = (self._half[0], self._half[1], self._half[2])
        walls: list[Overlay] = [
            Block(np.array([x, y, half[2]]), half, COLOUR)
            for x, y in cells
            if (round(float(x), 3), round(float(y), 3)) not in near
        ]
        size, colour = self.radius / 2, (0.2, 0.3, 0.9, 1.0)
        left = self._treats(episode)[carry["gone"] == 0]
        return walls + [Marker(np.array([x, y, self.treat_height]), size, colour) for x, y in left]

    def _treats(self, episode: Episode) -> Array:
        """Places of the treats, (..., TREATS, 2), m."""
        treats = episode["treats"]
        return treats.reshape((*treats.shape[:-1], TREATS, 2))

    def _near(self, position: Array, episode: Episode) -> Array:
        """Which treats are within the radius of a place (..., 2), (..., TREATS)."""
        away = self._treats(episode) - position[..., None, :]
        return (away * away).sum(axis=-1) < self.radius**2

    def _metres(self, cells: Array) -> Array:
        """Middles of cells, m; the origin is the middle of the maze."""
        return (cells - mazes.CELLS // 2) * self.cell

    def _blocks(self, position: Array, episode: Episode) -> Array:
        """Middles of the blocks around a place (..., 2), (..., WIDTH², 3), m.

        A cell's block stays in its slot, see `window`. Where there is no wall the block lies deep.
        """
        xp = namespace(position)
        middle = xp.astype(xp.round(position / self.cell), xp.int32) + mazes.CELLS // 2
        cell = window(middle, WIDTH)
        inside = ((cell >= 0) & (cell < mazes.CELLS)).all(axis=-1)
        index = xp.minimum(xp.maximum(cell, 0), mazes.CELLS - 1)
        wall = pick(episode["walls"], index[..., 0] * mazes.CELLS + index[..., 1]) > 0
        z = xp.where(inside & wall, self._half[2], self._sunk)
        x, y = (self._metres(cell[..., axis]) for axis in (0, 1))
        return xp.astype(xp.stack([x, y, z], axis=-1), position.dtype)
