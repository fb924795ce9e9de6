"""Scoring of a policy: every episode of a suite runs exactly once, despite interruptions."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import statistics
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Literal

from tqdm.auto import tqdm

from vnl_envs.problems import Code, Problem, ScoringError, problem
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.documents.schema.board import Anchors
from vnl_envs.scoring.documents.schema.result import Entrant, EpisodeResult, Rates, Result, Speed
from vnl_envs.scoring.documents.schema.suite import Suite, SuiteStamp
from vnl_envs.scoring.documents.schema.text import key_digest, to_text
from vnl_envs.scoring.documents.suites import Spec
from vnl_envs.scoring.results.episodes import completed
from vnl_envs.scoring.results.files import (
    ENGINE_PACKAGES,
    NATIVE,
    is_complete,
    restricted,
    scored,
    write_result,
)
from vnl_envs.scoring.results.scores import check_anchors
from vnl_envs.scoring.run.journal import Journal, Record
from vnl_envs.scoring.run.pools import Actors, Pool, Processes, answers
from vnl_envs.scoring.run.worker import Job, cell_of
from vnl_envs.utils import checks
from vnl_envs.utils.files import written_whole

RESULT, SPEED = "result.json", "speed.json"
MEASURED_CELLS = 2
"""Number of cells of each task in which the speed of this machine is measured first."""
_REFERENCES = {
    "zero": "Holds the standing pose.",
    "random": "Uniform over the action space.",
    "track": "Asks the position servos for the next reference frame; elsewhere holds still.",
    "feedforward": "Asks the servos for the next frame and for what carries its load; elsewhere "
    "holds still.",
}
_REFERENCE_DATE = datetime.date(2026, 1, 1)
ENGINES = (NATIVE, *ENGINE_PACKAGES)
CROSS_CHECKED = 3
"""Default number of episodes of each task in a cross-check on another engine."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Candidate:
    """The policies to score.

    Attributes:
        entrant: entrant for the result.
        suite: name of the suite that they are made for; None for any.
        policies: task id -> bytes of the ONNX file; empty for a reference.
        reference: name of a reference, or None.
    """

    entrant: Entrant
    suite: str | None
    policies: Mapping[str, bytes]
    reference: str | None


@dataclass(frozen=True)
class Season:
    """The seeds of a run.

    Attributes:
        split: "dev" or "test".
        key: key of the seeds.
        season: SHA-256 of the key for "test"; None for "dev".
    """

    split: Literal["dev", "test"]
    key: bytes
    season: str | None


def season_of(suite: Suite, split: str, key_file: Path | None) -> Season:
    """The seeds of a split.

    Raises:
        ValueError: "test" is given without a file, "dev" with one, or the split is unknown.
        ScoringError: the file does not hold a key.
    """
    checks.choice("split", split, ("dev", "test"))
    if (split == "test") != (key_file is not None):
        raise ValueError("--season-key FILE belongs to --split test, and to it alone")
    if key_file is None:
        return Season("dev", suites.dev_key(suite), None)
    key = suites.read_season_key(key_file)
    return Season("test", key, key_digest(key))


def reference(name: str) -> Candidate:
    """The candidate for a reference, a policy that needs no training.

    Raises:
        ValueError: the name is unknown.
    """
    checks.choice("reference", name, tuple(_REFERENCES))
    entrant = Entrant(
        identity=f"reference:{name}",
        name=name,
        authors=["vnl_envs"],
        licence="Apache-2.0",
        date=_REFERENCE_DATE,
        description=_REFERENCES[name],
        policies={},
    )
    return Candidate(entrant, None, {}, name)


def entry(bundle: Path, split: str = "dev") -> Candidate:
    """The candidate for a bundle.

    Raises:
        ScoringError: the bundle has problems; or the split is "test" and policies cannot be
            isolated here, which is checked before any policy is parsed.
    """
    from vnl_envs.scoring.submission.bundles import check

    _exposed(split)
    checked = check(bundle)
    policies = {task: policy.data for task, policy in checked.policies.items()}
    return Candidate(checked.entrant, checked.submission.suite, policies, None)


