"""CMU Graphics Lab recordings, `.amc`, fitted to the humanoid.

The text holds the keywords `:FULLY-SPECIFIED` and `:DEGREES`, then frames: a line with the frame's
number, counted from 1, and a line for each joint with its name and its values in degrees. Lines
that start with `#` are comments. The root has its position first, in units of 1/0.45 inch, y up.
The skeleton's lengths are in another file (`.asf`), which is not read. Every subject has other
lengths, so the humanoid with a copy of the angles floats, sinks and slides. `read` therefore fits
the recording again, see `vnl_envs.motion.fitting.refit`; `plain_copy` is the copy.

Sources: the degrees of freedom are those of the ASF files of http://mocap.cs.cmu.edu; that the
humanoid's joints are named after them, the unit of length and the root's frame are from
`dm_control/suite/utils/parse_amc.py` of dm-control 1.0.50.
"""

from __future__ import annotations

import re
import warnings
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from scipy.spatial.transform import Rotation

from vnl_envs.bodies import HUMANOID
from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion import texts
from vnl_envs.motion.clip import MIN_FRAMES, Clip, ClipError, check_clip
from vnl_envs.motion.errors import MotionWarning
from vnl_envs.motion.readers.cmu import CMU_LICENCE
from vnl_envs.motion.resample import checked_rate, without_flips

RATE = 120.0
"""Frames per second of CMU's recordings, which the files do not contain."""
UNIT = 0.056444
"""Unit of root positions, m: 1/0.45 inch."""
_CMU_NAME = re.compile(r"(?P<subject>\d{1,4})_\d{1,4}", re.ASCII)
"""Pattern of CMU's file names: subject and trial. Others use the format too."""

_TRUNK = ("lowerback", "upperback", "thorax", "lowerneck", "upperneck", "head")
_ARM = {
    "clavicle": "yz",
    "humerus": "xyz",
    "radius": "x",
    "wrist": "y",
    "hand": "xz",
    "fingers": "x",
    "thumb": "xz",
}
_LEG = {"femur": "xyz", "tibia": "x", "foot": "xz", "toes": "x"}
_SIDES = ((_ARM, "r"), (_ARM, "l"), (_LEG, "r"), (_LEG, "l"))
DEGREES_OF_FREEDOM: dict[str, tuple[str, ...]] = {
    "root": ("tx", "ty", "tz", "rx", "ry", "rz"),
    **dict.fromkeys(_TRUNK, ("rx", "ry", "rz")),
    **{side + n: tuple("r" + a for a in axes) for limb, side in _SIDES for n, axes in limb.items()},
}
"""Joint -> names of its values: positions and angles about axes, in the order of a line."""
COLUMNS = tuple(
    joint if joint == "root" else joint + axis
    for joint, axes in DEGREES_OF_FREEDOM.items()
    for axis in axes
)
"""Columns of a parsed file: six of the root, then names of the humanoid's joints."""

MOST_BYTES = 50_000_000
"""Limit for a file, some 9 minutes: recordings are fitted as one, and a frame takes 45 kB."""

_KEYWORDS = (":FULLY-SPECIFIED", ":DEGREES")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
_LONGEST_LINE = 400
# Limits of a root's coordinate, 560 m, and of an angle, ten turns.
_FARTHEST, _MOST_DEGREES = 10_000.0, 3600.0


def recognises(path: Path) -> bool:
    """Whether the file's suffix is `.amc`, or its first 4096 bytes contain the first keyword."""
    if path.suffix.lower() == ".amc":
        return True
    try:
        with path.open("rb") as file:
            return _KEYWORDS[0].encode() in file.read(4096)
    except OSError:
        return False


def read(path: Path, body: BodyModel, rate: float | None) -> Iterator[Clip]:
    """The recording as one clip; see `vnl_envs.motion.readers.Reader`. `rate` None is 120 Hz."""
    if body.body.name != HUMANOID.name:
        raise ClipError(f"{path}: a recording of {HUMANOID.name!r}, not of {body.body.name!r}")
    values = parse(path)
    kept = recorded(path, values)
    left_out = len(values) - (kept.stop - kept.start)
    if left_out:
        warnings.warn(
            f"{path}: {left_out} frames of nothing but zeros at its ends are left out",
            MotionWarning,
            stacklevel=2,
        )
    copy = plain_copy(values[kept], body)
    # Imported here, because mink takes long to import and malformed files do not need it.
    from vnl_envs.motion.fitting.refit import refit

    try:
        fit = refit(copy, RATE if rate is None else checked_rate(rate))
    except ClipError as error:
        raise ClipError(f"{path}: {error}") from None
    cmu = _CMU_NAME.fullmatch(path.stem)
    origin = "CMU Graphics Lab, " if cmu else ""
    changes = f"lengths x {fit.scale:.3f}, times x {fit.stretch:.3f}"
    if left_out:
        changes += f", without {left_out} frames of zeros"
    clip = Clip(
        path.stem,
        fit.qpos.astype(np.float32),
        "unlabelled",
        "train",
        source=f"{path.name} ({origin}{changes})",
        licence=CMU_LICENCE if cmu else "unknown",
        subject=f"CMU {int(cmu['subject'])}" if cmu else "",
        session=path.stem,
    )
    check_clip(clip, body)
    yield clip


