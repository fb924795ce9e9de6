"""Reports of comparisons: tables for a terminal, JSON, and an HTML page with charts."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from vnl_envs.neural.compare import FORMAT as COMPARISON
from vnl_envs.neural.errors import NeuralError
from vnl_envs.neural.estimates import Figure, pooled, ratio_mean
from vnl_envs.statistics.intervals import UNBOUNDED
from vnl_envs.utils.html import environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

FORMAT, VERSION = "vnl_envs-neural-report", 1
METRICS = {
    "bits": ("bits/spike", "Poisson GLM: information gained over the mean rate, per spike"),
    "deviance": ("explained deviance", "Poisson GLM: share of the mean rate's deviance"),
    "r2": ("R²", "ridge regression: share of the variance about the training mean"),
}
PROBE = ("balanced accuracy", "logistic regression: mean share of correct bins over behaviours")
EXAMPLES = 6
# Colours of the kinds that people with any colour vision can distinguish (Okabe & Ito).
_COLOURS = {
    "kinematics": "#e69f00",
    "network": "#0072b2",
    "untrained": "#999999",
    "shifted": "#d55e00",
}


def read(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Comparisons with the same feature sets and settings, one for each session.

    Raises:
        FileNotFoundError: there is no such file.
        NeuralError: a file is no comparison, two are of the same session, or feature sets or
            settings differ.
    """
    found = []
    for path in paths:
        if not Path(path).is_file():
            raise FileNotFoundError(f"no comparison {str(path)!r}")
        try:
            record = json.loads(Path(path).read_text("utf-8"))
            if record["format"] != COMPARISON:
                raise KeyError
        except (ValueError, KeyError, TypeError):
            raise NeuralError(f"{path}: not a {COMPARISON} file") from None
        found.append(record)
        for part, get in (("feature sets", _names), ("settings", lambda r: r["settings"])):
            if get(record) != get(found[0]):
                raise NeuralError(f"{path}: its {part} are not those of {paths[0]}")
    sessions = [r["session"]["identity"] for r in found]
    if len(set(sessions)) < len(sessions):
        raise NeuralError("two comparisons are of the same session")
    return found


def _names(record: Mapping[str, Any]) -> list[str]:
    return [s["name"] for s in record["sets"]]


