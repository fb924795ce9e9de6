"""A source's motion on the humanoid: feet, flight and inverse kinematics."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.ndimage import binary_closing, binary_erosion
from scipy.sparse.linalg import spsolve
from scipy.spatial.transform import Rotation

from humanoid.source import SOURCE_ANKLE_HEIGHT, SOURCE_HEEL, SOURCE_LEG, SOURCE_TOE, Motion
from vnl_envs.bodies.model import lowest_point
from vnl_envs.motion.clip import RATE
from vnl_envs.motion.fitting.feet import RISE, FootPath, plant, without_blips
from vnl_envs.motion.fitting.humanoid_ik import POSTURE_COST, AboveGround, Humanoid, Solver, Targets
from vnl_envs.motion.fitting.smoothing import low_pass
from vnl_envs.motion.kinematics import forward_kinematics

GRAVITY = 9.81


@dataclass(frozen=True)
class Fit:
    """How a source's poses are put on the humanoid.

    Attributes:
        drop: how much lower the hips are carried, m.
        widen: how much further outwards the feet are set, m. The target's hips are 21 mm wider
            apart than scaling says; and its ankles do not roll, so that a nearly straight leg
            stands flat only under its hip.
        height, speed: below both a source point is in contact with the ground, m and m/s.
        flight: while no foot is on the ground the body falls freely.
        rise: how much higher than the ground a foot must be per frame away from contact, and at
            most, m; swings that are fast at once must leave the ground as quickly.
        keep: how much more the smoothed posture of one pass counts in the next than a neutral one.
        lying: other parts than the feet come to the ground: all the time, something touches it.
    """

    drop: float = 0.045
    widen: float = 0.045
    height: float = 0.03
    speed: float = 0.6
    flight: bool = False
    rise: tuple[float, float] = RISE
    keep: float = 10.0
    lying: bool = False


# How often inverse kinematics is solved for smoother targets; standard deviation of the low-pass
# filter in between, frames: cut-off about 4 Hz.
PASSES, SMOOTHING = 4, 2.0
# Cost of the pelvis, so that feet that come to the ground do not pull at it.
FIRM_PELVIS = (50.0, 10.0)


def retarget(human: Humanoid, motion: Motion, stretch: float, fit: Fit) -> np.ndarray:
    """Poses (T, nq) at 50 Hz.

    Args:
        human: the target body.
        motion: the source's motion at 50 Hz once times are stretched.
        stretch: of times.
        fit: how.
    """
    solver = Solver(human, FIRM_PELVIS, above_ground=True)
    ground = AboveGround(human)
    raw = {side: raw_foot(human, motion, 1 / RATE / stretch, side, fit) for side in "rl"}
    targets = body_targets(human, motion, planted(human, raw, fit), fit)
    for attempt in range(PASSES):
        # Where a leg cannot reach, the root gave way with a jerk, and where a joint hardly matters
        # it wandered; next time both are asked to go smoothly where they could.
        solved = solver.solve(targets)
        qpos = smooth(solved, slice(0, None))
        if fit.flight:
            # Smoothing again and again would take the speed from each take-off.
            kept = in_flight(raw) | (attempt > 0)
            qpos[kept, :3] = solved[kept, :3]
            shift = flight_shift(human, qpos, raw, STANDING_WEIGHT)
            qpos[:, :3] += shift
            raw = {side: carried(path, shift) for side, path in raw.items()}
            targets = replace(targets, feet=planted(human, raw, fit))
        if fit.lying:
            qpos[:, 2] -= low_pass(ground.lowest(solved), SMOOTHING)
        targets = replace(targets, root=qpos[:, :3], posture=qpos)
        solver = Solver(human, FIRM_PELVIS, fit.keep * POSTURE_COST, above_ground=True)
    qpos = solver.solve(targets)
    if not fit.lying:
        upper = [i for i, name in enumerate(human.body.joint_names) if not _in_leg(name)]
        qpos = smooth(qpos, 7 + np.array(upper))
    if fit.flight:
        qpos[:, :3] += flight_shift(human, qpos, raw, GROUNDED_WEIGHT, JOINT_WEIGHT)
    return qpos


def smooth(qpos: np.ndarray, columns: slice | np.ndarray) -> np.ndarray:
    """Poses with a low-pass filter on some columns."""
    qpos = qpos.copy()
    qpos[:, columns] = low_pass(qpos[:, columns], SMOOTHING)
    return qpos


def _in_leg(joint: str) -> bool:
    return any(part in joint for part in ("femur", "tibia", "foot"))


def clearance(human: Humanoid, qpos: np.ndarray) -> np.ndarray:
    """Height of the lowest contact geom, (T,), m, at full precision."""
    kinematics = forward_kinematics(human.body, qpos)
    return lowest_point(human.body, kinematics["geom_xpos"], kinematics["geom_xmat"])


# --- Feet -----------------------------------------------------------------------------------------


# Share of the frames in which a foot's heel and toe are on the ground, at least; and the largest
# turn that this may ask of the sole, rad.
STANDING_SHARE, LARGEST_TILT = 0.1, 0.2
# The cosine of the sole's tilt beyond which a foot does not stand.
STEEPEST = 0.4
# Of a foot about the vertical, above which it turns on one point, rad/s.
PIVOT = 1.5
HEEL, BALL = 0, 5
"""Of the points of `Humanoid.sole`, one of the heel's and the middle of the toes."""


