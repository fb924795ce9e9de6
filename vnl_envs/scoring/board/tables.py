"""The tables of a leaderboard: which results are compared with which, and all figures of each.

A board is a folder with `board.json` and `results/`; if there are any, with `seasons.json`,
`submissions/*.zip`, `videos/`, `suites/*.json` and `anchors/*.json` of its own, and beside a result
`*.speed.json` and `*.verified.json`. Results are comparable within one suite and one set of seeds
only, so each such group has a table of its own.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vnl_envs.problems import Code, Problem, ScoringError, problem
from vnl_envs.scoring.board import charts, views
from vnl_envs.scoring.board.videos import read_videos
from vnl_envs.scoring.board.views import TaskFigures, by_task, episode_task
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.documents.schema.board import (
    Anchors,
    Board,
    BoardEntry,
    OpenedSeason,
    Seasons,
    Verified,
    Video,
)
from vnl_envs.scoring.documents.schema.fields import MOST_BYTES
from vnl_envs.scoring.documents.schema.reading import parse
from vnl_envs.scoring.documents.schema.result import Estimate, Policy, Result, Speed
from vnl_envs.scoring.documents.schema.submission import Submission
from vnl_envs.scoring.documents.schema.suite import Suite, SuiteTask
from vnl_envs.scoring.documents.suites import NOMINAL
from vnl_envs.scoring.results.aggregates import AGGREGATES
from vnl_envs.scoring.results.compare import rank_groups
from vnl_envs.scoring.results.files import NATIVE, parse_result, records_name
from vnl_envs.scoring.results.scores import check_anchors
from vnl_envs.scoring.run.verification import claims, has_policy, record_name
from vnl_envs.scoring.submission import archive
from vnl_envs.utils.files import read_inside
from vnl_envs.utils.texts import skeleton

SEASONS = "seasons.json"
_OTHER = "is another than the result says"
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


class Beside(NamedTuple):
    """What a board has beside a result.

    Attributes:
        verified: the record of running episodes again.
        speed: of its run.
        has_bundle: whether its policies are there.
        videos: of its episodes.
    """

    verified: Verified | None
    speed: Speed | None
    has_bundle: bool
    videos: list[Video]


@dataclass(frozen=True)
class Row:
    """An entry of a table.

    Attributes:
        published: its row in `board.json`.
        result: its result.
        tasks: the suite's tasks, in order.
        crosses: what other engines make of it.
        rank: of its group; None where it is not ranked.
        beside: what else the board has of it.
    """

    published: BoardEntry
    result: Result
    tasks: list[TaskFigures]
    crosses: list[Cross]
    rank: int | None
    beside: Beside

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
    def records(self) -> str:
        """Address of its episodes."""
        return records_name(self.download)

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
        """Reference; verified, if the board's keepers ran every episode again; or self-reported."""
        if self.result.entrant.identity.startswith("reference:"):
            return "reference"
        found = self.beside.verified
        whole = found is not None and 0 < found.run_again == found.episodes
        return "verified" if whole else "self-reported"

    @property
    def verification(self) -> str:
        """How it was verified, for people."""
        found = self.beside.verified
        if found is None:
            return "not run again"
        whole = found.run_again == found.episodes
        count = f"all {found.episodes}" if whole else f"{found.run_again} of {found.episodes}"
        return f"{count} episodes run again, {found.same_to_the_bit} the same to the bit"

    @property
    def speed(self) -> Speed | None:
        """How fast its run was, if that is known."""
        return self.beside.speed

    @property
    def bundle(self) -> str | None:
        """Address of its policies, if the board has them."""
        return _bundle(self.published) if self.beside.has_bundle else None

    @property
    def algorithms(self) -> str:
        """See `views.algorithms`."""
        return views.algorithms(self.result)

    @property
    def ranked(self) -> bool:
        """Whether it has a rank."""
        return self.rank is not None

    def aggregate(self, name: str) -> float | None:
        """The mean of an aggregate over tasks and tiers."""
        return views.mean_aggregate(name, self.tasks)

    @property
    def gap(self) -> float | None:
        """The overall's largest change on another engine."""
        gaps = [cross.gap for cross in self.crosses if cross.gap is not None]
        return max(gaps, key=abs) if gaps else None

    @property
    def steps(self) -> int:
        """Of training."""
        return views.environment_steps(self.result)

    @property
    def parameters(self) -> int:
        """Of all policies."""
        return views.parameters(self.result)


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
        return f"task-{self.slug}-{views.slug(task.id)}.html"

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


