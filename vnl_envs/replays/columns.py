"""Numbers as few bytes: rounded, differences along rows, byte planes, deflate.

The viewer's `codec.js` reads them.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

_LARGEST = 2**30
"""Of a rounded number; differences of two fit 32 bits with their sign."""


class Column(NamedTuple):
    """Rows of numbers, and what they are rounded to.

    Attributes:
        values: (rows, width).
        resolution: greatest common divisor of what is kept; of all columns, or (width,).
    """

    values: np.ndarray
    resolution: float | np.ndarray = 1.0


class Packed(NamedTuple):
    """Columns as text.

    Attributes:
        columns: name -> {"rows", "width", "resolution"}, in the order of the data.
        data: base64 of the deflated bytes.
    """

    columns: dict[str, dict[str, Any]]
    data: str


def pack(columns: Mapping[str, Column]) -> Packed:
    """Columns as one text, for JSON.

    Raises:
        ValueError: a number is not finite, or too large for its resolution.
    """
    told: dict[str, dict[str, Any]] = {}
    parts = []
    for name, (values, resolution) in columns.items():
        values = np.asarray(values, float)
        scaled = np.rint(values / resolution)
        if not (np.abs(scaled) <= _LARGEST).all():
            raise ValueError(f"{name}: numbers must be finite and below {_LARGEST} resolutions")
        steps = np.diff(scaled.astype(np.int64), axis=0, prepend=0)
        # Small ones of either sign become small ones: 0, -1, 1, -2, ... -> 0, 1, 2, 3, ...
        unsigned = ((steps << 1) ^ (steps >> 63)).astype("<u4")
        # Column after column, least significant bytes first: what is alike stands together.
        flat = np.ascontiguousarray(unsigned.T).view(np.uint8).reshape(-1, 4)
        parts.append(np.ascontiguousarray(flat.T).tobytes())
        told[name] = {
            "rows": values.shape[0],
            "width": values.shape[1],
            "resolution": np.broadcast_to(resolution, values.shape[1]).tolist()
            if np.ndim(resolution)
            else float(resolution),
        }
    return Packed(told, base64.b64encode(zlib.compress(b"".join(parts), 9)).decode())
