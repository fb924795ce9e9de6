"""Write the plots and the tables of results of the pages on baselines: python -m baselines.tables.

They come from committed files alone. A plot names the digest of its logs, so that a test sees when
it is stale.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from PIL import Image

from baselines.plot import RESULTS, draw
from baselines.run import rows_of
from vnl_envs.registry import make_task
from vnl_envs.utils.files import written_whole

ROOT = Path(__file__).parents[1]
DOCS, IMAGES = ROOT / "docs", ROOT / "docs" / "images"
MEASURED = ROOT / "benchmarks" / "results"
PLOTS: dict[str, tuple[str, str | None]] = {
    "ppo.png": ("ppo", None),
    "dmpo.png": ("dmpo", "ppo"),
    "imitation.png": ("ppo_intention", None),
    "transfer.png": ("transfer", "ppo"),
}
"""Picture -> whose logs, and whose it is drawn beside."""
_KEY = "Logs"
_UNTRAINED = ("zero", "random", "track", "feedforward")
_TRANSFER_STEPS = (0.15, 0.25, 0.5, 1, 2, 2.95)


class Table(NamedTuple):
    """A table of a page, between two comments that have its name.

    Attributes:
        page: file in `docs`.
        text: makes it, Markdown.
    """

    page: str
    text: Callable[[], str]


def scores() -> str:
    """The scores of every committed baseline."""
    heads = ["baseline", "task", "split", "million steps", *_UNTRAINED, "trained", "at half step"]
    rows = (cells for row in records() for cells in _score_cells(*row))
    return markdown([*heads, "length", "besides"], rows)


def cartpole() -> str:
    """DMPO's returns on cartpole-swingup beside published ones of SAC."""
    own = {
        int(row["step"]): row["return"] for row in rows_of(RESULTS / "dmpo/cartpole-swingup.csv")
    }
    published = rows_of(RESULTS / "published/cartpole-swingup.csv")
    rows = [
        (f"{int(r['step']):,}".replace(",", " "), own[int(r["step"])], r["return"])
        for r in published
    ]
    return markdown(
        ["steps", "DMPO", published[0]["algorithm"]],
        ((steps, *(f"{float(value):.0f}" for value in values)) for steps, *values in rows),
    )


def learners() -> str:
    """Updates per second of learners."""
    found = json.loads((MEASURED / "learner_speed.json").read_text())["learners"]
    return markdown(
        ["learner", "updates/CPU s", "updates/s"],
        (
            (name, f"{speed['updates_per_cpu_s']:.1f}", f"{speed['updates_per_s']:.1f}")
            for name, speed in found.items()
        ),
    )


def transfer() -> str:
    """Returns in training with the reused decoder and from scratch."""
    rows = []
    for log in sorted((RESULTS / "transfer").glob("*.csv")):
        for name, folder in (("decoder", "transfer"), ("scratch", "ppo")):
            logged = rows_of(RESULTS / folder / log.name)
            returns = [_latest(logged, steps) for steps in _TRANSFER_STEPS]
            rows.append((f"`vnl/{log.stem}`, {name}", *returns))
    return markdown(["return in training, at million steps", *map(str, _TRANSFER_STEPS)], rows)


def ablation(study: str) -> str:
    """The figures of each variant of a study, for each seed and on average."""
    variants = json.loads((MEASURED / f"ablation_{study}.json").read_text())["variants"]
    names = [name for name in next(iter(variants.values())) if name != "step"]
    heads = ["", *(head for name in names for head in (name, "mean"))]

    def cells(name: str, figures: Mapping[str, Any]) -> list[str]:
        parts = [figures[name] for name in names]
        return [
            name,
            *itertools.chain.from_iterable(
                (", ".join(f"{x:.3g}" for x in part["seeds"]), f"{part['mean']:.3g}")
                for part in parts
            ),
        ]

    return markdown(heads, (cells(*variant) for variant in variants.items()))


def ablation_curves(study: str) -> str:
    """The return at each evaluation of a study, means over seeds."""
    found = json.loads((MEASURED / f"ablation_{study}.json").read_text())
    steps, rows = [], []
    for name in found["variants"]:
        stem = f"{study}-{name.replace(' ', '-')}"
        paths = (MEASURED / "ablation" / f"{stem}-{seed}.csv" for seed in found["seeds"])
        logs = [[row for row in rows_of(path) if row["return"]] for path in paths]
        steps = [f"{int(row['step']) / 1e6:.2f}" for row in logs[0]]
        columns = ([float(row["return"]) for row in column] for column in zip(*logs, strict=True))
        rows.append([name, *(f"{fmean(column):.1f}" for column in columns)])
    return markdown(["million steps", *steps], rows)


