"""The static leaderboard: pages that need neither a server nor JavaScript."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import vnl_envs
from vnl_envs.problems import Problem
from vnl_envs.replays import page as player
from vnl_envs.scoring.board import charts, replays, report, views
from vnl_envs.scoring.board.reading import read_board, read_file
from vnl_envs.scoring.board.records import records, to_csv
from vnl_envs.scoring.board.tables import Row, Table
from vnl_envs.scoring.board.videos import read_video
from vnl_envs.scoring.documents.schema.board import OpenedSeason, Video
from vnl_envs.scoring.documents.schema.fields import MOST_BYTES
from vnl_envs.scoring.documents.schema.result import Estimate
from vnl_envs.scoring.documents.schema.suite import SuiteTask
from vnl_envs.scoring.documents.suites import NOMINAL
from vnl_envs.scoring.results.aggregates import AGGREGATES
from vnl_envs.scoring.results.compare import THRESHOLDS, Algorithm, algorithm_board
from vnl_envs.scoring.submission import archive
from vnl_envs.statistics.across_seeds import MIN_SEEDS, Aggregate
from vnl_envs.utils.files import read_inside, written_whole

LIST = ".site.json"
"""File with the list of files that a build wrote, for the next build."""
STATIC = ("style.css", "board.js", "icon.svg")


class Built(NamedTuple):
    """A site: its number of pages, and reasons why listed parts of the board are left out."""

    pages: int
    problems: list[Problem]


def build(board: Path, out: Path, home: str = "") -> Built:
    """Write the site of a board into a folder, made if necessary.

    Invalid parts of the board are left out and reported. Only listed and checked files are copied:
    results, bundles and videos.

    Args:
        board: folder of the board, see `vnl_envs.scoring.board.reading`.
        out: folder of the site. Files of the same names are replaced. Files that the previous
            build wrote and this one does not are removed, unless they were changed since. Other
            files stay.
        home: relative address of the site that the pages belong to; "" if there is none.

    Raises:
        ScoringError: see `read_board`.
        OSError: a file cannot be written.
    """
    tables, seasons, problems = read_board(board)
    pages = _pages(tables, seasons, home)
    out.mkdir(parents=True, exist_ok=True)
    before, written = _listed(out), {}

    def write(name: str, content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        _write(out / name, data)
        written[name] = archive.sha256(data)

    for name, text in pages.items():
        write(name, text)
    templates = resources.files("vnl_envs.scoring.board").joinpath("templates")
    for name in STATIC:
        write(name, templates.joinpath(name).read_text("utf-8"))
    write(player.THEME, player.file(player.THEME))
    for table in tables:
        rows = records(table)
        write(f"{table.data}.csv", to_csv(rows))
        write(f"{table.data}.json", json.dumps(rows, indent=1, allow_nan=False) + "\n")
        for row in table.rows:
            for name, data in itertools.chain(_downloads(board, row), _replays(board, row)):
                write(name, data)
    # In the board's own folder nothing is removed.
    if not out.samefile(board):
        _remove(out, before, written)
    _write(out / LIST, json.dumps(written, indent=1).encode())
    return Built(len(pages), problems)


def _downloads(board: Path, row: Row) -> Iterator[tuple[str, bytes]]:
    """Files of an entry that are published unchanged: address and content."""
    for name in (row.download, row.records):
        yield name, read_file(board, name, MOST_BYTES)
    if row.bundle:
        yield row.bundle, read_file(board, row.bundle, archive.MOST_BYTES)
    for video in row.beside.videos:
        yield video.file, read_video(board, video)


def _replays(board: Path, row: Row) -> Iterator[tuple[str, bytes]]:
    """The replays of an entry, with the files that all of them share: address and content."""
    place, back = f"{replays.FOLDER}/{row.key}", f"../{row.page}"
    for name, data in replays.pages(board, place, row.beside.replays, row.key, row.name, back):
        yield f"{replays.FOLDER}/{name}", data


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        partial.write_bytes(data)


def _listed(out: Path) -> dict[str, str]:
    """Files of the previous build: name -> SHA-256; empty if unknown."""
    try:
        found = json.loads(read_inside(out, LIST, MOST_BYTES))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remove(out: Path, before: Mapping[str, str], written: Iterable[str]) -> None:
    """Remove unchanged files of the previous build that this one did not write."""
    # Names that differ only in case may be the same file.
    kept = {name.casefold() for name in written}
    for name in before:
        if name.casefold() in kept or Path(name).is_absolute():
            continue
        with contextlib.suppress(OSError, ValueError):
            if archive.sha256(read_inside(out, name, archive.MOST_BYTES)) == before[name]:
                (out / name).unlink()


def _pages(tables: Sequence[Table], seasons: Sequence[OpenedSeason], home: str) -> dict[str, str]:
    """File name -> page."""
    env = report.templates()
    env.globals.update(
        boards=tables,
        version=vnl_envs.__version__,
        efficiency=_efficiency,
        estimate=_estimate,
        home=home,
    )
    pages = {}

    def add(name: str, template: str, **values: Any) -> None:
        pages[name] = env.get_template(template).render(page=name, **values)

    for table in tables:
        add(table.page, "board.html", board=table, seasons=seasons)
        for task in table.suite.tasks:
            add(table.task_page(task), "task.html", board=table, **_task(table, task))
        for row in table.rows:
            names = f"{row.key}.json", f"{row.key}.zip"
            more = report.context(row.result, table.suite, *names)
            add(row.page, "entry.html", board=table, row=row, **more)
    if not tables:
        add("index.html", "empty.html")
    add("cost.html", "cost.html")
    add(
        "algorithms.html",
        "algorithms.html",
        groups=[*map(_algorithms, tables)],
        min_seeds=MIN_SEEDS,
    )
    return pages


def _task(table: Table, task: SuiteTask) -> dict[str, Any]:
    """The variables of `task.html`."""
    index = table.suite.tasks.index(task)
    entries = [(row, row.tasks[index]) for row in table.rows]
    entries.sort(key=lambda pair: -(pair[1].primary.value or 0.0))
    strata = list(dict.fromkeys(name for _, scored in entries for name in scored.strata))
    widths = views.widths(strata)
    scores = [scored.score for _, scored in entries if scored.score]
    filmed = [(row, shown) for row, _ in entries if (shown := _of_task(row.beside.videos, task))]
    leader, shown = filmed[0] if filmed else (None, [])
    return {
        "task": task,
        "entries": entries,
        "columns": strata if widths is None else [text for _, text in widths],
        "drawing": report.ladder([(row.name, scored) for row, scored in entries]),
        "cells": task.tiers.get(NOMINAL, []),
        "means": {row.key: {c.cell.id: c.mean for c in scored.cells} for row, scored in entries},
        "random": table.random(task),
        "shown": [
            a for a in AGGREGATES if a.nominal and any(t.aggregate(a.name) for _, t in entries)
        ],
        "shows_uncounted": any(score.uncounted for score in scores),
        "leader": leader,
        "videos": shown,
    }


def _of_task(videos: list[Video], task: SuiteTask) -> list[Video]:
    return [video for video in videos if video.task == task.id]


@dataclass(frozen=True)
class Algorithms:
    """The algorithms of a table over their training seeds.

    Attributes:
        table: table whose entries are the runs.
        board: algorithms with enough runs.
        refused: name -> reason, for the others.
        profile: plot of the share of runs above each score; None without algorithms.
    """

    table: Table
    board: list[Algorithm]
    refused: dict[str, str]
    profile: report.Drawing | None


def _algorithms(table: Table) -> Algorithms:
    results = [row.result for row in table.rows if row.ranked]
    board, refused = algorithm_board(results, table.suite)
    if not board:
        return Algorithms(table, board, refused, None)
    lines = [
        charts.Series(a.name, list(zip(THRESHOLDS, map(_estimate, a.profile), strict=True)))
        for a in board[: charts.LINES]
    ]
    drawn = report.Drawing(charts.plot(lines, "normalised score", "share of runs above it"), lines)
    return Algorithms(table, board, refused, drawn)


def _estimate(figure: Aggregate) -> Estimate:
    return Estimate(value=figure.value, low=figure.low, high=figure.high, units=0)


def _efficiency(table: Table) -> report.Drawing | None:
    """A plot of overall scores over the environment steps of all policies of an entry."""
    rows: list[Row] = [r for r in table.rows if r.steps and r.result.overall.value is not None]
    if not rows:
        return None
    dots = [charts.Dot(row.name, row.steps, row.result.overall) for row in rows]
    return report.Drawing(charts.scatter(dots, "environment steps", "overall score"), [])
