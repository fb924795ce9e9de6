"""Safe reading of untrusted HDF5 files.

A file may be truncated, of another type, or malicious. Nothing outside the file is opened (no
external or soft links, external storage or virtual data sets). Sizes are checked before reading, so
that a small file never takes much memory.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from vnl_envs.motion import texts
from vnl_envs.motion.errors import ClipError

MOST_FRAMES = 24 * 3600 * 50
"""Limit for one data set: a day at the rate of clips. Longer recordings must be split."""
MOST_MEMBERS = 1_000_000
"""Limit for one group. The largest public motion capture sets have some thousand clips."""
FREE_BYTES, MOST_COMPRESSION = 2**26, 100
"""A data set may declare 64 MiB, plus 100 bytes per byte stored in the file. Motion compresses by
less than 10, gzip by up to 1032."""
MOST_TEXT = 2**20
"""Maximum bytes of a text or of a list of names."""
MOST_CELLS = 2**13
"""Limit for a list of names written by MATLAB, in which each name is a data set."""

T = TypeVar("T")

_DAMAGE = (OSError, RuntimeError, LookupError, TypeError, ValueError, ArithmeticError, MemoryError)
"""Exceptions that h5py and NumPy raise for damaged files."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading. Errors in the context are reported with the file's name.

    Raises:
        FileNotFoundError: there is no such file.
        ClipError: the file is not HDF5 or is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file {str(path)!r}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except ClipError as error:
        raise ClipError(f"{path}: {error}") from None
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ClipError(f"{path}: cannot be read ({reason})") from None


def holds(path: Path, looks_right: Callable[[h5py.File], bool]) -> bool:
    """Whether a file is HDF5 and `looks_right`; False for a damaged file."""
    try:
        with opened(path) as file:
            return bool(looks_right(file))
    except (ClipError, FileNotFoundError):
        return False


def members(group: h5py.Group) -> list[str]:
    """Names in a group, in the file's order.

    Raises:
        ClipError: there are more than `MOST_MEMBERS`, or a name is not UTF-8.
    """
    if len(group) > MOST_MEMBERS:
        raise ClipError(f"{_named(group)} has {len(group)} members, more than {MOST_MEMBERS}")
    found = list(group)
    # h5py returns names that are not UTF-8 as bytes.
    strange = [name for name in found if not isinstance(name, str)]
    if strange:
        raise ClipError(f"{_named(group)} has a member whose name is not UTF-8: {strange[0]!r}")
    return found


def member(parent: h5py.Group, name: str) -> Any:
    """A group or data set in a group, or None.

    Raises:
        ClipError: the member is a link.
    """
    link = parent.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise ClipError(f"{_named(parent, name)} is a link; only data in the file itself is read")
    return parent[name]


def subgroup(parent: h5py.Group, name: str) -> h5py.Group:
    """A group in a group.

    Raises:
        ClipError: there is none.
    """
    found = member(parent, name)
    if not isinstance(found, h5py.Group):
        raise ClipError(
            f"{_named(parent, name)} is {'missing' if found is None else 'not a group'}"
        )
    return found


