"""Results side by side: paired differences, rank groups, and algorithms over their seeds."""

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
from vnl_envs.scoring.documents.suites import NOMINAL, episodes
from vnl_envs.scoring.results.aggregates import AGGREGATES, Difference
from vnl_envs.scoring.results.scores import OverallSample, overall_sample
from vnl_envs.scoring.results.table import Table, tabulate
from vnl_envs.statistics import across_seeds
from vnl_envs.statistics.intervals import Paired, paired_test

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(21))
"""Normalised scores at which performance profiles are taken."""


@dataclass(frozen=True)
class TaskComparison:
    """A task.

    Attributes:
        a, b: the primary metric of either, nominal tier.
        primary: how much higher `a`'s is.
        aggregates: name of an aggregate -> tier -> how much higher `a`'s is; None where a policy
            has none.
    """

    a: float
    b: float
    primary: Paired
    aggregates: dict[str, dict[str, Difference | None]]


@dataclass(frozen=True)
class Comparison:
    """`a` against `b` in the same episodes.

    Attributes:
        a, b: their names.
        overall: how much higher `a`'s overall score is.
        tasks: by id.
    """

    a: str
    b: str
    overall: Paired
    tasks: dict[str, TaskComparison]

    def record(self) -> dict[str, Any]:
        """Plain values for JSON."""
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
    """By name; the ends are None where they are not known, or no spread was seen."""
    values = difference._asdict()
    if math.isnan(difference.low) or difference.low == difference.high:
        values |= {"low": None, "high": None}
    return values


def compare(a: Result, b: Result, suite: Suite, anchors: Anchors) -> Comparison:
    """Compare two results by the episodes that both ran.

    Args:
        a, b: of the same suite and seeds; the engines may differ.
        suite: theirs.
        anchors: the suite's.

    Raises:
        ScoringError: they are of another suite, or of other seeds than each other, or episodes
            are missing.
    """
    _check([a, b], suite)
    ours, theirs = (tabulate(suite, result.episodes) for result in (a, b))
    return Comparison(
        a.entrant.name,
        b.entrant.name,
        _compare_overall(*(overall_sample(suite, anchors, t) for t in (ours, theirs))),
        {task.id: _compare_task(ours[task.id], theirs[task.id]) for task in suite.tasks},
    )


def rank_groups(results: Sequence[Result], suite: Suite, anchors: Anchors) -> list[int | None]:
    """Ranks that entries share where a paired test on their episodes does not separate them.

    An entry's rank is 1 plus the number of entries that are significantly better overall, but
    never better than that of an entry with a higher overall score. So rank 1 is whatever nothing
    is significantly better than. "Not separated" is not transitive: of A, B and C, A may beat C
    while B is separated from neither; then A and B share rank 1 and C has rank 2, although B and C
    are not separated. Tests are at 5 % each, not corrected for their number: a rank would else
    depend on how many others are on the board.

    Args:
        results: of the same suite and seeds.
        suite, anchors: theirs.

    Returns:
        Rank of each, in the order given; None where it is incomplete.

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
    """An algorithm over its training seeds; scores are normalised, of the nominal tier.

    Attributes:
        name: as its entries have it.
        runs: results, each of another training seed.
        iqm: mean of the middle half of all runs of all tasks.
        optimality_gap: mean of what is missing to 1.
        profile: fraction of runs above each of `THRESHOLDS`.
        improvement: other algorithm -> probability that a run of this one beats one of it.
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

    Complete results whose policies all name the same algorithm are runs of it; those of training
    seeds that an earlier result has are left out.

    Args:
        results: of the same suite and seeds of episodes.
        suite: theirs.

    Returns:
        The algorithms with enough runs, and name -> why not of the others.

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
                other: across_seeds.probability_of_improvement(own, theirs)
                for other, theirs in scores.items()
                if other != name
            },
        )
        for name, own in scores.items()
    ]
    return sorted(board, key=lambda row: -row.iqm.value), refused


def _compare_task(a: Mapping[str, Table], b: Mapping[str, Table]) -> TaskComparison:
    ours, theirs = a[NOMINAL].counted(), b[NOMINAL].counted()
    return TaskComparison(
        float(ours.score.mean()),
        float(theirs.score.mean()),
        paired_test(ours.score, theirs.score, ours.unit, ours.resampling()),
        {
            aggregate.name: {
                tier: aggregate.difference(a[tier].counted(), ours, b[tier].counted(), theirs)
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
    """The one that made all policies of a complete result, if there is one."""
    names = {policy.training.algorithm for policy in result.entrant.policies.values()}
    whole = all(task.id in result.entrant.policies for task in suite.tasks)
    return names.pop() if result.complete and whole and len(names) == 1 else None


def _normalised(result: Result, suite: Suite) -> list[float]:
    values = (result.tasks[task.id].tiers[NOMINAL].normalised.value for task in suite.tasks)
    return [math.nan if value is None else value for value in values]


def _check(results: Sequence[Result], suite: Suite) -> None:
    """Whether results can be held against each other episode by episode.

    Raises:
        ScoringError: they cannot.
    """
    ids = {spec.id for spec in episodes(suite)}
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
