"""When a source's frames are played: gaits repeat, takes are played as recorded.

Times grow by the square root of the ratio of leg lengths, which keeps the Froude number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline

from humanoid.source import Motion
from vnl_envs.motion.clip import RATE
from vnl_envs.motion.fitting.smoothing import low_pass

# Where in its period a gait begins, the source's first frame being 0: in mid-stance. The sources
# begin as a foot strikes the ground, and the other one strikes half a period later.
MID_STANCE = 0.25


@dataclass(frozen=True)
class Gait:
    """Periods of a motion that nearly closes, joined without jerks by a Fourier fit.

    Attributes:
        periods: how many.
        gap: frames between the last one kept and the next period's first one.
        trim: frames dropped at the end, where the source's feet jump.
        harmonics: of the fit.
        straight: the path has no curvature; else as the source turns.
        padding: frames played before and after, to be cut off once poses are found: the ends of a
            gait are to be as smooth as its middle.
    """

    periods: float
    gap: float = 1
    trim: int = 0
    harmonics: int = 8
    straight: bool = False
    padding: ClassVar[int] = 25

    def play(self, motion: Motion, dt: float, stretch: float) -> Motion:
        """A motion with `dt` s between its frames, at 50 Hz once times are stretched."""
        motion = motion[: len(motion) - self.trim]
        cycle = fit_cycle(motion, dt, self.gap, self.harmonics, self.straight)
        frames = int(self.periods * cycle.period * stretch * RATE)
        played = np.arange(-self.padding, frames + self.padding)
        phase = MID_STANCE + played / (RATE * stretch * cycle.period)
        along = np.arctan2(cycle.twist[1], cycle.twist[0]) + MID_STANCE * cycle.twist[2]
        return from_origin(cycle.sample(phase), float(along))


# Over which the ends of a motion bend to meet, s, of the source's time.
SEAM = 0.25
# Standard deviation of the filter that eases a motion out of and into a hold, s.
EASE = 0.12


@dataclass(frozen=True)
class Take:
    """A motion as recorded, between two poses that are held.

    Attributes:
        times: how often it is played; each time where the last one has led.
        stop: the first frame of the source that is not played.
        before, after: how long the first and the last pose are held, s.
        pace: how much faster than its file says; right where the source falls as fast as it should.
        padding: as in `Gait`.
    """

    times: int = 1
    stop: int | None = None
    before: float = 0.0
    after: float = 0.0
    pace: float = 1.0

    padding: ClassVar[int] = 0

    def play(self, motion: Motion, dt: float, stretch: float) -> Motion:
        """A motion with `dt` s between its frames, at 50 Hz once times are stretched."""
        motion, dt = motion[: self.stop], dt / self.pace
        if self.times > 1:
            motion = repeat(motion, self.times, round(SEAM / dt))
        duration = (len(motion) - 1) * dt
        seconds = self.before + duration * stretch + self.after
        time = (np.arange(int(seconds * RATE)) / RATE - self.before) / stretch
        # Odd reflection at an end that holds is the hold, at one that does not is going on.
        played = at(motion, dt, low_pass(np.clip(time, 0, duration), EASE * RATE))
        if self.before or self.after:
            played.position[:, :2] += sway(len(played))
        return from_origin(played, 0.0)


def at(motion: Motion, dt: float, time: np.ndarray) -> Motion:
    """A motion at times (T,), s, by cubic splines."""
    knots = np.arange(len(motion)) * dt
    turns = {name: RotationSpline(knots, turn)(time) for name, turn in motion.rotation.items()}
    return Motion(CubicSpline(knots, motion.position)(time), turns)


def repeat(motion: Motion, times: int, seam: int) -> Motion:
    """A motion several times, each where the last one has led.

    Args:
        motion: its last frame is the next period's first.
        times: how often.
        seam: frames over which the ends bend to meet.
    """
    turn, shift = _lead(motion)
    motion = _closed(motion, turn, shift, seam)
    position, rotation = [motion.position], {n: [r] for n, r in motion.rotation.items()}
    for _ in range(times - 1):
        motion = motion.moved(turn, shift)
        position.append(motion.position[1:])
        for name, parts in rotation.items():
            parts.append(motion.rotation[name][1:])
    joined = {name: Rotation.concatenate(parts) for name, parts in rotation.items()}
    return Motion(np.concatenate(position), joined)


def _lead(motion: Motion) -> tuple[Rotation, np.ndarray]:
    """The turn about z and the shift on the plane that lead from the first frame to the last."""
    root = motion.rotation["root"]
    *_, z, w = (root[-1] * root[0].inv()).as_quat()
    turn = Rotation.from_rotvec([0, 0, 2 * np.arctan2(z, w)])
    shift = motion.position[-1] - turn.apply(motion.position[0])
    return turn, shift * [1, 1, 0]


def _closed(motion: Motion, turn: Rotation, shift: np.ndarray, seam: int) -> Motion:
    """A motion whose ends are bent so that the first frame, led, is the last."""
    ramp = np.clip(np.arange(len(motion)) / seam, 0, 1)
    start = 1 - ramp**2 * (3 - 2 * ramp)
    weight = (start[::-1] - start) / 2
    led = motion[:1].moved(turn, shift)
    position = motion.position + np.outer(weight, led.position[0] - motion.position[-1])
    rotation = {}
    for name, turns in motion.rotation.items():
        error = (turns[-1].inv() * led.rotation[name][0]).as_rotvec()
        rotation[name] = turns * Rotation.from_rotvec(np.outer(weight, error))
    return Motion(position, rotation)


# Of the sway along x and y and of the gaze, Hz: quiet standing sways at 0.2 to 0.5 Hz.
SWAY_RATE = (0.37, 0.21)
SWAY = (0.006, 0.012)


def sway(frames: int) -> np.ndarray:
    """(T, 2) of a standing body's centre of mass at 50 Hz, m."""
    return np.sin(2 * np.pi * np.outer(np.arange(frames) / RATE, SWAY_RATE)) * SWAY


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


def _twist(motion: Motion, straight: bool) -> np.ndarray:
    """The constant planar velocity (vx, vy, yaw) that leads from the first frame to the last."""
    angle = 0.0 if straight else motion.yaw[-1] - motion.yaw[0]
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
    return motion.moved(turn, -turn.apply(motion.position[0] * [1, 1, 0]))
