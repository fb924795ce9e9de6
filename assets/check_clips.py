"""Check the embedded clips: write `vnl_envs/data/clips/check.json` and the tables of `CHECK.md`.

    python assets/check_clips.py [report.html]

The page with plots is written where a name for it is given. `docs/motion_check.md` explains the
figures; *followed* needs the task and is measured here.
"""

from __future__ import annotations

import json
import sys

import vnl_envs
from vnl_envs.motion.checking.check import ClipReport, check_clips
from vnl_envs.motion.checking.report import COLUMNS, LEGEND, page, record
from vnl_envs.tasks.imitation import Imitation
from vnl_envs.utils.files import written_whole
from vnl_envs.utils.resources import packaged

TASKS = ("vnl/RodentImitation-v0", "vnl/HumanoidImitation-v0")
CLIPS = packaged("clips")
INTRODUCTION = f"""# Embedded clips: checks

Written by `python assets/check_clips.py`, with [check.json](check.json).
[What the figures mean](../../../docs/motion_check.md).

{LEGEND}
Followed: frames that position servos alone keep up with, from the first (`--policy track`)."""


def followed(task_id: str, report: ClipReport) -> str:
    """How many of a clip's frames the servos follow."""
    clip = {"clips": [report.name], "split": "all", "start": 0}
    result = vnl_envs.evaluate(task_id, "track", 1, **clip)
    available = report.frames - 1
    return f"{round(float(result.values['survived'][0]) * available)} of {available}"


def table(task_id: str, reports: tuple[ClipReport, ...]) -> list[str]:
    """Lines of the table of a task's clips, and what is wrong with them."""
    headings = ["clip", "label", "split", "verdict", *(c.heading for c in COLUMNS), "followed"]
    lines = [
        "",
        f"## {task_id}",
        "",
        "| " + " | ".join(headings) + " |",
        "|---" * len(headings) + "|",
    ]
    for report in reports:
        cells = [f"`{report.name}`", report.label, report.split, report.verdict]
        cells += [column.text(report.figures) for column in COLUMNS]
        lines.append("| " + " | ".join([*cells, followed(task_id, report)]) + " |")
    wrong = [
        f"- `{report.name}`: {'; '.join(report.reasons)}" for report in reports if report.reasons
    ]
    return [*lines, "", *wrong] if wrong else lines


def main() -> None:
    """Write the reports."""
    text, found = [INTRODUCTION], []
    for task_id in TASKS:
        task = vnl_envs.make_task(task_id, split="all")
        assert isinstance(task, Imitation)
        reports = check_clips(task.reference.clips, task.body)
        text += table(task_id, reports)
        found += reports
    with written_whole(CLIPS / "CHECK.md") as partial:
        partial.write_text("\n".join(text) + "\n")
    with written_whole(CLIPS / "check.json") as partial:
        partial.write_text(json.dumps(record(found), indent=1, ensure_ascii=False) + "\n")
    if len(sys.argv) > 1:
        with written_whole(sys.argv[1]) as partial:
            partial.write_text(page(found, "Embedded clips"))
    print("\n".join(text))


if __name__ == "__main__":
    main()
