"""Charts for the pages of scores, as inline SVG.

The page's style sheet sets colours and sizes by class, for light and dark. The strict content
security policy allows no inline styles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from markupsafe import Markup

from vnl_envs.scoring.documents.schema.result import Estimate


class Domain(NamedTuple):
    """The numbers from one end of a bar to the other."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """The position of a number, from 0 to 100, clipped."""
        return 100 * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


class Series(NamedTuple):
    """A line of a plot: its name, and estimates by position."""

    name: str
    points: Sequence[tuple[float, Estimate]]


class Dot(NamedTuple):
    """A point of a scatter plot: its name, its position (above 0) and its estimate."""

    name: str
    x: float
    estimate: Estimate


LINES = 6
"""Number of lines of a plot that the style sheet distinguishes."""

_WIDTH, _HEIGHT = 420, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 12, 10, 36


def domain(estimates: Sequence[Estimate]) -> Domain:
    """The domain from 0 to 1, extended to include all estimates."""
    values = [e.value for e in estimates if e.value is not None]
    return Domain(min([0.0, *values]), max([1.0, *values]))


def bar(estimate: Estimate, over: Domain) -> Markup:
    """A bar from 0 to the estimate, with the interval as whisker, without the number."""
    root = _element(
        None,
        "svg",
        viewBox="0 0 100 10",
        preserveAspectRatio="none",
        class_="bar",
        aria_hidden="true",
        focusable="false",
    )
    zero = over.share(0.0)
    _element(root, "rect", class_="track", x=0, y=2, width=100, height=6)
    if estimate.value is not None:
        end = over.share(estimate.value)
        left, width = min(zero, end), abs(end - zero)
        _element(root, "rect", class_="fill", x=left, y=2, width=width, height=6)
    if estimate.low is not None and estimate.high is not None:
        low, high = over.share(estimate.low), over.share(estimate.high)
        path = f"M{low:.2f} 2.5V7.5M{low:.2f} 5H{high:.2f}M{high:.2f} 2.5V7.5"
        _element(root, "path", class_="whisker", d=path)
    if zero > 0:
        _element(root, "path", class_="zero", d=f"M{zero:.2f} 0V10")
    return _markup(root)


def plot(series: Sequence[Series], x_label: str, y_label: str) -> Markup:
    """A plot of estimates in [0, 1] over a position, with a line for each of `LINES` series."""
    positions = [x for line in series for x, _ in line.points]
    over = _padded(min(positions), max(positions))
    root = _frame(f"{y_label} by {x_label}", x_label)
    ticks = sorted(set(positions))
    step = math.ceil(len(ticks) / 9)
    for x in ticks[::step]:
        _text(root, f"{x:g}", _across(over, x), _HEIGHT - _BOTTOM + 15, "middle")
    for i, line in enumerate(series[:LINES]):
        group = _element(root, "g", class_=f"line line-{i}")
        _element(group, "title").text = line.name
        known = [(_across(over, x), e) for x, e in line.points if e.value is not None]
        corners = " ".join(f"{x:.1f},{_up(e.value or 0.0):.1f}" for x, e in known)
        _element(group, "polyline", points=corners)
        for x, estimate in known:
            _dot(group, x, estimate)
    return _markup(root)


def scatter(dots: Sequence[Dot], x_label: str, y_label: str) -> Markup:
    """A plot of estimates in [0, 1] over a position on a logarithmic axis."""
    logs = [math.log10(dot.x) for dot in dots]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    over = _padded(low, max(high, low + 1))
    root = _frame(f"{y_label} by {x_label}", x_label)
    for power in range(low, max(high, low + 1) + 1):
        _text(
            root,
            f"{10.0**power:.0e}".replace("e+0", "e").replace("e+", "e"),
            _across(over, power),
            _HEIGHT - _BOTTOM + 15,
            "middle",
        )
    for dot, position in zip(dots, logs, strict=True):
        group = _element(root, "g", class_="line line-0")
        _element(group, "title").text = dot.name
        _dot(group, _across(over, position), dot.estimate)
    return _markup(root)


def heat(value: float | None) -> int:
    """The shade, 0 to 10, of a number in [0, 1]."""
    return 0 if value is None else round(10 * min(max(value, 0.0), 1.0))


def _padded(low: float, high: float) -> Domain:
    margin = 0.04 * (high - low) or 0.5
    return Domain(low - margin, high + margin)


def _across(over: Domain, x: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * over.share(x) / 100


def _up(y: float) -> float:
    y = min(max(y, 0.0), 1.0)
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * y


def _frame(name: str, x_label: str) -> ElementTree.Element:
    """An empty plot with the grid of heights 0 to 1."""
    root = _element(
        None, "svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", class_="plot", role="img", aria_label=name
    )
    for y in (0.0, 0.25, 0.5, 0.75, 1.0):
        _element(root, "path", class_="grid", d=f"M{_LEFT} {_up(y)}H{_WIDTH - _RIGHT}")
        _text(root, f"{y:g}", _LEFT - 6, _up(y) + 4, "end")
    _text(root, x_label, (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 4, "middle")
    return root


def _dot(parent: ElementTree.Element, x: float, estimate: Estimate) -> None:
    if estimate.low is not None and estimate.high is not None:
        d = f"M{x:.1f} {_up(estimate.low):.1f}V{_up(estimate.high):.1f}"
        _element(parent, "path", class_="whisker", d=d)
    if estimate.value is not None:
        _element(parent, "circle", cx=f"{x:.1f}", cy=f"{_up(estimate.value):.1f}", r=3)


def _text(parent: ElementTree.Element, text: str, x: float, y: float, anchor: str) -> None:
    _element(parent, "text", x=x, y=y, text_anchor=anchor).text = text


def _element(
    parent: ElementTree.Element | None, tag: str, **attributes: object
) -> ElementTree.Element:
    """A new child. Attributes "class_" and "text_anchor" become "class" and "text-anchor"."""
    names = {k.rstrip("_").replace("_", "-"): _plain(v) for k, v in attributes.items()}
    if parent is None:
        return ElementTree.Element(tag, names)
    return ElementTree.SubElement(parent, tag, names)


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _markup(root: ElementTree.Element) -> Markup:
    # ElementTree escapes names, as they are texts and attributes of elements.
    return Markup(ElementTree.tostring(root, encoding="unicode"))
