"""Faults in some frames of a clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.checking.ground import Limits
from vnl_envs.motion.checking.series import Series, changes, common
from vnl_envs.motion.clip import RATE, Clip

# Number of overloaded actuators to name.
_NAMED = 3
# A spike exceeds what is common in the clip by this factor, ...
_OUTLIER = 3.0
# ... or the body's bound by this factor, even if such values are common in the clip.
_IMPOSSIBLE = 2.0
# Difference in every coordinate below which a frame repeats the one before (float32 rounding).
_SAME = 1e-6


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


def find_faults(clip: Clip, body: BodyModel, series: Series, bound: Limits) -> tuple[Fault, ...]:
    """The faults of a clip."""
    return (
        *_ground_faults(series, bound),
        *_root_faults(clip, bound),
        *_repeats(clip),
        # The worst joints first, since there may be many.
        *sorted(_joint_faults(clip, body, bound), key=lambda fault: (fault.kind, -fault.worst)),
        *sorted(_overloads(series, body), key=lambda fault: -fault.worst)[:_NAMED],
    )


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
    usual = {k: common(v) for k, v in changes(joints[_sample(len(clip))]).items()}
    for i, (name, (low, high)) in enumerate(zip(body.joint_names, body.joint_range, strict=True)):
        angle = joints[:, i].astype(float)
        excess = np.maximum(low - angle, angle - high)
        yield from _fault("joint limit", name, excess > bound.limit, excess, "rad")
        for kind, value in changes(angle).items():
            yield from _spikes(f"joint {kind}", name, value, usual[kind], bound)


def _root_faults(clip: Clip, bound: Limits) -> Iterator[Fault]:
    """Spikes of the root."""
    for kind, vectors in changes(clip.qpos[:, :3].astype(float), signed=True).items():
        value = np.linalg.norm(vectors, axis=1)
        yield from _spikes(f"root {kind}", "", value, common(value), bound)
    pose = Rotation.from_quat(clip.qpos[:, 3:7].astype(float), scalar_first=True)
    turn = (pose[:-1].inv() * pose[1:]).as_rotvec() * RATE
    speed, change = np.zeros(len(clip)), np.zeros(len(clip))
    speed[1:] = np.linalg.norm(turn, axis=1)
    change[1:-1] = np.linalg.norm(np.diff(turn, axis=0), axis=1) * RATE
    for kind, value in (("speed", speed), ("acceleration", change)):
        yield from _spikes(f"turn {kind}", "", value, common(value), bound)


def _sample(total: int) -> slice:
    """Contiguous frames that represent the distribution of a long clip."""
    most = 50_000
    return slice(max(0, (total - most) // 2), (total + most) // 2 + 1)


def _spikes(
    kind: str, where: str, value: np.ndarray, usual: float, bound: Limits
) -> Iterator[Fault]:
    most = getattr(bound, kind.replace(" ", "_"))
    outlier = max(most, min(_OUTLIER * usual, _IMPOSSIBLE * most))
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
