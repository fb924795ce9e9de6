"""Find how a body stands still and write it to `vnl_envs/data/standing/<body>.json`.

    python assets/make_standing.py rodent

The servos are given the constant controls of a nominal pose and the body is simulated with a fine
step until it rests. The resting state, made left-right symmetric, is the standing pose; the nominal
pose is what its servos ask for. The file has the fields of `vnl_envs.bodies.body.Standing`.
`make_cocontraction.py` adds the muscles' one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace

import mujoco
import numpy as np

from vnl_envs.bodies import RODENT, Body, BodyModel, PhysicsOptions
from vnl_envs.bodies.model import lowest_point, servo_control
from vnl_envs.motion.kinematics import forward_kinematics
from vnl_envs.scenes.floor import Floor
from vnl_envs.scenes.world import World, build_world
from vnl_envs.utils.resources import packaged

FOLDER = packaged("standing")

FINE = PhysicsOptions(timestep=0.001, substeps=20, cone="ELLIPTIC", tolerance=1e-10)
"""Much finer than any task's physics, so that the pose does not depend on the step."""

SETTLE_TIME = 20.0
"""Simulated time between looks whether the body rests, s."""

PATIENCE = 10
"""Looks before giving up. The legs rest after one; the tail, one weak tendon over 24 joints, creeps
for about a minute."""

REST_SPEED = 1e-3
"""A body rests when no joint is faster than this, rad/s."""

DIGITS = 6
"""Decimals of the written numbers, m and rad."""

# Nominal poses, rad; the left side's names stand for both sides, joints not named are at 0 or at
# the limit nearest to it. All chosen by eye.
NOMINAL: dict[str, dict[str, float]] = {
    "rodent": {
        # Mouth shut, head level.
        "mandible": -0.29,
        "atlas": 0.15,
        # The back is arched as in a real rat, the legs follow it so that the soles lie flat.
        "vertebra_1_extend": -0.20,
        "vertebra_4_extend": -0.20,
        "hip_L_extend": -0.20,
        "knee_L": -0.10,
        "ankle_L": 0.25,
        "shoulder_L": -0.10,
        "elbow_L": 0.10,
        # The tail is lifted as far as its servo goes without being at its end.
        **{f"vertebra_C{i}_extend": 0.24 for i in range(1, 7)},
    },
}
# Angles of the written state that are not the resting ones, rad. The tail has no contacts in the
# fast physics and rests inside the ground; a start holds it above, from where it sinks.
LIFTED: dict[str, dict[str, float]] = {
    "rodent": {f"vertebra_C{i}_extend": 0.1 for i in (*range(1, 7), *range(7, 28, 4))}
}
BODIES = {RODENT.name: RODENT}


def nominal_pose(body: BodyModel, named: Mapping[str, float]) -> np.ndarray:
    """Joint angles (nj,) of a nominal pose, rad; left names are copied to the right."""
    pose = np.clip(0.0, *body.joint_range.T)
    for name, angle in named.items():
        for each in {name, mirror_name(name)}:
            pose[body.joint_names.index(each)] = angle
    return pose


def mirror_name(name: str) -> str:
    """The joint of the other side; a joint of the midline is its own mirror image."""
    for a, b in (("_L", "_R"), ("_R", "_L")):
        if name.endswith(a) or a + "_" in name:
            return name.replace(a, b)
    return name


def symmetrise(body: BodyModel, qpos: np.ndarray) -> np.ndarray:
    """A pose (nq,) with the average of both sides, upright in roll, heading +x from the origin.

    Soft limits give way by a milliradian under load; joints are put back inside them.
    """
    result = qpos.copy()
    result[:2] = 0.0
    pitch = np.arctan2(qpos[5], qpos[3])
    result[3:7] = np.cos(pitch), 0.0, np.sin(pitch), 0.0
    for i, name in enumerate(body.joint_names):
        if name.endswith(("_bend", "_twist")):
            result[7 + i] = 0.0
        else:
            other = body.joint_names.index(mirror_name(name))
            result[7 + i] = (qpos[7 + i] + qpos[7 + other]) / 2
    result[7:] = np.clip(result[7:], *body.joint_range.T)
    return result


def settle(world: World, qpos: np.ndarray, control: np.ndarray) -> np.ndarray:
    """The pose (nq,) in which a body that starts at `qpos` rests under constant controls (nu,).

    Raises:
        RuntimeError: it does not come to rest.
    """
    data = mujoco.MjData(world.model)
    data.qpos[:], data.ctrl[:], data.act[:] = qpos, control, control
    for _ in range(PATIENCE):
        mujoco.mj_step(world.model, data, nstep=round(SETTLE_TIME / world.model.opt.timestep))
        if np.abs(data.qvel[6:]).max() < REST_SPEED:
            return data.qpos.copy()
    raise RuntimeError(f"not at rest after {data.time:.0f} s: {np.abs(data.qvel[6:]).max()} rad/s")


def stand(body: Body, named: Mapping[str, float]) -> dict[str, object]:
    """Fields of `Standing` of a body whose servos ask for a nominal pose."""
    world = build_world(Floor(), [_with_physics(body)])
    view = world.body
    nominal = nominal_pose(view, named)
    pose = np.concatenate([[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], nominal])
    kinematics = forward_kinematics(view, pose[None])
    pose[2] = -lowest_point(view, kinematics["geom_xpos"], kinematics["geom_xmat"])[0]
    control = servo_control(view, kinematics["actuator_length"])[0]
    # Twice: the two sides of the first rest differ by their way there, those of the second do not.
    resting = symmetrise(view, settle(world, pose, control))
    again = settle(world, resting, control)
    print(
        f"the symmetric pose moves by {np.abs(again - resting).max():.1e} (m, rad) until it rests"
    )
    resting = symmetrise(view, again)
    for name, angle in LIFTED[body.name].items():
        resting[7 + view.joint_names.index(name)] = angle
    default = np.clip(0.0, *view.joint_range.T)
    joints = _named(view, resting[7:], default)
    start = np.array([joints.get(n, d) for n, d in zip(view.joint_names, default, strict=True)])
    return {
        "height": round(float(resting[2]), DIGITS),
        "quat": [round(float(x), 9) for x in resting[3:7]],
        "joints": joints,
        "targets": _named(view, nominal, start),
    }


def _named(body: BodyModel, pose: np.ndarray, default: np.ndarray) -> dict[str, float]:
    """Joint angles that differ from a default, by name, rounded."""
    rounded = np.round(pose, DIGITS)
    differ = np.abs(rounded - default) > 10.0**-DIGITS
    return {n: float(rounded[i]) for i, n in enumerate(body.joint_names) if differ[i]}


def _with_physics(body: Body) -> Body:
    """The body with the fine solver settings, without the standing pose that is sought."""
    return replace(body, physics=FINE, standing=None)


def main() -> None:
    """Write the standing poses of the bodies named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("body", choices=sorted(NOMINAL))
    body = BODIES[parser.parse_args().body]
    path = FOLDER / f"{body.name}.json"
    path.write_text(json.dumps(stand(body, NOMINAL[body.name]), indent=2) + "\n")
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
