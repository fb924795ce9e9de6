"""Memory that several processes share, and that disappears with the last of them."""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np

# Size of a cache line, bytes, so that no two processes write into the same one.
_ALIGNMENT = 64


@dataclass(frozen=True)
class Field:
    """Shape and type of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Size in bytes, padded to where the next array may begin."""
        return _aligned(int(np.prod(self.shape)) * self.dtype.itemsize)


class Layout:
    """The layout of consecutive arrays in memory.

    Args:
        fields: shapes and types of the arrays by name.

    Attributes:
        nbytes: size of all arrays, bytes.
        names: names of the arrays, in order.
    """

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._places: dict[str, tuple[Field, int]] = {}
        self.nbytes = 0
        for name, field in fields.items():
            self._places[name] = field, self.nbytes
            self.nbytes += field.nbytes
        self.names = tuple(self._places)

    def arrays(self, memory: np.ndarray | mmap.mmap, start: int = 0) -> dict[str, np.ndarray]:
        """The arrays in `memory`, whose first byte is `start`."""
        return {
            name: np.ndarray(field.shape, field.dtype, memory, start + place)
            for name, (field, place) in self._places.items()
        }


class Memory:
    """An unnamed file, which disappears with the last process that has it open.

    Args:
        fd: descriptor of an open file; None makes one.

    Attributes:
        fd: descriptor of the file.
    """

    def __init__(self, fd: int | None = None) -> None:
        self.fd = _unnamed() if fd is None else fd

    def mapped(self, nbytes: int) -> mmap.mmap:
        """Map the first bytes for reading and writing. The file grows if necessary."""
        if os.fstat(self.fd).st_size < nbytes:
            os.ftruncate(self.fd, nbytes)
        return mmap.mmap(self.fd, nbytes)

    def write(self, content: bytes) -> int:
        """Write at the start of the file, and return the number of bytes."""
        done = 0
        while done < len(content):
            done += os.pwrite(self.fd, memoryview(content)[done:], done)
        return done

    def read(self, nbytes: int) -> bytes:
        """Read the first bytes."""
        parts, place = [], 0
        while place < nbytes:
            parts.append(os.pread(self.fd, nbytes - place, place))
            place += len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        """Close the file. Mapped memory stays."""
        os.close(self.fd)


class Parcel:
    """An object pickled into a memory, with its arrays beside it, for every process to read.

    Classes of a script or notebook are pickled by value.

    Args:
        content: object to pickle.

    Attributes:
        memory: memory that holds the object.
        places: first and last byte of the pickle and of each array.
    """

    def __init__(self, content: Any) -> None:
        buffers: list[pickle.PickleBuffer] = []
        pickled = cloudpickle.dumps(content, protocol=5, buffer_callback=buffers.append)
        parts = [memoryview(pickled), *(buffer.raw() for buffer in buffers)]
        self.memory, self.places, end = Memory(), [], 0
        for part in parts:
            self.places.append((end, end + part.nbytes))
            end += _aligned(part.nbytes)
        mapped = self.memory.mapped(end)
        for (start, stop), part in zip(self.places, parts, strict=True):
            mapped[start:stop] = part

    @staticmethod
    def open(memory: Memory, places: list[tuple[int, int]]) -> Any:
        """Unpickle the object. Its arrays are read-only views of the memory."""
        file = mmap.mmap(memory.fd, places[-1][1], access=mmap.ACCESS_READ)
        pickled, *buffers = (memoryview(file)[start:stop] for start, stop in places)
        return pickle.loads(pickled, buffers=buffers)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _unnamed() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("vnl_envs")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
