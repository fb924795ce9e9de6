"""Keypoint files that are wrong in some way; rows of the malformed corpus.

Each is to end in one line of error within the corpus' limits of time and memory. Sound files here
have the rat's 23 keypoints in 12 frames.
"""

from __future__ import annotations

import functools
import io
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import scipy.io
import scipy.sparse

from vnl_envs.bodies import RODENT
from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.fitting.keypoints import standing_markers
from vnl_envs.scenes.floor import Floor
from vnl_envs.scenes.world import build_world

FORMAT = "keypoints"
FRAMES = 12


class Wrong(NamedTuple):
    """A wrong file: what is wrong, its format, its content, its suffix.

    Harmless ones may also be read: a bit that nobody reads, or one of a coordinate, was turned.
    """

    name: str
    format: str
    content: bytes
    suffix: str = ".mat"
    harmless: bool = False


@functools.cache
def body() -> BodyModel:
    """The rat in a world of its own."""
    return build_world(Floor(), [RODENT]).body


def keypoints(frames: int = FRAMES) -> np.ndarray:
    """A rat that stands and shivers, (T, 3, 23) mm."""
    rng = np.random.default_rng(0)
    shiver = np.cumsum(rng.normal(0, 0.3, (frames, 3, 23)), axis=0)
    return 1e3 * standing_markers(body()).T + shiver


def matlab(compressed: bool = False, **variables: Any) -> bytes:
    """A MATLAB 5.0 file."""
    stream = io.BytesIO()
    scipy.io.savemat(stream, variables, do_compression=compressed)
    return stream.getvalue()