TABLES = {
    "scores": Table("baselines.md", scores),
    "cartpole": Table("baselines_dmpo.md", cartpole),
    "learners": Table("baselines_dmpo.md", learners),
    "transfer": Table("baselines_intention.md", transfer),
    "walk": Table("experiments.md", functools.partial(ablation, "walk")),
    "walk_curves": Table("experiments.md", functools.partial(ablation_curves, "walk")),
    "actions": Table("experiments.md", functools.partial(ablation, "action_map")),
}


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells."""
    rule = "|".join(["---"] * len(heads))
    lines = [f"| {' | '.join(cells)} |" for cells in itertools.chain([heads], rows)]
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def records() -> Iterator[tuple[str, dict[str, Any]]]:
    """The name of a baseline and one of its scored policies."""
    for path in sorted(RESULTS.glob("*/scores.json")):
        for record in json.loads(path.read_text()):
            yield path.parent.name, record
    for path in sorted(RESULTS.glob("*.json")):
        found = json.loads(path.read_text())
        for record in found if isinstance(found, list) else [found]:
            yield path.stem, record


def _score_cells(name: str, record: Mapping[str, Any]) -> Iterator[list[str]]:
    for split, of in record["scores"].items():
        untrained = [_number(of[who]["return"]) if who in of else "" for who in _UNTRAINED]
        cells = [name, f"`{record['task']}`", split, f"{record['steps'] / 1e6:.2f}", *untrained]
        trained = of["trained"]
        cells += [_with_interval(trained["return"]), f"{record['kept']:.2f}"]
        besides = _besides(record["task"], trained)
        # Older records have no clips from their first frame on.
        if followed := record.get("followed"):
            share = followed[split]["trained"]["first frame"]["to the end"]
            besides += f", {share:.2f} to the end from the first frame"
        yield [*cells, f"{trained['length']['mean']:.0f}", besides]


def _besides(task_id: str, figures: Mapping[str, Any]) -> str:
    """What a task is about, where that is not the return, and how its episodes end."""
    primary = make_task(task_id).unwrapped.primary
    shown = (primary.metric if primary else "return", "survived", "fallen")
    names = [name for name in shown if name in figures and name != "return"]
    return ", ".join(f"{_number(figures[name])} {name.replace('_', ' ')}" for name in names)


def _latest(logged: Sequence[Mapping[str, str]], million: float) -> str:
    """The return in training that a log has at so many steps."""
    known = [row for row in logged if row["training_return"] and int(row["step"]) <= million * 1e6]
    return f"{float(known[-1]['training_return']):.1f}"


def _number(figure: Mapping[str, float]) -> str:
    return f"{figure['mean']:.3g}"


def _with_interval(figure: Mapping[str, float | None]) -> str:
    mean, low, high = (figure[key] for key in ("mean", "low", "high"))
    ends = "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"
    return f"{mean:.3g}{ends}"


def with_table(page: str, name: str, text: str) -> str:
    """A page with another table in the place of the one of this name.

    Raises:
        ValueError: it has no place for one.
    """
    first, last = f"<!-- {name}: python -m baselines.tables -->", f"<!-- /{name} -->"
    begin, end = page.find(first), page.find(last)
    if not 0 <= begin < end:
        raise ValueError(f"the page must have a line {first!r}, and later {last!r}")
    return f"{page[:begin]}{first}\n{text}\n\n{page[end:]}"


def digest(picture: str) -> str:
    """Of all that a plot is drawn from."""
    total = hashlib.sha256()
    for folder in filter(None, PLOTS[picture]):
        for path in sorted((RESULTS / folder).iterdir()):
            total.update(path.read_bytes())
    return total.hexdigest()


def drawn_from(picture: str) -> str:
    """The digest that a plot names; "" for none."""
    with Image.open(IMAGES / picture) as image:
        return str(image.info.get(_KEY, ""))


def write_plot(picture: str) -> None:
    """Draw a plot."""
    folder, beside = PLOTS[picture]
    path = IMAGES / picture
    draw(RESULTS / folder, path, RESULTS / beside if beside else None, {_KEY: digest(picture)})


def main() -> None:
    """Write the plots that are stale, and the tables."""
    for picture in PLOTS:
        if drawn_from(picture) != digest(picture):
            write_plot(picture)
    for name, table in TABLES.items():
        page = DOCS / table.page
        text = with_table(page.read_text("utf-8"), name, table.text())
        with written_whole(page) as partial:
            partial.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
