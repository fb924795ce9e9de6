"""Feet that neither slide nor sink: correction of foot paths by least squares."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse
from scipy.ndimage import distance_transform_edt
from scipy.sparse.linalg import spsolve
from scipy.spatial.transform import Rotation


@dataclass(frozen=True, eq=False)
class FootPath:
    """The path of one foot, T frames.

    Attributes:
        ankle: (T, 3) positions of the ankle, m.
        sole: T rotations of the sole's frame; the identity is flat and points along +x.
        contact: (T, 7) whether each point of `Humanoid.sole` should touch the ground.
    """

    ankle: np.ndarray
    sole: Rotation
    contact: np.ndarray

    @property
    def away(self) -> np.ndarray:
        """Number of frames to the foot's nearest contact, (T,)."""
        frames = len(self.contact)
        if not self.contact.any():
            return np.full(frames, frames)
        return distance_transform_edt(~self.contact.any(axis=1)).astype(int)


def without_blips(flags: np.ndarray, shortest: int = 5) -> np.ndarray:
    """Flags in which runs shorter than `shortest` frames are inverted, gaps first."""
    flags = flags.copy()
    for value in (False, True):
        edges = np.flatnonzero(np.diff(flags.astype(int))) + 1
        for start, stop in pairwise(edges):
            if flags[start] == value and stop - start < shortest:
                flags[start:stop] = not value
    return flags


RISE = (0.005, 0.015)
"""Required height of a foot over the ground per frame away from contact, and its maximum, m, so
that it does not scuff."""
# Shift that counts as much as a turn of 1 rad, m; weights of a correction's size and of its second
# differences.
TURN_ARM, KEEP, BEND = 0.25, 3.0, 1e3
# Limit of any unknown in one Gauss-Newton step, m or rad, because soles roll.
PLANT_ITERATIONS, LARGEST_STEP = 25, 0.1


def plant(
    path: FootPath,
    points: np.ndarray,
    radius: float,
    keep: float = KEEP,
    turn_arm: float = TURN_ARM,
    rise: tuple[float, float] = RISE,
) -> FootPath:
    """Correct a foot's path so that contacts neither slide nor lift and nothing sinks.

    Gauss-Newton over a displacement and a rotation per frame. Residuals: height of points in
    contact and of points that would sink; velocity of the ground point under a sphere that is in
    contact in two frames (including rolling); second differences; the size of the correction.

    Args:
        path: the raw path.
        points: (P, 3) centres of the sole's spheres in its frame, m.
        radius: radius of the spheres, m.
        keep: weight of the correction's size, 1/m². Away from contacts the correction decays within
            about (`BEND` / keep)^(1/4) frames.
        turn_arm: shift that counts as much as a turn of 1 rad, m.
        rise: see `RISE`.
    """
    ankle, sole = path.ankle.copy(), path.sole
    contact = path.contact
    lift = np.minimum(rise[0] * path.away, rise[1])
    floor = radius + np.where(contact, 0.0, lift[:, None])
    for _ in range(PLANT_ITERATIONS):
        arms = np.stack([sole.apply(p) for p in points], axis=1)
        centres = ankle[:, None] + arms
        rows = _Rows(len(ankle))
        _ground_rows(rows, arms, centres[..., 2] - floor, contact)
        _rolling_rows(rows, centres, arms, sole, contact, radius)
        _smooth_rows(rows, ankle - path.ankle, (sole * path.sole.inv()).as_rotvec(), keep, turn_arm)
        step = rows.solve()
        step *= min(0.7, LARGEST_STEP / np.abs(step).max())
        ankle = ankle + step[:, :3]
        sole = Rotation.from_rotvec(step[:, 3:]) * sole
    return FootPath(ankle, sole, contact)


class _Rows:
    """Rows of a sparse least-squares problem in six unknowns per frame (shift, turn)."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.blocks: list[sparse.csr_matrix] = []
        self.sides: list[np.ndarray] = []

    def add(
        self, parts: list[tuple[np.ndarray, np.ndarray]], residual: np.ndarray, weight: float
    ) -> None:
        """Add rows sum(coefficients @ unknowns[frame]) = -residual.

        Args:
            parts: pairs of frames (n,) and coefficients (n, 6).
            residual: (n,) residuals.
            weight: weight of the squared residual.
        """
        n = len(residual)
        block = sparse.csr_matrix((n, 6 * self.frames))
        for frames, coefficients in parts:
            columns = 6 * frames[:, None] + np.arange(6)
            lines = np.repeat(np.arange(n), 6)
            block = block + sparse.csr_matrix(
                (coefficients.ravel(), (lines, columns.ravel())), block.shape
            )
        self.blocks.append(block * np.sqrt(weight))
        self.sides.append(-residual * np.sqrt(weight))

    def solve(self) -> np.ndarray:
        """The unknowns, (frames, 6)."""
        matrix = sparse.vstack(self.blocks).tocsc()
        normal = (matrix.T @ matrix).tocsc()
        return spsolve(normal, matrix.T @ np.concatenate(self.sides)).reshape(-1, 6)


def _point_rows(arms: np.ndarray, axis: int) -> np.ndarray:
    """Derivatives of a point's coordinate by the six unknowns, (n, 6), for arms (n, 3)."""
    unit = np.eye(3)[axis]
    return np.hstack([np.broadcast_to(unit, arms.shape), np.cross(arms, unit)])


def _ground_rows(rows: _Rows, arms: np.ndarray, height: np.ndarray, contact: np.ndarray) -> None:
    frames, points = np.nonzero(contact | (height < 0))
    part = _point_rows(arms[frames, points], 2)
    rows.add([(frames, part)], height[frames, points], 1e6)


def _rolling_rows(
    rows: _Rows,
    centres: np.ndarray,
    arms: np.ndarray,
    sole: Rotation,
    contact: np.ndarray,
    radius: float,
) -> None:
    frames, points = np.nonzero(contact[:-1] & contact[1:])
    turn = (sole[1:] * sole[:-1].inv()).as_rotvec()
    slip = centres[1:] - centres[:-1] + np.cross(turn, [0, 0, -radius])[:, None]
    for axis in (0, 1):
        # The rotation vector between frames changes by the difference of the turns.
        spin = np.cross([0, 0, -radius], np.eye(3)[axis])
        extra = np.concatenate([np.zeros(3), spin])
        before = -_point_rows(arms[frames, points], axis) - extra
        after = _point_rows(arms[frames + 1, points], axis) + extra
        rows.add([(frames, before), (frames + 1, after)], slip[frames, points, axis], 1e6)


def _smooth_rows(
    rows: _Rows, shift: np.ndarray, turn: np.ndarray, keep: float, turn_arm: float
) -> None:
    # The correction's rows, with turns as displacements at the end of a foot.
    unit = np.array([1, 1, 1, turn_arm, turn_arm, turn_arm])
    change = np.hstack([shift, turn]) * unit
    frames = np.arange(1, len(shift) - 1)
    bend = change[:-2] - 2 * change[1:-1] + change[2:]
    for i in range(6):
        part = np.tile(np.eye(6)[i] * unit[i], (len(shift), 1))
        rows.add([(np.arange(len(shift)), part)], change[:, i], keep)
        inner = part[1:-1]
        rows.add([(frames - 1, inner), (frames, -2 * inner), (frames + 1, inner)], bend[:, i], BEND)
