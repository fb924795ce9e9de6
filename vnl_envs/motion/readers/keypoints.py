"""Raw 3-D keypoints in MATLAB files (5.0 and 7.3) and HDF5, fitted to the body as they are read.

The array is the variable `pred` (DANNCE), `tracks` (SLEAP), `keypoints`, `kp_data` or `points3d`,
or the only one with the shape of keypoints: (T, 3, K), (T, K, 3), or (T, 3K) with x, y, z of
one keypoint side by side; axes of length 1 are ignored. The K keypoints are in the order of the
body's marker set, unless a variable of `NAMES` has their names. Missing ones are NaN; frames in
which all are zero count as missing. z points up; the height of the ground does not matter.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import h5py
import numpy as np
import scipy.io

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion import hdf5, texts
from vnl_envs.motion.clip import Clip, ClipError
from vnl_envs.motion.errors import MotionWarning
from vnl_envs.motion.fitting.keypoints import Fit, fit_keypoints, standing_markers
from vnl_envs.motion.fitting.marker_solver import spread
from vnl_envs.motion.fitting.markers import Marker, marker_set
from vnl_envs.motion.resample import checked_rate, resample
from vnl_envs.utils import checks

VARIABLES = ("pred", "tracks", "keypoints", "kp_data", "points3d")
NAMES = ("kp_names", "node_names", "joint_names", "keypoint_names", "names")
UNITS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0}
MOST_FRAMES = 1_000_000
"""Limit due to memory; 5.5 hours at 50 Hz."""
MOST_BYTES = 400_000_000
"""Limit for a compressed MATLAB variable after decompression."""
SIZE_RANGE = 2.5
"""Factor between animal and body beyond which the keypoints' unit cannot be determined."""

_MAGIC, _HEADER, _MATRIX, _COMPRESSED = b"MATLAB 5.0", 128, 14, 15
_NUMERIC = ("double", "single", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)))


class Keypoints(NamedTuple):
    """The content of a file.

    Attributes:
        points: (T, K, 3) keypoints in the file's unit and order.
        names: names of the keypoints, or None if the file has none.
        unread: variables that might be names, if no known variable has names.
    """

    points: np.ndarray
    names: Sequence[str] | None
    unread: Sequence[str]


def recognises(path: Path) -> bool:
    """Whether the file is MATLAB's, or HDF5 with a variable that could be keypoints."""
    if hdf5.holds(path, lambda file: "qpos" not in file and bool(set(VARIABLES) & set(file))):
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def read(
    path: Path, body: BodyModel, rate: float | None, unit: str | None = None
) -> Iterator[Clip]:
    """Read one clip, fitted to the body; see `vnl_envs.motion.readers.Reader`.

    Args:
        path: the file.
        body: a body with a marker set.
        rate: frames per second, which keypoint files do not contain.
        unit: one of `UNITS`; None determines the unit from the animal's size.
    """
    if rate is None:
        raise ClipError(
            f"{path}: keypoint files do not say their frame rate: give it in Hz (--rate)"
        )
    try:
        rate, markers = checked_rate(rate), marker_set(body)
        load = _load_hdf5 if h5py.is_hdf5(path) else _load_matlab
        found = load(path, len(markers))
        keypoints = _ordered(found, markers)
        unit = _unit(keypoints, body) if unit is None else checks.choice("unit", unit, tuple(UNITS))
        fit = fit_keypoints(UNITS[unit] * keypoints, body, rate)
        qpos = resample(fit.qpos, rate)
    except ValueError as error:
        raise ClipError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    for complaint in _unused(found, markers):
        warnings.warn(f"{path}: {complaint}", MotionWarning, stacklevel=2)
    # Splines between frames can overshoot.
    qpos[:, 7:] = np.clip(qpos[:, 7:], *body.joint_range.T)
    yield Clip(
        name=path.stem,
        qpos=qpos.astype(np.float32),
        label="unlabelled",
        split="train",
        source=f"{path.name}: {_summary(fit, unit, rate)}; {_order(found)}",
        licence="unknown",
        session=path.stem,
    )


def _summary(fit: Fit, unit: str, rate: float) -> str:
    """The fit in a few words."""
    errors = fit.error[np.isfinite(fit.error)]
    text = (
        f"{fit.error.shape[1]} keypoints in {unit} at {rate:g} Hz, "
        f"{len(errors) / fit.error.size:.1%} present, scaled by {fit.scale:.3f}; "
        f"error median {1e3 * np.median(errors):.1f} mm, "
        f"95th percentile {1e3 * np.percentile(errors, 95):.1f} mm"
    )
    bad = fit.outlying.tolist()
    return text + (f"; frames that fit badly: {checks.listed(bad)}" if bad else "")


