"""Score the references and the baselines: `python -m leaderboard.make_board RUNS [NAME ...]`.

RUNS is a folder for unfinished runs; the same command resumes them. Results are written to
`results/` and added to `board.json`: `NAME.json` on the leaderboard's suite, `SUITE-NAME.json` on
another one (`--suite SUITE`). Three options process existing results: `--verify` runs every
episode again and writes `results/NAME.verified.json`, `--cross` runs some episodes on MJX, and
`--film` films some into `videos/`, which the repository does not keep.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from leaderboard import make_submissions
from vnl_envs.problems import ScoringError
from vnl_envs.registry import get_row
from vnl_envs.scoring.board import replays, videos
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.documents.schema.board import Board, BoardEntry
from vnl_envs.scoring.documents.schema.reading import read
from vnl_envs.scoring.documents.schema.result import Result
from vnl_envs.scoring.documents.schema.text import to_text
from vnl_envs.scoring.results.files import read_result, write_result
from vnl_envs.scoring.run import plan, runner, verification
from vnl_envs.utils.files import written_whole

FOLDER = Path(__file__).parent
BOARD, RESULTS = FOLDER / "board.json", FOLDER / "results"
REFERENCES = ("zero", "random", "track", "feedforward")
CROSS_ENGINE = "jax"
"""Implementation of a cross-check. On a CPU it is 30 times as fast as Warp."""
CROSS_BODY = "rodent"
"""Body whose tasks are cross-checked. Only one, as each task takes minutes to compile."""


@dataclass(frozen=True)
class Row:
    """A reference or a baseline on a suite.

    Attributes:
        name: name of the reference or the bundle.
        suite: name of the suite.
    """

    name: str
    suite: str = make_submissions.SUITE

    @property
    def stem(self) -> str:
        """Name of its files."""
        return make_submissions.stem(self.name, self.suite)

    @property
    def candidate(self) -> plan.Candidate:
        """The reference, or the baseline packed from its checkpoints."""
        if self.name in REFERENCES:
            return plan.reference(self.name)
        return plan.entry(make_submissions.pack(self.name, self.suite))


def run_of(row: Row) -> plan.Run:
    """The run of a row."""
    scored, suite = row.candidate, suites.load_suite(row.suite)
    season = plan.season_of(suite, "dev", None)
    isolated = plan.isolation(scored, season, print)
    workers = os.cpu_count() or 1
    return plan.Run(scored, suite, suites.load_anchors(suite), season, isolated, workers)


def score(row: Row, runs: Path) -> None:
    """Run a candidate and publish its result."""
    run = run_of(row)
    out = runs / f"{row.suite}-{row.name}"
    result, _ = runner.run(run, out, print)
    RESULTS.mkdir(exist_ok=True)
    write_result(RESULTS / f"{row.stem}.json", result)
    speed = out / runner.SPEED
    if speed.is_file():
        shutil.copyfile(speed, RESULTS / f"{row.stem}.speed.json")
    publish(BoardEntry(result=f"{row.stem}.json", pinned=row.name in REFERENCES))


def verify(row: Row) -> None:
    """Run every episode of a published result again, and keep the record.

    Raises:
        ScoringError: the result is of another candidate, or the episodes do not reproduce it.
    """
    run = run_of(row)
    result = check_published(row, run)
    specs = verification.playable(result, run.suite)
    again = verification.run_again(result, run, specs)
    if again.problems:
        raise ScoringError(again.problems)
    verification.write_record(RESULTS / f"{row.stem}.json", result, len(specs), again, None)


def cross_check(row: Row, runs: Path) -> None:
    """Run some nominal episodes of a published result on another engine, and publish the result.

    Args:
        row: row of the result.
        runs: folder for unfinished runs.

    Raises:
        ScoringError: the result is of another candidate.
    """
    run = run_of(row)
    check_published(row, run)
    chosen = [
        task.id
        for task in run.suite.tasks
        if get_row(task.id).body == CROSS_BODY and run.has_policy(task.id)
    ]
    part = plan.part_of(run.suite, CROSS_ENGINE, chosen)
    run = dataclasses.replace(run, engine=CROSS_ENGINE, part=part)
    out = runs / f"{row.suite}-{row.name}-{CROSS_ENGINE}"
    result, _ = runner.run(run, out, print)
    file = f"{row.stem}.{CROSS_ENGINE}.json"
    write_result(RESULTS / file, result)
    (entry,) = (entry for entry in board() if entry.result == f"{row.stem}.json")
    publish(entry.model_copy(update={"cross_checks": [file]}))


def film(row: Row) -> None:
    """Film some episodes of a published result.

    Raises:
        ScoringError: the result is of another candidate.
    """
    run = run_of(row)
    result = check_published(row, run)
    videos.write_videos(result, run, FOLDER / videos.FOLDER, row.stem)
    replay(row)


def replay(row: Row) -> None:
    """Write replays of the same episodes.

    Raises:
        ScoringError: the result is of another candidate.
    """
    run = run_of(row)
    replays.write_replays(check_published(row, run), run, FOLDER / replays.FOLDER, row.stem)


def check_published(row: Row, run: plan.Run) -> Result:
    """The result on the board, checked to be of the same candidate.

    Raises:
        ScoringError: the result is of another candidate or contradicts itself, and must be scored
            again.
    """
    result = read_result(RESULTS / f"{row.stem}.json")
    problems = verification.claims(result, run.suite, run.anchors)
    problems = problems or verification.run_problems(result, run)
    if problems:
        raise ScoringError(problems)
    return result


def board() -> list[BoardEntry]:
    """The rows of the board."""
    return read(Board, BOARD).entries if BOARD.is_file() else []


def publish(row: BoardEntry) -> None:
    """Put a row into the board. It replaces the row of the same result, or is added at the end,
    because a name belongs to the first row that has it. The pin of a replaced row and its
    cross-checks of the same policies are kept.
    """
    rows = {old.result: old for old in board()}
    if (old := rows.get(row.result)) is not None:
        kept = [f for f in old.cross_checks if _same(f, row.result)]
        crosses = list(dict.fromkeys([*kept, *row.cross_checks]))
        pinned = row.pinned or old.pinned
        row = row.model_copy(update={"pinned": pinned, "cross_checks": crosses})
    rows[row.result] = row
    with written_whole(BOARD) as partial:
        partial.write_text(to_text(Board(schema_version=1, entries=[*rows.values()])))


def _same(a: str, b: str) -> bool:
    """Whether two results are of the same entrant."""
    one, other = (read_result(RESULTS / file).entrant.identity for file in (a, b))
    return one == other


def main(
    runs: Annotated[Path, typer.Argument(help="folder for unfinished runs, made if needed")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="entries; default all")
    ] = None,
    suite: Annotated[str, typer.Option(help="name of a packaged suite")] = make_submissions.SUITE,
    cross: Annotated[
        bool, typer.Option("--cross", help=f"cross-check results on MJX ({CROSS_ENGINE})")
    ] = False,
    verified: Annotated[bool, typer.Option("--verify", help="run all episodes again")] = False,
    films: Annotated[bool, typer.Option("--film", help="film results")] = False,
) -> None:
    """Score entries, or process their results as the options say."""
    runs.mkdir(parents=True, exist_ok=True)
    for name in names or (*REFERENCES, *make_submissions.BASELINES):
        row = Row(name, suite)
        if verified:
            verify(row)
        if cross:
            cross_check(row, runs)
        if films:
            film(row)
        if not (verified or cross or films):
            score(row, runs)


if __name__ == "__main__":
    typer.run(main)
