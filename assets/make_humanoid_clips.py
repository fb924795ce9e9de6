"""Make the humanoid's embedded clips and its standing pose.

Run as `python assets/make_humanoid_clips.py` from a checkout with the extra `clips`. It writes
`clips/humanoid.h5` and `standing/humanoid.json` beside itself, the same bytes every time.

A clip comes about in five steps:

1. Read a DeepMimic motion (Peng et al. 2018) from the `pybullet` wheel.
2. Fit one period of it by a short Fourier series in a frame that moves along with the walker, so
   that any number of periods join without jerks, and sample it at 50 Hz. Lengths grow by the
   ratio of leg lengths and times by its square root, which keeps the Froude number.
3. Correct the feet's paths by least squares: what touches the ground neither slides nor sinks.
4. Solve inverse kinematics frame by frame (`mink`) for feet, pelvis, trunk, head and arms.
5. Check joint limits, ground clearance, sliding and speeds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import mujoco
import numpy as np
import pybullet_data
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import lsq_linear
from scipy.spatial.transform import Rotation

from vnl_envs.bodies import HUMANOID
from vnl_envs.bodies.body import lowest_point, servo_control
from vnl_envs.motion.clip import RATE, Clip, write_clips
from vnl_envs.motion.feet import FootPath, plant, without_blips
from vnl_envs.motion.humanoid_ik import Humanoid, Solver, Targets
from vnl_envs.motion.kinematics import derive_reference, forward_kinematics

HERE = Path(__file__).parent
GRAVITY = 9.81


@dataclass(frozen=True)
class Recipe:
    """How a clip is made from a motion.

    Attributes:
        file: below `pybullet_data/data/motions`.
        label: behaviour.
        split: "train" or "test".
        periods: how many periods the clip has.
        gap: frames between the last one kept and the next period's first one.
        trim: frames dropped at the end, where the source's feet jump.
        harmonics: of the Fourier fit.
        straight: the path has no curvature; else as the source turns.
        pace: factor for the duration, besides the Froude scaling.
        drop: how much lower the hips are carried, m.
        widen: how much further outwards the feet are set, m. The target's hips are 21 mm wider
            apart than scaling says; and its ankles do not roll, so that a nearly straight leg
            stands flat only under its hip.
        height, speed: below both a source point is in contact with the ground, m and m/s.
    """

    file: str
    label: str
    split: str
    periods: float
    gap: float = 1
    trim: int = 0
    harmonics: int = 8
    straight: bool = False
    pace: float = 1.0
    drop: float = 0.045
    widen: float = 0.045
    height: float = 0.03
    speed: float = 0.6


# --- Step 1: the source ---------------------------------------------------------------------------

# Joint: (parent, offset from it, first column in a frame, columns). The source's axes are x
# forward, y up, z right. Offsets in m are those of `pybullet_data/humanoid/humanoid.urdf` divided
# by 4, its scale; they agree with DeepMimic's own data/characters/humanoid3d.txt.
SKELETON: dict[str, tuple[str | None, tuple[float, ...], int | None, int]] = {
    "root": (None, (0, 0, 0), 4, 4),
    "chest": ("root", (0, 0.236151, 0), 8, 4),
    "neck": ("chest", (0, 0.223894, 0), 12, 4),
    "rhip": ("root", (0, 0, 0.084887), 16, 4),
    "rknee": ("rhip", (0, -0.421546, 0), 20, 1),
    "rankle": ("rknee", (0, -0.409870, 0), 21, 4),
    "rshoulder": ("chest", (-0.02405, 0.243500, 0.183110), 25, 4),
    "relbow": ("rshoulder", (0, -0.274788, 0), 29, 1),
    "rwrist": ("relbow", (0, -0.258947, 0), None, 0),
    "lhip": ("root", (0, 0, -0.084887), 30, 4),
    "lknee": ("lhip", (0, -0.421546, 0), 34, 1),
    "lankle": ("lknee", (0, -0.409870, 0), 35, 4),
    "lshoulder": ("chest", (-0.02405, 0.243500, -0.183110), 39, 4),
    "lelbow": ("lshoulder", (0, -0.274788, 0), 43, 1),
    "lwrist": ("lelbow", (0, -0.258947, 0), None, 0),
}
SOURCE_LEG = 0.421546 + 0.409870
# The foot is a box of 0.177 x 0.055 x 0.09 m centred 0.045 m before and 0.0225 m under the ankle.
SOURCE_HEEL, SOURCE_TOE, SOURCE_ANKLE_HEIGHT = -0.0435, 0.1335, 0.05
# To x forward, y left, z up.
UPRIGHT = Rotation.from_euler("x", 90, degrees=True)


@dataclass(frozen=True, eq=False)
class Motion:
    """Poses of the source skeleton, T frames; axes x forward, y left, z up in every frame.

    Attributes:
        position: (T, 3) of the root, which lies midway between the hips, m.
        rotation: joint -> T rotations relative to its parent (the root's: to the world).
    """

    position: np.ndarray
    rotation: dict[str, Rotation]

    def __len__(self) -> int:
        return len(self.position)

    def forward(self) -> tuple[dict[str, np.ndarray], dict[str, Rotation]]:
        """World positions (T, 3) and rotations of all joints."""
        positions, rotations = {"root": self.position}, {"root": self.rotation["root"]}
        for name, (parent, offset, column, _) in SKELETON.items():
            if parent is None:
                continue
            turn = rotations[parent]
            positions[name] = positions[parent] + turn.apply(UPRIGHT.apply(offset))
            rotations[name] = turn if column is None else turn * self.rotation[name]
        return positions, rotations


def load_motion(file: str) -> tuple[Motion, float]:
    """A motion file of the pybullet wheel and its time between frames, s."""
    path = Path(pybullet_data.getDataPath(), "data", "motions", file)
    frames = np.array(json.loads(path.read_text())["Frames"])
    rotation = {}
    for name, (_, _, column, width) in SKELETON.items():
        if column is None:
            continue
        if width == 4:
            turn = Rotation.from_quat(frames[:, column : column + 4], scalar_first=True)
            rotation[name] = UPRIGHT * turn * UPRIGHT.inv()
        else:
            rotation[name] = Rotation.from_rotvec(np.outer(frames[:, column], [0, -1, 0]))
    return Motion(UPRIGHT.apply(frames[:, 1:4]), rotation), float(frames[0, 0])


# --- Step 2: one period, fitted and repeated ------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Cycle:
    """A periodic motion.

    Attributes:
        period: s.
        twist: (vx, vy, yaw) of the moving frame per period, m and rad.
        mean: joint -> mean rotation (the root's: in the moving frame).
        coefficients: (2 K + 1, n) Fourier coefficients of the root position in the moving frame,
            then of each joint's rotation vector from its mean.
    """

    period: float
    twist: np.ndarray
    mean: dict[str, Rotation]
    coefficients: np.ndarray

    def sample(self, phase: np.ndarray) -> Motion:
        """The motion at phases, in periods."""
        values = _harmonics(phase, len(self.coefficients) // 2) @ self.coefficients
        yaw, shift = _path(self.twist, phase)
        rotation = {
            name: mean * Rotation.from_rotvec(values[:, 3 * i + 3 : 3 * i + 6])
            for i, (name, mean) in enumerate(self.mean.items())
        }
        rotation["root"] = yaw * rotation["root"]
        return Motion(shift + yaw.apply(values[:, :3]), rotation)


def fit_cycle(
    motion: Motion,
    dt: float,
    gap: float,
    harmonics: int,
    straight: bool = False,
) -> Cycle:
    """Fit a period to a motion that nearly closes.

    Args:
        motion: about one period.
        dt: time between its frames, s.
        gap: frames between its last one and the next period's first one.
        harmonics: number of harmonics; those above the fundamental are damped a little, by the
            fourth power of their order, for the sake of the gap.
        straight: whether the moving frame keeps its heading.
    """
    count = len(motion) - 1 + gap
    phase = np.arange(len(motion)) / count
    twist = _twist(motion, straight) * count / (len(motion) - 1)
    yaw, shift = _path(twist, phase)
    local = dict(motion.rotation)
    local["root"] = yaw.inv() * local["root"]
    mean = {name: turn.mean() for name, turn in local.items()}
    columns = [yaw.inv().apply(motion.position - shift)]
    columns += [(mean[name].inv() * turn).as_rotvec() for name, turn in local.items()]
    basis = _harmonics(phase, harmonics)
    order = np.repeat(np.arange(harmonics + 1), 2)[1:]
    damping = np.diag(1e-6 * order.astype(float) ** 4 * len(motion))
    coefficients = np.linalg.solve(basis.T @ basis + damping, basis.T @ np.hstack(columns))
    return Cycle(count * dt, twist, mean, coefficients)


def _harmonics(phase: np.ndarray, order: int) -> np.ndarray:
    angle = 2 * np.pi * np.outer(phase, np.arange(1, order + 1))
    waves = np.stack([np.cos(angle), np.sin(angle)], axis=-1).reshape(len(phase), -1)
    return np.hstack([np.ones((len(phase), 1)), waves])


def _yaw(turn: Rotation) -> np.ndarray:
    forward = turn.apply([1, 0, 0])
    return np.unwrap(np.arctan2(forward[..., 1], forward[..., 0]))


def _twist(motion: Motion, straight: bool) -> np.ndarray:
    """The constant planar velocity (vx, vy, yaw) that leads from the first frame to the last."""
    yaw = _yaw(motion.rotation["root"])
    angle = 0.0 if straight else yaw[-1] - yaw[0]
    # V of the planar exponential map: the chord is V times the velocity.
    half = angle / 2
    sinc = np.sinc(half / np.pi)
    chord = (motion.position[-1] - motion.position[0])[:2]
    turned = Rotation.from_rotvec([0, 0, -half]).apply([*chord, 0])[:2]
    return np.array([*(turned / sinc), angle])


def _path(twist: np.ndarray, phase: np.ndarray) -> tuple[Rotation, np.ndarray]:
    """Planar exponential map: yaw rotations and positions (T, 3) at phases."""
    half = phase * twist[2] / 2
    length = (phase * np.sinc(half / np.pi))[:, None]
    straight = np.array([twist[0], twist[1], 0.0])
    bent = Rotation.from_rotvec(np.outer(half, [0, 0, 1]))
    return bent * bent, length * bent.apply(straight)


def from_origin(motion: Motion, heading: float) -> Motion:
    """The motion moved so that it starts at x = y = 0, and `heading` (rad) becomes +x."""
    turn = Rotation.from_rotvec([0, 0, -heading])
    start = motion.position[0] * [1, 1, 0]
    rotation = {**motion.rotation, "root": turn * motion.rotation["root"]}
    return Motion(turn.apply(motion.position - start), rotation)


# --- Step 3: feet ---------------------------------------------------------------------------------


def raw_foot(human: Humanoid, motion: Motion, dt: float, side: str, recipe: Recipe) -> FootPath:
    """A foot's path as the source has it, scaled, with contacts by height and speed."""
    positions, rotations = motion.forward()
    ankle, sole = positions[side + "ankle"], rotations[side + "ankle"]
    touching = []
    for x in (SOURCE_HEEL, SOURCE_TOE):
        point = ankle + sole.apply([x, 0, -SOURCE_ANKLE_HEIGHT])
        velocity = np.linalg.norm(np.gradient(point[:, :2], dt, axis=0), axis=1)
        touching.append(without_blips((point[:, 2] < recipe.height) & (velocity < recipe.speed)))
    scale = human.leg / SOURCE_LEG
    lift = human.ankle_height[side] - scale * SOURCE_ANKLE_HEIGHT
    heel, toe = touching
    # A foot rolls over its ball onto its toes, which reach further than the source's.
    contact = np.stack([heel] * 2 + [heel & toe] * 2 + [toe & ~heel] * 3, axis=1)
    outward = _heading(motion).apply([0, recipe.widen if side == "l" else -recipe.widen, 0])
    return FootPath(ankle * scale + outward + [0, 0, lift], sole, contact)


def _heading(motion: Motion) -> Rotation:
    """Yaw of the root."""
    return Rotation.from_rotvec(np.outer(_yaw(motion.rotation["root"]), [0, 0, 1]))


# --- Step 4: inverse kinematics -------------------------------------------------------------------


# Standard deviation of the low-pass filter on root and upper body, frames; cut-off about 4 Hz.
SMOOTHING_PASSES, SMOOTHING = 2, 2.0


def body_targets(
    human: Humanoid, motion: Motion, feet: dict[str, FootPath], drop: float
) -> Targets:
    """Targets from the source's pose, scaled by the ratio of leg lengths.

    Args:
        human: the target body.
        motion: the source's motion.
        feet: corrected paths.
        drop: how much lower the hips are carried than scaling says, m.
    """
    positions, rotations = motion.forward()
    scale = human.leg / SOURCE_LEG
    lift = np.array([0, 0, human.ankle_height["l"] - scale * SOURCE_ANKLE_HEIGHT - drop])
    root_turn = rotations["root"] * human.facing
    arms = {}
    for side in "rl":
        joints = [positions[side + n] for n in ("shoulder", "elbow", "wrist")]
        bones = np.diff(np.stack(joints, axis=1), axis=1)
        arms[side] = bones / np.linalg.norm(bones, axis=2, keepdims=True)
    return Targets(
        root=positions["root"] * scale + lift - root_turn.apply(human.hips),
        root_turn=root_turn,
        chest_turn=rotations["chest"] * human.facing,
        head_turn=rotations["neck"] * human.facing,
        feet=feet,
        knees={side: positions[side + "knee"] * scale + lift for side in "rl"},
        arms=arms,
    )


# --- The clips ------------------------------------------------------------------------------------


# Test clips come from other files than their label's training clips, but for every label the body
# model and the retargeting are the same: they test other motions of a
# known behaviour. There is one running file, so `run` has no test clip.
RECIPES = {
    "walk": Recipe("walker/0walk_forward.txt", "walk", "train", 4, gap=2, straight=True),
    "walk_even": Recipe("humanoid3d_walk.txt", "walk", "test", 4, gap=0, straight=True),
    "run": Recipe(
        "humanoid3d_run.txt", "run", "train", 6, gap=0, straight=True, harmonics=4, drop=0.08,
        widen=0.0, height=0.035, speed=1.3,
    ),
    "turn_left": Recipe("walker/turn_left0.txt", "turn", "train", 4, gap=3, trim=2, widen=0.06),
    "turn_right": Recipe("walker/turn_right1.txt", "turn", "train", 4, gap=4, trim=2, widen=0.07),
    "turn_left_tight": Recipe(
        "walker/turn_left1.txt", "turn", "test", 4, gap=4, trim=2, widen=0.08
    ),
}  # fmt: skip


def make_motion(human: Humanoid, recipe: Recipe) -> tuple[Motion, float]:
    """The source's motion, repeated, at the rate that gives 50 Hz; and its time step, s."""
    motion, dt = load_motion(recipe.file)
    keep = slice(len(motion) - recipe.trim)
    motion = Motion(motion.position[keep], {k: v[keep] for k, v in motion.rotation.items()})
    cycle = fit_cycle(motion, dt, recipe.gap, recipe.harmonics, recipe.straight)
    stretch = recipe.pace * np.sqrt(human.leg / SOURCE_LEG)
    frames = int(recipe.periods * cycle.period * stretch * RATE)
    source_dt = 1 / RATE / stretch
    motion = cycle.sample(np.arange(frames) * source_dt / cycle.period)
    return from_origin(motion, float(np.arctan2(cycle.twist[1], cycle.twist[0]))), source_dt


def make_clip(human: Humanoid, recipe: Recipe) -> np.ndarray:
    """Poses (T, nq) of a clip at 50 Hz."""
    solver = Solver(human)
    motion, dt = make_motion(human, recipe)
    feet = {}
    for side in "rl":
        raw = raw_foot(human, motion, dt, side, recipe)
        feet[side] = plant(raw, human.sole[side], human.radius)
    targets = body_targets(human, motion, feet, recipe.drop)
    for _ in range(SMOOTHING_PASSES):
        # Where a leg cannot reach, the root gave way with a jerk; next time it is asked to go
        # smoothly where it could.
        root = gaussian_filter1d(solver.solve(targets)[:, :3], SMOOTHING, axis=0)
        targets = replace(targets, root=root)
    qpos = solver.solve(targets)
    upper = [7 + i for i, name in enumerate(human.body.joint_names) if not _in_leg(name)]
    qpos[:, upper] = gaussian_filter1d(qpos[:, upper], SMOOTHING, axis=0)
    qpos[:, :2] -= qpos[0, :2]
    return qpos


def _in_leg(joint: str) -> bool:
    return any(part in joint for part in ("femur", "tibia", "foot"))


# --- Standing -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StandRecipe:
    """How a clip of quiet standing is made from one frame of a motion.

    Attributes:
        file: below `pybullet_data/data/motions`.
        frame: a frame at which the source stands still.
        split: "train" or "test".
        seconds: duration.
        drop, widen: as in `Recipe`.
        sway: amplitudes of the centre of mass along x and y, m.
        gaze: amplitude of the head's yaw, rad.
    """

    file: str
    frame: int
    split: str
    seconds: float = 6.0
    drop: float = 0.03
    widen: float = 0.02
    sway: tuple[float, float] = (0.006, 0.012)
    gaze: float = 0.2


STANDS = {
    "stand": StandRecipe("humanoid3d_getup_facedown.txt", -1, "train"),
    "stand_wide": StandRecipe("humanoid3d_getup_faceup.txt", -1, "test", widen=-0.07),
}

# Of the sway along x and y and of the gaze, Hz: quiet standing sways at 0.2 to 0.5 Hz.
SWAY_RATE = (0.37, 0.21, 0.16)


def still(motion: Motion, frame: int, frames: int) -> Motion:
    """A frame of a motion held, heading along +x."""
    rows = np.full(frames, frame % len(motion))
    held = Motion(motion.position[rows], {k: v[rows] for k, v in motion.rotation.items()})
    return from_origin(held, float(_yaw(motion.rotation["root"])[frame]))


def stand_targets(
    human: Humanoid, motion: Motion, drop: float, widen: float, sway: np.ndarray
) -> Targets:
    """Targets of a body that stands with both soles flat.

    Args:
        human: the target body.
        motion: a motion held, see `still`.
        drop, widen: as in `Recipe`.
        sway: (T, 2) of the centre of mass from the middle of the feet, m.
    """
    scale = human.leg / SOURCE_LEG
    positions, rotations = motion.forward()
    feet, middles = {}, []
    for side in "rl":
        ankle = positions[side + "ankle"] * scale
        ankle[:, 1] += widen if side == "l" else -widen
        ankle[:, 2] = human.ankle_height[side]
        yaw = np.outer(_yaw(rotations[side + "ankle"]), [0, 0, 1])
        sole = Rotation.from_rotvec(yaw)
        feet[side] = FootPath(ankle, sole, np.ones((len(motion), 7), bool))
        middles.append(ankle + sole.apply(human.sole[side][:4].mean(axis=0)))
    targets = body_targets(human, motion, feet, drop)
    return replace(targets, com=np.mean(middles, axis=0)[:, :2] + sway)


def make_stand(human: Humanoid, recipe: StandRecipe) -> np.ndarray:
    """Poses (T, nq) of a clip of quiet standing."""
    motion, _ = load_motion(recipe.file)
    time = np.arange(int(recipe.seconds * RATE)) / RATE
    waves = np.sin(2 * np.pi * np.outer(time, SWAY_RATE))
    held = still(motion, recipe.frame, len(time))
    gaze = Rotation.from_rotvec(np.outer(recipe.gaze * waves[:, 2], [0, 0, 1]))
    held.rotation["neck"] = held.rotation["neck"] * gaze
    sway = waves[:, :2] * recipe.sway
    qpos = Solver(human).solve(stand_targets(human, held, recipe.drop, recipe.widen, sway))
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


# --- Step 5: checks and files ---------------------------------------------------------------------

# Of the pybullet wheel, which holds the motions; see clips/README.md.
LICENCE = "Zlib"


def clearance(human: Humanoid, qpos: np.ndarray) -> np.ndarray:
    """Height of the lowest contact geom, (T,), m, at full precision."""
    kinematics = forward_kinematics(human.body, qpos)
    return lowest_point(human.body, kinematics["geom_xpos"], kinematics["geom_xmat"])


def check(human: Humanoid, clip: Clip) -> str:
    """One line of figures on a clip.

    Raises:
        ValueError: a joint is beyond its limits or the clip is more than 5 mm under ground.
    """
    reference = derive_reference([clip], human.body)
    angles, speed = reference.qpos[:, 7:], np.abs(reference.qvel[:, 6:])
    if (angles < human.lower).any() or (angles > human.upper).any():
        raise ValueError(f"clip {clip.name!r} is beyond joint limits")
    if reference.clearance.min() < -0.005:
        raise ValueError(f"clip {clip.name!r} sinks by {-reference.clearance.min():.3f} m")
    acceleration = np.abs(np.gradient(reference.qvel[:, 6:], 1 / RATE, axis=0))
    path = np.linalg.norm(np.diff(reference.qpos[:, :2], axis=0), axis=1).sum()
    return (
        f"{clip.name:16s} {clip.label:5s} {clip.split:5s} {len(clip):4d} frames {path:6.2f} m, "
        f"clearance {1e3 * reference.clearance.min():+.1f} to "
        f"{1e3 * reference.clearance.max():+.1f} mm, joint speed {speed.max():.1f} rad/s, "
        f"acceleration {acceleration.max():.0f} rad/s2"
    )


def make_clips(human: Humanoid) -> list[Clip]:
    """All clips of both tables."""
    wheel = f"pybullet {version('pybullet')}"

    def clip(name: str, file: str, label: str, split: str, qpos: np.ndarray) -> Clip:
        # The files in walker/ have DeepMimic's format but are not among DeepMimic's own.
        origin = "Bullet" if file.startswith("walker/") else "DeepMimic"
        source = f"{origin} {file} ({wheel})"
        return Clip(name, qpos.astype(np.float32), label, split, source, LICENCE, session=file)

    clips = [clip(n, r.file, "stand", r.split, make_stand(human, r)) for n, r in STANDS.items()]
    clips += [clip(n, r.file, r.label, r.split, make_clip(human, r)) for n, r in RECIPES.items()]
    return clips


def main() -> None:
    """Write both files beside this script."""
    human = Humanoid()
    clips = make_clips(human)
    for clip in clips:
        print(check(human, clip))
    (HERE / "clips").mkdir(exist_ok=True)
    write_clips(HERE / "clips" / "humanoid.h5", clips, human.body)
    (HERE / "standing").mkdir(exist_ok=True)
    (HERE / "standing" / "humanoid.json").write_text(standing_json(human))


if __name__ == "__main__":
    main()
