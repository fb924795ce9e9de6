"""Whether a result can be believed: its sums recomputed, some of its episodes run again."""

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
from vnl_envs.scoring.documents.schema.suite import Suite
from vnl_envs.scoring.documents.schema.text import to_text
from vnl_envs.scoring.documents.suites import Spec
from vnl_envs.scoring.results.episodes import contradiction, missing
from vnl_envs.scoring.results.files import is_complete, is_exposed, restricted, scored, stamps
from vnl_envs.scoring.run.runner import Candidate, Run, rerun
from vnl_envs.utils.files import written_whole
from vnl_envs.utils.texts import shown

ROUNDING = 1e-9
"""Relative difference that an aggregate may have on a machine with other stamps."""
TOLERANCE = 0.05
"""What the mean score of a task's re-run episodes may differ by there, in parts of its ceiling."""
ERRORS = 3.0
"""Standard errors of the mean difference that it may differ by on top of that."""
SPREAD = 0.3
"""The largest standard deviation of these differences that is taken for chance, in parts of the
ceiling; `docs/scoring_results.md` has what was seen. Forged scores spread, too: without a bound
they would buy their own tolerance."""
_MOST_TOLD = 100


@dataclass(frozen=True)
class Rerun:
    """What running episodes again gave.

    Attributes:
        episodes: how many.
        same: of these, how many came out the same to the bit.
        stamps: what ran them.
        differing_stamps: which differ from the result's; without any, all must be the same.
        problems: what contradicts the result.
    """

    episodes: int
    same: int
    stamps: dict[str, str]
    differing_stamps: tuple[str, ...]
    problems: tuple[Problem, ...]


def claims(result: Result, suite: Suite, anchors: Anchors) -> list[Problem]:
    """Why a result does not count, nothing being simulated: its `contradictions`, versions that
    are not the suite's, or policies of others that ran outside the sandbox with a season's seeds.
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
    """What in a result contradicts the suite or the rest of the result: everything that can be
    recomputed from it is. A result that has some is never shown.
    """
    if other := _other_suite(result, suite):
        return [other]
    specs = suites.episodes(scope_of(result, suite))
    # Without the suite's episodes there is nothing to recompute from.
    return (
        _episode_problems(result.episodes, specs)
        or _unplayed_problems(result, specs)
        or [*_inner_problems(result, specs)]
        or _aggregate_problems(result, suite, anchors)
    )


def believed(result: Result, suite: Suite, anchors: Anchors) -> Result:
    """A result without contradictions.

    Raises:
        ScoringError: it has some.
    """
    problems = contradictions(result, suite, anchors)
    if problems:
        raise ScoringError(problems)
    return result


def _other_suite(result: Result, suite: Suite) -> Problem | None:
    claimed = f"{result.suite.name} with SHA-256 {result.suite.sha256}"
    here = f"{suite.name} with SHA-256 {suite.sha256}"
    if claimed == here:
        return None
    return Problem(Code.VERSION, "suite", f"is {claimed}, here is {here}")


def scope_of(result: Result, suite: Suite) -> Suite:
    """The part of a suite that a result is of: all of it, unless it says itself to be incomplete.

    Raises:
        ScoringError: none of its episodes is the suite's.
    """
    if result.complete:
        return suite
    part = restricted(suite, [episode.id for episode in result.episodes])
    if not part.tasks:
        raise problem(Code.INCOMPLETE, "episodes", f"none is of {suite.name}")
    return part


def entrant_problems(result: Result, who: Candidate) -> list[Problem]:
    """Where a result tells other things of who was scored than the bundle."""
    return _contradictions(result, {"entrant": who.entrant.model_dump(mode="json")}, "bundle")


def run_problems(result: Result, what: Run) -> list[Problem]:
    """Where a result tells other things than the bundle of who was scored, or of other seeds."""
    season = {"season": what.season.season}
    return entrant_problems(result, what.candidate) + _contradictions(result, season, "key")


def _contradictions(result: Result, here: dict[str, Any], source: str) -> list[Problem]:
    claimed = result.model_dump(mode="json", include=set(here))
    return [
        Problem(Code.CLAIM, where, f"is {_told(ours)}, by the {source} {_told(theirs)}")
        for where, ours, theirs in _differences(claimed, here)
    ]


def playable(result: Result, suite: Suite) -> list[Spec]:
    """The episodes of a result that can be run again; the others have no policy, and count 0."""
    specs = suites.episodes(scope_of(result, suite))
    return [spec for spec in specs if has_policy(result, spec.task)]


def has_policy(result: Result, task: str) -> bool:
    """Whether the entrant of a result takes part in a task."""
    entrant = result.entrant
    return entrant.identity.startswith("reference:") or task in entrant.policies


def drawn_seed() -> int:
    """A seed for `sample` that nobody can know before."""
    return secrets.randbits(32)


def sample(specs: Sequence[Spec], count: int, seed: int) -> list[Spec]:
    """Some of the episodes, drawn without replacement, in their order.

    Args:
        specs: `playable` ones.
        count: how many, if there are as many.
        seed: of the choice; whoever knows it before knows which episodes will be checked.
    """
    chosen = np.random.default_rng(seed).permutation(len(specs))[:count]
    return [specs[i] for i in sorted(chosen)]


def run_again(result: Result, what: Run, specs: Sequence[Spec], progress: bool = True) -> Rerun:
    """Run episodes of a result again and compare.

    With the same stamps each must come out the same to the bit. With others a simulation may take
    another course: actions changed by 1e-7 turned a score of 0.2 into 1.0. Then the mean score of
    each task's episodes, and that of all together, must agree within `TOLERANCE` and `ERRORS`
    standard errors.

    Args:
        result: whose `claims` are sound.
        what: the same candidate, suite and season.
        specs: which episodes.
        progress: whether to show a bar.

    Raises:
        ScoringError: see `run`.
    """
    claimed = {episode.id: episode for episode in result.episodes}
    here, again = rerun(what, specs, progress)
    names = sorted({*result.stamps, *here})
    differing = tuple(n for n in names if result.stamps.get(n) != here.get(n))
    same = sum(claimed[spec.id] == again[spec.id] for spec in specs)
    problems = _mean_problems(specs, claimed, again) if differing else _bit_problems(claimed, again)
    return Rerun(len(specs), same, here, differing, tuple(problems))


def write_record(path: Path, result: Result, episodes: int, again: Rerun, seed: int | None) -> Path:
    """Write what is kept of running episodes again, beside the result; return the file.

    Args:
        path: the result's.
        result: what it holds.
        episodes: how many of it are `playable`.
        again: what was found, which must be no problems.
        seed: of the sample; None where all were run.

    Raises:
        OSError: it cannot be written there.
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
    """The file that `write_record` writes beside a result's."""
    return f"{result.removesuffix('.json')}.verified.json"


