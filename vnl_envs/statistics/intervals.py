"""Confidence intervals, seeded and reproducible to the byte.

`docs/scoring_statistics.md` says where each is used and what its measured coverage is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vnl_envs.statistics.resampling import Sample, finite_numbers
from vnl_envs.utils import checks

LEVEL = 0.95
TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)

Z = 1.959963984540054
"""Quantile of the standard normal distribution at the upper tail."""

STEADYING, STEADYING_BOUNDED = 0.04, 0.14
"""Share of the sample's own variance in every resample's variance, see `bootstrap`; for values
without and with bounds. With them, coverage is 93 to 97 % for 50 skewed scores without bounds and
for 50 scores piled up at a bound. A larger share lowers the coverage of the former, a smaller one
raises that of the latter (`benchmarks/interval_coverage.py`)."""

UNBOUNDED = (-math.inf, math.inf)
"""Bounds of values that can be any number."""

FLIPS = 9999
"""Number of random sign flips in the permutation test, beside the data as they are."""
_FLIPS_AT_ONCE = 1000


def percentiles(figures: np.ndarray) -> tuple[float, float]:
    """The ends of the middle 95 % of estimates (R,) from resamples."""
    low, high = np.quantile(figures, TAILS)
    return float(low), float(high)


def around(estimate: float, ends: tuple[float, float]) -> tuple[float, float]:
    """The ends of an interval, moved to the estimate if rounding has put it outside; NaN stays."""
    low, high = ends
    return (estimate if estimate < low else low), (estimate if estimate > high else high)


def bootstrap(
    values: Any,
    units: Sequence[Any] | np.ndarray | None = None,
    strata: Sequence[Any] | np.ndarray | None = None,
    weights: Any = None,
    seed: int = 0,
    bounds: tuple[float, float] = UNBOUNDED,
) -> tuple[float, float]:
    """Studentised bootstrap interval of a mean at 95 % (Efron and Tibshirani 1993, section 12.5).

    The estimate is the weighted mean of all episodes. Each resample draws whole units, with all
    their episodes, within each stratum; the strata keep their shares of the weight. The deviation
    of a resample is divided by its own standard error. A share of the sample's variance is mixed
    into this error: otherwise a resample of nearly equal values would be infinitely far off. A
    stratum of one unit shows no spread. Such strata are joined with each other, or else with the
    smallest stratum ("collapsed", Cochran 1977, section 5A.12).

    Args:
        values: (N,) values, one per episode.
        units: (N,) independent unit of each episode, such as its clip; None makes each its own.
        strata: (N,) stratum of each episode's unit; None is one stratum.
        weights: (N,) positive weights of the episodes; None is equal weights.
        seed: seed of the resampling.
        bounds: least and greatest possible value. The interval stays within. If all values lie on
            a bound, the interval is that of `wilson` with as many trials as units, provided that
            each unit is a single episode of equal weight in one stratum, or that resampling shows
            no spread.

    Returns:
        Lower and upper end; NaN if there are fewer than two units, which show no spread.

    Raises:
        ValueError: lengths differ, a value is not finite or out of bounds, a weight is not
            positive, or a unit lies in several strata.
    """
    values = finite_numbers("values", values)
    if not len(values):
        return math.nan, math.nan
    if values.min() < bounds[0] or values.max() > bounds[1]:
        raise ValueError(f"values must lie within {bounds}")
    sample = Sample.of(values[:, None], units, strata, weights)
    if not sample.shows_spread:
        return math.nan, math.nan
    bounded = math.isfinite(bounds[0]) and math.isfinite(bounds[1])
    mean, variance = sample.moments()
    on_bounds = bounded and np.isin(values, bounds).all()
    if on_bounds and (sample.plain or not variance.any()):
        return _scaled_wilson(float(mean[0, 0]), sample.count, bounds)
    means, variances = sample.resampled_moments(seed)
    low, high = _studentised(
        mean[0, 0],
        variance[0, 0, 0],
        means[:, 0],
        variances[:, 0, 0],
        STEADYING_BOUNDED if bounded else STEADYING,
    )
    return max(low, bounds[0]), min(high, bounds[1])


def bootstrap_ratio(
    values: Any,
    top: Any,
    units: Sequence[Any] | np.ndarray | None = None,
    strata: Sequence[Any] | np.ndarray | None = None,
    weights: Any = None,
    seed: int = 0,
) -> tuple[float, float]:
    """Studentised bootstrap interval of a ratio of two means at 95 %, such as a retention.

    A unit with episodes in both numerator and denominator is drawn with both, so that their common
    deviation cancels. Other units are independent. The standard error is that of the delta method.

    Args:
        values: (N,) values, one per episode.
        top: (N,) bool, whether an episode belongs to the numerator, else to the denominator.
        units, strata, weights, seed: see `bootstrap`; weights are relative within each side.

    Returns:
        Lower and upper end; NaN if the denominator's mean is 0, or if a side has no episodes or
        only one unit.

    Raises:
        ValueError: see `bootstrap`.
    """
    return _ratios(finite_numbers("values", values)[:, None], top, units, strata, weights, seed)


def bootstrap_ratio_difference(
    a: Any,
    b: Any,
    top: Any,
    units: Sequence[Any] | np.ndarray | None = None,
    strata: Sequence[Any] | np.ndarray | None = None,
    weights: Any = None,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of the ratio of `a` minus that of `b`, which are scores in the same episodes.

    Arguments, returns and errors are those of `bootstrap_ratio`.
    """
    both = np.stack(_shared(a, b), axis=1)
    return _ratios(both, top, units, strata, weights, seed)


