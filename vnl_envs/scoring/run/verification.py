"""Verification of a result: its aggregates are recomputed, and some episodes run again."""

from __future__ import annotations

import math
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vnl_envs.problems import Code, Problem, ScoringError, problem
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.documents.schema.board import Anchors, Verified
from vnl_envs.scoring.documents.schema.result import EpisodeResult, Result
from vnl_envs.scoring.documents.schema.suite import Spec, Suite
from vnl_envs.scoring.documents.schema.text import to_text
from vnl_envs.scoring.results.episodes import contradiction, missing
from vnl_envs.scoring.results.files import is_complete, is_exposed, stamps
from vnl_envs.scoring.results.scores import aggregate
from vnl_envs.scoring.run.plan import Candidate, Run
from vnl_envs.scoring.run.runner import rerun
from vnl_envs.utils.files import written_whole
from vnl_envs.utils.texts import shown

ROUNDING = 1e-9
"""Allowed relative difference of an aggregate on a machine with other stamps."""
TOLERANCE = 0.05
"""Allowed difference of the mean score of re-run episodes there, as a fraction of the ceiling."""
ERRORS = 3.0
"""Number of standard errors of the mean difference that are allowed in addition."""
SPREAD = 0.3
"""Greatest standard deviation of the differences that counts as chance, as a fraction of the
ceiling; `docs/scoring_results.md` has observed values. Forged scores have differences too: without
a bound they would increase their own tolerance."""
_MOST_SHOWN = 100


@dataclass(frozen=True)
class Rerun:
    """The outcome of running episodes again.

    Attributes:
        episodes: number of episodes.
        same: number of episodes that gave the same bits.
        stamps: stamps of this run.
        differing_stamps: names of stamps that differ from the result's; if there are none, all
            episodes must give the same bits.
        problems: contradictions to the result.
    """

    episodes: int
    same: int
    stamps: dict[str, str]
    differing_stamps: tuple[str, ...]
    problems: tuple[Problem, ...]


def claims(result: Result, suite: Suite, anchors: Anchors) -> list[Problem]:
    """Problems of a result that show without a simulation.

    They are its `contradictions`, versions other than the suite's pins, and untrusted policies that
    ran outside the sandbox with a season's seeds.
    """
    if other := _other_suite(result, suite):
        return [other]
    found = [
        Problem(Code.VERSION, f"stamps.{name}", f"is {result.stamps.get(name)}, pinned is {pin}")
        for name, pin in suite.pins.items()
        if result.stamps.get(name) != pin
    ]
    if result.split == "test" and is_exposed(result):
        message = "is false: with a season's seeds, policies of others count from the sandbox only"
        found.append(Problem(Code.SANDBOX, "isolated", message))
    return found + contradictions(result, suite, anchors)


def contradictions(result: Result, suite: Suite, anchors: Anchors) -> list[Problem]:
    """Contradictions of a result to the suite or to itself.

    Everything that follows from the episodes is recomputed. A result with contradictions is never
    shown.
    """
    if other := _other_suite(result, suite):
        return [other]
    specs = scope_of(result, suite).specs
    # Without the suite's episodes there is nothing to recompute from.
    return (
        _episode_problems(result.episodes, specs)
        or _unplayed_problems(result, specs)
        or [*_inner_problems(result, specs)]
        or _aggregate_problems(result, suite, anchors)
    )


def believed(result: Result, suite: Suite, anchors: Anchors) -> Result:
    """Return a result that has no contradictions.

    Raises:
        ScoringError: it has contradictions.
    """
    problems = contradictions(result, suite, anchors)
    if problems:
        raise ScoringError(problems)
    return result


def _other_suite(result: Result, suite: Suite) -> Problem | None:
    claimed = f"{result.suite.name} with SHA-256 {result.suite.sha256}"
    expected = f"{suite.name} with SHA-256 {suite.sha256}"
    if claimed == expected:
        return None
    return Problem(Code.VERSION, "suite", f"is {claimed}, here is {expected}")


def scope_of(result: Result, suite: Suite) -> Suite:
    """The part of a suite that a result covers: all of it, unless the result is incomplete.

    Raises:
        ScoringError: the suite has none of its episodes.
    """
    if result.complete:
        return suite
    part = suite.restricted([episode.id for episode in result.episodes])
    if not part.tasks:
        raise problem(Code.INCOMPLETE, "episodes", f"none is of {suite.name}")
    return part