@dataclass(frozen=True)
class Run:
    """The settings of a run.

    Attributes:
        candidate: policies to score.
        suite: suite.
        anchors: anchors of the suite.
        season: seeds.
        isolated: whether the policies run in the sandbox.
        workers: number of workers, each of which runs one episode at a time.
        address: address of a Ray cluster for the workers; None is this machine.
        engine: one of `ENGINES`; only results of the native one are ranked.
        part: part of the suite to run, see `part_of`; None is the whole suite.
        fresh: see `Job`.
    """

    candidate: Candidate
    suite: Suite
    anchors: Anchors
    season: Season
    isolated: bool
    workers: int
    address: str | None = None
    engine: str = NATIVE
    part: Suite | None = None
    fresh: bool = False

    @property
    def scope(self) -> Suite:
        """The suite or part of it that is run."""
        return self.part or self.suite

    @property
    def job(self) -> Job:
        """The job for the workers."""
        return Job(
            self.scope,
            self.season.key,
            self.candidate.reference,
            dict(self.candidate.policies),
            self.isolated,
            self.engine,
            self.fresh,
        )

    def pool(self) -> Pool:
        """New workers."""
        if self.address is None:
            return Processes(self.job, self.workers)
        return Actors(self.job, self.workers, self.address)

    def has_policy(self, task: str) -> bool:
        """Whether the candidate has a policy for a task."""
        return self.candidate.reference is not None or task in self.candidate.policies


def part_of(
    suite: Suite, engine: str, tasks: Sequence[str] = (), episodes: int | None = None
) -> Suite | None:
    """The requested part of a suite; None for the whole suite.

    Args:
        suite: whole suite.
        engine: one of `ENGINES`.
        tasks: task ids; all tasks if empty.
        episodes: number of episodes of each task, the first counted ones of the nominal tier. None
            is every episode of every tier on the native engine, and `CROSS_CHECKED` episodes on
            others, which are slow.

    Raises:
        ValueError: the engine is unknown, or the suite does not have a task.
    """
    checks.choice("engine", engine, ENGINES)
    known = tuple(task.id for task in suite.tasks)
    for task in tasks:
        checks.choice("task", task, known)
    if episodes is None and engine != NATIVE:
        episodes = CROSS_CHECKED
    if episodes is None and not tasks:
        return None
    specs = [s for s in suites.episodes(suite) if not tasks or s.task in tasks]
    if episodes is not None:
        specs = [s for s in specs if s.tier == suites.NOMINAL and s.cell.counted]
        specs = [s for _, own in groupby(specs, lambda s: s.task) for s in islice(own, episodes)]
    return restricted(suite, [spec.id for spec in specs])


def isolation(candidate: Candidate, season: Season, say: Say) -> bool:
    """Whether the policies of a run are isolated. References are trusted and are not.

    Raises:
        ScoringError: they must be isolated, and cannot.
    """
    if candidate.reference is not None:
        return False
    reason = _exposed(season.split)
    if reason is None:
        return True
    say(f"warning: the policies of this bundle run without a sandbox: {reason}")
    return False


def _exposed(split: str) -> str | None:
    """The reason why policies cannot be isolated here; None if they can.

    Raises:
        ScoringError: they cannot, and the split is "test".
    """
    from vnl_envs.sandbox import launch

    reason = launch.unavailable_reason()
    if reason is not None and split == "test":
        raise problem(Code.SANDBOX, "--split test", f"policies cannot be isolated here: {reason}")
    return reason


def check_versions(suite: Suite, season: Season, say: Say) -> None:
    """Check the versions of installed packages against the suite's pins, and warn otherwise.

    Raises:
        ScoringError: versions differ, and a season is scored.
    """
    problems = suites.version_problems(suite)
    if problems and season.split == "test":
        raise ScoringError(problems)
    for found in problems:
        say(f"warning: {found.where}: {found.message}")


