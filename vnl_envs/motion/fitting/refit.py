"""Fit motion that was copied joint by joint from another skeleton to the humanoid.

Copied joint angles keep a style, but were recorded with other lengths: the humanoid sinks or
floats, slides, and its joints leave their limits. Steps:

1. What is faster than people move is filtered out.
2. Lengths grow by the ratio of the legs' lengths, times by its square root: that keeps the Froude
   number, and forces in body weights (Alexander & Jayes 1983).
3. Soles are turned by one rotation per foot, so that they are flat where the foot rests; a floor
   that leans is levelled and put at z = 0.
4. What of a foot is low and slow touches the ground. `feet.plant` corrects the feet's paths.
5. The root follows the corrections of the feet that stand, smoothly and no higher than legs reach.
6. `arms` gives the arms' angles within limits, `humanoid_ik` the rest, towards the copied pose and
   nowhere under the ground.
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
"""Of a recording, s."""

# Against those of other callers: the copied trunk and legs are to survive, and the root's path,
# which carries the weight, before the feet's.
PELVIS_COST, POSTURE_COST = (300.0, 100.0), 0.3
# Corrections of feet end with their contacts: a foot that must not roll off as far as the
# recording's is not to swing back. Turns are dear, ankles reach their limits.
PLANT_KEEP, PLANT_TURN_ARM = 300.0, 0.5


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted motion, T frames at 50 Hz.

    Attributes:
        qpos: (T, nq) poses of the humanoid.
        contact: side -> (T, 7) whether each point of `Humanoid.sole` is meant to be on the ground.
        scale: factor of lengths.
        stretch: factor of times.
        slope: of the recording's floor, rad.
    """

    qpos: np.ndarray
    contact: dict[str, np.ndarray]
    scale: float
    stretch: float
    slope: float


def refit(copy: np.ndarray, rate: float) -> Fit:
    """Fit poses of the humanoid (T, nq), copied from another skeleton.

    Args:
        copy: root position (m), root quaternion (w, x, y, z) and joints (rad), in limits or not.
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

# Of low-pass filters, Hz. Winter (Biomechanics and Motor Control of Human Movement) filters walking
# at 6 Hz; running needs more. Hands are recorded by few markers, and carry nothing.
CUTOFF = 8.0
HAND_PARTS, HAND_CUTOFF = ("hand", "fingers", "thumb"), 3.0


def calmed(human: Humanoid, copy: np.ndarray, rate: float) -> np.ndarray:
    """Poses (T, nq) without what is faster than `CUTOFF`, or for hands `HAND_CUTOFF`."""
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
    """Copied poses, T frames, with what their kinematics give.

    Attributes:
        pose: (T, nq).
        xpos, turn: body -> (T, 3) positions, m, and T rotations.
        feet: side -> path without contacts, its sole flat where the foot rests.
    """

    pose: np.ndarray
    xpos: dict[str, np.ndarray]
    turn: dict[str, Rotation]
    feet: dict[str, FootPath]

    @classmethod
    def of(cls, human: Humanoid, pose: np.ndarray) -> Copied:
        """From poses (T, nq)."""
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


# Fraction of the frames in which a foot counts as resting: less than any gait's stance.
RESTING = 0.15


def resting(human: Humanoid, side: str, path: FootPath) -> np.ndarray:
    """(T,) the frames in which heel and ball move least."""
    speed = speeds(under_sole(human, side, path))
    slower = np.maximum(speed[:, HEEL].mean(axis=1), speed[:, BALL].mean(axis=1))
    return slower <= np.quantile(slower, RESTING)


def flattened(human: Humanoid, side: str, path: FootPath) -> FootPath:
    """The path with its sole turned, by one rotation, to be flat where the foot rests.

    Recorded feet rest on other shoes and skeletons: copied, they point down by 13 to 22 degrees.
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

# How far sliding may move the ratio from that of heights, and bounds for people of any size.
SIZE_DOUBT, SMALLEST, LARGEST = 0.05, 0.7, 2.5
# Feet are under a body whose root is this much of the leg higher.
UPRIGHT = 0.5


def size_ratio(human: Humanoid, pose: np.ndarray) -> float:
    """The humanoid's size over the recorded person's, from copied poses (T, nq).

    It is the height of the root above the copied feet over that above the recording's floor; and
    of the ratios close to that the one at which the feet slide least.

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

# Floors of capture volumes lean by up to 1.1 degrees. Only where feet rest further apart than this,
# as a variance in m², a lean shows.
SPREAD = 0.03
# Spots that are further from the plane than this, or twice the median, are none on the floor, m.
NEAR_FLOOR = 0.01


def level(human: Humanoid, pose: np.ndarray) -> tuple[np.ndarray, float]:
    """Poses (T, nq) moved so that their feet rest on z = 0, and the slope that the floor had, rad.

    Ridge regression of a plane through where feet rest, without outliers.
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

# Below both a part of a sole is in contact, m and m/s; speeds grow with that of the body, by this
# factor of it, since soles of runners are slow for a few frames only.
CONTACT_HEIGHT, CONTACT_SPEED, CONTACT_PACE = 0.035, 0.4, 0.3
# How much higher than the sole's lowest part it may be, m: a foot that rolls off is not flat.
CONTACT_FLAT = 0.02
# Contacts and gaps are at least this long, frames; the pace is smoothed by these, frames.
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

# Up to which frequency the root follows the feet's corrections, Hz: slower than steps, so that
# what the ground must give does not change much.
FOLLOW = 1.2
# How straight a leg may be, as a part of its length; weights of what is beyond and of any shift.
REACH, REACH_WEIGHT, REACH_ITERATIONS, SHIFT_WEIGHT = 0.995, 100.0, 20, 0.01


def root_shift(human: Humanoid, copied: Copied, feet: dict[str, FootPath]) -> np.ndarray:
    """How far the root moves, (T, 3) m: least squares.

    Residuals: its distance from the corrections of the feet in contact; second differences; what
    legs lack in length; the shift.
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
    """Rows and right sides with which shifts (T, 3) bring hips back into reach of their ankles."""
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
    """What inverse kinematics follows: planted feet, a shifted root and the copied pose."""
    posture = copied.pose.copy()
    for side in SIDES:
        columns = [human.joint(side + name) for name in arms.JOINTS]
        posture[:, columns] = arms.arm_angles(human, side, copied.turn, posture[:, columns])
        # `plant` takes soles for rigid.
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


# Frames before which the first is approached, from later ones: 0.5 s.
LEAD = 25


def followed(human: Humanoid, goals: Targets) -> np.ndarray:
    """Poses (T, nq) that follow the targets as far as limits let them, none under the ground.

    Planned feet can be out of reach (an ankle at its limit under a bent knee): then the ground is
    what holds, and the root and the foot give way. A copied first pose may lead to a solution in
    which a limb is stuck at a limit, so the first pose is reached as any other is, from its
    neighbour.
    """
    solver = Solver(human, PELVIS_COST, POSTURE_COST, above_ground=True)
    lead = np.arange(min(LEAD, len(goals) - 1), -1, -1)
    return solver.solve(goals, start=solver.solve(goals.taken(lead))[-1])
