"""Replays as one HTML file, and the parts of such pages."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import imageio.v2 as imageio
import numpy as np

from vnl_envs.replays.recording import STILL, Replay
from vnl_envs.utils.files import written_whole
from vnl_envs.utils.texts import shown

THREE = "three.min.js"
"""The library of the viewer, made by `assets/three`, with its licence at the head."""
THEME = "theme.js"
"""The script for the colours that a reader has chosen; other pages of a site load it too."""
SCRIPTS = (
    THEME, "codec.js", "kinematics.js", "figure.js", "stage.js", "curves.js", "player.js"
)  # fmt: skip


def write_page(
    path: str | Path, replays: Sequence[Replay], still: np.ndarray, title: str, facts: str
) -> None:
    """Write one HTML file that plays replays and loads nothing, whole or not at all.

    Args:
        path: name that ends in .html.
        replays: one or more replays of the same bodies.
        still: (height, width, 3) uint8, picture until the first frame and without JavaScript.
        title: title of the page.
        facts: a line under the title.

    Raises:
        ValueError: the suffix is another one.
    """
    path = check_name(path)
    scripts = [file(THREE), viewer()]
    style = file("style.css")
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, scripts))}; "
        f"style-src {_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    )
    page = Template(file("page.html")).substitute(
        policy=policy,
        style=f"<style>{style}</style>",
        scripts="".join(f"<script>{script}</script>\n" for script in scripts),
        navigation="",
        still=f"data:image/jpeg;base64,{base64.b64encode(jpeg(still)).decode()}",
        **content(page_data(replays), title, facts),
    )
    with written_whole(path) as partial:
        partial.write_text(page, "utf-8")


def check_name(path: str | Path) -> Path:
    """Check the path of a page, and return it.

    Raises:
        ValueError: the name does not end in .html.
    """
    path = Path(path)
    if path.suffix != ".html":
        raise ValueError(f"a page's name ends in .html, got {path.name!r}")
    return path


def jpeg(picture: np.ndarray) -> bytes:
    """A picture (height, width, 3) uint8 as a JPEG file."""
    buffer = io.BytesIO()
    imageio.imwrite(buffer, picture, format="jpeg", quality=80)
    return buffer.getvalue()


def content(data: Mapping[str, Any], title: str, facts: str) -> dict[str, str]:
    """Values of the template's variables for a page's data."""
    return {
        "title": html.escape(shown(title)),
        "facts": html.escape(shown(facts)),
        "width": str(STILL[0]),
        "height": str(STILL[1]),
        "data": _json(data),
    }


def page_data(replays: Sequence[Replay]) -> dict[str, Any]:
    """All replays of a page for the viewer, as values for JSON, each world and skin once."""
    worlds: list[dict[str, Any]] = []
    skins: dict[str, Any] = {}
    rows = []
    for replay in replays:
        if replay.world not in worlds:
            worlds.append(replay.world)
        skins |= replay.skins
        rows.append(
            {
                "name": shown(replay.name),
                "world": worlds.index(replay.world),
                "states": replay.states,
            }
        )
    return {"worlds": worlds, "skins": skins, "replays": rows}


def _json(value: Mapping[str, Any]) -> str:
    """JSON without "<", which could end its HTML element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def viewer() -> str:
    """The scripts of the viewer, without the library, as one."""
    return as_one(map(file, SCRIPTS))


def as_one(scripts: Iterable[str]) -> str:
    """Scripts as one, whose names are not those of other scripts."""
    parts = "\n".join(scripts)
    return f'(() => {{\n"use strict";\n{parts}\n}})();\n'


def file(name: str) -> str:
    """The text of a file in the viewer's folder."""
    return resources.files("vnl_envs.replays").joinpath("viewer", name).read_text("utf-8")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
