"""Clip files of `vnl_envs` itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion import hdf5
from vnl_envs.motion.clip import FORMAT, RATE, Clip, ClipError, iterate_clips


def recognises(path: Path) -> bool:
    """Whether the file's header is a clip file's."""
    return hdf5.holds(path, lambda file: hdf5.text_attribute(file, "format") == FORMAT)


def read(path: Path, body: BodyModel, rate: float | None) -> Iterator[Clip]:
    """Read the clips unchanged; see `vnl_envs.motion.readers.Reader`."""
    if rate is not None and rate != RATE:
        raise ClipError(f"{path}: clip files are at {RATE:g} Hz, not {rate} Hz")
    yield from iterate_clips(path, body)
