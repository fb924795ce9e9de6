"""A world: a scene with bodies in it, compiled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import mujoco
import numpy as np

from vnl_envs.bodies.body import GROUND_CONTYPE, Actuation, Body, ContactPhysics, Solver
from vnl_envs.bodies.lumping import lump
from vnl_envs.bodies.model import BodyModel
from vnl_envs.utils import checks

# A signed 32-bit integer has 31 collision bits, and the ground takes one.
MAX_BODIES = 30

# Factors of red, green and blue that distinguish the bodies of a world; the first body keeps its
# own colours.
_TINTS = (
    (1.0, 1.0, 1.0),
    (0.4, 0.7, 1.5),
    (0.6, 1.05, 0.65),
    (1.2, 0.65, 0.75),
    (0.5, 0.5, 0.5),
)


class Scene(Protocol):
    """The surroundings of a body. The walking surface is at z = 0."""

    def spec(self) -> mujoco.MjSpec:
        """The spec of the surroundings, without bodies."""
        ...


@dataclass(frozen=True)
class World:
    """A compiled scene with bodies.

    Attributes:
        scene: surroundings of the bodies.
        model: compiled model; read-only by convention.
        bodies: bodies with their addresses, in the order given.
        substeps: number of physics steps in one control step.
    """

    scene: Scene
    model: mujoco.MjModel
    bodies: tuple[BodyModel, ...]
    substeps: int

    @property
    def body(self) -> BodyModel:
        """The first body."""
        return self.bodies[0]

    @property
    def dt(self) -> float:
        """Duration of one control step, s."""
        return self.model.opt.timestep * self.substeps


def build_world(
    scene: Scene,
    bodies: Sequence[Body],
    actuation: Actuation = "position",
    physics: ContactPhysics = "fast",
    timestep_divisor: int = 1,
    solver: Solver | None = None,
) -> World:
    """Compile a scene with bodies, each with a free joint under its own prefix.

    Bodies collide with each other.

    Args:
        scene: surroundings of the bodies.
        bodies: one or more bodies with different names. The first one's solver settings hold for
            the world.
        actuation: see `Body.spec`.
        physics: see `Body.spec`.
        timestep_divisor: divisor of the time step, and factor of the number of substeps.
        solver: constraint solver; None is the first body's.

    Raises:
        ValueError: an option is unknown or out of bounds, or there are more than `MAX_BODIES`
            bodies.
    """
    divisor = checks.integer("timestep_divisor", timestep_divisor, 1)
    options = bodies[0].physics.divided(divisor)
    if solver is not None:
        options = options.solved_by(solver)
    spec = world_spec(scene, bodies, actuation, physics)
    options.apply(spec.option)
    model = spec.compile()
    if options.lumped:
        lump(model, np.flatnonzero(model.geom_contype | model.geom_conaffinity))
    for body in bodies:
        _scale_skins(model, body)
    return World(scene, model, tuple(BodyModel(b, model) for b in bodies), options.substeps)


def world_spec(
    scene: Scene,
    bodies: Sequence[Body],
    actuation: Actuation = "position",
    physics: ContactPhysics = "fast",
) -> mujoco.MjSpec:
    """The spec that a world is compiled from, but for its solver settings; see `build_world`."""
    spec = scene.spec()
    for i, body in enumerate(bodies):
        frame = spec.worldbody.add_frame()
        own = body.spec(actuation, physics, *_meeting_bits(i, len(bodies)))
        _tint(own, _TINTS[i % len(_TINTS)])
        spec.attach(own, frame=frame, prefix=body.prefix)
        spec.body(body.prefix + body.root).add_freejoint(name=body.prefix + "root")
    _add_sun(spec.body(bodies[0].prefix + bodies[0].root))
    if len(bodies) > 1:
        # Images of several bodies show more ground, and all of it must get shadows.
        spec.visual.map.shadowclip *= 3
        spec.visual.quality.shadowsize *= 2
    # A diverged simulation must end its episode: the engine must not reset it.
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    return spec


def _meeting_bits(index: int, count: int) -> tuple[int, int]:
    """The contype and conaffinity of body `index` for contacts with the other bodies.

    The contype of each body is a bit of its own, above the ground's. Its conaffinity has the bits
    of the others, so that geoms of one body do not collide with each other. A single body has no
    bits.

    Raises:
        ValueError: there are more bodies than bits.
    """
    if count > MAX_BODIES:
        raise ValueError(f"a world holds at most {MAX_BODIES} bodies, got {count}")
    bits = [GROUND_CONTYPE << (1 + i) for i in range(count)] if count > 1 else [0]
    return bits[index], sum(bits) - bits[index]


def _tint(spec: mujoco.MjSpec, tint: tuple[float, float, float]) -> None:
    """Colour the skins and materials of a body's spec that is not attached yet."""
    for part in (*spec.skins, *spec.materials):
        part.rgba[:3] = np.minimum(part.rgba[:3] * np.array(tint), 1.0)


def _scale_skins(model: mujoco.MjModel, body: Body) -> None:
    """Scale the skins of one body; see `Body.skin_scale`."""
    if body.skin_scale == 1.0:
        return
    for i in range(model.nskin):
        skin = model.skin(i)
        if skin.name.startswith(body.prefix):
            vertices = skin.vertadr[0], skin.vertadr[0] + skin.vertnum[0]
            bones = skin.boneadr[0], skin.boneadr[0] + skin.bonenum[0]
            model.skin_vert[slice(*vertices)] *= body.skin_scale
            model.skin_bonebindpos[slice(*bones)] *= body.skin_scale


def _add_sun(root: mujoco.MjsBody) -> None:
    """Add a light that moves along with a body, so that the body always has a shadow."""
    root.add_light(
        mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM,
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[-1, -1.5, 5],
        dir=[0.2, 0.3, -1],
        diffuse=[0.6, 0.6, 0.6],
        castshadow=True,
    )
