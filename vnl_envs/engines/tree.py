"""Kinematics and smooth dynamics of MJX-JAX that compile in seconds for a deep tree.

MJX walks the kinematic tree in Python, so that the code for XLA grows with the tree: a rat's
`mjx.kinematics` alone is 27 000 lines of HLO. Here one `lax.scan` over the depth of the tree
computes the poses, and its body is compiled once. Every sum over ancestors or descendants is a
product with a constant matrix of zeros and ones. The formulas are MuJoCo's (Featherstone, "Rigid
Body Dynamics Algorithms", 2008), in frames centred at the centre of mass of each free body.

Spatial vectors are (rotation, translation). An inertia has 10 numbers: its matrix xx, yy, zz, xy,
xz, yz about the frame's origin, mass times centre of mass, and mass.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx

Array = jax.Array

_FREE, _BALL, _SLIDE, _HINGE = (
    int(getattr(mujoco.mjtJoint, f"mjJNT_{name}")) for name in ("FREE", "BALL", "SLIDE", "HINGE")
)


class Tree:
    """The kinematic tree of a model, as constant arrays.

    Methods take an `mjx.Model` of the same tree, possibly edited, and an `mjx.Data` of one
    simulation. They return the `mjx.Data` with more current fields.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._bodies(model)
        self._joints(model)
        self._dofs(model)
        self._levels(model)

    def _bodies(self, model: mujoco.MjModel) -> None:
        # within[b, a]: body a is b or one of its ancestors.
        self.within = np.eye(model.nbody, dtype=bool)
        for body in range(1, model.nbody):
            self.within[body] |= self.within[model.body_parentid[body]]
        self.root = model.body_rootid.copy()
        self.mocap = np.flatnonzero(model.body_mocapid >= 0)
        self.mocap_row = model.body_mocapid[self.mocap]
        self.geom_body = model.geom_bodyid.copy()
        self.site_body = model.site_bodyid.copy()

    def _joints(self, model: mujoco.MjModel) -> None:
        kind = model.jnt_type
        self.jnt_qpos = model.jnt_qposadr.copy()
        self.hinge, self.slide = kind == _HINGE, kind == _SLIDE
        self.ball = np.flatnonzero(kind == _BALL)
        free = np.flatnonzero(kind == _FREE)
        self.free_body, self.free_qpos = model.jnt_bodyid[free], model.jnt_qposadr[free]

    def _dofs(self, model: mujoco.MjModel) -> None:
        self.dof_body, self.dof_jnt = model.dof_bodyid.copy(), model.dof_jntid.copy()
        kind = model.jnt_type[self.dof_jnt]
        number = np.arange(model.nv) - model.jnt_dofadr[self.dof_jnt]
        self.moves = (kind == _SLIDE) | ((kind == _FREE) & (number < 3))
        # Axis of each velocity: a column of the body's orientation (of the world's, for a free
        # joint's translations); -1 if the joint has its own axis.
        self.column = np.where((kind == _FREE) | (kind == _BALL), number % 3, -1)
        self.world_axis = (kind == _FREE) & (number < 3)
        # moved_by[b, v]: velocity v moves body b. after[v, w]: velocity w moves the axis of v.
        self.moved_by = self.within[:, self.dof_body]
        same = self.dof_jnt[:, None] == self.dof_jnt
        earlier = self.dof_jnt[:, None] > self.dof_jnt
        own = same & self.world_axis & ~self.world_axis[:, None]
        self.after = self.moved_by[self.dof_body] & (earlier | own)
        self.after[self.world_axis] = False
        self.lower = np.tril(self.moved_by[self.dof_body])

    def _levels(self, model: mujoco.MjModel) -> None:
        """Bodies by depth, (depth, width), and their joints, (depth, width, joints).

        Rows are padded with the index of a body and a joint that do nothing, after all others.
        """
        depth = self.within.sum(axis=1) - 1
        rows = [np.flatnonzero(depth == d) for d in range(1, depth.max() + 1)]
        shape = len(rows), max(map(len, rows))
        self.level = np.full(shape, model.nbody)
        self.parent = np.zeros(shape, int)
        self.level_jnt = np.full((*shape, max(1, model.body_jntnum.max())), model.njnt)
        for above, (d, row) in zip([np.zeros(1, int), *rows], enumerate(rows), strict=False):
            self.level[d, : len(row)] = row
            self.parent[d, : len(row)] = np.searchsorted(above, model.body_parentid[row])
            for slot, body in enumerate(row):
                first, number = model.body_jntadr[body], model.body_jntnum[body]
                self.level_jnt[d, slot, :number] = np.arange(first, first + number)
        self.body_place = np.argsort(self.level, axis=None)[: model.nbody - 1]
        self.jnt_place = np.argsort(self.level_jnt, axis=None)[: model.njnt]

    def kinematics(self, m: mjx.Model, d: mjx.Data) -> mjx.Data:
        """Poses of bodies, joints, geoms and sites, from qpos and mocap_pos."""
        xpos, xquat, xanchor, xaxis = self._poses(m, d)
        xipos, ximat = _place(xpos, xquat, m.body_ipos, m.body_iquat)
        of = self.geom_body
        geom_xpos, geom_xmat = _place(xpos[of], xquat[of], m.geom_pos, m.geom_quat)
        of = self.site_body
        site_xpos, site_xmat = _place(xpos[of], xquat[of], m.site_pos, m.site_quat)
        return d.replace(
            xpos=xpos,
            xquat=xquat,
            xmat=_matrix(xquat),
            xanchor=xanchor,
            xaxis=xaxis,
            xipos=xipos,
            ximat=ximat,
            geom_xpos=geom_xpos,
            geom_xmat=geom_xmat,
            site_xpos=site_xpos,
            site_xmat=site_xmat,
        )

    def _poses(self, m: mjx.Model, d: mjx.Data) -> tuple[Array, Array, Array, Array]:
        """Body positions and orientations, joint anchors and axes, in the world frame."""
        pos, quat = self._frames(m, d)
        turn, shift = self._joint_motions(m, d.qpos)

        def descend(above, row):  # type: ignore[no-untyped-def]
            parent, pos, quat, joint_pos, joint_axis, turn, shift = row
            pos = above[0][parent] + _rotate(pos, above[1][parent])
            quat = _multiply(above[1][parent], quat)
            anchors, axes = [], []
            for j in range(self.level_jnt.shape[2]):
                anchors.append(pos + _rotate(joint_pos[:, j], quat))
                axes.append(_rotate(joint_axis[:, j], quat))
                pos = anchors[j] + _rotate(shift[:, j], quat)
                quat = _multiply(quat, turn[:, j])
                pos = pos - _rotate(joint_pos[:, j], quat)
            quat = _normalize(quat)
            return (pos, quat), (pos, quat, jnp.stack(anchors, 1), jnp.stack(axes, 1))

        width = self.level.shape[1]
        world = jnp.zeros((width, 3), pos.dtype), _still(quat.dtype, width)
        bodies = (_padded(pos)[self.level], _padded(quat)[self.level])
        joints = (m.jnt_pos, m.jnt_axis, turn, shift)
        rows = (self.parent, *bodies, *(_padded(x)[self.level_jnt] for x in joints))
        _, (pos, quat, anchor, axis) = jax.lax.scan(descend, world, rows)
        pos = pos.reshape(-1, 3)[self.body_place]
        quat = quat.reshape(-1, 4)[self.body_place]
        return (
            jnp.concatenate([world[0][:1], pos]),
            jnp.concatenate([world[1][:1], quat]),
            anchor.reshape(-1, 3)[self.jnt_place],
            axis.reshape(-1, 3)[self.jnt_place],
        )

    def _frames(self, m: mjx.Model, d: mjx.Data) -> tuple[Array, Array]:
        """Pose of each body in its parent's frame before its joints move it.

        The parent of a free or mocap body is the world: its own pose is used directly.
        """
        pos, quat = m.body_pos, m.body_quat
        if self.mocap.size:
            pos = pos.at[self.mocap].set(d.mocap_pos[self.mocap_row])
            quat = quat.at[self.mocap].set(_normalize(d.mocap_quat[self.mocap_row]))
        for body, address in zip(self.free_body, self.free_qpos, strict=True):
            pos = pos.at[body].set(d.qpos[address : address + 3])
            quat = quat.at[body].set(_normalize(d.qpos[address + 3 : address + 7]))
        return pos, quat

    def _joint_motions(self, m: mjx.Model, qpos: Array) -> tuple[Array, Array]:
        """Motion of each joint in its body's frame: a turn (njnt, 4) and a shift (njnt, 3)."""
        change = qpos[self.jnt_qpos] - m.qpos0[self.jnt_qpos]
        half = jnp.where(self.hinge, change / 2, 0)[:, None]
        turn = jnp.concatenate([jnp.cos(half), jnp.sin(half) * m.jnt_axis], axis=1)
        if self.ball.size:
            rows = self.jnt_qpos[self.ball][:, None] + np.arange(4)
            turn = turn.at[self.ball].set(_normalize(qpos[rows]))
        return turn, jnp.where(self.slide, change, 0)[:, None] * m.jnt_axis

    def com_pos(self, m: mjx.Model, d: mjx.Data) -> mjx.Data:
        """Centres of mass of subtrees; inertias and motion axes about the root's centre of mass."""
        subtree = self.within.T.astype(d.xipos.dtype)
        mass = subtree @ m.body_mass
        moment = subtree @ (d.xipos * m.body_mass[:, None])
        # The maximum keeps the derivative of the unused branch finite.
        com = moment / jnp.maximum(mass, mujoco.mjMINVAL)[:, None]
        com = jnp.where((mass < mujoco.mjMINVAL)[:, None], d.xipos, com)
        origin = com[self.root]
        inertia = _inertia(m.body_mass, m.body_inertia, d.ximat, d.xipos - origin)
        d = d.replace(subtree_com=com, cdof=self._axes(d, origin))
        return d.tree_replace({"_impl.cinert": inertia})

    def _axes(self, d: mjx.Data, origin: Array) -> Array:
        """Spatial axis of each velocity, (nv, 6)."""
        own = d.xaxis[self.dof_jnt]
        turned = d.xmat[self.dof_body, :, self.column]
        still = np.eye(3)[self.column]
        axis = jnp.where((self.column >= 0)[:, None], turned, own)
        axis = jnp.where(self.world_axis[:, None], still, axis)
        arm = origin[self.dof_body] - d.xanchor[self.dof_jnt]
        turns = jnp.concatenate([axis, jnp.cross(axis, arm)], axis=1)
        moves = jnp.concatenate([jnp.zeros_like(axis), axis], axis=1)
        return jnp.where(self.moves[:, None], moves, turns)

    def crb(self, m: mjx.Model, d: mjx.Data) -> mjx.Data:
        """The inertia matrix M, dense (nv, nv), without armature of tendons."""
        composite = self.within.T.astype(d.qpos.dtype) @ d._impl.cinert
        momentum = _momentum(composite[self.dof_body], d.cdof)
        lower = (momentum @ d.cdof.T) * self.lower
        matrix = lower + jnp.tril(lower, -1).T + jnp.diag(m.dof_armature)
        return d.tree_replace({"_impl.crb": composite, "_impl.M": matrix})

    def com_vel(self, m: mjx.Model, d: mjx.Data) -> mjx.Data:
        """Spatial velocities of bodies, and time derivatives of the motion axes."""
        motion = d.cdof * d.qvel[:, None]
        carried = self.after.astype(motion.dtype) @ motion
        return d.replace(
            cvel=self.moved_by.astype(motion.dtype) @ motion,
            cdof_dot=_cross_motion(carried, d.cdof),
        )

    def rne(self, m: mjx.Model, d: mjx.Data) -> mjx.Data:
        """qfrc_bias: Coriolis, centrifugal and gravitational forces."""
        gravity = jnp.concatenate([jnp.zeros(3, d.qvel.dtype), -m.opt.gravity])
        if m.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_GRAVITY:
            gravity = jnp.zeros_like(gravity)
        moved_by = self.moved_by.astype(d.qvel.dtype)
        acceleration = gravity + moved_by @ (d.cdof_dot * d.qvel[:, None])
        inertia = d._impl.cinert
        force = _momentum(inertia, acceleration)
        force = force + _cross_force(d.cvel, _momentum(inertia, d.cvel))
        return d.replace(qfrc_bias=self._project(d, force))

    def applied(self, d: mjx.Data) -> Array:
        """Generalized force of xfrc_applied, (nv,)."""
        force, torque = d.xfrc_applied[:, :3], d.xfrc_applied[:, 3:]
        arm = d.xipos - d.subtree_com[self.root]
        wrench = jnp.concatenate([torque + jnp.cross(arm, force), force], axis=1)
        return self._project(d, wrench)

    def _project(self, d: mjx.Data, force: Array) -> Array:
        """Generalized force (nv,) of spatial forces on the bodies, (nbody, 6)."""
        below = self.within.T.astype(force.dtype) @ force
        return (d.cdof * below[self.dof_body]).sum(axis=1)


