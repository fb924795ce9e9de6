"""Quality of clips: measures against the body's limits, the ground and mechanics.

`docs/motion_check.md` explains each figure and the source of its tolerance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.checking.faults import SPIKES, Fault, find_faults, mark
from vnl_envs.motion.checking.ground import Limits, limits, standing_length
from vnl_envs.motion.checking.series import Series, common, measure
from vnl_envs.motion.clip import RATE, Clip, check_clip

Verdict = Literal["ok", "suspicious", "bad"]

# Speed below which a body moves on the spot, standing heights per second.
_SHUFFLE = 0.5
# Number of frames at each end of a clip that are judged separately.
_ENDS = round(0.2 * RATE)
# Ordinary acceleration of the centre of mass, m/s²: a tenth of gravity.
_GENTLE = 1.0


class Figure(NamedTuple):
    """One figure of a clip's report.

    Attributes:
        unit: unit of the figure, "1" for fractions and counts.
        text: description.
        suspicious, bad: bounds above which the clip is suspicious or bad; None if it never is.
    """

    unit: str
    text: str
    suspicious: float | None = None
    bad: float | None = None


FIGURES: dict[str, Figure] = {
    "duration": Figure("s", "duration"),
    "travelled": Figure("m", "way of the centre of mass over the ground"),
    "limit_excess": Figure("rad", "worst excess of a joint over its range", 0.01, 0.1),
    "limit_frames": Figure("frames", "frames with a joint out of its range"),
    "spikes": Figure("1", "share of frames with a speed or acceleration spike", 0.0, 0.05),
    "depth": Figure("mm", "depth under the ground, worst"),
    "depth_ratio": Figure("1", "depth over what the body is allowed", 1.0, 4.0),
    "sunk": Figure("frames", "frames deeper than allowed"),
    "floating": Figure("1", "share of frames without support and not falling", 0.02, 0.5),
    "slide": Figure("mm", "way that standing feet slide, mean over the feet"),
    "slide_per_stance": Figure("mm", "way that a foot slides in a stance, mean"),
    "slide_ratio": Figure("1", "sliding of standing feet over the way travelled", 0.05, 0.25),
    "quaternion_error": Figure("1", "deviation of a root quaternion's norm from 1", 1e-4),
    "sign_flips": Figure("1", "quaternions opposite to the one before", 0.0),
    "repeated": Figure("1", "share of frames equal to the one before", 0.02, 0.5),
    "force": Figure("weights", "force that must push at the body, median"),
    "moment": Figure("weights × height", "moment about the centre of mass that it needs, median"),
    "residual": Figure("weights", "part of force and moment that no contact can give, median"),
    "residual_95": Figure("weights", "the same, 95th percentile"),
    "implausible": Figure(
        "1", "share of frames that need a force that no contact can give", 0.1, 0.5
    ),
    "start_acceleration": Figure("m/s²", "of the centre of mass in the first 0.2 s, worst"),
    "end_acceleration": Figure("m/s²", "of the centre of mass in the last 0.2 s, worst"),
    "abrupt": Figure(
        "1", "acceleration in the first and last 0.2 s over what is common between them", 2.0
    ),
    "abrupt_residual": Figure(
        "weights", "part that no contact can give in the first and last 0.2 s, worst", 0.4
    ),
    "overloaded": Figure("1", "share of frames that ask an actuator for more than it gives"),
    "deficit": Figure("N m", "what the worst actuator lacks, 95th percentile"),
}
"""The figures of a report, in order, with the bounds that decide its verdict."""


@dataclass(frozen=True, eq=False)
class ClipReport:
    """The report on one clip.

    Attributes:
        name, label, split: as in the clip.
        body: name of the body.
        frames: number of frames.
        limits: tolerances of the body.
        figures: value for each of `FIGURES`.
        faults: faults in frames.
        verdict: worst verdict of all figures.
        reasons: one line for each figure that is not ok, the worst first.
        series: measures of each frame.
    """

    name: str
    label: str
    split: str
    body: str
    frames: int
    limits: Limits
    figures: dict[str, float]
    faults: tuple[Fault, ...]
    verdict: Verdict
    reasons: tuple[str, ...]
    series: Series

    def marked(self, *kinds: str) -> np.ndarray:
        """(T,) bool, whether a frame has a fault of these kinds, or any fault without kinds."""
        chosen = [fault for fault in self.faults if not kinds or fault.kind in kinds]
        return mark(chosen, self.frames)


def check_clips(
    clips: Iterable[Clip], body: BodyModel, progress: bool = False
) -> tuple[ClipReport, ...]:
    """Check clips. A report takes 0.1 kB per frame, the work up to 0.3 GB.

    Args:
        clips: clips, consumed one at a time.
        body: body of the clips.
        progress: whether to show a progress bar.

    Raises:
        ClipError: a clip does not fit the body.
    """
    reports = []
    with tqdm(unit=" frames", disable=not progress) as bar:
        for clip in clips:
            check_clip(clip, body)
            bar.set_description(clip.name)
            reports.append(_check(clip, body, bar))
    return tuple(reports)


def _check(clip: Clip, body: BodyModel, bar: tqdm) -> ClipReport:
    bound = limits(body)
    series = measure(clip, body, bar)
    faults = find_faults(clip, body, series, bound)
    figures = _figures(clip, body, series, faults, bound)
    verdict, reasons = judge(figures)
    return ClipReport(
        name=clip.name,
        label=clip.label,
        split=clip.split,
        body=body.body.name,
        frames=len(clip),
        limits=bound,
        figures=figures,
        faults=faults,
        verdict=verdict,
        reasons=reasons,
        series=series,
    )


def judge(figures: dict[str, float]) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict from a clip's figures, and the reasons."""
    found: dict[Verdict, list[str]] = {"bad": [], "suspicious": []}
    for key, value in figures.items():
        rule = FIGURES[key]
        for verdict, bound in (("bad", rule.bad), ("suspicious", rule.suspicious)):
            if bound is not None and value > bound:
                unit = "" if rule.unit == "1" else f" {rule.unit}"
                found[verdict].append(f"{rule.text}: {value:.3g}{unit} (over {bound:g})")  # type: ignore[index]
                break
    reasons = (*found["bad"], *found["suspicious"])
    return "bad" if found["bad"] else "suspicious" if reasons else "ok", reasons


