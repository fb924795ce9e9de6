"""dm_control's motion capture HDF5: the CMU recordings fitted to its humanoid, and rat files.

A group per clip with the attributes `dt` (s) and `num_steps`; in it `walkers/walker_0` with data
sets that have time as their last axis: `position` (3, T) and `quaternion` (4, T) of the root,
`joints` (J, T) in rad, and, if the writer kept them, `body_positions` (3 B, T) in m. Source:
`dm_control/locomotion/mocap/loader.py` and `tasks/reference_pose/utils.py` (get_features) of
dm-control 1.0.50. Joints have no names: they are in the order of the walker's `mocap_joints`, which
is the order of our models, and bodies in that of its `mocap_tracking_bodies`, which is
`Body.tracked_bodies`. A file that was fitted to another body is refused by its body positions.

In files from dm_control's own code, `position` is the position of the free joint; in published rat
files it is the torso's. `fits` decides by the body positions; without them it is the root's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion import hdf5
from vnl_envs.motion.clip import Clip, ClipError
from vnl_envs.motion.readers.cmu import CMU_LICENCE
from vnl_envs.motion.readers.fits import BodyPositions, Fits
from vnl_envs.motion.resample import checked_rate
from vnl_envs.utils.opengl import quiet_dm_control

_CMU_NAME = re.compile(r"CMU_(?P<subject>\d+)_\d+")
_CMU_LABELS = {
    "GET_UP": "get up",
    "WALK_TINY": "walk",
    "RUN_JUMP_TINY": "run or jump",
    "LOCOMOTION_SMALL": "locomotion",
}
"""Labels by dm_control's own subsets of the CMU clips. The first subset with a clip counts."""
_LATER_BODIES = frozenset({"face"})
"""Bodies that dm_control added to the humanoid after it had written files: the humanoid of 2019 has
30 tracked bodies, the one of 2020 has these in addition."""


def recognises(path: Path) -> bool:
    """Whether the file's first group has walkers."""
    return hdf5.holds(path, _first_has_walkers)


def read(path: Path, body: BodyModel, rate: float | None) -> Iterator[Clip]:
    """Read the clips of all walkers; see `vnl_envs.motion.readers.Reader`."""
    fits = Fits(body, "root")
    with hdf5.opened(path) as file:
        names = hdf5.members(file)
        if not names:
            raise ClipError("holds no clips")
        for name in names:
            recording = hdf5.subgroup(file, name)
            walkers = hdf5.subgroup(recording, "walkers")
            keys = hdf5.members(walkers)
            if not keys:
                raise ClipError(f"clip {name!r} has no walkers")
            for key in keys:
                own = name if len(keys) == 1 else f"{name} {key}"
                walker = hdf5.subgroup(walkers, key)
                frames = _frame_rate(name, recording, rate)
                clip = _described(own, name, _poses(recording, walker, body), path)
                seen = _body_positions(own, walker, body, len(clip))
                yield fits.clip(clip, frames, seen)


def _first_has_walkers(file: h5py.File) -> bool:
    name = next(iter(file), None)
    group = None if name is None else hdf5.member(file, name)
    return isinstance(group, h5py.Group) and "walkers" in group


def _frame_rate(name: str, recording: h5py.Group, rate: float | None) -> float:
    dt = hdf5.number(recording, "dt")
    if dt is None:
        if rate is None:
            raise ClipError(f"clip {name!r} has no frame interval 'dt'; give its rate")
        return checked_rate(rate)
    if dt <= 0:
        raise ClipError(f"clip {name!r}: the frame interval 'dt' must be positive, got {dt} s")
    if rate is not None and abs(dt * rate - 1) > 1e-3:
        raise ClipError(f"clip {name!r} is at {1 / dt:.6g} Hz by its 'dt', not {rate:g} Hz")
    return checked_rate(1 / dt)


def _poses(recording: h5py.Group, walker: h5py.Group, body: BodyModel) -> np.ndarray:
    """The file's numbers (T, nq), as floating point."""
    joints = hdf5.array(walker, "joints", (len(body.joint_names), None))
    frames = joints.shape[1]
    steps = hdf5.number(recording, "num_steps")
    if steps is not None and steps != frames:
        raise ClipError(f"clip {recording.name.strip('/')!r}: {frames} frames, not {steps:g}")
    root = [hdf5.array(walker, key, (n, frames)) for key, n in (("position", 3), ("quaternion", 4))]
    return np.concatenate([*root, joints]).T.astype(float)


def _body_positions(
    name: str, walker: h5py.Group, body: BodyModel, frames: int
) -> BodyPositions | None:
    """Body positions to check the fit against, or None if the file has none."""
    if hdf5.member(walker, "body_positions") is None:
        if len(walker.get("scaling", ())):
            raise ClipError(f"clip {name!r} is of a rescaled body and has no body_positions")
        return None
    values = hdf5.array(walker, "body_positions", (None, frames))
    tracked = body.body.tracked_bodies
    choices = (tracked, tuple(n for n in tracked if n not in _LATER_BODIES))
    for names in choices:
        if len(values) == 3 * len(names):
            return BodyPositions(names, values.T.reshape(frames, len(names), 3))
    raise ClipError(
        f"clip {name!r}: body_positions has {len(values)} rows, expected 3 for each of "
        f"the {len(tracked)} tracked bodies of {body.body.name!r}"
    )


def _described(name: str, recording: str, qpos: np.ndarray, path: Path) -> Clip:
    cmu = _CMU_NAME.fullmatch(recording)
    if cmu is None:
        source = f"{recording} of {path.name} (dm_control motion capture)"
        return Clip(name, qpos, "unlabelled", "train", source, "unknown")
    return Clip(
        name,
        qpos,
        _cmu_labels().get(recording, "unlabelled"),
        "train",
        source=f"{recording} of {path.name} (CMU Graphics Lab, fitted by dm_control)",
        licence=CMU_LICENCE,
        subject=f"CMU {int(cmu['subject'])}",
        session=recording,
    )


@lru_cache(maxsize=1)
def _cmu_labels() -> dict[str, str]:
    with quiet_dm_control():
        from dm_control.locomotion.tasks.reference_pose import cmu_subsets
    labels: dict[str, str] = {}
    for subset, label in _CMU_LABELS.items():
        for name in getattr(cmu_subsets, subset).ids:
            labels.setdefault(name, label)
    return labels
