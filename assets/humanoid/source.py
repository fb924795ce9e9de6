"""DeepMimic's motions in the pybullet wheel, and their skeleton."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pybullet_data
from scipy.spatial.transform import Rotation

# Joint: (parent, offset from it, first column in a frame, columns). The source's axes are x
# forward, y up, z right. Offsets in m are those of `pybullet_data/humanoid/humanoid.urdf` divided
# by 4, its scale; they agree with DeepMimic's own data/characters/humanoid3d.txt.
SKELETON: dict[str, tuple[str | None, tuple[float, ...], int | None, int]] = {
    "root": (None, (0, 0, 0), 4, 4),
    "chest": ("root", (0, 0.236151, 0), 8, 4),
    "neck": ("chest", (0, 0.223894, 0), 12, 4),
    "rhip": ("root", (0, 0, 0.084887), 16, 4),
    "rknee": ("rhip", (0, -0.421546, 0), 20, 1),
    "rankle": ("rknee", (0, -0.409870, 0), 21, 4),
    "rshoulder": ("chest", (-0.02405, 0.243500, 0.183110), 25, 4),
    "relbow": ("rshoulder", (0, -0.274788, 0), 29, 1),
    "rwrist": ("relbow", (0, -0.258947, 0), None, 0),
    "lhip": ("root", (0, 0, -0.084887), 30, 4),
    "lknee": ("lhip", (0, -0.421546, 0), 34, 1),
    "lankle": ("lknee", (0, -0.409870, 0), 35, 4),
    "lshoulder": ("chest", (-0.02405, 0.243500, -0.183110), 39, 4),
    "lelbow": ("lshoulder", (0, -0.274788, 0), 43, 1),
    "lwrist": ("lelbow", (0, -0.258947, 0), None, 0),
}
SOURCE_LEG = 0.421546 + 0.409870
# The foot is a box of 0.177 x 0.055 x 0.09 m centred 0.045 m before and 0.0225 m under the ankle.
SOURCE_HEEL, SOURCE_TOE, SOURCE_ANKLE_HEIGHT = -0.0435, 0.1335, 0.05
# To x forward, y left, z up.
UPRIGHT = Rotation.from_euler("x", 90, degrees=True)


@dataclass(frozen=True, eq=False)
class Motion:
    """Poses of the source skeleton, T frames; axes x forward, y left, z up in every frame.

    Attributes:
        position: (T, 3) of the root, which lies midway between the hips, m.
        rotation: joint -> T rotations relative to its parent (the root's: to the world).
    """

    position: np.ndarray
    rotation: dict[str, Rotation]

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, frames: slice | np.ndarray) -> Motion:
        return Motion(self.position[frames], {n: r[frames] for n, r in self.rotation.items()})

    def moved(self, turn: Rotation, shift: np.ndarray) -> Motion:
        """The motion turned about the origin, then shifted."""
        rotation = {**self.rotation, "root": turn * self.rotation["root"]}
        return Motion(turn.apply(self.position) + shift, rotation)

    @property
    def yaw(self) -> np.ndarray:
        """(T,) heading of the root, rad."""
        return heading(self.rotation["root"])

    def forward(self) -> tuple[dict[str, np.ndarray], dict[str, Rotation]]:
        """World positions (T, 3) and rotations of all joints."""
        positions, rotations = {"root": self.position}, {"root": self.rotation["root"]}
        for name, (parent, offset, column, _) in SKELETON.items():
            if parent is None:
                continue
            turn = rotations[parent]
            positions[name] = positions[parent] + turn.apply(UPRIGHT.apply(offset))
            rotations[name] = turn if column is None else turn * self.rotation[name]
        return positions, rotations


def load_motion(file: str) -> tuple[Motion, float]:
    """A motion file of the pybullet wheel and its time between frames, s."""
    path = Path(pybullet_data.getDataPath(), "data", "motions", file)
    frames = np.array(json.loads(path.read_text())["Frames"])
    rotation = {}
    for name, (_, _, column, width) in SKELETON.items():
        if column is None:
            continue
        if width == 4:
            turn = Rotation.from_quat(frames[:, column : column + 4], scalar_first=True)
            rotation[name] = UPRIGHT * turn * UPRIGHT.inv()
        else:
            rotation[name] = Rotation.from_rotvec(np.outer(frames[:, column], [0, -1, 0]))
    return Motion(UPRIGHT.apply(frames[:, 1:4]), rotation), float(frames[0, 0])


def heading(turn: Rotation) -> np.ndarray:
    """Yaw of the forward axis, rad, without jumps."""
    forward = turn.apply([1, 0, 0])
    return np.unwrap(np.arctan2(forward[..., 1], forward[..., 0]))
