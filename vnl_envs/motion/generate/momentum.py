"""Bouncing gaits: the trunk moves as the forces under the paws make it.

Each paw pushes with half a sine over its stance, the usual first picture of a running animal's
ground force (Alexander & Jayes 1978, J Zool 185:27, with a shape factor q of 0). The forces sum to
the body's weight over a stride, and nothing pushes in flight. They give the motion of the centre of
mass and the angular momentum about it; the root is moved until the whole animal has both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np

from vnl_envs.bodies import BodyModel
from vnl_envs.motion.clip import RATE
from vnl_envs.motion.generate.motion import LEGS, TAU, Motion
from vnl_envs.motion.kinematics import forward_kinematics, velocities
from vnl_envs.physics import GRAVITY

SAMPLES = 512
"""Samples of a cycle."""
HEIGHT = 0.05
"""Height of the model's centre of mass in the standing pose, m."""
LEAN = 0.7
"""Tilt of a paw's force, backward before mid-stance and forward after it. At 1 the moment about the
centre of mass is constant. Chosen."""
HARMONICS = 3
"""Harmonics of the corrections. The frame rate gives 9 to 15 frames per cycle."""
ROUNDS = 6
"""Number of corrections, more than one because limbs and back move with the root."""
STRIDES = 4
"""Number of strides from which a correction is computed."""
EDGE = 6
"""Frames at both ends of these strides that smoothing does not reach."""


@dataclass(frozen=True, eq=False)
class Bounce:
    """Periodic motion of the root that agrees with momentum.

    Attributes:
        motion: the motion of the rat.
        hind_share: part of the weight that the hind limbs carry.
        corrections: (2 `HARMONICS`, 3) Fourier coefficients of the corrections of forward position
            (m), height (m) and pitch (rad, nose down positive).
    """

    motion: Motion
    hind_share: float
    corrections: np.ndarray

    @classmethod
    def first(cls, motion: Motion, arms: dict[str, float]) -> Bounce:
        """The state before any correction.

        Args:
            motion: the motion of the rat.
            arms: leg -> distance of its paw in mid-stance in front of the centre of mass, m.
        """
        hind, fore = -arms["hind_L"], arms["fore_L"]
        # The moments about the centre of mass cancel over a stride.
        return cls(motion, fore / (fore + hind), np.zeros((2 * HARMONICS, 3)))

    def at(self, time: float) -> np.ndarray:
        """Corrections of the root's forward position, height and pitch, (3,)."""
        phase = self.motion.phase(time)
        forward, up = centre_of_mass(self.motion, self.hind_share)
        grid = np.arange(SAMPLES) / SAMPLES
        planned = [np.interp(phase, grid, way, period=1.0) for way in (forward, up)]
        return np.array([*planned, 0.0]) + _basis(np.array([phase]))[0] @ self.corrections

    def improved(
        self, body: BodyModel, times: np.ndarray, poses: np.ndarray, paws: dict[str, np.ndarray]
    ) -> Bounce:
        """Correct the root so that poses (T, nq) agree better with the forces.

        Args:
            body: the rat.
            times: times of the poses, s.
            poses: poses that start at the origin, along +x.
            paws: leg -> x of its paw at each time, (T,), m.
        """
        inner = slice(EDGE, -EDGE)
        times = times[inner]
        phase = np.array([self.motion.phase(t) for t in times])
        com, momentum, inertia = _dynamics(body, poses)
        com, momentum = com[inner], momentum[inner]
        paws = {leg: way[inner] for leg, way in paws.items()}
        planned = centre_of_mass(self.motion, self.hind_share)
        grid = np.arange(SAMPLES) / SAMPLES
        ahead, up = (np.interp(phase, grid, way, period=1.0) for way in planned)
        forward = com[:, 0] - self.motion.speed * times
        error = np.stack([forward - ahead, com[:, 2] - up], axis=1)
        # Velocities by central differences lose part of each harmonic.
        order = np.repeat(np.arange(1, HARMONICS + 1), 2)
        kept = np.sinc(2 * order / (RATE * self.motion.cycle))
        has = _fit(phase, momentum) / kept
        wants = _integral(_fit(phase, self._moment(body, times, com, paws)), self.motion.cycle)
        turn = _integral(wants - has, self.motion.cycle) / inertia
        step = np.concatenate([-_fit(phase, error), turn[:, None]], axis=1)
        return Bounce(self.motion, self.hind_share, self.corrections + step)

    def _moment(
        self, body: BodyModel, times: np.ndarray, com: np.ndarray, paws: dict[str, np.ndarray]
    ) -> np.ndarray:
        """Moment of the paws' forces about the centre of mass, nose down positive, (T,), N m."""
        weight = body.mass.sum() * GRAVITY
        total = np.zeros(len(times))
        for leg in LEGS:
            force = np.array([push(self.motion, leg, t, self.hind_share) for t in times])
            arm = paws[leg] - com[:, 0]
            total += -com[:, 2] * force[:, 0] - arm * force[:, 1]
        return weight * total


