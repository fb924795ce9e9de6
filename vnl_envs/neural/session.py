"""The session file: spikes and motion of one recording, HDF5.

Root attributes: `format`, `version`, `rate` (Hz), `body`, `joint_names`, `keypoint_names`,
`unit_ids`, `regions`, `label_names`, `session`, `subject`, `source`, `licence`, `identity` (of the
motion). Data sets with T frames at 50 Hz: `spikes` (T, U) uint16 counts; `qpos` (T, nq) float32 as
in clips, NaN in frames without a pose; `keypoints` (T, K, 3) float32 m (K can be 0); `labels` (T,)
int16, -1 in frames without a label. `clips` (C, 2) has the first frame of each clip and the frame
after its last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from vnl_envs.motion import hdf5
from vnl_envs.motion.clip import RATE
from vnl_envs.motion.errors import ClipError
from vnl_envs.motion.readers.sessions import clip_name
from vnl_envs.neural.errors import NeuralError

FORMAT, VERSION = "vnl_envs-session", 1
TEXTS = ("body", "session", "subject", "source", "licence", "identity")
LISTS = ("joint_names", "keypoint_names", "unit_ids", "regions", "label_names")
TABLES = ("spikes", "qpos", "keypoints", "labels")
UNLABELLED = -1

T = TypeVar("T")


class Session:
    """An open session, whose tables are read in parts.

    Args:
        file: the open file.

    Attributes:
        frames: number of frames, T.
        units: number of units, U.
        text: text attributes by name, see `TEXTS`.
        names: lists of names by name, see `LISTS`; regions has one entry for each unit.
        clips: (C, 2) first frame of each clip, and the frame after its last.

    Raises:
        NeuralError: the file is no session file, or its tables are inconsistent.
    """

    def __init__(self, file: h5py.File) -> None:
        if hdf5.text_attribute(file, "format") != FORMAT:
            raise NeuralError(f"not a {FORMAT} file; `vnl-envs neural import` makes one")
        if hdf5.number(file, "version") != VERSION or hdf5.number(file, "rate") != RATE:
            raise NeuralError(f"must be of version {VERSION} at {RATE:g} Hz")
        self.text = {name: hdf5.text_attribute(file, name) or "" for name in TEXTS}
        self.names = {name: hdf5.names_attribute(file, name) or [] for name in LISTS}
        self.units = len(self.names["unit_ids"])
        nq = 7 + len(self.names["joint_names"])
        shapes: dict[str, tuple[int | None, ...]] = {
            "spikes": (None, self.units),
            "qpos": (None, nq),
            "keypoints": (None, len(self.names["keypoint_names"]), 3),
            "labels": (None,),
        }
        self._tables = {name: hdf5.numbers(file, name, shape) for name, shape in shapes.items()}
        self.frames = len(self._tables["spikes"])
        for name, data in self._tables.items():
            if len(data) != self.frames:
                raise NeuralError(f"{name!r} has {len(data)} frames, 'spikes' has {self.frames}")
        self.clips = hdf5.array(file, "clips", (None, 2)).astype(int)

    def read(self, table: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Frames [start, stop) of one of `TABLES`, as stored."""
        return np.asarray(self._tables[table][start:stop])

    def clip_name(self, start: int) -> str:
        """Name of the clip that begins at a frame, see `write_session_clips`."""
        return clip_name(self.text["session"], start)

    @property
    def has_keypoints(self) -> bool:
        """Whether the session has keypoints."""
        return bool(self.names["keypoint_names"])


@contextlib.contextmanager
def opened_session(path: str | Path) -> Iterator[Session]:
    """Open a session for reading.

    Raises:
        FileNotFoundError: there is no such file.
        NeuralError: the file is damaged, or no session.
    """
    with guarded(path, Session) as session:
        yield session


@contextlib.contextmanager
def guarded(path: str | Path, make: Callable[[h5py.File], T]) -> Iterator[T]:
    """Open an HDF5 file and make an object of it.

    Errors of the file name it. A `NeuralError` from the body of the context stays as it is.
    """
    caller_error = None
    with naming(path), hdf5.opened(Path(path)) as file:
        made = make(file)
        try:
            yield made
        except NeuralError as error:
            caller_error = error
    if caller_error is not None:
        raise caller_error from None


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Add the file's name to errors of reading it."""
    try:
        yield
    except (ClipError, NeuralError) as error:
        raise NeuralError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def create(
    file: h5py.File,
    frames: int,
    text: dict[str, str],
    names: dict[str, list[str]],
    chunk: int = 2048,
) -> dict[str, h5py.Dataset]:
    """Create the tables of an empty session; return them by name."""
    file.attrs.update(format=FORMAT, version=VERSION, rate=RATE, **text)
    for name in LISTS:
        file.attrs.create(name, names[name], dtype=h5py.string_dtype())
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "spikes": ((len(names["unit_ids"]),), np.uint16),
        "qpos": ((7 + len(names["joint_names"]),), np.float32),
        "keypoints": ((len(names["keypoint_names"]), 3), np.float32),
        "labels": ((), np.int16),
    }
    return {
        name: file.create_dataset(
            name,
            (frames, *shape),
            dtype,
            # HDF5 has no chunks for an axis of length 0.
            **(_packed((min(chunk, frames), *shape)) if 0 not in shape else {}),
            track_times=False,
        )
        for name, (shape, dtype) in shapes.items()
    }


def _packed(chunks: tuple[int, ...]) -> dict[str, Any]:
    return {"chunks": chunks, "compression": "gzip", "compression_opts": 1, "shuffle": True}
