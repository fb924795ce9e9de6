"""Scenery on a square lattice: a window of sites moves along with the body."""

from __future__ import annotations

import numpy as np

from vnl_envs.physics import Array, namespace


def window(middle: Array, width: int) -> Array:
    """Sites of the window around a site, (..., 2) int32 -> (..., width², 2) int32.

    A site's slot is its coordinates modulo `width`. So sites that stay in the window keep their
    slots.

    Args:
        middle: the site in the middle of the window.
        width: number of sites along a side, odd.
    """
    xp = namespace(middle)
    slots = np.stack(np.divmod(np.arange(width**2), width), axis=-1)
    corner = middle[..., None, :] - width // 2
    return xp.astype(corner + (slots - corner) % width, xp.int32)
