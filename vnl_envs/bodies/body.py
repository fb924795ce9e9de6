"""Bodies: how a morphology's MuJoCo model is made, and what tasks need to know about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import mujoco

from vnl_envs.bodies.muscles import replace_servos
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
                replaced.
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
                if not actuator.forcerange[1] > 0:
                    raise ValueError(f"actuator {actuator.name!r} has no force limit for a motor")
                # A motor does not use its second gain parameter. It keeps the servo's gain there,
                # and the bias in biasprm: the standing torques follow from both.
                actuator.gainprm[1] = actuator.gainprm[0]
                actuator.gainprm[0] = actuator.forcerange[1]
                actuator.biastype = mujoco.mjtBias.mjBIAS_NONE
        if actuation == "muscle":
            replace_servos(spec)
        return spec