def raw_foot(human: Humanoid, motion: Motion, dt: float, side: str, fit: Fit) -> FootPath:
    """A foot's path as the source has it, scaled, with contacts by height and speed."""
    positions, rotations = motion.forward()
    ankle, sole = positions[side + "ankle"], rotations[side + "ankle"]
    if not fit.lying:
        ankle, sole = levelled(ankle, sole)
    upright = sole.apply([0, 0, 1])[:, 2] > STEEPEST
    heel, toe = (touching(p, dt, fit) & upright for p in source_points(ankle, sole))
    # A foot rolls over its ball onto its toes, which reach further than the source's.
    contact = np.stack([heel] * 2 + [heel & toe] * 2 + [toe & ~heel] * 3, axis=1)
    pivots = np.abs(turning(sole, dt)) > PIVOT
    contact[pivots & heel & ~toe] = np.arange(contact.shape[1]) == HEEL
    contact[pivots & toe] = np.arange(contact.shape[1]) == BALL
    scale = human.leg / SOURCE_LEG
    lift = human.ankle_height[side] - scale * SOURCE_ANKLE_HEIGHT
    return FootPath(ankle * scale + outward(motion, side, fit.widen) + [0, 0, lift], sole, contact)


def source_points(ankle: np.ndarray, sole: Rotation) -> list[np.ndarray]:
    """(T, 3) of the source's heel and toe, m."""
    return [ankle + sole.apply([x, 0, -SOURCE_ANKLE_HEIGHT]) for x in (SOURCE_HEEL, SOURCE_TOE)]


def levelled(ankle: np.ndarray, sole: Rotation) -> tuple[np.ndarray, Rotation]:
    """A foot's path moved and turned so that its low points are on the ground.

    The source's files have their feet up to some centimetres above or under it.
    """
    heel, toe = (np.quantile(p[:, 2], STANDING_SHARE) for p in source_points(ankle, sole))
    tilt = np.clip((toe - heel) / (SOURCE_TOE - SOURCE_HEEL), -LARGEST_TILT, LARGEST_TILT)
    sole = sole * Rotation.from_rotvec([0, tilt, 0])
    low = np.min([p[:, 2] for p in source_points(ankle, sole)], axis=0)
    return ankle - [0, 0, np.quantile(low, STANDING_SHARE)], sole


def touching(point: np.ndarray, dt: float, fit: Fit) -> np.ndarray:
    """(T,) whether a point is on the ground."""
    velocity = np.linalg.norm(np.gradient(point[:, :2], dt, axis=0), axis=1)
    return without_blips((point[:, 2] < fit.height) & (velocity < fit.speed))


def turning(sole: Rotation, dt: float) -> np.ndarray:
    """(T,) angular velocity about the vertical, rad/s."""
    turn = (sole[2:] * sole[:-2].inv()).as_rotvec()[:, 2] / (2 * dt)
    return np.pad(turn, 1, mode="edge")


def outward(motion: Motion, side: str, way: float) -> np.ndarray:
    """(T, 3) a way to the body's side, m."""
    return motion.rotation["root"].apply([0, way if side == "l" else -way, 0])


