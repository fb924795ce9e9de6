"""Figures of a task beside its primary metric.

A new one is a function and an entry of `AGGREGATES`: results, comparisons, tables and pages take
them from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from vnl_envs.scoring.documents.schema.result import Estimate
from vnl_envs.scoring.results.table import Table, estimate
from vnl_envs.statistics import threshold
from vnl_envs.statistics.intervals import bootstrap_ratio, bootstrap_ratio_difference


class Difference(NamedTuple):
    """A difference with its 95 % interval; NaN where there is but one unit."""

    difference: float
    low: float
    high: float


SHARE = "%"


@dataclass(frozen=True)
class Aggregate:
    """A figure of a task in a tier.

    Attributes:
        name: in results.
        heading: of its column.
        unit: `SHARE`, else of its value, such as "m".
        of: a tier's episodes and the nominal tier's -> the figure, None where there is none.
        nominal: whether it is one of the nominal tier, else of all others.
        difference: of two policies: episodes of a tier and nominal ones of the first, then of the
            second; None for figures that are not compared.
    """

    name: str
    heading: str
    unit: str
    of: Callable[[Table, Table], Estimate | None]
    nominal: bool = False
    difference: Callable[[Table, Table, Table, Table], Difference | None] | None = None


def retention(table: Table, nominal: Table) -> Estimate | None:
    """The mean over that of the nominal episodes beside it; None where that is 0."""
    both, in_tier = table.beside(nominal)
    if not in_tier.any() or not both.score[~in_tier].any():
        return None
    ends = bootstrap_ratio(both.score, in_tier, both.unit, both.resampling())
    value = float(table.score.mean() / both.score[~in_tier].mean())
    return estimate(value, ends, table.units)


def retention_difference(
    a: Table, a_nominal: Table, b: Table, b_nominal: Table
) -> Difference | None:
    """How much higher the retention of `a` is, in the same episodes."""
    (ours, in_tier), (theirs, _) = a.beside(a_nominal), b.beside(b_nominal)
    if not (ours.score[~in_tier].any() and theirs.score[~in_tier].any()):
        return None
    ends = bootstrap_ratio_difference(
        ours.score, theirs.score, in_tier, ours.unit, ours.resampling()
    )
    kept = [float(x[in_tier].mean() / x[~in_tier].mean()) for x in (ours.score, theirs.score)]
    return Difference(kept[0] - kept[1], *ends)


def half_width(table: Table, nominal: Table) -> Estimate | None:
    """Where the strata are widths: the width at which half of the gaps are cleared."""
    if not _is_ladder(table):
        return None
    found = threshold.half_width(table.score, table.stratum, table.unit)
    return None if found is None else estimate(*found, table.units)


def _is_ladder(table: Table) -> bool:
    """Whether the strata are numbers."""
    try:
        return len({float(stratum) for stratum in table.stratum.tolist()}) > 1
    except ValueError:
        return False


AGGREGATES = (
    Aggregate("retention", "Kept", SHARE, retention, difference=retention_difference),
    Aggregate("half_width", "Width at 50 %", "m", half_width, nominal=True),
)
