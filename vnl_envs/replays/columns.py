"""Compression of tables of numbers: rounding, differences between rows, byte planes, deflate.

The viewer's `codec.js` reads the result.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

_LARGEST = 2**30
"""Limit of a rounded number, so that differences fit into 32 bits with their sign."""


class Column(NamedTuple):
    """A table of numbers and its resolution.

    Attributes:
        values: (rows, width) numbers.
        resolution: step to whose multiples numbers are rounded, a number or (width,).
    """

    values: np.ndarray
    resolution: float | np.ndarray = 1.0


class Packed(NamedTuple):
    """Tables as text.

    Attributes:
        columns: name -> {"rows", "width", "resolution"}, in the order of the data.
        data: base64 of the deflated bytes.
    """

    columns: dict[str, dict[str, Any]]
    data: str


def pack(columns: Mapping[str, Column]) -> Packed:
    """Pack tables by name into one text for JSON.

    Raises:
        ValueError: a number is not finite, or too large for its resolution.
    """
    headers: dict[str, dict[str, Any]] = {}
    parts = []
    for name, (values, resolution) in columns.items():
        values = np.asarray(values, float)
        scaled = np.rint(values / resolution)
        if not (np.abs(scaled) <= _LARGEST).all():
            raise ValueError(f"{name}: numbers must be finite and below {_LARGEST} resolutions")
        steps = np.diff(scaled.astype(np.int64), axis=0, prepend=0)
        # Zigzag: small numbers of either sign become small: 0, -1, 1, -2, ... -> 0, 1, 2, 3, ...
        unsigned = ((steps << 1) ^ (steps >> 63)).astype("<u4")
        # Column after column, in planes of bytes, so that similar bytes are neighbours.
        flat = np.ascontiguousarray(unsigned.T).view(np.uint8).reshape(-1, 4)
        parts.append(np.ascontiguousarray(flat.T).tobytes())
        headers[name] = {
            "rows": values.shape[0],
            "width": values.shape[1],
            "resolution": np.broadcast_to(resolution, values.shape[1]).tolist()
            if np.ndim(resolution)
            else float(resolution),
        }
    return Packed(headers, base64.b64encode(zlib.compress(b"".join(parts), 9)).decode())
