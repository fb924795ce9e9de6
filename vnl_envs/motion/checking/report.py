"""Reports of `check_clips`, for people (tables, an HTML page) and for programs (a record)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from vnl_envs.motion.checking.check import FIGURES, ClipReport
from vnl_envs.motion.checking.faults import Fault, mark
from vnl_envs.motion.checking.ground import Limits
from vnl_envs.motion.clip import RATE
from vnl_envs.utils.html import environment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMAT, VERSION = "vnl_envs-check", 1

LIMIT_UNITS = {
    "near": "m",
    "depth": "m",
    "stance_speed": "m/s",
    "root_speed": "m/s",
    "root_acceleration": "m/s²",
    "turn_speed": "rad/s",
    "turn_acceleration": "rad/s²",
    "joint_speed": "rad/s",
    "joint_acceleration": "rad/s²",
    "limit": "rad",
    "free": "weights",
    "residual": "weights",
}

# Greatest number of clips with plots on a page, the worst first. Others have only a table row.
MOST_DRAWN = 50
# Greatest number of runs of frames listed for a fault, for people and for programs.
_FEW, _MANY = 6, 100
# Greatest number of faults of a clip in a terminal and on a page.
_LINES, _ROWS = 16, 60
_STYLES = {"ok": "green", "suspicious": "yellow", "bad": "bold red"}
_ORDER = {"bad": 0, "suspicious": 1, "ok": 2}


class Column(NamedTuple):
    """A column of the table of clips: its heading, and the text for a clip's figures."""

    heading: str
    text: Callable[[dict[str, float]], str]


def _percent(value: float) -> str:
    return "–" if value == 0 else f"{100 * value:.2g} %" if value < 1 else f"{100 * value:.0f} %"


COLUMNS = (
    Column("duration", lambda f: f"{f['duration']:.1f} s"),
    Column(
        "joint limits",
        lambda f: f"{f['limit_excess']:.2f} rad" if f["limit_frames"] else "–",
    ),
    Column("spikes", lambda f: _percent(f["spikes"])),
    Column("deepest", lambda f: f"{f['depth']:.1f} mm"),
    Column("floating", lambda f: _percent(f["floating"])),
    Column("sliding", lambda f: _percent(f["slide_ratio"])),
    Column("repeated", lambda f: _percent(f["repeated"])),
    Column("residual", lambda f: f"{f['residual']:.2f}, {f['residual_95']:.2f}"),
    Column("ends", lambda f: f"{f['start_acceleration']:.1f}, {f['end_acceleration']:.1f}"),
    Column("overload", lambda f: _percent(f["overloaded"])),
)
LEGEND = (
    "Joint limits: worst excess. Spikes, floating, repeated: share of the frames. Deepest: under "
    "the ground. Sliding: of standing feet, over the way travelled. Residual: what no contact can "
    "give of the force that the motion needs, median and 95th percentile, in body weights. Ends: "
    "acceleration of the centre of mass in the first and last 0.2 s, worst, m/s². Overload: share "
    "of the frames that ask an actuator for more than it gives."
)


def summary(reports: Sequence[ClipReport]) -> Group:
    """Tables for a terminal of 110 columns: a row for each clip, then the faults."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    # Whole names in narrower terminals too.
    table.add_column("clip", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column.heading, justify="right", overflow="fold")
    for report in reports:
        verdict = Text(report.verdict, _STYLES[report.verdict])
        # As texts: names may look like markup.
        table.add_row(Text(report.name), verdict, *(Text(c.text(report.figures)) for c in COLUMNS))
    parts: list[Any] = [table, Text(""), Text(LEGEND, "dim")]
    for report in reports:
        if report.verdict != "ok":
            parts += [Text(""), Text.assemble((report.name, "bold"), " ", report.verdict)]
            parts += [Text(f"  {reason}") for reason in report.reasons]
            parts += [Text(f"    {describe(fault)}") for fault in report.faults[:_LINES]]
            more = len(report.faults) - _LINES
            parts += [Text(f"    and {more} more, of joints and actuators")] if more > 0 else []
    return Group(*parts)


def describe(fault: Fault) -> str:
    """A fault in one line, with its frames."""
    where = f" {fault.where}" if fault.where else ""
    return (
        f"{fault.kind}{where}: frames {frames_of(fault)}; "
        f"worst {fault.worst:.3g} {fault.unit} at {fault.frame}"
    )


def frames_of(fault: Fault) -> str:
    """The first runs of frames of a fault, such as "3-7, 12 and 4 more"."""
    shown = ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in fault.spans[:_FEW])
    more = len(fault.spans) - _FEW
    return f"{shown} and {more} more" if more > 0 else shown


def record(reports: Sequence[ClipReport]) -> dict[str, Any]:
    """The reports as plain numbers and texts, to be written as JSON.

    `figures` and `limits` say the unit and meaning of what each clip and body have under the same
    names. Frames are the first and last of each run, counted from 0; a fault lists at most 100.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "rate": RATE,
        "figures": {key: dict(figure._asdict()) for key, figure in FIGURES.items()},
        "limits": {
            body: {
                key: {"value": float(f"{value:.4g}"), "unit": LIMIT_UNITS[key]}
                for key, value in dataclasses.asdict(bound).items()
            }
            for body, bound in _limits(reports).items()
        },
        "clips": [_clip_record(report) for report in reports],
    }


