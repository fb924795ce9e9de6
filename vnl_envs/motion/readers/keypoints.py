"""Raw 3-D keypoints in MATLAB files (5.0 and 7.3) and HDF5, fitted to the body as they are read.

The array is the variable `pred` (DANNCE), `tracks` (SLEAP), `keypoints`, `kp_data` or `points3d`,
or the only one that has the shape of keypoints: (T, 3, K), (T, K, 3), or (T, 3K) with x, y, z of
one keypoint side by side; axes of length 1 are ignored. The K keypoints are those of the body's
marker set in its order, unless `kp_names`, `node_names` or `names` (HDF5) says which they are.
Missing ones are NaN. z points up; the height of the ground does not matter.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
import scipy.io

from vnl_envs import checks
from vnl_envs.bodies.body import BodyModel
from vnl_envs.motion import hdf5
from vnl_envs.motion.clip import Clip, ClipError
from vnl_envs.motion.keypoints import Fit, fit_keypoints, spread, standing_markers
from vnl_envs.motion.markers import Marker, marker_set
from vnl_envs.motion.resample import checked_rate, resample

VARIABLES = ("pred", "tracks", "keypoints", "kp_data", "points3d")
NAMES = ("kp_names", "node_names", "names")
UNITS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0}
MOST_FRAMES = 500_000
"""More do not fit into memory comfortably; 2.7 hours at 50 Hz."""
MOST_BYTES = 400_000_000
"""Of a compressed MATLAB variable, inflated."""
SIZE_RANGE = 2.5
"""Factor between animal and body beyond which the keypoints' unit cannot be told."""

_MAGIC, _HEADER, _MATRIX, _COMPRESSED = b"MATLAB 5.0", 128, 14, 15
_NUMERIC = ("double", "single", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)))


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
    """One clip, fitted to the body; see `vnl_envs.motion.readers.Reader`.

    Args:
        path: the file.
        body: one that has a marker set.
        rate: frames per second; keypoint files do not say it.
        unit: of `UNITS`; None goes by the animal's size.
    """
    if rate is None:
        raise ClipError(f"{path}: keypoint files do not say their frame rate: give rate=")
    try:
        rate, markers = checked_rate(rate), marker_set(body)
        load = _load_hdf5 if h5py.is_hdf5(path) else _load_matlab
        keypoints = _ordered(*load(path, len(markers)), markers)
        unit = _unit(keypoints, body) if unit is None else checks.choice("unit", unit, tuple(UNITS))
        fit = fit_keypoints(UNITS[unit] * keypoints, body, rate)
        qpos = resample(fit.qpos, rate)
    except ValueError as error:
        raise ClipError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    # Splines between frames can overshoot.
    qpos[:, 7:] = np.clip(qpos[:, 7:], *body.joint_range.T)
    yield Clip(
        name=path.stem,
        qpos=qpos.astype(np.float32),
        label="unlabelled",
        split="train",
        source=f"{path.name}: {_summary(fit, unit, rate)}",
        licence="unknown",
        session=path.stem,
    )


def _summary(fit: Fit, unit: str, rate: float) -> str:
    """The fit in a few words."""
    there = fit.error[np.isfinite(fit.error)]
    text = (
        f"{fit.error.shape[1]} keypoints in {unit} at {rate:g} Hz, "
        f"{len(there) / fit.error.size:.1%} present, scaled by {fit.scale:.3f}; "
        f"error median {1e3 * np.median(there):.1f} mm, "
        f"95th percentile {1e3 * np.percentile(there, 95):.1f} mm"
    )
    bad = fit.outlying.tolist()
    return text + (f"; frames that fit badly: {checks.listed(bad)}" if bad else "")


