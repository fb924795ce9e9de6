"""The scores of a result from its episodes. `docs/scoring.md` has the formulas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from vnl_envs.problems import Code, problem
from vnl_envs.scoring.documents.schema.board import Anchors
from vnl_envs.scoring.documents.schema.result import EpisodeResult, Estimate, TaskScore, TierScore
from vnl_envs.scoring.documents.schema.suite import Primary, Suite, SuiteTask
from vnl_envs.scoring.documents.suites import NOMINAL, metric_ranges
from vnl_envs.scoring.results.aggregates import AGGREGATES
from vnl_envs.scoring.results.table import Table, estimate, mean, tabulate
from vnl_envs.statistics.intervals import UNBOUNDED, bootstrap


def aggregate(
    suite: Suite, anchors: Anchors, results: Iterable[EpisodeResult], part: Suite | None = None
) -> tuple[dict[str, TaskScore], Estimate]:
    """The score of each task, and the overall one.

    Args:
        suite: suite of the episodes.
        anchors: anchors of the suite.
        results: episodes in any order; missing ones count 0.
        part: `Suite.restricted` part of the suite to score; None is the whole suite.

    Raises:
        ScoringError: see `completed`, or the anchors are of another suite.
    """
    check_anchors(suite, anchors)
    scope = part or suite
    tables = tabulate(scope, results)
    tasks = {
        task.id: _task_score(task, _random(anchors, task.id), tables[task.id])
        for task in scope.tasks
    }
    return tasks, _overall(scope, anchors, tables)


def check_anchors(suite: Suite, anchors: Anchors) -> None:
    """Check that anchors belong to a suite, by its SHA-256.

    Raises:
        ScoringError: they are of another suite, or a random score is not in [0, ceiling).
    """
    of = anchors.suite
    if of.sha256 != suite.sha256:
        here = f"these are not the anchors of {suite.name} with SHA-256 {suite.sha256[:12]}"
        message = f"{here}, but of one with {of.sha256[:12]}; run leaderboard.make_anchors"
        raise problem(Code.VERSION, f"anchors of {of.name}", message)
    for task in suite.tasks:
        random = anchors.tasks[task.id].primary.value if task.id in anchors.tasks else None
        if random is None or not 0 <= random < task.primary.ceiling:
            message = f"must be at least 0 and less than {task.primary.ceiling:g}, got {random}"
            raise problem(Code.SCHEMA, f"anchors of {of.name}: {task.id}", message)


def primaries(suite: Suite, results: Iterable[EpisodeResult]) -> dict[str, dict[str, Estimate]]:
    """The primary metric by task and tier, for anchors."""
    tables = tabulate(suite, results)
    return {
        task.id: {tier: _primary(task.primary, t.counted()) for tier, t in tables[task.id].items()}
        for task in suite.tasks
    }


def _task_score(task: SuiteTask, random: float, tiers: Mapping[str, Table]) -> TaskScore:
    nominal = tiers[NOMINAL]
    others = nominal.uncounted()
    return TaskScore(
        tiers={
            tier: _tier_score(task, random, tier, table, nominal.counted())
            for tier, table in tiers.items()
        },
        uncounted=_primary(task.primary, others) if others.units else None,
    )


def _tier_score(
    task: SuiteTask, random: float, tier: str, table: Table, nominal: Table
) -> TierScore:
    primary, counted = task.primary, table.counted()
    found = _primary(primary, counted)
    here = [a for a in AGGREGATES if a.nominal == (tier == NOMINAL)]
    figures = {a.name: a.of(counted, nominal) for a in here}
    strata = list(dict.fromkeys(table.stratum.tolist()))
    return TierScore(
        primary=found,
        normalised=_normalised(found, random, primary.ceiling),
        aggregates={name: figure for name, figure in figures.items() if figure},
        metrics=_metrics(counted, metric_ranges(task.id)),
        strata={s: _primary(primary, table.where(table.stratum == s)) for s in strata if s},
        episodes=len(table.results),
        failed=dict(sorted(Counter(r.reason for r in table.results if r.reason).items())),
    )


def _primary(primary: Primary, table: Table) -> Estimate:
    """The mean of the scores."""
    return mean(table.score, table, (0.0, primary.ceiling))


def _metrics(table: Table, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Estimate]:
    """The mean of each metric over the episodes in which it is finite."""
    names = dict.fromkeys(name for result in table.results for name in result.metrics)
    estimates = {}
    for name in names:
        values = [result.metrics.get(name) for result in table.results]
        known = np.array([value is not None for value in values])
        finite = np.array([value for value in values if value is not None], float)
        estimates[name] = mean(finite, table.where(known), ranges.get(name, UNBOUNDED))
    return estimates


def _normalised(estimate: Estimate, random: float, ceiling: float) -> Estimate:
    """Normalise an estimate: 0 is the random policy, whose own uncertainty is ignored, 1 the
    ceiling.
    """

    def scaled(value: float | None) -> float | None:
        return None if value is None else (value - random) / (ceiling - random)

    return Estimate(
        value=scaled(estimate.value),
        low=scaled(estimate.low),
        high=scaled(estimate.high),
        units=estimate.units,
    )


class OverallSample(NamedTuple):
    """The counted nominal episodes of all tasks, whose weighted mean is the overall score.

    Attributes:
        values: (N,) normalised scores.
        units, strata, weights: (N,) see `bootstrap`; every task weighs the same.
        least: least possible value.
    """

    values: np.ndarray
    units: np.ndarray
    strata: np.ndarray
    weights: np.ndarray
    least: float


def overall_sample(
    suite: Suite, anchors: Anchors, tables: Mapping[str, Mapping[str, Table]]
) -> OverallSample:
    """The sample for the overall score, from the tables of `tabulate`."""
    values, units, strata, weights, least = [], [], [], [], []
    for task in suite.tasks:
        table = tables[task.id][NOMINAL].counted()
        random, ceiling = _random(anchors, task.id), task.primary.ceiling
        values.append((table.score - random) / (ceiling - random))
        units.append(np.char.add(f"{task.id}|", table.unit))
        strata.append(np.char.add(f"{task.id}|", table.resampling()))
        weights.append(np.full(len(table.score), 1 / (len(suite.tasks) * len(table.score))))
        least.append((0.0 - random) / (ceiling - random))
    return OverallSample(
        np.concatenate(values),
        np.concatenate(units),
        np.concatenate(strata),
        np.concatenate(weights),
        min(least),
    )


def _overall(suite: Suite, anchors: Anchors, tables: Mapping[str, Mapping[str, Table]]) -> Estimate:
    """The mean over tasks of the normalised nominal scores, as one weighted mean of episodes."""
    sample = overall_sample(suite, anchors, tables)
    ends = bootstrap(
        sample.values,
        sample.units,
        sample.strata,
        sample.weights,
        bounds=(sample.least, max(1.0, float(sample.values.max()))),
    )
    value = float(np.sum(sample.values * sample.weights))
    return estimate(value, ends, len(set(sample.units.tolist())))


def _random(anchors: Anchors, task_id: str) -> float:
    value = anchors.tasks[task_id].primary.value
    assert value is not None
    return value
