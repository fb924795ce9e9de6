"""Measures of a clip against physics: is it any good?"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import mujoco
import numpy as np

from vnl_envs.bodies.body import BodyModel
from vnl_envs.motion.clip import RATE
from vnl_envs.motion.kinematics import Reference

# Frames on each side of a clip whose accelerations lean on one-sided differences.
_EDGE = 2
# Feet of a statue that is pushed along and turned move at different speeds.
_HARDLY_FASTER = 1.5


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


def standing_length(body: BodyModel) -> float:
    """Height of the standing root above the ground, m: the unit of lengths of a body."""
    return float(body.standing_qpos[2])


@dataclass(frozen=True)
class Limits:
    """Tolerances of one body.

    Attributes:
        near: how close to the ground a point carries weight, m.
        stance_speed: below which a point near the ground stands, m/s.
    """

    near: float
    stance_speed: float


def limits(body: BodyModel) -> Limits:
    """Tolerances of a body, by its size."""
    length = standing_length(body)
    speed = float(np.sqrt(9.81 * length))
    return Limits(near=0.01 * length if length > 0.5 else 0.03 * length, stance_speed=0.1 * speed)


def accelerations(reference: Reference) -> np.ndarray:
    """Central differences of the velocities within each clip, (F, nv)."""
    out = np.zeros_like(reference.qvel)
    for first, length in zip(reference.first, reference.length, strict=True):
        if length > 2 * _EDGE:
            inner = np.gradient(reference.qvel[first : first + length], 1 / RATE, axis=0)
            inner[:_EDGE], inner[-_EDGE:] = inner[_EDGE], inner[-_EDGE - 1]
            out[first : first + length] = inner
    return out


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


def soles(reference: Reference, body: BodyModel) -> Soles:
    """The contact points of clips; see `Soles`."""
    rows, half, radius = body.capsules(*body.body.contact_geoms)
    ids = rows + body.geoms.start
    sides = [np.array([1.0]) if h == 0 else np.array([-1.0, 1.0]) for h in half]
    geom = np.repeat(np.arange(len(rows)), [len(s) for s in sides])
    offset = np.concatenate(sides) * half[geom] * (half[geom] > 0)
    axis = np.empty((len(geom), 9))
    for i, quat in enumerate(body.model.geom_quat[ids[geom]]):
        mujoco.mju_quat2Mat(axis[i], quat)
    local = body.model.geom_pos[ids[geom]] + offset[:, None] * axis[:, 2::3]
    owner = body.model.geom_bodyid[ids[geom]] - body.bodies.start
    turn = reference.xmat[:, owner].reshape(-1, len(geom), 3, 3)
    points = reference.xpos[:, owner] + np.einsum("fpij,pj->fpi", turn, local)
    points[..., 2] -= radius[geom]
    names = tuple(body.body.touch)
    group = [_group(body, body.body.contact_geoms[i]) for i in geom]
    slip = _slip(reference, owner, turn, points)
    return Soles(np.array(group), names, points, slip)


def _group(body: BodyModel, geom: str) -> int:
    """Which touch sensor feels with a geom, -1 for none."""
    return next((i for i, geoms in enumerate(body.body.touch.values()) if geom in geoms), -1)


def _slip(
    reference: Reference, owner: np.ndarray, turn: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """See `Soles.slip`.

    The material under the point in one frame is followed to the next, and the material under the
    point in the next frame back to the first; their mean is free of rolling to third order.
    """
    place = reference.xpos[:, owner]
    arm = np.einsum("fpji,fpj->fpi", turn, points - place)
    forth = place[1:] + np.einsum("fpij,fpj->fpi", turn[1:], arm[:-1]) - points[:-1]
    back = points[1:] - place[:-1] - np.einsum("fpij,fpj->fpi", turn[:-1], arm[1:])
    out = np.zeros((*points.shape[:2], 2))
    out[:-1] = (forth + back)[..., :2] / 2
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
        stands: (F, K) whether it stands from a frame to the next: near the ground, and either
            below the stance speed or hardly faster than the slowest foot that is near. So a body
            that is pushed along like a statue slides, and a swinging foot that passes close to
            the ground does not.
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
    return Stance(points.names, height, slip, np.isfinite(slip) & slow)
