"""Poses of a motion: paws planted, trunk carried, swings smooth and clear of the ground."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from vnl_envs.bodies import BodyModel
from vnl_envs.motion.clip import RATE
from vnl_envs.motion.generate.footfalls import SETBACK, grip, paw_target, place
from vnl_envs.motion.generate.ik import Paw, Solver, Tail, leg_joints, neck_joints, orientation_task
from vnl_envs.motion.generate.journey import Course
from vnl_envs.motion.generate.momentum import EDGE, ROUNDS, STRIDES, Bounce
from vnl_envs.motion.generate.motion import LEGS, SWING, Motion
from vnl_envs.motion.generate.trunk import head_target, root_pose, rotate, set_back

PADDING = 15
"""Frames made before and after a clip, so that its ends are as smooth as its middle."""
TUCKED = {"shoulder": 0.6, "elbow": -0.8, "wrist": -0.25}
"""Fore limbs of a rearing rat, held before the chest, rad. Chosen by eye."""
LEAST_CLEARANCE = 0.8
"""Fraction of the planned height that a swinging paw keeps after smoothing. Chosen by eye."""


def generate(motion: Course, body: BodyModel) -> np.ndarray:
    """Poses (T, nq) of a motion, starting at the origin and heading along +x."""
    rat = Rat(body, motion)
    frames = round(motion.seconds * RATE)
    times = np.arange(-PADDING, frames + PADDING) / RATE
    bounce = None
    if isinstance(motion, Motion) and motion.runs:
        bounce = Bounce.first(motion, rat.arms())
        few = np.arange(-EDGE, STRIDES * motion.cycle * RATE + EDGE) / RATE
        places = {leg: rat.way(leg, few) for leg in LEGS}
        for _ in range(ROUNDS):
            bounce = bounce.improved(body, few, rat.poses(few, bounce), places)
    return to_origin(rat.poses(times, bounce)[PADDING:-PADDING])


class Rat:
    """Solver for the poses of a motion.

    Args:
        body: the rat.
        motion: motion of the rat.
    """

    def __init__(self, body: BodyModel, motion: Course) -> None:
        self.body, self.motion = body, motion
        self.standing = body.standing_qpos.copy()
        self.standing[:2] = 0.0
        self.tail = Tail(body, self.standing)
        self.joints = [name for leg in LEGS for name in leg_joints(leg)] + neck_joints(body)
        self.paws = {leg: Paw(body, leg) for leg in LEGS}
        data = Solver(body, self.joints, self.standing, stiffness=1.0).forward(self.standing)
        self.com = float(data.subtree_com[body.bodies.start, 0])
        self.home = {leg: paw.points(data) for leg, paw in self.paws.items()}
        for leg in LEGS:
            ahead = 1 if leg in ("hind_L", "fore_R") else -1
            self.home[leg][:, 0] += ahead * motion.stagger

    def arms(self) -> dict[str, float]:
        """Leg -> distance of its paw in mid-stance in front of the centre of mass, m."""
        return {
            leg: home[:, 0].mean() - SETBACK[leg[:4]] - self.com for leg, home in self.home.items()
        }

    def way(self, leg: str, times: np.ndarray) -> np.ndarray:
        """The x coordinate of a paw's target at each time, (T,), m."""
        return np.array(
            [paw_target(self.motion, leg, self.home[leg], t)[0][:, 0].mean() for t in times]
        )

    def posture(self, time: float) -> np.ndarray:
        """The pose (nq,) that the limbs prefer."""
        pose = self.standing.copy()
        tucked = self.motion.tucking(time)
        if tucked:
            for joint, angle in TUCKED.items():
                for side in "LR":
                    column = 7 + self.body.joint_names.index(f"{joint}_{side}")
                    pose[column] += tucked * (angle - pose[column])
        return pose

    def poses(self, times: np.ndarray, bounce: Bounce | None) -> np.ndarray:
        """Poses (T, nq) at the times."""
        motion = self.motion
        solver = Solver(self.body, self.joints, self.standing, stiffness=1.0)
        pose, poses = self.standing.copy(), []
        for time in times:
            solver.neutral = self.posture(time)[7 + solver.index]
            pose[:7] = root_pose(motion, self.standing, bounce, time)
            set_back(motion, self.body, self.standing, pose, time)
            head = head_target(motion, time)
            tasks = [orientation_task(self.body, "skull", head, weight=20.0)]
            for leg, paw in self.paws.items():
                points, height = paw_target(motion, leg, self.home[leg], time)
                tasks.append(paw.task(points, height, grip(motion, leg, time)))
            pose = self.tail.place(solver.solve(pose, tasks))
            poses.append(pose.copy())
        smooth = smooth_swings(motion, self.body, times, np.array(poses))
        for pose, time in zip(smooth, times, strict=True):
            clear_swing(motion, solver, self.paws, pose, time)
        return smooth


def clear_swing(
    motion: Course, solver: Solver, paws: dict[str, Paw], pose: np.ndarray, time: float
) -> None:
    """Lift the swinging paws of a pose just clear of the ground, in place."""
    points = np.zeros((3, 2))
    tasks = [
        paw.clear(LEAST_CLEARANCE * paw_target(motion, leg, points, time)[1])
        for leg, paw in paws.items()
        if motion.moves and not motion.carries(leg, time)
    ]
    if tasks:
        solver.neutral = pose[7 + solver.index].copy()
        pose[:] = solver.solve(pose, tasks)


def smooth_swings(
    motion: Course, body: BodyModel, times: np.ndarray, poses: np.ndarray
) -> np.ndarray:
    """Replace swings by splines in joint space through stance and the middle of each swing.

    Near the ends of its range a limb can reach a point in two ways, and inverse kinematics may jump
    between them from frame to frame. Splines avoid this jump.
    """
    poses = poses.copy()
    low, high = body.joint_range.T
    for leg in LEGS:
        stance = np.array([motion.carries(leg, t) for t in times])
        if stance.all() or not motion.moves:
            continue
        swing = np.array([motion.stride(leg, t)[1] for t in times])
        near = np.abs(swing[:, None] - motion.keys).min(axis=1) <= 0.5 / (RATE * SWING)
        keep = stance | near
        columns = [7 + i for i, n in enumerate(body.joint_names) if n in leg_joints(leg)]
        spline = CubicSpline(times[keep], poses[keep][:, columns])
        rows = [c - 7 for c in columns]
        margin = Solver.MARGIN / 5
        inside = np.clip(spline(times[~keep]), low[rows] + margin, high[rows] - margin)
        poses[np.ix_(~keep, columns)] = inside
    return poses


def to_origin(poses: np.ndarray) -> np.ndarray:
    """Move and turn a sequence (T, nq) so that it starts at x = y = 0, heading along +x."""
    poses = poses.copy()
    w, x, y, z = poses[0, 3:7]
    heading = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    frame = np.array([0.0, 0.0, -heading])
    poses[:, :2] = place(frame, poses[:, :2] - poses[0, :2])
    for pose in poses:
        pose[3:7] = rotate(2, -heading, pose[3:7])
    return poses
