"""Ground contact of a body in clips: tolerances, soles, stance and friction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from vnl_envs.bodies.body import GROUND_CONTYPE
from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.clip import RATE
from vnl_envs.motion.kinematics import Reference

# Factor between speeds of feet that slide together: a body that slides and turns has both.
_HARDLY_FASTER = 1.5
# Fraction of the standing height below which a body lies, crawls or gets up, and its feet drag.
_UP = 0.5
# A pyramid of eight edges holds 90 % of the friction cone's cross-section.
_CONE_EDGES = 8


@dataclass(frozen=True)
class Limits:
    """Tolerances of one body.

    Attributes:
        near: height up to which a point carries weight, m.
        depth: greatest depth of a contact geom in the ground, m.
        stance_speed: speed below which a point near the ground stands, m/s.
        limit: amount by which a joint may exceed its range, rad.
        root_speed, root_acceleration: bounds for the root's origin, m/s and m/s².
        turn_speed, turn_acceleration: bounds for the root's rotation, rad/s and rad/s².
        joint_speed, joint_acceleration: bounds for any joint, rad/s and rad/s².
        free: vertical force from which on an unsupported body is not in free fall, body weights.
        residual: bound for force and moment that no contact can provide, body weights.
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
        near=0.015,
        depth=0.005,
        stance_speed=0.33,
        root_speed=12.0,
        root_acceleration=150.0,
        turn_speed=20.0,
        turn_acceleration=1000.0,
        joint_speed=30.0,
        joint_acceleration=2500.0,
    ),
    0.063: Limits(
        near=0.006,
        depth=0.002,
        stance_speed=0.08,
        root_speed=3.0,
        root_acceleration=100.0,
        turn_speed=40.0,
        turn_acceleration=4000.0,
        joint_speed=60.0,
        joint_acceleration=5000.0,
    ),
}
"""Limits of the humanoid and the rat, by the height of the standing root, m; `docs/motion_check.md`
has the reasons."""


def limits(body: BodyModel) -> Limits:
    """Tolerances of a body: those of the humanoid or the rat, whichever is nearer in size, scaled.

    Bodies of other sizes move alike at lengths in proportion to L and speeds to the root of L
    (dynamic similarity, Alexander & Jayes 1983), so angular speeds go with 1 / sqrt(L).
    """
    length = standing_length(body)
    base = min(LIMITS, key=lambda other: abs(np.log(length / other)))
    scale = length / base
    # The bodies of the table itself are not scaled.
    scale = 1.0 if abs(scale - 1) < 0.05 else scale
    return dataclasses.replace(
        LIMITS[base],
        **{
            name: getattr(LIMITS[base], name) * scale**power
            for name, power in {
                "near": 1.0,
                "depth": 1.0,
                "stance_speed": 0.5,
                "root_speed": 0.5,
                "turn_speed": -0.5,
                "turn_acceleration": -1.0,
                "joint_speed": -0.5,
                "joint_acceleration": -1.0,
            }.items()
        },
    )


def standing_length(body: BodyModel) -> float:
    """Height of the standing root above the ground, m, the unit of length of a body."""
    return float(body.standing_qpos[2])


@dataclass(frozen=True, eq=False)
class Soles:
    """P points with which contact geoms can touch the ground, over F frames.

    They are under the ends of capsules and the centres of spheres.

    Attributes:
        group: (P,) index in `names` of each point, -1 for none.
        names: names of the feet and hands, as for the body's touch sensors.
        points: (F, P, 3) positions, m.
        slip: (F, P, 2) horizontal displacement of the body's material at each point to the next
            frame, m; rolling gives 0. It is 0 in a clip's last frame.
    """

    group: np.ndarray
    names: tuple[str, ...]
    points: np.ndarray
    slip: np.ndarray

    @property
    def height(self) -> np.ndarray:
        """(F, P) heights above the ground, m."""
        return self.points[..., 2]

    def foot(self, name: str) -> np.ndarray:
        """Columns of the points of a foot or hand."""
        return np.flatnonzero(self.group == self.names.index(name))


def point_geoms(body: BodyModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Geom row, signed distance from its centre along its axis, m, and radius, m, of each point."""
    rows, half, radius = body.capsules(*body.body.contact_geoms)
    ends = [[h, -h] if h > 0 else [0.0] for h in half]
    which = np.repeat(np.arange(len(rows)), [len(e) for e in ends])
    return rows[which], np.concatenate(ends), radius[which]


def soles(reference: Reference, body: BodyModel) -> Soles:
    """The contact points of clips; see `Soles`."""
    model = body.model
    rows, along, radius = point_geoms(body)
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
    """See `Soles.slip`. The material at a point is followed to the next frame.

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
    """Stance and sliding of K feet and hands in F frames.

    Attributes:
        names: names of the feet and hands.
        height: (F, K) height of the lowest point above the ground, m.
        slip: (F, K) horizontal displacement to the next frame of the slowest point that is near
            the ground in both frames, m, infinite if there is none. So a foot that rolls or turns
            on one of its points does not slide.
        stands: (F, K) whether a foot stands from a frame to the next. It must be near the ground
            under a body that is up (root above half its standing height), and either be below the
            stance speed or hardly faster than the slowest foot near the ground. So a body that
            moves like a statue slides. A swinging foot close to the ground, and the legs of a
            lying body, do not slide.
    """

    names: tuple[str, ...]
    height: np.ndarray
    slip: np.ndarray
    stands: np.ndarray

    @property
    def slide(self) -> np.ndarray:
        """(F, K) displacement over the ground while standing, m."""
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


def near_ground(points: Soles, reference: Reference, body: BodyModel) -> np.ndarray:
    """Points that are near the ground in a frame or next to it, (F, P)."""
    near = points.height < limits(body).near
    out = near.copy()
    for first, length in zip(reference.first, reference.length, strict=True):
        clip = slice(first, first + length)
        out[clip][1:] |= near[clip][:-1]
        out[clip][:-1] |= near[clip][1:]
    return out


def friction_cone(body: BodyModel) -> np.ndarray:
    """Edges of the friction cone of each contact point, (P, edges, 3), vertical part 1."""
    model = body.model
    ground = np.flatnonzero(model.geom_contype & GROUND_CONTYPE)
    ground = ground[(ground < body.geoms.start) | (ground >= body.geoms.stop)]
    ids = point_geoms(body)[0] + body.geoms.start
    # MuJoCo gives a contact the larger friction of its two geoms.
    friction = np.maximum(model.geom_friction[ids, 0], model.geom_friction[ground, 0].max())
    angle = np.arange(_CONE_EDGES) * 2 * np.pi / _CONE_EDGES
    edges = np.stack([np.cos(angle), np.sin(angle), np.ones_like(angle)], axis=1)
    scale = np.stack([friction, friction, np.ones_like(friction)], axis=1)
    return edges * scale[:, None]
