"""Replays as pages in one folder that share the viewer and the skins."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from vnl_envs.replays.page import THREE, content, file, jpeg, page_data, viewer
from vnl_envs.replays.recording import Replay
from vnl_envs.utils.files import written_whole

VIEWER, STYLE = "viewer.js", "replay.css"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'"
)


def write_shared(folder: Path) -> None:
    """Write the files that all pages of a folder load; make the folder if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in shared_files().items():
        _write(folder / name, text.encode())


def shared_files() -> dict[str, str]:
    """Files that all pages load: name -> text."""
    return {THREE: file(THREE), VIEWER: viewer(), STYLE: file("style.css")}


def write_into(
    folder: Path,
    name: str,
    replays: Sequence[Replay],
    still: np.ndarray,
    title: str,
    facts: str,
    back: tuple[str, str],
) -> None:
    """Write NAME.html, its still picture NAME.jpg, and its skins, which other pages may share.

    Args:
        folder: a folder with the files of `write_shared`.
        name: name of the page, without suffix.
        replays, still, title, facts: see `vnl_envs.replays.page.write_page`.
        back: address and text of the link back.
    """
    data = page_data(replays)
    skins = data.pop("skins")
    scripts = [f"skin-{key}.js" for key in sorted(skins)]
    page = page_text(name, {**data, "skins": {}}, title, facts, back, scripts)
    for script, (key, skin) in zip(scripts, sorted(skins.items()), strict=True):
        _write(folder / script, _skin_script(key, skin).encode())
    _write(folder / f"{name}.html", page.encode())
    _write(folder / f"{name}.jpg", jpeg(still))


def page_text(
    name: str,
    data: Mapping[str, Any],
    title: str,
    facts: str,
    back: tuple[str, str],
    scripts: Sequence[str] = (),
) -> str:
    """The HTML of the page NAME.html, which loads NAME.jpg and the shared files.

    Args:
        name, title, facts, back: see `write_into`.
        data: see `vnl_envs.replays.page.page_data`. It may be untrusted: the page treats it as data
            only.
        scripts: files of the skins that `data` lacks.
    """
    href, text = map(html.escape, back)
    return Template(file("page.html")).substitute(
        policy=_POLICY,
        style=f'<link rel="stylesheet" href="{STYLE}">',
        scripts="".join(
            f'<script src="{script}"></script>\n' for script in (*scripts, THREE, VIEWER)
        ),
        navigation=f'<a class="back" href="{href}">← {text}</a>',
        still=f"{name}.jpg",
        **content(data, title, facts),
    )


def _skin_script(key: str, skin: object) -> str:
    return f"(globalThis.replaySkins ??= {{}})[{json.dumps(key)}] = {json.dumps(skin)};\n"


def _write(path: Path, data: bytes) -> None:
    with written_whole(path) as partial:
        partial.write_bytes(data)
