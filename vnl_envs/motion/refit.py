"""Fit motion of the humanoid's own joints, copied from another skeleton, to the humanoid.

Copied joint angles keep a style, but the lengths that they were recorded with are not the
humanoid's: it sinks or floats, slides, and its joints leave their limits. Steps:

1. Lengths of the path grow until the copied feet slide least: a longer leg makes longer steps.
2. Soles are turned by one rotation per foot, so that they are flat where the foot rests, and the
   whole is put on the ground.
3. What of a foot is low and slow touches the ground; `plant` then corrects the feet's paths.
4. The root follows the corrections of the feet that stand.
5. Inverse kinematics (`humanoid_ik`) within joint limits, towards the copied pose.

Times are kept, so that events stay where they were.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize_scalar
from scipy.spatial.transform import Rotation

from vnl_envs.motion.clip import RATE
from vnl_envs.motion.feet import FootPath, plant, without_blips
from vnl_envs.motion.humanoid_ik import Humanoid, Solver, Targets
from vnl_envs.motion.kinematics import forward_kinematics
from vnl_envs.motion.resample import resample

SIDES = "rl"
HEEL, BALL, TOES = slice(0, 2), slice(2, 4), slice(4, 7)
"""Points of `Humanoid.sole`."""
CUTOFF = 8.0
"""Of the low-pass filter on copied angles and paths, Hz."""


def refit(copy: np.ndarray, rate: float) -> np.ndarray:
    """Poses (T', nq) of the humanoid at 50 Hz, from copied ones (T, nq) at a rate in Hz."""
    human = Humanoid()
    grounded = ground(human, calmed(human, copy, rate), rate)
    feet = {s: plant(grounded.feet[s], human.sole[s], human.radius, KEEP, TURN_ARM) for s in SIDES}
    shift = root_shift(human, grounded, feet)
    return Solver(human, PELVIS_COST).solve(targets(human, grounded, feet, shift))


PELVIS_COST = (300.0, 100.0)


def calmed(human: Humanoid, copy: np.ndarray, rate: float) -> np.ndarray:
    """Poses without what is faster than `CUTOFF`."""
    cutoff = np.full(copy.shape[1], CUTOFF)
    small = [any(part in name for part in SMALL_PARTS) for name in human.body.joint_names]
    cutoff[7:][small] = SMALL_CUTOFF
    # The gain of a Gaussian falls to 1/sqrt(2) at sqrt(ln 2) / (2 pi sigma).
    sigma = np.sqrt(np.log(2)) / (2 * np.pi * cutoff) * rate
    # Ends are continued with their velocity: those of a path that stopped would brake.
    margin = min(len(copy) - 1, int(np.ceil(4 * sigma.max())))
    padded = np.pad(copy, ((margin, margin), (0, 0)), "reflect", reflect_type="odd")
    out = np.stack([gaussian_filter1d(x, s, truncate=4) for x, s in zip(padded.T, sigma)], axis=1)
    out = out[margin : len(out) - margin]
    out[:, 3:7] /= np.linalg.norm(out[:, 3:7], axis=1, keepdims=True)
    return out


SMALL_PARTS = ("fingers", "thumb")
SMALL_CUTOFF = 2.0


@dataclass(frozen=True, eq=False)
class Copied:
    """Copied poses, T frames, with what their kinematics give.

    Attributes:
        pose: (T, nq).
        xpos, turn: body -> (T, 3) positions, m, and T rotations.
        feet: side -> path, soles turned so that they are flat where the foot rests; no contacts.
    """

    pose: np.ndarray
    xpos: dict[str, np.ndarray]
    turn: dict[str, Rotation]
    feet: dict[str, FootPath]

    @classmethod
    def of(cls, human: Humanoid, pose: np.ndarray) -> Copied:
        """From poses (T, nq)."""
        kinematics = forward_kinematics(human.body, pose)
        places, quats = (np.swapaxes(kinematics[k], 0, 1) for k in ("xpos", "xquat"))
        names = human.body.body_names
        xpos = dict(zip(names, places, strict=True))
        turn = {
            n: Rotation.from_quat(q, scalar_first=True) for n, q in zip(names, quats, strict=True)
        }
        feet = {}
        for side in SIDES:
            sole = turn[side + "foot"] * human.flat[side].inv()
            path = FootPath(xpos[side + "foot"], sole, np.zeros((len(pose), 7), bool))
            feet[side] = flattened(human, side, path)
        return cls(pose, xpos, turn, feet)


def sole_points(human: Humanoid, side: str, path: FootPath) -> np.ndarray:
    """(T, 7, 3) lowest points of the spheres of a sole, m."""
    arms = np.stack([path.sole.apply(p) for p in human.sole[side]], axis=1)
    return path.ankle[:, None] + arms - [0, 0, human.radius]


def speeds(points: np.ndarray) -> np.ndarray:
    """(T, ..., D) -> (T, ...) by central differences at 50 Hz, m/s."""
    return np.linalg.norm(np.gradient(points, 1 / RATE, axis=0), axis=-1)


SLOWEST = 0.15


def scaled(human, pose):
    copied = Copied.of(human, pose)
    offsets = [sole_points(human, s, copied.feet[s]) - pose[:, None, :3] for s in SIDES]
    relative = np.stack(offsets, axis=1)

    def slide(scale):
        v = speeds(relative[..., :2] + scale * pose[:, None, None, :2]).min(axis=2)
        slow = np.sort(v, axis=0)
        return slow[: max(1, int(SLOWEST * len(v)))].mean()

    height = np.median(-relative[..., 2].min(axis=(1, 2)) / pose[:, 2])
    scale = minimize_scalar(
        slide, bounds=(0.95 * height, 1.05 * height), method="bounded", options={"xatol": 1e-3}
    ).x
    out = pose.copy()
    out[:, :3] *= scale
    return out, scale


REST = 0.15
SPREAD = 0.03


def resting(human, side, path):
    speed = speeds(sole_points(human, side, path))
    speed = np.maximum(speed[:, HEEL].mean(axis=1), speed[:, BALL].mean(axis=1))
    return speed <= np.quantile(speed, REST)


def flattened(human, side, path) -> FootPath:
    """The path with its sole turned flat where the foot rests."""
    rest = resting(human, side, path)
    up = path.sole[rest].inv().apply([0, 0, 1]).mean(axis=0)
    return dataclasses.replace(path, sole=path.sole * between([0, 0, 1], up))


def between(a, b) -> Rotation:
    """The smallest rotation that turns a vector to the direction of another."""
    axis = np.cross(a, b)
    size = np.linalg.norm(axis)
    return Rotation.from_rotvec(axis / max(size, 1e-9) * np.arctan2(size, np.dot(a, b)))


def on_floor(human, pose):
    copied = Copied.of(human, pose)
    spots = []
    for side in SIDES:
        path = copied.feet[side]
        points = sole_points(human, side, path)[resting(human, side, path)]
        spots.append(points[:, :4].mean(axis=1))
    spots = np.concatenate(spots)
    centre = np.median(spots, axis=0)
    x, z = (spots - centre)[:, :2], (spots - centre)[:, 2]
    keep = np.ones(len(z), bool)
    for _ in range(3):
        middle = x[keep].mean(axis=0)
        xm = x[keep] - middle
        slope = np.linalg.solve(
            xm.T @ xm + SPREAD * keep.sum() * np.eye(2), xm.T @ (z[keep] - z[keep].mean())
        )
        level = z[keep].mean() - middle @ slope
        err = np.abs(z - level - x @ slope)
        keep = err <= max(0.01, 2 * np.median(err))
    turn = between([*-slope, 1], [0, 0, 1])
    centre = centre + [0, 0, level]
    out = pose.copy()
    out[:, :3] = turn.apply(pose[:, :3] - centre) + [*centre[:2], 0]
    out[:, 3:7] = (turn * Rotation.from_quat(pose[:, 3:7], scalar_first=True)).as_quat(
        scalar_first=True
    )
    return out, np.degrees(np.arctan(np.linalg.norm(slope)))


def ground(human, pose, rate):
    pose, scale = scaled(human, pose)
    pose = resample(pose, rate / np.sqrt(scale))
    pose, slope = on_floor(human, pose)
    copied = Copied.of(human, pose)
    feet = {s: touching(human, s, copied.feet[s], pose[:, :2]) for s in SIDES}
    copied = dataclasses.replace(copied, feet=feet)
    object.__setattr__(copied, "scale", scale)
    object.__setattr__(copied, "slope", slope)
    return copied


CONTACT_HEIGHT, CONTACT_SPEED, CONTACT_SHARE = 0.035, 0.4, 0.3
SHORTEST = 3


def touching(human, side, path, way) -> FootPath:
    points = sole_points(human, side, path)
    speed = speeds(points)
    pace = np.linalg.norm(np.gradient(way, 1 / RATE, axis=0), axis=1)
    limit = np.maximum(CONTACT_SPEED, CONTACT_SHARE * gaussian_filter1d(pace, 10))
    height = np.stack([points[:, part, 2].mean(axis=1) for part in (HEEL, BALL, TOES)])
    speed = np.stack([speed[:, part].mean(axis=1) for part in (HEEL, BALL, TOES)])
    near = (height < CONTACT_HEIGHT) & (height - height.min(axis=0) < FLAT)
    heel, ball, toes = (without_blips(f, SHORTEST) for f in near & (speed < limit))
    contact = np.stack(
        [heel] * 2 + [heel & (ball | toes)] * 2 + [(ball | toes) & ~heel] * 3, axis=1
    )
    return dataclasses.replace(path, contact=contact)


FLAT = 0.02
KEEP, TURN_ARM = 300.0, 0.5

FOLLOW_HZ = 1.2
REACH = 0.995
REACH_WEIGHT = 100.0
SMALL = 0.01


def root_shift(human, grounded, feet):
    n = len(grounded.pose)
    eye = sparse.identity(n, format="csr")
    bend = sparse.diags([1, -2, 1], [0, 1, 2], shape=(n - 2, n), dtype=float)
    stiff = (RATE / (2 * np.pi * FOLLOW_HZ)) ** 2
    base = SMALL * eye + stiff**2 * (bend.T @ bend)
    side_ = np.zeros((n, 3))
    on = {}
    for side in SIDES:
        on[side] = feet[side].contact.any(axis=1).astype(float)
        base = base + sparse.diags(on[side])
        side_ += on[side][:, None] * (feet[side].ankle - grounded.xpos[side + "foot"])
    normal = sparse.kron(base, sparse.identity(3)).tocsr()
    shift = spsolve(normal.tocsc(), side_.ravel()).reshape(n, 3)
    most = REACH * human.leg
    for _ in range(20):
        rows = []
        rhs = []
        for side in SIDES:
            d = grounded.xpos[side + "femur"] + shift - feet[side].ankle
            l = np.linalg.norm(d, axis=1)
            over = np.flatnonzero(l > most)
            u = d[over] / l[over, None]
            m = sparse.csr_matrix(
                (
                    u.ravel(),
                    (
                        np.repeat(np.arange(len(over)), 3),
                        (3 * over[:, None] + np.arange(3)).ravel(),
                    ),
                ),
                (len(over), 3 * n),
            )
            rows.append(m)
            rhs.append(m @ shift.ravel() - (l[over] - most))
        m = sparse.vstack(rows)
        r = np.concatenate(rhs)
        if not len(r):
            break
        shift = spsolve(
            (normal + REACH_WEIGHT * m.T @ m).tocsc(), side_.ravel() + REACH_WEIGHT * m.T @ r
        ).reshape(n, 3)
    return shift


def targets(human, grounded, feet, change) -> Targets:
    arms = {}
    for side in SIDES:
        joints = [grounded.xpos[side + n] for n in ("humerus", "radius", "hand")]
        bones = np.diff(np.stack(joints, 1), axis=1)
        arms[side] = bones / np.linalg.norm(bones, axis=2, keepdims=True)
    pose = grounded.pose.copy()
    pose[:, [human.joint(s + "toesrx") for s in SIDES]] = 0
    return Targets(
        root=grounded.pose[:, :3] + change,
        root_turn=grounded.turn["root"],
        chest_turn=grounded.turn["thorax"],
        head_turn=grounded.turn["head"],
        feet=feet,
        knees={s: grounded.xpos[s + "tibia"] + change for s in SIDES},
        arms=arms,
        posture=pose,
    )
