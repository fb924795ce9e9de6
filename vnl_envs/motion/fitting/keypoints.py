"""Raw 3-D keypoints to poses: inverse kinematics with joint estimation of the markers' places.

The problem is STAC's (Wu, Tassa, Kumar, Movellan & Todorov 2013, "STAC: simultaneous tracking and
calibration"; for rats under MuJoCo: `talmolab/stac-mjx`): find the pose in every frame, and one
place of every marker in its body's frame. Differences from STAC-MJX:

- Gauss-Newton steps change poses and places together. The problem is linear in the places given the
  poses, so they are eliminated from each step (Schur complement). With alternating steps, places
  still moved by 0.7 mm a round after 15 rounds; with joint steps, by 0.001 mm.
- All frames of a window are solved at once, so smoothness in time is part of the problem and
  bridges missing keypoints without lag.
- The animal's size and its ground are estimated: contact geoms do not sink.

Joints that move no marker and no contact geom (tail, jaw) keep their standing angles if these
keep them above the ground.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.clip import MIN_FRAMES, ClipError
from vnl_envs.motion.fitting.marker_solver import (
    SAMPLE,
    SAMPLE_STEPS,
    SIZE_SAMPLE,
    Solver,
    median,
    seen,
)
from vnl_envs.motion.fitting.markers import marker_set
from vnl_envs.motion.fitting.rig import Kinematics, Rig

LEAST_SEEN = 1 / 3
"""Fraction of the markers that a frame needs. Gaps up to `LONGEST_GAP` are bridged."""
LONGEST_GAP = 0.2
"""Longest gap that is bridged, s."""
OUTLYING = 0.01
"""Median distance in a frame at which the frame is reported, m."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Keypoints fitted by a body, T frames and K markers.

    Attributes:
        qpos: (T, nq) poses at the keypoints' rate.
        offsets: (K, 3) places of the markers in their bodies' frames, m.
        scale: factor that brings the animal to the body's size.
        ground: height of the animal's ground in the keypoints, m before scaling.
        error: (T, K) distance of the body's marker from the scaled keypoint, m; NaN where there is
            no keypoint.
        settled: (steps,) largest change of the markers' places in each Gauss-Newton step, m.
    """

    qpos: np.ndarray
    offsets: np.ndarray
    scale: float
    ground: float
    error: np.ndarray
    settled: np.ndarray

    @property
    def outlying(self) -> np.ndarray:
        """Frames with a bad fit: tracking errors, or poses that are impossible for the body."""
        return np.flatnonzero(np.nan_to_num(median(self.error, axis=1)) > OUTLYING)


def fit_keypoints(keypoints: np.ndarray, body: BodyModel, rate: float) -> Fit:
    """Fit a body to keypoints of an animal of its kind.

    Args:
        keypoints: (T, K, 3) m, z up, in the order of the body's marker set; NaN where missing.
        body: whose poses are sought.
        rate: frames per second.

    Raises:
        ClipError: there are too few frames, frames with too few keypoints, or the keypoints are not
            those of such an animal.
        ValueError: the body has no marker set.
    """
    markers = marker_set(body)
    if keypoints.ndim != 3 or keypoints.shape[1:] != (len(markers), 3):
        raise ClipError(f"keypoints must be (T, {len(markers)}, 3), got {keypoints.shape}")
    if len(keypoints) < MIN_FRAMES:
        raise ClipError(f"needs at least {MIN_FRAMES} frames, got {len(keypoints)}")
    _check_gaps(enough(keypoints), rate)
    found = calibrate(keypoints, body)
    qpos, error = Tracker(body, found, rate)(keypoints)
    return Fit(qpos, found.offsets, found.scale, found.ground, error, found.settled)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Properties shared by all frames of an animal; see `Fit`."""

    offsets: np.ndarray
    scale: float
    ground: float
    settled: np.ndarray


def calibrate(keypoints: np.ndarray, body: BodyModel) -> Calibration:
    """Size, ground and marker places from frames (T, K, 3) m, which need not be consecutive.

    Raises:
        ClipError: no frame has enough keypoints, or the keypoints do not fit such an animal.
        ValueError: the body has no marker set.
    """
    usable = np.flatnonzero(enough(keypoints))
    if not len(usable):
        raise ClipError(f"no frame has {LEAST_SEEN:.0%} of the keypoints")
    markers = marker_set(body)
    solver = Solver(Rig(body, markers, body.body.contact_geoms), markers)
    scale = solver.size(keypoints[_spread(usable, SIZE_SAMPLE)])
    sample = scale * keypoints[_spread(usable, SAMPLE)]
    offsets, poses, settled = solver.calibrate(sample, SAMPLE_STEPS)
    solver.check(sample, offsets, poses)
    ground = float(np.median(solver.lowest(poses)))
    return Calibration(offsets, scale, ground / scale, settled)


class Tracker:
    """Fit of poses to consecutive frames, part by part.

    Args:
        body: body to be fitted.
        calibration: calibration of the animal.
        rate: frames per second.
    """

    def __init__(self, body: BodyModel, calibration: Calibration, rate: float) -> None:
        markers = marker_set(body)
        self._solver = Solver(Rig(body, markers, body.body.contact_geoms), markers)
        self._calibration, self._rate = calibration, rate

    def __call__(self, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Poses (T, nq) for keypoints (T, K, 3) m, and their errors (T, K), see `Fit`."""
        c = self._calibration
        return self._solver.track(keypoints, c.scale, c.scale * c.ground, c.offsets, self._rate)


def enough(keypoints: np.ndarray) -> np.ndarray:
    """Whether each frame, (T,), has enough keypoints for a fit."""
    return seen(keypoints).mean(axis=1) >= LEAST_SEEN


def standing_markers(body: BodyModel) -> np.ndarray:
    """Positions of the markers of the standing body, (K, 3), m."""
    markers = marker_set(body)
    rig = Rig(body, markers, body.body.contact_geoms)
    kinematics = Kinematics(body.model, 1)
    rig.forward(kinematics, body.standing_qpos[None])
    return rig.markers(kinematics, np.array([m.offset for m in markers]))[0]


def _spread(frames: np.ndarray, number: int) -> np.ndarray:
    """`number` evenly spaced frames, or all of them."""
    return frames[np.unique(np.linspace(0, len(frames) - 1, number).round().astype(int))]


def _check_gaps(enough: np.ndarray, rate: float) -> None:
    """Raise ClipError if a run of frames without enough keypoints is too long to bridge."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ~enough, [False]]).astype(int)))
    for start, stop in edges.reshape(-1, 2):
        if (stop - start) / rate > LONGEST_GAP or stop - start == len(enough):
            raise ClipError(
                f"frames {start} to {stop - 1} have less than {LEAST_SEEN:.0%} of the keypoints; "
                f"cut the recording there (gaps up to {LONGEST_GAP:g} s are bridged)"
            )
