"""Arms of the humanoid that follow the directions of other arms, within its joint limits."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve
from scipy.spatial.transform import Rotation

from vnl_envs.bodies import HUMANOID
from vnl_envs.motion.fitting.humanoid_ik import LIMIT_MARGIN, Humanoid

JOINTS = ("claviclerz", "claviclery", "humerusrz", "humerusry", "humerusrx", "radiusrx", "wristry")
"""Joints of an arm, without the side, from the shoulder outwards."""
BODIES = ("clavicle", "humerus", "radius", "wrist")

# Relative weights of directions: of upper arm and forearm, and of the palm.
POINT, PALM = 1.0, 0.1
# Weights of angles' second differences, of limits, and of changes from the copied pose. Shoulder
# blades move only if the arm cannot.
BEND, LIMIT = 3.0, 100.0
STAY = np.array([0.1, 0.1, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3])
ITERATIONS, LARGEST_STEP, SMALLEST_STEP, NUDGE = 40, 0.3, 1e-4, 1e-5


def arm_angles(
    human: Humanoid, side: str, turn: dict[str, Rotation], angles: np.ndarray
) -> np.ndarray:
    """Angles (T, 7) of `JOINTS` with which an arm points like a copied one.

    Copied angles beyond limits cannot be clipped separately, because two angles of a shoulder must
    compensate for the third. Often there are two solutions; smoothness over all frames decides
    between them. The method is Gauss-Newton with penalties for limits.

    Args:
        human: the body.
        side: "r" or "l".
        turn: body -> T rotations in the copied poses.
        angles: (T, 7) angles of the copied poses, rad.
    """
    arm = _Arm(human, side)
    base = turn["thorax"].inv()
    goal = arm.directions([base * turn[side + name] for name in BODIES])
    at = [human.joint(side + name) - 7 for name in JOINTS]
    low, high = human.lower[at] + 2 * LIMIT_MARGIN, human.upper[at] - 2 * LIMIT_MARGIN
    kept = np.clip(angles, low, high)
    out = kept.copy()
    bend = _second_differences(len(out), len(JOINTS))
    fixed = BEND * bend.T @ bend + sparse.diags(np.tile(STAY, len(out)))
    for _ in range(ITERATIONS):
        error, jacobian = arm.linearised(out, goal)
        over = out - np.clip(out, low, high)
        pull = (LIMIT * over + STAY * (out - kept)).ravel() + BEND * bend.T @ (bend @ out.ravel())
        gradient = jacobian.T @ error.ravel() + pull
        normal = jacobian.T @ jacobian + fixed + LIMIT * sparse.diags((over != 0).ravel() * 1.0)
        step = spsolve(normal.tocsc(), -gradient).reshape(out.shape)
        size = float(np.abs(step).max())
        out = out + step * min(1.0, LARGEST_STEP / max(size, SMALLEST_STEP))
        if size < SMALLEST_STEP:
            break
    return np.clip(out, low, high)


class _Arm:
    """Kinematics of an arm in the thorax's frame."""

    def __init__(self, human: Humanoid, side: str) -> None:
        model = human.model
        ids = [model.body(f"{HUMANOID.prefix}{side}{name}").id for name in BODIES]
        self.rest = [Rotation.from_quat(model.body_quat[i], scalar_first=True) for i in ids]
        hand = model.body(f"{HUMANOID.prefix}{side}hand").id
        # Along the bones, and across the wrist.
        self.upper = _unit(model.body_pos[ids[2]])
        self.fore = _unit(model.body_pos[ids[3]] + self.rest[3].apply(model.body_pos[hand]))
        self.palm = np.array([0.0, 0.0, 1.0])

    def turns(self, angles: np.ndarray) -> list[Rotation]:
        """Rotations of `BODIES` for angles (T, 7)."""
        joints = (("ZY", slice(0, 2)), ("ZYX", slice(2, 5)), ("X", slice(5, 6)), ("Y", slice(6, 7)))
        out = [Rotation.identity(len(angles))]
        for rest, (axes, columns) in zip(self.rest, joints, strict=True):
            out.append(out[-1] * rest * Rotation.from_euler(axes, angles[:, columns]))
        return out[1:]

    def directions(self, turns: list[Rotation]) -> np.ndarray:
        """Directions of upper arm, forearm and palm, (T, 9), times the roots of their weights."""
        _, humerus, radius, wrist = turns
        parts = [POINT * humerus.apply(self.upper), POINT * radius.apply(self.fore)]
        return np.hstack([*parts, np.sqrt(PALM) * wrist.apply(self.palm)])

    def linearised(
        self, angles: np.ndarray, goal: np.ndarray
    ) -> tuple[np.ndarray, sparse.csr_matrix]:
        """Errors (T, 9) and their sparse derivatives by the angles."""
        here = self.directions(self.turns(angles))
        blocks = np.empty((len(angles), 9, len(JOINTS)))
        for i in range(len(JOINTS)):
            nudged = angles.copy()
            nudged[:, i] += NUDGE
            blocks[:, :, i] = (self.directions(self.turns(nudged)) - here) / NUDGE
        frames = np.arange(len(angles))
        jacobian = sparse.bsr_matrix((blocks, frames, np.arange(len(angles) + 1)))
        return here - goal, jacobian.tocsr()


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _second_differences(frames: int, width: int) -> sparse.csr_matrix:
    rows = sparse.diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(frames - 2, frames))
    return sparse.kron(rows, sparse.identity(width)).tocsr()
