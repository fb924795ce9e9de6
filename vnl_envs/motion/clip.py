"""Motion clips and the HDF5 file that holds them.

A file holds the clips of one body. Its root attributes are `format`, `version`, `body`, `rate`
(Hz), `joint_names` and `fingerprint`; each clip is a group of the clip's name with a data set
`qpos` (T, nq) float32 and the attributes `label`, `split`, `source`, `licence`, `subject` and
`session`. Everything else follows by forward kinematics.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion import hdf5
from vnl_envs.motion.errors import ClipError
from vnl_envs.utils import checks
from vnl_envs.utils.files import written_whole

FORMAT = "vnl_envs-clips"
VERSION = 1
RATE = 50.0
"""Frames per second of every clip; also the control rate."""

SPLITS = ("train", "test", "extra")
"""Purposes of clips. "extra" clips need ground contacts of other parts than hands and feet (a back,
a knee). They are in neither training nor test sets, but in `split="all"`."""
TEXTS = ("label", "split", "source", "licence", "subject", "session")
"""Names of the text attributes of a clip."""
MIN_FRAMES = 2
LARGEST = 1e6
"""Greatest magnitude of a number of a pose, m or rad; MuJoCo treats 1e10 as divergence."""


@dataclass(frozen=True, eq=False)
class Clip:
    """One motion sequence of one body at 50 Hz.

    Attributes:
        name: name, unique within its file.
        qpos: (T, nq) float32 poses: root position (m), root quaternion (w, x, y, z), joints (rad).
        label: behaviour, for scores by label.
        split: one of `SPLITS`.
        source: origin of the motion.
        licence: licence, as an SPDX identifier if there is one.
        subject: id of the animal or person; empty if unknown.
        session: recording from which the clip was cut; empty if unknown. Clips of one session are
            never on both sides of a split.
    """

    name: str
    qpos: np.ndarray
    label: str
    split: str
    source: str
    licence: str
    subject: str = ""
    session: str = ""

    def __len__(self) -> int:
        return len(self.qpos)


def fingerprint(body: BodyModel) -> str:
    """Hash of a body's kinematic tree: joint names, axes, offsets and limits, to 6 digits."""
    model, rows = body.model, body.bodies
    joints = [model.joint(body.body.prefix + name) for name in body.joint_names]
    digest = hashlib.sha256("\n".join(body.joint_names).encode())
    tree = [model.body_pos[rows.start + 1 : rows.stop], model.body_quat[rows.start + 1 : rows.stop]]
    tree += [np.concatenate([j.axis, j.pos, j.range]) for j in joints]
    for array in tree:
        # Adding 0 turns -0 into 0.
        digest.update((np.round(np.asarray(array, float), 6) + 0.0).tobytes())
    return digest.hexdigest()[:16]


def write_clips(path: str | Path, clips: Iterable[Clip], body: BodyModel) -> None:
    """Write clips of a body to a file atomically.

    Clips are consumed and written one at a time, so that a file may be larger than the memory.

    Raises:
        ClipError: a clip does not fit the body, a name occurs twice, or clips of one recording are
            on both sides of the split.
    """
    heads = []
    with written_whole(path) as partial, h5py.File(partial, "w", track_order=True) as file:
        file.attrs.update(
            format=FORMAT,
            version=VERSION,
            body=body.body.name,
            rate=RATE,
            joint_names=list(body.joint_names),
            fingerprint=fingerprint(body),
        )
        for clip in clips:
            check_clip(clip, body)
            if clip.name in file:
                raise ClipError(f"clip {clip.name!r} occurs twice")
            group = file.create_group(clip.name)
            # No timestamps, so that the same clips give the same bytes.
            group.create_dataset(
                "qpos",
                data=np.asarray(clip.qpos, np.float32),
                compression="gzip",
                shuffle=True,
                track_times=False,
            )
            group.attrs.update({key: getattr(clip, key) for key in TEXTS})
            heads.append(dataclasses.replace(clip, qpos=np.empty((0, body.nq))))
        if not heads:
            raise ClipError("a clip file holds at least one clip")
        refuse_leakage(heads)


def refuse_leakage(clips: Iterable[Clip]) -> None:
    """Raise ClipError if clips of one recording are in both the training and the test set.

    Clips without a session and "extra" clips are ignored.
    """
    sides: dict[str, dict[str, str]] = {}
    for clip in clips:
        if clip.session and clip.split in ("train", "test"):
            sides.setdefault(clip.session, {}).setdefault(clip.split, clip.name)
    for session, names in sides.items():
        if len(names) > 1:
            raise ClipError(
                f"clips of the recording {session!r} are on both sides of the split: "
                f"{names['train']!r} in train, {names['test']!r} in test"
            )


def read_clips(path: str | Path, body: BodyModel) -> tuple[Clip, ...]:
    """Read all clips of a file, checked against the body, in the file's order.

    Raises:
        ClipError: the file is damaged, of another format or of another body, or a clip is
            unusable.
        FileNotFoundError: there is no such file.
    """
    return tuple(iterate_clips(path, body))


