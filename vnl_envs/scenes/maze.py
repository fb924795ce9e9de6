"""A floor with the walls of a maze."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from vnl_envs.bodies.body import GROUND_CONTYPE
from vnl_envs.scenes.floor import Floor

WIDTH = 3
"""Number of cells along a side of the square window that moves along with the body."""

COLOUR = (0.55, 0.5, 0.42, 1.0)


@dataclass(frozen=True)
class Maze:
    """A plane at z = 0 and `WIDTH`² movable blocks of wall, each as wide as a cell.

    Attributes:
        cell: side of a cell, m.
        wall_height: height of the walls, m.
    """

    cell: float
    wall_height: float

    def spec(self) -> mujoco.MjSpec:
        """The floor and the blocks; the task places the blocks."""
        spec = Floor(tile=self.cell).spec()
        # Floor and blocks collide with bodies only: MJX, unlike C, would add contacts between them.
        spec.geom("floor").conaffinity = 0
        for i in range(WIDTH**2):
            x, y = self.cell * (np.array(divmod(i, WIDTH)) - WIDTH // 2)
            body = spec.worldbody.add_body(name=f"wall_{i}", mocap=True, pos=[x, y, self.sunk])
            body.add_geom(
                name=f"wall_{i}",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                size=self.half,
                rgba=COLOUR,
                contype=GROUND_CONTYPE,
                conaffinity=0,
            )
        return spec

    @property
    def half(self) -> tuple[float, float, float]:
        """Half-sizes of a block, m."""
        return self.cell / 2, self.cell / 2, self.wall_height / 2

    @property
    def sunk(self) -> float:
        """Height of the middle of a block that is not in use, m."""
        return -2 * self.wall_height
