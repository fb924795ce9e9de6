"""Motion in sessions of Aldarondo et al. 2024 (doi.org/10.7910/DVN/FB0MZT), HDF5.

`/pose/qpos` (T, 74) at 50 Hz, whose joints are named `walker/…`, `/pose/keypoints` (T, 3, 23) mm,
`/behavior/motion_mapper` (T,): the cluster of each frame, 100 for frames without a cluster. The
names of joints, keypoints and clusters are in a data set or attribute, see `names_of`. The neural
recordings are read by `vnl_envs.neural`.

`qpos` is a fit of dm_control's rat, whose free joint belongs to the model's frame, see
`fits.Rooted`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion import hdf5
from vnl_envs.motion.clip import RATE, Clip, ClipError
from vnl_envs.motion.fitting.markers import marker_set
from vnl_envs.motion.readers.fits import Fits
from vnl_envs.motion.resample import checked_rate
from vnl_envs.utils import checks

GROUPS = ("pose", "ephys", "behavior")
RATES = ("rate", "fps", "frame_rate", "sampling_rate")
"""Attributes, of the file or of a group, that may contain the frame rate, Hz."""
UNCLASSIFIED = 100
"""The number that stands for no cluster."""
CLIP_FRAMES = 250
"""Frames of each clip, as in the publication: 5 s."""
_FREE = 7


def recognises(path: Path) -> bool:
    """Whether the file has poses and recordings."""
    return hdf5.holds(path, lambda file: "pose" in file and "qpos" in file["pose"])


def read(path: Path, body: BodyModel, rate: float | None) -> Iterator[Clip]:
    """Read clips of `CLIP_FRAMES`; see `vnl_envs.motion.readers.Reader`. Their names end in their
    first frame of the session.
    """
    with hdf5.opened(path) as file:
        if rate is not None and abs(checked_rate(rate) / RATE - 1) > 1e-3:
            raise ClipError(f"{path}: sessions are at {RATE:g} Hz, got a rate of {rate:g} Hz")
        poses = Poses(file, body)
        for start in range(0, poses.frames, CLIP_FRAMES):
            qpos = poses.qpos(start, min(start + CLIP_FRAMES, poses.frames))
            for span in finite_runs(qpos):
                yield clip(qpos[span], start + span.start, path.stem, path.name)


def clip_name(session: str, start: int) -> str:
    """Name of the clip that begins at frame `start` of a session."""
    return f"{session}_{start:07d}"


def clip(qpos: np.ndarray, start: int, session: str, file: str) -> Clip:
    """A clip of poses (T, nq) that begin at frame `start` of a session."""
    return Clip(
        name=clip_name(session, start),
        qpos=qpos.astype(np.float32),
        label="unlabelled",
        split="train",
        source=f"{file}, frames {start} to {start + len(qpos) - 1}",
        licence="unknown",
        session=session,
    )


def finite_runs(qpos: np.ndarray, least: int = 12) -> list[slice]:
    """The runs of at least `least` frames in which poses (T, nq) are finite."""
    finite = np.isfinite(qpos).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], finite, [False]]).astype(int)))
    spans = [slice(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
    return [span for span in spans if span.stop - span.start >= least]


class Poses:
    """Poses and keypoints of an open session, read in parts.

    Args:
        file: the session.
        body: body of the motion.

    Attributes:
        frames: number of frames, T.
        has_keypoints: whether the session has keypoints.

    Raises:
        ClipError: a part is missing or has another shape, other joints or another rate.
    """

    def __init__(self, file: h5py.File, body: BodyModel) -> None:
        check_rate(file)
        pose = hdf5.subgroup(file, "pose")
        check_rate(pose)
        self._fits = Fits(body, "frame")
        self._qpos = hdf5.numbers(pose, "qpos", (None, body.nq))
        self._order = _order(names_of(pose, "qpos", "joint_names"), body)
        self.frames = len(self._qpos)
        self.has_keypoints = "keypoints" in pose
        if self.has_keypoints:
            markers = [marker.name for marker in marker_set(body)]
            data = hdf5.numbers(pose, "keypoints", (None, 3, len(markers)))
            check_frames("pose/keypoints", len(data), "pose/qpos", self.frames)
            self._keypoints = data
            names = names_of(pose, "keypoints", "keypoint_names") or markers
            if sorted(names) != sorted(markers):
                raise ClipError(f"keypoints are named {checks.listed(names)}, expected {markers}")
            self._markers = [names.index(name) for name in markers]

    def qpos(self, start: int, stop: int) -> np.ndarray:
        """Poses (n, nq) that begin with the root's pose; NaN in frames without a pose.

        Raises:
            ClipError: a frame is only partly finite, or its quaternion is not of norm 1.
        """
        qpos = np.asarray(self._qpos[start:stop], float)[:, self._order]
        finite = np.isfinite(qpos)
        part = np.flatnonzero(finite.any(axis=1) & ~finite.all(axis=1))
        if len(part):
            raise ClipError(
                f"frame {start + part[0]} of 'pose/qpos' has a number that is not finite"
            )
        finite = finite.all(axis=1)
        norm = np.linalg.norm(qpos[finite, 3:7], axis=1)
        bad = np.flatnonzero(np.abs(norm - 1) > 1e-2)
        if len(bad):
            frame = start + np.flatnonzero(finite)[bad[0]]
            raise ClipError(
                f"frame {frame} of 'pose/qpos' has a root quaternion of norm {norm[bad[0]]:.4f}"
            )
        if finite.any():
            qpos[finite] = self._fits.placed(qpos[finite], "frame")
        return qpos

    def keypoints(self, start: int, stop: int) -> np.ndarray:
        """Keypoints (n, K, 3) m in the marker set's order; NaN where missing."""
        points = np.asarray(self._keypoints[start:stop], float).transpose(0, 2, 1)
        return 1e-3 * np.where(np.isfinite(points), points, np.nan)[:, self._markers]


