"""A corridor of platforms with gaps between them."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco

from vnl_envs.bodies.body import GROUND_CONTYPE
from vnl_envs.scenes.floor import base_spec

WINDOW = 4
"""Number of movable platforms. They move along with the body, as MJX allocates every geom pair."""


@dataclass(frozen=True)
class GapCorridor:
    """Boxes whose tops are at z = 0: a fixed one at the start and `WINDOW` movable ones.

    Attributes:
        platform_length: length of a movable platform along x, m.
        half_width: half the width of the platforms along y, m.
        start_front, start_back: extent of the start platform in front of and behind x = 0, m.
        depth: height of the boxes, m.
    """

    platform_length: float
    half_width: float
    start_front: float
    start_back: float
    depth: float

    def spec(self) -> mujoco.MjSpec:
        """The spec of the corridor, without bodies. The task places the movable platforms."""
        spec = base_spec()
        tile = self.platform_length / 2
        spec.material("ground").texrepeat = [0.5 / tile, 0.5 / tile]
        length = self.start_front + self.start_back
        middle = (self.start_front - self.start_back) / 2
        self._box(spec.worldbody, "start", length, [middle, 0, -self.depth / 2])
        for i in range(WINDOW):
            body = spec.worldbody.add_body(
                name=f"platform_{i}",
                mocap=True,
                pos=[self.start_front + (i + 1) * 2 * self.platform_length, 0, -self.depth / 2],
            )
            self._box(body, f"platform_{i}", self.platform_length, [0, 0, 0])
        return spec

    def _box(self, parent: mujoco.MjsBody, name: str, length: float, pos: list[float]) -> None:
        parent.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[length / 2, self.half_width, self.depth / 2],
            pos=pos,
            material="ground",
            contype=GROUND_CONTYPE,
            conaffinity=GROUND_CONTYPE,
        )
