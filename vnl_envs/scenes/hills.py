"""A floor with round hills on a lattice."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from vnl_envs.bodies.body import GROUND_CONTYPE
from vnl_envs.scenes.floor import Floor

WIDTH = 3
"""Number of hills along a side of the square window that moves along with the body."""

_COLOUR = (0.47, 0.53, 0.5, 1.0)


@dataclass(frozen=True)
class Hills:
    """A plane at z = 0 and `WIDTH`² movable spheres, whose tops are the hills.

    A sphere has one contact with a sphere or capsule, the same on every engine. A height field has
    one for each facet, and different ones on each engine.

    Attributes:
        spacing: spacing of the lattice, m.
        curvature: radius of the spheres, m.
        tile: side of a drawn tile of the floor, m.
    """

    spacing: float
    curvature: float
    tile: float = 1.0

    def spec(self) -> mujoco.MjSpec:
        """The floor and the spheres under it; the task places the spheres."""
        spec = Floor(self.tile).spec()
        # Floor and hills collide with bodies only: MJX, unlike C, would have contacts between them.
        spec.geom("floor").conaffinity = 0
        for i in range(WIDTH**2):
            x, y = self.spacing * (np.array(divmod(i, WIDTH)) - WIDTH // 2)
            body = spec.worldbody.add_body(
                name=f"hill_{i}", mocap=True, pos=[x, y, -2 * self.curvature]
            )
            body.add_geom(
                name=f"hill_{i}",
                type=mujoco.mjtGeom.mjGEOM_SPHERE,
                size=[self.curvature, 0, 0],
                rgba=_COLOUR,
                contype=GROUND_CONTYPE,
                conaffinity=0,
            )
        return spec
