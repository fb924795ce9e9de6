"""Figures of comparisons with 95 % intervals, over blocks and sessions.

A figure is a mean over neurons of a ratio of sums over blocks, such as bits per spike. Its
intervals are those of a mean of blocks, each of which counts as the figure plus its influence on
it (the linear term; Efron and Tibshirani 1993, section 22.6); the differences of two figures are
paired, block by block. With `LEAST_SESSIONS` sessions these are what is drawn, blocks and all;
with fewer, blocks are drawn within each session, and the interval speaks of these sessions alone.
Neurons are not drawn: it speaks of these neurons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vnl_envs.statistics.intervals import around, bootstrap

LEAST_SESSIONS = 5


@dataclass(frozen=True)
class Figure:
    """A figure of one or several sessions.

    Attributes:
        value: it.
        parts: (N,) by block, of mean `value`: the figure plus the block's influence.
        session: (N,) the session of each.
    """

    value: float
    parts: np.ndarray
    session: np.ndarray

    def interval(self, seed: int = 0) -> tuple[float, float]:
        """95 %; NaN where there are too few blocks."""
        if not math.isfinite(self.value):
            return math.nan, math.nan
        many = len(np.unique(self.session)) >= LEAST_SESSIONS
        units, strata = (self.session, None) if many else (None, self.session)
        return around(self.value, bootstrap(self.parts, units, strata, seed=seed))

    def less(self, other: Figure) -> Figure:
        """The paired difference."""
        return Figure(self.value - other.value, self.parts - other.parts, self.session)

    def record(self) -> dict[str, float | None]:
        """For JSON."""
        low, high = self.interval()
        return {"value": _plain(self.value), "low": _plain(low), "high": _plain(high)}


def ratio_mean(gain: np.ndarray, scale: np.ndarray, session: str) -> Figure:
    """The mean over rows of summed gains over summed scales, both (U, blocks), of one session.

    Rows whose scale is 0 are left out.
    """
    known = scale.sum(axis=1) > 0
    gain, scale = gain[known], scale[known]
    blocks = gain.shape[1]
    names = np.full(blocks, session)
    if not len(gain):
        return Figure(math.nan, np.full(blocks, math.nan), names)
    total = scale.sum(axis=1, keepdims=True)
    ratio = gain.sum(axis=1, keepdims=True) / total
    influence = blocks * (gain - ratio * scale) / total
    # A block without anything that counts says nothing.
    seen = scale.any(axis=0)
    parts = ratio.mean() + influence.mean(axis=0) * seen.sum() / blocks
    return Figure(float(ratio.mean()), parts[seen], names[seen])


def pooled(figures: list[tuple[Figure, int]]) -> Figure:
    """One figure of several sessions, each with its number of neurons as weight."""
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
        return Figure(value, np.concatenate(parts), sessions)
    # Where sessions are drawn, they differ in their levels, too.
    levels = [value + (f.value - value) * (w / total) * len(known) for f, w in known]
    return Figure(value, np.array(levels), np.array([f.session[0] for f, _ in known]))


def _plain(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