def array(parent: h5py.Group, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """The numbers of a data set, as they are stored; see `numbers`."""
    return np.asarray(numbers(parent, name, shape)[()])


def numbers(parent: h5py.Group, name: str, shape: tuple[int | None, ...]) -> h5py.Dataset:
    """A data set of numbers, to be read fully or in parts.

    Args:
        parent: group that contains the data set.
        name: name of the data set.
        shape: expected shape; None stands for any number up to `MOST_FRAMES`.

    Raises:
        ClipError: the data set is missing, has another shape, is not floating point or integer,
            is larger than the file can hold, or is not stored in the file.
    """
    data, where = _dataset(parent, name), _named(parent, name)
    if data.dtype.kind not in "fiu":
        raise ClipError(f"{where} must be numbers, got {data.dtype}")
    pattern = "(" + ", ".join("T" if n is None else str(n) for n in shape) + ")"
    if len(data.shape) != len(shape) or any(
        want not in (None, have) for have, want in zip(data.shape, shape, strict=True)
    ):
        raise ClipError(f"{where} must have shape {pattern}, got {data.shape}")
    if any(
        want is None and have > MOST_FRAMES for have, want in zip(data.shape, shape, strict=True)
    ):
        raise ClipError(f"{where} has shape {data.shape}, more than {MOST_FRAMES} frames")
    _refuse_bombs(data, where)
    return data


def names(parent: h5py.Group, name: str) -> list[str]:
    """The texts of a data set: a list, or a cell array or character matrix of MATLAB.

    Raises:
        ClipError: the data set is missing or not a list of texts.
    """
    data, where = _dataset(parent, name), _named(parent, name)
    return _decoded(lambda: texts.texts(_stored_texts(data)), where)


def text(parent: h5py.Group, name: str) -> str:
    """The text in a data set, empty if there is no data set.

    Raises:
        ClipError: the data set is not a text or is too long.
    """
    if member(parent, name) is None:
        return ""
    data, where = _dataset(parent, name), _named(parent, name)
    return _decoded(lambda: texts.text(_stored_texts(data)), where)


def text_attribute(parent: h5py.Group, name: str) -> str | None:
    """An attribute that is a text, or None if there is no such attribute.

    Raises:
        ClipError: the attribute is not a text or is too long.
    """
    return _attribute(parent, name, texts.text)


def names_attribute(parent: h5py.Group, name: str) -> list[str] | None:
    """An attribute that is a list of texts, or None if there is no such attribute.

    Raises:
        ClipError: the attribute is not a list of texts or is too long.
    """
    return _attribute(parent, name, texts.texts)


def number(parent: h5py.Group, name: str) -> float | None:
    """An attribute that is a finite number, or None if there is no such attribute.

    Raises:
        ClipError: the attribute is not a finite number.
    """
    return _attribute(parent, name, texts.number)


def _attribute(parent: h5py.Group, name: str, decode: Callable[[Any], T]) -> T | None:
    if name not in parent.attrs:
        return None
    where = f"the attribute {name!r} of {_named(parent)}"
    stored = parent.attrs.get_id(name)
    # The library treats the size 0 of an empty attribute as an error.
    if stored.get_space().get_select_npoints() and stored.get_storage_size() > MOST_TEXT:
        raise ClipError(f"{where} is too long")
    return _decoded(lambda: decode(parent.attrs[name]), where)


def _decoded(decode: Callable[[], T], where: str) -> T:
    try:
        return decode()
    except ClipError:
        raise
    except ValueError as error:
        raise ClipError(f"{where} {error}") from None


def _stored_texts(data: h5py.Dataset) -> Any:
    """The content of a data set, for `texts`.

    Raises:
        ValueError: its type cannot hold texts, or it is too long.
    """
    if data.nbytes > MOST_TEXT:
        raise ValueError(f"must have less than {MOST_TEXT} bytes, got {data.nbytes}")
    if h5py.check_string_dtype(data.dtype) is not None:
        return data[()]
    if h5py.check_ref_dtype(data.dtype) is h5py.Reference:
        if data.size > MOST_CELLS:
            raise ValueError(f"must have at most {MOST_CELLS} cells, got {data.size}")
        cells = [texts.text(_matlab_text(_target(data, ref))) for ref in np.ravel(data[()])]
        return np.array(cells, object).reshape(data.shape)
    return _matlab_text(data)


def _target(data: h5py.Dataset, reference: h5py.Reference) -> h5py.Dataset:
    """The target of a cell array's reference, in the same file."""
    found = data.file[reference] if reference else None
    if not isinstance(found, h5py.Dataset):
        raise ValueError("must be a list of texts, got a cell without any")
    return _own(found, repr(found.name))


def _matlab_text(data: h5py.Dataset) -> Any:
    """Texts from characters of MATLAB 7.3: UTF-16 codes in columns, one text per row."""
    kind = data.attrs.get("MATLAB_class")
    if kind is None or texts.text(kind) != "char" or data.nbytes > MOST_TEXT:
        found = data.dtype if kind is None else f"MATLAB's {texts.text(kind)}"
        raise ValueError(f"must be texts (of MATLAB, characters or cells of them), got {found}")
    if "MATLAB_empty" in data.attrs:
        return ""
    if data.dtype != np.uint16 or data.ndim != 2:
        raise ValueError(f"must be texts, got {data.dtype} of shape {data.shape}")
    rows = np.ascontiguousarray(data[()].T, "<u2")
    return np.array([row.tobytes().decode("utf-16-le", "replace") for row in rows], object)


def _dataset(parent: h5py.Group, name: str) -> h5py.Dataset:
    found, where = member(parent, name), _named(parent, name)
    if not isinstance(found, h5py.Dataset):
        raise ClipError(f"{where} is {'missing' if found is None else 'not a data set'}")
    return _own(found, where)


def _own(data: h5py.Dataset, where: str) -> h5py.Dataset:
    if data.shape is None:
        raise ClipError(f"{where} is empty")
    if data.is_virtual or data.external:
        raise ClipError(f"{where} lies in other files; only data in the file itself is read")
    return data


def _refuse_bombs(data: h5py.Dataset, where: str) -> None:
    """Raise ClipError if the declared size of a data set is too large for its stored size."""
    most = FREE_BYTES + MOST_COMPRESSION * data.id.get_storage_size()
    # A chunk is always unpacked completely.
    chunk = math.prod(data.chunks or ()) * data.dtype.itemsize
    declared = max(data.nbytes, chunk)
    if declared > most:
        raise ClipError(
            f"{where} declares {declared:.3g} bytes, but the file has only "
            f"{data.id.get_storage_size()} of it"
        )


def _named(parent: h5py.Group, name: str = "") -> str:
    """The path of a member, for an error message."""
    path = f"{parent.name or ''}/{name}".strip("/")
    return repr(path) if path else "the file"
