"""Write the top of the leaderboard into the README: `python -m leaderboard.make_readme`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vnl_envs.problems import ScoringError
from vnl_envs.scoring.board import views
from vnl_envs.scoring.board.tables import Row, Table, read_board
from vnl_envs.utils.files import written_whole

FOLDER = Path(__file__).parent
README = FOLDER.parent / "README.md"
MOST = 5
"""Of the ranked entries."""
BEGIN, END = "<!-- leaderboard: python -m leaderboard.make_readme -->", "<!-- /leaderboard -->"


def rows(table: Table) -> Iterator[str]:
    """The lines of a Markdown table: the first ranked entries, then the references."""
    tasks = [views.title(task.id) for task in table.suite.tasks]
    yield f"| rank | policy | overall | {' | '.join(tasks)} |"
    yield "|---|---|---|" + "---|" * len(tasks)
    ranked = [row for row in table.rows if row.ranked][:MOST]
    for row in ranked + [row for row in table.rows if row.status == "reference"]:
        scores = " | ".join(_number(task.normalised.value) for task in row.tasks)
        rank = views.NONE if row.rank is None else row.rank
        yield f"| {rank} | {plain(row.name)} | {_overall(row)} | {scores} |"


def _overall(row: Row) -> str:
    overall, ends = row.result.overall, views.ends(row.result.overall)
    spread = f" ({_number(ends[0])} to {_number(ends[1])})" if ends else ""
    return f"**{_number(overall.value)}**{spread}"


def _number(value: float | None) -> str:
    # Plus 0: no minus before what is 0.00.
    return views.number(None if value is None else round(value, 2) + 0.0, 2)


def plain(name: str) -> str:
    """A name in which nothing is Markdown."""
    return re.sub(r"([^A-Za-z0-9 ])", r"\\\1", name)


def part(board: Path) -> str:
    """What the README has between `BEGIN` and `END`, of the board's front page.

    Raises:
        ScoringError: something on the board is wrong.
    """
    tables, _, problems = read_board(board)
    if problems:
        raise ScoringError(problems)
    table = tables[0]
    text = (
        f"Scores on `{table.suite.name}`, split {table.split}: 0 is the random policy, 1 a task's\n"
        "ceiling. Overall is the mean over the tasks, with its 95 % interval."
    )
    return "\n".join([text, "", *rows(table)])


def with_part(readme: str, text: str) -> str:
    """A README with another part.

    Raises:
        ValueError: it has no place for it.
    """
    begin, end = readme.find(BEGIN), readme.find(END)
    if not 0 <= begin < end:
        raise ValueError(f"README.md must have a line {BEGIN!r}, and later {END!r}")
    return f"{readme[:begin]}{BEGIN}\n{text}\n\n{readme[end:]}"


def main() -> None:
    """Write it."""
    readme = with_part(README.read_text(), part(FOLDER))
    with written_whole(README) as path:
        path.write_text(readme)


if __name__ == "__main__":
    main()
