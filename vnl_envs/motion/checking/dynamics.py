"""What clips ask of a body's mechanics: forces from the ground, and from the actuators."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.optimize import nnls

from vnl_envs.bodies.body import BodyModel
from vnl_envs.motion.checking.ground import (
    friction_cone,
    near_ground,
    point_geoms,
    soles,
    standing_length,
)
from vnl_envs.motion.clip import RATE
from vnl_envs.motion.kinematics import Reference

# Frames on each side of a clip whose accelerations lean on one-sided differences.
_EDGE = 2


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


def inverse_dynamics(reference: Reference, body: BodyModel) -> np.ndarray:
    """Generalised forces that move the body as the clips do, without contacts, (F, nv).

    Accelerations are those of `accelerations`.
    """
    model = copy.copy(body.model)
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    data = mujoco.MjData(model)
    out = np.empty_like(reference.qvel)
    qacc = accelerations(reference)
    for i, (qpos, qvel) in enumerate(zip(reference.qpos, reference.qvel, strict=True)):
        data.qpos[body.qpos], data.qvel[body.qvel] = qpos, qvel
        data.qacc[body.qvel] = qacc[i]
        mujoco.mj_inverse(model, data)
        out[i] = data.qfrc_inverse[body.qvel]
    return out


def root_wrench(reference: Reference, body: BodyModel) -> np.ndarray:
    """What must push at the body from outside for it to move as the clips do, (F, 6).

    Inverse dynamics without contacts (`mj_inverse`), world axes. The first three are the force in
    body weights; the last three the moment about the centre of mass in body weights times the
    standing root's height (`standing_length`). Rest is (0, 0, 1, 0, 0, 0); free fall is 0.
    Accelerations are central differences of the velocities; a clip's first and last two frames
    take those of their neighbours.
    """
    return _at_centre(inverse_dynamics(reference, body)[:, :6], reference, body)


def _at_centre(wrench: np.ndarray, reference: Reference, body: BodyModel) -> np.ndarray:
    """Forces on the free joint (F, 6) in the units of `root_wrench`."""
    # A free joint's moment is about the root's origin, in the root's axes.
    root = reference.xmat[:, 0].reshape(-1, 3, 3)
    arm = reference.com - reference.xpos[:, 0]
    force = wrench[:, :3]
    moment = np.einsum("fij,fj->fi", root, wrench[:, 3:]) - np.cross(arm, force)
    return np.hstack([force, moment / standing_length(body)]) / _weight(body)


def _weight(body: BodyModel) -> float:
    """Of the body, N."""
    return float(body.mass.sum() * -body.model.opt.gravity[2])


def unsupported_wrench(reference: Reference, body: BodyModel) -> np.ndarray:
    """The part of `root_wrench` that no contact with the ground can give, (F,).

    Size of what is left of the six numbers after the best combination of forces in the friction
    cones of the points near the ground (non-negative least squares). Points count that are near
    in the frame or next to it, since accelerations come from five frames.
    """
    points = soles(reference, body)
    near = near_ground(points, reference, body)
    wrench = root_wrench(reference, body)
    return residual(wrench, points.points, near, reference.com, body)


def residual(
    wrench: np.ndarray, points: np.ndarray, near: np.ndarray, com: np.ndarray, body: BodyModel
) -> np.ndarray:
    """See `unsupported_wrench`; points (F, P, 3) of which some are near (F, P)."""
    edges = friction_cone(body)
    arms = (points - com[:, None]) / standing_length(body)
    out = np.linalg.norm(wrench, axis=1)
    for i in np.flatnonzero(near.any(axis=1)):
        out[i] = nnls(_generators(edges[near[i]], arms[i, near[i]]).T, wrench[i])[1]
    return out


def _generators(edges: np.ndarray, arms: np.ndarray) -> np.ndarray:
    """Wrenches of unit forces along the edges (P, E, 3) of points with arms (P, 3), (P E, 6)."""
    return np.concatenate([edges, np.cross(arms[:, None], edges)], axis=-1).reshape(-1, 6)


# Weight of the root's wrench against the actuators' loads: first of all the ground carries.
_ROOT_FIRST = 100.0


@dataclass(frozen=True, eq=False)
class Loads:
    """What the actuators must give for a body to move as its clips do, in F frames.

    Attributes:
        force: (F, nu) of each actuator, N m (N for those that pull along a line).
        low, high: (nu,) the least and the most that it gives, see `force_range`.
    """

    force: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def deficit(self) -> np.ndarray:
        """(F, nu) how far the force is beyond what the actuator gives."""
        return np.maximum(np.maximum(self.force - self.high, self.low - self.force), 0.0)


def force_range(body: BodyModel) -> tuple[np.ndarray, np.ndarray]:
    """The least and the most force of each actuator, (nu,) each.

    That is the range to which the engine limits it; else, of a motor what its controls give, and of
    a servo what it gives from one end of their range towards the other.
    """
    model, rows = body.model, body.ctrl
    gain = model.actuator_gainprm[rows, :1]
    reach = gain * model.actuator_ctrlrange[rows]
    if body.servos:
        reach = np.ptp(reach, axis=1, keepdims=True) * [-1.0, 1.0]
    limited = model.actuator_forcelimited[rows].astype(bool)[:, None]
    low, high = np.where(limited, model.actuator_forcerange[rows], reach).T
    return low, high


def actuator_loads(
    reference: Reference, body: BodyModel, frames: np.ndarray | None = None
) -> Loads:
    """Forces of the actuators in some frames, by default in all.

    They are those of inverse dynamics, less what the ground carries. Of all contact forces in the
    friction cones of the points near the ground that give the root its wrench, as far as contacts
    can, it is those with the least loads: non-negative least squares, where a load counts in halves
    of its actuator's range. Joints without an actuator are left out; where actuators share joints,
    theirs is the best fit to the joints' torques.
    """
    points = soles(reference, body)
    near = near_ground(points, reference, body)
    edges, weight = friction_cone(body), _weight(body)
    needed = inverse_dynamics(reference, body)
    frames = np.arange(len(needed)) if frames is None else frames
    wrench = _at_centre(needed[:, :6], reference, body)
    arms = (points.points - reference.com[:, None]) / standing_length(body)
    low, high = force_range(body)
    middle, half = (high + low) / 2, (high - low) / 2
    levers = _Levers(body)
    force = np.empty((len(frames), body.nu))
    for row, i in enumerate(frames):
        levers.pose(reference.qpos[i])
        force[row] = levers.inverse @ needed[i, 6:]
        touching = np.flatnonzero(near[i])
        if len(touching):
            pushes = edges[touching]
            jacobians = levers.jacobians(points.points[i, touching], touching)
            torques = weight * np.einsum("pkv,pek->vpe", jacobians, pushes)
            carried = levers.inverse @ torques.reshape(len(torques), -1)
            rows = [_ROOT_FIRST * _generators(pushes, arms[i, touching]).T, carried / half[:, None]]
            sides = [_ROOT_FIRST * wrench[i], (force[row] - middle) / half]
            force[row] -= carried @ nnls(np.concatenate(rows), np.concatenate(sides))[0]
    return Loads(force, low, high)


class _Levers:
    """What actuators and contacts move in a pose.

    Attributes:
        inverse: (nu, nv - 6) from the joints' torques to the actuators' forces, least squares.
    """

    def __init__(self, body: BodyModel) -> None:
        self.body, self.model = body, body.model
        self.data = mujoco.MjData(body.model)
        self.inverse = self._moment = np.empty((0, 0))
        self._owners = body.model.geom_bodyid[point_geoms(body)[0] + body.geoms.start]

    def pose(self, qpos: np.ndarray) -> None:
        """Put the body into a pose (nq,)."""
        data, body = self.data, self.body
        data.qpos[body.qpos] = qpos
        mujoco.mj_fwdPosition(self.model, data)
        moment = np.zeros((self.model.nu, self.model.nv))
        mujoco.mju_sparse2dense(
            moment, data.actuator_moment, data.moment_rownnz, data.moment_rowadr, data.moment_colind
        )
        moment = moment[body.ctrl, body.qvel][:, 6:]
        # Those of joints, and of tendons that add joints up, are the same in all poses.
        if not np.array_equal(moment, self._moment):
            self._moment, self.inverse = moment, np.linalg.pinv(moment.T)

    def jacobians(self, points: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Of contact points (P, 3), which are those of `Soles` in these columns, with respect to
        the joints, (P, 3, nv - 6).
        """
        out = np.zeros((len(points), 3, self.model.nv))
        for jacobian, point, owner in zip(out, points, self._owners[columns], strict=True):
            mujoco.mj_jac(self.model, self.data, jacobian, None, point, owner)
        return out[:, :, self.body.qvel][:, :, 6:]
