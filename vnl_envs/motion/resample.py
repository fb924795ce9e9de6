"""Resampling of poses to the rate of clips."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, Slerp

from vnl_envs.motion.clip import RATE, ClipError
from vnl_envs.utils import checks

SLOWEST, FASTEST = 1.0, 10_000.0
"""Least and greatest frame rate of a recording, Hz; laboratory cameras and encoders are between."""
_SAME_RATE = 1e-5
"""Relative difference of equal rates, as recordings state their rate or interval rounded."""


def resample(qpos: np.ndarray, rate: float) -> np.ndarray:
    """Resample poses to the 50 Hz of clips. Poses at 50 Hz are not changed.

    Positions and joints are interpolated by cubic splines, the root's orientation by slerp. When
    every other frame of recorded and generated clips is removed and interpolated, cubic splines
    have the least error and the least acceleration among linear, monotone (PCHIP), Akima and cubic
    interpolation. Frame 0 stays; the last frame is the last one inside the recording.

    Args:
        qpos: (T, nq) root position, root quaternion (w, x, y, z), joints; T at least 2.
        rate: frames per second, in [`SLOWEST`, `FASTEST`].

    Returns:
        (T', nq) poses of the same floating point type, whose quaternions have norm 1 and no sign
        flips.

    Raises:
        ClipError: the rate is out of bounds, there are fewer than 2 frames, a number is not finite,
            or a quaternion has norm 0.
    """
    rate = checked_rate(rate)
    if abs(rate / RATE - 1) <= _SAME_RATE:
        return qpos
    if len(qpos) < 2:
        raise ClipError(f"resampling needs at least 2 frames, got {len(qpos)}")
    if not np.isfinite(qpos).all():
        raise ClipError("resampling needs numbers that are all finite")
    if not (qpos[:, 3:7] != 0).any(axis=1).all():
        raise ClipError("resampling needs root quaternions that are not 0")
    # The margin keeps the last frame in spite of rounding.
    count = int((len(qpos) - 1) * RATE / rate + 5e-7) + 1
    frames = np.minimum(np.arange(count) * (rate / RATE), len(qpos) - 1)
    out = np.empty((count, qpos.shape[1]), np.result_type(qpos.dtype, np.float32))
    given = np.arange(len(qpos))
    for column in (*range(3), *range(7, qpos.shape[1])):
        out[:, column] = CubicSpline(given, qpos[:, column].astype(float))(frames)
    turns = Rotation.from_quat(qpos[:, 3:7], scalar_first=True)
    out[:, 3:7] = without_flips(Slerp(given, turns)(frames).as_quat(scalar_first=True))
    return out


def checked_rate(rate: float) -> float:
    """Check the frame rate of a recording, Hz.

    Raises:
        ClipError: it is not a number in [`SLOWEST`, `FASTEST`].
    """
    try:
        return checks.number("the frame rate", rate, SLOWEST, FASTEST, "Hz")
    except ValueError as error:
        raise ClipError(str(error)) from None


def without_flips(quat: np.ndarray) -> np.ndarray:
    """Quaternions (T, 4) with signs such that each is nearest to the one before."""
    flips = np.einsum("ti,ti->t", quat[1:], quat[:-1]) < 0
    signs = np.cumprod(np.where(flips, -1.0, 1.0))
    return quat * np.concatenate([[1.0], signs])[:, None]
