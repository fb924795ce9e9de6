"""Is a clip any good? Measures of clips against the body's limits, the ground and mechanics.

`docs/motion_check.md` says what each figure means and where its tolerance comes from.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import mujoco
import numpy as np
from scipy.optimize import nnls
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from vnl_envs.bodies.body import GROUND_CONTYPE, BodyModel
from vnl_envs.motion.clip import RATE, Clip, check_clip
from vnl_envs.motion.kinematics import Reference, derive_reference

Verdict = Literal["ok", "suspicious", "bad"]

# Frames on each side of a clip whose accelerations lean on one-sided differences.
_EDGE = 2
# Feet of a statue that is pushed along and turned move at different speeds.
_HARDLY_FASTER = 1.5
# Of the standing height: a body whose root is lower lies, crawls or gets up, and its feet drag.
_UP = 0.5
# Standing heights per second: what moves by less shuffles on the spot.
_SHUFFLE = 0.5
# A pyramid of eight edges holds 90 % of the friction cone's cross-section.
_CONE_EDGES = 8
# Frames whose kinematics are in memory at a time, and how many more on each side they need.
_CHUNK, _MARGIN = 4096, 4
# A spike stands out by this factor from what 95 % of the clip's own values stay below, ...
_OUTLIER, _COMMON = 3.0, 95
# ... or is beyond the body's bound by this factor, however common such values are in the clip.
_IMPOSSIBLE = 2.0
# Frames closer than this to their predecessor, in every coordinate, repeat it (float32 rounding).
_SAME = 1e-6


@dataclass(frozen=True)
class Limits:
    """Tolerances of one body.

    Attributes:
        near: how close to the ground a point carries weight, m.
        depth: how deep a contact geom may be in the ground, m.
        stance_speed: below which a point near the ground stands, m/s.
        limit: by how much a joint may be out of its range, rad.
        root_speed, root_acceleration: of the root's origin, m/s and m/s².
        turn_speed, turn_acceleration: of the root, rad/s and rad/s².
        joint_speed, joint_acceleration: of any joint, rad/s and rad/s².
        free: vertical force at which a body without support is not in free fall, body weights.
        residual: force and moment that no contact can give, body weights.
    """

    near: float
    depth: float
    stance_speed: float
    root_speed: float
    root_acceleration: float
    turn_speed: float
    turn_acceleration: float
    joint_speed: float
    joint_acceleration: float
    limit: float = 0.01
    free: float = 0.3
    residual: float = 0.5


LIMITS = {
    1.108: Limits(
        near=0.015, depth=0.005, stance_speed=0.33, root_speed=12.0, root_acceleration=150.0,
        turn_speed=20.0, turn_acceleration=1000.0, joint_speed=30.0, joint_acceleration=2500.0,
    ),
    0.063: Limits(
        near=0.006, depth=0.002, stance_speed=0.08, root_speed=3.0, root_acceleration=100.0,
        turn_speed=40.0, turn_acceleration=4000.0, joint_speed=60.0, joint_acceleration=5000.0,
    ),
}  # fmt: skip
"""Of the humanoid and the rat, by their standing root's height, m; `docs/motion_check.md` has the
reasons."""


def limits(body: BodyModel) -> Limits:
    """Tolerances of a body: those of the humanoid or the rat, whichever is nearer in size, scaled.

    Bodies of other sizes move alike at lengths in proportion to L and speeds to the root of L
    (dynamic similarity, Alexander & Jayes 1983), so angular speeds go with 1 / sqrt(L).
    """
    length = standing_length(body)
    base = min(LIMITS, key=lambda other: abs(np.log(length / other)))
    scale = length / base
    # The bodies that the table is for keep its round numbers.
    scale = 1.0 if abs(scale - 1) < 0.05 else scale
    return dataclasses.replace(
        LIMITS[base],
        **{
            name: getattr(LIMITS[base], name) * scale**power
            for name, power in {
                "near": 1.0, "depth": 1.0, "stance_speed": 0.5, "root_speed": 0.5,
                "turn_speed": -0.5, "turn_acceleration": -1.0,
                "joint_speed": -0.5, "joint_acceleration": -1.0,
            }.items()
        },
    )  # fmt: skip


class Figure(NamedTuple):
    """One number of a clip's report, and what it says about the clip.

    Attributes:
        unit: of the number, "1" for fractions and counts.
        text: what it is.
        suspicious, bad: above which the clip is called so; None if it never is.
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
}
"""The figures of a report in order, and the only place that says what they lead to."""


