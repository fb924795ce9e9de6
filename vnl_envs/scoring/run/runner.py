"""Scoring of a policy: every episode of a suite runs exactly once, despite interruptions."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from vnl_envs.problems import Code, Problem, problem
from vnl_envs.scoring.documents.schema.result import EpisodeResult, Rates, Result, Speed
from vnl_envs.scoring.documents.schema.suite import Spec, SuiteStamp
from vnl_envs.scoring.documents.schema.text import to_text
from vnl_envs.scoring.results.episodes import completed
from vnl_envs.scoring.results.files import is_complete, write_result
from vnl_envs.scoring.results.scores import aggregate, check_anchors
from vnl_envs.scoring.run.journal import Journal, Record
from vnl_envs.scoring.run.plan import Run, Say
from vnl_envs.scoring.run.pools import Pool, answers
from vnl_envs.scoring.run.worker import cell_of
from vnl_envs.utils.files import written_whole

RESULT, SPEED = "result.json", "speed.json"
MEASURED_CELLS = 2
"""Number of cells of each task in which the speed of this machine is measured first."""


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
    specs = plan.scope.specs
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
    tasks, overall = aggregate(plan.suite, plan.anchors, episodes, plan.part)
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
