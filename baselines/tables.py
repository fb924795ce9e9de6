"""Write the plots and the table of scores of docs/baselines.md: python -m baselines.tables.

Both come from `baselines/results` alone. A plot names the digest of its logs, so that a test sees
when it is stale.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from baselines.plot import RESULTS, draw
from vnl_envs.utils.files import written_whole

ROOT = Path(__file__).parents[1]
PAGE, IMAGES = ROOT / "docs" / "baselines.md", ROOT / "docs" / "images"
FIRST, LAST = "<!-- scores: python -m baselines.tables -->", "<!-- /scores -->"
PLOTS: dict[str, tuple[str, str | None]] = {
    "ppo.png": ("ppo", None),
    "dmpo.png": ("dmpo", "ppo"),
    "imitation.png": ("ppo_intention", None),
    "transfer.png": ("transfer", "ppo"),
}
"""Picture -> whose logs, and whose it is drawn beside."""
_KEY = "Logs"
_UNTRAINED = ("zero", "random", "track")


def table() -> str:
    """The scores of every committed baseline, Markdown."""
    lines = [
        f"| baseline | task | split | million steps | {' | '.join(_UNTRAINED)} | trained | kept |",
        "|---|---|---|---" + "|---" * len(_UNTRAINED) + "|---|---|",
    ]
    return "\n".join([*lines, *(line for row in records() for line in _lines(*row))])


def records() -> Iterator[tuple[str, dict[str, Any]]]:
    """The name of a baseline and one of its scored policies."""
    for path in sorted(RESULTS.glob("*/scores.json")):
        for record in json.loads(path.read_text()):
            yield path.parent.name, record
    for path in sorted(RESULTS.glob("*.json")):
        found = json.loads(path.read_text())
        for record in found if isinstance(found, list) else [found]:
            yield path.stem, record


def _lines(name: str, record: Mapping[str, Any]) -> Iterator[str]:
    for split, scores in record["scores"].items():
        untrained = [_number(scores[who]["return"]) if who in scores else "" for who in _UNTRAINED]
        cells = [name, f"`{record['task']}`", split, f"{record['steps'] / 1e6:.2f}", *untrained]
        cells += [_with_interval(scores["trained"]["return"]), f"{record['kept']:.2f}"]
        yield f"| {' | '.join(cells)} |"


def _number(figure: Mapping[str, float]) -> str:
    return f"{figure['mean']:.3g}"


def _with_interval(figure: Mapping[str, float | None]) -> str:
    mean, low, high = (figure[key] for key in ("mean", "low", "high"))
    ends = "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"
    return f"{mean:.3g}{ends}"


def with_table(page: str, text: str) -> str:
    """A page with another table in its place.

    Raises:
        ValueError: it has no place for one.
    """
    begin, end = page.find(FIRST), page.find(LAST)
    if not 0 <= begin < end:
        raise ValueError(f"{PAGE.name} must have a line {FIRST!r}, and later {LAST!r}")
    return f"{page[:begin]}{FIRST}\n{text}\n\n{page[end:]}"


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
    """Write the plots that are stale, and the table."""
    for picture in PLOTS:
        if drawn_from(picture) != digest(picture):
            write_plot(picture)
    text = with_table(PAGE.read_text("utf-8"), table())
    with written_whole(PAGE) as partial:
        partial.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
