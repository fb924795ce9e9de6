"""Quiet standing: clips made from one frame of a motion, and the body's standing pose."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import mujoco
import numpy as np
from scipy.optimize import lsq_linear
from scipy.spatial.transform import Rotation

from humanoid.retarget import Fit, body_targets, clearance
from humanoid.source import (
    SKELETON,
    SOURCE_ANKLE_HEIGHT,
    SOURCE_LEG,
    Motion,
    heading,
    load_motion,
)
from humanoid.timing import from_origin, sway
from vnl_envs.bodies import HUMANOID
from vnl_envs.bodies.model import servo_control
from vnl_envs.motion.clip import RATE
from vnl_envs.motion.fitting.feet import FootPath
from vnl_envs.motion.fitting.humanoid_ik import Humanoid, Solver, Targets


@dataclass(frozen=True)
class StandRecipe:
    """How a clip of quiet standing is made from one frame of a motion.

    Attributes:
        file: below `pybullet_data/data/motions`.
        frame: a frame at which the source stands still.
        split: "train" or "test".
        seconds: duration.
        drop, widen: as in `Fit`.
        gaze: amplitude of the head's yaw, rad.
    """

    file: str
    frame: int
    split: str
    seconds: float = 6.0
    drop: float = 0.03
    widen: float = 0.02
    gaze: float = 0.2


# Of the gaze, Hz.
GAZE_RATE = 0.16


def still(motion: Motion, frame: int, frames: int) -> Motion:
    """A frame of a motion held, heading along +x."""
    held = motion[np.full(frames, frame % len(motion))]
    return from_origin(held, float(motion.yaw[frame]))


def stand_targets(
    human: Humanoid, motion: Motion, drop: float, widen: float, shift: np.ndarray
) -> Targets:
    """Targets of a body that stands with both soles flat.

    Args:
        human: the target body.
        motion: a motion held, see `still`.
        drop, widen: as in `Fit`.
        shift: (T, 2) of the centre of mass from the middle of the feet, m.
    """
    scale = human.leg / SOURCE_LEG
    positions, rotations = motion.forward()
    feet, middles = {}, []
    for side in "rl":
        ankle = positions[side + "ankle"] * scale
        ankle[:, 1] += widen if side == "l" else -widen
        ankle[:, 2] = human.ankle_height[side]
        yaw = np.outer(heading(rotations[side + "ankle"]), [0, 0, 1])
        sole = Rotation.from_rotvec(yaw)
        feet[side] = FootPath(ankle, sole, np.ones((len(motion), 7), bool))
        middles.append(ankle + sole.apply(human.sole[side][:4].mean(axis=0)))
    targets = body_targets(human, motion, feet, Fit(drop, widen))
    return replace(targets, com=np.mean(middles, axis=0)[:, :2] + shift)


def make_stand(human: Humanoid, recipe: StandRecipe) -> np.ndarray:
    """Poses (T, nq) of a clip of quiet standing."""
    motion, _ = load_motion(recipe.file)
    frames = int(recipe.seconds * RATE)
    held = still(motion, recipe.frame, frames)
    turn = recipe.gaze * np.sin(2 * np.pi * GAZE_RATE * np.arange(frames) / RATE)
    gaze = Rotation.from_rotvec(np.outer(turn, [0, 0, 1]))
    held.rotation["neck"] = held.rotation["neck"] * gaze
    targets = stand_targets(human, held, recipe.drop, recipe.widen, sway(frames))
    qpos = Solver(human).solve(targets)
    qpos[:, :2] -= qpos[0, :2]
    return qpos


STANDING_DROP, STANDING_WIDEN, STANDING_ELBOW = 0.02, 0.01, 0.25
# How far above the ground the lowest point of the standing pose is, m.
STANDING_GAP = 1e-4
DECIMALS = 6


def standing_qpos(human: Humanoid) -> np.ndarray:
    """A relaxed symmetric stance, (nq,): arms hanging, knees a little bent, soles flat.

    It is the source's rest pose, with `STANDING_ELBOW` (rad) of flexion in the elbows.
    """
    rotation = {name: Rotation.identity(1) for name in SKELETON}
    for side in "rl":
        rotation[side + "elbow"] = Rotation.from_rotvec([[0, -STANDING_ELBOW, 0]])
    height = SOURCE_LEG + SOURCE_ANKLE_HEIGHT
    motion = Motion(np.array([[0.0, 0.0, height]]), rotation)
    targets = stand_targets(human, motion, STANDING_DROP, STANDING_WIDEN, np.zeros((1, 2)))
    qpos = np.round(Solver(human).solve(targets)[0], DECIMALS)
    qpos[:2] = 0
    # Upright, heading along +x.
    qpos[3:7] = human.facing.as_quat(scalar_first=True)
    qpos[2] += STANDING_GAP - clearance(human, qpos[None])[0]
    qpos[2] = round(qpos[2], DECIMALS)
    return qpos


def static_targets(human: Humanoid, qpos: np.ndarray) -> np.ndarray:
    """Servo targets (nq - 7,), rad, whose torques balance gravity in a stance.

    Inverse dynamics without contacts give the forces that a resting body needs. Ground forces at
    the soles' corners, in their friction pyramids, supply those on the root; of all that do, the
    ones with the least joint torques. The servos supply the rest: torque = stiffness x error.
    """
    model, data = human.model, mujoco.MjData(human.model)
    data.qpos[:] = qpos
    flags = model.opt.disableflags
    model.opt.disableflags = flags | int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
    mujoco.mj_inverse(model, data)
    model.opt.disableflags = flags
    need = data.qfrc_inverse.copy()
    ground = np.array(_ground_directions(human, data)).T
    size = ground.shape[1]
    # The root's six rows are met all but exactly; torques and forces are kept small.
    rows = np.vstack([1e3 * ground[:6], 0.02 * ground[6:], 0.1 * np.eye(size)])
    side = np.concatenate([1e3 * need[:6], 0.02 * need[6:], np.zeros(size)])
    force = lsq_linear(rows, side, bounds=(0, np.inf)).x
    torque = (need - ground @ force)[6:]
    joints = model.actuator_trnid[:, 0]
    stiffness = np.zeros(model.nv)
    stiffness[model.jnt_dofadr[joints]] = -model.actuator_biasprm[:, 1]
    return np.clip(qpos[7:] + torque / stiffness[6:], human.lower, human.upper)


def _ground_directions(human: Humanoid, data: mujoco.MjData, friction: float = 0.6) -> list:
    """Generalised forces (nv,) of the edges of the friction pyramids under the soles' corners."""
    columns = []
    for side in "rl":
        body = data.body(f"{HUMANOID.prefix}{side}foot")
        sole = Rotation.from_matrix(body.xmat.reshape(3, 3)) * human.flat[side].inv()
        for point in human.sole[side][:4]:
            jacobian = np.zeros((3, human.model.nv))
            spot = body.xpos + sole.apply(point) - [0, 0, human.radius]
            mujoco.mj_jac(human.model, data, jacobian, None, spot, body.id)
            for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                columns.append(jacobian.T @ [friction * x, friction * y, 1])
    return columns