def _limits(reports: Iterable[ClipReport]) -> dict[str, Limits]:
    return {report.body: report.limits for report in reports}


def _clip_record(report: ClipReport) -> dict[str, Any]:
    texts = ("name", "label", "split", "body", "frames", "verdict")
    return {
        **{key: getattr(report, key) for key in texts},
        "reasons": list(report.reasons),
        # Five digits: the same on every machine.
        "figures": {key: float(f"{value:.5g}") for key, value in report.figures.items()},
        "faults": [
            {
                "kind": fault.kind,
                "where": fault.where,
                "worst": float(f"{fault.worst:.5g}"),
                "unit": fault.unit,
                "frame": fault.frame,
                "runs": len(fault.spans),
                "frames": [list(span) for span in fault.spans[:_MANY]],
            }
            for fault in report.faults
        ],
    }


def page(reports: Sequence[ClipReport], title: str = "Motion clips: report") -> str:
    """One self-contained HTML page without scripts: tables, and plots of up to `MOST_DRAWN` clips.

    It takes up to 0.2 MB for each clip with plots.
    """
    number = {id(report): i for i, report in enumerate(reports)}
    worst = sorted(reports, key=lambda report: _ORDER[report.verdict])[:MOST_DRAWN]
    template = environment("vnl_envs.motion.checking", ".").get_template("report.html")
    return template.render(
        title=title,
        reports=reports,
        columns=COLUMNS,
        legend=LEGEND,
        drawn=sorted((number[id(report)], report, drawings(report)) for report in worst),
        figures=FIGURES,
        bodies=_limits(reports),
        units=LIMIT_UNITS,
        verdicts={v: sum(report.verdict == v for report in reports) for v in _ORDER},
        frames_of=frames_of,
        rows=_ROWS,
        asdict=dataclasses.asdict,
    )


# Plots --------------------------------------------------------------------------------------------

_POINTS = 400
# Colours of Okabe & Ito, which people with any colour vision can distinguish.
_BLACK, _BLUE, _GREEN, _ORANGE, _RED = "#222222", "#0072b2", "#009e73", "#e69f00", "#d55e00"
_COLOURS = (_BLUE, _ORANGE, _GREEN, "#cc79a7")
_SIZE = (4.6, 2.5)
# Height over width of the plot of a path.
_ASPECT = 0.5
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vnl_envs",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "legend.frameon": False,
    "path.simplify_threshold": 0.5,
}


def drawings(report: ClipReport) -> list[tuple[str, str]]:
    """Captions and SVG texts of one clip's plots."""
    import matplotlib

    plots = (
        ("Path of the root, from above", _draw_path),
        ("Heights above the ground", _draw_heights),
        ("Fastest joint", _draw_speeds),
        ("Joints out of their range", _draw_limits),
        ("Force that must push at the body", _draw_wrench),
    )
    out = []
    # The style must also hold when the figure is written.
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        for caption, draw in plots:
            figure = draw(report)
            if figure is not None:
                out.append((caption, _svg(figure, caption)))
    return out


def _svg(figure: Figure, caption: str) -> str:
    """A figure as an inline SVG element."""
    import io

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    return text.replace("<svg", f'<svg role="img" aria-label="{caption}"', 1)


def _figure(rows: int = 1) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    return figure, figure.subplots(rows, 1, sharex=True)


def _bins(total: int) -> np.ndarray:
    """First frames of at most `_POINTS` equal parts of a clip."""
    return np.unique(np.linspace(0, total, min(total, _POINTS), endpoint=False).astype(int))


def _thin(values: np.ndarray, reduce: np.ufunc = np.maximum) -> np.ndarray:
    """Values of frames (T, ...) as those of the parts, by default the largest."""
    return reduce.reduceat(values, _bins(len(values)), axis=0)


def _shade(axes: Axes, wrong: np.ndarray, colour: str, label: str) -> None:
    """Mark the parts of a clip with wrong frames (T,)."""
    if wrong.any():
        start = _bins(len(wrong))
        stop = np.append(start[1:], len(wrong))
        low, high = axes.get_ylim()
        axes.fill_between(
            np.stack([start, stop - 0.5], 1).ravel(),
            low,
            high,
            where=np.repeat(_thin(wrong, np.logical_or), 2),
            color=colour,
            alpha=0.25,
            linewidth=0,
            label=label,
        )
        axes.set_ylim(low, high)


def _frames_axis(axes: Axes, report: ClipReport) -> None:
    axes.set_xlim(0, report.frames)
    axes.set_xlabel(f"frame ({RATE:.0f} per second)")


def _legend(axes: Axes) -> None:
    axes.legend(loc="upper right", ncols=2, fontsize=8, borderaxespad=0.1, handlelength=1.2)


