"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; renamed to it on success, removed on failure.

    Its suffix is kept, for writers that go by it.

    Raises:
        FileNotFoundError, PermissionError: see `check_writable`.
    """
    path = Path(path)
    check_writable(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Say at once, before hours of work, that a file cannot be written.

    Raises:
        FileNotFoundError: the folder of `path` does not exist.
        PermissionError: nothing can be written in it.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {str(path.parent)!r} to write {path.name!r} in")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"no permission to write {path.name!r} in {str(path.parent)!r}")