def run(plan: Run, out: Path, say: Say, progress: bool = True) -> tuple[Result, list[Problem]]:
    """Run the missing episodes of a run, and write its result and `speed.json` into its folder.

    After an interruption the same call continues the run. The result does not depend on
    interruptions or on the workers.

    Args:
        plan: settings of the run.
        out: folder of the run.
        say: function that shows a line to people.
        progress: whether to show a progress bar.

    Returns:
        The result, and the problems for which episodes count 0.

    Raises:
        ValueError: the folder holds something else.
        ScoringError: the run is impossible here, or the harness failed.
    """
    check_anchors(plan.suite, plan.anchors)
    specs = suites.episodes(plan.scope)
    with contextlib.closing(plan.pool()) as pool:
        stamps = common_stamps(pool)
        with Journal(out, _header(plan, stamps)) as journal:
            if journal.dropped:
                say(f"{journal.dropped} spoilt lines in {out}: their episodes run again")
            left = [s for s in specs if s.id not in journal.records and plan.has_policy(s.task)]
            _finish(pool, left, journal, say, progress)
    result = _assemble(plan, stamps, journal.records)
    write_result(out / RESULT, result)
    with written_whole(out / SPEED) as partial:
        partial.write_text(to_text(_speed(plan.workers, journal.records.values(), specs)))
    return result, _failures(result, journal.records)


def rerun(
    plan: Run, specs: Sequence[Spec], progress: bool = True
) -> tuple[dict[str, str], dict[str, EpisodeResult]]:
    """Run some episodes, each with a new policy process, without a journal.

    Returns:
        The stamps, and the results of the episodes by id.

    Raises:
        ScoringError: see `run`.
    """
    with contextlib.closing(dataclasses.replace(plan, fresh=True).pool()) as pool:
        stamps = common_stamps(pool)
        finished = records(pool, specs)
        bar = tqdm(finished, total=len(specs), unit="episode", disable=None if progress else True)
        return stamps, {record.episode.id: record.episode for record in bar}


def _finish(pool: Pool, left: Sequence[Spec], journal: Journal, say: Say, progress: bool) -> None:
    """Run the missing episodes, and add each to the journal."""
    if not left:
        return
    seconds, steps = _estimate(pool, left)
    say(
        f"{len(left)} episodes, {steps} control steps if none ends early: at worst "
        f"{_duration(seconds)} on {pool.size} worker{'s' * (pool.size > 1)}, by a short measurement"
    )
    with tqdm(
        total=len(left), unit="episode", smoothing=0.05, disable=None if progress else True
    ) as bar:
        for record in records(pool, left):
            journal.add(record)
            bar.set_postfix_str(record.episode.id, refresh=False)
            bar.update()


def records(pool: Pool, specs: Iterable[Spec]) -> Iterator[Record]:
    """Run episodes, and yield the record of each when it ends.

    Raises:
        ScoringError: the suite is of another version, or the harness failed.
    """
    queue = Queue(specs)

    def following(index: int) -> dict[str, Any] | None:
        spec = queue.following(index)
        return None if spec is None else {"run": spec.id}

    for _, answer in answers(pool, following):
        yield Record.of(answer)


class Queue:
    """Distributes episodes so that workers stay in a cell, and all have work until the end.

    Args:
        specs: episodes.
    """

    def __init__(self, specs: Iterable[Spec]) -> None:
        self._left: dict[tuple[str, str, str], deque[Spec]] = {}
        for spec in specs:
            self._left.setdefault(cell_of(spec), deque()).append(spec)
        self._at: dict[int, tuple[str, str, str]] = {}

    def following(self, worker: int) -> Spec | None:
        """The next episode for a worker; None if there is none."""
        if not self._left:
            return None
        cell = self._at.get(worker)
        if cell not in self._left:
            busy = set(self._at.values())
            untouched = (c for c in self._left if c not in busy)
            # If none is untouched, help in the cell with most episodes left.
            cell = next(untouched, None) or max(self._left, key=lambda c: len(self._left[c]))
            self._at[worker] = cell
        spec = self._left[cell].popleft()
        if not self._left[cell]:
            del self._left[cell]
        return spec


def common_stamps(pool: Pool) -> dict[str, str]:
    """The stamps of all workers.

    Raises:
        ScoringError: they differ, so that the result would depend on the distribution of episodes.
    """
    requests = {index: {"stamps": None} for index in range(pool.size)}
    found = [answer for _, answer in answers(pool, lambda index: requests.pop(index, None))]
    differ = sorted(k for k in found[0] if any(f.get(k) != found[0][k] for f in found))
    if differ:
        raise problem(
            Code.VERSION, "workers", f"differ in {', '.join(differ)}: take machines of one kind"
        )
    return dict(found[0])


