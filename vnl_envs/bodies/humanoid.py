"""The dm_control CMU humanoid, position controlled, version 2020 (Merel et al. 2019)."""

from __future__ import annotations

import functools

import mujoco

from vnl_envs.bodies.body import Body, PhysicsOptions, Standing
from vnl_envs.utils.opengl import quiet_dm_control
from vnl_envs.utils.resources import packaged


def _make_spec() -> mujoco.MjSpec:
    return _converted().copy()


@functools.cache
def _converted() -> mujoco.MjSpec:
    """dm_control's spec, made once: that takes 250 ms, and a copy less than 1 ms."""
    # Imported here: the import takes half a second, which `import vnl_envs` should not.
    with quiet_dm_control():
        from dm_control.locomotion.walkers import cmu_humanoid

    walker = cmu_humanoid.CMUHumanoidPositionControlledV2020()
    return mujoco.MjSpec.from_string(
        walker.mjcf_model.to_xml_string(), assets=walker.mjcf_model.get_assets()
    )


def _sole(side: str) -> tuple[str, ...]:
    return tuple(side + part for part in ("foot", "foot_ch", "toes0", "toes1", "toes2"))


HUMANOID = Body(
    name="humanoid",
    make_spec=_make_spec,
    root="root",
    forward=(0, 0, 1),
    up=(0, 1, 0),
    head="head",
    hands=("rhand", "lhand"),
    feet=("rfoot", "lfoot"),
    # The list that dm_control compares with motion capture.
    tracked_bodies=(
        "lhipjoint",
        "lfemur",
        "ltibia",
        "lfoot",
        "ltoes",
        "rhipjoint",
        "rfemur",
        "rtibia",
        "rfoot",
        "rtoes",
        "lowerback",
        "upperback",
        "thorax",
        "lowerneck",
        "upperneck",
        "head",
        "face",
        "lclavicle",
        "lhumerus",
        "lradius",
        "lwrist",
        "lhand",
        "lfingers",
        "lthumb",
        "rclavicle",
        "rhumerus",
        "rradius",
        "rwrist",
        "rhand",
        "rfingers",
        "rthumb",
    ),
    contact_geoms=(*_sole("r"), *_sole("l"), "rtibia", "ltibia", "rradius", "lradius"),
    touch={"sole_R": _sole("r"), "sole_L": _sole("l")},
    appendages=("rradius", "lradius", "rfoot", "lfoot", "head"),
    upright="tilt",
    egocentric_camera="egocentric",
    fallen_height=0.6,
    reach=1.6,
    standing=Standing.load(packaged("standing", "humanoid.json")),
    physics=PhysicsOptions(
        timestep=0.02 / 3,
        substeps=3,
        integrator="EULER",
        iterations=10,
        ls_iterations=10,
        lumped=True,
    ),
)
