"""Fit motion that was copied joint by joint from another skeleton to the humanoid.

Copied joint angles keep a style, but were recorded with other lengths: the humanoid sinks or
floats, slides, and its joints leave their limits. Steps:

1. Motion faster than people move is filtered out.
2. Lengths are scaled by the ratio of the legs' lengths, and times by its square root. This keeps
   the Froude number, and forces in body weights (Alexander & Jayes 1983).
3. Soles are turned by one rotation per foot, so that they are flat where the foot rests. A sloping
   floor is levelled and put at z = 0.
4. Low and slow parts of a foot touch the ground. `feet.plant` corrects the feet's paths.
5. The root follows the corrections of the standing feet, smoothly and no higher than legs reach.
6. `arms` solves for the arms' angles within limits, and `humanoid_ik` for the other joints, close
   to the copied pose and not under the ground.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import mink
import numpy as np
from scipy import sparse
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize_scalar
from scipy.sparse.linalg import spsolve
from scipy.spatial.transform import Rotation

from vnl_envs.motion.clip import RATE, ClipError
from vnl_envs.motion.fitting import arms
from vnl_envs.motion.fitting.feet import FootPath, plant, without_blips
from vnl_envs.motion.fitting.humanoid_ik import Humanoid, Solver, Targets
from vnl_envs.motion.fitting.smoothing import low_pass
from vnl_envs.motion.kinematics import forward_kinematics
from vnl_envs.motion.resample import resample

SIDES = "rl"
HEEL, BALL, TOES = slice(0, 2), slice(2, 4), slice(4, 7)
"""Points of `Humanoid.sole`."""

SHORTEST = 0.1
"""Minimum duration of a recording, s."""

# Larger than for other callers, to keep the copied trunk and legs. The root's path, which carries
# the weight, has priority over the feet's.
PELVIS_COST, POSTURE_COST = (300.0, 100.0), 0.3
# Corrections of feet end with their contacts, so that a foot that rolls off less than in the
# recording does not swing back. Turns are expensive, because ankles reach their limits.
PLANT_KEEP, PLANT_TURN_ARM = 300.0, 0.5


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted motion, T frames at 50 Hz.

    Attributes:
        qpos: (T, nq) poses of the humanoid.
        contact: side -> (T, 7) whether each point of `Humanoid.sole` should be on the ground.
        scale: factor of lengths.
        stretch: factor of times.
        slope: slope of the recording's floor, rad.
    """

    qpos: np.ndarray
    contact: dict[str, np.ndarray]
    scale: float
    stretch: float
    slope: float


def refit(copy: np.ndarray, rate: float) -> Fit:
    """Fit poses of the humanoid (T, nq), copied from another skeleton.

    Args:
        copy: root position (m), root quaternion (w, x, y, z) and joints (rad), also beyond limits.
        rate: frames per second.

    Raises:
        ClipError: the recording is too short, or its feet are never under its body.
    """
    if len(copy) < SHORTEST * rate or len(copy) < 3:
        raise ClipError(f"needs at least {SHORTEST:g} s and 3 frames, got {len(copy)} frames")
    human = Humanoid()
    copy = calmed(human, copy, rate)
    scale = size_ratio(human, copy)
    copy[:, :3] *= scale
    stretch = float(np.sqrt(scale))
    pose, slope = level(human, resample(copy, rate / stretch))
    copied = Copied.of(human, pose)
    raw = {side: touching(human, side, copied) for side in SIDES}
    feet = {
        side: plant(path, human.sole[side], human.radius, PLANT_KEEP, PLANT_TURN_ARM)
        for side, path in raw.items()
    }
    goals = targets(human, copied, feet, root_shift(human, copied, feet))
    try:
        qpos = followed(human, goals)
    except mink.NoSolutionFound:
        raise ClipError("has a pose that inverse kinematics cannot follow") from None
    contact = {side: path.contact for side, path in feet.items()}
    return Fit(qpos, contact, scale, stretch, slope)


# Step 1: noise ------------------------------------------------------------------------------------

# Cut-off of low-pass filters, Hz. Winter (Biomechanics and Motor Control of Human Movement) filters
# walking at 6 Hz; running needs more. Hands have few markers, and carry nothing.
CUTOFF = 8.0
HAND_PARTS, HAND_CUTOFF = ("hand", "fingers", "thumb"), 3.0


