"""The episodes of a task and tier as arrays, and estimates from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vnl_envs.scoring.documents.schema.result import EpisodeResult, Estimate
from vnl_envs.scoring.documents.schema.suite import Spec, Suite
from vnl_envs.scoring.results.episodes import completed, finite
from vnl_envs.statistics.intervals import UNBOUNDED, around, bootstrap

NOTHING = Estimate(value=None, low=None, high=None, units=0)


@dataclass(frozen=True)
class Table:
    """N episodes of one task and tier, (N,) each.

    Attributes:
        results: records of the episodes.
        score: scores.
        unit: independent units.
        stratum: strata, see `Cell`.
        shared: keys of stratum and clip, by which episodes of other tiers match.
        in_primary: whether an episode counts in the primary metric, bool.
    """

    results: Sequence[EpisodeResult]
    score: np.ndarray
    unit: np.ndarray
    stratum: np.ndarray
    shared: np.ndarray
    in_primary: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[tuple[Spec, EpisodeResult]]) -> Table:
        """Make a table from episodes in the suite's order."""
        return cls(
            results=[result for _, result in rows],
            score=np.array([result.score for _, result in rows], float),
            unit=np.array([_unit(spec) for spec, _ in rows]),
            stratum=np.array([spec.cell.stratum for spec, _ in rows]),
            shared=np.array([f"{spec.cell.stratum}|{spec.cell.unit}" for spec, _ in rows]),
            in_primary=np.array([spec.cell.counted for spec, _ in rows], bool),
        )

    def where(self, chosen: np.ndarray) -> Table:
        """The episodes marked by (N,) bool."""
        return Table(
            [self.results[i] for i in np.flatnonzero(chosen).tolist()],
            self.score[chosen],
            self.unit[chosen],
            self.stratum[chosen],
            self.shared[chosen],
            self.in_primary[chosen],
        )

    def counted(self) -> Table:
        """The episodes that count in the primary metric."""
        return self.where(self.in_primary)

    def uncounted(self) -> Table:
        """The episodes that do not count in the primary metric."""
        return self.where(~self.in_primary)

    def beside(self, nominal: Table) -> tuple[Table, np.ndarray]:
        """Join the table with the matching nominal episodes, those of the same clips or widths.

        Returns:
            The joined table of M episodes, and (M,) bool, whether an episode is of this table.
        """
        other = nominal.where(np.isin(nominal.shared, self.shared))
        joined = Table(
            [*self.results, *other.results],
            np.concatenate([self.score, other.score]),
            np.concatenate([self.unit, other.unit]),
            np.concatenate([self.stratum, other.stratum]),
            np.concatenate([self.shared, other.shared]),
            np.concatenate([self.in_primary, other.in_primary]),
        )
        return joined, np.arange(len(joined.score)) < len(self.score)

    @property
    def units(self) -> int:
        """Number of independent units."""
        return len(set(self.unit.tolist()))

    def resampling(self) -> np.ndarray:
        """The strata of the bootstrap, (N,); those of a single unit are joined."""
        pairs = {*zip(self.unit.tolist(), self.stratum.tolist(), strict=True)}
        sizes = Counter(stratum for _, stratum in pairs)
        return np.array([s if sizes[s] > 1 else "" for s in self.stratum.tolist()], str)


def tabulate(suite: Suite, results: Iterable[EpisodeResult]) -> dict[str, dict[str, Table]]:
    """The episodes by task and tier.

    Raises:
        ScoringError: see `completed`.
    """
    rows: dict[str, dict[str, list[tuple[Spec, EpisodeResult]]]] = {}
    for spec, result in zip(suite.specs, completed(suite, results), strict=True):
        rows.setdefault(spec.task, {}).setdefault(spec.tier, []).append((spec, result))
    return {
        task: {tier: Table.of(own) for tier, own in tiers.items()} for task, tiers in rows.items()
    }


def _unit(spec: Spec) -> str:
    """The unit of an episode. Clips are shared by all tiers, drawn episodes are not."""
    return spec.cell.unit or f"{spec.tier}/{spec.cell.id}/{spec.number}"


def mean(values: np.ndarray, table: Table, bounds: tuple[float, float] = UNBOUNDED) -> Estimate:
    if not len(values):
        return NOTHING
    ends = bootstrap(values, table.unit, table.resampling(), bounds=bounds)
    return estimate(float(values.mean()), ends, table.units)


def estimate(value: float, ends: tuple[float, float], units: int) -> Estimate:
    """An estimate from a mean and the ends of its interval, which may be NaN."""
    low, high = map(finite, around(value, ends))
    return Estimate(value=value, low=low, high=high, units=units)
