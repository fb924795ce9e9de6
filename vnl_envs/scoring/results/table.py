"""The episodes of a task and tier as arrays, and estimates from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vnl_envs.scoring.documents.schema.result import EpisodeResult, Estimate
from vnl_envs.scoring.documents.schema.suite import Suite
from vnl_envs.scoring.documents.suites import Spec, episodes
from vnl_envs.scoring.results.episodes import completed, finite
from vnl_envs.statistics.intervals import UNBOUNDED, around, bootstrap

NOTHING = Estimate(value=None, low=None, high=None, units=0)


@dataclass(frozen=True)
class Table:
    """Episodes of one task and tier, (N,) each.

    Attributes:
        results: what was recorded.
        score: the primary metric.
        unit: the independent unit of each.
        stratum: see `Cell`.
        shared: what other tiers may have too: stratum and clip.
        in_primary: whether it counts.
    """

    results: Sequence[EpisodeResult]
    score: np.ndarray
    unit: np.ndarray
    stratum: np.ndarray
    shared: np.ndarray
    in_primary: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[tuple[Spec, EpisodeResult]]) -> Table:
        """From episodes in the suite's order."""
        return cls(
            results=[result for _, result in rows],
            score=np.array([result.score for _, result in rows], float),
            unit=np.array([_unit(spec) for spec, _ in rows]),
            stratum=np.array([spec.cell.stratum for spec, _ in rows]),
            shared=np.array([f"{spec.cell.stratum}|{spec.cell.unit}" for spec, _ in rows]),
            in_primary=np.array([spec.cell.counted for spec, _ in rows], bool),
        )

    def where(self, chosen: np.ndarray) -> Table:
        """Some of the episodes, by (N,) bool."""
        return Table(
            [self.results[i] for i in np.flatnonzero(chosen).tolist()],
            self.score[chosen],
            self.unit[chosen],
            self.stratum[chosen],
            self.shared[chosen],
            self.in_primary[chosen],
        )

    def counted(self) -> Table:
        """Those that count."""
        return self.where(self.in_primary)

    def uncounted(self) -> Table:
        """Those that do not."""
        return self.where(~self.in_primary)

    def beside(self, nominal: Table) -> tuple[Table, np.ndarray]:
        """Joined with the nominal episodes that this tier's are held against, those of the same
        clips or widths; and which are the tier's, (N,) bool.
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
        """How many independent units there are."""
        return len(set(self.unit.tolist()))

    def resampling(self) -> np.ndarray:
        """The strata of the bootstrap, (N,): those of a single unit are one together."""
        pairs = {*zip(self.unit.tolist(), self.stratum.tolist(), strict=True)}
        sizes = Counter(stratum for _, stratum in pairs)
        return np.array([s if sizes[s] > 1 else "" for s in self.stratum.tolist()], str)


def tabulate(suite: Suite, results: Iterable[EpisodeResult]) -> dict[str, dict[str, Table]]:
    """Task -> tier -> its episodes.

    Raises:
        ScoringError: see `completed`.
    """
    rows: dict[str, dict[str, list[tuple[Spec, EpisodeResult]]]] = {}
    for spec, result in zip(episodes(suite), completed(suite, results), strict=True):
        rows.setdefault(spec.task, {}).setdefault(spec.tier, []).append((spec, result))
    return {
        task: {tier: Table.of(own) for tier, own in tiers.items()} for task, tiers in rows.items()
    }


def _unit(spec: Spec) -> str:
    """Clips are the same in all tiers, which are compared on them; what is drawn is not."""
    return spec.cell.unit or f"{spec.tier}/{spec.cell.id}/{spec.number}"


def mean(values: np.ndarray, table: Table, bounds: tuple[float, float] = UNBOUNDED) -> Estimate:
    if not len(values):
        return NOTHING
    ends = bootstrap(values, table.unit, table.resampling(), bounds=bounds)
    return estimate(float(values.mean()), ends, table.units)


def estimate(value: float, ends: tuple[float, float], units: int) -> Estimate:
    """A mean in its interval, or with none where the ends are not known."""
    low, high = map(finite, around(value, ends))
    return Estimate(value=value, low=low, high=high, units=units)