def calmed(human: Humanoid, copy: np.ndarray, rate: float) -> np.ndarray:
    """Poses (T, nq) low-pass filtered at `CUTOFF`, and for hands at `HAND_CUTOFF`."""
    cutoff = np.full(copy.shape[1], CUTOFF)
    hands = [any(part in name for part in HAND_PARTS) for name in human.body.joint_names]
    cutoff[7:][hands] = HAND_CUTOFF
    # The gain of a Gaussian falls to 1/sqrt(2) at sqrt(ln 2) / (2 pi sigma).
    sigma = np.sqrt(np.log(2)) / (2 * np.pi * cutoff) * rate
    out = np.stack([low_pass(x, s) for x, s in zip(copy.T, sigma, strict=True)], axis=1)
    out[:, 3:7] /= np.linalg.norm(out[:, 3:7], axis=1, keepdims=True)
    return out


# The copied poses ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Copied:
    """Copied poses, T frames, with their kinematics.

    Attributes:
        pose: (T, nq) poses.
        xpos, turn: body -> (T, 3) positions, m, and T rotations.
        feet: side -> path without contacts, whose sole is flat where the foot rests.
    """

    pose: np.ndarray
    xpos: dict[str, np.ndarray]
    turn: dict[str, Rotation]
    feet: dict[str, FootPath]

    @classmethod
    def of(cls, human: Humanoid, pose: np.ndarray) -> Copied:
        """Compute the kinematics of poses (T, nq)."""
        kinematics = forward_kinematics(human.body, pose)
        xpos, turn = {}, {}
        for i, name in enumerate(human.body.body_names):
            xpos[name] = kinematics["xpos"][:, i]
            turn[name] = Rotation.from_quat(kinematics["xquat"][:, i], scalar_first=True)
        feet = {}
        for side in SIDES:
            sole = turn[side + "foot"] * human.flat[side].inv()
            none = np.zeros((len(pose), len(human.sole[side])), bool)
            feet[side] = flattened(human, side, FootPath(xpos[side + "foot"], sole, none))
        return cls(pose, xpos, turn, feet)


def under_sole(human: Humanoid, side: str, path: FootPath) -> np.ndarray:
    """Lowest points of a sole's spheres, (T, 7, 3) m."""
    arm = np.stack([path.sole.apply(point) for point in human.sole[side]], axis=1)
    return path.ankle[:, None] + arm - [0, 0, human.radius]


def speeds(points: np.ndarray) -> np.ndarray:
    """Speeds of points at 50 Hz by central differences, (T, ..., D) m -> (T, ...) m/s."""
    return np.linalg.norm(np.gradient(points, 1 / RATE, axis=0), axis=-1)


# Fraction of the frames in which a foot counts as resting, smaller than any gait's duty factor.
RESTING = 0.15


def resting(human: Humanoid, side: str, path: FootPath) -> np.ndarray:
    """Whether each frame is among those in which heel and ball are slowest, (T,)."""
    speed = speeds(under_sole(human, side, path))
    slower = np.maximum(speed[:, HEEL].mean(axis=1), speed[:, BALL].mean(axis=1))
    return slower <= np.quantile(slower, RESTING)


def flattened(human: Humanoid, side: str, path: FootPath) -> FootPath:
    """The path with its sole turned, by one rotation, to be flat where the foot rests.

    Because of other shoes and skeletons, copied feet at rest point down by 13 to 22 degrees.
    """
    rest = resting(human, side, path)
    up = path.sole[rest].inv().apply([0, 0, 1]).mean(axis=0)
    return dataclasses.replace(path, sole=path.sole * between(np.array([0, 0, 1]), up))


def between(a: np.ndarray, b: np.ndarray) -> Rotation:
    """The smallest rotation that turns vector a (3,) to the direction of b (3,)."""
    axis = np.cross(a, b)
    size = np.linalg.norm(axis)
    return Rotation.from_rotvec(axis / max(size, 1e-9) * np.arctan2(size, np.dot(a, b)))


# Step 2: size -------------------------------------------------------------------------------------

# Largest deviation, due to sliding, from the ratio of heights, and bounds for people of any size.
SIZE_DOUBT, SMALLEST, LARGEST = 0.05, 0.7, 2.5
# Feet are under a body whose root is higher by this fraction of the leg.
UPRIGHT = 0.5


