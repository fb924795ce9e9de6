"""Aggregates of an algorithm's scores over its training seeds.

They are those of Agarwal et al. (2021), "Deep reinforcement learning at the edge of the statistical
precipice", with their stratified bootstrap: every resample draws, for each task, as many of its
runs as there are. Scores are (runs, tasks), normalised. All functions refuse fewer than `MIN_SEEDS`
runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vnl_envs.statistics.intervals import percentiles
from vnl_envs.statistics.resampling import RESAMPLES

MIN_SEEDS = 5
"""With fewer runs there are too few different resamples for a percentile interval."""


class Aggregate(NamedTuple):
    """An aggregate over runs and tasks, with its 95 % interval."""

    value: float
    low: float
    high: float


def iqm(scores: Any, seed: int = 0) -> Aggregate:
    """Interquartile mean: the mean of the middle half of all runs of all tasks.

    Args:
        scores: (runs, tasks) normalised scores.
        seed: seed of the resampling.

    Raises:
        ValueError: there are fewer than `MIN_SEEDS` runs, or a score is not finite.
    """
    return _aggregate(_iqm, _runs("scores", scores), seed)


def optimality_gap(scores: Any, target: float = 1.0, seed: int = 0) -> Aggregate:
    """Mean distance of runs below `target`; scores above it count as `target`.

    Arguments and errors are those of `iqm`.
    """
    return _aggregate(
        lambda runs: target - np.minimum(runs, target).mean(axis=(-2, -1)),
        _runs("scores", scores),
        seed,
    )


def performance_profile(scores: Any, thresholds: Sequence[float], seed: int = 0) -> list[Aggregate]:
    """Fraction of all runs of all tasks above each threshold.

    Arguments and errors are those of `iqm`.
    """
    runs = _runs("scores", scores)
    resampled = _resampled(runs, seed)
    return [
        Aggregate(
            float((runs > threshold).mean()),
            *percentiles((resampled > threshold).mean(axis=(1, 2))),
        )
        for threshold in thresholds
    ]


def probability_of_improvement(a: Any, b: Any, seed: int = 0) -> Aggregate:
    """Probability that a run of `a` beats a run of `b`, averaged over tasks; a tie counts half.

    Args:
        a, b: (runs, tasks) scores; the numbers of runs may differ.
        seed: seed of the resampling.

    Raises:
        ValueError: see `iqm`, or the numbers of tasks differ.
    """
    a, b = _runs("a", a), _runs("b", b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"a and b must be of the same tasks, got {a.shape[1]} and {b.shape[1]}")
    rng = np.random.default_rng(seed)
    drawn = (_resampled(a, rng), _resampled(b, rng))
    return Aggregate(float(_improvement(a, b)), *percentiles(_improvement(*drawn)))


def _iqm(runs: np.ndarray) -> np.ndarray:
    """Interquartile mean as in `scipy.stats.trim_mean(…, 0.25)`: whole runs are cut, (...,)."""
    flat = np.sort(runs.reshape(*runs.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return flat[..., cut : flat.shape[-1] - cut].mean(axis=-1)


def _improvement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    first, second = a[..., :, None, :], b[..., None, :, :]
    return ((first > second) + 0.5 * (first == second)).mean(axis=(-3, -2, -1))


def _aggregate(
    figure: Callable[[np.ndarray], np.ndarray], runs: np.ndarray, seed: int
) -> Aggregate:
    return Aggregate(float(figure(runs)), *percentiles(figure(_resampled(runs, seed))))


def _resampled(runs: np.ndarray, seed: int | np.random.Generator) -> np.ndarray:
    """Stratified resamples of the runs, (RESAMPLES, runs, tasks)."""
    draws = np.random.default_rng(seed).integers(len(runs), size=(RESAMPLES, *runs.shape))
    return runs[draws, np.arange(runs.shape[1])]


def _runs(name: str, scores: Any) -> np.ndarray:
    scores = np.asarray(scores, float)
    if scores.ndim != 2 or not scores.size or not np.isfinite(scores).all():
        raise ValueError(
            f"{name} must be finite numbers of shape (runs, tasks), got {scores.shape}"
        )
    if len(scores) < MIN_SEEDS:
        raise ValueError(f"{name} must have at least {MIN_SEEDS} training seeds, got {len(scores)}")
    return scores
