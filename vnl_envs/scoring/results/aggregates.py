"""Aggregates of a task beside its primary metric.

A new one is a function and an entry of `AGGREGATES`, from which results, comparisons, tables and
pages take them.
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
    """A difference with its 95 % interval, whose ends are NaN if there is only one unit."""

    difference: float
    low: float
    high: float


SHARE = "%"


@dataclass(frozen=True)
class Aggregate:
    """An aggregate of a task in a tier.

    Attributes:
        name: name in results.
        heading: heading of its column.
        unit: `SHARE`, or the unit of its value, such as "m".
        of: function of the tier's episodes and the nominal ones that returns the estimate; None if
            there is none.
        nominal: whether it belongs to the nominal tier, else to all others.
        difference: function of the tier's and the nominal episodes of one policy, then of another,
            that returns their difference; None if the aggregate is not compared.
    """

    name: str
    heading: str
    unit: str
    of: Callable[[Table, Table], Estimate | None]
    nominal: bool = False
    difference: Callable[[Table, Table, Table, Table], Difference | None] | None = None


def retention(table: Table, nominal: Table) -> Estimate | None:
    """The mean divided by that of the matching nominal episodes; None if the latter is 0."""
    both, in_tier = table.beside(nominal)
    if not in_tier.any() or not both.score[~in_tier].any():
        return None
    ends = bootstrap_ratio(both.score, in_tier, both.unit, both.resampling())
    value = float(table.score.mean() / both.score[~in_tier].mean())
    return estimate(value, ends, table.units)


def retention_difference(
    a: Table, a_nominal: Table, b: Table, b_nominal: Table
) -> Difference | None:
    """The retention of `a` minus that of `b`, in the same episodes."""
    (both_a, in_tier), (both_b, _) = a.beside(a_nominal), b.beside(b_nominal)
    if not (both_a.score[~in_tier].any() and both_b.score[~in_tier].any()):
        return None
    ends = bootstrap_ratio_difference(
        both_a.score, both_b.score, in_tier, both_a.unit, both_a.resampling()
    )
    values = [float(x[in_tier].mean() / x[~in_tier].mean()) for x in (both_a.score, both_b.score)]
    return Difference(values[0] - values[1], *ends)


def threshold_width(table: Table, nominal: Table) -> Estimate | None:
    """The width, m, at which the score is 1/2; None if the strata are not widths."""
    if not _is_ladder(table):
        return None
    found = threshold.width_at_half(table.score, table.stratum, table.unit)
    return None if found is None else estimate(*found, table.units)


def _is_ladder(table: Table) -> bool:
    """Whether the strata are numbers."""
    try:
        return len({float(stratum) for stratum in table.stratum.tolist()}) > 1
    except ValueError:
        return False


AGGREGATES = (
    Aggregate("retention", "Kept", SHARE, retention, difference=retention_difference),
    Aggregate("threshold_width", "Width at 50 %", "m", threshold_width, nominal=True),
)