class Fault(NamedTuple):
    """Something wrong in some frames of a clip.

    Attributes:
        kind: such as "joint limit", "joint speed", "sunk", "floating", "implausible".
        where: the joint, foot or hand; empty for the whole body.
        spans: first and last frame of each run of frames.
        worst: the largest value, in `unit`.
        unit: of `worst`.
        frame: where it is.
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
        root: (T, 3) position, m.
        travelled: (T,) way of the centre of mass since the frame before, m.
        clearance: (T,) height of the lowest contact geom, m.
        names: of the feet and hands.
        height: (T, K) of their lowest points, m.
        stands: (T, K) whether they stand.
        slide: (T, K) way over the ground to the next frame, m.
        supported: (T,) whether anything is near the ground, in the frame or next to it.
        wrench: (T, 6) see `root_wrench`.
        residual: (T,) see `unsupported_wrench`.
        joint_speed: (T,) of the fastest joint, rad/s.
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


@dataclass(frozen=True, eq=False)
class ClipReport:
    """What was found in one clip.

    Attributes:
        name, label, split: the clip's.
        body: name of its body.
        frames: how many it has.
        limits: the tolerances that it was measured with.
        figures: a number for each of `FIGURES`.
        faults: what is wrong where.
        verdict: the worst of what the figures lead to.
        reasons: one line for each figure that is to blame, the worst first.
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
        """(T,) frames that faults of some kinds name, or any fault if no kind is given."""
        chosen = [fault for fault in self.faults if not kinds or fault.kind in kinds]
        return mark(chosen, self.frames)


def check_clips(
    clips: Iterable[Clip], body: BodyModel, progress: bool = False
) -> tuple[ClipReport, ...]:
    """A report on each clip. A report takes 0.1 kB per frame, the work in between 0.3 GB.

    Args:
        clips: read one after the other.
        body: whose they are.
        progress: show a bar of the frames done.

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
    )
    figures = _figures(clip, body, series, faults, bound)
    verdict, reasons = judge(figures)
    return ClipReport(
        name=clip.name, label=clip.label, split=clip.split, body=body.body.name,
        frames=len(clip), limits=bound, figures=figures, faults=faults, verdict=verdict,
        reasons=reasons, series=series,
    )  # fmt: skip


def judge(figures: dict[str, float]) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict that a clip's figures lead to, and the reasons."""
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
    """The numbers of `FIGURES`."""
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
    }
    return {key: float(out[key]) for key in FIGURES}


def mark(faults: Iterable[Fault], total: int) -> np.ndarray:
    """(T,) frames that faults name."""
    out = np.zeros(total, bool)
    for fault in faults:
        for first, last in fault.spans:
            out[first : last + 1] = True
    return out


def _fault(
    kind: str, where: str, wrong: np.ndarray, value: np.ndarray, unit: str
) -> Iterator[Fault]:
    """The fault of frames that are wrong (T,), if there are any; its worst value."""
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
    """What most of a clip's values stay below."""
    return float(np.percentile(values, _COMMON))


def _sample(total: int) -> slice:
    """Frames next to each other that a long clip's distribution is taken from."""
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
    # What is worst is the longest run, which ends where the count is highest.
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
    residual = series.residual
    yield from _fault("implausible", "", residual > bound.residual, residual, "weights")


def _series(clip: Clip, body: BodyModel, bar: tqdm) -> Series:
    """Measures of each frame, a few thousand frames at a time."""
    parts = []
    for start in range(0, len(clip), _CHUNK):
        stop = min(start + _CHUNK, len(clip))
        first = max(0, start - _MARGIN)
        window = slice(first, min(stop + _MARGIN, len(clip)))
        part = _measure(dataclasses.replace(clip, qpos=clip.qpos[window]), body)
        parts.append({k: v[start - first : stop - first] for k, v in part.items()})
        bar.update(stop - start)
    whole = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
    return Series(names=tuple(body.body.touch), **whole)


def _measure(clip: Clip, body: BodyModel) -> dict[str, np.ndarray]:
    """The arrays of `Series` for a clip that fits into memory."""
    reference = derive_reference([clip], body)
    points = soles(reference, body)
    standing = stance(reference, body, points)
    near = _near(points, reference, body)
    wrench = root_wrench(reference, body)
    way = np.zeros(len(clip))
    way[1:] = np.linalg.norm(np.diff(reference.com[:, :2], axis=0), axis=1)
    real = {
        "root": reference.qpos[:, :3],
        "travelled": way,
        "clearance": reference.clearance,
        "height": standing.height,
        "slide": standing.slide,
        "wrench": wrench,
        "residual": _residual(wrench, points.points, near, reference.com, body),
        "joint_speed": _changes(reference.qpos[:, 7:])["speed"].max(axis=1),
    }
    flags = {"stands": standing.stands, "supported": near.any(axis=1)}
    return {k: v.astype(np.float32) for k, v in real.items()} | flags


