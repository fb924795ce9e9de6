"""Measures of each frame of a clip."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.checking.dynamics import actuator_loads, residual, root_wrench
from vnl_envs.motion.checking.ground import near_ground, soles, stance
from vnl_envs.motion.clip import RATE, Clip
from vnl_envs.motion.kinematics import Reference, derive_reference

# Number of frames whose kinematics are in memory at a time, and margin on each side.
_CHUNK, _MARGIN = 4096, 4
# Greatest number of evenly spaced frames of a clip in which the actuators' loads are computed,
# which costs ten times as much as everything else.
_LOADED = 100
# Percentile below which values are common in a clip.
_COMMON = 95


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


def measure(clip: Clip, body: BodyModel, bar: tqdm) -> Series:
    """Measures of each frame, a few thousand frames at a time."""
    parts = []
    loaded = np.arange(0, len(clip), -(-len(clip) // _LOADED))
    for start in range(0, len(clip), _CHUNK):
        stop = min(start + _CHUNK, len(clip))
        first = max(0, start - _MARGIN)
        window = slice(first, min(stop + _MARGIN, len(clip)))
        reference = derive_reference([dataclasses.replace(clip, qpos=clip.qpos[window])], body)
        inside = slice(start - first, stop - first)
        part = {k: v[inside] for k, v in _frames(reference, body).items()}
        nearby = loaded[(loaded >= start) & (loaded < stop)]
        deficit = actuator_loads(reference, body, nearby - first).deficit
        parts.append({**part, "loaded": nearby, "deficit": deficit.astype(np.float32)})
        bar.update(stop - start)
    whole = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
    return Series(names=tuple(body.body.touch), **whole)


def _frames(reference: Reference, body: BodyModel) -> dict[str, np.ndarray]:
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
        "joint_speed": changes(reference.qpos[:, 7:])["speed"].max(axis=1),
        "acceleration": np.linalg.norm(changes(reference.com, signed=True)["acceleration"], axis=1),
    }
    flags = {"stands": standing.stands, "supported": near.any(axis=1)}
    return {k: v.astype(np.float32) for k, v in real.items()} | flags


def changes(values: np.ndarray, signed: bool = False) -> dict[str, np.ndarray]:
    """Speed since the frame before and acceleration across it, (T, ...) -> (T, ...) each.

    Differences of neighbours, not central ones: these would halve a jump.
    """
    speed, acceleration = np.zeros_like(values), np.zeros_like(values)
    speed[1:] = np.diff(values, axis=0) * RATE
    acceleration[1:-1] = np.diff(values, 2, axis=0) * RATE**2
    out = {"speed": speed, "acceleration": acceleration}
    return out if signed else {k: np.abs(v) for k, v in out.items()}


def common(values: np.ndarray) -> float:
    """The percentile `_COMMON` of a clip's values."""
    return float(np.percentile(values, _COMMON))