def hdf5(fill: Callable[[h5py.File], Any]) -> bytes:
    """An HDF5 file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.h5"
        with h5py.File(path, "w") as file:
            fill(file)
        return path.read_bytes()


def wrong_keypoints() -> Iterator[Wrong]:
    """All of them, at least 150."""
    plain, packed = matlab(pred=keypoints()), matlab(compressed=True, pred=keypoints())
    stored = hdf5(lambda file: file.create_dataset("pred", data=keypoints()))
    yield from _damaged("mat", plain, ".mat")
    yield from _damaged("compressed mat", packed, ".mat")
    yield from _damaged("hdf5", stored, ".h5")
    for name, array in _arrays().items():
        yield Wrong(f"mat: {name}", FORMAT, matlab(pred=array))
        if isinstance(array, np.ndarray) and array.dtype.kind != "O":
            content = hdf5(lambda file, a=array: _store(file, a))
            yield Wrong(f"hdf5: {name}", FORMAT, content, ".h5")
    for name, variables in _variables().items():
        yield Wrong(f"mat: {name}", FORMAT, matlab(**variables))
    yield from _absurd_matlab(plain)
    yield from _absurd_hdf5()


def _damaged(what: str, content: bytes, suffix: str) -> Iterator[Wrong]:
    rng = np.random.default_rng(len(content))
    header = [1, 8, 100, 126, 128, 130, 136, 150, 184, 192]
    for size in sorted({*header, *rng.integers(200, len(content), 20).tolist(), len(content) - 1}):
        if size < len(content):
            yield Wrong(f"{what}: cut at {size}", FORMAT, content[:size], suffix)
    for i in range(8):
        turned = bytearray(content)
        where = int(rng.integers(126, 400 if i % 2 else len(content)))
        turned[where] ^= 1 << int(rng.integers(8))
        yield Wrong(f"{what}: bit {i}", FORMAT, bytes(turned), suffix, harmless=True)


def _arrays() -> dict[str, Any]:
    """What `pred` may wrongly be."""
    good = keypoints()
    missing, some = np.full_like(good, np.nan), good.copy()
    some[1:] = np.nan
    cell = np.empty(1, object)
    cell[0] = good
    return {
        "one frame": good[:1],
        "no frames": good[:0],
        "22 keypoints": good[..., :22],
        "two coordinates": good[:, :2],
        "four axes": np.stack([good, good]),
        "one axis": good.ravel(),
        "a number": np.array(1.0),
        "68 columns": good.reshape(FRAMES, -1)[:, :68],
        "all missing": missing,
        "all infinite": missing + np.inf,
        "one frame present": some,
        "all in one place": np.zeros_like(good) + 7.0,
        "a giant": 1e9 * good,
        "a mite": 1e-9 * good,
        "overflowing": 1e300 * good,
        "a star": good[:1] * (1.0 + np.arange(FRAMES)[:, None, None]) * [[1.0], [0.0], [0.0]],
        "upside down": good * [[1.0], [-1.0], [-1.0]],
        "complex": good + 1j,
        "logical": good > 0,
        "text": "pred",
        "sparse": scipy.sparse.csc_matrix(good.reshape(FRAMES, -1)),
        "a cell": cell,
        "a structure": {"pred": good},
    }


def _store(file: h5py.File, array: np.ndarray) -> None:
    file.create_dataset("pred", data=array)


def _variables() -> dict[str, dict[str, Any]]:
    good = keypoints()
    return {
        "no arrays": {"note": "nothing here"},
        "two candidates": {"first": good, "second": good},
        "nested": {"data": {"pred": good}},
        "another animal": {"pred": keypoints()[..., :13]},
        "empty": {"pred": np.empty((0, 0))},
    }


def _absurd_matlab(plain: bytes) -> Iterator[Wrong]:
    """Sizes that the file does not have; its layout is that of `savemat`.

    Header 128 bytes, tag 8, flags 16, tag of the dimensions 8, three int32 from byte 160 on.
    """
    for name, sizes in {
        "huge": (2_000_000_000, 3, 23), "negative": (-12, 3, 23), "longer": (10_000, 3, 23),
        "many": (400_000, 3, 23), "shorter": (6, 3, 23), "overflow": (2**31 - 1, 3, 23),
    }.items():  # fmt: skip
        content = bytearray(plain)
        struct.pack_into("<3i", content, 160, *sizes)
        yield Wrong(f"mat: {name} size", FORMAT, bytes(content))
    for where, name in ((132, "element"), (156, "dimensions"), (188, "numbers")):
        for value in (0, 0xFFFFFFFF, 0x7FFFFFF8, 3):
            content = bytearray(plain)
            struct.pack_into("<I", content, where, value)
            yield Wrong(f"mat: {name} of {value} bytes", FORMAT, bytes(content))
    for kind in (0, 1, 5, 13, 16, 255):
        content = bytearray(plain)
        struct.pack_into("<I", content, 128, kind)
        yield Wrong(f"mat: element of kind {kind}", FORMAT, bytes(content))
    for name, inner in {"zeros": bytes(450_000_000), "nothing": b"", "text": b"no matrix"}.items():
        packed = zlib.compress(inner, 9)
        element = struct.pack("<II", 15, len(packed)) + packed
        yield Wrong(f"mat: compressed {name}", FORMAT, plain[:128] + element)
    inner = bytearray(plain[128:])
    struct.pack_into("<3i", inner, 32, 400_000, 3, 23)
    struct.pack_into("<I", inner, 4, 400_000 * 69 * 8)
    packed = zlib.compress(bytes(inner))
    element = struct.pack("<II", 15, len(packed)) + packed
    yield Wrong("mat: compressed and longer", FORMAT, plain[:128] + element)
    yield Wrong("mat: big-endian header", FORMAT, plain[:126] + b"MI" + plain[128:])
    yield Wrong("mat: header alone", FORMAT, plain[:128])
    yield Wrong("mat: zeros behind", FORMAT, plain + bytes(64))


def _absurd_hdf5() -> Iterator[Wrong]:
    good = keypoints()
    shape = (2**40, 3, 23)

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(good.shape, float)
        layout[:] = h5py.VirtualSource("other.h5", "pred", good.shape)
        file.create_virtual_dataset("pred", layout)

    def names(file: h5py.File, texts: Any) -> None:
        _store(file, good)
        file["kp_names"] = texts

    makers: dict[str, Callable[[h5py.File], Any]] = {
        "huge": lambda f: f.create_dataset("pred", shape, float, chunks=(1000, 3, 23)),
        "hollow": lambda f: f.create_dataset("pred", (400_000, 3, 23), float, chunks=(9, 3, 23)),
        "bomb": lambda f: f.create_dataset(
            "pred", data=np.zeros((400_000, 3, 23), np.float32), compression="gzip",
        ),
        "external link": lambda f: f.__setitem__("pred", h5py.ExternalLink("other.h5", "pred")),
        "soft link": lambda f: f.__setitem__("pred", h5py.SoftLink("/nowhere")),
        "external storage": lambda f: f.create_dataset(
            "pred", good.shape, float, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
        ),
        "virtual": virtual,
        "a group": lambda f: f.create_group("pred"),
        "texts": lambda f: f.create_dataset("pred", data=["x"] * 23),
        "nothing": lambda f: f.create_dataset("pred", data=h5py.Empty(float)),
        "empty": lambda f: None,
        "two candidates": lambda f: [f.create_dataset(n, data=good) for n in "ab"],
        "foreign names": lambda f: names(f, [f"point {i}" for i in range(23)]),
        "few names": lambda f: names(f, ["Snout", "EarL"]),
        "names of numbers": lambda f: names(f, np.arange(23)),
    }  # fmt: skip
    for name, fill in makers.items():
        yield Wrong(f"hdf5: {name}", FORMAT, hdf5(fill), ".h5")
