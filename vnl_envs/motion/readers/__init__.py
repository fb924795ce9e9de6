"""Reading motion files of any known format as clips.

Each format is a module with `recognises(path) -> bool`, which never raises, and
`read(path, body, rate) -> Iterator[Clip]`. Adding a format is a module and a row of `FORMATS`.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import h5py

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion import hdf5
from vnl_envs.motion.clip import Clip, ClipError
from vnl_envs.utils import checks


class Format(NamedTuple):
    """The module of a format's reader, imported when used, and a short description."""

    module: str
    description: str


FORMATS = {
    "clips": Format("vnl_envs.motion.readers.clips", "a clip file of vnl_envs"),
    "dm_control": Format("vnl_envs.motion.readers.dm_control", "dm_control motion capture HDF5"),
    "stac": Format("vnl_envs.motion.readers.stac", "a fit of STAC-MJX, HDF5"),
    "amc": Format("vnl_envs.motion.readers.amc", "CMU motion capture, .amc"),
    "session": Format("vnl_envs.motion.readers.sessions", "a session of Aldarondo et al. 2024"),
    "keypoints": Format("vnl_envs.motion.readers.keypoints", "3-D keypoints, .mat or HDF5"),
}
"""Formats by name. The first format that recognises a file is used."""


class Reader(Protocol):
    """Interface of a format's module."""

    def recognises(self, path: Path) -> bool:
        """Whether the file looks like this format. Reads little of the file and never raises."""
        ...

    def read(self, path: Path, body: BodyModel, rate: float | None) -> Iterator[Clip]:
        """Read the file's clips at 50 Hz for the body, one at a time.

        Args:
            path: the file.
            body: body of the motion.
            rate: frames per second if the file does not have the rate; None if unknown.

        Raises:
            ClipError: the file is damaged, of another body, or has another rate.
        """
        ...


def read_motion(
    path: str | Path,
    body: BodyModel,
    *,
    format: str | None = None,
    rate: float | None = None,
    label: str | None = None,
    labels: Mapping[str, str] | None = None,
    licence: str | None = None,
) -> Iterator[Clip]:
    """Read the clips of a motion file at 50 Hz for the body, one at a time.

    Args:
        path: the file.
        body: body of the motion.
        format: one of `FORMATS`; None detects the format from the file's content.
        rate: frames per second, if the file does not have the rate.
        label: behaviour of all clips.
        labels: behaviour by clip name, with precedence over `label`. Other clips keep theirs.
        licence: licence of all clips, an SPDX identifier if there is one.

    Raises:
        FileNotFoundError: there is no such file.
        ClipError: the file has no known format, is damaged or does not fit the body; or `labels`
            names a clip that the file does not have, which is raised after the last clip.
        ValueError: the format is unknown.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no motion file {str(path)!r}")
    if not path.is_file():
        raise ClipError(f"{path}: not a file")
    name = format_of(path) if format is None else checks.choice("format", format, tuple(FORMATS))
    clips = _reader(name).read(path, body, rate)
    return _described(clips, path, label, labels or {}, licence)


def format_of(path: Path) -> str:
    """The name of a file's format.

    Raises:
        ClipError: no format recognises the file.
    """
    for name in FORMATS:
        if _reader(name).recognises(path):
            return name
    if h5py.is_hdf5(path):
        with hdf5.opened(path):
            # A damaged file is reported as damaged, not as of an unknown format.
            pass
    known = ", ".join(f"{name} ({format.description})" for name, format in FORMATS.items())
    raise ClipError(f"{path}: of no known format; there are {known}")


def _reader(name: str) -> Reader:
    return cast(Reader, importlib.import_module(FORMATS[name].module))


def _described(
    clips: Iterator[Clip],
    path: Path,
    label: str | None,
    labels: Mapping[str, str],
    licence: str | None,
) -> Iterator[Clip]:
    unknown = set(labels)
    for clip in clips:
        unknown.discard(clip.name)
        yield dataclasses.replace(
            clip,
            label=labels.get(clip.name, clip.label if label is None else label),
            licence=clip.licence if licence is None else licence,
        )
    if unknown:
        names = checks.listed(sorted(unknown))
        raise ClipError(f"{path}: labels are given for clips that it does not have: {names}")