def balance(human: Humanoid, qpos: np.ndarray, targets: np.ndarray, most: int = 1000) -> np.ndarray:
    """Servo targets with the ankles' changed so that the stance lasts longest.

    The stance is an inverted pendulum on ankles softer than its weight, so it falls forwards or
    backwards in the end; bisection finds the ankle target between the two.
    """
    ankles = [human.joint(side + "footrx") - 7 for side in "rl"]
    low, high, best, lasted = -0.03, 0.03, targets, 0
    for _ in range(30):
        middle = (low + high) / 2
        trial = targets.copy()
        trial[ankles] += middle
        trial = np.round(trial, 2 * DECIMALS)
        steps, forward = stand(human, qpos, trial, most)
        if steps > lasted:
            best, lasted = trial, steps
        low, high = (middle, high) if forward else (low, middle)
    return best


def stand(human: Humanoid, qpos: np.ndarray, targets: np.ndarray, most: int) -> tuple[int, bool]:
    """Control steps until a stance falls, at most `most`, and whether it falls forwards."""
    data = mujoco.MjData(human.model)
    data.qpos[:] = qpos
    rows = human.model.jnt_qposadr[human.model.actuator_trnid[:, 0]] - 7
    data.ctrl[:] = data.act[:] = servo_control(human.body, targets[rows])
    steps = 0
    while steps < most and data.qpos[2] >= HUMANOID.fallen_height:
        mujoco.mj_step(human.model, data, human.world.substeps)
        steps += 1
    return steps, bool(data.qpos[0] > qpos[0])


def standing_json(human: Humanoid) -> str:
    """The standing pose as `vnl_envs.bodies.body.Standing` reads it."""
    qpos = standing_qpos(human)
    targets = balance(human, qpos, static_targets(human, qpos))
    names = human.body.joint_names
    joints = dict(zip(names, qpos[7:].tolist(), strict=True))
    values = {
        "height": qpos[2],
        "quat": qpos[3:7].tolist(),
        "joints": {name: angle for name, angle in joints.items() if angle != 0},
        "targets": {
            name: target
            for name, target in zip(names, targets.tolist(), strict=True)
            if target != joints[name]
        },
    }
    return json.dumps(values, indent=2) + "\n"