def _headroom(axes: Axes, share: float = 0.35) -> None:
    """Room above the curves, for the legend."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + share * (high - low))


def _draw_path(report: ClipReport) -> Figure:
    figure, axes = _figure()
    x, y = report.series.root[_bins(report.frames), :2].T
    axes.plot(x, y, color=_BLUE)
    axes.plot(x[:1], y[:1], "o", color=_GREEN, label="start", markersize=5)
    axes.plot(x[-1:], y[-1:], "s", color=_RED, label="end", markersize=5)
    # Equal scales, and a margin so that standing bodies do not seem to travel.
    centre = [(part.min() + part.max()) / 2 for part in (x, y)]
    least = float(report.series.root[:, 2].max())
    half = 0.55 * max(np.ptp(x) * _ASPECT, np.ptp(y), least)
    axes.set_xlim(centre[0] - half / _ASPECT, centre[0] + half / _ASPECT)
    axes.set_ylim(centre[1] - half, centre[1] + half)
    axes.set_aspect("equal", adjustable="box")
    axes.set(xlabel="x, m", ylabel="y, m")
    axes.legend(loc="best", fontsize=8)
    return figure


def _draw_heights(report: ClipReport) -> Figure:
    series, bound = report.series, report.limits
    figure, (above, below) = _figure(2)
    x = _bins(report.frames)
    above.plot(x, 1e3 * _thin(series.root[:, 2]), color=_BLACK)
    above.set_ylabel("root, mm")
    for i, name in enumerate(series.names):
        colour = _COLOURS[i % len(_COLOURS)]
        # The lowest of each part, since that is what can be under the ground.
        below.plot(x, 1e3 * _thin(series.height[:, i], np.minimum), color=colour, label=name)
    below.axhline(0, color=_BLACK, linewidth=0.6)
    below.set_ylabel("feet, mm")
    # Hundredths of a millimetre must not look like flaws.
    low, high = below.get_ylim()
    below.set_ylim(min(low, -1.5e3 * bound.depth), max(high, 1.5e3 * bound.near))
    _headroom(below, 0.7)
    for axes in (above, below):
        _shade(axes, series.clearance < -bound.depth, _RED, "too deep")
        _shade(axes, report.marked("floating"), _ORANGE, "floating")
    _frames_axis(below, report)
    _legend(below)
    return figure


def _draw_speeds(report: ClipReport) -> Figure:
    figure, axes = _figure()
    speed = _thin(report.series.joint_speed)
    axes.plot(_bins(report.frames), speed, color=_BLUE, label="speed")
    most = report.limits.joint_speed
    if speed.max() > most / 2:
        axes.axhline(most, color=_BLACK, linewidth=0.8, linestyle="--", label="bound")
    for kind, marker in (("speed", "v"), ("acceleration", "x")):
        at = np.flatnonzero(_thin(report.marked(f"joint {kind}"), np.logical_or))
        if len(at):
            axes.plot(
                _bins(report.frames)[at],
                speed[at],
                marker,
                color=_RED,
                markersize=5,
                label=f"{kind} spike",
            )
    axes.set_ylim(bottom=0)
    _headroom(axes)
    axes.set_ylabel("rad/s")
    _frames_axis(axes, report)
    _legend(axes)
    return figure


def _draw_limits(report: ClipReport) -> Figure | None:
    hits = [fault for fault in report.faults if fault.kind == "joint limit"]
    if not hits:
        return None
    # The worst joints: more rows could not be read.
    hits = sorted(hits, key=lambda fault: -fault.worst)[:12]
    wrong = np.stack([mark([fault], report.frames) for fault in hits], axis=1)
    strip = _thin(wrong, np.logical_or).T * np.array([[fault.worst] for fault in hits])
    figure, axes = _figure()
    edges = np.append(_bins(report.frames), report.frames)
    image = axes.pcolormesh(
        edges,
        np.arange(len(hits) + 1),
        np.ma.masked_equal(strip, 0),
        cmap="YlOrRd",
        vmin=0,
        rasterized=True,
    )
    axes.set_yticks(np.arange(len(hits)) + 0.5, [fault.where for fault in hits], fontsize=7)
    axes.invert_yaxis()
    figure.colorbar(image, ax=axes, label="worst excess, rad")
    _frames_axis(axes, report)
    return figure


def _draw_wrench(report: ClipReport) -> Figure:
    series = report.series
    figure, axes = _figure()
    x = _bins(report.frames)
    horizontal = np.linalg.norm(series.wrench[:, :2], axis=1)
    axes.plot(x, _thin(series.wrench[:, 2]), color=_BLUE, label="vertical")
    axes.plot(x, _thin(horizontal), color=_GREEN, label="horizontal")
    axes.plot(x, _thin(series.residual), color=_RED, label="no contact can give")
    # A joint that jumps asks for fifty weights, beside which all else would be flat.
    axes.set_ylim(top=max(2.0, min(axes.get_ylim()[1], 3 * np.percentile(series.wrench[:, 2], 98))))
    _headroom(axes, 0.5)
    _shade(axes, series.residual > report.limits.residual, _RED, "implausible")
    axes.set_ylabel("body weights")
    _frames_axis(axes, report)
    _legend(axes)
    return figure
