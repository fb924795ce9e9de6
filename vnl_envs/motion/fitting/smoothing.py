"""Low-pass filters that keep a motion's velocity at both ends."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

_REACH = 4.0
"""Half width of the window of `gaussian_filter1d`, standard deviations."""


def low_pass(values: np.ndarray, sigma: float) -> np.ndarray:
    """Values (T, ...) after a Gaussian filter over time, sigma in frames.

    Beyond its ends a path is reflected through its end values, so that its velocity is kept. Even
    reflection, the usual default, would stop every motion at its ends.
    """
    margin = int(np.ceil(_REACH * sigma)) + 1
    width = [(margin, margin)] + [(0, 0)] * (values.ndim - 1)
    padded = np.pad(values, width, "reflect", reflect_type="odd")
    return gaussian_filter1d(padded, sigma, axis=0, truncate=_REACH)[margin : margin + len(values)]
