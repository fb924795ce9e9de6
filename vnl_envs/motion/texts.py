"""Texts and numbers of foreign files, in whichever of many types a program has kept them.

HDF5 and MATLAB have a text as `str`, as bytes, as an array of one, or as character codes; a list
of them as an array, as a cell array or as a matrix of characters. What they mean is decided here.
"""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np

_BYTE_ORDER_MARK = "\ufeff"


def text(value: Any) -> str:
    """The text that a value is: `str`, bytes (UTF-8), or an array of one of them.

    Without a byte order mark, and without the null characters that fill fields of a fixed length.
    What is not UTF-8 becomes U+FFFD.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, h5py.Empty) and value.dtype.kind == "S":
        return ""
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "SUO":
        return text(value.reshape(-1)[0])
    if isinstance(value, np.ndarray) and value.size == 0 and value.dtype.kind in "SU":
        # A cell of MATLAB with no characters.
        return ""
    if isinstance(value, str):
        # h5py keeps bytes that are not UTF-8 as surrogates.
        value = value.encode("utf-8", "surrogateescape")
    if not isinstance(value, bytes):
        raise ValueError(f"must be a text, got {_short(value)}")
    return value.decode("utf-8", "replace").removeprefix(_BYTE_ORDER_MARK).rstrip("\0")


def texts(value: Any) -> list[str]:
    """The texts of an array with one axis longer than 1 at most; spaces that fill them are cut off.

    Raises:
        ValueError: it is something else, or one of them is no text.
    """
    array = np.asarray(value)
    if array.ndim == 0 or max(array.shape) != array.size or array.dtype.kind not in "SUO":
        raise ValueError(f"must be a list of texts, got {_short(value)}")
    return [text(item).rstrip() for item in array.reshape(-1)]


def number(value: Any) -> float:
    """The finite number that a value is, or an array of one.

    Raises:
        ValueError: it is something else.
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
