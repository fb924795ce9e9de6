"""Distances of points to scenery."""

from __future__ import annotations

import numpy as np

from vnl_envs.physics import Array, namespace


def to_boxes(points: Array, middles: Array, half: np.ndarray) -> Array:
    """Signed distance of points to the nearest of some axis-aligned boxes, (..., n), m.

    Args:
        points: (..., n, 3) points, m.
        middles: (..., boxes, 3) middles of the boxes, m.
        half: (boxes, 3) or (1, 3) half-sizes of the boxes, m.
    """
    xp = namespace(points)
    # Axis by axis: sums and maxima over a last axis of three are slow.
    away = [
        xp.abs(points[..., :, axis, None] - middles[..., None, :, axis]) - half[:, axis]
        for axis in range(3)
    ]
    x, y, z = (xp.maximum(part, 0.0) for part in away)
    inside = xp.maximum(xp.maximum(away[0], away[1]), away[2])
    distance = xp.sqrt(x * x + y * y + z * z) + xp.minimum(inside, 0.0)
    return distance.min(axis=-1)