def _figures(
    clip: Clip, body: BodyModel, series: Series, faults: Iterable[Fault], bound: Limits
) -> dict[str, float]:
    """The values of `FIGURES`."""
    faults = tuple(faults)

    def marked(*kinds: str) -> np.ndarray:
        return mark((fault for fault in faults if fault.kind in kinds), len(clip))

    quat = clip.qpos[:, 3:7].astype(float)
    travelled = float(series.travelled.sum())
    slide = float(series.slide.sum(axis=0).mean())
    stances = series.stands[0].sum() + (series.stands[1:] & ~series.stands[:-1]).sum()
    depth = max(0.0, -float(series.clearance.min()))
    force, moment = (np.linalg.norm(part, axis=1) for part in np.split(series.wrench, 2, axis=1))
    out = {
        "duration": len(clip) / RATE,
        "travelled": travelled,
        "limit_excess": max((f.worst for f in faults if f.kind == "joint limit"), default=0.0),
        "limit_frames": marked("joint limit").sum(),
        "spikes": marked(*SPIKES).mean(),
        "depth": 1e3 * depth,
        "depth_ratio": depth / bound.depth,
        "sunk": marked("sunk").sum(),
        "floating": marked("floating").mean(),
        "slide": 1e3 * slide,
        "slide_per_stance": 1e3 * slide * len(series.names) / max(1, stances),
        "slide_ratio": slide / max(travelled, _in_place(len(clip) / RATE, body)),
        "quaternion_error": np.abs(np.linalg.norm(quat, axis=1) - 1).max(),
        "sign_flips": (np.sum(quat[1:] * quat[:-1], axis=1) < 0).sum(),
        "repeated": marked("repeated").mean(),
        "force": np.median(force),
        "moment": np.median(moment),
        "residual": np.median(series.residual),
        "residual_95": np.percentile(series.residual, 95),
        "implausible": marked("implausible").mean(),
        **_end_figures(series),
        "overloaded": (series.deficit > 0).any(axis=1).mean(),
        "deficit": np.percentile(series.deficit.max(axis=1), 95),
    }
    return {key: float(out[key]) for key in FIGURES}


def _end_figures(series: Series) -> dict[str, float]:
    """Figures of the first and the last `_ENDS` frames: starts and stops that no body can do."""
    acceleration = series.acceleration
    start, end = (float(part.max()) for part in (acceleration[:_ENDS], acceleration[-_ENDS:]))
    between = acceleration[_ENDS:-_ENDS]
    # Less between than at the ends says nothing of what is common.
    known = len(between) >= 2 * _ENDS
    usual = max(_GENTLE, common(between)) if known else np.inf
    return {
        "start_acceleration": start,
        "end_acceleration": end,
        "abrupt": max(start, end) / usual,
        "abrupt_residual": float(
            max(series.residual[:_ENDS].max(), series.residual[-_ENDS:].max())
        ),
    }


def _in_place(duration: float, body: BodyModel) -> float:
    """Least distance, m, with which slips are compared: shuffling on the spot for a time, s."""
    return standing_length(body) * max(1.0, _SHUFFLE * duration)
