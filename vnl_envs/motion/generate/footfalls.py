"""Positions of the paws on the path."""

from __future__ import annotations

import numpy as np

from vnl_envs.motion.generate.journey import Course

# Chosen by eye.
SETBACK = {"hind": 0.015, "fore": 0.006}
"""Distance of a walking paw in mid-stance behind its standing place, m. With it the hind paw swings
around the point below the hip."""
GIRDLE = 0.057
"""Distance of the pelvis behind the root along the path, m (the model's)."""


def place(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Transform points (n, 2) from a path frame to the world."""
    c, s = np.cos(frame[2]), np.sin(frame[2])
    return frame[:2] + points @ np.array([[c, s], [-s, c]])


def foothold(motion: Course, leg: str, home: np.ndarray, step: int) -> np.ndarray:
    """Positions (n, 2) of a paw's points in the stance of number `step`, m.

    In mid-stance the paw is at its home in the frame of its girdle.
    """
    behind = GIRDLE if leg.startswith("hind") else 0.0
    setback = SETBACK[leg[:4]] if motion.moves else 0.0
    frame = motion.path(motion.foothold(leg, step) - behind)
    return place(frame, home + np.array([behind - setback, 0.0]))


def paw_target(motion: Course, leg: str, home: np.ndarray, time: float) -> tuple[np.ndarray, float]:
    """Points (n, 2) of a paw in the world and their height over the ground, m."""
    if not motion.moves:
        return home, 0.0
    step, u = motion.stride(leg, time)
    current = foothold(motion, leg, home, step)
    if u < 0:
        return current, 0.0
    following = foothold(motion, leg, home, step + 1)
    # At rest at both ends, but with an early rise, because the trunk moves on.
    forward = (1 - np.cos(np.pi * u)) / 2
    up = (4 * u * (1 - u)) ** 1.5
    return current + forward * (following - current), motion.clearance * up


def grip(motion: Course, leg: str, time: float) -> float:
    """Weight of a paw's target: the fore paws of a rearing rat leave the ground freely."""
    if leg.startswith("hind"):
        return 1.0
    return float(np.exp(-((motion.rearing(time) / 0.04) ** 2)))