def _order(found: Keypoints) -> str:
    """Description of how the file's keypoints were identified."""
    return "in the marker set's order" if found.names is None else "found by their names"


def _unit(keypoints: np.ndarray, body: BodyModel) -> str:
    """The unit in which an animal is nearest to the body's size.

    Raises:
        ClipError: there are no keypoints, or the size does not fit in any unit.
    """
    with np.errstate(over="ignore"):
        sizes = spread(keypoints)
    sizes = sizes[sizes > 0]
    if not len(sizes):
        raise ClipError("all keypoints are missing or in one place")
    size, expected = float(np.median(sizes)), float(spread(standing_markers(body)))
    unit = min(UNITS, key=lambda name: abs(np.log(size * UNITS[name] / expected)))
    if not 1 / SIZE_RANGE < size * UNITS[unit] / expected < SIZE_RANGE:
        raise ClipError(
            f"keypoints lie {size:.3g} from their centre, where those of a {body.body.name} lie "
            f"{expected:.3g} m: give unit="
        )
    return unit


def _ordered(found: Keypoints, markers: Sequence[Marker]) -> np.ndarray:
    """Keypoints (T, K, 3) in the order of the markers; NaN where there are none.

    Raises:
        ClipError: names differ from those of the markers, or one occurs twice.
    """
    points, names = np.where(np.isfinite(found.points), found.points, np.nan), found.names
    # Some programs write zeros for missing frames.
    points[~points.any(axis=(1, 2))] = np.nan
    if names is None:
        return points
    wanted = [marker.name for marker in markers]
    known = [name for name in wanted if name in names]
    if len(known) < len(wanted) / 2:
        raise ClipError(
            f"keypoints are named {checks.listed(names)}; the marker set has {', '.join(wanted)}"
        )
    if twice := [name for name in known if names.count(name) > 1]:
        raise ClipError(f"more than one keypoint is named {twice[0]!r}")
    out = np.full((len(points), len(wanted), 3), np.nan)
    for name in known:
        out[:, wanted.index(name)] = points[:, names.index(name)]
    return out


def _unused(found: Keypoints, markers: Sequence[Marker]) -> Iterator[str]:
    """Parts of a file that were not used, and missing parts."""
    if found.names is None:
        if found.unread:
            yield (
                f"{checks.listed(found.unread)} may name the keypoints but was not read "
                f"(known are {', '.join(NAMES)}): they are taken in the marker set's order, "
                f"{', '.join(marker.name for marker in markers)}"
            )
        return
    wanted = [marker.name for marker in markers]
    if unknown := [name for name in found.names if name not in wanted]:
        yield f"keypoints that the marker set does not have are not used: {checks.listed(unknown)}"
    if missing := [name for name in wanted if name not in found.names]:
        yield f"has no keypoints named {checks.listed(missing)}"


def _axes(shape: tuple[int, ...], number: int) -> tuple[int, ...] | None:
    """The order of axes, without those of length 1, in which `number` keypoints are last.

    HDF5 reverses MATLAB's axes.
    """
    shape = tuple(n for n in shape if n != 1)
    orders = {2: ((0, 1), (1, 0)), 3: ((0, 1, 2), (0, 2, 1), (2, 0, 1), (2, 1, 0))}
    for order in orders.get(len(shape), ()):
        if tuple(shape[i] for i in order[1:]) in ((number, 3), (3 * number,)):
            return order
    return None


def _arranged(array: np.ndarray, number: int) -> np.ndarray:
    """An array in one of the layouts as (T, K, 3) float64."""
    axes = _axes(array.shape, number)
    return array.squeeze().transpose(axes).reshape(-1, number, 3).astype(float)


def _choose(shapes: Mapping[str, tuple[int, ...]], number: int) -> str:
    """The variable with the keypoints: one with a known name, or the only one with such a shape."""
    fits = [name for name, shape in shapes.items() if _axes(shape, number) is not None]
    chosen = [name for name in VARIABLES if name in fits] or fits
    if not fits or (chosen is fits and len(fits) > 1):
        arrays = checks.listed(f"{name} {shape}" for name, shape in shapes.items())
        raise ClipError(
            f"{'more than one' if fits else 'no'} variable holds {number} keypoints as "
            f"(T, 3, {number}), (T, {number}, 3) or (T, {3 * number}); "
            f"arrays of numbers: {arrays or 'none'}"
        )
    frames = math.prod(shapes[chosen[0]]) // (3 * number)
    if frames > MOST_FRAMES:
        raise ClipError(f"variable {chosen[0]!r} has {frames} frames, more than {MOST_FRAMES}")
    return chosen[0]