def recorded(path: Path, values: np.ndarray) -> slice:
    """The frames of numbers (T, 62) with a pose. Some recordings begin and end with zeros.

    Raises:
        ClipError: there are no such frames, or all values of a frame between them are zero.
    """
    poses = np.flatnonzero(values.any(axis=1))
    if not len(poses):
        raise ClipError(f"{path}: all frames hold nothing but zeros")
    gaps = np.flatnonzero(np.diff(poses) > 1)
    if len(gaps):
        raise ClipError(f"{path}: frame {poses[gaps[0]] + 2} holds nothing but zeros")
    return slice(int(poses[0]), int(poses[-1]) + 1)


def plain_copy(values: np.ndarray, body: BodyModel) -> np.ndarray:
    """The recording's numbers as poses of the humanoid, (T, nq), at the recording's rate.

    Lengths are not scaled and joints are not clipped to their limits. Angles are shifted to within
    half a turn of the middle of their limits, because files contain multiples of 360 degrees.

    Args:
        values: (T, 62) numbers in the order of `COLUMNS`, from `parse`.
        body: the humanoid.
    """
    qpos = np.empty((len(values), body.nq))
    # The recording's y axis is up.
    upright = Rotation.from_euler("x", 90, degrees=True)
    qpos[:, :3] = upright.apply(values[:, :3]) * UNIT
    turn = upright * Rotation.from_euler("xyz", values[:, 3:6], degrees=True)
    qpos[:, 3:7] = without_flips(turn.as_quat(scalar_first=True))
    order = [COLUMNS.index(name) for name in body.joint_names]
    angles = np.deg2rad(values[:, order])
    turns = (angles - body.joint_range.mean(axis=1)) / (2 * np.pi)
    qpos[:, 7:] = angles - 2 * np.pi * np.round(turns)
    return qpos


# The file ----------------------------------------------------------------------------------------


def parse(path: Path) -> np.ndarray:
    """The numbers of a file, (T, 62), in the order of `COLUMNS`; degrees and 1/0.45 inch.

    The file is read line by line and refused at the first malformed line.

    Raises:
        ClipError: the file is malformed; the message has the line and what was expected.
    """
    numbers = array("d")
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ClipError(f"{path}: must have at most {MOST_BYTES} bytes, got {size}")
        with path.open("rb") as file:
            lines = _Lines(path, file)
            _read_header(lines)
            count = 0
            while lines.text or count < MIN_FRAMES:
                count += 1
                _read_frame(lines, count, numbers)
    except OSError as error:
        raise ClipError(f"{path}: cannot be read ({error.strerror})") from None
    return np.frombuffer(numbers).reshape(count, len(COLUMNS))


class _Lines:
    """The lines of a file that are neither blank nor comments, one at a time.

    Attributes:
        text: the present line, empty at the end of the file.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file, self._number = file, 0
        self.advance()

    def advance(self) -> None:
        """Go to the next line."""
        while line := self._file.readline(_LONGEST_LINE):
            self._number += 1
            self.text = texts.text(line).strip()
            # The last line may lack its end. A truncated file is detected by its last frame.
            if not line.endswith(b"\n") and len(line) == _LONGEST_LINE:
                raise self.unexpected(f"a line that ends within {_LONGEST_LINE} bytes")
            if self.text and not self.text.startswith("#"):
                return
        self.text = ""

    def unexpected(self, expected: str) -> ClipError:
        """The error for a line in place of which something else was expected."""
        got = repr(self.text[:40]) if self.text else "the end of the file"
        return ClipError(f"{self.path}: line {self._number}: expected {expected}, got {got}")


def _read_header(lines: _Lines) -> None:
    missing = list(_KEYWORDS)
    while lines.text.startswith(":"):
        if lines.text not in missing:
            raise lines.unexpected(f"{' and '.join(_KEYWORDS)}, each once")
        missing.remove(lines.text)
        lines.advance()
    if missing:
        raise lines.unexpected(f"the keyword {missing[0]}")


def _read_frame(lines: _Lines, number: int, numbers: array[float]) -> None:
    """Append a frame's values to `numbers`; its joints may be in any order."""
    if lines.text != str(number):
        raise lines.unexpected(f"frame number {number}")
    values: dict[str, list[float]] = {}
    for _ in DEGREES_OF_FREEDOM:
        lines.advance()
        joint, *words = lines.text.split() or [""]
        if joint in values or joint not in DEGREES_OF_FREEDOM:
            left = [name for name in DEGREES_OF_FREEDOM if name not in values]
            raise lines.unexpected(f"a line of joint {' or '.join(left[:3])}")
        values[joint] = _read_values(lines, joint, words)
    lines.advance()
    for joint in DEGREES_OF_FREEDOM:
        numbers.extend(values[joint])


def _read_values(lines: _Lines, joint: str, words: list[str]) -> list[float]:
    axes = DEGREES_OF_FREEDOM[joint]
    # `float` also accepts nan, inf and 1_000.
    if len(words) != len(axes) or not all(_NUMBER.fullmatch(word) for word in words):
        raise lines.unexpected(f"{joint} and {len(axes)} number{'s' * (len(axes) > 1)}")
    values = [float(word) for word in words]
    for axis, value in zip(axes, values, strict=True):
        most = _FARTHEST if axis.startswith("t") else _MOST_DEGREES
        if abs(value) > most:
            raise lines.unexpected(f"{axis} of {joint} in [{-most:g}, {most:g}]")
    return values