def _unit(keypoints: np.ndarray, body: BodyModel) -> str:
    """The unit in which an animal is nearest to the body's size.

    Raises:
        ClipError: there are no keypoints, or the animal is far from that size in any unit.
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


def _ordered(
    keypoints: np.ndarray, names: Sequence[str] | None, markers: Sequence[Marker]
) -> np.ndarray:
    """Keypoints (T, K, 3) in the order of the markers; NaN where there are none."""
    keypoints = np.where(np.isfinite(keypoints), keypoints, np.nan)
    if names is None:
        return keypoints
    wanted = [marker.name for marker in markers]
    known = [name for name in wanted if name in names]
    if len(known) < len(wanted) / 2:
        raise ClipError(
            f"keypoints are named {checks.listed(names)}; the marker set has {', '.join(wanted)}"
        )
    out = np.full((len(keypoints), len(wanted), 3), np.nan)
    for name in known:
        out[:, wanted.index(name)] = keypoints[:, list(names).index(name)]
    return out


def _axes(shape: tuple[int, ...], number: int) -> tuple[int, ...] | None:
    """The order of axes, those of length 1 left out, at which so many keypoints are last.

    HDF5 has MATLAB's axes the other way round.
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
    """The variable that holds keypoints: one of a known name, or the only one of such a shape."""
    fits = [name for name, shape in shapes.items() if _axes(shape, number) is not None]
    chosen = [name for name in VARIABLES if name in fits] or fits
    if not fits or (chosen is fits and len(fits) > 1):
        there = checks.listed(f"{name} {shape}" for name, shape in shapes.items())
        raise ClipError(
            f"{'more than one' if fits else 'no'} variable holds {number} keypoints as "
            f"(T, 3, {number}), (T, {number}, 3) or (T, {3 * number}); "
            f"arrays of numbers: {there or 'none'}"
        )
    frames = math.prod(shapes[chosen[0]]) // (3 * number)
    if frames > MOST_FRAMES:
        raise ClipError(f"variable {chosen[0]!r} has {frames} frames, more than {MOST_FRAMES}")
    return chosen[0]


def _load_hdf5(path: Path, number: int) -> tuple[np.ndarray, list[str] | None]:
    """Keypoints (T, K, 3) and, where the file has them, their names."""
    with hdf5.opened(path) as file:
        names = next((hdf5.names(file, key) for key in NAMES if key in file), None)
        number = len(names) if names else number
        shapes = {}
        for name in hdf5.members(file):
            # Links are no hindrance, unless they are what is asked for.
            data = hdf5.member(file, name) if _is_own(file, name) else None
            if isinstance(data, h5py.Dataset) and data.dtype.kind in "fiu" and data.shape:
                shapes[name] = data.shape
        chosen = _choose(shapes, number)
        return _arranged(hdf5.array(file, chosen, shapes[chosen]), number), names


def _is_own(file: h5py.File, name: str) -> bool:
    return name in VARIABLES or isinstance(file.get(name, getlink=True), h5py.HardLink)


def _load_matlab(path: Path, number: int) -> tuple[np.ndarray, None]:
    """Keypoints (T, K, 3)."""
    try:
        _check_elements(path)
        shapes = {
            name: tuple(shape)
            for name, shape, kind in scipy.io.whosmat(path, appendmat=False)
            if kind in _NUMERIC
        }
        name = _choose(shapes, number)
        array = scipy.io.loadmat(path, variable_names=[name], appendmat=False)[name]
        if array.dtype.kind not in "fiu" or array.shape != shapes[name]:
            raise ClipError(f"variable {name!r} does not hold {shapes[name]} real numbers")
        return _arranged(array, number), None
    except ClipError:
        raise
    # On damaged files SciPy raises anything: IndexError, zlib.error, struct.error, MemoryError …
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ClipError(f"cannot be read as a MATLAB file ({reason})") from None


def _check_elements(path: Path) -> None:
    """Raise ClipError unless a MATLAB 5.0 file is whole and inflates to a bounded size.

    The file's layout: "MAT-File Level 5 File Format" of MATLAB's documentation.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER)
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
            if kind == _COMPRESSED:
                _check_inflated(file, length)
            file.seek(end)


def _check_inflated(file: BinaryIO, length: int) -> None:
    """Raise ClipError if so many compressed bytes inflate to more than `MOST_BYTES`."""
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