def planted(human: Humanoid, raw: dict[str, FootPath], fit: Fit) -> dict[str, FootPath]:
    """Paths of feet that neither slide nor sink."""
    return {
        side: plant(path, human.sole[side], human.radius, rise=fit.rise)
        for side, path in raw.items()
    }


# --- Flight ---------------------------------------------------------------------------------------

# Weights of falling freely, of a shift in flight, of one on standing legs, of one that would move
# standing feet as well; of the shift's acceleration (per frame) on standing legs, and of one that
# starts and ends at once.
FALL_WEIGHT, SHIFT_WEIGHT, STANDING_WEIGHT, GROUNDED_WEIGHT = 1e6, 1.0, 30.0, 1e9
BEND_WEIGHT, JOINT_WEIGHT = 1e3, 1e8
# Frames next to a contact over which a foot starts to move along.
CARRIED_WITHIN = 2
# Shorter gaps between contacts are no flights, frames.
SHORTEST_FLIGHT = 7


def in_flight(feet: dict[str, FootPath]) -> np.ndarray:
    """(T,) whether no foot is in contact."""
    touching = np.logical_or.reduce([path.away == 0 for path in feet.values()])
    return ~binary_closing(
        np.pad(touching, SHORTEST_FLIGHT, mode="edge"), np.ones(SHORTEST_FLIGHT)
    )[SHORTEST_FLIGHT:-SHORTEST_FLIGHT]


def flight_shift(
    human: Humanoid,
    qpos: np.ndarray,
    feet: dict[str, FootPath],
    grounded: float,
    bend: float = BEND_WEIGHT,
) -> np.ndarray:
    """(T, 3) shift of the body with which its centre of mass falls freely in flight, m.

    Least squares over one displacement per frame, as small and smooth as that allows.

    Args:
        human: the body.
        qpos: (T, nq) poses.
        feet: side -> path.
        grounded: weight of a shift while a foot is in contact.
        bend: weight of the shift's acceleration around flights.
    """
    kinematics = forward_kinematics(human.body, qpos)
    mass = human.body.mass / human.body.mass.sum()
    com = np.einsum("b,fbi->fi", mass, kinematics["xipos"])
    flying = in_flight(feet)
    inner = binary_erosion(flying)[1:-1]
    second = sparse.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(len(com) - 2, len(com)))
    weight = np.where(inner, FALL_WEIGHT, bend)
    wanted = np.where(inner[:, None], [0, 0, -GRAVITY / RATE**2] - second @ com, 0.0)
    least = sparse.diags_array(np.where(flying, SHIFT_WEIGHT, grounded))
    normal = second.T @ sparse.diags_array(weight) @ second + least
    return spsolve(normal.tocsc(), second.T @ (weight[:, None] * wanted))


def carried(path: FootPath, shift: np.ndarray) -> FootPath:
    """The path of a foot that moves along with a shift of the body where it is in the air."""
    share = np.minimum(path.away / CARRIED_WITHIN, 1.0)
    return replace(path, ankle=path.ankle + share[:, None] * shift)


# --- Body -----------------------------------------------------------------------------------------


def body_targets(human: Humanoid, motion: Motion, feet: dict[str, FootPath], fit: Fit) -> Targets:
    """Targets from the source's pose, scaled by the ratio of leg lengths.

    Args:
        human: the target body.
        motion: the source's motion.
        feet: corrected paths.
        fit: how.
    """
    positions, rotations = motion.forward()
    scale = human.leg / SOURCE_LEG
    lift = np.array([0, 0, human.ankle_height["l"] - scale * SOURCE_ANKLE_HEIGHT - fit.drop])
    root_turn = rotations["root"] * human.facing
    arms = {}
    for side in "rl":
        joints = [positions[side + n] for n in ("shoulder", "elbow", "wrist")]
        bones = np.diff(np.stack(joints, axis=1), axis=1)
        arms[side] = bones / np.linalg.norm(bones, axis=2, keepdims=True)
    # Midway between the hips, which are where they are, and the feet.
    knees = {
        side: positions[side + "knee"] * scale + lift + outward(motion, side, fit.widen / 2)
        for side in "rl"
    }
    return Targets(
        root=positions["root"] * scale + lift - root_turn.apply(human.hips),
        root_turn=root_turn,
        chest_turn=rotations["chest"] * human.facing,
        head_turn=rotations["neck"] * human.facing,
        feet=feet,
        knees=knees,
        arms=arms,
    )
