"""Paths of the packaged data files."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path


def packaged(*parts: str) -> Path:
    """Path of a file or folder of `vnl_envs/data`, such as `packaged("clips", "rodent.h5")`.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    with as_file(files("vnl_envs.data").joinpath(*parts)) as path:
        if not path.exists():
            raise FileNotFoundError(f"no packaged file {'/'.join(parts)!r}")
        return path
