"""The tables of a leaderboard: which results are compared with which, and all figures of each.

A board is a folder with `board.json`, `results/*.json`, `suites/*.json`, `anchors/*.json`, and if
there are any `seasons.json`, `submissions/*.zip` and `videos/`. Results are comparable within one
suite and one set of seeds only, so each such group has a table of its own.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vnl_envs.scoring import archive, charts, figures
from vnl_envs.scoring.compare import rank_groups
from vnl_envs.scoring.figures import TaskFigures, by_task, episode_task
from vnl_envs.scoring.problems import Code, Problem, ScoringError
from vnl_envs.scoring.results import NATIVE
from vnl_envs.scoring.schema import (
    Anchors,
    Board,
    Estimate,
    OpenedSeason,
    Policy,
    Published,
    Result,
    Seasons,
    Speed,
    Suite,
    SuiteTask,
    parse,
)
from vnl_envs.scoring.suites import NOMINAL
from vnl_envs.scoring.verification import claims

SEASONS = "seasons.json"
# A spreadsheet would compute a text that starts so.
_FORMULAS = ("=", "+", "-", "@", "\t")


class Cross(NamedTuple):
    """An entry on another engine.

    Attributes:
        engine: its name.
        gap: how much higher the normalised score is there, in the mean over tasks of the episodes
            that both have; None where there are none.
        episodes: how many these are.
    """

    engine: str
    gap: float | None
    episodes: int


@dataclass(frozen=True)
class Row:
    """An entry of a table.

    Attributes:
        published: its row in `board.json`.
        result: its result.
        tasks: the suite's tasks, in order.
        crosses: what other engines make of it.
        rank: of its group; None where it is not ranked.
        speed: `<result>.speed.json`, if the board has it.
        bundle: address of its policies, if the board has them.
    """

    published: Published
    result: Result
    tasks: list[TaskFigures]
    crosses: list[Cross]
    rank: int | None
    speed: Speed | None
    bundle: str | None

    @property
    def key(self) -> str:
        """Unique on the board."""
        return self.published.result.removesuffix(".json")

    @property
    def page(self) -> str:
        """Address of its page."""
        return f"entry-{self.key}.html"

    @property
    def download(self) -> str:
        """Address of its result."""
        return f"results/{self.published.result}"

    @property
    def name(self) -> str:
        """Of the entrant."""
        return self.result.entrant.name

    @property
    def authors(self) -> str:
        """In one line."""
        return ", ".join(self.result.entrant.authors)

    @property
    def status(self) -> str:
        """Verified, self-reported or reference."""
        return self.published.status

    @property
    def algorithms(self) -> str:
        """See `figures.algorithms`."""
        return figures.algorithms(self.result)

    @property
    def ranked(self) -> bool:
        """Whether it has a rank."""
        return self.rank is not None

    @property
    def retention(self) -> float | None:
        """Mean over tasks and tiers."""
        return figures.retention(self.tasks)

    @property
    def gap(self) -> float | None:
        """The overall's largest change on another engine."""
        gaps = [cross.gap for cross in self.crosses if cross.gap is not None]
        return max(gaps, key=abs) if gaps else None

    @property
    def steps(self) -> int:
        """Of training."""
        return figures.environment_steps(self.result)

    @property
    def parameters(self) -> int:
        """Of all policies."""
        return figures.parameters(self.result)


@dataclass(frozen=True)
class Table:
    """The entries of one suite and one set of seeds.

    Attributes:
        suite: theirs.
        split, season: whose seeds.
        anchors: the suite's.
        rows: pinned ones first, then by rank and score.
        front: whether it is the board's front page.
    """

    suite: Suite
    split: str
    season: str | None
    anchors: Anchors
    rows: list[Row]
    front: bool

    @property
    def page(self) -> str:
        """Address of its page."""
        return "index.html" if self.front else f"board-{self.slug}.html"

    @property
    def slug(self) -> str:
        """For addresses."""
        season = f"-{self.season[:8]}" if self.season else ""
        return f"{self.suite.name}-{self.split}{season}"

    @property
    def title(self) -> str:
        """For people."""
        season = f" {self.season[:8]}" if self.season else ""
        return f"{self.suite.name} · {self.split}{season}"

    @property
    def data(self) -> str:
        """Address of the whole table, without suffix."""
        return f"data/{self.slug}"

    @property
    def pinned(self) -> list[Row]:
        """What stays on top."""
        return [row for row in self.rows if row.published.pinned]

    @property
    def others(self) -> list[Row]:
        """What is sorted."""
        return [row for row in self.rows if not row.published.pinned]

    @property
    def episodes(self) -> int:
        """Of the suite."""
        cells = (c for task in self.suite.tasks for tier in task.tiers.values() for c in tier)
        return sum(cell.episodes for cell in cells)

    @cached_property
    def domain(self) -> charts.Domain:
        """Of all bars of normalised scores."""
        overall = [row.result.overall for row in self.rows]
        return charts.domain(overall + [t.normalised for row in self.rows for t in row.tasks])

    def random(self, task: SuiteTask) -> Estimate:
        """What the random policy gets in a task."""
        return self.anchors.tasks[task.id].primary

    def task_page(self, task: SuiteTask) -> str:
        """Address of a task's page."""
        return f"task-{self.slug}-{figures.slug(task.id)}.html"

    @property
    def trained(self) -> list[tuple[Row, TaskFigures, Policy]]:
        """Every policy with training behind it, with the entry and task it is of."""
        return [
            (row, task, row.result.entrant.policies[task.task.id])
            for row in self.rows
            for task in row.tasks
            if task.task.id in row.result.entrant.policies
        ]

    @property
    def timed(self) -> list[Row]:
        """Entries whose run was timed."""
        return [row for row in self.rows if row.speed]


