"""A corridor on a floor with hurdles, stairs and walls across it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import mujoco

from vnl_envs.bodies.body import GROUND_CONTYPE
from vnl_envs.scenes.floor import Floor

WINDOW = 2
"""Number of obstacles that exist at a time and move along with the body.

MJX allocates memory for every pair of geoms."""

KINDS = ("hurdles", "stairs", "walls")
HURDLE, STAIRS, WALL = range(3)
STEPS = 3
"""Number of steps of stairs, up and down again."""

_COLOURS = ((0.75, 0.5, 0.3, 1.0), (0.55, 0.58, 0.62, 1.0), (0.45, 0.5, 0.62, 0.6))


class Part(NamedTuple):
    """A box of an obstacle.

    Attributes:
        kind: kind of the obstacle, an index of `KINDS`.
        step: step of stairs, 0 for the lowest; else 0.
        half: half-sizes, m.
    """

    kind: int
    step: int
    half: tuple[float, float, float]


@dataclass(frozen=True)
class ObstacleCorridor:
    """A plane at z = 0 and the movable boxes of `WINDOW` obstacles.

    Stairs are boxes inside each other, the lowest the longest.

    Attributes:
        obstacles: one of `KINDS`, or "mixed" for all of them.
        half_width: half the width of the corridor along y, m.
        thickness: thickness of hurdles and walls along x, m.
        tread: length of a step along x, m.
        landing: length of the highest step along x, m.
        depth: height of the boxes of hurdles and stairs, most of it below the floor, m.
        wall_height, wall_width: height and width of the box of a wall, m.
    """

    obstacles: str
    half_width: float
    thickness: float
    tread: float
    landing: float
    depth: float
    wall_height: float
    wall_width: float

    def parts(self) -> list[Part]:
        """The boxes of one obstacle; for "mixed", those of all kinds."""
        thick, across, deep = self.thickness / 2, self.half_width, self.depth / 2
        parts = [Part(HURDLE, 0, (thick, across, deep))]
        for step in range(STEPS):
            along = self.landing / 2 + (STEPS - 1 - step) * self.tread
            # A little narrower than the step below, so that coinciding sides do not flicker.
            parts.append(Part(STAIRS, step, (along, across * (1 - 0.004 * step), deep)))
        parts.append(Part(WALL, 0, (thick, self.wall_width / 2, self.wall_height / 2)))
        return [p for p in parts if self.obstacles in ("mixed", KINDS[p.kind])]

    def spec(self) -> mujoco.MjSpec:
        """The corridor alone; the task places its obstacles."""
        spec = Floor(tile=self.half_width / 2).spec()
        # Floor and boxes collide with bodies only: MJX, unlike C, would have contacts between them.
        spec.geom("floor").conaffinity = 0
        # The clipping planes are relative to the extent, which the long lines would enlarge.
        spec.stat.extent = 4 * self.half_width
        for sign in (-1, 1):
            # The sides of the corridor, which are only drawn.
            spec.worldbody.add_geom(
                type=mujoco.mjtGeom.mjGEOM_BOX,
                size=[100 * self.half_width, 0.01 * self.half_width, 1e-3],
                pos=[80 * self.half_width, sign * self.half_width, 0],
                rgba=[0.9, 0.9, 0.85, 1],
                contype=0,
                conaffinity=0,
            )
        for slot in range(WINDOW):
            for number, part in enumerate(self.parts()):
                name = f"obstacle_{slot}_{number}"
                body = spec.worldbody.add_body(name=name, mocap=True, pos=[0, 0, -self.below])
                body.add_geom(
                    name=name,
                    type=mujoco.mjtGeom.mjGEOM_BOX,
                    size=part.half,
                    rgba=_COLOURS[part.kind],
                    contype=GROUND_CONTYPE,
                    conaffinity=0,
                )
        return spec

    @property
    def below(self) -> float:
        """Depth of the boxes that are not in use, m."""
        return 2 * (self.depth + self.wall_height)
