"""Forces that clips require from the ground and from the actuators."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.optimize import nnls

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.checking.ground import (
    friction_cone,
    near_ground,
    point_geoms,
    soles,
    standing_length,
)
from vnl_envs.motion.clip import RATE
from vnl_envs.motion.kinematics import Reference

# Frames at each end of a clip whose accelerations depend on one-sided differences.
_EDGE = 2


def accelerations(reference: Reference) -> np.ndarray:
    """Accelerations by central differences of the velocities within each clip, (F, nv).

    They are 0 in clips that are too short.
    """
    out = np.zeros_like(reference.qvel)
    for first, length in zip(reference.first, reference.length, strict=True):
        if length > 2 * _EDGE:
            inner = np.gradient(reference.qvel[first : first + length], 1 / RATE, axis=0)
            inner[:_EDGE], inner[-_EDGE:] = inner[_EDGE], inner[-_EDGE - 1]
            out[first : first + length] = inner
    return out


def inverse_dynamics(reference: Reference, body: BodyModel) -> np.ndarray:
    """Generalised forces that produce the clips' motion without contacts, (F, nv).

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
    """The external wrench on the body that the clips' motion requires, (F, 6), world axes.

    It follows from inverse dynamics without contacts (`mj_inverse`). The first three numbers are
    the force in body weights. The last three are the moment about the centre of mass, in body
    weights times the standing root's height (`standing_length`). Rest is (0, 0, 1, 0, 0, 0), and
    free fall is 0. Accelerations are central differences of the velocities. A clip's first and last
    two frames take those of their neighbours.
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
    """Weight of the body, N."""
    return float(body.mass.sum() * -body.model.opt.gravity[2])


def unsupported_wrench(reference: Reference, body: BodyModel) -> np.ndarray:
    """Norm of the part of `root_wrench` that no ground contact can provide, (F,).

    It is the residual after the best combination of forces in the friction cones of points near
    the ground (non-negative least squares). Points that are near in an adjacent frame count too, as
    accelerations depend on five frames.
    """
    points = soles(reference, body)
    near = near_ground(points, reference, body)
    wrench = root_wrench(reference, body)
    return residual(wrench, points.points, near, reference.com, body)


def residual(
    wrench: np.ndarray, points: np.ndarray, near: np.ndarray, com: np.ndarray, body: BodyModel
) -> np.ndarray:
    """See `unsupported_wrench`, for points (F, P, 3) that are `near` the ground (F, P) bool."""
    edges = friction_cone(body)
    arms = (points - com[:, None]) / standing_length(body)
    out = np.linalg.norm(wrench, axis=1)
    for i in np.flatnonzero(near.any(axis=1)):
        out[i] = nnls(_generators(edges[near[i]], arms[i, near[i]]).T, wrench[i])[1]
    return out


def _generators(edges: np.ndarray, arms: np.ndarray) -> np.ndarray:
    """Wrenches of unit forces along the edges (P, E, 3) of points with arms (P, 3), (P E, 6)."""
    return np.concatenate([edges, np.cross(arms[:, None], edges)], axis=-1).reshape(-1, 6)


# Weight of the root's wrench relative to the actuators' loads, so that the ground carries first.
_ROOT_FIRST = 100.0


@dataclass(frozen=True, eq=False)
class Loads:
    """Forces of the actuators that the motion requires, in F frames.

    Attributes:
        force: (F, nu) force of each actuator, N m (N for linear actuators).
        low, high: (nu,) least and greatest force of each actuator, see `force_range`.
    """

    force: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def deficit(self) -> np.ndarray:
        """(F, nu) amount by which the force exceeds the actuator's range."""
        return np.maximum(np.maximum(self.force - self.high, self.low - self.force), 0.0)


def force_range(body: BodyModel) -> tuple[np.ndarray, np.ndarray]:
    """The least and greatest force of each actuator, (nu,) each.

    This is the force range of the model. Without one, it follows from the control range: for a
    motor directly, for a servo from the distance between both ends of the range.
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

    They are the forces of inverse dynamics minus those of ground contacts. Among all contact forces
    in the friction cones of points near the ground that provide the root's wrench as far as
    possible, those with the least loads are chosen (non-negative least squares; loads are in units
    of half the actuator's range). Joints without an actuator are left out. For actuators that share
    joints, forces are the least-squares fit to the joints' torques.
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
    """Lever arms of actuators and contacts in a pose.

    Attributes:
        inverse: (nu, nv - 6) least-squares map from the joints' torques to the actuators' forces.
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
        # The moments of joints, and of tendons that are sums of joints, are the same in all poses.
        if not np.array_equal(moment, self._moment):
            self._moment, self.inverse = moment, np.linalg.pinv(moment.T)

    def jacobians(self, points: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Jacobians (P, 3, nv - 6) by the joints of contact points (P, 3), `columns` of `Soles`."""
        out = np.zeros((len(points), 3, self.model.nv))
        for jacobian, point, owner in zip(out, points, self._owners[columns], strict=True):
            mujoco.mj_jac(self.model, self.data, jacobian, None, point, owner)
        return out[:, :, self.body.qvel][:, :, 6:]