class Paired(NamedTuple):
    """Comparison of the scores `a` and `b` on shared episodes.

    Attributes:
        difference: mean of `a` minus mean of `b`.
        low, high: 95 % interval of the difference; NaN if there is only one unit.
        p: p-value of the hypothesis that there is no difference.
    """

    difference: float
    low: float
    high: float
    p: float

    @property
    def separates(self) -> bool:
        """Whether p < 0.05."""
        return self.p < 1 - LEVEL


def paired_test(
    a: Any,
    b: Any,
    units: Sequence[Any] | np.ndarray | None = None,
    strata: Sequence[Any] | np.ndarray | None = None,
    weights: Any = None,
    seed: int = 0,
) -> Paired:
    """Compare two policies by their scores in the same episodes.

    The interval is that of `bootstrap` for the differences. The test swaps the two policies within
    random units (Fisher 1935, section 21; Efron and Tibshirani 1993, section 15.2). If the policies
    are equal, every swap is as likely as the observed order. So the level holds for few units and
    for any distribution of scores, whereas a bootstrap's p-value needs many units. Swaps do not
    change the sum of squares, so that their order by the mean is their order by Student's t. With
    many units the level therefore also holds for policies that are equal only in the mean (Janssen
    1997). Units without a difference have no influence.

    Args:
        a, b: (N,) scores, one per episode.
        units, strata, weights, seed: see `bootstrap`.

    Raises:
        ValueError: see `bootstrap`, or there are no episodes.
    """
    a, b = _shared(a, b)
    if not len(a):
        raise ValueError("there are no shared episodes to compare")
    ends = bootstrap(a - b, units, strata, weights, seed)
    parts = Sample.of((a - b)[:, None], units, strata, weights).contributions()
    difference = float(parts.sum())
    return Paired(difference, *around(difference, ends), _sign_flip_p(parts, seed))


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's interval of a proportion at 95 % (Wilson 1927; Brown, Cai and DasGupta 2001).

    Args:
        successes: number of successes, possibly fractional.
        n: number of independent trials.

    Returns:
        Lower and upper end; NaN if n is 0.

    Raises:
        ValueError: `successes` is not in [0, n], or `n` is not an integer of at least 0.
    """
    n = checks.integer("n", n, 0)
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie between 0 and n = {n}, got {successes!r}")
    if not n:
        return math.nan, math.nan
    p, share = successes / n, Z**2 / n
    centre = (p + share / 2) / (1 + share)
    half = math.sqrt(p * (1 - p) * share + share**2 / 4) / (1 + share)
    # Exactly 0 and 1, which rounding could miss.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def _ratios(
    values: np.ndarray, top: Any, units: Any, strata: Any, weights: Any, seed: int
) -> tuple[float, float]:
    """Interval of the ratio of one score (N, 1), or of the difference of two ratios (N, 2)."""
    top = np.asarray(top, bool)
    if top.shape != (len(values),):
        raise ValueError(f"top must have {len(values)} entries, one per value, got {top.shape}")
    if top.all() or not top.any():
        return math.nan, math.nan
    sides = np.tile(np.stack([top, ~top], axis=1), values.shape[1])
    sample = Sample.of(values.repeat(2, axis=1) * sides, units, strata, weights, sides)
    if not sample.shows_spread:
        return math.nan, math.nan
    estimate, variance = _ratio(*sample.moments())
    if not np.isfinite(estimate[0]):
        return math.nan, math.nan
    estimates, variances = _ratio(*sample.resampled_moments(seed))
    usable = np.isfinite(estimates)
    return _studentised(estimate[0], variance[0], estimates[usable], variances[usable], STEADYING)


def _ratio(means: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratios of means (R, K) and their variances by the delta method, (R,) each.

    The ratio is the first mean over the second, minus the third over the fourth if K is 4.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = means[:, ::2] / means[:, 1::2]
        sign = np.array([1, -1])[: ratios.shape[1]]
        gradient = sign[:, None] * np.stack([np.ones_like(ratios), -ratios], axis=-1)
        gradient = (gradient / means[:, 1::2, None]).reshape(means.shape)
        products = gradient[:, :, None] * gradient[:, None, :]
        variance = (products * covariance).sum(axis=(1, 2))
    return (ratios * sign).sum(axis=1), np.maximum(variance, 0)


def _sign_flip_p(parts: np.ndarray, seed: int) -> float:
    """Two-sided p-value of a sum under random signs of its parts.

    It is never 0, as the observed signs count as one of the draws (Phipson and Smyth 2010).
    """
    parts = parts[parts != 0]
    if not len(parts):
        return 1.0
    rng = np.random.default_rng(seed)
    # Scores are often multiples of 1/5. Sums that differ only by rounding count as equal.
    extreme = abs(parts.sum()) - 1e-9 * np.abs(parts).sum()
    reached = 0
    for start in range(0, FLIPS, _FLIPS_AT_ONCE):
        size = (min(_FLIPS_AT_ONCE, FLIPS - start), len(parts))
        kept = rng.integers(0, 2, size, dtype=np.int8).astype(bool)
        sums = 2 * np.where(kept, parts, 0).sum(axis=1) - parts.sum()
        reached += int((np.abs(sums) >= extreme).sum())
    return (1 + reached) / (1 + FLIPS)


def _studentised(
    estimate: float,
    variance: float,
    estimates: np.ndarray,
    variances: np.ndarray,
    steadying: float,
) -> tuple[float, float]:
    """Interval from resampled estimates (R,) and variances (R,), see `bootstrap`."""
    estimate, variance = float(estimate), float(variance)
    if variance == 0:
        return estimate, estimate
    steadied = (1 - steadying) * variances + steadying * variance
    low, high = percentiles((estimates - estimate) / np.sqrt(steadied))
    error = math.sqrt(variance)
    return estimate - high * error, estimate - low * error


def _scaled_wilson(mean: float, n: int, bounds: tuple[float, float]) -> tuple[float, float]:
    """Wilson's interval of a mean of n units, each of which lies on one of two bounds."""
    span = bounds[1] - bounds[0]
    share = min(max((mean - bounds[0]) / span, 0.0), 1.0)
    low, high = wilson(share * n, n)
    # The exact bounds, without rounding.
    return (
        bounds[0] + span * low if low > 0 else bounds[0],
        bounds[0] + span * high if high < 1 else bounds[1],
    )


def _shared(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    a, b = finite_numbers("a", a), finite_numbers("b", b)
    if len(a) != len(b):
        raise ValueError(f"a and b must be of the same episodes, got {len(a)} and {len(b)} scores")
    return a, b