class Read(NamedTuple):
    """What a board shows.

    Attributes:
        tables: in the order of `_place`; the first is the front page.
        seasons: that were opened, the oldest first.
        problems: why something that it lists is left out.
    """

    tables: list[Table]
    seasons: list[OpenedSeason]
    problems: list[Problem]


def read_board(board: Path) -> Read:
    """The tables of a board, without what is wrong: that is named.

    Raises:
        ScoringError: there is no `board.json`, or that or `seasons.json` is not what it has to be.
    """
    published = _read(Board, board, "board.json").entries
    problems = _twice(name for e in published for name in (e.result, *e.cross_checks))
    seasons = read_seasons(board)
    opened = [season.sha256 for season in seasons]
    groups: dict[_Group, list[tuple[BoardEntry, Result]]] = {}
    names: dict[str, Result] = {}
    for entry in published:
        with _left_out(problems):
            result = _read_result(board, entry.result)
            _check_season(entry, result, opened)
            _check_name(entry, result, names)
            key = _Group(result.suite.name, result.split, result.season)
            _check_identity(entry, result, groups.get(key, []))
            groups.setdefault(key, []).append((entry, result))
    tables: list[Table] = []
    for group, entries in sorted(groups.items(), key=lambda item: _place(item[0], opened)):
        with _left_out(problems):
            suite, anchors = _suite(board, group.suite)
            rows = _rows(board, suite, anchors, entries, problems)
            if rows:
                front = not tables
                tables.append(Table(suite, group.split, group.season, anchors, rows, front))
    return Read(tables, seasons, problems)


def _suite(board: Path, name: str) -> tuple[Suite, Anchors]:
    """A suite and its anchors: the board's own if it has a folder `suites`, else the package's.

    Raises:
        ScoringError: there is no such suite, or the anchors are another's.
    """
    if (board / "suites").is_dir():
        suite = _read(Suite, board, f"suites/{name}.json")
        anchors = _read(Anchors, board, f"anchors/{name}.json")
    else:
        suite = suites.load_suite(name)
        anchors = suites.load_anchors(suite)
    check_anchors(suite, anchors)
    return suite, anchors


@contextlib.contextmanager
def _left_out(problems: list[Problem]) -> Iterator[None]:
    """What fails within is named in `problems`, and the board goes without it."""
    try:
        yield
    except ScoringError as error:
        problems += error.problems


def _check_season(entry: BoardEntry, result: Result, opened: Sequence[str]) -> None:
    if result.split == "test" and result.season not in opened:
        message = f"is {result.season}, which {SEASONS} does not list"
        raise problem(Code.CLAIM, f"{entry.result}: season", message)


def _check_name(entry: BoardEntry, result: Result, names: dict[str, Result]) -> None:
    """Whether readers can tell an entry from those before it, which are kept in `names`."""
    name = result.entrant.name
    first = names.setdefault(skeleton(name), result).entrant
    if first.identity != result.entrant.identity:
        message = f"{name!r} would be taken for {first.name!r}, an entry before it"
        raise problem(Code.SCHEMA, f"{entry.result}: entrant.name", message)