def root_wrench(reference: Reference, body: BodyModel) -> np.ndarray:
    """What must push at the body from outside for it to move as the clips do, (F, 6).

    Inverse dynamics without contacts (`mj_inverse`), world axes. The first three are the force in
    body weights; the last three the moment about the centre of mass in body weights times the
    standing root's height (`standing_length`). Rest is (0, 0, 1, 0, 0, 0); free fall is 0.
    Accelerations are central differences of the velocities; a clip's first and last two frames
    take those of their neighbours.
    """
    model = copy.copy(body.model)
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    data = mujoco.MjData(model)
    wrench = np.empty((len(reference.qpos), 6))
    qacc = accelerations(reference)
    for i, (qpos, qvel) in enumerate(zip(reference.qpos, reference.qvel, strict=True)):
        data.qpos[body.qpos], data.qvel[body.qvel] = qpos, qvel
        data.qacc[body.qvel] = qacc[i]
        mujoco.mj_inverse(model, data)
        wrench[i] = data.qfrc_inverse[body.qvel][:6]
    # A free joint's moment is about the root's origin, in the root's axes.
    root = reference.xmat[:, 0].reshape(-1, 3, 3)
    arm = reference.com - reference.xpos[:, 0]
    force = wrench[:, :3]
    moment = np.einsum("fij,fj->fi", root, wrench[:, 3:]) - np.cross(arm, force)
    weight = body.mass.sum() * -model.opt.gravity[2]
    return np.hstack([force, moment / standing_length(body)]) / weight


def _in_place(duration: float, body: BodyModel) -> float:
    """The way, m, below which a body stays where it is, in this time, s: slips are not compared
    with less.
    """
    return standing_length(body) * max(1.0, _SHUFFLE * duration)


def standing_length(body: BodyModel) -> float:
    """Height of the standing root above the ground, m: the unit of lengths of a body."""
    return float(body.standing_qpos[2])


def accelerations(reference: Reference) -> np.ndarray:
    """Central differences of the velocities within each clip, (F, nv).

    0 in clips that are too short for them.
    """
    out = np.zeros_like(reference.qvel)
    for first, length in zip(reference.first, reference.length, strict=True):
        if length > 2 * _EDGE:
            inner = np.gradient(reference.qvel[first : first + length], 1 / RATE, axis=0)
            inner[:_EDGE], inner[-_EDGE:] = inner[_EDGE], inner[-_EDGE - 1]
            out[first : first + length] = inner
    return out


def unsupported_wrench(reference: Reference, body: BodyModel) -> np.ndarray:
    """The part of `root_wrench` that no contact with the ground can give, (F,).

    Size of what is left of the six numbers after the best combination of forces in the friction
    cones of the points near the ground (non-negative least squares). Points count that are near
    in the frame or next to it, since accelerations come from five frames.
    """
    points = soles(reference, body)
    near = _near(points, reference, body)
    wrench = root_wrench(reference, body)
    return _residual(wrench, points.points, near, reference.com, body)


def _near(points: Soles, reference: Reference, body: BodyModel) -> np.ndarray:
    """Points that are near the ground in a frame or next to it, (F, P)."""
    near = points.height < limits(body).near
    out = near.copy()
    for first, length in zip(reference.first, reference.length, strict=True):
        clip = slice(first, first + length)
        out[clip][1:] |= near[clip][:-1]
        out[clip][:-1] |= near[clip][1:]
    return out


def _residual(
    wrench: np.ndarray, points: np.ndarray, near: np.ndarray, com: np.ndarray, body: BodyModel
) -> np.ndarray:
    """See `unsupported_wrench`; points (F, P, 3) of which some are near (F, P)."""
    edges = _cone(body)
    arms = (points - com[:, None]) / standing_length(body)
    out = np.linalg.norm(wrench, axis=1)
    for i in np.flatnonzero(near.any(axis=1)):
        force = edges[near[i]]
        moment = np.cross(arms[i, near[i], None], force)
        generators = np.concatenate([force, moment], axis=-1).reshape(-1, 6)
        out[i] = nnls(generators.T, wrench[i])[1]
    return out


def _cone(body: BodyModel) -> np.ndarray:
    """Edges of the friction cone of each contact point, (P, edges, 3), vertical part 1."""
    model = body.model
    ground = np.flatnonzero(model.geom_contype & GROUND_CONTYPE)
    ground = ground[(ground < body.geoms.start) | (ground >= body.geoms.stop)]
    ids = _point_geoms(body)[0] + body.geoms.start
    # MuJoCo gives a contact the larger friction of its two geoms.
    friction = np.maximum(model.geom_friction[ids, 0], model.geom_friction[ground, 0].max())
    angle = np.arange(_CONE_EDGES) * 2 * np.pi / _CONE_EDGES
    edges = np.stack([np.cos(angle), np.sin(angle), np.ones_like(angle)], axis=1)
    scale = np.stack([friction, friction, np.ones_like(friction)], axis=1)
    return edges * scale[:, None]


