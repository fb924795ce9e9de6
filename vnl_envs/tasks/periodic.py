"""Objects that repeat along a corridor, such as gaps, and those around the body."""

from __future__ import annotations

import numpy as np

from vnl_envs.physics import Array, namespace, pick


def count_passed(x: Array, places: Array, period: Array) -> Array:
    """Number of objects at or before each x, (..., n) int32.

    Args:
        x: (..., n) places to count up to, m.
        places: (..., P) first x of each object, ascending, m.
        period: (...,) distance after which the objects repeat, m.
    """
    xp = namespace(x)
    places, period = places[..., None, :], period[..., None]
    cycle = xp.maximum(xp.floor((x - places[..., 0]) / period), 0.0)
    count = (places <= (x - cycle * period)[..., None]).sum(axis=-1)
    return xp.astype(cycle * places.shape[-1] + count, xp.int32)


def around(upcoming: Array, first: Array, ahead: int, window: int) -> Array:
    """Numbers of the next objects and of those in the window, (..., ahead + window) int32.

    Object k is always in slot k modulo `window`. So only the one that leaves the window moves.

    Args:
        upcoming, first: (..., 1) int32, the next object and the first one in the window.
        ahead, window: number of next objects and of objects in the window.
    """
    shown = first + (np.arange(window) - first) % window
    return namespace(first).concat([upcoming + np.arange(ahead), shown], axis=-1)


def located(index: Array, places: Array, period: Array) -> tuple[Array, Array]:
    """Columns in `places` of objects by their numbers, and their x, m, (..., n) each."""
    cycle, slot = index // places.shape[-1], index % places.shape[-1]
    return slot, pick(places, slot) + cycle * period[..., None]
