"""Write the tasks and the top of the board into the README: `python -m leaderboard.make_readme`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from vnl_envs.envs.core import Core
from vnl_envs.problems import ScoringError
from vnl_envs.registry import make_task, task_about, task_ids
from vnl_envs.scoring.board import views
from vnl_envs.scoring.board.reading import read_board
from vnl_envs.scoring.board.tables import Row, Table
from vnl_envs.utils.files import written_whole

FOLDER = Path(__file__).parent
README = FOLDER.parent / "README.md"
MOST = 5
"""Number of ranked entries in the README."""


def tasks() -> str:
    """The README's table of tasks with their goals and sizes."""
    lines = ["| id | what | observation | action |", "|---|---|---|---|"]
    for task_id in (id for id in task_ids() if id.startswith("vnl/")):
        task = make_task(task_id)
        sizes = f"{Core(task, 1, 1).size} | {task.body.nu}"
        lines.append(f"| `{task_id}` | {task_about(task_id)} | {sizes} |")
    return "\n".join(lines)


def board() -> str:
    """The README's top rows of the board's front page.

    Raises:
        ScoringError: something on the board is wrong.
    """
    tables, _, problems = read_board(FOLDER)
    if problems:
        raise ScoringError(problems)
    table = tables[0]
    text = (
        f"Scores on `{table.suite.name}`, split {table.split}: 0 is the random policy, 1 a task's\n"
        "ceiling. Overall is the mean over the tasks, with its 95 % interval."
    )
    return "\n".join([text, "", *rows(table)])


PARTS: dict[str, Callable[[], str]] = {"tasks": tasks, "leaderboard": board}


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
    # Adding 0 removes the minus sign of a rounded -0.00.
    return views.number(None if value is None else round(value, 2) + 0.0, 2)


def plain(name: str) -> str:
    """A name with Markdown characters escaped."""
    return re.sub(r"([^A-Za-z0-9 ])", r"\\\1", name)


def with_part(readme: str, name: str, text: str) -> str:
    """A README in which the text of one of the `PARTS` is replaced.

    Raises:
        ValueError: the README has no marks of the part.
    """
    first, last = f"<!-- {name}: python -m leaderboard.make_readme -->", f"<!-- /{name} -->"
    begin, end = readme.find(first), readme.find(last)
    if not 0 <= begin < end:
        raise ValueError(f"README.md must have a line {first!r}, and later {last!r}")
    return f"{readme[:begin]}{first}\n{text}\n\n{readme[end:]}"


def main() -> None:
    """Write all parts."""
    readme = README.read_text()
    for name, part in PARTS.items():
        readme = with_part(readme, name, part())
    with written_whole(README) as path:
        path.write_text(readme)


if __name__ == "__main__":
    main()
