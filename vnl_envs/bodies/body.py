"""Bodies: how a morphology's MuJoCo model is made, and what tasks need to know about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import mujoco
import numpy as np

from vnl_envs.bodies.muscles import Muscles, replace_servos
from vnl_envs.physics import Array, Physics, namespace
from vnl_envs.utils import checks

Actuation = Literal["position", "torque", "muscle"]
ContactPhysics = Literal["fast", "full"]
Solver = Literal["newton", "cg"]

# Conjugate gradients need 41 iterations where Newton's method needs 3 (`docs/physics.md`).
_CG_ITERATIONS = 100

# Collision bits, the same for every engine. Geoms of a body collide with the ground, not with each
# other: no pair of one body's geoms is ever considered. Bodies that share a world have a bit each.
GROUND_CONTYPE = 1


@dataclass(frozen=True)
class PhysicsOptions:
    """Solver settings of a body; `docs/physics.md` has the measurements behind each value.

    Attributes:
        timestep: physics time step, s.
        substeps: number of physics steps in one control step.
        integrator: name in `mujoco.mjtIntegrator`, without its prefix.
        cone: name in `mujoco.mjtCone`, without its prefix.
        solver: name in `mujoco.mjtSolver`, without its prefix.
        iterations: greatest number of iterations of the constraint solver.
        ls_iterations: greatest number of iterations of its line search.
        tolerance: improvement below which the solver stops early.
        jacobian: name in `mujoco.mjtJacobian`, without its prefix.
        lumped: whether joint damping is part of the inertia, see `vnl_envs.bodies.lumping`. This
            needs the integrator "EULER".
    """

    timestep: float
    substeps: int
    integrator: str = "IMPLICITFAST"
    cone: str = "PYRAMIDAL"
    solver: str = "NEWTON"
    iterations: int = 100
    ls_iterations: int = 50
    tolerance: float = 1e-8
    jacobian: str = "AUTO"
    lumped: bool = False

    @property
    def control_timestep(self) -> float:
        """Duration of one control step, s."""
        return self.timestep * self.substeps

    def divided(self, divisor: int) -> PhysicsOptions:
        """Options with the time step divided, in the same control step."""
        return replace(self, timestep=self.timestep / divisor, substeps=self.substeps * divisor)

    def solved_by(self, solver: Solver) -> PhysicsOptions:
        """Options with another constraint solver, and as many iterations as it needs."""
        checks.choice("solver", solver, get_args(Solver))
        if solver.upper() == self.solver:
            return self
        iterations = {"newton": self.iterations, "cg": _CG_ITERATIONS}[solver]
        return replace(self, solver=solver.upper(), iterations=iterations)

    def apply(self, option: Any) -> None:
        """Write these settings into the `mjOption` of a spec or of a model."""
        option.timestep = self.timestep
        option.integrator = getattr(mujoco.mjtIntegrator, f"mjINT_{self.integrator}")
        option.cone = getattr(mujoco.mjtCone, f"mjCONE_{self.cone}")
        option.solver = getattr(mujoco.mjtSolver, f"mjSOL_{self.solver}")
        option.iterations = self.iterations
        option.ls_iterations = self.ls_iterations
        option.tolerance = self.tolerance
        option.jacobian = getattr(mujoco.mjtJacobian, f"mjJAC_{self.jacobian}")


@dataclass(frozen=True)
class Standing:
    """The standing pose of a body, in which episodes start, and the servo targets that hold it.

    Attributes:
        height: height of the root above the ground, m.
        quat: root orientation (w, x, y, z), heading along +x.
        joints: joint angles by name, rad. Other joints are at 0, or at their limit nearest to 0.
        targets: target angles of the servos by name, rad. Other targets are as in `joints`. The
            differences balance gravity and passive springs.
        cocontraction: activation that both muscles of a pair have in common, if there are muscles.
    """

    height: float
    quat: tuple[float, float, float, float]
    joints: Mapping[str, float]
    targets: Mapping[str, float]
    cocontraction: float = 0.3

    @classmethod
    def load(cls, path: Path) -> Standing:
        """Read a standing pose from a JSON file whose keys are these attributes."""
        values = json.loads(path.read_text())
        values["quat"] = tuple(values["quat"])
        return cls(**values)


@dataclass(frozen=True)
class Body:
    """A morphology. Names are those of its own MJCF, without the prefix that a world adds.

    Attributes:
        name: unique name, used in task ids, clip files and element prefixes.
        make_spec: function that returns a fresh `mujoco.MjSpec` of the body alone, with its
            actuators, without a free joint and without ground.
        root: name of the body that gets the free joint.
        forward, up: axes of travel and of the head's top, in the root's frame.
        head: name of the head's body.
        hands, feet: names of the end effectors; for a quadruped, the front and hind ones.
        tracked_bodies: names of the bodies whose positions imitation compares.
        contact_geoms: names of the geoms that may touch the ground; all others pass through it.
        touch: touch sensors: name -> names of the geoms that feel. These are spheres or capsules
            among `contact_geoms`.
        appendages: names of the bodies whose egocentric positions dm_control's comic reward
            compares.
        upright: measure of uprightness while running: "roll" ignores pitch, "tilt" does not.
        egocentric_camera: name of the camera that `vision=True` renders.
        fallen_height: height of the root below which the body has fallen, m.
        reach: distance from the root that no colliding geom ever exceeds, m.
        physics: solver settings.
        standing: standing pose. None is the pose with every joint at 0, or at its limit nearest
            to 0.
        skin_scale: scale factor for the vertices of a skin that the spec holds unscaled.
    """

    name: str
    make_spec: Callable[[], mujoco.MjSpec]
    root: str
    forward: tuple[float, float, float]
    up: tuple[float, float, float]
    head: str
    hands: tuple[str, ...]
    feet: tuple[str, ...]
    tracked_bodies: tuple[str, ...]
    contact_geoms: tuple[str, ...]
    touch: Mapping[str, tuple[str, ...]]
    appendages: tuple[str, ...]
    upright: Literal["roll", "tilt"]
    egocentric_camera: str
    fallen_height: float
    reach: float
    physics: PhysicsOptions
    standing: Standing | None = None
    skin_scale: float = 1.0

    @property
    def prefix(self) -> str:
        """Prefix of the body's elements in a world."""
        return f"{self.name}/"

    def spec(
        self,
        actuation: Actuation = "position",
        physics: ContactPhysics = "fast",
        contype: int = 0,
        conaffinity: int = 0,
    ) -> mujoco.MjSpec:
        """A spec ready to be attached to a world, with contacts and actuation, without sensors.

        Args:
            actuation: "position" keeps the spec's own servos. "torque" replaces each by a motor
                whose control ±1 is the upper limit of the servo's force. "muscle" replaces each by
                a pair of muscles, see `vnl_envs.bodies.muscles`.
            physics: "fast" keeps only ground contacts of `contact_geoms`. "full" keeps all of the
                spec's own collisions, self-collisions included.
            contype, conaffinity: collision bits for contacts with other bodies. Every geom that
                collides in the spec itself gets them, whatever `physics` is.

        Raises:
            ValueError: an option is unknown, a named geom does not exist, or a servo cannot be
                replaced by muscles.
        """
        checks.choice("actuation", actuation, get_args(Actuation))
        checks.choice("physics", physics, ("fast", "full"))
        spec = self.make_spec()
        # The world decides the size of its memory, not the body's file.
        spec.njmax = spec.nconmax = -1
        # Sensors cost time: accelerometers need a recursion over the constraint forces. Tasks
        # compute their observations themselves, so that all engines agree.
        for sensor in list(spec.sensors):
            spec.delete(sensor)
        # The scene has the light; a second light would cast a second shadow.
        for light in list(spec.lights):
            spec.delete(light)
        unknown = set(self.contact_geoms) - {geom.name for geom in spec.geoms}
        if unknown:
            raise ValueError(f"body {self.name!r} has no geoms named {sorted(unknown)}")
        for geom in spec.geoms:
            solid = geom.contype != 0 or geom.conaffinity != 0
            if physics == "fast":
                geom.contype = 0
                geom.conaffinity = GROUND_CONTYPE if geom.name in self.contact_geoms else 0
            if solid:
                geom.contype |= contype
                geom.conaffinity |= conaffinity
        if actuation == "torque":
            servos = [a for a in spec.actuators if a.biastype == mujoco.mjtBias.mjBIAS_AFFINE]
            for actuator in servos:
                # A motor does not use its second gain parameter. It keeps the servo's gain there,
                # and the bias in biasprm: the standing torques follow from both.
                actuator.gainprm[1] = actuator.gainprm[0]
                actuator.gainprm[0] = actuator.forcerange[1]
                actuator.biastype = mujoco.mjtBias.mjBIAS_NONE
        if actuation == "muscle":
            replace_servos(spec)
        return spec


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
