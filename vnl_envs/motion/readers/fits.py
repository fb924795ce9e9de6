"""What readers of finished fits share: whose pose the root is, and proof of it by kinematics."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from vnl_envs.bodies.body import BodyModel
from vnl_envs.motion.clip import Clip, ClipError, check_clip
from vnl_envs.motion.kinematics import forward_kinematics
from vnl_envs.motion.resample import resample

TOLERANCE = 1e-3
"""How far forward kinematics may be from a file's own body positions, m."""
_CHUNK = 4096

Rooted = Literal["root", "frame"]
"""What a fit's first seven numbers are the pose of. "root" is the body that carries our free joint.
"frame" is the frame in which dm_control's MJCF puts that body, `body_pos` away from it: dm_control
hangs the free joint of an attached walker there. For the humanoid the two are one; for the rat
at 0.9 the torso is at (0.0279, 0, 0.0586) m in the frame."""


class BodyPositions(NamedTuple):
    """Where a file says that bodies are: their names and (T, B, 3) positions, m."""

    names: Sequence[str]
    xpos: np.ndarray


def fitted_clip(
    clip: Clip, body: BodyModel, rate: float, rooted: Rooted, seen: BodyPositions | None
) -> Clip:
    """A clip at 50 Hz from one that has a file's numbers as they are.

    With body positions, the root convention is the one that forward kinematics agrees with.

    Args:
        clip: `qpos` (T, nq) at the file's rate, joints in the order of the body's model.
        body: whose motion it is.
        rate: frames per second.
        rooted: the convention where the file has no body positions.
        seen: the file's body positions, to check the fit against.

    Raises:
        ClipError: numbers or quaternions are wrong; or no convention brings the bodies to where the
            file has them: another joint order, scale or model.
    """
    check_clip(clip, body)
    conventions: tuple[Rooted, ...] = (rooted,)
    if seen is not None:
        _check_finite(clip.name, seen)
        conventions = (rooted, "frame" if rooted == "root" else "root")
    poses = [_placed(clip.qpos, body, c) for c in conventions]
    qpos = poses[0]
    if seen is not None:
        # The first frame decides, all frames must agree.
        first = [_deviation(pose[:1], body, seen).max() for pose in poses]
        qpos = poses[int(np.argmin(first))]
        _refuse_deviation(clip.name, qpos, body, seen)
    return dataclasses.replace(clip, qpos=resample(qpos, rate).astype(np.float32))


def _placed(qpos: np.ndarray, body: BodyModel, rooted: Rooted) -> np.ndarray:
    """The same poses (T, nq) with our free joint's pose in front, quaternions of norm 1."""
    out = np.array(qpos, float)
    out[:, 3:7] /= np.linalg.norm(out[:, 3:7], axis=1, keepdims=True)
    if rooted == "frame":
        offset = body.model.body_pos[body.bodies.start]
        out[:, :3] += Rotation.from_quat(out[:, 3:7], scalar_first=True).apply(offset)
    return out


def _check_finite(name: str, seen: BodyPositions) -> None:
    bad = np.flatnonzero(~np.isfinite(seen.xpos).all(axis=(1, 2)))
    if len(bad):
        raise ClipError(f"clip {name!r}: frame {bad[0]} has a body position that is not finite")


def _deviation(qpos: np.ndarray, body: BodyModel, seen: BodyPositions) -> np.ndarray:
    """Distances (T, B) of the model's bodies from where a file has them in the same frames, m."""
    found = forward_kinematics(body, qpos)["xpos"][:, body.body_index(*seen.names)]
    return np.linalg.norm(found - seen.xpos[: len(qpos)], axis=2)


def _refuse_deviation(name: str, qpos: np.ndarray, body: BodyModel, seen: BodyPositions) -> None:
    """Raise ClipError, with the worst frame, unless bodies are where a file has them."""
    for start in range(0, len(qpos), _CHUNK):
        part = slice(start, start + _CHUNK)
        far = _deviation(qpos[part], body, BodyPositions(seen.names, seen.xpos[part]))
        frame, worst = divmod(int(np.argmax(far)), far.shape[1])
        # Written so that a distance that is not a number is refused too.
        if not far[frame, worst] <= TOLERANCE:
            raise ClipError(
                f"clip {name!r}: frame {start + frame} has the {seen.names[worst]} "
                f"{1000 * far[frame, worst]:.3g} mm away from where the file's joints put it in "
                f"{body.body.name!r}: another joint order, scale or model"
            )
