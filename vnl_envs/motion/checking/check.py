"""Quality of clips: measures against the body's limits, the ground and mechanics.

`docs/motion_check.md` explains each figure and the source of its tolerance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.checking.dynamics import actuator_loads, residual, root_wrench
from vnl_envs.motion.checking.ground import (
    Limits,
    limits,
    near_ground,
    soles,
    stance,
    standing_length,
)
from vnl_envs.motion.clip import RATE, Clip, check_clip
from vnl_envs.motion.kinematics import Reference, derive_reference

Verdict = Literal["ok", "suspicious", "bad"]

# Speed below which a body moves on the spot, standing heights per second.
_SHUFFLE = 0.5
# Number of frames whose kinematics are in memory at a time, and margin on each side.
_CHUNK, _MARGIN = 4096, 4
# Number of frames at each end of a clip that are judged separately.
_ENDS = round(0.2 * RATE)
# Ordinary acceleration of the centre of mass, m/s²: a tenth of gravity.
_GENTLE = 1.0
# Greatest number of evenly spaced frames of a clip in which the actuators' loads are computed,
# which costs ten times as much as everything else; and number of overloaded actuators to name.
_LOADED, _NAMED = 100, 3
# A spike exceeds the 95th percentile of the clip's own values by this factor, ...
_OUTLIER, _COMMON = 3.0, 95
# ... or the body's bound by this factor, even if such values are common in the clip.
_IMPOSSIBLE = 2.0
# Difference in every coordinate below which a frame repeats the one before (float32 rounding).
_SAME = 1e-6


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


class Fault(NamedTuple):
    """A fault in some frames of a clip.

    Attributes:
        kind: kind of fault, such as "joint limit", "joint speed", "sunk", "floating",
            "implausible".
        where: name of the joint, foot or hand; empty for the whole body.
        spans: first and last frame of each run of frames.
        worst: largest value, in `unit`.
        unit: unit of `worst`.
        frame: frame of the largest value.
    """

    kind: str
    where: str
    spans: tuple[tuple[int, int], ...]
    worst: float
    unit: str
    frame: int


@dataclass(frozen=True, eq=False)
class Series:
    """Measures of each frame of a clip, float32.

    Attributes:
        root: (T, 3) position of the root, m.
        travelled: (T,) distance of the centre of mass from the frame before, m.
        clearance: (T,) height of the lowest contact geom, m.
        names: names of the K feet and hands.
        height: (T, K) heights of their lowest points, m.
        stands: (T, K) whether they stand.
        slide: (T, K) distance over the ground to the next frame, m.
        supported: (T,) whether any point is near the ground, in the frame or next to it.
        wrench: (T, 6) wrench on the root, see `root_wrench`.
        residual: (T,) part of the wrench without support, see `unsupported_wrench`.
        joint_speed: (T,) speed of the fastest joint, rad/s.
        acceleration: (T,) acceleration of the centre of mass by second differences, m/s².
        loaded: (S,) frames in which the actuators' loads were computed.
        deficit: (S, nu) force or torque that each actuator lacks there, N or N m, see `Loads`.
    """

    root: np.ndarray
    travelled: np.ndarray
    clearance: np.ndarray
    names: tuple[str, ...]
    height: np.ndarray
    stands: np.ndarray
    slide: np.ndarray
    supported: np.ndarray
    wrench: np.ndarray
    residual: np.ndarray
    joint_speed: np.ndarray
    acceleration: np.ndarray
    loaded: np.ndarray
    deficit: np.ndarray


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
    series = _series(clip, body, bar)
    faults = (
        *_ground_faults(series, bound),
        *_root_faults(clip, bound),
        *_repeats(clip),
        # The worst joints first, since there may be many.
        *sorted(_joint_faults(clip, body, bound), key=lambda fault: (fault.kind, -fault.worst)),
        *sorted(_overloads(series, body), key=lambda fault: -fault.worst)[:_NAMED],
    )
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
    common = max(_GENTLE, _common(between)) if known else np.inf
    return {
        "start_acceleration": start,
        "end_acceleration": end,
        "abrupt": max(start, end) / common,
        "abrupt_residual": float(
            max(series.residual[:_ENDS].max(), series.residual[-_ENDS:].max())
        ),
    }


def mark(faults: Iterable[Fault], total: int) -> np.ndarray:
    """(T,) bool, whether a frame has one of the faults."""
    out = np.zeros(total, bool)
    for fault in faults:
        for first, last in fault.spans:
            out[first : last + 1] = True
    return out


def _fault(
    kind: str, where: str, wrong: np.ndarray, value: np.ndarray, unit: str
) -> Iterator[Fault]:
    """The fault of the frames marked by `wrong` (T,), if there are any, with its worst value."""
    if wrong.any():
        edges = np.flatnonzero(np.diff(np.concatenate([[False], wrong, [False]]).astype(int)))
        spans = tuple((int(a), int(b) - 1) for a, b in edges.reshape(-1, 2))
        worst = int(np.where(wrong, value, -np.inf).argmax())
        yield Fault(kind, where, spans, float(value[worst]), unit, worst)


# Frame to frame -----------------------------------------------------------------------------------

SPIKES = {
    "joint speed": "rad/s",
    "joint acceleration": "rad/s²",
    "root speed": "m/s",
    "root acceleration": "m/s²",
    "turn speed": "rad/s",
    "turn acceleration": "rad/s²",
}
"""Kinds of spikes and their units; the bounds have the same names in `Limits`."""


def _joint_faults(clip: Clip, body: BodyModel, bound: Limits) -> Iterator[Fault]:
    """Joints out of their range, and spikes of joints."""
    joints = clip.qpos[:, 7:]
    common = {k: _common(v) for k, v in _changes(joints[_sample(len(clip))]).items()}
    for i, (name, (low, high)) in enumerate(zip(body.joint_names, body.joint_range, strict=True)):
        angle = joints[:, i].astype(float)
        excess = np.maximum(low - angle, angle - high)
        yield from _fault("joint limit", name, excess > bound.limit, excess, "rad")
        for kind, value in _changes(angle).items():
            yield from _spikes(f"joint {kind}", name, value, common[kind], bound)


def _root_faults(clip: Clip, bound: Limits) -> Iterator[Fault]:
    """Spikes of the root."""
    for kind, vectors in _changes(clip.qpos[:, :3].astype(float), signed=True).items():
        value = np.linalg.norm(vectors, axis=1)
        yield from _spikes(f"root {kind}", "", value, _common(value), bound)
    pose = Rotation.from_quat(clip.qpos[:, 3:7].astype(float), scalar_first=True)
    turn = (pose[:-1].inv() * pose[1:]).as_rotvec() * RATE
    speed, change = np.zeros(len(clip)), np.zeros(len(clip))
    speed[1:] = np.linalg.norm(turn, axis=1)
    change[1:-1] = np.linalg.norm(np.diff(turn, axis=0), axis=1) * RATE
    for kind, value in (("speed", speed), ("acceleration", change)):
        yield from _spikes(f"turn {kind}", "", value, _common(value), bound)


def _changes(values: np.ndarray, signed: bool = False) -> dict[str, np.ndarray]:
    """Speed since the frame before and acceleration across it, (T, ...) -> (T, ...) each.

    Differences of neighbours, not central ones: these would halve a jump.
    """
    speed, acceleration = np.zeros_like(values), np.zeros_like(values)
    speed[1:] = np.diff(values, axis=0) * RATE
    acceleration[1:-1] = np.diff(values, 2, axis=0) * RATE**2
    out = {"speed": speed, "acceleration": acceleration}
    return out if signed else {k: np.abs(v) for k, v in out.items()}


def _common(values: np.ndarray) -> float:
    """The percentile `_COMMON` of a clip's values."""
    return float(np.percentile(values, _COMMON))


