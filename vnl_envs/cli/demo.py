"""The demo: replays and videos of trained policies, and a table of their scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from vnl_envs.evaluation.evaluate import Summary, evaluate
from vnl_envs.evaluation.play import write_replay, write_video

EPISODES = 10
SECONDS, VIDEO_SECONDS = 6.0, 3.0
METRICS = ("return", "length")


@dataclass(frozen=True)
class Demo:
    """A trained policy of the package.

    Attributes:
        name: name of its file, and of the written files.
        task_id: id of its task.
        untrained: name of the policy to compare it with.
        options: options of the task.
    """

    name: str
    task_id: str
    untrained: str
    options: dict[str, Any] = field(default_factory=dict)


POLICIES = (
    Demo("rodent", "vnl/RodentGoalReaching-v0", "random"),
    Demo(
        "humanoid",
        "vnl/HumanoidImitation-v0",
        "track",
        # From the clip's start, to show all of it.
        {"clips": ["walk"], "split": "all", "start": 0, "noise": 0.02},
    ),
)


def run(out: Path) -> Table:
    """Write a page and a video of each policy into `out`; return a table of their scores."""
    out.mkdir(parents=True, exist_ok=True)
    title = f"{EPISODES} episodes each, mean and 95 % interval"
    table = Table("task", "policy", *METRICS, title=title, title_justify="left")
    folder = resources.files("vnl_envs.data").joinpath("policies")
    for demo in POLICIES:
        with resources.as_file(folder.joinpath(f"{demo.name}.onnx")) as policy:
            shown = demo.task_id, policy
            write_video(*shown, out / f"{demo.name}.mp4", VIDEO_SECONDS, **demo.options)
            write_replay(*shown, out / f"{demo.name}.html", SECONDS, **demo.options)
            for name, actor in (("trained", policy), (demo.untrained, demo.untrained)):
                done = evaluate(demo.task_id, actor, EPISODES, progress=True, **demo.options)
                figures = {s.metric.name: s for s in done.summaries()}
                table.add_row(demo.task_id, name, *(_cell(figures[name]) for name in METRICS))
    return table


def written(out: Path) -> Iterator[str]:
    """A line for each page to open."""
    for demo in POLICIES:
        yield f"open in a browser: {out / f'{demo.name}.html'}   (video: {demo.name}.mp4)"


def _cell(figure: Summary) -> Text:
    interval = f" [{figure.low:.4g}, {figure.high:.4g}]" if isfinite(figure.low) else ""
    return Text(f"{figure.mean:.4g}{interval}")