def entrant_problems(result: Result, candidate: Candidate) -> list[Problem]:
    """Differences between the entrant of a result and that of a bundle."""
    return _contradictions(result, {"entrant": candidate.entrant.model_dump(mode="json")}, "bundle")


def run_problems(result: Result, plan: Run) -> list[Problem]:
    """Differences between the entrant and season of a result and those of a run."""
    season = {"season": plan.season.season}
    return entrant_problems(result, plan.candidate) + _contradictions(result, season, "key")


def _contradictions(result: Result, actual: dict[str, Any], source: str) -> list[Problem]:
    claimed = result.model_dump(mode="json", include=set(actual))
    return [
        Problem(Code.CLAIM, where, f"is {_shown(a)}, by the {source} {_shown(b)}")
        for where, a, b in _differences(claimed, actual)
    ]


def playable(result: Result, suite: Suite) -> list[Spec]:
    """The episodes of a result that can be run again. Others have no policy, and count 0."""
    specs = scope_of(result, suite).specs
    return [spec for spec in specs if has_policy(result, spec.task)]


def has_policy(result: Result, task: str) -> bool:
    """Whether the entrant of a result has a policy for a task."""
    entrant = result.entrant
    return entrant.identity.startswith("reference:") or task in entrant.policies


def drawn_seed() -> int:
    """A random seed for `sample`, which nobody can know in advance."""
    return secrets.randbits(32)


def sample(specs: Sequence[Spec], count: int, seed: int) -> list[Spec]:
    """A sample of episodes, drawn without replacement, in their order.

    Args:
        specs: `playable` episodes.
        count: number of episodes to draw, if there are so many.
        seed: seed of the sample, which must be secret before the result is submitted.
    """
    indices = np.random.default_rng(seed).permutation(len(specs))[:count]
    return [specs[i] for i in sorted(indices)]


def run_again(result: Result, plan: Run, specs: Sequence[Spec], progress: bool = True) -> Rerun:
    """Run episodes of a result again, and compare.

    With equal stamps each episode must give the same bits. With other stamps a simulation may
    diverge: a change of actions by 1e-7 turned a score of 0.2 into 1.0. Then the mean scores, for
    each task and for all together, must agree within `TOLERANCE` plus `ERRORS` standard errors.

    Args:
        result: result whose `claims` have no problems.
        plan: run with the same candidate, suite and season.
        specs: episodes to run.
        progress: whether to show a progress bar.

    Raises:
        ScoringError: see `run`.
    """
    claimed = {episode.id: episode for episode in result.episodes}
    stamps, again = rerun(plan, specs, progress)
    names = sorted({*result.stamps, *stamps})
    differing = tuple(n for n in names if result.stamps.get(n) != stamps.get(n))
    same = sum(claimed[spec.id] == again[spec.id] for spec in specs)
    problems = _mean_problems(specs, claimed, again) if differing else _bit_problems(claimed, again)
    return Rerun(len(specs), same, stamps, differing, tuple(problems))


def write_record(path: Path, result: Result, episodes: int, again: Rerun, seed: int | None) -> Path:
    """Write the record of a verification beside the result, and return its file.

    Args:
        path: file of the result.
        result: its content.
        episodes: number of its `playable` episodes.
        again: outcome, without problems.
        seed: seed of the sample; None if all episodes were run.

    Raises:
        OSError: it cannot be written.
    """
    record = Verified(
        schema_version=1,
        result=result.sha256,
        episodes=episodes,
        run_again=again.episodes,
        seed=seed,
        same_to_the_bit=again.same,
        stamps=again.stamps,
    )
    beside = path.with_name(record_name(path.name))
    with written_whole(beside) as partial:
        partial.write_text(to_text(record))
    return beside


def record_name(result: str) -> str:
    """Name of the file that `write_record` writes beside the file of a result."""
    return f"{result.removesuffix('.json')}.verified.json"


def _inner_problems(result: Result, specs: Sequence[Spec]) -> Iterator[Problem]:
    """Contradictions within the record of an episode.

    Args:
        result: result that has the episodes of `specs`, in their order.
        specs: its episodes.
    """
    names = {task: [*suites.metric_ranges(task)] for task in dict.fromkeys(s.task for s in specs)}
    for spec, episode in zip(specs, result.episodes, strict=True):
        found = contradiction(spec, episode, names[spec.task])
        if found:
            yield Problem(Code.CLAIM, spec.id, found)