def _check_identity(
    entry: BoardEntry, result: Result, before: Sequence[tuple[BoardEntry, Result]]
) -> None:
    """Whether the entries before it in its table are of other entrants."""
    identity = result.entrant.identity
    for other, known in before:
        if known.entrant.identity == identity:
            message = f"is {identity}, as in {other.result}, an entry before it"
            raise problem(Code.SCHEMA, f"{entry.result}: entrant.identity", message)


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
    seasons = _read(Seasons, board, SEASONS).seasons if (board / SEASONS).exists() else []
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
    board: Path,
    suite: Suite,
    anchors: Anchors,
    entries: Sequence[tuple[BoardEntry, Result]],
    problems: list[Problem],
) -> list[Row]:
    """The rows of a table, in its order, without what contradicts itself or its entry: that is
    named in `problems`.
    """
    sound = []
    for entry, result in entries:
        with _left_out(problems):
            _check_claims(entry.result, result, suite, anchors)
            sound.append((entry, result))
    ranked = [i for i, (_, result) in enumerate(sound) if _is_ranked(result)]
    groups = rank_groups([sound[i][1] for i in ranked], suite, anchors) if ranked else []
    ranks = dict(zip(ranked, groups, strict=True))
    rows = [
        Row(
            published=entry,
            result=result,
            tasks=by_task(result, suite),
            crosses=_crosses(board, suite, anchors, entry, result, problems),
            rank=ranks.get(i),
            beside=_beside(board, entry, result, problems),
        )
        for i, (entry, result) in enumerate(sound)
    ]
    return sorted(rows, key=_order)


def _check_claims(file: str, result: Result, suite: Suite, anchors: Anchors) -> None:
    found = claims(result, suite, anchors)
    if found:
        raise ScoringError([p._replace(where=f"{file}: {p.where}") for p in found])


def _crosses(
    board: Path,
    suite: Suite,
    anchors: Anchors,
    entry: BoardEntry,
    result: Result,
    problems: list[Problem],
) -> list[Cross]:
    crosses = []
    for file in entry.cross_checks:
        with _left_out(problems):
            there = _read_result(board, file)
            other = [*_cross_problems(there, result)]
            if other:
                raise ScoringError([p._replace(where=f"{file}: {p.where}") for p in other])
            _check_claims(file, there, suite, anchors)
            crosses.append(_cross(there, result, suite, anchors))
    return crosses


def _beside(board: Path, entry: BoardEntry, result: Result, problems: list[Problem]) -> Beside:
    verified, speed, has_bundle, videos = None, None, False, []
    with _left_out(problems):
        verified = _verified(board, entry, result)
    with _left_out(problems):
        speed = _speed(board, entry, result)
    with _left_out(problems):
        has_bundle = _has_bundle(board, entry, result)
    with _left_out(problems):
        videos = read_videos(board, entry.result.removesuffix(".json"), result)
    return Beside(verified, speed, has_bundle, videos)


def _verified(board: Path, entry: BoardEntry, result: Result) -> Verified | None:
    name = f"results/{record_name(entry.result)}"
    if not (board / name).exists():
        return None
    found: Verified = _read(Verified, board, name)
    if found.result != result.sha256:
        message = f"is of the result {found.result}, here is {result.sha256}: verify it again"
        raise problem(Code.CLAIM, Path(name).name, message)
    scope = sum(1 for episode in result.episodes if has_policy(result, episode_task(episode.id)))
    if found.episodes != scope or (found.seed is None and found.run_again != scope):
        message = f"is of {found.run_again} of {found.episodes} episodes, the result has {scope}"
        raise problem(Code.CLAIM, Path(name).name, message)
    return found


def _is_ranked(result: Result) -> bool:
    return result.complete and not result.entrant.identity.startswith("reference:")


def _order(row: Row) -> tuple[bool, bool, int, float, str]:
    overall = row.result.overall.value
    return (
        not row.published.pinned,
        row.rank is None,
        row.rank or 0,
        0.0 if overall is None else -overall,
        row.key,
    )


def _bundle(entry: BoardEntry) -> str:
    """Address of an entry's policies, which a board need not have."""
    return f"submissions/{entry.result.removesuffix('.json')}.zip"