def iterate_clips(path: str | Path, body: BodyModel) -> Iterator[Clip]:
    """Read the clips of `read_clips` one at a time."""
    with hdf5.opened(Path(path)) as file:
        _check_header(file, body)
        names = hdf5.members(file)
        if not names:
            raise ClipError("holds no clips")
        for name in names:
            clip = _read_clip(name, file, body)
            check_clip(clip, body)
            yield clip


def select_clips(
    clips: Sequence[Clip], names: Sequence[str] | None, split: str
) -> tuple[Clip, ...]:
    """The named clips (all if None) of a split (one of `SPLITS`, or "all").

    Raises:
        ValueError: the split or a name is unknown, or nothing is left.
    """
    checks.choice("split", split, (*SPLITS, "all"))
    if names is not None:
        unknown = sorted(set(names) - {clip.name for clip in clips})
        if unknown:
            raise ValueError(f"no clips named {unknown}; there are {[c.name for c in clips]}")
        clips = [clip for clip in clips if clip.name in names]
    chosen = tuple(clip for clip in clips if split in ("all", clip.split))
    if not chosen:
        raise ValueError(f"no clips of split {split!r} among {[c.name for c in clips]}")
    return chosen


def check_clip(clip: Clip, body: BodyModel) -> None:
    """Raise ClipError unless the clip's shape, numbers and texts fit the body."""
    qpos = np.asarray(clip.qpos)
    where = f"clip {clip.name!r}"
    if not clip.name or clip.name == "." or set(clip.name) & {"/", "\0"}:
        raise ClipError(f"{where}: a name is not empty or '.' and has no '/' and no null character")
    if qpos.dtype.kind != "f":
        raise ClipError(f"{where}: qpos must be floating point, got {qpos.dtype}")
    if qpos.ndim != 2 or qpos.shape[1] != body.nq:
        raise ClipError(f"{where}: qpos must be (T, {body.nq}), got {qpos.shape}")
    if len(qpos) < MIN_FRAMES:
        raise ClipError(f"{where}: needs at least {MIN_FRAMES} frames, got {len(qpos)}")
    bad = np.flatnonzero(~np.isfinite(qpos).all(axis=1))
    if len(bad):
        raise ClipError(f"{where}: frame {bad[0]} has a number that is not finite")
    bad = np.flatnonzero((np.abs(qpos) > LARGEST).any(axis=1))
    if len(bad):
        raise ClipError(f"{where}: frame {bad[0]} has a number beyond {LARGEST:g} m or rad")
    norms = np.linalg.norm(qpos[:, 3:7].astype(float), axis=1)
    bad = np.flatnonzero(np.abs(norms - 1) > 1e-3)
    if len(bad):
        raise ClipError(
            f"{where}: frame {bad[0]} has a root quaternion of norm {norms[bad[0]]:.4f}"
        )
    wrong = [key for key in TEXTS if not isinstance(getattr(clip, key), str)]
    if wrong:
        raise ClipError(f"{where}: {wrong[0]} must be a text, got {getattr(clip, wrong[0])!r}")
    if clip.split not in SPLITS:
        raise ClipError(f"{where}: split must be one of {SPLITS}, got {clip.split!r}")


def _check_header(file: h5py.File, body: BodyModel) -> None:
    _check_format(file)
    expected: dict[str, str | float] = {
        "version": VERSION,
        "body": body.body.name,
        "rate": RATE,
        "fingerprint": fingerprint(body),
    }
    for key, value in expected.items():
        read = hdf5.text_attribute if isinstance(value, str) else hdf5.number
        found = read(file, key)
        if found != value:
            raise ClipError(
                f"{key} is {found!r}, expected {value!r} for the body {body.body.name!r}"
            )
    names = hdf5.names_attribute(file, "joint_names")
    if names is None:
        raise ClipError("lacks joint_names")
    if tuple(names) != body.joint_names:
        raise ClipError(f"joint names or their order differ from {body.body.name!r}'s")


def _check_format(file: h5py.File) -> None:
    found = hdf5.text_attribute(file, "format")
    if found != FORMAT:
        raise ClipError(f"not a {FORMAT} file; `vnl-envs data import` makes one of others")


def _read_clip(name: str, file: h5py.File, body: BodyModel) -> Clip:
    where = f"clip {name!r}"
    group = hdf5.member(file, name)
    if not isinstance(group, h5py.Group):
        raise ClipError(f"{where} is not a group")
    found = {key: hdf5.text_attribute(group, key) for key in TEXTS}
    texts = {key: value for key, value in found.items() if value is not None}
    missing = sorted(set(TEXTS) - set(texts))
    if missing or "qpos" not in group:
        raise ClipError(f"{where} lacks {missing or ['qpos']}")
    qpos = hdf5.array(group, "qpos", (None, body.nq))
    # The check reports integers, and numbers that become infinite here.
    if qpos.dtype.kind == "f":
        with np.errstate(over="ignore"):
            qpos = qpos.astype(np.float32, copy=False)
    return Clip(name=name, qpos=qpos, **texts)


def body_of(path: str | Path) -> str:
    """Name of the body of a clip file.

    Raises:
        FileNotFoundError: there is no such file.
        ClipError: the file is not a clip file.
    """
    with hdf5.opened(Path(path)) as file:
        _check_format(file)
        body = hdf5.text_attribute(file, "body")
        if body is None:
            raise ClipError("lacks the name of its body")
        return body
