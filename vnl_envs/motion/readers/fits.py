"""Shared parts of readers of finished fits: the root convention, and its check by kinematics."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.clip import LARGEST, Clip, ClipError, check_clip
from vnl_envs.motion.kinematics import ForwardKinematics
from vnl_envs.motion.resample import resample

TOLERANCE = 1e-3
"""Tolerance of forward kinematics compared with a file's own body positions, m."""
_CHUNK = 512

Rooted = Literal["root", "frame"]
"""The frame whose pose is in a fit's first seven numbers. "root" is the body with our free joint.
"frame" is the parent frame of that body in dm_control's MJCF, offset by `body_pos`, to which
dm_control attaches the free joint of a walker. For the humanoid the two are the same; for the rat
at 0.9 the torso is at (0.0279, 0, 0.0586) m in the frame."""


class BodyPositions(NamedTuple):
    """Body positions of a file: names and (T, B, 3) positions, m.

    Names that the model does not have are ignored.
    """

    names: Sequence[str]
    xpos: np.ndarray


class Fits:
    """Conversion of a file's numbers to clips at 50 Hz.

    With body positions, the root convention is the one with which forward kinematics agrees.

    Args:
        body: body of the motion.
        rooted: root convention if the file has no body positions.
    """

    def __init__(self, body: BodyModel, rooted: Rooted) -> None:
        self._body = body
        self._rooted: Rooted = rooted
        self._kinematics: ForwardKinematics | None = None

    def clip(self, clip: Clip, rate: float, seen: BodyPositions | None) -> Clip:
        """Convert one clip.

        Args:
            clip: `qpos` (T, nq) at the file's rate, joints in the order of the body's model.
            rate: frames per second.
            seen: the file's body positions, to check the fit against.

        Raises:
            ClipError: numbers or quaternions are wrong; or no convention agrees with the file's
                body positions, because of another joint order, scale or model.
        """
        check_clip(clip, self._body)
        if seen is None:
            qpos = self.placed(clip.qpos, self._rooted)
        else:
            _check_finite(clip.name, seen)
            qpos = self.placed(clip.qpos, self._convention(clip.qpos[:1], seen))
            self._refuse_deviation(clip.name, qpos, seen)
        return dataclasses.replace(clip, qpos=resample(qpos, rate).astype(np.float32))

    def _convention(self, first: np.ndarray, seen: BodyPositions) -> Rooted:
        """The convention with the smallest deviation of bodies in the first frame."""
        # The expected convention comes first and wins ties.
        choices: tuple[Rooted, ...] = (self._rooted, "frame" if self._rooted == "root" else "root")
        far = {c: float(self._deviation(self.placed(first, c), seen).max()) for c in choices}
        return min(choices, key=far.__getitem__)

    def placed(self, qpos: np.ndarray, rooted: Rooted) -> np.ndarray:
        """The same poses (T, nq) with our free joint's pose in front, quaternions of norm 1."""
        out = np.array(qpos, float)
        out[:, 3:7] /= np.linalg.norm(out[:, 3:7], axis=1, keepdims=True)
        if rooted == "frame":
            offset = self._body.model.body_pos[self._body.bodies.start]
            out[:, :3] += Rotation.from_quat(out[:, 3:7], scalar_first=True).apply(offset)
        return out

    def _deviation(self, qpos: np.ndarray, seen: BodyPositions) -> np.ndarray:
        """Distances (T, B) of bodies from the file's body positions in the same frames, m.

        0 for bodies that the model does not have.
        """
        if self._kinematics is None:
            self._kinematics = ForwardKinematics(self._body, _CHUNK)
        known = [i for i, name in enumerate(seen.names) if name in self._body.body_names]
        rows = self._body.body_index(*(seen.names[i] for i in known))
        far = np.zeros((len(qpos), len(seen.names)))
        found = self._kinematics(qpos)["xpos"][:, rows]
        far[:, known] = np.linalg.norm(found - seen.xpos[: len(qpos), known], axis=2)
        return far

    def _refuse_deviation(self, name: str, qpos: np.ndarray, seen: BodyPositions) -> None:
        """Raise ClipError, with the worst frame, unless bodies are at the file's positions."""
        for start in range(0, len(qpos), _CHUNK):
            part = slice(start, start + _CHUNK)
            far = self._deviation(qpos[part], BodyPositions(seen.names, seen.xpos[part]))
            frame, worst = divmod(int(np.argmax(far)), far.shape[1])
            if far[frame, worst] > TOLERANCE:
                raise ClipError(
                    f"clip {name!r}: frame {start + frame} has the {seen.names[worst]} "
                    f"{1000 * far[frame, worst]:.3g} mm away from where the file's joints put it "
                    f"in {self._body.body.name!r}: another joint order, scale or model"
                )


def _check_finite(name: str, seen: BodyPositions) -> None:
    # Written so that NaN is bad too.
    bad = np.flatnonzero(~(np.abs(seen.xpos) <= LARGEST).all(axis=(1, 2)))
    if len(bad):
        raise ClipError(
            f"clip {name!r}: frame {bad[0]} has a body position that is not finite or beyond "
            f"{LARGEST:g} m"
        )
