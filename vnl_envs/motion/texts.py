"""Conversion of texts and numbers in foreign files, which programs keep in many types.

In HDF5 and MATLAB a text is a `str`, bytes, an array of one of them, or character codes. A list of
texts is an array, a cell array or a matrix of characters.
"""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np

_BYTE_ORDER_MARK = "\ufeff"


def text(value: Any) -> str:
    """Convert a `str`, bytes (UTF-8), or an array of one of them to a text.

    A byte order mark and the null characters that pad fields of fixed length are removed. Invalid
    UTF-8 becomes U+FFFD.

    Raises:
        ValueError: the value is something else.
    """
    if isinstance(value, h5py.Empty) and value.dtype.kind == "S":
        return ""
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "SUO":
        return text(value.reshape(-1)[0])
    if isinstance(value, np.ndarray) and value.size == 0 and value.dtype.kind in "SU":
        # An empty cell of MATLAB.
        return ""
    if isinstance(value, str):
        # h5py represents invalid UTF-8 by surrogates.
        value = value.encode("utf-8", "surrogateescape")
    if not isinstance(value, bytes):
        raise ValueError(f"must be a text, got {_short(value)}")
    return value.decode("utf-8", "replace").removeprefix(_BYTE_ORDER_MARK).rstrip("\0")


def texts(value: Any) -> list[str]:
    """Convert an array with at most one axis longer than 1 to texts, without padding spaces.

    Raises:
        ValueError: the value is something else, or an entry is not a text.
    """
    array = np.asarray(value)
    if array.ndim == 0 or max(array.shape) != array.size or array.dtype.kind not in "SUO":
        raise ValueError(f"must be a list of texts, got {_short(value)}")
    return [text(item).rstrip() for item in array.reshape(-1)]


def number(value: Any) -> float:
    """Convert a finite number, or an array of one, to a float.

    Raises:
        ValueError: the value is something else.
    """
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiu" or not math.isfinite(array.item()):
        raise ValueError(f"must be a finite number, got {_short(value)}")
    return float(array.item())


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    shown = repr(value.item() if isinstance(value, np.generic) else value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