def _episode_problems(episodes: Sequence[EpisodeResult], specs: Sequence[Spec]) -> list[Problem]:
    """Problems unless the episodes are those of the suite, each once, in its order."""
    expected = [spec.id for spec in specs]
    counts = Counter(episode.id for episode in episodes)
    found = [Problem(Code.INCOMPLETE, name, "is missing") for name in expected if not counts[name]]
    repeated = [name for name, count in counts.items() if count > 1]
    found += [Problem(Code.CLAIM, name, f"is there {counts[name]} times") for name in repeated]
    unknown = sorted(counts.keys() - set(expected))
    found += [Problem(Code.CLAIM, name, "is no episode of the suite") for name in unknown]
    if not found and [episode.id for episode in episodes] != expected:
        found = [Problem(Code.CLAIM, "episodes", "are not in the suite's order")]
    return found


def _unplayed_problems(result: Result, specs: Sequence[Spec]) -> list[Problem]:
    """Problems of episodes that have scores without a policy, which no re-run would detect.

    Args:
        result: result that has the episodes of `specs`, in their order.
        specs: its episodes.
    """
    return [
        Problem(Code.CLAIM, spec.id, "has no policy: it must be missing, and count 0")
        for spec, episode in zip(specs, result.episodes, strict=True)
        if not has_policy(result, spec.task) and episode != missing(spec.id)
    ]


def _aggregate_problems(result: Result, suite: Suite, anchors: Anchors) -> list[Problem]:
    """Differences between the scores and those recomputed from the episodes."""
    try:
        tasks, overall = aggregate(suite, anchors, result.episodes, scope_of(result, suite))
    except ScoringError as error:
        return list(error.problems)
    recomputed = {
        "tasks": {name: score.model_dump(mode="json") for name, score in tasks.items()},
        "overall": overall.model_dump(mode="json"),
        "complete": is_complete(suite, result.engine, result.episodes),
    }
    claimed = result.model_dump(mode="json", include=set(recomputed))
    rounding = 0.0 if result.stamps == stamps(result.engine) else ROUNDING
    return [
        Problem(Code.CLAIM, where, f"is {_shown(a)}, its episodes give {_shown(b)}")
        for where, a, b in _differences(claimed, recomputed, rounding)
    ]


def _bit_problems(
    claimed: Mapping[str, EpisodeResult], again: Mapping[str, EpisodeResult]
) -> Iterator[Problem]:
    for name, episode in again.items():
        before, after = (e.model_dump(mode="json") for e in (claimed[name], episode))
        for where, a, b in _differences(before, after):
            message = f"is {_shown(a)}, run again {_shown(b)}"
            yield Problem(Code.CLAIM, f"{name}: {where}", message)


def _mean_problems(
    specs: Sequence[Spec],
    claimed: Mapping[str, EpisodeResult],
    again: Mapping[str, EpisodeResult],
) -> Iterator[Problem]:
    groups: dict[str, list[Spec]] = defaultdict(list)
    for spec in specs:
        groups[spec.task].append(spec)
    if len(groups) > 1:
        groups["all tasks"] = [*specs]
    for where, group in groups.items():
        before, after = (
            np.array([e[s.id].score / s.primary.ceiling for s in group]) for e in (claimed, again)
        )
        # A single difference shows no spread.
        spread = min(float((before - after).std(ddof=1)), SPREAD) if len(group) > 1 else SPREAD
        tolerance = TOLERANCE + ERRORS * spread / len(group) ** 0.5
        if abs(before.mean() - after.mean()) > tolerance:
            message = (
                f"mean score of {len(group)} episodes, in parts of the ceiling, is "
                f"{before.mean():.6g}, run again {after.mean():.6g}: more than {tolerance:.3g} "
                "apart"
            )
            yield Problem(Code.CLAIM, where, message)


def _differences(
    a: Any, b: Any, rounding: float = 0.0, where: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Differences of two JSON values: the place, and both values there.

    Args:
        a, b: values.
        rounding: relative difference of numbers that is ignored.
        where: place of the values.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        for name in [*b, *(name for name in a if name not in b)]:
            place = f"{where}.{name}" if where else name
            yield from _differences(a.get(name), b.get(name), rounding, place)
    elif _is_number(a) and _is_number(b):
        if not math.isclose(a, b, rel_tol=rounding, abs_tol=rounding):
            yield where, a, b
    elif a != b or type(a) is not type(b):
        yield where, a, b


def _shown(value: Any) -> str:
    """A JSON value for a message, shortened, as it may be a whole task."""
    return shown(repr(value), _MOST_SHOWN)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
