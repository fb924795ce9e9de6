"""Figures of comparisons with 95 % intervals, over blocks and sessions.

A figure is a mean over neurons of a ratio of sums over blocks, such as bits per spike. Its
interval is that of a mean over blocks: each block has the value of the figure plus its influence
on it (the linear term; Efron and Tibshirani 1993, section 22.6). Differences of two figures are
paired block by block. From `LEAST_SESSIONS` sessions on, whole sessions are resampled. With fewer,
blocks are resampled within each session, and the interval refers to these sessions alone. Neurons
are not resampled: the interval refers to these neurons.

Blocks of a fold share a fitted model, and the folds' training sets overlap. So blocks vary less
about the figure than figures of new recordings would. Standard errors within a session are
therefore widened as in Nadeau and Bengio 2003 ("Inference for the generalization error", Machine
Learning 52), see `widening`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from vnl_envs.statistics.intervals import UNBOUNDED, around, bootstrap

LEAST_SESSIONS = 5


@dataclass(frozen=True)
class Figure:
    """A figure of one or several sessions.

    Attributes:
        value: value of the figure.
        parts: (N,) value plus influence of each block; the mean is `value`.
        session: (N,) session of each block.
        folds: number of folds of the cross-validation; None without one.
        bounds: least and greatest possible value; the interval stays within.
    """

    value: float
    parts: np.ndarray
    session: np.ndarray
    folds: int | None = None
    bounds: tuple[float, float] = UNBOUNDED

    def interval(self, seed: int = 0) -> tuple[float, float]:
        """The 95 % interval; NaN with too few blocks."""
        if not math.isfinite(self.value):
            return math.nan, math.nan
        many = len(np.unique(self.session)) >= LEAST_SESSIONS
        units, strata = (self.session, None) if many else (None, self.session)
        ends = bootstrap(self.parts, units, strata, seed=seed)
        # Sessions have models of their own.
        factor = widening(self.folds) if self.folds and not many else 1.0
        wide = [self.value + factor * (end - self.value) for end in ends]
        low, high = np.clip(wide, *self.bounds).tolist()
        return around(self.value, (low, high))

    def less(self, other: Figure) -> Figure:
        """The paired difference, this figure minus the other."""
        value, parts = self.value - other.value, self.parts - other.parts
        return dataclasses.replace(self, value=value, parts=parts, bounds=UNBOUNDED)

    def record(self) -> dict[str, float | None]:
        """Value and interval for JSON."""
        low, high = self.interval()
        return {"value": _plain(self.value), "low": _plain(low), "high": _plain(high)}


def widening(folds: int) -> float:
    """Factor of a standard error over the blocks of a K-fold cross-validation: √(1 + K n₂ / n₁).

    n₂ / n₁ = 1 / (K - 1) is the size of a test set over that of its training set.
    """
    return math.sqrt(1 + folds / (folds - 1))


def ratio_mean(
    gain: np.ndarray, scale: np.ndarray, session: str, folds: int | None = None
) -> Figure:
    """The mean over rows of summed gains over summed scales, both (U, blocks), of one session.

    Rows whose scale is 0 are left out. `folds` is that of `Figure`.
    """
    known = scale.sum(axis=1) > 0
    gain, scale = gain[known], scale[known]
    blocks = gain.shape[1]
    names = np.full(blocks, session)
    if not len(gain):
        return Figure(math.nan, np.full(blocks, math.nan), names, folds)
    total = scale.sum(axis=1, keepdims=True)
    ratio = gain.sum(axis=1, keepdims=True) / total
    influence = blocks * (gain - ratio * scale) / total
    # Blocks without any spikes or bins of the scale are left out.
    seen = scale.any(axis=0)
    parts = ratio.mean() + influence.mean(axis=0) * seen.sum() / blocks
    return Figure(float(ratio.mean()), parts[seen], names[seen], folds)


def pooled(figures: list[tuple[Figure, int]]) -> Figure:
    """One figure of several sessions, weighted by their numbers of neurons."""
    known = [(f, weight) for f, weight in figures if math.isfinite(f.value) and weight]
    if not known:
        return Figure(math.nan, np.array([math.nan]), np.array([""]))
    total = sum(weight for _, weight in known)
    value = sum(f.value * weight for f, weight in known) / total
    count = sum(len(f.parts) for f, _ in known)
    parts = [
        value + (f.parts - f.value) * (weight / total) * (count / len(f.parts))
        for f, weight in known
    ]
    sessions = np.concatenate([f.session for f, _ in known])
    if len(known) < LEAST_SESSIONS:
        return dataclasses.replace(
            known[0][0], value=value, parts=np.concatenate(parts), session=sessions
        )
    # Resampled sessions also differ in their values.
    levels = [value + (f.value - value) * (w / total) * len(known) for f, w in known]
    names = np.array([f.session[0] for f, _ in known])
    return dataclasses.replace(known[0][0], value=value, parts=np.array(levels), session=names)


def _plain(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
