"""Poses at the rate of clips."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, Slerp

from vnl_envs.motion.clip import RATE, ClipError
from vnl_envs.utils import checks

SLOWEST, FASTEST = 1.0, 10_000.0
"""Frame rates that a recording may have, Hz; cameras and encoders of laboratories lie between."""
_SAME_RATE = 1e-5
"""Relative: recordings state their frame rate or interval rounded."""


def resample(qpos: np.ndarray, rate: float) -> np.ndarray:
    """Poses recorded at any rate, at the 50 Hz of clips; as they are where that is their rate.

    Positions and joints follow cubic splines, the root's orientation turns at a constant rate
    between frames (slerp). Splines: taking every other frame away from recorded and made clips and
    putting it back, they err least and accelerate least among linear, monotone (PCHIP), Akima's and
    cubic interpolation. Frame 0 stays; the last frame is the last one inside the recording.

    Args:
        qpos: (T, nq) root position, root quaternion (w, x, y, z), joints; T at least 2.
        rate: frames per second, in [`SLOWEST`, `FASTEST`].

    Returns:
        (T', nq) of the same floating point type, its quaternions of norm 1 and without jumps of
        sign.

    Raises:
        ClipError: the rate is no such number, there are less than 2 frames, numbers that are not
            finite or quaternions of norm 0.
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
    # Half a millionth of a frame: the last frame must not be lost to rounding.
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
    """A frame rate that a recording may have, Hz.

    Raises:
        ClipError: it is not one.
    """
    try:
        return checks.number("the frame rate", rate, SLOWEST, FASTEST, "Hz")
    except ValueError as error:
        raise ClipError(str(error)) from None


def without_flips(quat: np.ndarray) -> np.ndarray:
    """The same orientations (T, 4), each quaternion of the sign nearest to the one before."""
    flips = np.einsum("ti,ti->t", quat[1:], quat[:-1]) < 0
    signs = np.cumprod(np.where(flips, -1.0, 1.0))
    return quat * np.concatenate([[1.0], signs])[:, None]