def _load_hdf5(path: Path, number: int) -> Keypoints:
    """The keypoints of an HDF5 file, also as MATLAB 7.3 writes it."""
    with hdf5.opened(path) as file:
        names = next((hdf5.names(file, key) for key in NAMES if key in file), None)
        number = len(names) if names else number
        shapes, unread = {}, []
        for name in hdf5.members(file):
            # Links are allowed unless they are to be read.
            data = hdf5.member(file, name) if _is_own(file, name) else None
            if not isinstance(data, h5py.Dataset) or not data.shape:
                continue
            if data.dtype.kind in "fiu":
                shapes[name] = data.shape
            elif data.size == number:
                unread.append(name)
        chosen = _choose(shapes, number)
        points = _arranged(hdf5.array(file, chosen, shapes[chosen]), number)
    return Keypoints(points, names, () if names else unread)


def _is_own(file: h5py.File, name: str) -> bool:
    return name in VARIABLES or isinstance(file.get(name, getlink=True), h5py.HardLink)


def _load_matlab(path: Path, number: int) -> Keypoints:
    """The keypoints of a MATLAB 5.0 file."""
    try:
        small = _small_variables(path)
        listed = _listed(path)
        names = _matlab_names(small, {name for name, _, _ in listed})
        number = len(names) if names else number
        shapes = {name: tuple(shape) for name, shape, kind in listed if kind in _NUMERIC}
        unread = [
            name
            for name, shape, kind in listed
            if (kind == "cell" and math.prod(shape) == number)
            or (kind == "char" and shape[:1] == (number,))
        ]
        name = _choose(shapes, number)
        array = scipy.io.loadmat(path, variable_names=[name], appendmat=False)[name]
        if array.dtype.kind not in "fiu" or array.shape != shapes[name]:
            raise ClipError(f"variable {name!r} does not hold {shapes[name]} real numbers")
        return Keypoints(_arranged(array, number), names, () if names else unread)
    except ClipError:
        raise
    # On damaged files SciPy raises anything: IndexError, zlib.error, struct.error, MemoryError …
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ClipError(f"cannot be read as a MATLAB file ({reason})") from None


def _listed(path: Path) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and kind of a MATLAB 5.0 file's variables."""
    try:
        return list(scipy.io.whosmat(path, appendmat=False))
    except TypeError:
        # SciPy fails for an object, which has no shape.
        raise ClipError(
            "holds an object of MATLAB, such as a string array, or is damaged; of texts, cells of "
            "characters are read (cellstr)"
        ) from None


def _matlab_names(small: BinaryIO, variables: Container[str]) -> list[str] | None:
    """The names of the keypoints from the file's small variables, or None."""
    key = next((key for key in NAMES if key in variables), None)
    if key is None:
        return None
    found = scipy.io.loadmat(small, variable_names=[key])
    if key not in found:
        raise ClipError(
            f"variable {key!r} has more than {hdf5.MOST_TEXT} bytes, too much for names"
        )
    try:
        return texts.texts(found[key])
    except ValueError as error:
        raise ClipError(f"variable {key!r} {error}") from None


def _small_variables(path: Path) -> BinaryIO:
    """A MATLAB 5.0 file with the variables of a file that are small enough to be names.

    The declared size of a cell array cannot be trusted before it is read.
    The file's layout: "MAT-File Level 5 File Format" of MATLAB's documentation.

    Raises:
        ClipError: the file is truncated, or one of its variables is too large when decompressed.
    """
    small = io.BytesIO()
    with path.open("rb") as file:
        header = file.read(_HEADER)
        small.write(header)
        order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
        if order is None or not header.startswith(_MAGIC):
            raise ClipError("neither a MATLAB 5.0 file nor HDF5")
        size, end = path.stat().st_size, _HEADER
        while end < size:
            tag = file.read(8)
            kind, length = struct.unpack(order + "II", tag) if len(tag) == 8 else (0, 0)
            end += 8 + length
            if kind not in (_MATRIX, _COMPRESSED) or not length or end > size:
                raise ClipError("truncated or damaged MATLAB file")
            if (_inflated(file, length) if kind == _COMPRESSED else length) <= hdf5.MOST_TEXT:
                file.seek(end - length)
                small.write(tag + file.read(length))
            file.seek(end)
    small.seek(0)
    return small


def _inflated(file: BinaryIO, length: int) -> int:
    """The size of `length` compressed bytes after decompression, bytes.

    Raises:
        ClipError: the size is more than `MOST_BYTES`.
    """
    inflater, total, chunk = zlib.decompressobj(), 0, 1 << 20
    while length > 0 and total <= MOST_BYTES:
        packed = file.read(min(length, chunk))
        if not packed:
            break
        length -= len(packed)
        while packed and total <= MOST_BYTES:
            total += len(inflater.decompress(packed, chunk))
            packed = inflater.unconsumed_tail
    if total > MOST_BYTES:
        raise ClipError(f"a variable of more than {MOST_BYTES // 10**6} MB")
    return total