def names_of(group: h5py.Group, data: str, own: str) -> list[str] | None:
    """The names of a data set's columns, or None. They are in a data set `own`, `names`,
    `names_<data>` or `<data>_names` beside it, or in its attribute `own` or `names`.
    """
    for name in (own, f"names_{data}", f"{data}_names", "names"):
        if name in group:
            return hdf5.names(group, name)
    for name in (own, "names"):
        found = hdf5.names_attribute(group[data], name) if data in group else None
        if found is not None:
            return found
    return None


def check_frames(one: str, frames: int, other: str, expected: int) -> None:
    """Raise ClipError unless two tables have the same number of frames."""
    if frames != expected:
        raise ClipError(f"{one!r} has {frames} frames, {other!r} has {expected}")


def check_rate(group: h5py.Group) -> None:
    """Raise ClipError if an attribute of a group has another rate than 50 Hz."""
    for name in RATES:
        rate = hdf5.number(group, name)
        if rate is not None and abs(rate / RATE - 1) > 1e-3:
            raise ClipError(f"{group.name!r} says {rate:g} Hz, sessions are at {RATE:g} Hz")


def _order(names: list[str] | None, body: BodyModel) -> list[int]:
    """Columns of `qpos` in the order of the body's model.

    The names are those of all numbers, or of the joints with or without the free joint.
    """
    if names is None:
        raise ClipError("'pose/qpos' has no joint names ('pose/joint_names')")
    joints = [name.rsplit("/", 1)[-1] for name in names][-len(body.joint_names) :]
    differing = sorted(set(joints) ^ set(body.joint_names))
    if differing or len(names) not in (body.nq, body.nq - _FREE, body.nq - _FREE + 1):
        raise ClipError(
            f"'pose/qpos' is not of {body.body.name!r}: {len(names)} joint names, which differ in "
            f"{checks.listed(differing)}"
        )
    return [*range(_FREE), *(_FREE + joints.index(name) for name in body.joint_names)]
