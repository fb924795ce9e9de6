"""Resamples of episodes whose units, and not the episodes, are independent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 2000
"""Number of resamples."""


def resamples(
    units: Sequence[Any] | np.ndarray,
    strata: Sequence[Any] | np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Counts of each episode in each resample, for estimates other than means.

    Args:
        units, strata, seed: see `intervals.bootstrap`.

    Returns:
        (RESAMPLES, N) integers. The interval is the `percentiles` of the resamples' estimates.
    """
    sample = Sample.of(np.zeros((len(units), 1)), units, strata, None)
    counts = np.zeros((RESAMPLES, sample.count), np.int64)
    rows = np.arange(RESAMPLES)[:, None]
    for members, draws in sample.draws(seed):
        np.add.at(counts, (rows, members[draws]), 1)
    return counts[:, sample.unit]


@dataclass(frozen=True)
class Sample:
    """K scores of N episodes, summed by unit, in an order that depends only on these sums.

    Attributes:
        totals: (U, K) weighted sums of the scores.
        sizes: (U, K) sums of the weights.
        strata: indices of the units of each stratum.
        shares: (H, K) share of each stratum in the weight of a score.
        unit: (N,) unit of each episode.
    """

    totals: np.ndarray
    sizes: np.ndarray
    strata: list[np.ndarray]
    shares: np.ndarray
    unit: np.ndarray

    @classmethod
    def of(
        cls,
        values: np.ndarray,
        units: Any,
        strata: Any,
        weights: Any,
        known: np.ndarray | None = None,
    ) -> Sample:
        """The sample of values (N, K); `known` (N, K) marks the scores that an episode has."""
        n = len(values)
        unit = np.arange(n) if units is None else codes_of("units", units, n)
        group = np.zeros(n, np.int64) if strata is None else codes_of("strata", strata, n)
        weight = np.ones(n) if weights is None else finite_numbers("weights", weights)
        if len(weight) != n or (weight <= 0).any():
            raise ValueError(f"weights must be {n} positive numbers, one per value")
        weight = weight[:, None] * (np.ones_like(values) if known is None else known)
        count = int(unit.max()) + 1
        of_unit = np.zeros(count, np.int64)
        of_unit[unit] = group
        if (of_unit[unit] != group).any():
            raise ValueError("strata: all episodes of a unit must lie in the same one")
        totals, sizes = (
            np.stack([np.bincount(unit, column, count) for column in columns.T], axis=1)
            for columns in (values * weight, weight)
        )
        # Units that lack a score form strata of their own: otherwise some resamples would not
        # contain the score.
        kind = (sizes > 0) @ (1 << np.arange(sizes.shape[1]))
        members = _collapsed(_by_key(np.stack([kind, of_unit], axis=1)), kind)
        members = [_sorted(m, sizes, totals) for m in members]
        shares = np.stack([sizes[m].sum(axis=0) for m in members]) / sizes.sum(axis=0)
        return cls(totals, sizes, members, shares, unit)

    @property
    def count(self) -> int:
        """Number of units."""
        return len(self.totals)

    @property
    def shows_spread(self) -> bool:
        """Whether every stratum has more than one unit."""
        return all(len(members) > 1 for members in self.strata)

    @property
    def plain(self) -> bool:
        """Whether there is one stratum, and every unit is one episode of the same weight."""
        alike = bool((self.sizes == self.sizes[0]).all())
        return alike and len(self.strata) == 1 and self.count == len(self.unit)

    def draws(self, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each stratum, its n units, and the drawn ones of each resample (RESAMPLES, n)."""
        rng = np.random.default_rng(seed)
        return [(m, rng.integers(len(m), size=(RESAMPLES, len(m)))) for m in self.strata]

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Means of the K scores (1, K), and the covariance of these estimates (1, K, K)."""
        return self._moments([(m, np.arange(len(m))[None]) for m in self.strata])

    def resampled_moments(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The `moments` of every resample: (RESAMPLES, K) and (RESAMPLES, K, K)."""
        return self._moments(self.draws(seed))

    def contributions(self) -> np.ndarray:
        """Terms (U,) whose sum is the mean of the first score, in the order of the strata."""
        return np.concatenate(
            [
                share[0] * self.totals[m, 0] / self.sizes[m, 0].sum()
                for m, share in zip(self.strata, self.shares, strict=True)
            ]
        )

    def _moments(self, drawn: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """Stratified ratio estimates and their linearised variance (Cochran 1977, section 6.10)."""
        mean = np.zeros(self.totals.shape[1])
        offset, covariance = 0.0, 0.0
        for (members, draws), share in zip(drawn, self.shares, strict=True):
            n = len(members)
            sizes = self.sizes[members]
            center = _over(self.totals[members].sum(axis=0), sizes.sum(axis=0))
            mean = mean + share * center
            # About the stratum's mean, so that a common offset of all values costs no precision.
            residuals = (self.totals[members] - center * sizes)[draws]
            alike = (sizes == sizes[0]).all()
            drawn_sizes = sizes[:1] if alike else sizes[draws]
            drawn_size = n * drawn_sizes if alike else drawn_sizes.sum(axis=1)
            moved = _over(residuals.sum(axis=1), drawn_size)
            residuals -= moved[:, None] * drawn_sizes
            products = np.einsum("rnk,rnl->rkl", residuals, residuals)
            scale = share * _over(np.ones_like(drawn_size), drawn_size)
            offset = offset + share * moved
            covariance = covariance + (
                products * (scale[:, :, None] * scale[:, None, :]) * n / max(n - 1, 1)
            )
        return mean + offset, np.asarray(covariance)


def _over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """`top / bottom`; 0 where `bottom` is 0."""
    return np.divide(top, bottom, out=np.zeros(np.broadcast(top, bottom).shape), where=bottom > 0)


def _by_key(keys: np.ndarray) -> list[np.ndarray]:
    """Groups of indices of equal rows, sorted by row."""
    code = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    return [np.flatnonzero(code == c) for c in range(int(code.max()) + 1)]


def _collapsed(strata: list[np.ndarray], kind: np.ndarray) -> list[np.ndarray]:
    """Join strata of a single unit with others of the same kind, if there are any."""
    result = []
    for k in np.unique(kind):
        own = [m for m in strata if kind[m[0]] == k]
        large = [m for m in own if len(m) > 1]
        single = [m for m in own if len(m) == 1]
        if single:
            joined = np.concatenate(single)
            if len(joined) == 1 and large:
                smallest = min(range(len(large)), key=lambda i: len(large[i]))
                large[smallest] = np.concatenate([large[smallest], joined])
            else:
                large.append(joined)
        result += large
    return result


def _sorted(members: np.ndarray, sizes: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Members sorted by size and total, so that neither names nor positions matter."""
    return members[np.lexsort([*totals[members].T[::-1], *sizes[members].T[::-1]])]


def finite_numbers(name: str, values: Any) -> np.ndarray:
    """Values as an array (n,); a ValueError with the name if they are no finite numbers."""
    array = np.asarray(values, float)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a list of finite numbers")
    return array


def codes_of(name: str, labels: Any, n: int) -> np.ndarray:
    """Labels as integers from 0, (n,); a ValueError with the name if their number is another."""
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"{name} must have {n} entries, one per value, got {labels.shape}")
    return np.unique(labels, return_inverse=True)[1]
