"""Draw learning curves from the committed logs: python -m baselines.plot docs/images/ppo.png."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import typer

from vnl_envs.files import written_whole

RESULTS = Path(__file__).parent / "results"
_COLUMNS = 3
_UNTRAINED = {"zero": ":", "random": "--", "track": "-."}


def draw(folder: Path, path: Path) -> None:
    """One panel for each task: the mean action's return, and lines for the untrained policies.

    Args:
        folder: with a log for each task, and perhaps scores.json.
        path: the picture.
    """
    logs = sorted(folder.glob("*.csv"), reverse=True)
    scores = folder / "scores.json"
    records = json.loads(scores.read_text()) if scores.is_file() else []
    untrained = {Path(r["task"]).name: next(iter(r["scores"].values())) for r in records}
    rows = -(-len(logs) // _COLUMNS)
    figure, axes = plt.subplots(
        rows, _COLUMNS, figsize=(4 * _COLUMNS, 3 * rows), squeeze=False, layout="constrained"
    )
    for axis, log in zip(axes.flat, logs, strict=False):
        with log.open(newline="") as file:
            _panel(axis, log.stem, csv.DictReader(file), untrained.get(log.stem, {}))
    for axis in axes.flat[len(logs) :]:
        axis.remove()
    lines = {line.get_label(): line for axis in figure.axes for line in axis.lines}
    figure.legend(handles=list(lines.values()), loc="outside lower center", ncols=len(lines))
    with written_whole(path) as partial:
        figure.savefig(partial, dpi=110)
    plt.close(figure)


def _panel(
    axis: Any, title: str, rows: Iterable[Mapping[str, str]], untrained: Mapping[str, Any]
) -> None:
    rows = list(rows)
    for column, label, style in (
        ("training_return", "in training", {"alpha": 0.4}),
        ("return", "mean action", {"marker": ".", "color": "tab:orange"}),
    ):
        known = [(int(r["step"]) / 1e6, float(r[column])) for r in rows if r[column]]
        axis.plot(*zip(*known, strict=True), label=label, **style)
    for name, line in _UNTRAINED.items():
        if name in untrained:
            mean = untrained[name]["return"]["mean"]
            axis.axhline(mean, linestyle=line, color="grey", label=name, linewidth=1)
    axis.set(title=title, xlabel="million steps", ylabel="return")


def main(
    path: Annotated[Path, typer.Argument(help="the picture to write")],
    algorithm: Annotated[str, typer.Option(help="whose logs")] = "ppo",
) -> None:
    """Draw the learning curves of an algorithm's committed logs."""
    draw(RESULTS / algorithm, path)


if __name__ == "__main__":
    typer.run(main)
