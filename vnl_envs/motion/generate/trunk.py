"""Motion of the trunk, the head and the tail. Amplitudes and timing are chosen by eye, except for
the sagittal bending of the back.
"""

from __future__ import annotations

import mujoco
import numpy as np

from vnl_envs.bodies import BodyModel
from vnl_envs.motion.generate.footfalls import GIRDLE, place
from vnl_envs.motion.generate.journey import Course
from vnl_envs.motion.generate.momentum import Bounce
from vnl_envs.motion.generate.motion import TAU

HIP = np.array([-0.060, 0.0, 0.047])
"""Position of the model's hip joints in the standing pose, m. A rearing rat turns about them."""
FLEXED = 0.92
"""Phase of the deepest flexion of the back, cycles after the hind paws' touch-down: between the
last third of their swing and touch-down; the deepest extension, half a cycle later, is in the
first third (Schilling & Hackert 2006, J Exp Biol 209:3925, small mammals in gallop and half-bound).
"""
ARCHES = {"vertebra_1_extend": 0.4, "vertebra_4_extend": 0.6}
"""Joints that bend the back in the sagittal plane, and their parts of the bending; extension is
positive. The standing back is flexed at the first one, close to its limit."""


def trunk(motion: Course, time: float) -> dict[str, float]:
    """Deviations of the trunk from its carriage: root (m, rad), yaw and flexion of the pelvis
    against it, rad.
    """
    now = motion.now(time)
    angle = TAU * motion.phase(time)
    fore = angle - TAU * now.lag
    slow = TAU * 0.23 * time
    return {
        # Each girdle turns the side whose paw touches down forward.
        "yaw": -0.5 * now.spine * np.cos(fore),
        "bend": -now.spine * np.cos(angle) + 0.5 * now.spine * np.cos(fore),
        # The trunk is over the side that carries.
        "sway": now.sway * (np.sin(fore) if motion.moves else np.sin(slow)),
        "roll": -now.roll * np.sin(fore),
        "pitch": now.pitch * np.cos(2 * fore),
        "arch": now.arch * np.cos(angle - TAU * FLEXED),
        "height": now.lift
        - motion.dipping(time)
        - now.bob * np.cos(2 * fore)
        # Resting rats breathe at about 1.5 Hz.
        + now.breath * np.sin(TAU * 1.5 * time),
    }


def root_pose(
    motion: Course, standing: np.ndarray, bounce: Bounce | None, time: float
) -> np.ndarray:
    """Pose of the root (7,) in the world."""
    move = trunk(motion, time)
    forward, up, pitch = bounce.at(time) if bounce else np.zeros(3)
    frame = motion.path(motion.distance(time) + forward)
    rise = motion.now(time).carriage + motion.rearing(time)
    c, s = np.cos(rise), np.sin(rise)
    # Nose up is a negative turn about the left axis.
    arm = standing[:3] - HIP
    x, y, z = HIP + np.array([c * arm[0] - s * arm[2], 0.0, s * arm[0] + c * arm[2]])
    plane = place(frame, np.array([[x, y + move["sway"]]]))[0]
    quat = standing[3:7]
    turns = ((1, move["pitch"] + pitch - rise), (0, move["roll"]), (2, move["yaw"] + frame[2]))
    for axis, angle in turns:
        quat = rotate(axis, angle, quat)
    return np.concatenate([plane, [z + up + move["height"]], quat])


def rotate(axis: int, angle: float, quat: np.ndarray) -> np.ndarray:
    """Turn an orientation about a world axis."""
    turn, result = np.zeros(4), np.zeros(4)
    turn[0], turn[1 + axis] = np.cos(angle / 2), np.sin(angle / 2)
    mujoco.mju_mulQuat(result, turn, np.asarray(quat, float))
    return result


def head_target(motion: Course, time: float) -> np.ndarray:
    """Orientation of the head (3, 3): level and along the path, plus the head's own motion."""
    # A smooth start: the head's own motion begins from rest.
    ease = 1 - np.exp(-((time / 0.5) ** 2))
    now = motion.now(time)
    sweep = TAU * now.head_rate * time
    ahead = motion.path(motion.distance(time) + GIRDLE)[2]
    yaw = ahead + ease * now.head_yaw * np.sin(sweep)
    # The neck compensates half of the pitch of rearing.
    pitch = -ease * now.head_pitch * np.sin(1.5 * sweep) - 0.5 * motion.rearing(time)
    pitch -= now.gaze
    quat = rotate(2, yaw, rotate(1, pitch, np.array([1.0, 0.0, 0.0, 0.0])))
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quat)
    return matrix.reshape(3, 3)


def set_back(
    motion: Course, body: BodyModel, straight: np.ndarray, qpos: np.ndarray, time: float
) -> None:
    """Write lumbar and caudal bending of an instant into a pose.

    Args:
        motion: motion of the rat.
        body: the rat.
        straight: (nq,) pose with the back of the standing pose.
        qpos: (nq,) pose, changed in place.
        time: the instant, s.
    """
    curvature = motion.curvature(time)
    move = trunk(motion, time)
    for name, part in ARCHES.items():
        column = 7 + body.joint_names.index(name)
        qpos[column] = straight[column] - part * move["arch"]
    bend = move["bend"] - curvature * GIRDLE
    for name in ("vertebra_2_bend", "vertebra_5_bend"):
        qpos[7 + body.joint_names.index(name)] = bend / 2
    angle = TAU * motion.phase(time)
    tail = [i for i, n in enumerate(body.joint_names) if n.startswith("vertebra_C") and "bend" in n]
    for order, joint in enumerate(tail[:6]):
        # A wave travels to the tip. The axes of these joints point down, so left is positive.
        wave = 0.4 * motion.now(time).spine * np.sin(angle - 0.5 * order)
        qpos[7 + joint] = wave + np.clip(0.02 * curvature, -0.1, 0.1)
