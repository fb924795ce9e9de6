"""Atomic writing of files, and safe reading of untrusted files."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to, renamed on success and removed on failure.

    It keeps the suffix of `path`, for writers that depend on it.

    Raises:
        FileNotFoundError, PermissionError: see `check_writable`.
        OSError: the file cannot be written, for example as the disk is full; it names the file.
    """
    path = Path(path)
    check_writable(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: Path, *inputs: str | Path | None) -> None:
    """Check that a file can be written, before hours of work for it.

    Args:
        path: the file.
        inputs: files that are read, or written as well; None is none.

    Raises:
        FileNotFoundError: the folder of `path` does not exist.
        PermissionError: the folder is not writable.
        ValueError: the file is one of the inputs.
    """
    if any(Path(other).resolve() == path.resolve() for other in inputs if other is not None):
        raise ValueError(f"{str(path)!r} has two uses: give the output a name of its own")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {str(path.parent)!r} to write {path.name!r} in")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"no permission to write {path.name!r} in {str(path.parent)!r}")


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading. Pipes and devices are refused: they may block or be endless.

    Raises:
        OSError: there is no file, it is not a regular one, or it cannot be read.
    """
    # Non-blocking, as opening a pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return open(descriptor, "rb")


def read_regular(path: str | Path, most: int) -> bytes:
    """The bytes of a regular file of at most `most` bytes.

    Raises:
        OSError: see `open_regular`, or the file is larger.
    """
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"Is larger than {most} bytes", str(path))
    return data


def read_inside(folder: Path, name: str, most: int) -> bytes:
    """The bytes of a regular file below a folder. Links below the folder are refused.

    Raises:
        OSError: see `read_regular`, or a part of `name` is a link.
    """
    path = folder / name
    if path.resolve() != folder.resolve() / name:
        raise OSError(errno.ELOOP, "Is a link, or lies behind one", str(path))
    return read_regular(path, most)
