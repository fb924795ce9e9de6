"""The record of an episode: its score, and the check of its consistency."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from vnl_envs.evaluation.evaluate import Finished
from vnl_envs.problems import Code, problem
from vnl_envs.scoring.documents.schema.result import EpisodeResult
from vnl_envs.scoring.documents.schema.suite import Primary, Spec, Suite
from vnl_envs.scoring.documents.suites import metric_ranges
from vnl_envs.statistics.intervals import UNBOUNDED

MOST_STEPS = 10**9
"""More than any episode has."""


def episode_score(primary: Primary, figures: Mapping[str, float], available: int) -> float:
    """The score of an episode, in natural units.

    Args:
        primary: primary metric of the task.
        figures: metrics of the episode by name.
        available: number of control steps that it could have had.
    """
    value = float(figures[primary.metric])
    if primary.form == "per_step":
        return value / available
    assert primary.cap is not None
    return min(value, primary.cap) / primary.cap


def episode_result(spec: Spec, finished: Finished, clipped: int = 0) -> EpisodeResult:
    """The record of an episode. With a reason, its score is 0.

    Args:
        spec: episode of the suite.
        finished: outcome of the episode.
        clipped: number of action components outside [-1, 1].
    """
    reason = finished.reason
    score = episode_score(spec.primary, finished.figures, finished.available)
    held = metric_ranges(spec.task)
    return EpisodeResult.model_validate(
        {
            "id": spec.id,
            "end": finished.end,
            "reason": reason.slug if reason else None,
            "score": 0.0 if reason else score,
            "steps": finished.steps,
            "clipped": clipped,
            "metrics": {k: finite(v) for k, v in finished.figures.items() if k in held},
        }
    )


def contradiction(spec: Spec, result: EpisodeResult, metrics: Sequence[str]) -> str | None:
    """A contradiction between score, end and metrics in the record of an episode; None if none.

    Args:
        spec: episode of the suite.
        result: its record.
        metrics: names of the task's metrics.
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
    """The number of steps that an episode could have had, which is not recorded.

    For a truncated episode it is the number of steps that it had. Otherwise it is the integer, at
    least this number, that best explains the score.
    """
    if result.end == "truncated" or not result.score:
        return max(1, result.steps)
    return max(1, result.steps, round(min(value / result.score, MOST_STEPS)))


def completed(suite: Suite, results: Iterable[EpisodeResult]) -> list[EpisodeResult]:
    """The records of all episodes of a suite, in its order. Missing ones count 0 as incomplete.

    Raises:
        ScoringError: an episode is not in the suite, is there twice, or has an impossible score or
            metric.
    """
    specs = {spec.id: spec for spec in suite.specs}
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


def finite(value: float) -> float | None:
    """A number for a document; None if it is not finite."""
    return float(value) if math.isfinite(value) else None