def _estimate(pool: Pool, specs: Sequence[Spec]) -> tuple[float, int]:
    """Upper bounds of time, s, and control steps, from a few steps in some cells of each task."""
    cells: dict[str, dict[Any, list[Spec]]] = defaultdict(dict)
    for spec in specs:
        cells[spec.task].setdefault(cell_of(spec), []).append(spec)
    chosen = [
        group[0].id
        for of_task in cells.values()
        for group in list(of_task.values())[:: -(-len(of_task) // MEASURED_CELLS)]
    ]
    requests = ({"measure": spec_id} for spec_id in chosen)
    measured: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _, answer in answers(pool, lambda _: next(requests, None)):
        measured[answer["task"]].append(answer)
    seconds, steps = 0.0, 0
    for task, of_task in cells.items():
        mean = {
            name: statistics.mean(m[name] for m in measured[task])
            for name in ("build", "step", "steps")
        }
        task_steps = round(mean["steps"] * sum(map(len, of_task.values())))
        steps += task_steps
        seconds += mean["step"] * task_steps + mean["build"] * len(of_task)
    return seconds / pool.size, steps


def _header(plan: Run, stamps: Mapping[str, str]) -> dict[str, Any]:
    """The header of a run's journal: everything on which its episodes depend."""
    return {
        "entrant": plan.candidate.entrant.identity,
        "suite": plan.suite.name,
        "suite_sha256": plan.suite.sha256,
        "split": plan.season.split,
        "season": plan.season.season,
        "isolated": plan.isolated,
        "part": plan.part and plan.part.sha256,
        "engine": plan.engine,
        "stamps": dict(stamps),
    }


def _assemble(plan: Run, stamps: dict[str, str], records: Mapping[str, Record]) -> Result:
    """The result of a finished run."""
    # This adds the episodes of tasks without a policy.
    episodes = completed(plan.scope, [record.episode for record in records.values()])
    tasks, overall = scored(plan.scope, plan.suite, plan.anchors, episodes)
    return Result(
        schema_version=1,
        suite=SuiteStamp(name=plan.suite.name, sha256=plan.suite.sha256),
        split=plan.season.split,
        season=plan.season.season,
        entrant=plan.candidate.entrant,
        engine=plan.engine,
        stamps=stamps,
        isolated=plan.isolated,
        episodes=episodes,
        tasks=tasks,
        overall=overall,
        complete=is_complete(plan.suite, plan.engine, episodes),
    )


def _failures(result: Result, records: Mapping[str, Record]) -> list[Problem]:
    """One problem for each reason why episodes count 0, the lowest code first."""
    failed = [e for e in result.episodes if e.reason is not None]
    counts = Counter(str(e.reason) for e in failed)
    first = {str(e.reason): e for e in reversed(failed)}
    by_slug = {code.slug: code for code in Code}
    found = []
    for reason, count in counts.items():
        code, where = by_slug[reason], first[reason].id
        note = records[where].note if where in records else "there is no policy for the task"
        note = note or "the simulation diverged"
        found.append(Problem(code, where, f"{count} episodes count 0; of the first: {note}"))
    return sorted(found)


def _speed(workers: int, records: Iterable[Record], specs: Sequence[Spec]) -> Speed:
    """The speed of a run."""
    task_of = {spec.id: spec.task for spec in specs}
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[task_of[record.episode.id]].append(record)
    every = [record for group in groups.values() for record in group]
    return Speed(
        workers=workers,
        all=_rates(every),
        tasks={task: _rates(group) for task, group in groups.items()},
    )


def _rates(records: Sequence[Record]) -> Rates:
    steps = sum(r.episode.steps for r in records)
    seconds, policy, simulation = (
        sum(getattr(r, name) for r in records)
        for name in ("seconds", "policy_seconds", "simulation_seconds")
    )
    return Rates(
        episodes=len(records),
        steps=steps,
        seconds=round(seconds, 3),
        policy_seconds=round(policy, 3),
        simulation_seconds=round(simulation, 3),
        steps_per_second=round(steps / seconds, 1) if seconds else 0.0,
        overhead=round(1 - (policy + simulation) / seconds, 4) if seconds else 0.0,
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