def size_ratio(human: Humanoid, pose: np.ndarray) -> float:
    """The humanoid's size over the recorded person's, from copied poses (T, nq).

    The first estimate is the height of the root above the copied feet over its height above the
    recording's floor. The result is the ratio close to it at which the feet slide least.

    Raises:
        ClipError: feet are never under the body.
    """
    copied = Copied.of(human, pose)
    root = pose[:, None, :3]
    points = np.stack([under_sole(human, s, copied.feet[s]) - root for s in SIDES], axis=1)
    below = -points[..., 2].min(axis=(1, 2))
    standing = (below > UPRIGHT * human.leg) & (pose[:, 2] > 0)
    if not standing.any():
        raise ClipError("its feet are never under its root and that above y = 0: no motion on feet")
    heights = float(np.median(below[standing] / pose[standing, 2]))
    heights = float(np.clip(heights, SMALLEST, LARGEST))

    def slide(ratio: float) -> float:
        speed = speeds(points[..., :2] + ratio * root[:, None, :, :2]).min(axis=2)
        count = max(1, int(RESTING * len(speed)))
        return float(np.sort(speed, axis=0)[:count].mean())

    bounds = (heights * (1 - SIZE_DOUBT), heights * (1 + SIZE_DOUBT))
    return float(minimize_scalar(slide, bounds=bounds, method="bounded").x)


# Step 3: floor ------------------------------------------------------------------------------------

# Floors of capture volumes slope by up to 1.1 degrees. A slope is estimated only if the variance of
# resting places is larger than this, m².
SPREAD = 0.03
# Points further from the plane than this, or twice the median, are not on the floor, m.
NEAR_FLOOR = 0.01


def level(human: Humanoid, pose: np.ndarray) -> tuple[np.ndarray, float]:
    """Poses (T, nq) moved so that their feet rest on z = 0, and the original slope, rad.

    Ridge regression of a plane through the resting places of the feet, without outliers.
    """
    copied = Copied.of(human, pose)
    spots = []
    for side in SIDES:
        path = copied.feet[side]
        rest = resting(human, side, path)
        spots.append(under_sole(human, side, path)[rest, : BALL.stop].mean(axis=1))
    place = np.concatenate(spots)
    kept = np.ones(len(place), bool)
    for _ in range(3):
        centre = place[kept].mean(axis=0)
        across = place[:, :2] - centre[:2]
        height = place[:, 2] - centre[2]
        normal = across[kept].T @ across[kept] + SPREAD * kept.sum() * np.eye(2)
        gradient = np.linalg.solve(normal, across[kept].T @ height[kept])
        error = np.abs(height - across @ gradient)
        kept = error <= max(NEAR_FLOOR, 2 * float(np.median(error)))
    turn = between(np.array([*-gradient, 1.0]), np.array([0, 0, 1]))
    out = pose.copy()
    out[:, :3] = turn.apply(pose[:, :3] - centre)
    out[:, :2] += centre[:2]
    root = turn * Rotation.from_quat(pose[:, 3:7], scalar_first=True)
    out[:, 3:7] = root.as_quat(scalar_first=True)
    return out, float(np.arctan(np.linalg.norm(gradient)))


# Step 4: contacts ---------------------------------------------------------------------------------

# A part of a sole below both values is in contact, m and m/s. The speed limit grows with the body's
# speed by this factor, since soles of runners are slow for a few frames only.
CONTACT_HEIGHT, CONTACT_SPEED, CONTACT_PACE = 0.035, 0.4, 0.3
# Maximum height of a part in contact over the sole's lowest part, m, since a foot that rolls off is
# not flat.
CONTACT_FLAT = 0.02
# Minimum length of contacts and gaps, and smoothing of the pace, frames.
CONTACT_FRAMES, PACE_FRAMES = 3, 10


def touching(human: Humanoid, side: str, copied: Copied) -> FootPath:
    """A foot's copied path with its contacts."""
    path = copied.feet[side]
    points = under_sole(human, side, path)
    parts = (HEEL, BALL, TOES)
    height = np.stack([points[:, part, 2].mean(axis=1) for part in parts])
    speed = np.stack([speeds(points)[:, part].mean(axis=1) for part in parts])
    pace = gaussian_filter1d(speeds(copied.pose[:, :2]), PACE_FRAMES)
    near = (height < CONTACT_HEIGHT) & (height - height.min(axis=0) < CONTACT_FLAT)
    slow = speed < np.maximum(CONTACT_SPEED, CONTACT_PACE * pace)
    heel, ball, toes = (without_blips(flags, CONTACT_FRAMES) for flags in near & slow)
    front = ball | toes
    # A rigid sole that rolls off does so over its toes.
    contact = np.stack([heel] * 2 + [heel & front] * 2 + [front & ~heel] * 3, axis=1)
    return dataclasses.replace(path, contact=contact)