def push(motion: Motion, leg: str, time: float, hind_share: float) -> np.ndarray:
    """Force of a leg, forward and up, in body weights, (2,)."""
    progress = (motion.phase(time) - motion.offset(leg)) % 1.0
    pulse = np.pi / 2 / motion.duty * np.sin(np.pi * min(progress / motion.duty, 1.0))
    hind = leg.startswith("hind")
    up = pulse / 2 * (hind_share if hind else 1 - hind_share)
    ahead = motion.speed * motion.cycle * (motion.duty / 2 - progress)
    drive = pulse / 2 * (motion.drive if hind else -motion.drive)
    return np.array([drive - LEAN * up * ahead / HEIGHT, up])


@lru_cache
def centre_of_mass(motion: Motion, hind_share: float) -> tuple[np.ndarray, np.ndarray]:
    """Forward and upward deviation of the centre of mass from its mean, (`SAMPLES`,) each, m."""
    times = (np.arange(SAMPLES) / SAMPLES - motion.start) * motion.cycle
    force = np.array([sum(push(motion, leg, t, hind_share) for leg in LEGS) for t in times])
    spectrum = np.fft.rfft(GRAVITY * force, axis=0)
    rate = TAU * np.arange(1, len(spectrum)) / motion.cycle
    spectrum[0] = 0.0
    spectrum[1:] /= -(rate[:, None] ** 2)
    way = np.fft.irfft(spectrum, axis=0)
    return way[:, 0], way[:, 1]


def _dynamics(body: BodyModel, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre of mass (T, 3), m, angular momentum about it to the left (T,), kg m²/s, and mean
    moment of inertia about that axis, kg m².
    """
    data = mujoco.MjData(body.model)
    com, momentum = np.empty((len(poses), 3)), np.empty(len(poses))
    mass = body.mass
    for i, (qpos, qvel) in enumerate(zip(poses, velocities(poses), strict=True)):
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_fwdPosition(body.model, data)
        mujoco.mj_fwdVelocity(body.model, data)
        mujoco.mj_subtreeVel(body.model, data)
        com[i] = data.subtree_com[body.bodies.start]
        momentum[i] = data.subtree_angmom[body.bodies.start, 1]
    arm = forward_kinematics(body, poses[:1])["xipos"][0] - com[0]
    return com, momentum, float(mass @ (arm[:, 0] ** 2 + arm[:, 2] ** 2))


def _basis(phase: np.ndarray) -> np.ndarray:
    """Cosine and sine of each harmonic, (T, 2 `HARMONICS`)."""
    angle = TAU * phase[:, None] * np.arange(1, HARMONICS + 1)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1).reshape(len(phase), -1)


def _fit(phase: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Fourier coefficients (2 `HARMONICS`, ...) of values (T, ...) without their mean."""
    columns = np.concatenate([np.ones((len(phase), 1)), _basis(phase)], axis=1)
    return np.linalg.lstsq(columns, values, rcond=None)[0][1:]


def _integral(coefficients: np.ndarray, cycle: float) -> np.ndarray:
    """Fourier coefficients of the integral over time."""
    cosine, sine = coefficients[::2], coefficients[1::2]
    rate = TAU * np.arange(1, HARMONICS + 1) / cycle
    return np.stack([-sine / rate, cosine / rate], axis=-1).reshape(-1)
