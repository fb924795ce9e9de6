"""The dm_control rodent (Merel et al. 2020, "Deep neuroethology of a virtual rodent")."""

from __future__ import annotations

import functools

import mujoco

from vnl_envs.bodies.body import Body, PhysicsOptions, Standing
from vnl_envs.utils.opengl import quiet_dm_control
from vnl_envs.utils.resources import packaged

# The scale at which published rat recordings are fitted to this model.
SCALE = 0.9

_SIDES = ("L", "R")
_HIND_PAW = ("foot_{}_collision", "toe_{}0_collision", "toe_{}1_collision", "toe_{}2_collision")
_FORE_PAW = (
    "hand_{}_collision",
    "finger_{}0_collision",
    "finger_{}1_collision",
    "finger_{}2_collision",
)
# Learnt gaits rest on the shanks a third of the time. Without their contacts, learning takes three
# times as long.
_SHANK = ("lower_leg_{}_collision",)
_FOREARM = ("radius_{}_collision", "ulna_{}_collision")


def _geoms(*patterns: str, sides: tuple[str, ...] = _SIDES) -> tuple[str, ...]:
    return tuple(pattern.format(side) for side in sides for pattern in patterns)


def _make_spec() -> mujoco.MjSpec:
    return _converted().copy()


@functools.cache
def _converted() -> mujoco.MjSpec:
    """dm_control's spec, scaled, made once: that takes 250 ms, and a copy less than 1 ms."""
    # Imported here: the import takes half a second, which `import vnl_envs` should not.
    with quiet_dm_control():
        from dm_control.locomotion.walkers import rescale, rodent

    walker = rodent.Rat()
    rescale.rescale_subtree(walker.mjcf_model, SCALE, SCALE)
    spec = mujoco.MjSpec.from_string(
        walker.mjcf_model.to_xml_string(), assets=walker.mjcf_model.get_assets()
    )
    spec.skins[0].rgba = [0.72, 0.62, 0.54, 1.0]
    for side in _SIDES:
        _ellipsoid_to_capsule(spec.geom(f"hand_{side}_collision"))
    return spec


def _ellipsoid_to_capsule(geom: mujoco.MjsGeom) -> None:
    """Replace an ellipsoid by the capsule of equal length and mass along its longest axis.

    MJX has no ellipsoid-box collision. The palm's half-axes are 5.8, 3.3 and 2.0 mm. The vertical
    one becomes the radius, so that the paw keeps its height.
    """
    half_length, _, radius = geom.size
    # Mass of the ellipsoid that the capsule replaces: 4/3 pi a b c density.
    volume = 4 / 3 * 3.141592653589793 * geom.size[0] * geom.size[1] * geom.size[2]
    capsule = 3.141592653589793 * radius**2 * (2 * (half_length - radius) + 4 / 3 * radius)
    geom.type = mujoco.mjtGeom.mjGEOM_CAPSULE
    geom.density = geom.density * volume / capsule
    geom.size[:] = radius, half_length - radius, 0
    # A capsule lies along its z axis; turn that onto the ellipsoid's x axis.
    turn = [0.7071067811865476, 0.0, 0.7071067811865476, 0.0]
    quat = geom.quat.copy()
    mujoco.mju_mulQuat(quat, geom.quat, turn)
    geom.quat[:] = quat


RODENT = Body(
    name="rodent",
    make_spec=_make_spec,
    root="torso",
    forward=(1, 0, 0),
    up=(0, 0, 1),
    head="skull",
    hands=("hand_R", "hand_L"),
    feet=("foot_R", "foot_L"),
    # The list that dm_control compares with motion capture.
    tracked_bodies=(
        "torso",
        "pelvis",
        "upper_leg_L",
        "lower_leg_L",
        "foot_L",
        "upper_leg_R",
        "lower_leg_R",
        "foot_R",
        "skull",
        "jaw",
        "scapula_L",
        "upper_arm_L",
        "lower_arm_L",
        "finger_L",
        "scapula_R",
        "upper_arm_R",
        "lower_arm_R",
        "finger_R",
    ),
    contact_geoms=_geoms(*_HIND_PAW, *_SHANK, *_FORE_PAW, *_FOREARM),
    touch={
        "palm_R": _geoms(*_FORE_PAW, sides=("R",)),
        "palm_L": _geoms(*_FORE_PAW, sides=("L",)),
        "sole_R": _geoms(*_HIND_PAW, sides=("R",)),
        "sole_L": _geoms(*_HIND_PAW, sides=("L",)),
    },
    appendages=("lower_arm_R", "lower_arm_L", "foot_R", "foot_L", "skull"),
    upright="roll",
    egocentric_camera="egocentric",
    # Height alone decides: rearing and grooming rats tilt by up to 120 degrees, but in 210 500
    # frames of recordings the torso is never below 35 mm.
    fallen_height=0.03,
    reach=0.3,
    physics=PhysicsOptions(
        timestep=0.004, substeps=5, integrator="EULER", iterations=10, ls_iterations=10, lumped=True
    ),
    standing=Standing.load(packaged("standing", "rodent.json")),
    skin_scale=SCALE,
)
