"""The first thing a newcomer runs: two videos and a table of scores."""

from __future__ import annotations

from math import isfinite
from pathlib import Path

from rich.table import Table
from rich.text import Text

from vnl_envs.evaluation.evaluate import Summary, evaluate
from vnl_envs.evaluation.play import write_video
from vnl_envs.evaluation.policies import NAMES

TASKS = ("vnl/RodentImitation-v0", "vnl/HumanoidImitation-v0")
EPISODES = 20
SECONDS = 8.0
SHOWN = ("return", "survived", "joint_error")


def run(out: Path) -> Table:
    """Write the videos into `out`, score the untrained policies and return the table."""
    out.mkdir(parents=True, exist_ok=True)
    for task_id in TASKS:
        video = out / f"{task_id.split('/')[1].removesuffix('-v0').lower()}.mp4"
        # From the start of a clip, so that the body moves as long as it can keep up.
        write_video(task_id, "track", video, SECONDS, start=0)
    title = f"{EPISODES} episodes each, mean and 95 % interval"
    table = Table("task", "policy", *SHOWN, title=title, title_justify="left")
    for task_id in TASKS:
        for policy in NAMES:
            result = evaluate(task_id, policy, EPISODES, progress=True)
            figures = {s.metric.name: s for s in result.summaries()}
            table.add_row(task_id, policy, *(_cell(figures[name]) for name in SHOWN))
    return table


def _cell(figure: Summary) -> Text:
    interval = f" [{figure.low:.3g}, {figure.high:.3g}]" if isfinite(figure.low) else ""
    return Text(f"{figure.mean:.3g}{interval}")
