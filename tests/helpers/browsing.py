"""Pages in Chromium, as their readers have them."""

from __future__ import annotations

import shutil
from typing import Any, NamedTuple

import pytest

CHROMIUM = shutil.which("chromium")
NARROW, WIDE = 390, 1240

browsing = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


class Visit(NamedTuple):
    """A page that is open, the address of the site, and what went wrong since."""

    page: Any
    root: str
    faults: list[str]

    def open(self, name: str) -> None:
        """Go to a page of the site."""
        self.page.goto(f"{self.root}/{name}")

    def texts(self, selector: str) -> list[str]:
        """The visible texts of elements."""
        return [e.inner_text() for e in self.page.query_selector_all(selector) if e.is_visible()]


def visit(browser: Any, root: str, width: int = WIDE, **options: Any) -> Visit:
    """A new page, whose faults are collected."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.extend(_remark(message)))
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (faults.append("dialog"), dialog.dismiss()))
    page.on("requestfailed", lambda request: faults.extend(_failure(request)))
    page.on(
        "request",
        lambda request: request.url.startswith(root) or faults.append(f"left: {request.url}"),
    )
    return Visit(page, root, faults)


def _remark(message: Any) -> list[str]:
    """What a message is a sign of: nothing where software draws more slowly than a driver likes."""
    driver = "GL Driver Message" in message.text and "Performance" in message.text
    return [] if driver else [f"{message.type}: {message.text}"]


def _failure(request: Any) -> list[str]:
    """What a failed request is a sign of: nothing where the page was left before it was done."""
    aborted = request.failure == "net::ERR_ABORTED"
    return [] if aborted else [f"failed: {request.url}: {request.failure}"]
