"""Reading of a board from its folder, which is untrusted.

A board is a folder with `board.json` and `results/`. Optional parts are `seasons.json`,
`submissions/*.zip`, `videos/`, its own `suites/*.json` and `anchors/*.json`, and `*.speed.json` and
`*.verified.json` beside a result. Results are comparable only within one suite and one set of
seeds, so each such group has its own table.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vnl_envs.problems import Code, Problem, ScoringError, problem
from vnl_envs.scoring.board.replays import FOLDER, read_replays
from vnl_envs.scoring.board.tables import Beside, Cross, Row, Table, bundle_path
from vnl_envs.scoring.board.videos import read_videos
from vnl_envs.scoring.board.views import by_task, episode_task
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.documents.schema.board import (
    Anchors,
    Board,
    BoardEntry,
    OpenedSeason,
    Seasons,
    Verified,
)
from vnl_envs.scoring.documents.schema.fields import MOST_BYTES
from vnl_envs.scoring.documents.schema.reading import parse
from vnl_envs.scoring.documents.schema.result import Result, Speed
from vnl_envs.scoring.documents.schema.submission import Submission
from vnl_envs.scoring.documents.schema.suite import Suite
from vnl_envs.scoring.results.compare import rank_groups
from vnl_envs.scoring.results.files import NATIVE, parse_result, records_name
from vnl_envs.scoring.results.scores import check_anchors
from vnl_envs.scoring.run.verification import claims, has_policy, record_name
from vnl_envs.scoring.submission import archive
from vnl_envs.utils.files import read_inside
from vnl_envs.utils.texts import skeleton

SEASONS = "seasons.json"
_OTHER = "is another than the result says"


class Read(NamedTuple):
    """The content of a board.

    Attributes:
        tables: tables in the order of `_place`; the first is the front page.
        seasons: opened seasons, the oldest first.
        problems: reasons why listed parts are left out.
    """

    tables: list[Table]
    seasons: list[OpenedSeason]
    problems: list[Problem]


def read_board(board: Path) -> Read:
    """Read the tables of a board. Invalid parts are left out and reported.

    Raises:
        ScoringError: `board.json` is missing, or it or `seasons.json` is invalid.
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
    """A suite and its anchors: the board's own if it has a folder `suites`, else the packaged ones.

    Raises:
        ScoringError: there is no such suite, or the anchors are of another one.
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
    """Context whose scoring errors are added to `problems` instead of raised."""
    try:
        yield
    except ScoringError as error:
        problems += error.problems


def _check_season(entry: BoardEntry, result: Result, opened: Sequence[str]) -> None:
    if result.split == "test" and result.season not in opened:
        message = f"is {result.season}, which {SEASONS} does not list"
        raise problem(Code.CLAIM, f"{entry.result}: season", message)


def _check_name(entry: BoardEntry, result: Result, names: dict[str, Result]) -> None:
    """Check that the name of an entry cannot be confused with earlier ones, kept in `names`."""
    name = result.entrant.name
    first = names.setdefault(skeleton(name), result).entrant
    if first.identity != result.entrant.identity:
        message = f"{name!r} would be taken for {first.name!r}, an entry before it"
        raise problem(Code.SCHEMA, f"{entry.result}: entrant.name", message)


def _check_identity(
    entry: BoardEntry, result: Result, before: Sequence[tuple[BoardEntry, Result]]
) -> None:
    """Check that earlier entries of the table are of other entrants."""
    identity = result.entrant.identity
    for other, known in before:
        if known.entrant.identity == identity:
            message = f"is {identity}, as in {other.result}, an entry before it"
            raise problem(Code.SCHEMA, f"{entry.result}: entrant.identity", message)


class _Group(NamedTuple):
    """The common key of the results in one table."""

    suite: str
    split: str
    season: str | None


def _place(group: _Group, opened: Sequence[str]) -> tuple[str, int, int]:
    """The sort key of a table.

    Suites are sorted by name ("core" before "quick"), then by version, the newest first, then by
    season, the newest first and the public split last.
    """
    family, _, version = group.suite.rpartition("-v")
    age = -opened.index(group.season) if group.season in opened else 1
    return family or version, -int(version) if version.isdecimal() else 0, age


def read_seasons(board: Path) -> list[OpenedSeason]:
    """The seasons of a board, the oldest first; empty if it has no list of them.

    Raises:
        ScoringError: the list is invalid, or has a season twice.
    """
    seasons = _read(Seasons, board, SEASONS).seasons if (board / SEASONS).exists() else []
    twice = [k for k, n in Counter(season.sha256 for season in seasons).items() if n > 1]
    if twice:
        raise ScoringError([Problem(Code.SCHEMA, SEASONS, f"lists {k} twice") for k in twice])
    return seasons


def _twice(names: Iterable[str]) -> list[Problem]:
    """Problems of names that differ only in case, which can be one file."""
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
    """The sorted rows of a table. Results with contradictions are reported in `problems`."""
    valid = []
    for entry, result in entries:
        with _left_out(problems):
            _check_claims(entry.result, result, suite, anchors)
            valid.append((entry, result))
    ranked = [i for i, (_, result) in enumerate(valid) if _is_ranked(result)]
    groups = rank_groups([valid[i][1] for i in ranked], suite, anchors) if ranked else []
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
        for i, (entry, result) in enumerate(valid)
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
            cross = _read_result(board, file)
            found = [*_cross_problems(cross, result)]
            if found:
                raise ScoringError([p._replace(where=f"{file}: {p.where}") for p in found])
            _check_claims(file, cross, suite, anchors)
            crosses.append(_cross(cross, result, suite, anchors))
    return crosses


def _beside(board: Path, entry: BoardEntry, result: Result, problems: list[Problem]) -> Beside:
    verified, speed, has_bundle, videos, replays = None, None, False, [], []
    key = entry.result.removesuffix(".json")
    with _left_out(problems):
        verified = _verified(board, entry, result)
    with _left_out(problems):
        speed = _speed(board, entry, result)
    with _left_out(problems):
        has_bundle = _has_bundle(board, entry, result)
    with _left_out(problems):
        videos = read_videos(board, key, result)
    with _left_out(problems):
        replays = read_replays(board, f"{FOLDER}/{key}", result)
    return Beside(verified, speed, has_bundle, videos, replays)


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


def _has_bundle(board: Path, entry: BoardEntry, result: Result) -> bool:
    """Whether a board has the bundle of a result. Its policies are not parsed.

    Raises:
        ScoringError: the bundle is invalid, or of another result.
    """
    name = bundle_path(entry)
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
    submission = parse(Submission, files.get(archive.SUBMISSION, b""), where)
    differing = [*_differing_fields(result, submission, files)]
    if differing:
        raise ScoringError([Problem(Code.CLAIM, f"{where}: {name}", _OTHER) for name in differing])
    return True


def _differing_fields(
    result: Result, submission: Submission, files: Mapping[str, bytes]
) -> Iterator[str]:
    """Names of the entrant's fields that differ between a result and its bundle.

    Facts that need parsing of a policy are left out.
    """
    for name in ("name", "authors", "licence", "date", "description"):
        if getattr(result.entrant, name) != getattr(submission, name):
            yield name
    policies = {
        task: (archive.sha256(files.get(entry.policy, b"")), entry.training)
        for task, entry in submission.tasks.items()
    }
    if policies != {t: (p.sha256, p.training) for t, p in result.entrant.policies.items()}:
        yield "policies"


def _cross_problems(cross: Result, native: Result) -> Iterator[Problem]:
    """Reasons why a result is not a cross-check of another one."""
    for name, actual, expected in (
        ("entrant", cross.entrant.identity, native.entrant.identity),
        ("split", cross.split, native.split),
        ("season", cross.season, native.season),
    ):
        if actual != expected:
            yield Problem(Code.CLAIM, name, f"is {actual}, of the entry it is {expected}")
    if cross.engine == NATIVE:
        yield Problem(Code.CLAIM, "engine", f"is {NATIVE}: a cross-check is of another one")


def _cross(cross: Result, native: Result, suite: Suite, anchors: Anchors) -> Cross:
    """The comparison of a result with that of the same entrant on another engine."""
    scores = {episode.id: episode.score for episode in native.episodes}
    gaps = []
    shared = 0
    for task in suite.tasks:
        differences = [
            episode.score - scores[episode.id]
            for episode in cross.episodes
            if episode.id in scores and episode_task(episode.id) == task.id
        ]
        shared += len(differences)
        if differences:
            scale = task.primary.ceiling - (anchors.tasks[task.id].primary.value or 0.0)
            gaps.append(float(np.mean(differences)) / scale)
    return Cross(cross.engine, float(np.mean(gaps)) if gaps else None, shared)


def _speed(board: Path, entry: BoardEntry, result: Result) -> Speed | None:
    """The speed that `score run` wrote beside a result; None if there is no such file.

    Raises:
        ScoringError: the file is invalid, or of another run.
    """
    name = f"results/{entry.result.removesuffix('.json')}.speed.json"
    if not (board / name).exists():
        return None
    speed: Speed = _read(Speed, board, name)
    run = [e for e in result.episodes if e.reason != Code.INCOMPLETE.slug]
    expected = len(run), sum(e.steps for e in run)
    actual = speed.all.episodes, speed.all.steps
    if actual != expected:
        message = (
            f"is of {actual[0]} episodes of {actual[1]} steps, the result has {expected[0]} of "
            f"{expected[1]}"
        )
        raise problem(Code.CLAIM, Path(name).name, message)
    return speed


def _read(kind: Any, board: Path, name: str) -> Any:
    """Read a document of a board.

    Raises:
        ScoringError: the file is missing or invalid.
    """
    return parse(kind, read_file(board, name, MOST_BYTES), Path(name).name)


def _read_result(board: Path, file: str) -> Result:
    """Read a result of a board; see `_read`."""
    names = f"results/{file}", f"results/{records_name(file)}"
    summary, records = (read_file(board, name, MOST_BYTES) for name in names)
    return parse_result(summary, records, file)


def read_file(board: Path, name: str, most: int) -> bytes:
    """Read a file of a board. Links are refused.

    Raises:
        ScoringError: the file is missing, cannot be read, is not a regular one, or is larger than
            `most` bytes.
    """
    try:
        return read_inside(board, name, most)
    except FileNotFoundError:
        message = f"no such file in {(board / name).parent}"
    except OSError as error:
        message = str(error.strerror).lower()
    raise problem(Code.SCHEMA, Path(name).name, message)