def _has_bundle(board: Path, entry: BoardEntry, result: Result) -> bool:
    """Whether a board has the policies of a result; they are not looked into.

    Raises:
        ScoringError: what it has is something else.
    """
    name = _bundle(entry)
    if not (board / name).exists():
        return False
    where = Path(name).name
    try:
        files, problems = archive.unpack(read_file(board, name, archive.MOST_BYTES))
    except ScoringError as error:
        problems = list(error.problems)
    if problems:
        raise ScoringError([found._replace(where=f"{where}: {found.where}") for found in problems])
    identity = archive.identity_of(files)
    if identity != result.entrant.identity:
        message = f"is the bundle {identity}, the result is of {result.entrant.identity}"
        raise problem(Code.CLAIM, where, message)
    said = parse(Submission, files.get(archive.SUBMISSION, b""), where)
    other = [*_other_words(result, said, files)]
    if other:
        raise ScoringError([Problem(Code.CLAIM, f"{where}: {name}", _OTHER) for name in other])
    return True


def _other_words(result: Result, said: Submission, files: Mapping[str, bytes]) -> Iterator[str]:
    """What a result says of its entrant otherwise than its bundle does, but for what takes reading
    a policy.
    """
    for name in ("name", "authors", "licence", "date", "description"):
        if getattr(result.entrant, name) != getattr(said, name):
            yield name
    policies = {
        task: (archive.sha256(files.get(entry.policy, b"")), entry.training)
        for task, entry in said.tasks.items()
    }
    if policies != {t: (p.sha256, p.training) for t, p in result.entrant.policies.items()}:
        yield "policies"


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


def _speed(board: Path, entry: BoardEntry, result: Result) -> Speed | None:
    """What `score run` wrote beside a result; None where there is no such file.

    Raises:
        ScoringError: it is of another run.
    """
    name = f"results/{entry.result.removesuffix('.json')}.speed.json"
    if not (board / name).exists():
        return None
    speed: Speed = _read(Speed, board, name)
    run = [e for e in result.episodes if e.reason != Code.INCOMPLETE.slug]
    has, told = (len(run), sum(e.steps for e in run)), (speed.all.episodes, speed.all.steps)
    if has != told:
        message = (
            f"is of {told[0]} episodes of {told[1]} steps, the result has {has[0]} of {has[1]}"
        )
        raise problem(Code.CLAIM, Path(name).name, message)
    return speed


def _read(kind: Any, board: Path, name: str) -> Any:
    """A document of a board.

    Raises:
        ScoringError: there is none, or it is something else.
    """
    return parse(kind, read_file(board, name, MOST_BYTES), Path(name).name)


def _read_result(board: Path, file: str) -> Result:
    """A result of a board; see `_read`."""
    names = f"results/{file}", f"results/{records_name(file)}"
    summary, records = (read_file(board, name, MOST_BYTES) for name in names)
    return parse_result(summary, records, file)


def read_file(board: Path, name: str, most: int) -> bytes:
    """A file of a board, which no link leads to.

    Raises:
        ScoringError: there is none, or it cannot be read, is no regular file, or larger than
            `most` bytes.
    """
    try:
        return read_inside(board, name, most)
    except FileNotFoundError:
        message = f"no such file in {(board / name).parent}"
    except OSError as error:
        message = str(error.strerror).lower()
    raise problem(Code.SCHEMA, Path(name).name, message)


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
        "episodes_run_again": row.beside.verified.run_again if row.beside.verified else 0,
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
        **{a.name: row.aggregate(a.name) for a in AGGREGATES if not a.nominal},
        "engine_gap": row.gap,
        "algorithms": row.algorithms,
        "env_steps": row.steps,
        "parameters": row.parameters,
        "result": row.download,
    }
    for task in row.tasks:
        values |= _spread(f"{task.task.id} primary", task.primary)
        values |= _spread(f"{task.task.id} normalised", task.normalised)
        for aggregate, tier in itertools.product(AGGREGATES, task.task.tiers):
            if aggregate.nominal == (tier == NOMINAL):
                figure = task.aggregate(aggregate.name, tier)
                name = f"{task.task.id} {aggregate.name} {tier}"
                values[name] = figure.value if figure else None
    return values


def _spread(name: str, estimate: Estimate) -> dict[str, float | None]:
    low, high = views.ends(estimate) or (None, None)
    return {name: estimate.value, f"{name} low": low, f"{name} high": high}


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
