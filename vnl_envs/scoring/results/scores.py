"""From how episodes went to the scores of a result. `docs/scoring.md` has the formulas."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vnl_envs.evaluation.evaluate import Finished
from vnl_envs.problems import Code, problem
from vnl_envs.scoring.documents.schema import (
    Anchors,
    EpisodeResult,
    Estimate,
    Primary,
    Suite,
    SuiteTask,
    TaskScore,
    TierScore,
)
from vnl_envs.scoring.documents.suites import NOMINAL, Spec, episodes, has_ladder, metric_ranges
from vnl_envs.statistics.intervals import (
    UNBOUNDED,
    around,
    bootstrap,
    bootstrap_ratio,
)
from vnl_envs.statistics.threshold import half_width

NOTHING = Estimate(value=None, low=None, high=None, units=0)
MOST_STEPS = 10**9
"""More than any episode has."""


def episode_score(primary: Primary, figures: Mapping[str, float], available: int) -> float:
    """What an episode earned, in the primary metric's natural units.

    Args:
        primary: of the task.
        figures: the episode's metrics by name.
        available: control steps that it could have had.
    """
    value = float(figures[primary.metric])
    if primary.form == "per_step":
        return value / available
    assert primary.cap is not None
    return min(value, primary.cap) / primary.cap


def episode_result(spec: Spec, finished: Finished, clipped: int = 0) -> EpisodeResult:
    """The record of an episode; one with a reason counts 0, whatever it had earned.

    Args:
        spec: which episode.
        finished: how it went.
        clipped: numbers of its actions that lay outside [-1, 1].
    """
    reason = finished.reason
    score = episode_score(spec.primary, finished.figures, finished.available)
    return EpisodeResult.model_validate(
        {
            "id": spec.id,
            "end": finished.end,
            "reason": reason.slug if reason else None,
            "score": 0.0 if reason else score,
            "steps": finished.steps,
            "clipped": clipped,
            "metrics": {k: _finite(v) for k, v in finished.figures.items()},
        }
    )


def contradiction(spec: Spec, result: EpisodeResult, metrics: Sequence[str]) -> str | None:
    """Where an episode's record contradicts itself: its score, its end and its metrics follow from
    each other. None if they do not.

    Args:
        spec: which episode.
        result: its record.
        metrics: names of the task's.
    """
    ends = {None: ("terminated", "truncated"), Code.DIVERGED.slug: ("diverged",)}
    if result.end not in ends.get(result.reason, ("failed",)):
        return f"cannot have the end {result.end} and the reason {result.reason}"
    if result.end == "failed":
        blank = result.steps == result.clipped == 0 and not result.metrics
        return None if blank else "has failed: nothing else is recorded of it"
    if result.metrics.keys() != {*metrics}:
        return f"must have the metrics {', '.join(metrics)}, has {', '.join(result.metrics)}"
    if result.metrics["length"] != result.steps:
        return f"has {result.steps} steps, by its metrics {result.metrics['length']}"
    value = result.metrics[spec.primary.metric]
    if result.reason is not None:
        return None
    if value is None:
        return f"has the score {result.score!r} without a {spec.primary.metric}"
    earned = episode_score(spec.primary, {spec.primary.metric: value}, _available(result, value))
    if result.score == earned:
        return None
    return f"has the score {result.score!r}, by its {spec.primary.metric} of {value!r} {earned!r}"


def _available(result: EpisodeResult, value: float) -> int:
    """How many steps an episode could have had, which is not recorded: as many as it had where it
    was not cut short, else the whole number of at least these that comes nearest to its score.
    """
    if result.end == "truncated" or not result.score:
        return max(1, result.steps)
    return max(1, result.steps, round(min(value / result.score, MOST_STEPS)))


def completed(suite: Suite, results: Iterable[EpisodeResult]) -> list[EpisodeResult]:
    """Every episode of a suite in its order; those that are missing count 0 as incomplete.

    Raises:
        ScoringError: an episode is none of the suite's, is there twice, or has a score or metric
            that no episode can have.
    """
    specs = {spec.id: spec for spec in episodes(suite)}
    ranges = {task.id: metric_ranges(task.id) for task in suite.tasks}
    given: dict[str, EpisodeResult] = {}
    for result in results:
        if result.id not in specs:
            raise problem(Code.CLAIM, result.id, f"is not an episode of {suite.name}")
        if result.id in given:
            raise problem(Code.CLAIM, result.id, "is there twice")
        spec = specs[result.id]
        most = spec.primary.ceiling
        if not 0 <= result.score <= most or (result.reason and result.score):
            message = f"the score must be in [0, {most:g}], and 0 where there is a reason"
            raise problem(Code.CLAIM, result.id, f"{message}; got {result.score:g}")
        _check_metrics(result, ranges[spec.task])
        given[result.id] = result
    return [given.get(id) or missing(id) for id in specs]


def _check_metrics(result: EpisodeResult, ranges: Mapping[str, tuple[float, float]]) -> None:
    for name, value in result.metrics.items():
        low, high = ranges.get(name, UNBOUNDED)
        if value is not None and not low <= value <= high:
            message = f"{name} must be in [{low:g}, {high:g}]; got {value:g}"
            raise problem(Code.CLAIM, result.id, message)


def missing(id: str) -> EpisodeResult:
    """The record of an episode that was not run, or had no policy."""
    return EpisodeResult(
        id=id, end="failed", reason=Code.INCOMPLETE.slug, score=0.0, steps=0, clipped=0, metrics={}
    )


def aggregate(
    suite: Suite, anchors: Anchors, results: Iterable[EpisodeResult]
) -> tuple[dict[str, TaskScore], Estimate]:
    """The score of each task, and the overall one.

    Args:
        suite: whose episodes these are.
        anchors: of the same suite.
        results: in any order; missing ones count 0.

    Raises:
        ScoringError: see `completed`, or the anchors are another suite's.
    """
    check_anchors(suite, anchors)
    tables = tabulate(suite, results)
    tasks = {
        task.id: _task_score(task, _random(anchors, task.id), tables[task.id])
        for task in suite.tasks
    }
    return tasks, _overall(suite, anchors, tables)


def check_anchors(suite: Suite, anchors: Anchors) -> None:
    """Whether anchors are those of a suite, whatever it is called.

    Raises:
        ScoringError: they are of another one, or leave nothing between random and the ceiling.
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
    """The primary metric by task and tier, as anchors have it."""
    tables = tabulate(suite, results)
    return {
        task.id: {tier: _primary(task.primary, t.counted()) for tier, t in tables[task.id].items()}
        for task in suite.tasks
    }


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


