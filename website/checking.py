"""A check of all links between the pages of a folder."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src", "poster"):
                self.links.append(value or "")
            elif name in ("id", "name"):
                self.ids.add(value or "")


def broken_links(folder: Path) -> list[str]:
    """The broken links, a line each."""
    return [line for page in sorted(folder.rglob("*.html")) for line in _of_page(folder, page)]


def _of_page(folder: Path, page: Path) -> Iterator[str]:
    for link in dict.fromkeys(_read(page).links):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        where = f"{page.relative_to(folder)}: {link}"
        if not target.is_relative_to(folder.resolve()) or not target.is_file():
            yield f"{where} leads nowhere"
        elif target.suffix == ".html" and unquote(parts.fragment) not in _read(target).ids:
            yield f"{where}: there is no such place on the page"


@functools.lru_cache(maxsize=1024)
def _read(page: Path) -> _Page:
    return _Page(page.read_text("utf-8"))
