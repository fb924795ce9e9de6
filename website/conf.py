"""Sphinx's settings for the documentation and the gallery."""

from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import Any

import vnl_envs

project = "vnl_envs"
author = "The vnl_envs authors"
copyright = "2026, the vnl_envs authors. Apache-2.0"
version = release = vnl_envs.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_block"]
# `website/checking.py` checks the links between pages. Names in backticks become links if they
# can; some names are ambiguous between modules.
suppress_warnings = ["myst.header", "misc.highlighting_failure", "ref.python"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": True, "show-inheritance": True}
default_role = "py:obj"
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar, napoleon_use_rtype = True, False

html_theme = "furo"
html_title = "vnl_envs"
html_static_path = [str(Path(__file__).parent / "static")]
html_css_files = ["site.css"]
html_favicon = str(Path(__file__).parent / "static" / "icon.svg")
html_copy_source = False
html_show_sphinx = False
html_show_sourcelink = False
# Summaries of search results would be fetched, which a local folder does not allow.
html_show_search_summary = False
html_theme_options: dict[str, Any] = {
    "light_css_variables": {
        "color-brand-primary": "#0b6a78",
        "color-brand-content": "#0b6a78",
        "color-background-primary": "#fdfdfc",
        "color-background-secondary": "#f4f5f3",
    },
    "dark_css_variables": {
        "color-brand-primary": "#5fc3d0",
        "color-brand-content": "#5fc3d0",
        "color-background-primary": "#131716",
        "color-background-secondary": "#1c2220",
    },
}
pygments_style, pygments_dark_style = "friendly", "nord"

_CODE = re.compile(r"(``.+?``|`[^`]*`)", re.S)


def escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape all markup of docstrings except code in backticks."""
    parts = _CODE.split("\n".join(lines))
    parts[::2] = [re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
    # Code that is more than a name is no link.
    parts[1::2] = [
        part if re.fullmatch(r"`[\w.]+`|``.*``", part, re.S) else f"`{part}`"
        for part in parts[1::2]
    ]
    lines[:] = "".join(parts).split("\n")


def skip(app: Any, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out types with constraints: the attributes that use them show them."""
    return True if typing.get_origin(obj) is typing.Annotated else None


def setup(app: Any) -> None:
    """Register both functions; `escape` runs before Napoleon reads the sections."""
    app.connect("autodoc-process-docstring", escape, priority=100)
    app.connect("autodoc-skip-member", skip)
