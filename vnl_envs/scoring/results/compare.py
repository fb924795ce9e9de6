"""Comparison of results: paired differences, rank groups, and algorithms over training seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from vnl_envs.problems import Code, Problem, ScoringError
from vnl_envs.scoring.documents.schema.board import Anchors
from vnl_envs.scoring.documents.schema.result import Result
from vnl_envs.scoring.documents.schema.suite import Suite
from vnl_envs.scoring.documents.suites import NOMINAL
from vnl_envs.scoring.results.aggregates import AGGREGATES, Difference
from vnl_envs.scoring.results.scores import OverallSample, overall_sample
from vnl_envs.scoring.results.table import Table, tabulate
from vnl_envs.statistics import across_seeds
from vnl_envs.statistics.intervals import Paired, paired_test

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(21))
"""Normalised scores at which performance profiles are taken."""


@dataclass(frozen=True)
class TaskComparison:
    """The comparison of `a` and `b` in a task.

    Attributes:
        a, b: primary metrics in the nominal tier.
        primary: difference of the primary metrics, `a` minus `b`.
        aggregates: name of an aggregate -> tier -> difference, `a` minus `b`; None if a policy has
            no such aggregate.
    """

    a: float
    b: float
    primary: Paired
    aggregates: dict[str, dict[str, Difference | None]]


@dataclass(frozen=True)
class Comparison:
    """The comparison of `a` and `b` in the same episodes.

    Attributes:
        a, b: names of the entrants.
        overall: difference of the overall scores, `a` minus `b`.
        tasks: task id -> comparison.
    """

    a: str
    b: str
    overall: Paired
    tasks: dict[str, TaskComparison]

    def record(self) -> dict[str, Any]:
        """The comparison as plain values for JSON."""
        return {
            "a": self.a,
            "b": self.b,
            "overall": _plain(self.overall),
            "tasks": {
                task: asdict(row)
                | {
                    "primary": _plain(row.primary),
                    "aggregates": {
                        name: {tier: found and _plain(found) for tier, found in tiers.items()}
                        for name, tiers in row.aggregates.items()
                    },
                }
                for task, row in self.tasks.items()
            },
        }


def _plain(difference: Difference | Paired) -> dict[str, float | None]:
    """The values by name. The ends are None if they are unknown or show no spread."""
    values = difference._asdict()
    if math.isnan(difference.low) or difference.low == difference.high:
        values |= {"low": None, "high": None}
    return values


def compare(a: Result, b: Result, suite: Suite, anchors: Anchors) -> Comparison:
    """Compare two results in the same episodes.

    Args:
        a, b: results of the same suite and seeds; the engines may differ.
        suite: suite of both.
        anchors: anchors of the suite.

    Raises:
        ScoringError: a result is of another suite, the seeds differ, or episodes are missing.
    """
    _check([a, b], suite)
    tables_a, tables_b = (tabulate(suite, result.episodes) for result in (a, b))
    return Comparison(
        a.entrant.name,
        b.entrant.name,
        _compare_overall(*(overall_sample(suite, anchors, t) for t in (tables_a, tables_b))),
        {task.id: _compare_task(tables_a[task.id], tables_b[task.id]) for task in suite.tasks},
    )


def rank_groups(results: Sequence[Result], suite: Suite, anchors: Anchors) -> list[int | None]:
    """Ranks of results. Results that a paired test does not separate share a rank.

    The rank of a result is 1 plus the number of results that are significantly better overall, but
    never better than the rank of a result with a higher overall score. So rank 1 are the results
    to which none is significantly better. "Not separated" is not transitive: A may beat C while B
    is separated from neither. Then A and B share rank 1 and C has rank 2, although B and C are not
    separated. Each test is at 5 %, without a correction for their number: with one, a rank would
    depend on the number of other results.

    Args:
        results: results of the same suite and seeds.
        suite, anchors: suite of the results, and its anchors.

    Returns:
        The rank of each result, in the order given; None if it is incomplete.

    Raises:
        ScoringError: see `compare`.
    """
    _check(results, suite)
    ranked = [i for i, result in enumerate(results) if result.complete]
    samples = {
        i: overall_sample(suite, anchors, tabulate(suite, results[i].episodes)) for i in ranked
    }
    better = dict.fromkeys(ranked, 0)
    for i, j in combinations(ranked, 2):
        paired = _compare_overall(samples[i], samples[j])
        if paired.separates:
            better[j if paired.difference > 0 else i] += 1
    ranks: list[int | None] = [None] * len(results)
    worst = 1
    for i in sorted(ranked, key=lambda i: (-(results[i].overall.value or 0.0), better[i])):
        worst = max(worst, 1 + better[i])
        ranks[i] = worst
    return ranks


@dataclass(frozen=True)
class Algorithm:
    """An algorithm over its training seeds. Scores are normalised, of the nominal tier.

    Attributes:
        name: name of the algorithm, as in its entries.
        runs: number of results, each from another training seed.
        iqm: mean of the middle half of all runs of all tasks.
        optimality_gap: mean distance below 1.
        profile: fraction of runs above each of `THRESHOLDS`.
        improvement: other algorithm -> probability that a run of this one beats one of the other.
    """

    name: str
    runs: int
    iqm: across_seeds.Aggregate
    optimality_gap: across_seeds.Aggregate
    profile: list[across_seeds.Aggregate]
    improvement: dict[str, across_seeds.Aggregate]


def algorithm_board(
    results: Sequence[Result], suite: Suite
) -> tuple[list[Algorithm], dict[str, str]]:
    """Algorithms over training seeds, the highest interquartile mean first.

    The runs of an algorithm are the complete results whose policies all name it. Results with the
    training seeds of an earlier one are left out.

    Args:
        results: results of the same suite and seeds of episodes.
        suite: suite of the results.

    Returns:
        The algorithms with enough runs; and name -> reason, for the others.

    Raises:
        ScoringError: see `compare`.
    """
    _check(results, suite)
    runs: dict[str, dict[tuple[int, ...], list[float]]] = {}
    for result in results:
        name = _algorithm(result, suite)
        if name is not None:
            trained = tuple(result.entrant.policies[t.id].training.seeds[0] for t in suite.tasks)
            runs.setdefault(name, {}).setdefault(trained, _normalised(result, suite))
    scores, refused = {}, {}
    for name, of_seeds in runs.items():
        # A seed counts once in every task.
        enough = min(len(set(column)) for column in zip(*of_seeds, strict=True))
        if enough < across_seeds.MIN_SEEDS:
            refused[name] = f"needs {across_seeds.MIN_SEEDS} different training seeds, has {enough}"
        else:
            scores[name] = np.array(list(of_seeds.values()))
    board = [
        Algorithm(
            name,
            len(own),
            across_seeds.iqm(own),
            across_seeds.optimality_gap(own),
            across_seeds.performance_profile(own, THRESHOLDS),
            {
                other: across_seeds.probability_of_improvement(own, others)
                for other, others in scores.items()
                if other != name
            },
        )
        for name, own in scores.items()
    ]
    return sorted(board, key=lambda row: -row.iqm.value), refused


def _compare_task(a: Mapping[str, Table], b: Mapping[str, Table]) -> TaskComparison:
    nominal_a, nominal_b = a[NOMINAL].counted(), b[NOMINAL].counted()
    return TaskComparison(
        float(nominal_a.score.mean()),
        float(nominal_b.score.mean()),
        paired_test(nominal_a.score, nominal_b.score, nominal_a.unit, nominal_a.resampling()),
        {
            aggregate.name: {
                tier: aggregate.difference(
                    a[tier].counted(), nominal_a, b[tier].counted(), nominal_b
                )
                for tier in a
                if tier != NOMINAL
            }
            for aggregate in AGGREGATES
            if aggregate.difference
        },
    )


def _compare_overall(a: OverallSample, b: OverallSample) -> Paired:
    return paired_test(a.values, b.values, a.units, a.strata, a.weights)


def _algorithm(result: Result, suite: Suite) -> str | None:
    """The algorithm of all policies of a complete result; None if there is not exactly one."""
    names = {policy.training.algorithm for policy in result.entrant.policies.values()}
    has_all = all(task.id in result.entrant.policies for task in suite.tasks)
    return names.pop() if result.complete and has_all and len(names) == 1 else None


def _normalised(result: Result, suite: Suite) -> list[float]:
    values = (result.tasks[task.id].tiers[NOMINAL].normalised.value for task in suite.tasks)
    return [math.nan if value is None else value for value in values]


def _check(results: Sequence[Result], suite: Suite) -> None:
    """Check that results can be compared episode by episode.

    Raises:
        ScoringError: they cannot.
    """
    ids = {spec.id for spec in suite.specs}
    found = []
    for result in results:
        name, first = result.entrant.name, results[0]
        if result.suite.sha256 != suite.sha256:
            message = f"is of suite {result.suite.name} ({result.suite.sha256[:12]}), not of "
            message += f"{suite.name} ({suite.sha256[:12]})"
            found.append(Problem(Code.VERSION, name, message))
        elif (result.split, result.season) != (first.split, first.season):
            message = f"has the episodes of {_seeds(result)}, {first.entrant.name} those of "
            found.append(Problem(Code.VERSION, name, message + _seeds(first)))
        else:
            missing = len(ids - {episode.id for episode in result.episodes})
            if missing:
                message = f"{missing} of {len(ids)} episodes are missing"
                found.append(Problem(Code.INCOMPLETE, name, message))
    if found:
        raise ScoringError(found)


def _seeds(result: Result) -> str:
    return f"split {result.split}" + (f", season {result.season[:12]}" if result.season else "")
