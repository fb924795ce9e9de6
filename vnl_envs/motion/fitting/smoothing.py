"""Low-pass filters that leave a motion its velocity at both ends."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

_REACH = 4.0
"""Standard deviations after which `gaussian_filter1d` cuts its window off."""


def low_pass(values: np.ndarray, sigma: float) -> np.ndarray:
    """Values (T, ...) after a Gaussian filter over time, sigma in frames.

    Beyond its ends a path is reflected through its end values, so that it goes on with its
    velocity. Even reflection, the default of filters, would bring every motion to a stop there.
    """
    margin = int(np.ceil(_REACH * sigma)) + 1
    width = [(margin, margin)] + [(0, 0)] * (values.ndim - 1)
    padded = np.pad(values, width, "reflect", reflect_type="odd")
    return gaussian_filter1d(padded, sigma, axis=0, truncate=_REACH)[margin : margin + len(values)]