# Step 5: the root ---------------------------------------------------------------------------------

# Highest frequency at which the root follows the feet's corrections, Hz: slower than steps, so that
# ground forces change little.
FOLLOW = 1.2
# Maximum extension of a leg, as a fraction of its length; weights of excess and of any shift.
REACH, REACH_WEIGHT, REACH_ITERATIONS, SHIFT_WEIGHT = 0.995, 100.0, 20, 0.01


def root_shift(human: Humanoid, copied: Copied, feet: dict[str, FootPath]) -> np.ndarray:
    """Shift of the root, (T, 3) m, by least squares.

    Residuals: difference to the corrections of the feet in contact; second differences; excess of
    the legs' length; the shift.
    """
    frames = len(copied.pose)
    bend = sparse.diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(frames - 2, frames))
    per_frame = SHIFT_WEIGHT * sparse.identity(frames)
    per_frame += (RATE / (2 * np.pi * FOLLOW)) ** 4 * bend.T @ bend
    side = np.zeros((frames, 3))
    for name, path in feet.items():
        standing = path.contact.any(axis=1).astype(float)
        per_frame += sparse.diags(standing)
        side += standing[:, None] * (path.ankle - copied.xpos[name + "foot"])
    normal = sparse.kron(per_frame, sparse.identity(3)).tocsc()
    shift = spsolve(normal, side.ravel())
    for _ in range(REACH_ITERATIONS):
        rows, lengths = _beyond_reach(human, copied, feet, shift.reshape(frames, 3))
        if not len(lengths):
            break
        reached = normal + REACH_WEIGHT * rows.T @ rows
        shift = spsolve(reached.tocsc(), side.ravel() + REACH_WEIGHT * rows.T @ lengths)
    return shift.reshape(frames, 3)


def _beyond_reach(
    human: Humanoid, copied: Copied, feet: dict[str, FootPath], shift: np.ndarray
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Rows and right sides by which shifts (T, 3) keep ankles within reach of the hips."""
    rows, sides = [], []
    for name, path in feet.items():
        leg = copied.xpos[name + "femur"] + shift - path.ankle
        length = np.linalg.norm(leg, axis=1)
        over = np.flatnonzero(length > REACH * human.leg)
        along = leg[over] / length[over, None]
        columns = 3 * over[:, None] + np.arange(3)
        starts = 3 * np.arange(len(over) + 1)
        row = sparse.csr_matrix((along.ravel(), columns.ravel(), starts), (len(over), shift.size))
        rows.append(row)
        sides.append(row @ shift.ravel() - (length[over] - REACH * human.leg))
    return sparse.vstack(rows), np.concatenate(sides)


# Step 6: inverse kinematics -----------------------------------------------------------------------


def targets(
    human: Humanoid, copied: Copied, feet: dict[str, FootPath], shift: np.ndarray
) -> Targets:
    """Targets of inverse kinematics: planted feet, a shifted root and the copied pose."""
    posture = copied.pose.copy()
    for side in SIDES:
        columns = [human.joint(side + name) for name in arms.JOINTS]
        posture[:, columns] = arms.arm_angles(human, side, copied.turn, posture[:, columns])
        # `plant` treats soles as rigid.
        posture[:, human.joint(side + "toesrx")] = 0
    return Targets(
        root=copied.pose[:, :3] + shift,
        root_turn=copied.turn["root"],
        chest_turn=copied.turn["thorax"],
        head_turn=copied.turn["head"],
        feet=feet,
        knees={side: copied.xpos[side + "tibia"] + shift for side in SIDES},
        arms={},
        posture=posture,
    )


# Number of later frames through which the first pose is approached: 0.5 s.
LEAD = 25


def followed(human: Humanoid, goals: Targets) -> np.ndarray:
    """Poses (T, nq) that follow the targets within limits and above the ground.

    Planned feet can be out of reach (an ankle at its limit under a bent knee). Then the ground has
    priority over root and foot. From a copied first pose, a limb may get stuck at a limit, so the
    first pose is solved from its neighbour like all others.
    """
    solver = Solver(human, PELVIS_COST, POSTURE_COST, above_ground=True)
    lead = np.arange(min(LEAD, len(goals) - 1), -1, -1)
    return solver.solve(goals, start=solver.solve(goals.taken(lead))[-1])
