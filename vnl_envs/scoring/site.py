"""The static leaderboard: pages that need neither a server nor JavaScript."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import vnl_envs
from vnl_envs.files import written_whole
from vnl_envs.scoring import charts, figures, report
from vnl_envs.scoring.compare import THRESHOLDS, Algorithm, algorithm_board
from vnl_envs.scoring.schema import Estimate, OpenedSeason, SuiteTask, Video
from vnl_envs.scoring.seeds import MIN_SEEDS, Aggregate
from vnl_envs.scoring.suites import NOMINAL
from vnl_envs.scoring.tables import Row, Table, read_seasons, read_tables, records, to_csv
from vnl_envs.scoring.videos import FOLDER, read_videos

STATIC = ("style.css", "board.js", "icon.svg")


def build(board: Path, out: Path) -> int:
    """Write the site of a board into a folder, made if need be; return how many pages it has.

    Args:
        board: see `tables`.
        out: what is there already stays, or is replaced.

    Raises:
        ScoringError: a document is missing, not what it has to be, or of another suite.
        OSError: something cannot be read or written.
    """
    tables = read_tables(board)
    videos = {row.key: read_videos(board, row.key) for t in tables for row in t.rows}
    pages = _pages(tables, videos, read_seasons(board))
    for folder in ("data", "results"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        _write(out / name, text)
    templates = resources.files("vnl_envs.scoring").joinpath("templates")
    for name in STATIC:
        _write(out / name, templates.joinpath(name).read_text("utf-8"))
    for table in tables:
        rows = records(table)
        _write(out / f"{table.data}.csv", to_csv(rows))
        _write(out / f"{table.data}.json", json.dumps(rows, indent=1, allow_nan=False) + "\n")
        for row in table.rows:
            _copy(board, out, row.download)
            if row.bundle:
                _copy(board, out, row.bundle)
    if (board / FOLDER).is_dir():
        shutil.copytree(board / FOLDER, out / FOLDER, dirs_exist_ok=True)
    return len(pages)


def _write(path: Path, text: str) -> None:
    with written_whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        file.write(text)


def _copy(board: Path, out: Path, name: str) -> None:
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(board / name, out / name)


def _pages(
    tables: Sequence[Table], videos: dict[str, list[Video]], seasons: Sequence[OpenedSeason]
) -> dict[str, str]:
    """File name -> page."""
    env = report.templates()
    env.globals.update(
        boards=tables, version=vnl_envs.__version__, efficiency=_efficiency, estimate=_estimate
    )
    pages = {}

    def add(name: str, template: str, **values: Any) -> None:
        pages[name] = env.get_template(template).render(page=name, **values)

    for table in tables:
        add(table.page, "board.html", board=table, seasons=seasons)
        for task in table.suite.tasks:
            add(table.task_page(task), "task.html", board=table, **_task(table, task, videos))
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


def _task(table: Table, task: SuiteTask, videos: dict[str, list[Video]]) -> dict[str, Any]:
    """What `task.html` shows."""
    index = table.suite.tasks.index(task)
    entries = [(row, row.tasks[index]) for row in table.rows]
    entries.sort(key=lambda pair: -(pair[1].primary.value or 0.0))
    strata = list(dict.fromkeys(name for _, scored in entries for name in scored.strata))
    widths = figures.widths(strata)
    scores = [scored.score for _, scored in entries if scored.score]
    filmed = [(row, shown) for row, _ in entries if (shown := _of_task(videos[row.key], task))]
    leader, shown = filmed[0] if filmed else (None, [])
    return {
        "task": task,
        "entries": entries,
        "columns": strata if widths is None else [text for _, text in widths],
        "drawing": report.ladder([(row.name, scored) for row, scored in entries]),
        "cells": task.tiers.get(NOMINAL, []),
        "means": {row.key: {c.cell.id: c.mean for c in scored.cells} for row, scored in entries},
        "random": table.random(task),
        "shows_width": any(score.half_width for score in scores),
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
        table: whose entries are their runs.
        board: those with enough runs.
        refused: name -> why not, of the others.
        profile: the share of runs above each score; None where there are no algorithms.
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
    """Overall score over the environment steps of all policies together."""
    rows: list[Row] = [r for r in table.rows if r.steps and r.result.overall.value is not None]
    if not rows:
        return None
    dots = [charts.Dot(row.name, row.steps, row.result.overall) for row in rows]
    return report.Drawing(charts.scatter(dots, "environment steps", "overall score"), [])
