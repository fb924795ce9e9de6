"""Confidence intervals, seeded and reproducible to the byte."""

from __future__ import annotations

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


def bootstrap_mean(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean at 95 % (Efron and Tibshirani 1993, section 13.3).

    Args:
        values: (n,) one per independent unit.
        seed: of the resampling.

    Returns:
        Lower and upper end; NaN where there are no values, the mean twice where there is one.
    """
    values = np.asarray(values, float)
    if not len(values):
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
