"""A body in a compiled world: addresses, geometry and the standing pose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from vnl_envs.bodies.body import Body, Standing
from vnl_envs.bodies.muscles import Muscles
from vnl_envs.physics import Array, Physics, namespace


class BodyModel:
    """One body in a compiled world: addresses, geometry and derived constants.

    Args:
        body: morphology.
        model: compiled world that contains the body under `body.prefix`.

    Attributes:
        qpos, qvel, act, ctrl, bodies, geoms: slices of this body in the world's arrays.
        joint_names, actuator_names, body_names: names without prefix, in model order. The free
            joint is left out.
        joint_range: (nj, 2) limits of the scalar joints, rad.
        ego: (3, 3) matrix whose columns are forward, left and up in the root's frame.
        mass: (nbody,) masses of the bodies, kg.
        standing_qpos: (nq,) standing pose at x = y = 0, heading along +x.
        standing_control: (nu,) controls that hold the standing pose.
        span: (nu,) distance from `standing_control` to the actuator's farther limit.
        servos: whether the actuators are position servos.
        muscles: the muscles, if the actuators are pairs of muscles.

    Raises:
        ValueError: the body has no free joint, or its elements are not contiguous in the world.
    """

    def __init__(self, body: Body, model: mujoco.MjModel) -> None:
        self.body = body
        self.model = model
        prefix = body.prefix
        root = model.body(prefix + body.root)
        if root.jntnum[0] < 1 or model.jnt_type[root.jntadr[0]] != mujoco.mjtJoint.mjJNT_FREE:
            raise ValueError(f"body {body.name!r}: {body.root!r} has no free joint")
        self.bodies = _owned([model.body(i).name for i in range(model.nbody)], prefix)
        joints = _owned([model.joint(i).name for i in range(model.njnt)], prefix)
        actuators = _owned([model.actuator(i).name for i in range(model.nu)], prefix)
        owners = model.geom_bodyid
        geoms = np.flatnonzero((owners >= self.bodies.start) & (owners < self.bodies.stop))
        self.geoms = slice(int(geoms[0]), int(geoms[-1]) + 1)
        self.ctrl = actuators
        free, last = joints.start, joints.stop - 1
        self.qpos = slice(int(model.jnt_qposadr[free]), int(model.jnt_qposadr[last]) + 1)
        self.qvel = slice(int(model.jnt_dofadr[free]), int(model.jnt_dofadr[last]) + 1)
        with_act = [int(a) for a in model.actuator_actadr[actuators] if a >= 0]
        self.act = slice(min(with_act), max(with_act) + 1) if with_act else slice(0, 0)
        self.joint_names = tuple(
            model.joint(i).name.removeprefix(prefix) for i in range(free + 1, last + 1)
        )
        self.actuator_names = tuple(
            model.actuator(i).name.removeprefix(prefix)
            for i in range(actuators.start, actuators.stop)
        )
        self.body_names = tuple(
            model.body(i).name.removeprefix(prefix)
            for i in range(self.bodies.start, self.bodies.stop)
        )
        self.joint_range = model.jnt_range[free + 1 : last + 1].copy()
        self.mass = model.body_mass[self.bodies].copy()
        forward, up = np.asarray(body.forward, float), np.asarray(body.up, float)
        self.ego = np.stack([forward, np.cross(up, forward), up], axis=1)
        biastype = model.actuator_biastype[self.ctrl]
        self.servos = bool((biastype == mujoco.mjtBias.mjBIAS_AFFINE).all())
        muscular = model.actuator_gaintype[self.ctrl] == mujoco.mjtGain.mjGAIN_MUSCLE
        first = self.qpos.start + 7
        self.muscles = Muscles(model, self.ctrl, first) if muscular.all() else None
        self.standing_qpos, self.standing_control = self._stand()
        self._low, self._high = model.actuator_ctrlrange[self.ctrl].T.copy()
        self.span = np.maximum(
            self._high - self.standing_control, self.standing_control - self._low
        )

    @property
    def nq(self) -> int:
        """Number of positions, including the free joint's 7."""
        return self.qpos.stop - self.qpos.start

    @property
    def nv(self) -> int:
        """Number of velocities, including the free joint's 6."""
        return self.qvel.stop - self.qvel.start

    @property
    def nu(self) -> int:
        """Number of actuators."""
        return self.ctrl.stop - self.ctrl.start

    @property
    def na(self) -> int:
        """Number of actuator activation states."""
        return self.act.stop - self.act.start

    @property
    def spans(self) -> dict[str, slice]:
        """Rows of the world's arrays in a `Physics` view of this body: field -> slice."""
        return {
            "qpos": self.qpos,
            "qvel": self.qvel,
            "qfrc_actuator": self.qvel,
            "act": self.act,
            **dict.fromkeys(("xpos", "xquat", "xmat", "xipos"), self.bodies),
            **dict.fromkeys(("geom_xpos", "geom_xmat"), self.geoms),
        }

    def physics(self, *datas: mujoco.MjData) -> Physics:
        """The view of this body in n simulations, with leading axis (n,)."""
        return Physics(
            **{k: np.stack([getattr(d, k)[v] for d in datas]) for k, v in self.spans.items()}
        )

    def body_index(self, *names: str) -> np.ndarray:
        """Rows of the named bodies in the body's own `xpos`, in the order of the names."""
        return np.array([self.body_names.index(name) for name in names])

    def geom_index(self, *names: str) -> np.ndarray:
        """Rows of the named geoms in the body's own `geom_xpos`, in the order of the names."""
        prefix = self.body.prefix
        return np.array([self.model.geom(prefix + n).id - self.geoms.start for n in names])

    def activation(self, control: Any) -> Any:
        """Activation states (..., na) of actuators that have settled at controls (..., nu)."""
        owners = self.model.actuator_actadr[self.ctrl] >= 0
        return control[..., np.flatnonzero(owners)]

    def control(self, action: Array) -> Array:
        """Convert actions in [-1, 1] to controls, (..., nu) -> (..., nu).

        The map is linear. Action 0 is the standing pose's control, ±1 reaches the actuator's
        farther limit, and controls are clipped at the nearer one. Both sides have the same slope:
        otherwise zero-mean noise would become a torque whose mean is not zero.
        """
        xp = namespace(action)
        control = self.standing_control + action * self.span
        return xp.minimum(xp.maximum(control, self._low), self._high)

    def action(self, control: np.ndarray) -> np.ndarray:
        """Convert controls within limits to actions, the inverse of `control`, (..., nu)."""
        return (control - self.standing_control) / self.span

    def capsules(self, *names: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows in the body's own geoms, half-lengths (m) and radii (m) of n named geoms, (n,) each.

        A sphere has half-length 0.

        Raises:
            ValueError: a geom is neither a sphere nor a capsule.
        """
        rows = self.geom_index(*names)
        ids = rows + self.geoms.start
        kinds = self.model.geom_type[ids]
        capsule = kinds == mujoco.mjtGeom.mjGEOM_CAPSULE
        if not (capsule | (kinds == mujoco.mjtGeom.mjGEOM_SPHERE)).all():
            raise ValueError(f"contact and touch geoms must be spheres or capsules: {names}")
        size = self.model.geom_size[ids]
        return rows, np.where(capsule, size[:, 1], 0.0), size[:, 0].copy()

    def _stand(self) -> tuple[np.ndarray, np.ndarray]:
        """The standing pose (nq,) and the controls (nu,) that hold it; see `Standing`."""
        standing = self.body.standing or Standing(0.0, self._upright_quat(), {}, {})
        neutral = np.clip(0.0, *self.joint_range.T)
        joints = self._angles(neutral, standing.joints)
        data = mujoco.MjData(self.model)
        free = data.qpos[self.qpos]
        free[:3], free[3:7] = (0.0, 0.0, standing.height), standing.quat
        free[7:] = joints
        mujoco.mj_fwdPosition(self.model, data)
        if self.body.standing is None:
            geoms = data.geom_xpos[self.geoms], data.geom_xmat[self.geoms]
            free[2] = -lowest_point(self, *geoms)
        qpos, length = free.copy(), data.actuator_length[self.ctrl].copy()
        targets = self._angles(joints, standing.targets)
        if self.muscles is not None:
            return qpos, self.muscles.standing(joints, targets, standing.cocontraction)
        free[7:] = targets
        mujoco.mj_fwdPosition(self.model, data)
        servo = servo_control(self, data.actuator_length[self.ctrl])
        if self.servos:
            return qpos, servo
        # A motor that replaces a servo holds the pose with the force that the servo would exert.
        gain, bias = self.model.actuator_gainprm[self.ctrl], self.model.actuator_biasprm[self.ctrl]
        force = gain[:, 1] * servo + bias[:, 0] + bias[:, 1] * length
        low, high = self.model.actuator_ctrlrange[self.ctrl].T
        return qpos, np.clip(force / gain[:, 0], low, high)

    def _angles(self, base: np.ndarray, named: Mapping[str, float]) -> np.ndarray:
        angles = base.copy()
        for name, angle in named.items():
            angles[self.joint_names.index(name)] = angle
        return angles

    def _upright_quat(self) -> tuple[float, float, float, float]:
        quat = np.empty(4)
        mujoco.mju_mat2Quat(quat, self.ego.T.flatten())
        w, x, y, z = quat.tolist()
        return w, x, y, z


def servo_control(body: BodyModel, actuator_length: np.ndarray) -> np.ndarray:
    """Controls (..., nu) at which servos at these lengths (..., nu) exert no force, within limits.

    The control of a muscle, or of an actuator that is a motor in the body's own spec, is 0.
    """
    if body.muscles is not None:
        return np.zeros_like(actuator_length)
    rows = body.ctrl
    gain = body.model.actuator_gainprm[rows, 0 if body.servos else 1]
    bias = body.model.actuator_biasprm[rows]
    low, high = body.model.actuator_ctrlrange[rows].T
    # An actuator without a servo's gain follows no pose: its control becomes 0.
    gain = np.where(gain == 0, np.inf, gain)
    return np.clip(-(bias[:, 0] + bias[:, 1] * actuator_length) / gain, low, high)


def lowest_point(body: BodyModel, geom_xpos: np.ndarray, geom_xmat: np.ndarray) -> np.ndarray:
    """Height of the lowest point of the contact geoms, (...,), m.

    Args:
        body: body whose contact geoms are spheres and capsules.
        geom_xpos: (..., ngeom, 3) centres of the body's geoms, m, world frame.
        geom_xmat: (..., ngeom, 9) their orientations as row-major rotation matrices.
    """
    rows, half, radius = body.capsules(*body.body.contact_geoms)
    bottom = geom_xpos[..., rows, 2] - np.abs(geom_xmat[..., rows, 8]) * half - radius
    return bottom.min(axis=-1)


def _owned(names: list[str], prefix: str) -> slice:
    """The slice of names with a prefix; a body's elements are contiguous in its world."""
    ids = [i for i, name in enumerate(names) if name.startswith(prefix)]
    if not ids or ids != list(range(ids[0], ids[-1] + 1)):
        raise ValueError(f"elements of {prefix!r} are not one run of the world's elements")
    return slice(ids[0], ids[-1] + 1)
