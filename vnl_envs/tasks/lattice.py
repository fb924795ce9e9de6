"""Scenery on a square lattice, of which a window moves along with the body."""

from __future__ import annotations

import numpy as np

from vnl_envs.physics import Array, namespace


def window(middle: Array, width: int) -> Array:
    """Sites of the window around a site, (..., 2) int32 -> (..., width², 2) int32.

    A site stays in the slot that it has modulo `width`, so that only those in other rows or columns
    than before are new.

    Args:
        middle: of the window.
        width: sites along either side, an odd number.
    """
    xp = namespace(middle)
    slots = np.stack(np.divmod(np.arange(width**2), width), axis=-1)
    corner = middle[..., None, :] - width // 2
    return xp.astype(corner + (slots - corner) % width, xp.int32)