def _task_score(task: SuiteTask, random: float, tiers: Mapping[str, Table]) -> TaskScore:
    nominal = tiers[NOMINAL]
    others = nominal.uncounted()
    return TaskScore(
        tiers={
            tier: _tier_score(task, random, table, None if tier == NOMINAL else nominal)
            for tier, table in tiers.items()
        },
        uncounted=_primary(task.primary, others) if others.units else None,
        half_width=_half_width(nominal.counted()) if has_ladder(task.id) else None,
    )


def _tier_score(task: SuiteTask, random: float, table: Table, nominal: Table | None) -> TierScore:
    primary, counted = task.primary, table.counted()
    estimate = _primary(primary, counted)
    strata = list(dict.fromkeys(table.stratum.tolist()))
    return TierScore(
        primary=estimate,
        normalised=_normalised(estimate, random, primary.ceiling),
        retention=_retention(counted, nominal.counted()) if nominal else None,
        metrics=_metrics(counted, metric_ranges(task.id)),
        strata={s: _primary(primary, table.where(table.stratum == s)) for s in strata if s},
        episodes=len(table.results),
        failed=dict(sorted(Counter(r.reason for r in table.results if r.reason).items())),
    )


def _primary(primary: Primary, table: Table) -> Estimate:
    """The mean of the scores."""
    return _mean(table.score, table, (0.0, primary.ceiling))


def _metrics(table: Table, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Estimate]:
    """The mean of each metric over the episodes in which it is finite."""
    names = dict.fromkeys(name for result in table.results for name in result.metrics)
    estimates = {}
    for name in names:
        values = [result.metrics.get(name) for result in table.results]
        known = np.array([value is not None for value in values])
        finite = np.array([value for value in values if value is not None], float)
        estimates[name] = _mean(finite, table.where(known), ranges.get(name, UNBOUNDED))
    return estimates


def _mean(values: np.ndarray, table: Table, bounds: tuple[float, float] = UNBOUNDED) -> Estimate:
    if not len(values):
        return NOTHING
    ends = bootstrap(values, table.unit, table.resampling(), bounds=bounds)
    return _estimate(float(values.mean()), ends, table.units)


def _estimate(value: float, ends: tuple[float, float], units: int) -> Estimate:
    """A mean in its interval, or with none where the ends are not known."""
    low, high = map(_finite, around(value, ends))
    return Estimate(value=value, low=low, high=high, units=units)


def _normalised(estimate: Estimate, random: float, ceiling: float) -> Estimate:
    """0 is the random policy, 1 the ceiling; what is unsure about the former is left out."""

    def scaled(value: float | None) -> float | None:
        return None if value is None else (value - random) / (ceiling - random)

    return Estimate(
        value=scaled(estimate.value),
        low=scaled(estimate.low),
        high=scaled(estimate.high),
        units=estimate.units,
    )


def _retention(table: Table, nominal: Table) -> Estimate | None:
    """The mean over that of the nominal episodes beside it; None where that is 0."""
    both, in_tier = table.beside(nominal)
    if not in_tier.any() or not both.score[~in_tier].any():
        return None
    ends = bootstrap_ratio(both.score, in_tier, both.unit, both.resampling())
    value = float(table.score.mean() / both.score[~in_tier].mean())
    return _estimate(value, ends, table.units)


class OverallSample(NamedTuple):
    """The counted nominal episodes of all tasks, whose weighted mean is the overall score.

    Attributes:
        values: (N,) normalised scores.
        units, strata, weights: (N,) see `bootstrap`; every task weighs the same.
        least: the lowest that a value can be.
    """

    values: np.ndarray
    units: np.ndarray
    strata: np.ndarray
    weights: np.ndarray
    least: float


def overall_sample(
    suite: Suite, anchors: Anchors, tables: Mapping[str, Mapping[str, Table]]
) -> OverallSample:
    """From the tables of `tabulate`."""
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
    return _estimate(value, ends, len(set(sample.units.tolist())))


def _random(anchors: Anchors, task_id: str) -> float:
    value = anchors.tasks[task_id].primary.value
    assert value is not None
    return value


def _half_width(table: Table) -> Estimate | None:
    """See `ladder.half_width`."""
    found = half_width(table.score, table.stratum, table.unit)
    return None if found is None else _estimate(*found, table.units)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