def _padded(rows: Array) -> Array:
    """Append one neutral row: zeros, or the identity for quaternions (n, 4)."""
    width = rows.shape[1]
    last = _still(rows.dtype, 1) if width == 4 else jnp.zeros((1, width), rows.dtype)
    return jnp.concatenate([rows, last])


def _still(dtype: np.dtype, number: int) -> Array:
    return jnp.tile(jnp.array([1, 0, 0, 0], dtype), (number, 1))


def _normalize(quat: Array) -> Array:
    return quat / jnp.linalg.norm(quat, axis=-1, keepdims=True)


def _multiply(a: Array, b: Array) -> Array:
    """Products of quaternions (..., 4)."""
    w, u = a[..., :1], a[..., 1:]
    x, v = b[..., :1], b[..., 1:]
    real = w * x - (u * v).sum(axis=-1, keepdims=True)
    return jnp.concatenate([real, w * v + x * u + jnp.cross(u, v)], axis=-1)


def _rotate(vector: Array, quat: Array) -> Array:
    """Vectors (..., 3) turned by unit quaternions (..., 4)."""
    w, u = quat[..., :1], quat[..., 1:]
    twice = 2 * jnp.cross(u, vector)
    return vector + w * twice + jnp.cross(u, twice)


def _matrix(quat: Array) -> Array:
    """Rotation matrices (..., 3, 3) of unit quaternions (..., 4)."""
    w, x, y, z = (quat[..., i] for i in range(4))
    entries = [
        w * w + x * x - y * y - z * z,
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        w * w - x * x + y * y - z * z,
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        w * w - x * x - y * y + z * z,
    ]
    return jnp.stack(entries, axis=-1).reshape(*quat.shape[:-1], 3, 3)


