"""The first thing a newcomer runs: trained policies to look at, and a table of scores."""

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
SECONDS = 6.0
SHOWN = ("return", "length")


@dataclass(frozen=True)
class Shown:
    """A trained policy of the package.

    Attributes:
        name: of its file, and of what is written.
        task_id: what it does.
        untrained: a policy to compare it with.
        options: of the task.
    """

    name: str
    task_id: str
    untrained: str
    options: dict[str, Any] = field(default_factory=dict)


POLICIES = (
    Shown("rodent", "vnl/RodentGoalReaching-v0", "random"),
    Shown(
        "humanoid",
        "vnl/HumanoidImitation-v0",
        "track",
        # From the clip's start, so that all of it is seen.
        {"clips": ["walk"], "split": "all", "start": 0, "noise": 0.02},
    ),
)


def run(out: Path) -> Table:
    """Write a page and a video of each policy into `out`; return a table of their scores."""
    out.mkdir(parents=True, exist_ok=True)
    title = f"{EPISODES} episodes each, mean and 95 % interval"
    table = Table("task", "policy", *SHOWN, title=title, title_justify="left")
    folder = resources.files("vnl_envs.data").joinpath("policies")
    for shown in POLICIES:
        with resources.as_file(folder.joinpath(f"{shown.name}.onnx")) as policy:
            seen = shown.task_id, policy
            write_video(*seen, out / f"{shown.name}.mp4", SECONDS, **shown.options)
            write_replay(*seen, out / f"{shown.name}.html", SECONDS, **shown.options)
            for name, actor in (("trained", policy), (shown.untrained, shown.untrained)):
                done = evaluate(shown.task_id, actor, EPISODES, progress=True, **shown.options)
                figures = {s.metric.name: s for s in done.summaries()}
                table.add_row(shown.task_id, name, *(_cell(figures[name]) for name in SHOWN))
    return table


def written(out: Path) -> Iterator[str]:
    """What there is to open, a line each."""
    for shown in POLICIES:
        yield f"open in a browser: {out / f'{shown.name}.html'}   (video: {shown.name}.mp4)"


def _cell(figure: Summary) -> Text:
    interval = f" [{figure.low:.4g}, {figure.high:.4g}]" if isfinite(figure.low) else ""
    return Text(f"{figure.mean:.4g}{interval}")