def _sample(total: int) -> slice:
    """Contiguous frames that represent the distribution of a long clip."""
    most = 50_000
    return slice(max(0, (total - most) // 2), (total + most) // 2 + 1)


def _spikes(
    kind: str, where: str, value: np.ndarray, common: float, bound: Limits
) -> Iterator[Fault]:
    most = getattr(bound, kind.replace(" ", "_"))
    outlier = max(most, min(_OUTLIER * common, _IMPOSSIBLE * most))
    yield from _fault(kind, where, value > outlier, value, SPIKES[kind])


def _repeats(clip: Clip) -> Iterator[Fault]:
    same = np.zeros(len(clip), bool)
    same[1:] = np.abs(np.diff(clip.qpos, axis=0)).max(axis=1) < _SAME
    # The worst is the longest run, which ends where the count is highest.
    run = np.arange(len(same)) - np.maximum.accumulate(np.where(same, 0, np.arange(len(same))))
    yield from _fault("repeated", "", same, run.astype(float), "frames")


# Ground and mechanics -----------------------------------------------------------------------------


def _ground_faults(series: Series, bound: Limits) -> Iterator[Fault]:
    deep = -1e3 * series.clearance
    yield from _fault("sunk", "", deep > 1e3 * bound.depth, deep, "mm")
    lift = np.abs(series.wrench[:, 2])
    floating = ~series.supported & (lift > bound.free)
    yield from _fault("floating", "", floating, lift, "weights")
    for i, name in enumerate(series.names):
        speed = series.slide[:, i] * RATE
        yield from _fault("sliding", name, speed > bound.stance_speed, speed, "m/s")
    beyond = series.residual > bound.residual
    yield from _fault("implausible", "", beyond, series.residual, "weights")


def _overloads(series: Series, body: BodyModel) -> Iterator[Fault]:
    """Actuators that need more force than they have, in the sampled frames."""
    for name, lack in zip(body.actuator_names, series.deficit.T, strict=True):
        # Each frame looked at stands for those up to the next.
        value = lack[np.searchsorted(series.loaded, np.arange(len(series.root)), "right") - 1]
        yield from _fault("overload", name, value > 0, value, "N m")


def _series(clip: Clip, body: BodyModel, bar: tqdm) -> Series:
    """Measures of each frame, a few thousand frames at a time."""
    parts = []
    loaded = np.arange(0, len(clip), -(-len(clip) // _LOADED))
    for start in range(0, len(clip), _CHUNK):
        stop = min(start + _CHUNK, len(clip))
        first = max(0, start - _MARGIN)
        window = slice(first, min(stop + _MARGIN, len(clip)))
        reference = derive_reference([dataclasses.replace(clip, qpos=clip.qpos[window])], body)
        inside = slice(start - first, stop - first)
        part = {k: v[inside] for k, v in _measure(reference, body).items()}
        nearby = loaded[(loaded >= start) & (loaded < stop)]
        deficit = actuator_loads(reference, body, nearby - first).deficit
        parts.append({**part, "loaded": nearby, "deficit": deficit.astype(np.float32)})
        bar.update(stop - start)
    whole = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
    return Series(names=tuple(body.body.touch), **whole)


def _measure(reference: Reference, body: BodyModel) -> dict[str, np.ndarray]:
    """The arrays of `Series` with a value for each frame, for a clip that fits into memory."""
    points = soles(reference, body)
    standing = stance(reference, body, points)
    near = near_ground(points, reference, body)
    wrench = root_wrench(reference, body)
    way = np.zeros(len(wrench))
    way[1:] = np.linalg.norm(np.diff(reference.com[:, :2], axis=0), axis=1)
    real = {
        "root": reference.qpos[:, :3],
        "travelled": way,
        "clearance": reference.clearance,
        "height": standing.height,
        "slide": standing.slide,
        "wrench": wrench,
        "residual": residual(wrench, points.points, near, reference.com, body),
        "joint_speed": _changes(reference.qpos[:, 7:])["speed"].max(axis=1),
        "acceleration": np.linalg.norm(
            _changes(reference.com, signed=True)["acceleration"], axis=1
        ),
    }
    flags = {"stands": standing.stands, "supported": near.any(axis=1)}
    return {k: v.astype(np.float32) for k, v in real.items()} | flags


def _in_place(duration: float, body: BodyModel) -> float:
    """Least distance, m, with which slips are compared: shuffling on the spot for a time, s."""
    return standing_length(body) * max(1.0, _SHUFFLE * duration)
