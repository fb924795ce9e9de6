"""Kinematics and derivatives of many poses of a body at once, for fits to markers."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np
from mujoco.batch import Batch
from scipy.spatial.transform import Rotation

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.fitting.markers import Marker


class Kinematics:
    """Memory for the kinematics of up to `frames` poses. Its fields have the last results."""

    FIELDS = ("xpos", "xmat", "xaxis", "xanchor", "geom_xpos", "geom_xmat")

    def __init__(self, model: mujoco.MjModel, frames: int) -> None:
        self._batch = Batch(model, nsim=frames)
        self.qpos = self._batch.bind("qpos")
        # Bound fields are copied from the simulations when computed, so bind them first.
        self._fields = {name: self._batch.bind(name) for name in self.FIELDS}
        self._frames = 0

    def compute(self, frames: int) -> None:
        """Compute the kinematics of the first `frames` rows of `qpos`."""
        self._frames = frames
        self._batch.forward(ids=np.arange(frames), stage=mujoco.mjtStage.mjSTAGE_POS.value)

    def __getitem__(self, field: str) -> np.ndarray:
        return self._fields[field][: self._frames]


class Rig:
    """A body with markers and geoms above the ground: kinematics and derivatives of many poses.

    The unknowns of a pose are D numbers: shift of the root (m, world), turn of the root (rotation
    vector in its frame) and the joints.

    Args:
        body: the body.
        markers: markers of the body.
        geoms: names of spheres and capsules whose lowest points are used.
        idle: joints that are not unknowns, indices among the body's joints.

    Attributes:
        joints: (D - 6,) joints that move a marker or geom, indices among the body's joints.
        certain: (G,) whether each geom is moved only by joints that markers determine.
        low, high, neutral: (D - 6,) limits and standing angles of those joints, rad.
    """

    def __init__(
        self,
        body: BodyModel,
        markers: Sequence[Marker],
        geoms: Sequence[str],
        idle: Sequence[int] | np.ndarray = (),
    ) -> None:
        self.body = body
        model = body.model
        hinges = np.arange(body.qvel.start + 6, body.qvel.stop)
        if (model.jnt_type[model.dof_jntid[hinges]] != mujoco.mjtJoint.mjJNT_HINGE).any():
            raise ValueError(f"body {body.body.name!r} has joints that are not hinges")
        carriers = [body.body_names.index(m.body) for m in markers]
        self.carrier = np.array(carriers, int) + body.bodies.start
        rows, self.half, self.radius = body.capsules(*geoms)
        self.geoms = rows + body.geoms.start
        moved = np.concatenate([self.carrier, model.geom_bodyid[self.geoms]])
        moves = self._moves(moved, hinges)
        used = np.array(moves.any(axis=0))
        used[list(idle)] = False
        self.joints = np.flatnonzero(used)
        self.hinges = model.dof_jntid[hinges[used]]
        moves = np.concatenate([np.ones((len(moves), 6), bool), moves[:, used]], axis=1)
        self.moves_markers, self.moves_ends = moves[: len(markers)], moves[len(markers) :]
        held = moves[: len(markers)].any(axis=0)
        self.certain = ~np.array((moves[len(markers) :] & ~held).any(axis=1))
        self.low, self.high = body.joint_range[self.joints].T
        self.neutral = body.standing_qpos[7 + self.joints]
        self.unknowns = 6 + len(self.joints)

    def _moves(self, bodies: np.ndarray, hinges: np.ndarray) -> np.ndarray:
        """Whether each hinge moves each body, (B, H)."""
        model = self.body.model
        moves = np.zeros((len(bodies), model.nbody), bool)
        ancestor = bodies.copy()
        while (ancestor > 0).any():
            moves[np.arange(len(bodies)), ancestor] = True
            ancestor = model.body_parentid[ancestor]
        return moves[:, model.dof_bodyid[hinges]]

    def forward(self, kinematics: Kinematics, qpos: np.ndarray) -> None:
        """Compute the kinematics of poses (F, nq)."""
        kinematics.qpos[: len(qpos), self.body.qpos] = qpos
        kinematics.compute(len(qpos))

    def markers(self, kinematics: Kinematics, offsets: np.ndarray) -> np.ndarray:
        """Positions of the markers, (F, K, 3), m."""
        centre, turn = self.carriers(kinematics)
        return centre + np.einsum("fkij,kj->fki", turn, offsets)

    def carriers(self, kinematics: Kinematics) -> tuple[np.ndarray, np.ndarray]:
        """Positions (F, K, 3) and orientations (F, K, 3, 3) of the bodies that carry markers."""
        centre = kinematics["xpos"][:, self.carrier]
        return centre, kinematics["xmat"][:, self.carrier].reshape(*centre.shape, 3)

    def ends(self, kinematics: Kinematics) -> np.ndarray:
        """Lowest point of each geom, (F, G, 3), m."""
        axis = kinematics["geom_xmat"][:, self.geoms][..., 2::3]
        lowest = kinematics["geom_xpos"][:, self.geoms]
        lowest = lowest - np.sign(axis[..., 2:]) * axis * self.half[:, None]
        lowest[..., 2] -= self.radius
        return lowest

    def jacobian(self, kinematics: Kinematics, points: np.ndarray, moves: np.ndarray) -> np.ndarray:
        """Derivatives of points (F, P, 3) of bodies by the unknowns, (F, P, 3, D)."""
        root, frames = self.body.bodies.start, len(points)
        turn = kinematics["xmat"][:, root].reshape(-1, 3, 3)
        axis = np.concatenate([turn.mT, kinematics["xaxis"][:, self.hinges]], axis=1)
        centre = np.broadcast_to(kinematics["xpos"][:, root, None], (frames, 3, 3))
        anchor = np.concatenate([centre, kinematics["xanchor"][:, self.hinges]], axis=1)
        out = np.zeros((*points.shape, self.unknowns))
        out[..., :3] = np.eye(3)
        for p in range(points.shape[1]):
            columns = np.flatnonzero(moves[p, 3:])
            arm = points[:, p, None] - anchor[:, columns]
            out[:, p, :, 3 + columns] = np.cross(axis[:, columns], arm).transpose(1, 0, 2)
        return out

    def moved(self, qpos: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Poses (F, nq) after steps (F, D), joints within their limits."""
        out = qpos.copy()
        out[:, :3] += step[:, :3]
        turn = Rotation.from_quat(qpos[:, 3:7], scalar_first=True)
        turn = turn * Rotation.from_rotvec(step[:, 3:6])
        out[:, 3:7] = turn.as_quat(scalar_first=True)
        columns = 7 + self.joints
        out[:, columns] = np.clip(qpos[:, columns] + step[:, 6:], self.low, self.high)
        return out