# Reading ------------------------------------------------------------------------------------------


def read_tables(board: Path) -> list[Table]:
    """The tables of a board in the order of `_place`; the first is the front page.

    Raises:
        ScoringError: see `build`.
    """
    published = _read(Board, board / "board.json").entries
    problems = _twice(name for e in published for name in (e.result, *e.cross_checks))
    opened = [season.sha256 for season in read_seasons(board)]
    groups: dict[_Group, list[tuple[Published, Result]]] = {}
    for entry in published:
        try:
            result = _read(Result, board / "results" / entry.result)
        except ScoringError as error:
            problems += error.problems
            continue
        if result.split == "test" and result.season not in opened:
            message = f"is {result.season}, which {SEASONS} does not list"
            problems.append(Problem(Code.CLAIM, f"{entry.result}: season", message))
            continue
        key = _Group(result.suite.name, result.split, result.season)
        groups.setdefault(key, []).append((entry, result))
    tables = []
    ordered = sorted(groups.items(), key=lambda item: _place(item[0], opened))
    for i, (group, entries) in enumerate(ordered):
        try:
            suite = _read(Suite, board / "suites" / f"{group.suite}.json")
            anchors = _read(Anchors, board / "anchors" / f"{group.suite}.json")
            rows = _rows(board, suite, anchors, entries)
        except ScoringError as error:
            problems += error.problems
            continue
        tables.append(Table(suite, group.split, group.season, anchors, rows, front=i == 0))
    if problems:
        raise ScoringError(problems)
    return tables


class _Group(NamedTuple):
    """What results of one table share."""

    suite: str
    split: str
    season: str | None


def _place(group: _Group, opened: Sequence[str]) -> tuple[str, int, int]:
    """Where a table stands: suites by name ("core" before "quick"), of each the newest version
    first, and its newest season before others and before the split whose seeds everybody knows.
    """
    family, _, version = group.suite.rpartition("-v")
    age = -opened.index(group.season) if group.season in opened else 1
    return family or version, -int(version) if version.isdecimal() else 0, age


def read_seasons(board: Path) -> list[OpenedSeason]:
    """The seasons of a board, the oldest first; none where it has no list of them.

    Raises:
        ScoringError: the list is none, or has a season twice.
    """
    path = board / SEASONS
    seasons = _read(Seasons, path).seasons if path.is_file() else []
    twice = [k for k, n in Counter(season.sha256 for season in seasons).items() if n > 1]
    if twice:
        raise ScoringError([Problem(Code.SCHEMA, SEASONS, f"lists {k} twice") for k in twice])
    return seasons


def _twice(names: Iterable[str]) -> list[Problem]:
    """Names that would be one file where upper and lower case are the same."""
    counts = Counter(name.casefold() for name in names)
    return [
        Problem(Code.SCHEMA, "board.json", f"lists {name!r} {count} times")
        for name, count in counts.items()
        if count > 1
    ]


def _rows(
    board: Path, suite: Suite, anchors: Anchors, entries: Sequence[tuple[Published, Result]]
) -> list[Row]:
    """The rows of a table, in its order.

    Raises:
        ScoringError: a result is not what its episodes give, or of another version of the suite;
            a cross-check is neither, or of something else than its entry on another engine;
            a bundle is not the entry's.
    """
    problems = [
        found._replace(where=f"{entry.result}: {found.where}")
        for entry, result in entries
        for found in claims(result, suite, anchors)
    ]
    elsewhere = {
        file: (_read(Result, board / "results" / file), result)
        for entry, result in entries
        for file in entry.cross_checks
    }
    problems += [
        found._replace(where=f"{file}: {found.where}")
        for file, (there, here) in elsewhere.items()
        for found in [*_cross_problems(there, here)] or claims(there, suite, anchors)
    ]
    problems += [p for entry, result in entries for p in _bundle_problems(board, entry, result)]
    if problems:
        raise ScoringError(problems)
    crosses = {
        file: _cross(there, here, suite, anchors) for file, (there, here) in elsewhere.items()
    }
    ranked = [i for i, (entry, result) in enumerate(entries) if _is_ranked(entry, result)]
    groups = rank_groups([entries[i][1] for i in ranked], suite, anchors) if ranked else []
    ranks = dict(zip(ranked, groups, strict=True))
    rows = [
        _row(board, suite, entry, result, [crosses[f] for f in entry.cross_checks], ranks.get(i))
        for i, (entry, result) in enumerate(entries)
    ]
    return sorted(rows, key=_order)


