"""Gauss-Newton fits of a body to its markers, in windows of frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.linalg import solveh_banded
from scipy.optimize import minimize_scalar
from scipy.spatial.transform import Rotation

from vnl_envs.motion.clip import ClipError
from vnl_envs.motion.fitting.markers import Marker
from vnl_envs.motion.fitting.rig import Kinematics, Rig

# The weights of the terms of the fit, as standard deviations.
MARKER_NOISE = 0.002
"""Standard deviation of a keypoint, m."""
GLITCH = 0.01
"""Distance at which a keypoint starts to count less (Cauchy's loss), m."""
POSTURE = 0.5
"""Standard deviation of a joint angle from the standing pose, rad."""
ACCELERATION = {"shift": 4.0, "turn": 100.0, "joint": 200.0}
"""Standard deviations of accelerations of the root, m/s² and rad/s², and of joints, rad/s²."""
SINKING, TRAILING = 0.0003, 0.003
"""Standard deviations of the depth below the ground of a contact geom, and of a geom that no marker
determines (the tail's), m."""
NEAR = 0.03
"""Height up to which a geom may reach the ground in one step, m."""
FIRM, LOOSE = 0.3, 0.1
"""Weight of a marker's initial place relative to all frames together."""

SAMPLE, SAMPLE_STEPS = 200, 20
"""Frames, evenly spread, from which places are estimated, and Gauss-Newton steps on them."""
FIRST_STEPS = 6
"""Gauss-Newton steps on poses alone, with fixed places."""
SIZE_SAMPLE, SIZE_STEPS, SIZE_RANGE = 40, 8, 1.5
"""The same for the animal's size, and the largest factor between its size and the body's."""
WINDOW, MARGIN, STEPS, TRAILING_STEPS = 256, 16, 8, 6
"""Frames solved at once, additional frames on either side that are dropped, and steps."""
LARGEST_STEP = 0.3
"""Limit of any unknown in one step, m or rad."""
HELD = 1e12
"""Curvature that fixes an unknown."""
WRONG = 0.015
"""Median distance of keypoints from the fitted markers at which the fit is rejected, m."""


def seen(keypoints: np.ndarray) -> np.ndarray:
    """Whether each of the keypoints (T, K, 3) is present, (T, K)."""
    return np.isfinite(keypoints).all(axis=-1)


def spread(points: np.ndarray) -> np.ndarray:
    """Root mean square distance of points (..., K, 3) from their centre, (...,); NaN is missing."""
    present = seen(points)[..., None]
    number = np.maximum(present.sum(axis=-2, keepdims=True), 1)
    points = np.where(present, points, 0.0)
    centre = points.sum(axis=-2, keepdims=True) / number
    return np.sqrt((np.square(points - centre) * present).sum((-1, -2)) / number[..., 0, 0])


class Solver:
    """Gauss-Newton fits of a body to its markers."""

    def __init__(self, rig: Rig, markers: Sequence[Marker]) -> None:
        self.rig, self.body = rig, rig.body
        # Without markers, nothing determines the root.
        self.rooted = not len(markers)
        self.sinking = TRAILING if self.rooted else SINKING
        self.first = np.array([m.offset for m in markers]).reshape(-1, 3)
        self.firm = np.array([FIRM if m.firm else LOOSE for m in markers])
        self.trunk = np.array([m.trunk for m in markers], bool)
        self.kinematics = Kinematics(self.body.model, max(SAMPLE, WINDOW + 2 * MARGIN))
        self.rig.forward(self.kinematics, self.body.standing_qpos[None])
        self.standing = self.rig.markers(self.kinematics, self.first)[0]

    def size(self, keypoints: np.ndarray) -> float:
        """The scale factor at which keypoints (F, K, 3) fit best, measured by unscaled errors."""
        guess = float(np.clip(spread(self.standing) / np.median(spread(keypoints)), 0.8, 1.25))

        def cost(log: float) -> float:
            scale = float(np.exp(log))
            offsets, poses, _ = self.calibrate(scale * keypoints, SIZE_STEPS)
            miss = self.miss(scale * keypoints, offsets, poses)
            moved = self.firm @ np.square(offsets - self.first).sum(-1) / len(offsets)
            return (_cauchy(miss).mean() + moved) / scale**2

        bounds = np.log(guess) + np.log(SIZE_RANGE) * np.array([-1, 1])
        return float(np.exp(minimize_scalar(cost, bounds=bounds, options={"xatol": 0.005}).x))

    def calibrate(
        self, keypoints: np.ndarray, steps: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Places of the markers, poses (F, nq) of separate frames, and places' changes (steps,).

        Minimises the poses' cost plus, for each marker, its weight times the number of frames times
        the squared distance of its place from the first guess.
        """
        offsets, settled = self.first, np.empty(steps)
        qpos = self.poses(keypoints, offsets, self.place(keypoints), FIRST_STEPS)
        for i in range(steps):
            before = offsets
            offsets, qpos = self.step_together(keypoints, offsets, qpos)
            settled[i] = np.abs(offsets - before).max()
        return offsets, qpos, settled

    def step_together(
        self, keypoints: np.ndarray, offsets: np.ndarray, qpos: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places and poses after a Gauss-Newton step of both.

        The step of the places is linear in that of the poses and is eliminated (Schur complement).
        """
        terms = self.terms(keypoints, offsets, qpos)
        frames, size, number = len(qpos), self.rig.unknowns, offsets.size
        _, turn = self.rig.carriers(self.kinematics)
        pull = self.firm * frames / MARKER_NOISE**2
        own = np.diag(np.repeat(terms.weight.sum(axis=0) + pull, 3))
        mixed = (terms.weighted.mT @ turn).transpose(0, 2, 1, 3).reshape(frames, size, number)
        down = np.einsum("fk,fkij,fki->kj", terms.weight, turn, terms.miss)
        down = (down + pull[:, None] * (offsets - self.first)).reshape(-1)
        change = np.zeros(number)

        def solve(held: np.ndarray, target: np.ndarray) -> np.ndarray:
            curvature = terms.curvature + held[:, None] * np.eye(size)
            side = np.concatenate([mixed, (terms.gradient - held * target)[..., None]], axis=2)
            solved = np.linalg.solve(curvature, side)
            reduced = mixed.reshape(-1, number).T @ solved.reshape(-1, number + 1)
            change[:] = np.linalg.solve(own - reduced[:, :-1], reduced[:, -1] - down)
            return -solved[..., -1] - solved[..., :-1] @ change

        qpos = self.rig.moved(qpos, _bounded(*self.reach(qpos), terms.gradient, solve))
        change *= min(1.0, GLITCH / max(np.abs(change).max(), 1e-12))
        return offsets + change.reshape(-1, 3), qpos

    def track(
        self,
        keypoints: np.ndarray,
        scale: float,
        ground: float,
        offsets: np.ndarray,
        rate: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Poses (T, nq) of consecutive frames on the ground, and distances (T, K)."""
        frames, none = len(keypoints), np.empty((0, 3))
        trailing = _trailing(self.rig)
        qpos, error = np.empty((frames, self.body.nq)), np.empty(keypoints.shape[:2])
        for start in range(0, frames, WINDOW):
            first, stop = max(start - MARGIN, 0), min(start + WINDOW, frames)
            part = scale * keypoints[first : stop + MARGIN]
            part[..., 2] -= ground
            poses = self.poses(part, offsets, self.place(part), STEPS, rate)
            if trailing:
                poses = trailing.poses(
                    np.empty((len(part), 0, 3)), none, poses, TRAILING_STEPS, rate
                )
            kept = slice(start - first, stop - first)
            qpos[start:stop] = poses[kept]
            error[start:stop] = self.miss(part, offsets, poses)[kept]
        return qpos, error

    def poses(
        self,
        keypoints: np.ndarray,
        offsets: np.ndarray,
        qpos: np.ndarray,
        steps: int,
        rate: float | None = None,
    ) -> np.ndarray:
        """Poses (F, nq) after Gauss-Newton steps with given places of the markers.

        With a rate, frames are consecutive and on the ground. Without a rate, each frame is
        separate and the ground is ignored.
        """
        for _ in range(steps):
            qpos = self.step_poses(keypoints, offsets, qpos, rate)
        return qpos

    def step_poses(
        self, keypoints: np.ndarray, offsets: np.ndarray, qpos: np.ndarray, rate: float | None
    ) -> np.ndarray:
        """Poses after a Gauss-Newton step; see `poses`."""
        terms = self.terms(keypoints, offsets, qpos)
        gradient, band = terms.gradient, _banded(terms.curvature)
        height, slope = np.empty((len(qpos), 0)), np.empty((len(qpos), 0, self.rig.unknowns))
        if rate is not None:
            self.add_smoothness(qpos, rate, band, gradient)
            height, slope = self.near_ground()
        slope, height = slope / self.sinking, height / self.sinking
        below = height < 0

        def push() -> np.ndarray:
            return ((below * height)[:, None] @ slope)[:, 0]

        def solve(held: np.ndarray, target: np.ndarray) -> np.ndarray:
            nonlocal below
            matrix = band.copy()
            matrix[-1] += held.reshape(-1)
            _add_blocks(matrix, (slope * below[..., None]).mT @ slope)
            side = (held * target - gradient - push()).reshape(-1)
            step = solveh_banded(matrix, side, overwrite_ab=True, check_finite=False)
            step = step.reshape(held.shape)
            # Geoms that would sink in this step are held by the next one.
            below = height + (slope @ step[..., None])[..., 0] < 0
            return step

        return self.rig.moved(qpos, _bounded(*self.reach(qpos), gradient + push(), solve))

    def terms(self, keypoints: np.ndarray, offsets: np.ndarray, qpos: np.ndarray) -> _Terms:
        """The cost's markers and posture to second order, about poses (F, nq)."""
        rig, size = self.rig, self.rig.unknowns
        rig.forward(self.kinematics, qpos)
        points = rig.markers(self.kinematics, offsets)
        present = seen(keypoints)
        miss = np.where(present[..., None], points - keypoints, 0.0)
        weight = present / MARKER_NOISE**2 / (1 + np.square(miss).sum(-1) / GLITCH**2)
        slope = rig.jacobian(self.kinematics, points, rig.moves_markers)
        weighted = slope * weight[..., None, None]
        rows = weighted.reshape(len(qpos), -1, size).mT
        curvature = rows @ slope.reshape(len(qpos), -1, size)
        gradient = (rows @ miss.reshape(len(qpos), -1, 1))[..., 0]
        joints = np.arange(6, size)
        curvature[:, joints, joints] += 1 / POSTURE**2
        gradient[:, joints] += (qpos[:, 7 + rig.joints] - rig.neutral) / POSTURE**2
        return _Terms(curvature, gradient, miss, weight, weighted)

    def near_ground(self) -> tuple[np.ndarray, np.ndarray]:
        """Heights (F, G), m, and their derivatives (F, G, D), of the geoms that come near z = 0."""
        ends = self.rig.ends(self.kinematics)
        near = (ends[..., 2] < NEAR).any(axis=0)
        slope = self.rig.jacobian(self.kinematics, ends[:, near], self.rig.moves_ends[near])
        return ends[:, near, 2], slope[:, :, 2]

    def add_smoothness(
        self, qpos: np.ndarray, rate: float, band: np.ndarray, gradient: np.ndarray
    ) -> None:
        """Add the cost of accelerations to a banded curvature and the gradient (F, D)."""
        frames, size = gradient.shape
        if frames < 3:
            return
        deviation = np.repeat(list(ACCELERATION.values()), [3, 3, size - 6])
        weight = (rate**2 / deviation) ** 2
        turn = Rotation.from_quat(qpos[:, 3:7], scalar_first=True)
        shift = np.diff(qpos[:, :3], axis=0)
        bend = np.diff(qpos[:, 7 + self.rig.joints], axis=0)
        change = np.concatenate([shift, (turn[:-1].inv() * turn[1:]).as_rotvec(), bend], axis=1)
        force = weight * np.diff(change, axis=0)
        # Second differences: 1, -2, 1 in the gradient, and their products in the curvature.
        stencil = (1, -2, 1)
        diagonals = np.zeros((3, frames))
        for a, x in enumerate(stencil):
            gradient[a : frames - 2 + a] += x * force
            for b, y in enumerate(stencil[a:], a):
                diagonals[b - a, b : frames - 2 + b] += x * y
        for lag, diagonal in enumerate(diagonals):
            band[-1 - lag * size].reshape(frames, size)[:] += diagonal[:, None] * weight

    def reach(self, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest step of each unknown, (F, D)."""
        most = np.full((len(qpos), self.rig.unknowns), LARGEST_STEP)
        if self.rooted:
            most[:, :6] = 0.0
        least, angles = -most, qpos[:, 7 + self.rig.joints]
        least[:, 6:] = np.maximum(least[:, 6:], self.rig.low - angles)
        most[:, 6:] = np.minimum(most[:, 6:], self.rig.high - angles)
        return least, most

    def miss(self, keypoints: np.ndarray, offsets: np.ndarray, qpos: np.ndarray) -> np.ndarray:
        """Distances of markers from keypoints, (F, K), m; NaN where missing."""
        self.rig.forward(self.kinematics, qpos)
        return np.linalg.norm(self.rig.markers(self.kinematics, offsets) - keypoints, axis=-1)

    def lowest(self, qpos: np.ndarray) -> np.ndarray:
        """Height of the lowest geom that markers determine, (F,), m: of paws, not of toes."""
        self.rig.forward(self.kinematics, qpos)
        return self.rig.ends(self.kinematics)[:, self.rig.certain, 2].min(axis=1)

    def check(self, keypoints: np.ndarray, offsets: np.ndarray, qpos: np.ndarray) -> None:
        """Raise ClipError if a calibration shows that the keypoints are not the body's."""
        typical = float(median(self.miss(keypoints, offsets, qpos)))
        markers = f"the markers of {self.body.body.name!r}"
        if not typical < WRONG:
            raise ClipError(
                f"keypoints are {1e3 * typical:.0f} mm from {markers} after the fit: "
                "are they in the order of its marker set, and not mirrored?"
            )
        up = Rotation.from_quat(qpos[:, 3:7], scalar_first=True).apply(self.body.body.up)
        if np.median(up[:, 2]) < 0:
            raise ClipError("keypoints stand on their head: z must point up")

    def place(self, keypoints: np.ndarray) -> np.ndarray:
        """Standing poses (F, nq) aligned with the trunk's keypoints (Kabsch's solution)."""
        present = _bridged(keypoints[:, self.trunk])
        here = self.standing[self.trunk]
        middle, centre = present.mean(axis=1), here.mean(axis=0)
        product = np.einsum("fki,kj->fij", present - middle[:, None], here - centre)
        u, _, vt = np.linalg.svd(product)
        u[..., 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
        turn = Rotation.from_matrix(u @ vt)
        qpos = np.tile(self.body.standing_qpos, (len(present), 1))
        qpos[:, :3] = middle + turn.apply(qpos[:, :3] - centre)
        stood = Rotation.from_quat(qpos[:, 3:7], scalar_first=True)
        qpos[:, 3:7] = (turn * stood).as_quat(scalar_first=True)
        return qpos


def _trailing(rig: Rig) -> Solver | None:
    """A solver for the joints that a rig leaves out and the geoms that only they move, if any."""
    body, model = rig.body, rig.body.model
    names = [model.geom(i).name for i in range(body.geoms.start, body.geoms.stop)]
    kinds = (mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_CAPSULE)
    round_ones = np.isin(model.geom_type[body.geoms], kinds)
    geoms = [
        names[i].removeprefix(body.body.prefix) for i in np.flatnonzero(round_ones) if names[i]
    ]
    others = Rig(body, (), geoms, idle=rig.joints)
    hanging = np.array(others.moves_ends[:, 6:].any(axis=1))
    if not hanging.any():
        return None
    geoms = [name for name, hangs in zip(geoms, hanging, strict=True) if hangs]
    return Solver(Rig(body, (), geoms, idle=rig.joints), ())


@dataclass(frozen=True, eq=False)
class _Terms:
    """The cost to second order about F poses with D unknowns.

    Attributes:
        curvature: (F, D, D) second derivatives.
        gradient: (F, D) first derivatives.
        miss: (F, K, 3) vectors from keypoints to markers, m; 0 where missing.
        weight: (F, K) weights of the markers, m⁻²; 0 where missing.
        weighted: (F, K, 3, D) derivatives of the markers times their weights.
    """

    curvature: np.ndarray
    gradient: np.ndarray
    miss: np.ndarray
    weight: np.ndarray
    weighted: np.ndarray


def _bounded(
    least: np.ndarray,
    most: np.ndarray,
    gradient: np.ndarray,
    solve: Callable[[np.ndarray, np.ndarray], np.ndarray],
    passes: int = 5,
) -> np.ndarray:
    """The step (F, D) to the minimum of a quadratic inside bounds, by its active set.

    Unknowns that push against a bound are fixed. Unknowns that overshoot a bound are put on it, and
    the others are solved for again: at least once, because `solve` may depend on its own steps.

    Args:
        solve: function from curvatures (F, D) and targets (F, D) that hold unknowns to the step.
    """
    held = ((least >= 0) & (gradient > 0)) | ((most <= 0) & (gradient < 0))
    target = np.zeros_like(gradient)
    for done in range(passes):
        step = solve(HELD * held, target)
        over = (step < least - 1e-6) | (step > most + 1e-6)
        if done and not over.any():
            break
        target = np.where(over, np.clip(step, least, most), target)
        held |= over
    return np.clip(step, least, most)


def _banded(blocks: np.ndarray) -> np.ndarray:
    """Diagonal blocks (F, D, D) in LAPACK's upper banded form, with room for two more blocks."""
    frames, size = blocks.shape[:2]
    band = np.zeros((2 * size + 1, frames * size))
    _add_blocks(band, blocks)
    return band


def _add_blocks(band: np.ndarray, blocks: np.ndarray) -> None:
    """Add diagonal blocks (F, D, D) to a matrix in banded form, in place."""
    frames, size = blocks.shape[:2]
    for lag in range(size):
        band[-1 - lag].reshape(frames, size)[:, lag:] += np.diagonal(blocks, lag, 1, 2)


def _cauchy(distance: np.ndarray) -> np.ndarray:
    """Cauchy's loss of the distances that are not NaN, m²."""
    distance = distance[np.isfinite(distance)]
    return GLITCH**2 * np.log1p(np.square(distance / GLITCH))


def median(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Median without NaN; NaN without a warning if all values are NaN."""
    return np.ma.filled(np.ma.median(np.ma.masked_invalid(values), axis=axis), np.nan)


def _bridged(points: np.ndarray) -> np.ndarray:
    """Points (T, K, 3) with missing ones interpolated in time, or at the mean of the others."""
    points, frames = points.copy(), np.arange(len(points))
    present = seen(points)
    for k in range(points.shape[1]):
        if not present[:, k].all():
            known = present[:, k] if present[:, k].any() else present.any(axis=1)
            source = points[known, k] if present[:, k].any() else np.nanmean(points[known], axis=1)
            for i in range(3):
                points[:, k, i] = np.interp(frames, frames[known], source[:, i])
    return points