# Feet on the ground -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Soles:
    """The points with which contact geoms can touch the ground: under the ends of capsules and
    the centres of spheres, P points over F frames.

    Attributes:
        group: (P,) which of `names` a point belongs to, -1 for none.
        names: the feet and hands, as the body's touch sensors name them.
        points: (F, P, 3) m.
        slip: (F, P, 2) horizontal way, m, that the body's material makes at each point from a
            frame to the next; rolling makes none. 0 in a clip's last frame.
    """

    group: np.ndarray
    names: tuple[str, ...]
    points: np.ndarray
    slip: np.ndarray

    @property
    def height(self) -> np.ndarray:
        """(F, P) above the ground, m."""
        return self.points[..., 2]

    def foot(self, name: str) -> np.ndarray:
        """Columns of the points of a foot or hand."""
        return np.flatnonzero(self.group == self.names.index(name))


def _point_geoms(body: BodyModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each contact point its geom's row, signed way from the centre along its axis and
    radius, m.
    """
    rows, half, radius = body.capsules(*body.body.contact_geoms)
    ends = [[h, -h] if h > 0 else [0.0] for h in half]
    which = np.repeat(np.arange(len(rows)), [len(e) for e in ends])
    return rows[which], np.concatenate(ends), radius[which]


def soles(reference: Reference, body: BodyModel) -> Soles:
    """The contact points of clips; see `Soles`."""
    model = body.model
    rows, along, radius = _point_geoms(body)
    ids = rows + body.geoms.start
    axis = Rotation.from_quat(model.geom_quat[ids], scalar_first=True).apply([0, 0, 1])
    local = model.geom_pos[ids] + along[:, None] * axis
    owner = model.geom_bodyid[ids] - body.bodies.start
    turn = reference.xmat[:, owner].reshape(-1, len(owner), 3, 3)
    points = reference.xpos[:, owner] + np.einsum("fpij,pj->fpi", turn, local)
    points[..., 2] -= radius
    sensors = [body.geom_index(*geoms) for geoms in body.body.touch.values()]
    group = [next((i for i, s in enumerate(sensors) if row in s), -1) for row in rows]
    slip = _slip(reference, owner, turn, points)
    return Soles(np.array(group), tuple(body.body.touch), points, slip)


def _slip(
    reference: Reference, owner: np.ndarray, turn: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """See `Soles.slip`: the material at a point is followed to the next frame.

    Rolling by an angle moves it horizontally by the radius times the angle's cube over six.
    """
    place = reference.xpos[:, owner]
    arm = np.einsum("fpji,fpj->fpi", turn, points - place)
    moved = place[1:] + np.einsum("fpij,fpj->fpi", turn[1:], arm[:-1]) - points[:-1]
    out = np.zeros((*points.shape[:2], 2))
    out[:-1] = moved[..., :2]
    out[reference.first + reference.length - 1] = 0
    return out


@dataclass(frozen=True, eq=False)
class Stance:
    """When feet and hands are on the ground, and how far they slide there, K feet and hands.

    Attributes:
        names: of the feet and hands.
        height: (F, K) of the lowest point above the ground, m.
        slip: (F, K) horizontal way to the next frame of the slowest point that is near the ground
            in both, m: a foot that rolls or turns on one of its points does not slide. Infinite
            where none is.
        stands: (F, K) whether it stands from a frame to the next: near the ground under a body that
            is up (the root above half its standing height), and either below the stance speed or
            hardly faster than the slowest foot that is near. So a body that is pushed along like a
            statue slides; a swinging foot that passes close to the ground does not, and the legs
            of one that lies do not.
    """

    names: tuple[str, ...]
    height: np.ndarray
    slip: np.ndarray
    stands: np.ndarray

    @property
    def slide(self) -> np.ndarray:
        """(F, K) way over the ground while standing, m."""
        return np.where(self.stands, self.slip, 0.0)


def stance(reference: Reference, body: BodyModel, points: Soles | None = None) -> Stance:
    """Stance of the feet and hands of clips; see `Stance` and `limits`."""
    points = points or soles(reference, body)
    bound = limits(body)
    near = points.height < bound.near
    near[:-1] &= near[1:]
    near[reference.first + reference.length - 1] = False
    way = np.where(near, np.linalg.norm(points.slip, axis=-1), np.inf)
    columns = [points.foot(name) for name in points.names]
    slip = np.stack([way[:, c].min(axis=1) for c in columns], axis=1)
    height = np.stack([points.height[:, c].min(axis=1) for c in columns], axis=1)
    slowest = slip.min(axis=1, keepdims=True)
    slow = slip <= np.maximum(bound.stance_speed / RATE, _HARDLY_FASTER * slowest)
    up = reference.qpos[:, 2:3] > _UP * standing_length(body)
    return Stance(points.names, height, slip, np.isfinite(slip) & slow & up)