def summarise(comparisons: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All figures, as plain values for JSON.

    `regions` has for each region and metric the feature sets, best first. Each has its figure with
    interval, and `behind`, the paired difference of the best set minus this one.
    """
    first = comparisons[0]
    regions = sorted({u["region"] for c in comparisons for u in c["units"]})
    return {
        "format": FORMAT,
        "version": VERSION,
        "settings": first["settings"],
        "sessions": [
            {
                "session": c["session"],
                "usable": c["usable"],
                "upright": c["upright"],
                "blocks": c["blocks"],
                "units": len(c["units"]),
                "left_out": len(c["left_out"]),
            }
            for c in comparisons
        ],
        "sets": [{k: s[k] for k in ("name", "kind", "policy", "source")} for s in first["sets"]],
        "regions": {
            region: {
                "units": sum(u["region"] == region for c in comparisons for u in c["units"]),
                **{metric: _ranked(comparisons, region, metric) for metric in METRICS},
                "similarity": _similarity(comparisons, region),
                "beyond_shifted": _beyond_shifted(comparisons, region),
            }
            for region in regions
        },
        "probes": _ranked(comparisons, None, "probe") if first["classes"] else [],
        "classes": first["classes"],
        "behaviours": first["behaviours"],
        "units": [row for c in comparisons for row in _units(c)],
    }


def figure(
    comparisons: Sequence[Mapping[str, Any]], name: str, region: str | None, metric: str
) -> Figure:
    """A feature set's figure over all sessions, in a region (None: in all regions)."""
    parts = []
    for c in comparisons:
        rows = [i for i, u in enumerate(c["units"]) if region in (None, u["region"])]
        table = next(s for s in c["sets"] if s["name"] == name)
        if metric == "probe":
            gain, scale = np.array(table["probe_right"]), np.array(table["probe_all"])
        elif metric == "r2":
            gain = np.array(table["ridge_gain"])[rows]
            scale = np.array(table["ridge_null"])[rows]
        else:
            gain = np.array(table["glm_gain"])[rows]
            if metric == "bits":
                gain = gain / math.log(2)
                scale = np.array([c["units"][i]["spikes"] for i in rows])
            else:
                gain, scale = 2 * gain, np.array(table["glm_null"])[rows]
        if len(gain):
            folds = c["settings"]["folds"]
            parts.append((ratio_mean(gain, scale, c["session"]["identity"], folds), len(gain)))
    # A share of bins is neither negative nor above 1.
    return dataclasses.replace(pooled(parts), bounds=(0, 1) if metric == "probe" else UNBOUNDED)


def _ranked(
    comparisons: Sequence[Mapping[str, Any]], region: str | None, metric: str
) -> list[dict[str, Any]]:
    sets = comparisons[0]["sets"]
    figures = {s["name"]: figure(comparisons, s["name"], region, metric) for s in sets}
    order = sorted(sets, key=lambda s: -np.nan_to_num(figures[s["name"]].value, nan=-np.inf))
    best = figures[order[0]["name"]]
    return [
        {
            "set": s["name"],
            "kind": s["kind"],
            **figures[s["name"]].record(),
            "behind": best.less(figures[s["name"]]).record(),
        }
        for s in order
    ]


def _beyond_shifted(comparisons: Sequence[Mapping[str, Any]], region: str) -> list[dict[str, Any]]:
    """Gain of layers over themselves shifted in time: paired differences in bits per spike."""
    rows = []
    for s in comparisons[0]["sets"]:
        if s["kind"] == "shifted":
            name = f"{s['policy']}/{s['source']}"
            real, control = (figure(comparisons, n, region, "bits") for n in (name, s["name"]))
            rows.append({"set": name, **real.less(control).record()})
    return rows


def _similarity(comparisons: Sequence[Mapping[str, Any]], region: str) -> dict[str, Any]:
    """Similarity of each session separately, as sessions differ in their behaviours."""
    return {
        c["session"]["session"]: {
            "ceiling": c["ceiling"][region],
            "sets": [
                {"set": s["name"], "kind": s["kind"], **s["similarity"][region]} for s in c["sets"]
            ],
        }
        for c in comparisons
        if region in c["ceiling"]
    }


def _units(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Bits per spike of each neuron by feature set."""
    rows = []
    for i, unit in enumerate(comparison["units"]):
        spikes = sum(unit["spikes"])
        bits = {
            s["name"]: float(f"{sum(s['glm_gain'][i]) / math.log(2) / spikes:.5g}")
            for s in comparison["sets"]
        }
        rows.append(
            {
                "session": comparison["session"]["session"],
                "id": unit["id"],
                "region": unit["region"],
                "spikes": int(spikes),
                "bits": bits,
            }
        )
    return rows


def tables(summary: Mapping[str, Any]) -> Group:
    """Tables for a terminal of 110 columns."""
    parts: list[Any] = []
    for s in summary["sessions"]:
        parts.append(Text(_about(s)))
    for region, found in summary["regions"].items():
        table = Table(title=f"{region}, {found['units']} units", title_justify="left")
        table.add_column("feature set", overflow="fold")
        for heading in ("bits/spike", "95 % interval", "best less this", "deviance", "R²"):
            table.add_column(heading, no_wrap=True)
        other = {m: {r["set"]: r["value"] for r in found[m]} for m in ("deviance", "r2")}
        for row in found["bits"]:
            behind = row["behind"]
            table.add_row(
                Text(row["set"]),
                number(row["value"]),
                interval(row),
                f"{number(behind['value'])} ({interval(behind)})"
                if row != found["bits"][0]
                else "",
                number(other["deviance"][row["set"]]),
                number(other["r2"][row["set"]]),
            )
        parts += [Text(""), table]
    if summary["probes"]:
        title = f"Behaviour probes, {len(summary['classes'])} classes (chance "
        title += f"{1 / len(summary['classes']):.2f})"
        table = Table("feature set", PROBE[0], "95 % interval", title=title, title_justify="left")
        for row in summary["probes"]:
            table.add_row(Text(row["set"]), number(row["value"]), interval(row))
        parts += [Text(""), table]
    return Group(*parts)


def _about(session: Mapping[str, Any]) -> str:
    return (
        f"{session['session']['session']}: {session['units']} units "
        f"({session['left_out']} left out), {session['usable']:.1%} of the bins used (for all "
        f"sets, lags and shifts), {1 - session['upright']:.1%} masked, {session['blocks']} blocks"
    )


def number(value: float | None) -> str:
    """A number with three decimals; a dash for None."""
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def interval(row: Mapping[str, Any]) -> str:
    """Both ends of an interval."""
    return "–" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}"


def page(summary: Mapping[str, Any], title: str) -> str:
    """One HTML page, which loads nothing and has no scripts."""
    template = environment("vnl_envs.neural", ".").get_template("report.html")
    examples = sorted(summary["units"], key=lambda u: -max(u["bits"].values()))[:EXAMPLES]
    return template.render(
        title=title,
        summary=summary,
        metrics=METRICS,
        probe=PROBE,
        about=[_about(s) for s in summary["sessions"]],
        drawn={
            region: _drawings(found, summary["sets"])
            for region, found in summary["regions"].items()
        },
        probes=_svg(_bars(summary["probes"], PROBE[0]), PROBE[0]) if summary["probes"] else "",
        examples=[(u, _svg(_unit_bars(u, summary), f"unit {u['id']}")) for u in examples],
        number=number,
        interval=interval,
    )


def _drawings(found: Mapping[str, Any], sets: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    out = [("Bits per spike", _svg(_bars(found["bits"], "bits/spike"), "Bits per spike"))]
    caption = "Layer by layer"
    out.append((caption, _svg(_profile(found["bits"], sets), caption)))
    for session, similar in found["similarity"].items():
        rows = sorted(similar["sets"], key=lambda r: -r["value"])
        ceiling = similar["ceiling"]["ceiling"]
        caption = f"Geometry of behaviours, {session}"
        out.append((caption, _svg(_bars(rows, "whitened cosine", ceiling), caption)))
    return out


def _bars(rows: Sequence[Mapping[str, Any]], label: str, ceiling: float | None = None) -> Drawing:
    """A chart of points with intervals, best first."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(6.4, 0.6 + 0.24 * len(rows)), layout="constrained")
    axes = drawing.subplots()
    for y, row in enumerate(rows):
        colour = _COLOURS[row["kind"]]
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2)
        axes.plot(row["value"], y, "o", color=colour, markersize=5)
    axes.axvline(0, color="#222222", linewidth=0.6)
    if ceiling is not None:
        axes.axvline(ceiling, color="#222222", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(rows)), [row["set"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(label)
    return drawing


def _profile(rows: Sequence[Mapping[str, Any]], sets: Sequence[Mapping[str, Any]]) -> Drawing:
    """A chart of bits per spike along the layers of every network, from observation to action."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(6.4, 2.8), layout="constrained")
    axes = drawing.subplots()
    found = {row["set"]: row for row in rows}
    networks = [s for s in sets if s["kind"] in ("network", "untrained")]
    layers = list(dict.fromkeys(s["source"] for s in networks))
    markers = itertools.cycle("osD^v")
    for policy in dict.fromkeys(s["policy"] for s in networks):
        own = [s for s in networks if s["policy"] == policy]
        x = [layers.index(s["source"]) for s in own]
        points = [found[s["name"]] for s in own]
        colour = _COLOURS[own[0]["kind"]]
        value = [p["value"] for p in points]
        axes.plot(x, value, next(markers) + "-", color=colour, markersize=4, label=policy)
        if all(p["low"] is not None for p in points):
            low, high = ([p[end] for p in points] for end in ("low", "high"))
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(0, color="#222222", linewidth=0.6)
    axes.set_xticks(range(len(layers)), layers)
    axes.set_ylabel("bits/spike")
    axes.legend(frameon=False, fontsize=8)
    return drawing


def _unit_bars(unit: Mapping[str, Any], summary: Mapping[str, Any]) -> Drawing:
    kinds = {s["name"]: s["kind"] for s in summary["sets"]}
    rows = [
        {"set": name, "kind": kinds[name], "value": value, "low": None, "high": None}
        for name, value in sorted(unit["bits"].items(), key=lambda pair: -pair[1])
    ]
    return _bars(rows, "bits/spike")


def _svg(drawing: Drawing, caption: str) -> str:
    """A figure as an SVG element."""
    import io

    import matplotlib

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "vnl_envs",
        "font.family": "sans-serif",
        "font.size": 9.0,
    }
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context(style):  # type: ignore[arg-type]
        drawing.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    return text.replace("<svg", f'<svg role="img" aria-label="{caption}"', 1)
