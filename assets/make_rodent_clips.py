"""Make the rat clips that ship with the project: `assets/clips/rodent.h5`.

    python assets/make_rodent_clips.py

No recording of a rat may be shipped freely, so the gaits are generated. Timing follows published
measurements; a planner places the paws on the ground; inverse kinematics finds the joints; the
clips are checked against limits and ground as they are written. Nothing is random.

What is taken from the literature (from abstracts and figure captions):

- Górska et al. 1999, Acta Neurobiol Exp 59:131-144, doi 10.55782/ane-1999-1304 (intact rats
  overground): a step cycle lasts 685 ms at 10 cm/s and 215 ms at 78 cm/s; left and right limbs of
  a girdle are half a cycle apart; the duty factor falls below 0.5 as cycles shorten.
- Hruska et al. 1979, "Quantitative aspects of normal locomotion in rats", Life Sci 25:171
  (20-80 cm/s): walking is a lateral sequence with diagonal couplets; stance shortens with speed,
  swing does not; all four feet have the same timing. (Górska et al. call the sequence diagonal;
  both find diagonal couplets. The generator follows Hruska et al.)
- Gillis & Biewener 2001, J Exp Biol 204:2717, fig. 1: swing duration is nearly constant over a
  large range of speeds.
- Bonnan et al. 2016, PLoS ONE 11:e0149377: rats walk with crouched forelimbs, elbows adducted and
  pointing back, hands pointing forward. (Used to judge the pictures.)

Everything else (amplitudes of the trunk's motion, paw clearance, head and tail carriage, breathing)
is chosen by eye and says so where it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import mujoco
import numpy as np
from scipy.interpolate import CubicSpline

from vnl_envs.bodies import RODENT, BodyModel
from vnl_envs.bodies.body import Standing
from vnl_envs.motion.clip import RATE, Clip, write_clips
from vnl_envs.motion.kinematics import derive_reference
from vnl_envs.scenes.floor import Floor
from vnl_envs.scenes.world import build_world

ASSETS = Path(__file__).parent
SOURCE = "vnl_envs gait generator"
LICENCE = "Apache-2.0"
FRAMES = 250
PADDING = 15
"""Frames made before and after a clip, so that its ends are as smooth as its middle."""

TAU = 2 * np.pi
LEGS = ("hind_L", "fore_L", "hind_R", "fore_R")

# Górska et al. 1999: cycle duration at two speeds, joined by a power law.
SLOW_SPEED, SLOW_CYCLE = 0.10, 0.685
FAST_SPEED, FAST_CYCLE = 0.78, 0.215
SWING = 0.13
"""Swing duration, s. Constant (Hruska et al. 1979, Gillis & Biewener 2001); this value puts the
duty factor at 0.40 in the shortest and 0.81 in the longest cycles of Górska et al. 1999, where it
crosses 0.5. The value itself is chosen, not measured."""

# Chosen by eye from here on.
CLEARANCE = {"hind": 0.013, "fore": 0.013}
"""Height of the toes in mid-swing, m."""
LEAST_CLEARANCE = 0.5
"""Fraction of the planned height that a swinging paw keeps after smoothing."""
SETBACK = {"hind": 0.015, "fore": 0.006}
"""How far behind its standing place a walking paw is in mid-stance, m, so that the hind paw swings
around the point below the hip."""
GIRDLE = 0.057
"""Distance of the pelvis behind the root along the path, m (the model's)."""
HIP = np.array([-0.060, 0.0, 0.047])
"""The hip joints in the standing pose, m (the model's): a rearing rat turns about them."""
TAIL_HEIGHT = 0.008
"""Height of the level part of the tail, m."""


@dataclass(frozen=True)
class Motion:
    """Parameters of one clip. Amplitudes are zero to peak.

    Attributes:
        name, label, split: as in `Clip`.
        speed: along the path, m/s; 0 stands.
        turn: rate of heading, rad/s, left positive.
        lag: of a fore paw's touch-down behind the hind paw's of its side, cycles. Between 0.25
            and 0.5 the sequence is lateral with diagonal couplets; 0.5 is a trot.
        start: phase of the gait in the first frame, cycles.
        lift: height of the trunk over its standing height, m.
        spine: lateral bend of the back, rad. pelvis and shoulders follow their own hind and fore
            paws.
        sway, bob: sideways and vertical motion of the trunk, m.
        roll, pitch: of the trunk, rad.
        head_yaw, head_pitch: of the head relative to level and straight ahead, rad.
        head_rate: of the head's sweep from side to side, Hz; nods are 1.5 times as fast.
        breath: vertical motion of breathing, m.
        rear: by how much the trunk is raised on the hind legs in the middle of the clip, rad.
    """

    name: str
    label: str
    split: str
    speed: float = 0.0
    turn: float = 0.0
    lag: float = 0.375
    start: float = 0.0
    lift: float = 0.0
    spine: float = 0.0
    sway: float = 0.0
    bob: float = 0.0
    roll: float = 0.0
    pitch: float = 0.0
    head_yaw: float = 0.0
    head_pitch: float = 0.0
    head_rate: float = 0.4
    breath: float = 0.0
    rear: float = 0.0

    @property
    def cycle(self) -> float:
        """Stride duration, s (Górska et al. 1999)."""
        power = np.log(SLOW_CYCLE / FAST_CYCLE) / np.log(SLOW_SPEED / FAST_SPEED)
        return SLOW_CYCLE * (self.speed / SLOW_SPEED) ** power if self.speed else 1.0

    @property
    def duty(self) -> float:
        """Fraction of the cycle that a paw is on the ground."""
        return 1 - SWING / self.cycle if self.speed else 1.0


_STEP = {"lift": -0.005, "spine": 0.12, "sway": 0.002, "bob": 0.001, "roll": 0.03, "pitch": 0.015}
_QUIET = {"breath": 0.0003, "sway": 0.0006}

MOTIONS = (
    Motion("stand", "stand", "train", head_yaw=0.03, head_pitch=0.03, head_rate=0.3, **_QUIET),
    Motion("walk_slow", "walk", "test", speed=0.13, start=0.3, **_STEP),
    Motion("walk", "walk", "train", speed=0.25, **_STEP),
    Motion("turn_left", "turn", "train", speed=0.22, turn=0.7, **_STEP),
    Motion("turn_right", "turn", "test", speed=0.17, turn=-0.55, start=0.6, **_STEP),
    Motion("head_scan", "head_scan", "train", head_yaw=0.6, head_pitch=0.3, **_QUIET),
    Motion("trot", "trot", "train", speed=0.45, lag=0.5, **_STEP),
    Motion("rear", "rear", "train", rear=0.9, head_yaw=0.2, head_rate=0.3, **_QUIET),
)


# Path and footfalls ------------------------------------------------------------------------------


def path_frame(motion: Motion, distance: float) -> np.ndarray:
    """(x, y, heading) at a distance along the path: a straight line or a circle."""
    if motion.turn == 0:
        return np.array([distance, 0.0, 0.0])
    radius = motion.speed / motion.turn
    heading = distance / radius
    return np.array([radius * np.sin(heading), radius * (1 - np.cos(heading)), heading])


def place(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (n, 2) given in a path frame, in the world."""
    c, s = np.cos(frame[2]), np.sin(frame[2])
    return frame[:2] + points @ np.array([[c, s], [-s, c]])


def offset(motion: Motion, leg: str) -> float:
    """Phase of a leg's touch-down, cycles."""
    return (0.5 if leg.endswith("R") else 0.0) + (motion.lag if leg.startswith("fore") else 0.0)


def phase(motion: Motion, time: float) -> float:
    """Phase of the gait, cycles; 0 at the touch-down of the left hind paw."""
    return motion.start + time / motion.cycle


def foothold(motion: Motion, leg: str, home: np.ndarray, step: int) -> np.ndarray:
    """Where the points (n, 2) of a paw are during its n-th stance.

    In mid-stance the paw is at its home in the frame of its girdle.
    """
    middle = (step + offset(motion, leg) + motion.duty / 2 - motion.start) * motion.cycle
    behind = GIRDLE if leg.startswith("hind") else 0.0
    setback = SETBACK[leg[:4]] if motion.speed else 0.0
    frame = path_frame(motion, motion.speed * middle - behind)
    return place(frame, home + np.array([behind - setback, 0.0]))


def paw_target(motion: Motion, leg: str, home: np.ndarray, time: float) -> tuple[np.ndarray, float]:
    """Points (n, 2) of a paw in the world and their height over the ground, m."""
    if motion.speed == 0:
        return home, 0.0
    step, progress = divmod(phase(motion, time) - offset(motion, leg), 1.0)
    here = foothold(motion, leg, home, int(step))
    if progress < motion.duty:
        return here, 0.0
    u = (progress - motion.duty) / (1 - motion.duty)
    there = foothold(motion, leg, home, int(step) + 1)
    # Quintic: at rest, and not accelerated, at both ends.
    forward = u**3 * (10 - 15 * u + 6 * u**2)
    up = 16 * u**2 * (1 - u) ** 2
    return here + forward * (there - here), CLEARANCE[leg[:4]] * up


def carries(motion: Motion, leg: str, time: float) -> bool:
    """Whether a paw should be on the ground."""
    if leg.startswith("fore") and rearing(motion, time) > 0:
        return False
    return motion.speed == 0 or (phase(motion, time) - offset(motion, leg)) % 1.0 < motion.duty


def grip(motion: Motion, leg: str, time: float) -> float:
    """Weight of a paw's target: the fore paws of a rearing rat leave the ground freely."""
    if leg.startswith("hind"):
        return 1.0
    return float(np.exp(-((rearing(motion, time) / 0.04) ** 2)))


# Trunk, head and tail ----------------------------------------------------------------------------


def trunk(motion: Motion, time: float) -> dict[str, float]:
    """Deviations of the trunk from its carriage: root (m, rad) and pelvis yaw against it, rad."""
    angle = TAU * phase(motion, time)
    fore = angle - TAU * motion.lag
    slow = TAU * 0.23 * time
    return {
        # Each girdle turns so as to bring forward the side whose paw touches down.
        "yaw": -0.5 * motion.spine * np.cos(fore),
        "bend": -motion.spine * np.cos(angle) + 0.5 * motion.spine * np.cos(fore),
        # The trunk is over the side that carries.
        "sway": motion.sway * (np.sin(fore) if motion.speed else np.sin(slow)),
        "roll": -motion.roll * np.sin(fore),
        "pitch": motion.pitch * np.cos(2 * fore),
        "height": motion.lift
        - motion.bob * np.cos(2 * fore)
        # Resting rats breathe at about 1.5 Hz.
        + motion.breath * np.sin(TAU * 1.5 * time),
    }


def rearing(motion: Motion, time: float) -> float:
    """By how much the trunk is raised, rad: still for 0.5 s, up in 1.2 s, down again at the end."""
    duration = FRAMES / RATE
    u = np.clip((min(time, duration - time) - 0.5) / 1.2, 0.0, 1.0)
    return motion.rear * u**3 * (10 - 15 * u + 6 * u**2)


def root_pose(motion: Motion, standing: np.ndarray, time: float) -> np.ndarray:
    """Pose of the root (7,) in the world."""
    frame, move = path_frame(motion, motion.speed * time), trunk(motion, time)
    rise = rearing(motion, time)
    c, s = np.cos(rise), np.sin(rise)
    # Nose up is a negative turn about the left axis.
    arm = standing[:3] - HIP
    x, y, z = HIP + np.array([c * arm[0] - s * arm[2], 0.0, s * arm[0] + c * arm[2]])
    plane = place(frame, np.array([[x, y + move["sway"]]]))[0]
    quat = standing[3:7]
    turns = ((1, move["pitch"] - rise), (0, move["roll"]), (2, move["yaw"] + frame[2]))
    for axis, angle in turns:
        quat = rotate(axis, angle, quat)
    return np.concatenate([plane, [z + move["height"]], quat])


def rotate(axis: int, angle: float, quat: np.ndarray) -> np.ndarray:
    """Turn an orientation about a world axis."""
    turn, result = np.zeros(4), np.zeros(4)
    turn[0], turn[1 + axis] = np.cos(angle / 2), np.sin(angle / 2)
    mujoco.mju_mulQuat(result, turn, np.asarray(quat, float))
    return result


def head_target(motion: Motion, time: float) -> np.ndarray:
    """Orientation of the head (3, 3): level and along the path but for its own motion."""
    # A smooth start: the head's own motion begins from rest.
    ease = 1 - np.exp(-((time / 0.5) ** 2))
    sweep = TAU * motion.head_rate * time
    ahead = path_frame(motion, motion.speed * time + GIRDLE)[2]
    yaw = ahead + ease * motion.head_yaw * np.sin(sweep)
    # The neck takes back half of what rearing raises.
    pitch = -ease * motion.head_pitch * np.sin(1.5 * sweep) - 0.5 * rearing(motion, time)
    quat = rotate(2, yaw, rotate(1, pitch, np.array([1.0, 0.0, 0.0, 0.0])))
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quat)
    return matrix.reshape(3, 3)


def set_back(motion: Motion, body: BodyModel, qpos: np.ndarray, time: float) -> None:
    """Write lumbar and caudal bending of an instant into a pose."""
    curvature = motion.turn / motion.speed if motion.turn else 0.0
    bend = trunk(motion, time)["bend"] - curvature * GIRDLE
    for name in ("vertebra_2_bend", "vertebra_5_bend"):
        qpos[7 + body.joint_names.index(name)] = bend / 2
    angle = TAU * phase(motion, time)
    tail = [i for i, n in enumerate(body.joint_names) if n.startswith("vertebra_C") and "bend" in n]
    for order, joint in enumerate(tail[:6]):
        # A wave that runs to the tip; the axes of these joints point down, so left is positive.
        wave = 0.4 * motion.spine * np.sin(angle - 0.5 * order)
        qpos[7 + joint] = wave + np.clip(0.02 * curvature, -0.1, 0.1)


# Inverse kinematics ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Weighted residuals of a pose: `residual(data) -> (r (m,), jacobian (m, nv))`."""

    residual: Callable[[mujoco.MjData], tuple[np.ndarray, np.ndarray]]


class Solver:
    """Gauss-Newton inverse kinematics of some joints within their limits.

    Args:
        body: whose joints.
        joints: names of those that move.
        neutral: (nq,) the pose that is preferred where the tasks leave a choice.
        stiffness: weight of that preference, 1/rad.
    """

    MARGIN = 0.005
    """Kept from every limit, rad."""

    def __init__(
        self, body: BodyModel, joints: list[str], neutral: np.ndarray, stiffness: float
    ) -> None:
        self.model, self.data = body.model, mujoco.MjData(body.model)
        self.index = np.array([body.joint_names.index(name) for name in joints])
        low, high = body.joint_range[self.index].T
        margin = np.minimum(self.MARGIN, (high - low) / 10)
        self.low, self.high = low + margin, high - margin
        self.neutral = neutral[7 + self.index]
        self.stiffness = stiffness

    def forward(self, qpos: np.ndarray) -> mujoco.MjData:
        """Kinematics of a pose."""
        self.data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        return self.data

    def solve(self, qpos: np.ndarray, tasks: list[Task], iterations: int = 60) -> np.ndarray:
        """The pose (nq,) that fulfils tasks best, starting from `qpos`. Levenberg-Marquardt."""
        joints = np.clip(qpos[7 + self.index], self.low, self.high)
        r, jacobian = self._residuals(qpos, joints, tasks)
        damping = 1.0
        for _ in range(iterations):
            gradient = jacobian.T @ r
            # Joints at a limit that want to go beyond it stay there.
            free = ~(
                ((joints <= self.low) & (gradient > 0)) | ((joints >= self.high) & (gradient < 0))
            )
            active = jacobian[:, free]
            step = np.zeros(len(joints))
            hessian = active.T @ active + damping * np.eye(active.shape[1])
            step[free] = -np.linalg.solve(hessian, gradient[free])
            trial = np.clip(joints + step, self.low, self.high)
            new_r, new_jacobian = self._residuals(qpos, trial, tasks)
            if new_r @ new_r <= r @ r:
                moved = np.abs(trial - joints).max()
                joints, r, jacobian = trial, new_r, new_jacobian
                damping = max(damping / 5, 1e-3)
                if moved < 1e-6:
                    break
            else:
                damping *= 5
        return self._pose(qpos, joints)

    def _residuals(
        self, qpos: np.ndarray, joints: np.ndarray, tasks: list[Task]
    ) -> tuple[np.ndarray, np.ndarray]:
        data = self.forward(self._pose(qpos, joints))
        parts = [task.residual(data) for task in tasks]
        posture = self.stiffness * (joints - self.neutral)
        r = np.concatenate([*(part[0] for part in parts), posture])
        jacobian = np.concatenate([part[1] for part in parts])[:, 6 + self.index]
        return r, np.concatenate([jacobian, self.stiffness * np.eye(len(joints))])

    def _pose(self, qpos: np.ndarray, joints: np.ndarray) -> np.ndarray:
        pose = qpos.copy()
        pose[7 + self.index] = joints
        return pose


class Paw:
    """The parts of a paw that touch the ground.

    Args:
        body: the rat.
        leg: one of `LEGS`.
    """

    SMOOTH = 0.02
    SCALE = np.array([1e3, 3e3])
    """Weights of errors in the plane and in height, 1/m."""

    def __init__(self, body: BodyModel, leg: str) -> None:
        limb, side = leg.split("_")
        toe, sole = ("toe", "foot") if limb == "hind" else ("finger", "hand")
        names = [f"{toe}_{side}{i}_collision" for i in range(3)] + [f"{sole}_{side}_collision"]
        self.model = body.model
        rows, self.half, self.radius = body.capsules(*names)
        self.ids = rows + body.geoms.start
        self.body_ids = body.model.geom_bodyid[self.ids]

    def points(self, data: mujoco.MjData) -> np.ndarray:
        """Centres of the three toes in the plane, (3, 2)."""
        return data.geom_xpos[self.ids[:3], :2].copy()

    def lowest(self, data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
        """Points (4, 3) on the axes of the capsules (3 toes, sole) and the heights (4,) below, m.

        The point moves smoothly from end to end as a capsule tilts, so that the height is
        differentiable; it is at most `SMOOTH` times the half-length too low.
        """
        axis = data.geom_xmat[self.ids].reshape(-1, 3, 3)[:, :, 2]
        slope = np.sqrt(axis[:, 2] ** 2 + self.SMOOTH**2)
        end = data.geom_xpos[self.ids] - (axis[:, 2] / slope * self.half)[:, None] * axis
        return end, data.geom_xpos[self.ids, 2] - slope * self.half - self.radius

    def heights(self, data: mujoco.MjData) -> np.ndarray:
        """Height of the lowest point of each capsule, (4,), m."""
        axis_z = data.geom_xmat[self.ids].reshape(-1, 3, 3)[:, 2, 2]
        return data.geom_xpos[self.ids, 2] - np.abs(axis_z) * self.half - self.radius

    def task(self, target: np.ndarray, height: float, weight: float = 1.0) -> Task:
        """Toes at points (3, 2) of the plane and at a height; the sole not below it."""

        def residual(data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
            r, rows, jac = [], [], np.zeros((3, self.model.nv))
            for i in (0, 2):
                centre = data.geom_xpos[self.ids[i]]
                mujoco.mj_jac(self.model, data, jac, None, centre, self.body_ids[i])
                r.append(centre[:2] - target[i])
                rows.append(jac[:2].copy())
            error, slope = self._above(data, height)
            active = (np.arange(4) < 3) | (error < 0)
            plane, up = weight * self.SCALE
            r = [plane * np.concatenate(r), up * active * error]
            rows = [plane * np.concatenate(rows), up * active[:, None] * slope]
            return np.concatenate(r), np.concatenate(rows)

        return Task(residual)

    def clear(self, height: float) -> Task:
        """Toes and sole not below a height."""

        def residual(data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
            error, slope = self._above(data, height)
            below = self.SCALE[1] * (error < 0)
            return below * error, below[:, None] * slope

        return Task(residual)

    def _above(self, data: mujoco.MjData, height: float) -> tuple[np.ndarray, np.ndarray]:
        """Heights of the capsules over `height`, (4,), and their Jacobian (4, nv)."""
        points, z = self.lowest(data)
        jac, rows = np.zeros((3, self.model.nv)), np.zeros((4, self.model.nv))
        for i in range(4):
            mujoco.mj_jac(self.model, data, jac, None, points[i], self.body_ids[i])
            rows[i] = jac[2]
        return z - height, rows


def orientation_task(body: BodyModel, name: str, target: np.ndarray, weight: float) -> Task:
    """A body's orientation at a rotation matrix (3, 3); weight in 1/rad."""
    owner = body.model.body(body.body.prefix + name).id

    def residual(data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
        matrix = data.xmat[owner].reshape(3, 3)
        error = sum(np.cross(target[:, i], matrix[:, i]) for i in range(3)) / 2
        jac = np.zeros((3, body.model.nv))
        mujoco.mj_jacBody(body.model, data, None, jac, owner)
        return weight * error, weight * jac

    return Task(residual)


def height_task(body: BodyModel, name: str, height: float, weight: float) -> Task:
    """A body's origin at a height, m; weight in 1/m."""
    owner = body.model.body(body.body.prefix + name).id

    def residual(data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
        jac = np.zeros((3, body.model.nv))
        mujoco.mj_jacBody(body.model, data, jac, None, owner)
        return np.array([weight * (data.xpos[owner, 2] - height)]), weight * jac[2:]

    return Task(residual)


# Clips -------------------------------------------------------------------------------------------


class Tail:
    """Carries the tail above the ground: steeply down from its root, then level."""

    STIFFNESS = 0.3
    LEVEL = 6.0
    """Vertebrae over which the height falls by a factor of e."""

    def __init__(self, body: BodyModel, standing: np.ndarray) -> None:
        self.joints = [
            n for n in body.joint_names if n.startswith("vertebra_C") and n.endswith("extend")
        ]
        straight = standing.copy()
        straight[[7 + body.joint_names.index(n) for n in self.joints]] = 0.0
        self.solver = Solver(body, self.joints, straight, self.STIFFNESS)
        root = self.solver.forward(straight).body(f"{body.body.prefix}vertebra_C1").xpos[2]
        self.tasks = [
            height_task(
                body, f"vertebra_C{i}", TAIL_HEIGHT + root * np.exp(-i / self.LEVEL), weight=100.0
            )
            for i in range(4, 31, 2)
        ]

    def place(self, pose: np.ndarray) -> np.ndarray:
        """The pose (nq,) with the tail's vertical bending set."""
        return self.solver.solve(pose, self.tasks)


def neck_joints(body: BodyModel) -> list[str]:
    """Joints between trunk and head."""
    stems = ("vertebra_cervical", "vertebra_axis", "vertebra_atlant", "atlas")
    return [name for name in body.joint_names if name.startswith(stems)]


def generate(motion: Motion, body: BodyModel, frames: int = FRAMES) -> np.ndarray:
    """Poses (frames, nq) of a motion, starting at the origin and heading along +x."""
    standing = body.standing_qpos.copy()
    standing[:2] = 0.0
    tail = Tail(body, standing)
    joints = [name for leg in LEGS for name in leg_joints(leg)] + neck_joints(body)
    solver = Solver(body, joints, standing, stiffness=1.0)
    paws = {leg: Paw(body, leg) for leg in LEGS}
    data = solver.forward(standing)
    home = {leg: paw.points(data) for leg, paw in paws.items()}
    pose, poses = standing.copy(), []
    times = np.arange(-PADDING, frames + PADDING) / RATE
    for time in times:
        pose[:7] = root_pose(motion, standing, time)
        set_back(motion, body, pose, time)
        tasks = [orientation_task(body, "skull", head_target(motion, time), weight=20.0)]
        for leg, paw in paws.items():
            points, height = paw_target(motion, leg, home[leg], time)
            tasks.append(paw.task(points, height, grip(motion, leg, time)))
        pose = tail.place(solver.solve(pose, tasks))
        poses.append(pose.copy())
    poses = smooth_swings(motion, body, times, np.array(poses))
    for pose, time in zip(poses, times, strict=True):
        clear_swing(motion, solver, paws, pose, time)
    return to_origin(poses[PADDING:-PADDING])


def clear_swing(
    motion: Motion, solver: Solver, paws: dict[str, Paw], pose: np.ndarray, time: float
) -> None:
    """Lift the swinging paws of a pose by as little as keeps them clear of the ground, in place."""
    points = np.zeros((3, 2))
    tasks = [
        paw.clear(LEAST_CLEARANCE * paw_target(motion, leg, points, time)[1])
        for leg, paw in paws.items()
        if motion.speed and not carries(motion, leg, time)
    ]
    if tasks:
        solver.neutral = pose[7 + solver.index].copy()
        pose[:] = solver.solve(pose, tasks)


def smooth_swings(
    motion: Motion, body: BodyModel, times: np.ndarray, poses: np.ndarray
) -> np.ndarray:
    """Swings as splines in joint space through stance and the middle of each swing.

    Near the ends of its range a limb can reach a point in two ways; frame by frame, inverse
    kinematics jumps between them, which no ground contact excuses in the air.
    """
    poses = poses.copy()
    low, high = body.joint_range.T
    for leg in LEGS:
        stance = np.array([carries(motion, leg, t) for t in times])
        if stance.all() or not motion.speed:
            continue
        progress = np.array([(phase(motion, t) - offset(motion, leg)) % 1.0 for t in times])
        middle = np.abs(progress - (1 + motion.duty) / 2) <= 0.5 / (RATE * motion.cycle)
        keep = stance | middle
        columns = [7 + i for i, n in enumerate(body.joint_names) if n in leg_joints(leg)]
        spline = CubicSpline(times[keep], poses[keep][:, columns])
        rows = [c - 7 for c in columns]
        margin = Solver.MARGIN / 5
        inside = np.clip(spline(times[~keep]), low[rows] + margin, high[rows] - margin)
        poses[np.ix_(~keep, columns)] = inside
    return poses


def leg_joints(leg: str) -> list[str]:
    """Names of a limb's joints."""
    limb, side = leg.split("_")
    if limb == "hind":
        stems = (
            "hip_{}_supinate",
            "hip_{}_abduct",
            "hip_{}_extend",
            "knee_{}",
            "ankle_{}",
            "toe_{}",
        )
    else:
        stems = (
            "scapula_{}_supinate", "scapula_{}_abduct", "scapula_{}_extend", "shoulder_{}",
            "shoulder_sup_{}", "elbow_{}", "wrist_{}", "finger_{}",
        )  # fmt: skip
    return [stem.format(side) for stem in stems]


def to_origin(poses: np.ndarray) -> np.ndarray:
    """Move and turn a sequence so that it starts at x = y = 0, heading along +x."""
    poses = poses.copy()
    w, x, y, z = poses[0, 3:7]
    heading = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    frame = np.array([0.0, 0.0, -heading])
    poses[:, :2] = place(frame, poses[:, :2] - poses[0, :2])
    for pose in poses:
        pose[3:7] = rotate(2, -heading, pose[3:7])
    return poses


def make_clip(motion: Motion, body: BodyModel) -> Clip:
    """The clip of a motion."""
    return Clip(
        name=motion.name,
        qpos=generate(motion, body).astype(np.float32),
        label=motion.label,
        split=motion.split,
        source=SOURCE,
        licence=LICENCE,
        session=motion.name,
    )


@dataclass(frozen=True)
class Quality:
    """How well a clip keeps to ground and limits.

    Attributes:
        penetration: deepest point of any contact geom, m.
        stance: (lowest, highest) of the paws that should be on the ground, m.
        slide: longest path of a stance paw's toes over one stance, m.
        slide_fraction: paths of all stance paws over four times the distance travelled.
        margin: least distance to a joint limit, rad.
        speed: fastest joint, rad/s.
    """

    penetration: float
    stance: tuple[float, float]
    slide: float
    slide_fraction: float
    margin: float
    speed: float


def measure(motion: Motion, clip: Clip, body: BodyModel) -> Quality:
    """Check a clip by forward kinematics."""
    reference = derive_reference([clip], body)
    data = mujoco.MjData(body.model)
    paws = {leg: Paw(body, leg) for leg in LEGS}
    lows: list[float] = []
    paths = {leg: [0.0] for leg in LEGS}
    previous: dict[str, np.ndarray] = {}
    for frame, qpos in enumerate(reference.qpos):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(body.model, data)
        for leg, paw in paws.items():
            if not carries(motion, leg, frame / RATE):
                previous.pop(leg, None)
                continue
            lows.append(paw.heights(data).min())
            centre = paw.points(data).mean(0)
            if leg in previous:
                paths[leg][-1] += float(np.linalg.norm(centre - previous[leg]))
            else:
                paths[leg].append(0.0)
            previous[leg] = centre
    travelled = max(motion.speed * (len(clip) - 1) / RATE, 1e-9)
    joints = reference.qpos[:, 7:]
    low, high = body.joint_range.T
    return Quality(
        penetration=max(0.0, -float(reference.clearance.min())),
        stance=(min(lows), max(lows)),
        slide=max(max(path) for path in paths.values()),
        slide_fraction=sum(map(sum, paths.values())) / (4 * travelled) if motion.speed else 0.0,
        margin=float(np.minimum(joints - low, high - joints).min()),
        speed=float(np.abs(reference.qvel[:, 6:]).max()),
    )


def main() -> None:
    """Write all clips of the table and print their quality."""
    standing = Standing.load(ASSETS / "standing" / f"{RODENT.name}.json")
    body = build_world(Floor(), [replace(RODENT, standing=standing)]).body
    clips = []
    for motion in MOTIONS:
        clip = make_clip(motion, body)
        clips.append(clip)
        q = measure(motion, clip, body)
        print(
            f"{motion.name:11} {motion.label:10} {motion.split:6} {len(clip)} frames: "
            f"penetration {1e3 * q.penetration:.2f} mm, "
            f"stance {1e3 * q.stance[0]:+.2f} to {1e3 * q.stance[1]:+.2f} mm, "
            f"slide {1e3 * q.slide:.2f} mm ({100 * q.slide_fraction:.1f} %), "
            f"limit margin {q.margin:.4f} rad, fastest joint {q.speed:.1f} rad/s"
        )
    write_clips(ASSETS / "clips" / "rodent.h5", clips, body)


if __name__ == "__main__":
    main()