def _is_ranked(entry: Published, result: Result) -> bool:
    return entry.status != "reference" and result.complete


def _order(row: Row) -> tuple[bool, bool, int, float, str]:
    overall = row.result.overall.value
    return (
        not row.published.pinned,
        row.rank is None,
        row.rank or 0,
        0.0 if overall is None else -overall,
        row.key,
    )


def _row(
    board: Path, suite: Suite, entry: Published, result: Result, crosses: list[Cross],
    rank: int | None,
) -> Row:  # fmt: skip
    key = entry.result.removesuffix(".json")
    bundle = _bundle(entry)
    return Row(
        published=entry,
        result=result,
        tasks=by_task(result, suite),
        crosses=crosses,
        rank=rank,
        speed=_speed(board / "results" / f"{key}.speed.json"),
        bundle=bundle if (board / bundle).is_file() else None,
    )


def _bundle(entry: Published) -> str:
    """Address of an entry's policies, which a board need not have."""
    return f"submissions/{entry.result.removesuffix('.json')}.zip"


def _bundle_problems(board: Path, entry: Published, result: Result) -> list[Problem]:
    """Why the policies that a board has are not those of a result; they are not looked into."""
    path = board / _bundle(entry)
    if not path.is_file():
        return []
    try:
        files, problems = archive.read_bundle(path)
    except ScoringError as error:
        problems = list(error.problems)
    if problems:
        return [found._replace(where=f"{path.name}: {found.where}") for found in problems]
    identity = archive.identity_of(files)
    if identity == result.entrant.identity:
        return []
    message = f"is the bundle {identity}, the result is of {result.entrant.identity}"
    return [Problem(Code.CLAIM, path.name, message)]


def _cross_problems(there: Result, here: Result) -> Iterator[Problem]:
    """Why a result is no cross-check of another one."""
    for name, was, expected in (
        ("entrant", there.entrant.identity, here.entrant.identity),
        ("split", there.split, here.split),
        ("season", there.season, here.season),
    ):
        if was != expected:
            yield Problem(Code.CLAIM, name, f"is {was}, of the entry it is {expected}")
    if there.engine == NATIVE:
        yield Problem(Code.CLAIM, "engine", f"is {NATIVE}: a cross-check is of another one")


def _cross(there: Result, here: Result, suite: Suite, anchors: Anchors) -> Cross:
    """A result held against that of the same entrant on another engine."""
    own = {episode.id: episode.score for episode in here.episodes}
    gaps = []
    shared = 0
    for task in suite.tasks:
        differences = [
            episode.score - own[episode.id]
            for episode in there.episodes
            if episode.id in own and episode_task(episode.id) == task.id
        ]
        shared += len(differences)
        if differences:
            scale = task.primary.ceiling - (anchors.tasks[task.id].primary.value or 0.0)
            gaps.append(float(np.mean(differences)) / scale)
    return Cross(there.engine, float(np.mean(gaps)) if gaps else None, shared)


def _speed(path: Path) -> Speed | None:
    """What `score run` wrote beside a result; None where there is no such file."""
    return parse(Speed, path.read_bytes(), path.name) if path.is_file() else None


def _read(kind: Any, path: Path) -> Any:
    """A document of a board.

    Raises:
        ScoringError: there is none, or it is something else.
    """
    if not path.is_file():
        raise ScoringError([Problem(Code.SCHEMA, path.name, f"no such file in {path.parent}")])
    return parse(kind, path.read_bytes(), path.name)


# The whole table ----------------------------------------------------------------------------------


def records(table: Table) -> list[dict[str, Any]]:
    """Every figure of every row as plain values, under the same names in each."""
    return [_record(table, row) for row in table.rows]


def _record(table: Table, row: Row) -> dict[str, Any]:
    entrant, stamp = row.result.entrant, row.result.suite
    values: dict[str, Any] = {
        "rank": row.rank,
        "name": row.name,
        "authors": row.authors,
        "status": row.status,
        "identity": entrant.identity,
        "licence": entrant.licence,
        "date": str(entrant.date),
        "suite": stamp.name,
        "suite_sha256": stamp.sha256,
        "split": table.split,
        "season": table.season,
        "engine": row.result.engine,
        "complete": row.result.complete,
        **_spread("overall", row.result.overall),
        "retention": row.retention,
        "engine_gap": row.gap,
        "algorithms": row.algorithms,
        "env_steps": row.steps,
        "parameters": row.parameters,
        "result": row.download,
    }
    for task in row.tasks:
        values |= _spread(f"{task.task.id} primary", task.primary)
        values |= _spread(f"{task.task.id} normalised", task.normalised)
        for tier in task.task.tiers:
            if tier != NOMINAL:
                values[f"{task.task.id} retention {tier}"] = figures.retention([task], tier)
    return values


def _spread(name: str, estimate: Estimate) -> dict[str, float | None]:
    return {name: estimate.value, f"{name} low": estimate.low, f"{name} high": estimate.high}


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Records as CSV (RFC 4180); nothing in it is a formula to a spreadsheet."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else [])
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULAS):
        return f"'{value}"
    return value
