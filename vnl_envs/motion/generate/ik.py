"""Inverse kinematics of the rat: Gauss-Newton within joint limits; tasks for paws and tail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np

from vnl_envs.bodies import BodyModel

TAIL_HEIGHT = 0.008
"""Height of the level part of the tail, m. Chosen by eye."""


@dataclass(frozen=True)
class Task:
    """Weighted residuals of a pose: `residual(data) -> (r (m,), jacobian (m, nv))`."""

    residual: Callable[[mujoco.MjData], tuple[np.ndarray, np.ndarray]]


class Solver:
    """Gauss-Newton inverse kinematics of some joints within their limits.

    Args:
        body: body with the joints.
        joints: names of the joints that move.
        neutral: (nq,) pose that is preferred if the tasks leave a choice.
        stiffness: weight of that preference, 1/rad.
    """

    MARGIN = 0.005
    """Distance kept from every limit, rad."""
    CONVERGED = 1e-9
    """Size of the last step, rad: so small that a clip does not depend on rounding."""

    def __init__(
        self, body: BodyModel, joints: list[str], neutral: np.ndarray, stiffness: float
    ) -> None:
        self.model, self.data = body.model, mujoco.MjData(body.model)
        self.index = np.array([body.joint_names.index(name) for name in joints])
        low, high = body.joint_range[self.index].T
        margin = np.minimum(self.MARGIN, (high - low) / 10)
        self.low, self.high = low + margin, high - margin
        self.neutral = neutral[7 + self.index]
        self.stiffness = stiffness

    def forward(self, qpos: np.ndarray) -> mujoco.MjData:
        """Kinematics of a pose."""
        self.data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        return self.data

    def solve(self, qpos: np.ndarray, tasks: list[Task], iterations: int = 60) -> np.ndarray:
        """The pose (nq,) that fulfils tasks best, starting from `qpos`. Levenberg-Marquardt."""
        joints = np.clip(qpos[7 + self.index], self.low, self.high)
        r, jacobian = self._residuals(qpos, joints, tasks)
        damping = 1.0
        for _ in range(iterations):
            gradient = jacobian.T @ r
            # Joints at a limit that want to go beyond it stay there.
            free = ~(
                ((joints <= self.low) & (gradient > 0)) | ((joints >= self.high) & (gradient < 0))
            )
            active = jacobian[:, free]
            step = np.zeros(len(joints))
            hessian = active.T @ active + damping * np.eye(active.shape[1])
            step[free] = -np.linalg.solve(hessian, gradient[free])
            trial = np.clip(joints + step, self.low, self.high)
            new_r, new_jacobian = self._residuals(qpos, trial, tasks)
            if new_r @ new_r <= r @ r:
                moved = np.abs(trial - joints).max()
                joints, r, jacobian = trial, new_r, new_jacobian
                damping = max(damping / 5, 1e-3)
                if moved < self.CONVERGED:
                    break
            else:
                damping *= 5
        return self._pose(qpos, joints)

    def _residuals(
        self, qpos: np.ndarray, joints: np.ndarray, tasks: list[Task]
    ) -> tuple[np.ndarray, np.ndarray]:
        data = self.forward(self._pose(qpos, joints))
        parts = [task.residual(data) for task in tasks]
        posture = self.stiffness * (joints - self.neutral)
        r = np.concatenate([*(part[0] for part in parts), posture])
        jacobian = np.concatenate([part[1] for part in parts])[:, 6 + self.index]
        return r, np.concatenate([jacobian, self.stiffness * np.eye(len(joints))])

    def _pose(self, qpos: np.ndarray, joints: np.ndarray) -> np.ndarray:
        pose = qpos.copy()
        pose[7 + self.index] = joints
        return pose


class Paw:
    """The parts of a paw that touch the ground.

    Args:
        body: the rat.
        leg: one of `LEGS`.
    """

    SMOOTH = 0.02
    SCALE = np.array([1e3, 3e3])
    """Weights of errors in the plane and in height, 1/m."""

    def __init__(self, body: BodyModel, leg: str) -> None:
        limb, side = leg.split("_")
        toe, sole = ("toe", "foot") if limb == "hind" else ("finger", "hand")
        names = [f"{toe}_{side}{i}_collision" for i in range(3)] + [f"{sole}_{side}_collision"]
        self.model = body.model
        rows, self.half, self.radius = body.capsules(*names)
        self.ids = rows + body.geoms.start
        self.body_ids = body.model.geom_bodyid[self.ids]

    def points(self, data: mujoco.MjData) -> np.ndarray:
        """Centres of the three toes in the plane, (3, 2)."""
        return data.geom_xpos[self.ids[:3], :2].copy()

    def lowest(self, data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
        """Points (4, 3) on the axes of the capsules (3 toes, sole) and the heights (4,) below, m.

        The point moves smoothly from end to end as a capsule tilts, so that the height is
        differentiable; it is at most `SMOOTH` times the half-length too low.
        """
        axis = data.geom_xmat[self.ids].reshape(-1, 3, 3)[:, :, 2]
        slope = np.sqrt(axis[:, 2] ** 2 + self.SMOOTH**2)
        end = data.geom_xpos[self.ids] - (axis[:, 2] / slope * self.half)[:, None] * axis
        return end, data.geom_xpos[self.ids, 2] - slope * self.half - self.radius

    def heights(self, data: mujoco.MjData) -> np.ndarray:
        """Height of the lowest point of each capsule, (4,), m."""
        axis_z = data.geom_xmat[self.ids].reshape(-1, 3, 3)[:, 2, 2]
        return data.geom_xpos[self.ids, 2] - np.abs(axis_z) * self.half - self.radius

    def task(self, target: np.ndarray, height: float, weight: float = 1.0) -> Task:
        """Toes at points (3, 2) of the plane and at a height; the sole not below it."""

        def residual(data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
            r, rows, jac = [], [], np.zeros((3, self.model.nv))
            for i in (0, 2):
                centre = data.geom_xpos[self.ids[i]]
                mujoco.mj_jac(self.model, data, jac, None, centre, self.body_ids[i])
                r.append(centre[:2] - target[i])
                rows.append(jac[:2].copy())
            error, slope = self._above(data, height)
            active = (np.arange(4) < 3) | (error < 0)
            plane, up = weight * self.SCALE
            r = [plane * np.concatenate(r), up * active * error]
            rows = [plane * np.concatenate(rows), up * active[:, None] * slope]
            return np.concatenate(r), np.concatenate(rows)

        return Task(residual)

    def clear(self, height: float) -> Task:
        """Toes and sole not below a height."""

        def residual(data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
            error, slope = self._above(data, height)
            below = self.SCALE[1] * (error < 0)
            return below * error, below[:, None] * slope

        return Task(residual)

    def _above(self, data: mujoco.MjData, height: float) -> tuple[np.ndarray, np.ndarray]:
        """Heights of the capsules over `height`, (4,), and their Jacobian (4, nv)."""
        points, z = self.lowest(data)
        jac, rows = np.zeros((3, self.model.nv)), np.zeros((4, self.model.nv))
        for i in range(4):
            mujoco.mj_jac(self.model, data, jac, None, points[i], self.body_ids[i])
            rows[i] = jac[2]
        return z - height, rows


def orientation_task(body: BodyModel, name: str, target: np.ndarray, weight: float) -> Task:
    """A body's orientation at a rotation matrix (3, 3); weight in 1/rad."""
    owner = body.model.body(body.body.prefix + name).id

    def residual(data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
        matrix = data.xmat[owner].reshape(3, 3)
        error = np.asarray(sum(np.cross(target[:, i], matrix[:, i]) for i in range(3))) / 2
        jac = np.zeros((3, body.model.nv))
        mujoco.mj_jacBody(body.model, data, None, jac, owner)
        return weight * error, weight * jac

    return Task(residual)


def height_task(body: BodyModel, name: str, height: float, weight: float) -> Task:
    """A body's origin at a height, m; weight in 1/m."""
    owner = body.model.body(body.body.prefix + name).id

    def residual(data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
        jac = np.zeros((3, body.model.nv))
        mujoco.mj_jacBody(body.model, data, jac, None, owner)
        return np.array([weight * (data.xpos[owner, 2] - height)]), weight * jac[2:]

    return Task(residual)


class Tail:
    """The tail above the ground: steeply down from its root, then level."""

    STIFFNESS = 0.3
    LEVEL = 6.0
    """Number of vertebrae over which the height falls by a factor of e."""

    def __init__(self, body: BodyModel, standing: np.ndarray) -> None:
        self.joints = [
            n for n in body.joint_names if n.startswith("vertebra_C") and n.endswith("extend")
        ]
        straight = standing.copy()
        straight[[7 + body.joint_names.index(n) for n in self.joints]] = 0.0
        self.solver = Solver(body, self.joints, straight, self.STIFFNESS)
        root = self.solver.forward(straight).body(f"{body.body.prefix}vertebra_C1").xpos[2]
        self.tasks = [
            height_task(
                body, f"vertebra_C{i}", TAIL_HEIGHT + root * np.exp(-i / self.LEVEL), weight=100.0
            )
            for i in range(4, 31, 2)
        ]

    def place(self, pose: np.ndarray) -> np.ndarray:
        """The pose (nq,) with the tail's vertical bending set."""
        return self.solver.solve(pose, self.tasks)


def neck_joints(body: BodyModel) -> list[str]:
    """Joints between trunk and head."""
    stems = ("vertebra_cervical", "vertebra_axis", "vertebra_atlant", "atlas")
    return [name for name in body.joint_names if name.startswith(stems)]


def leg_joints(leg: str) -> list[str]:
    """Names of a limb's joints."""
    limb, side = leg.split("_")
    stems: tuple[str, ...]
    if limb == "hind":
        stems = (
            "hip_{}_supinate",
            "hip_{}_abduct",
            "hip_{}_extend",
            "knee_{}",
            "ankle_{}",
            "toe_{}",
        )
    else:
        stems = (
            "scapula_{}_supinate",
            "scapula_{}_abduct",
            "scapula_{}_extend",
            "shoulder_{}",
            "shoulder_sup_{}",
            "elbow_{}",
            "wrist_{}",
            "finger_{}",
        )
    return [stem.format(side) for stem in stems]