def _inner_problems(result: Result, specs: Sequence[Spec]) -> Iterator[Problem]:
    """Where an episode contradicts itself.

    Args:
        result: with the episodes of `specs`, in their order.
    """
    names = {task: [*suites.metric_ranges(task)] for task in dict.fromkeys(s.task for s in specs)}
    for spec, episode in zip(specs, result.episodes, strict=True):
        found = contradiction(spec, episode, names[spec.task])
        if found:
            yield Problem(Code.CLAIM, spec.id, found)


def _episode_problems(episodes: Sequence[EpisodeResult], specs: Sequence[Spec]) -> list[Problem]:
    """Where the episodes are not the suite's, each once, in its order."""
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
    """Where something came of an episode for whose task there is no policy: no re-run would tell.

    Args:
        result: with the episodes of `specs`, in their order.
    """
    return [
        Problem(Code.CLAIM, spec.id, "has no policy: it must be missing, and count 0")
        for spec, episode in zip(specs, result.episodes, strict=True)
        if not has_policy(result, spec.task) and episode != missing(spec.id)
    ]


def _aggregate_problems(result: Result, suite: Suite, anchors: Anchors) -> list[Problem]:
    """Where scores are not what the episodes give."""
    try:
        tasks, overall = scored(scope_of(result, suite), suite, anchors, result.episodes)
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
        Problem(Code.CLAIM, where, f"is {_told(ours)}, its episodes give {_told(theirs)}")
        for where, ours, theirs in _differences(claimed, recomputed, rounding)
    ]


def _bit_problems(
    claimed: Mapping[str, EpisodeResult], again: Mapping[str, EpisodeResult]
) -> Iterator[Problem]:
    for name, episode in again.items():
        ours, theirs = (e.model_dump(mode="json") for e in (claimed[name], episode))
        for where, was, now in _differences(ours, theirs):
            message = f"is {_told(was)}, run again {_told(now)}"
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
        was, now = (
            np.array([e[s.id].score / s.primary.ceiling for s in group]) for e in (claimed, again)
        )
        # A single difference shows no spread.
        spread = min(float((was - now).std(ddof=1)), SPREAD) if len(group) > 1 else SPREAD
        tolerance = TOLERANCE + ERRORS * spread / len(group) ** 0.5
        if abs(was.mean() - now.mean()) > tolerance:
            message = (
                f"mean score of {len(group)} episodes, in parts of the ceiling, is "
                f"{was.mean():.6g}, run again {now.mean():.6g}: more than {tolerance:.3g} apart"
            )
            yield Problem(Code.CLAIM, where, message)


def _differences(
    ours: Any, theirs: Any, rounding: float = 0.0, where: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ: the place, and both values there.

    Args:
        ours, theirs: the values.
        rounding: relative difference of numbers that is none.
        where: place of both.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in [*theirs, *(name for name in ours if name not in theirs)]:
            place = f"{where}.{name}" if where else name
            yield from _differences(ours.get(name), theirs.get(name), rounding, place)
    elif _is_number(ours) and _is_number(theirs):
        if not math.isclose(ours, theirs, rel_tol=rounding, abs_tol=rounding):
            yield where, ours, theirs
    elif ours != theirs or type(ours) is not type(theirs):
        yield where, ours, theirs


def _told(value: Any) -> str:
    """A JSON value as it may be printed: a whole task can be missing."""
    return shown(repr(value), _MOST_TOLD)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