def _place(xpos: Array, xquat: Array, pos: Array, quat: Array) -> tuple[Array, Array]:
    """World positions and orientation matrices of frames given in the frames of bodies."""
    return xpos + _rotate(pos, xquat), _matrix(_multiply(xquat, quat))


def _inertia(mass: Array, principal: Array, ximat: Array, com: Array) -> Array:
    """Spatial inertias (n, 10) from principal moments (n, 3), their axes and centres of mass."""
    about_com = jnp.einsum("nik,nk,njk->nij", ximat, principal, ximat)
    square = (com * com).sum(axis=1)[:, None, None] * np.eye(3)
    matrix = about_com + mass[:, None, None] * (square - com[:, :, None] * com[:, None, :])
    rows, columns = np.array([0, 1, 2, 0, 0, 1]), np.array([0, 1, 2, 1, 2, 2])
    return jnp.concatenate(
        [matrix[:, rows, columns], com * mass[:, None], mass[:, None]],
        axis=1,
    )


def _momentum(inertia: Array, velocity: Array) -> Array:
    """Spatial inertias (n, 10) times spatial velocities (n, 6)."""
    matrix = inertia[:, np.array([[0, 3, 4], [3, 1, 5], [4, 5, 2]])]
    moment, mass = inertia[:, 6:9], inertia[:, 9:]
    turn, shift = velocity[:, :3], velocity[:, 3:]
    angular = (matrix * turn[:, None, :]).sum(axis=2) + jnp.cross(moment, shift)
    return jnp.concatenate([angular, mass * shift - jnp.cross(moment, turn)], axis=1)


def _cross_motion(velocity: Array, motion: Array) -> Array:
    """Spatial cross product of velocities (n, 6) and motions (n, 6): rate of change, (n, 6)."""
    turn, shift = velocity[:, :3], velocity[:, 3:]
    rotation, translation = motion[:, :3], motion[:, 3:]
    moved = jnp.cross(turn, translation) + jnp.cross(shift, rotation)
    return jnp.concatenate([jnp.cross(turn, rotation), moved], axis=1)


def _cross_force(velocity: Array, force: Array) -> Array:
    """Spatial cross product of velocities (n, 6) and forces (n, 6): rate of change, (n, 6)."""
    turn, shift = velocity[:, :3], velocity[:, 3:]
    torque, linear = force[:, :3], force[:, 3:]
    twisted = jnp.cross(turn, torque) + jnp.cross(shift, linear)
    return jnp.concatenate([twisted, jnp.cross(turn, linear)], axis=1)
