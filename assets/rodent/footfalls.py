"""Where the path goes and where the paws are on it."""

from __future__ import annotations

import numpy as np

from rodent.motion import Motion

# Chosen by eye.
SETBACK = {"hind": 0.015, "fore": 0.006}
"""How far behind its standing place a walking paw is in mid-stance, m, so that the hind paw swings
around the point below the hip."""
GIRDLE = 0.057
"""Distance of the pelvis behind the root along the path, m (the model's)."""


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


def foothold(motion: Motion, leg: str, home: np.ndarray, step: int) -> np.ndarray:
    """Where the points (n, 2) of a paw are during its n-th stance.

    In mid-stance the paw is at its home in the frame of its girdle.
    """
    middle = (step + motion.offset(leg) + motion.duty / 2 - motion.start) * motion.cycle
    behind = GIRDLE if leg.startswith("hind") else 0.0
    setback = SETBACK[leg[:4]] if motion.speed else 0.0
    frame = path_frame(motion, motion.speed * middle - behind)
    return place(frame, home + np.array([behind - setback, 0.0]))


def paw_target(motion: Motion, leg: str, home: np.ndarray, time: float) -> tuple[np.ndarray, float]:
    """Points (n, 2) of a paw in the world and their height over the ground, m."""
    if motion.speed == 0:
        return home, 0.0
    step, progress = divmod(motion.phase(time) - motion.offset(leg), 1.0)
    here = foothold(motion, leg, home, int(step))
    if progress < motion.duty:
        return here, 0.0
    u = (progress - motion.duty) / (1 - motion.duty)
    there = foothold(motion, leg, home, int(step) + 1)
    # At rest at both ends, but soon up and on the way: the trunk does not wait.
    forward = (1 - np.cos(np.pi * u)) / 2
    up = (4 * u * (1 - u)) ** 1.5
    return here + forward * (there - here), motion.clearance * up


def grip(motion: Motion, leg: str, time: float) -> float:
    """Weight of a paw's target: the fore paws of a rearing rat leave the ground freely."""
    if leg.startswith("hind"):
        return 1.0
    return float(np.exp(-((motion.rearing(time) / 0.04) ** 2)))
