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
from itertools import pairwise
from pathlib import Path

import mink
import mujoco
import numpy as np
import pybullet_data
from scipy import sparse
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import lsq_linear
from scipy.sparse.linalg import spsolve
from scipy.spatial.transform import Rotation

from vnl_envs.bodies import HUMANOID, BodyModel
from vnl_envs.bodies.body import lowest_point, servo_control
from vnl_envs.motion.clip import RATE, Clip, write_clips
from vnl_envs.motion.kinematics import derive_reference, forward_kinematics
from vnl_envs.scenes.floor import Floor
from vnl_envs.scenes.world import World, build_world

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


# --- The target body ------------------------------------------------------------------------------


class Humanoid:
    """The CMU humanoid on a floor, with the lengths and frames that retargeting needs.

    Attributes:
        hips: midpoint of the hips in the root's frame, m.
        leg, upper_arm, forearm: lengths of hip to ankle, shoulder to elbow, elbow to hand, m.
        ankle_height: side -> of a foot that stands flat, m. The model's feet differ by 0.5 mm.
        sole: side -> (4 + 3, 3) centres of the spheres that touch the ground, in the sole's frame
            with the ankle as its origin, x forward, y left, z up: heel, ball, toes.
        radius: of those spheres, m.
        flat: side -> rotation of the foot body whose sole's frame is the world's.
    """

    # Root frame: forward is z, up is y, left is x.
    facing = Rotation.from_matrix([[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    radius = 0.03

    def __init__(self) -> None:
        self.world: World = build_world(Floor(), [HUMANOID])
        self.body: BodyModel = self.world.body
        self.model = self.world.model
        self.data = mujoco.MjData(self.model)
        self.qpos0 = np.zeros(self.model.nq)
        self.qpos0[3] = 1
        self.pose(self.qpos0)
        hip, knee, ankle = (self.position(n) for n in ("lfemur", "ltibia", "lfoot"))
        self.hips = (hip + self.position("rfemur")) / 2
        self.leg = float(np.linalg.norm(knee - hip) + np.linalg.norm(ankle - knee))
        arm = [self.position(n) for n in ("lhumerus", "lradius", "lhand")]
        self.upper_arm, self.forearm = np.linalg.norm(np.diff(arm, axis=0), axis=1)
        self.flat, self.sole = {}, {}
        for side in "rl":
            self.flat[side], self.sole[side] = self._foot(side)
        self.ankle_height = {s: float(self.radius - self.sole[s][:, 2].min()) for s in "rl"}
        self.lower = self.model.jnt_range[1:, 0]
        self.upper = self.model.jnt_range[1:, 1]

    def pose(self, qpos: np.ndarray) -> None:
        """Put the body into a pose."""
        self.data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)

    def position(self, name: str) -> np.ndarray:
        """Position of a body in the present pose, m."""
        return self.data.body(HUMANOID.prefix + name).xpos.copy()

    def joint(self, name: str) -> int:
        """Row of a joint in qpos."""
        return int(self.model.joint(HUMANOID.prefix + name).qposadr[0])

    def _foot(self, side: str) -> tuple[Rotation, np.ndarray]:
        body = self.data.body(f"{HUMANOID.prefix}{side}foot")
        to_foot = body.xmat.reshape(3, 3).T
        centres = []
        for end in (-1, 1):
            for name in ("foot", "foot_ch"):
                geom = self.data.geom(f"{HUMANOID.prefix}{side}{name}")
                axis = geom.xmat.reshape(3, 3)[:, 2]
                # The root faces +z in this pose.
                axis = axis * np.sign(axis[2]) * end
                half = self.model.geom(geom.id).size[1]
                centres.append(to_foot @ (geom.xpos + half * axis - body.xpos))
        for i in range(3):
            geom = self.data.geom(f"{HUMANOID.prefix}{side}toes{i}")
            centres.append(to_foot @ (geom.xpos - body.xpos))
        points = np.array(centres)
        forward = points[2:4].mean(0) - points[:2].mean(0)
        across = points[[0, 2]].mean(0) - points[[1, 3]].mean(0)
        # The root's left is +x in this pose.
        across *= np.sign((to_foot.T @ across)[0])
        up = np.cross(forward, across)
        left = np.cross(up, forward)
        axes = np.stack([v / np.linalg.norm(v) for v in (forward, left, up)])
        return Rotation.from_matrix(axes), points @ axes.T


# --- Step 3: feet ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FootPath:
    """The path of one foot, T frames.

    Attributes:
        ankle: (T, 3) m.
        sole: T rotations of the sole's frame; identity stands flat and points along +x.
        contact: (T, 7) whether each point of `Humanoid.sole` is meant to touch the ground.
    """

    ankle: np.ndarray
    sole: Rotation
    contact: np.ndarray

    @property
    def away(self) -> np.ndarray:
        """(T,) frames to the foot's nearest contact."""
        frames = np.arange(len(self.contact))
        touching = np.flatnonzero(self.contact.any(axis=1))
        if not len(touching):
            return np.full(len(frames), len(frames))
        return np.abs(frames[:, None] - touching).min(axis=1)


def raw_foot(human: Humanoid, motion: Motion, dt: float, side: str, recipe: Recipe) -> FootPath:
    """A foot's path as the source has it, scaled, with contacts by height and speed."""
    positions, rotations = motion.forward()
    ankle, sole = positions[side + "ankle"], rotations[side + "ankle"]
    touching = []
    for x in (SOURCE_HEEL, SOURCE_TOE):
        point = ankle + sole.apply([x, 0, -SOURCE_ANKLE_HEIGHT])
        velocity = np.linalg.norm(np.gradient(point[:, :2], dt, axis=0), axis=1)
        touching.append(_without_blips((point[:, 2] < recipe.height) & (velocity < recipe.speed)))
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


def _without_blips(flags: np.ndarray, shortest: int = 5) -> np.ndarray:
    """Flags with runs shorter than `shortest` frames turned over, gaps first."""
    flags = flags.copy()
    for value in (False, True):
        edges = np.flatnonzero(np.diff(flags.astype(int))) + 1
        for start, stop in pairwise(edges):
            if flags[start] == value and stop - start < shortest:
                flags[start:stop] = not value
    return flags


# How much higher than the ground a foot must be per frame away from contact, and at most, m, so
# that it does not scuff.
RISE, MOST_RISE = 0.005, 0.015
TURN_ARM = 0.25
# Of any unknown in one Gauss-Newton step here and in inverse kinematics, m or rad: soles roll and
# straight legs are singular.
PLANT_ITERATIONS, LARGEST_STEP = 25, 0.1


def plant(path: FootPath, points: np.ndarray, radius: float) -> FootPath:
    """Correct a foot's path so that contacts neither slide nor lift and nothing sinks.

    Gauss-Newton over a displacement and a rotation per frame. Residuals: height of points in
    contact, and of points that would sink; velocity of the ground point under a sphere that is in
    contact in two frames (rolling included); second differences; the size of the correction.

    Args:
        path: the raw path.
        points: (P, 3) centres of the sole's spheres in its frame, m.
        radius: of the spheres, m.
    """
    ankle, sole = path.ankle.copy(), path.sole
    contact = path.contact
    rise = np.minimum(RISE * path.away, MOST_RISE)
    floor = radius + np.where(contact, 0.0, rise[:, None])
    for _ in range(PLANT_ITERATIONS):
        arms = np.stack([sole.apply(p) for p in points], axis=1)
        centres = ankle[:, None] + arms
        rows = _Rows(len(ankle))
        _ground_rows(rows, arms, centres[..., 2] - floor, contact)
        _rolling_rows(rows, centres, arms, sole, contact, radius)
        _smooth_rows(rows, ankle - path.ankle, (sole * path.sole.inv()).as_rotvec())
        step = rows.solve()
        step *= min(0.7, LARGEST_STEP / np.abs(step).max())
        ankle = ankle + step[:, :3]
        sole = Rotation.from_rotvec(step[:, 3:]) * sole
    return FootPath(ankle, sole, contact)


class _Rows:
    """Rows of a sparse least-squares problem in six unknowns per frame (shift, turn)."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.blocks: list[sparse.csr_matrix] = []
        self.sides: list[np.ndarray] = []

    def add(
        self, parts: list[tuple[np.ndarray, np.ndarray]], residual: np.ndarray, weight: float
    ) -> None:
        """Rows sum(coefficients @ unknowns[frame]) = -residual.

        Args:
            parts: pairs of frames (n,) and coefficients (n, 6).
            residual: (n,).
            weight: of the squared residual.
        """
        n = len(residual)
        block = sparse.csr_matrix((n, 6 * self.frames))
        for frames, coefficients in parts:
            columns = 6 * frames[:, None] + np.arange(6)
            lines = np.repeat(np.arange(n), 6)
            block = block + sparse.csr_matrix(
                (coefficients.ravel(), (lines, columns.ravel())), block.shape
            )
        self.blocks.append(block * np.sqrt(weight))
        self.sides.append(-residual * np.sqrt(weight))

    def solve(self) -> np.ndarray:
        """The unknowns, (frames, 6)."""
        matrix = sparse.vstack(self.blocks).tocsc()
        normal = (matrix.T @ matrix).tocsc()
        return spsolve(normal, matrix.T @ np.concatenate(self.sides)).reshape(-1, 6)


def _point_rows(arms: np.ndarray, axis: int) -> np.ndarray:
    """How a point's coordinate moves with the six unknowns, (n, 6), for arms (n, 3)."""
    unit = np.eye(3)[axis]
    return np.hstack([np.broadcast_to(unit, arms.shape), np.cross(arms, unit)])


def _ground_rows(rows: _Rows, arms: np.ndarray, height: np.ndarray, contact: np.ndarray) -> None:
    frames, points = np.nonzero(contact | (height < 0))
    part = _point_rows(arms[frames, points], 2)
    rows.add([(frames, part)], height[frames, points], 1e6)


def _rolling_rows(
    rows: _Rows,
    centres: np.ndarray,
    arms: np.ndarray,
    sole: Rotation,
    contact: np.ndarray,
    radius: float,
) -> None:
    frames, points = np.nonzero(contact[:-1] & contact[1:])
    turn = (sole[1:] * sole[:-1].inv()).as_rotvec()
    slip = centres[1:] - centres[:-1] + np.cross(turn, [0, 0, -radius])[:, None]
    for axis in (0, 1):
        # The rotation vector between frames changes by the difference of the turns.
        spin = np.cross([0, 0, -radius], np.eye(3)[axis])
        extra = np.concatenate([np.zeros(3), spin])
        before = -_point_rows(arms[frames, points], axis) - extra
        after = _point_rows(arms[frames + 1, points], axis) + extra
        rows.add([(frames, before), (frames + 1, after)], slip[frames, points, axis], 1e6)


def _smooth_rows(rows: _Rows, shift: np.ndarray, turn: np.ndarray) -> None:
    # Of the correction, with turns as displacements at the end of a foot.
    unit = np.array([1, 1, 1, TURN_ARM, TURN_ARM, TURN_ARM])
    change = np.hstack([shift, turn]) * unit
    frames = np.arange(1, len(shift) - 1)
    bend = change[:-2] - 2 * change[1:-1] + change[2:]
    for i in range(6):
        part = np.tile(np.eye(6)[i] * unit[i], (len(shift), 1))
        rows.add([(np.arange(len(shift)), part)], change[:, i], 3.0)
        inner = part[1:-1]
        rows.add([(frames - 1, inner), (frames, -2 * inner), (frames + 1, inner)], bend[:, i], 1e3)


# --- Step 4: inverse kinematics -------------------------------------------------------------------

# Relative weights: feet first, so that what step 3 did survives; then the trunk; then the limbs.
FOOT_COST = (100.0, 30.0)
# A swinging foot's orientation counts less, by this factor per frame away from contact, down to
# the least.
SWING_DECAY, SWING_COST = 0.6, 1.0
PELVIS_COST = (5.0, 3.0)
CHEST_COST, HEAD_COST, KNEE_COST, ARM_COST = 2.0, 0.5, 1.0, 2.0
COM_COST, UPRIGHT_COST, POSTURE_COST, DAMPING = 20.0, 50.0, 0.05, 1e-3
LIMIT_MARGIN = 0.01
ITERATIONS, FIRST_ITERATIONS = 12, 100
# Standard deviation of the low-pass filter on root and upper body, frames; cut-off about 4 Hz.
SMOOTHING_PASSES, SMOOTHING = 2, 2.0

# Joints that the source does not have, or that would share its motion in too many ways, rad. Palms
# face the thighs when the arms hang.
# The model's right shoulder has the left one's limits unmirrored, so that the right arm cannot
# quite hang: its angles are those that come nearest.
NEUTRAL = {
    "lwristry": 1.2, "lfingersrx": 0.4,
    "lhumerusrz": 1.5, "lhumerusry": -0.1, "lhumerusrx": -0.4, "lradiusrx": 0.3,
    "rwristry": -1.2, "rfingersrx": 0.4, "rclaviclery": 0.15,
    "rhumerusrz": -1.05, "rhumerusry": -0.75, "rhumerusrx": -0.65, "rradiusrx": 0.25,
}  # fmt: skip
# Factors of the posture's cost for joints whose names hold these parts: joints that the source
# does not have, and twists that it has but noisily.
STIFFNESS = {
    "wrist": 20, "hand": 20, "fingers": 20, "thumb": 20, "toes": 20, "clavicle": 10,
    "humerus": 3, "footrz": 5, "femurry": 5, "back": 4, "thorax": 4,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Targets:
    """What inverse kinematics follows, T frames; positions in m, in the world.

    Attributes:
        root: (T, 3) and root_turn: T rotations of the root body.
        chest_turn, head_turn: T rotations of the thorax and the head.
        feet: side -> path.
        knees: side -> (T, 3).
        arms: side -> (T, 2, 3) unit vectors shoulder to elbow and elbow to hand.
        com: (T, 2) of the centre of mass, or None to leave it alone.
    """

    root: np.ndarray
    root_turn: Rotation
    chest_turn: Rotation
    head_turn: Rotation
    feet: dict[str, FootPath]
    knees: dict[str, np.ndarray]
    arms: dict[str, np.ndarray]
    com: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.root)


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


class Solver:
    """Inverse kinematics of the humanoid, one pose after the other.

    Args:
        human: the target body.
    """

    def __init__(self, human: Humanoid) -> None:
        self.human = human
        self.configuration = mink.Configuration(human.model)
        self.root = _frame("root", *PELVIS_COST)
        self.chest = _frame("thorax", 0.0, CHEST_COST)
        self.head = _frame("head", 0.0, HEAD_COST)
        self.feet = {s: _frame(s + "foot", *FOOT_COST) for s in "rl"}
        self.knees = {s: _frame(s + "tibia", KNEE_COST, 0.0) for s in "rl"}
        self.elbows = {s: _in_clavicle(s, "radius") for s in "rl"}
        self.hands = {s: _in_clavicle(s, "hand") for s in "rl"}
        # Only for standing; its cost is 0 until targets ask for it.
        self.com = mink.ComTask(0.0)
        self.com.set_target(np.zeros(3))
        self.posture = mink.PostureTask(human.model, _posture_cost(human))
        self.posture.set_target(neutral_pose(human))
        self.tasks = [self.root, self.chest, self.head, self.com, self.posture]
        for group in (self.feet, self.knees, self.elbows, self.hands):
            self.tasks += group.values()
        self.limits = [
            mink.ConfigurationLimit(human.model, 0.95, min_distance_from_limits=LIMIT_MARGIN),
            mink.VelocityLimit(human.model, dict.fromkeys(_hinges(human), LARGEST_STEP)),
        ]

    def solve(self, targets: Targets) -> np.ndarray:
        """Poses (T, nq) that follow targets."""
        start = neutral_pose(self.human)
        start[:3] = targets.root[0]
        start[3:7] = targets.root_turn[0].as_quat(scalar_first=True)
        self.configuration.update(start)
        poses = []
        for frame in range(len(targets)):
            self._aim(targets, frame)
            for _ in range(FIRST_ITERATIONS if frame == 0 else ITERATIONS):
                self._aim_arms(targets, frame)
                self.step()
            poses.append(self.configuration.q.copy())
        return np.array(poses)

    def step(self) -> None:
        """One Gauss-Newton step."""
        velocity = mink.solve_ik(
            self.configuration, self.tasks, 1.0, "daqp", damping=DAMPING, limits=self.limits
        )
        self.configuration.integrate_inplace(velocity, 1.0)

    def _aim(self, targets: Targets, frame: int) -> None:
        self._aim_centre(targets, frame)
        self.root.set_target(_pose(targets.root_turn[frame], targets.root[frame]))
        self.chest.set_target(_pose(targets.chest_turn[frame]))
        self.head.set_target(_pose(targets.head_turn[frame]))
        for side in "rl":
            path = targets.feet[side]
            turn = path.sole[frame] * self.human.flat[side]
            self.feet[side].set_target(_pose(turn, path.ankle[frame]))
            cost = FOOT_COST[1] * SWING_DECAY ** path.away[frame]
            self.feet[side].set_orientation_cost(max(cost, SWING_COST))
            self.knees[side].set_target(_pose(Rotation.identity(), targets.knees[side][frame]))

    def _aim_centre(self, targets: Targets, frame: int) -> None:
        if targets.com is None:
            return
        # The centre of mass takes the place of the root, but for its height, and of the knees.
        self.com.set_cost([COM_COST, COM_COST, 0])
        self.com.set_target(np.array([*targets.com[frame], 0]))
        self.root.set_position_cost([0, PELVIS_COST[0], 0])
        self.root.set_orientation_cost(UPRIGHT_COST)
        for knee in self.knees.values():
            knee.set_position_cost(0.0)

    def _aim_arms(self, targets: Targets, frame: int) -> None:
        # From where the shoulders are now, so that arm targets are always in reach; relative to the
        # clavicle, so that the arms do not drag the trunk along.
        for side in "rl":
            clavicle = self.configuration.data.body(f"{HUMANOID.prefix}{side}clavicle")
            shoulder = self.configuration.data.body(f"{HUMANOID.prefix}{side}humerus").xpos
            upper, fore = targets.arms[side][frame]
            elbow = shoulder + self.human.upper_arm * upper
            hand = elbow + self.human.forearm * fore
            inward = clavicle.xmat.reshape(3, 3).T
            for task, point in ((self.elbows, elbow), (self.hands, hand)):
                local = inward @ (point - clavicle.xpos)
                task[side].set_target(_pose(Rotation.identity(), local))


def _hinges(human: Humanoid) -> list[str]:
    return [HUMANOID.prefix + name for name in human.body.joint_names]


def _frame(name: str, position: float, orientation: float) -> mink.FrameTask:
    return mink.FrameTask(HUMANOID.prefix + name, "body", position, orientation)


def _in_clavicle(side: str, name: str) -> mink.RelativeFrameTask:
    return mink.RelativeFrameTask(
        f"{HUMANOID.prefix}{side}{name}", "body", f"{HUMANOID.prefix}{side}clavicle", "body",
        ARM_COST, 0.0,
    )  # fmt: skip


def _pose(turn: Rotation, position: np.ndarray | None = None) -> mink.SE3:
    wxyz = turn.as_quat(scalar_first=True)
    return mink.SE3.from_rotation_and_translation(
        mink.SO3(wxyz), np.zeros(3) if position is None else position
    )


def _posture_cost(human: Humanoid) -> np.ndarray:
    cost = np.full(human.model.nv, POSTURE_COST)
    cost[:6] = 0
    for i, name in enumerate(human.body.joint_names):
        cost[6 + i] *= next((f for part, f in STIFFNESS.items() if part in name), 1)
    return cost


def neutral_pose(human: Humanoid) -> np.ndarray:
    """Every joint at 0, at its limit's margin, or at its `NEUTRAL` angle."""
    qpos = human.qpos0.copy()
    for name, angle in NEUTRAL.items():
        qpos[human.joint(name)] = angle
    qpos[7:] = np.clip(qpos[7:], human.lower + 2 * LIMIT_MARGIN, human.upper - 2 * LIMIT_MARGIN)
    return qpos


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
        return Clip(name, qpos.astype(np.float32), label, split, source, LICENCE)

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
