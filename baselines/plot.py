"""Draw learning curves from the committed logs: python -m baselines.plot docs/images/ppo.png."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import typer

from baselines.run import rows_of
from vnl_envs.utils.files import written_whole

RESULTS = Path(__file__).parent / "results"
_COLUMNS = 3
_UNTRAINED = {"zero": ":", "random": "--", "track": "-.", "feedforward": (0, (1, 3))}


def draw(
    folder: Path,
    path: Path,
    beside: Path | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Draw one panel per task: the return of the mean action, and lines for untrained policies.

    Args:
        folder: folder with a log for each task, and optionally scores.json.
        path: image file.
        beside: another such folder, whose curves are drawn up to the end of the first ones.
    """
    logs = sorted(folder.glob("*.csv"), reverse=True)
    scores = folder / "scores.json"
    records = json.loads(scores.read_text()) if scores.is_file() else []
    untrained = {Path(r["task"]).name: next(iter(r["scores"].values())) for r in records}
    columns = min(_COLUMNS, len(logs))
    rows = -(-len(logs) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4 * columns, 3 * rows), squeeze=False, layout="constrained"
    )
    for axis, log in zip(axes.flat, logs, strict=False):
        logged = rows_of(log)
        _panel(axis, log.stem, logged, untrained.get(log.stem, {}))
        if beside is not None and (beside / log.name).is_file():
            last = int(logged[-1]["step"])
            shared = [row for row in rows_of(beside / log.name) if int(row["step"]) <= last]
            style = {"marker": ".", "color": "tab:green"}
            axis.plot(*_curve(shared, "return"), label=f"mean action, {beside.name}", **style)
    for axis in axes.flat[len(logs) :]:
        axis.remove()
    lines = {line.get_label(): line for axis in figure.axes for line in axis.lines}
    figure.legend(handles=list(lines.values()), loc="outside lower center", ncols=2 * columns)
    with written_whole(path) as partial:
        figure.savefig(partial, dpi=110, metadata=dict(metadata or {}))
    plt.close(figure)


def _curve(rows: Sequence[Mapping[str, str]], column: str) -> tuple[list[float], list[float]]:
    """Million steps and values, for the rows that have a value in the column."""
    known = [row for row in rows if row.get(column)]
    return [int(row["step"]) / 1e6 for row in known], [float(row[column]) for row in known]


def _panel(
    axis: Any, title: str, rows: Sequence[Mapping[str, str]], untrained: Mapping[str, Any]
) -> None:
    for column, label, style in (
        ("training_return", "in training", {"alpha": 0.4}),
        ("return", "mean action", {"marker": ".", "color": "tab:orange"}),
    ):
        axis.plot(*_curve(rows, column), label=label, **style)
    for name, line in _UNTRAINED.items():
        if name in untrained:
            mean = untrained[name]["return"]["mean"]
            axis.axhline(mean, linestyle=line, color="grey", label=name, linewidth=1)
    axis.set(title=title, xlabel="million steps", ylabel="return")


def main(
    path: Annotated[Path, typer.Argument(help="image file to write")],
    algorithm: Annotated[str, typer.Option(help="algorithm of the logs")] = "ppo",
    beside: Annotated[str | None, typer.Option(help="algorithm to compare with")] = None,
) -> None:
    """Draw the learning curves of an algorithm's committed logs."""
    draw(RESULTS / algorithm, path, RESULTS / beside if beside else None)


if __name__ == "__main__":
    typer.run(main)
