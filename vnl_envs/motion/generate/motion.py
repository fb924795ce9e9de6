"""The motion of the rat in a clip, and the timing of its paws.

From the literature (abstracts and figure captions):

- Górska et al. 1999, Acta Neurobiol Exp 59:131-144, doi 10.55782/ane-1999-1304 (intact rats
  overground): a step cycle lasts 685 ms at 10 cm/s and 215 ms at 78 cm/s; left and right limbs of
  a girdle are half a cycle apart; the duty factor falls below 0.5 as cycles shorten.
- Hruska et al. 1979, "Quantitative aspects of normal locomotion in rats", Life Sci 25:171
  (20-80 cm/s): walking is a lateral sequence with diagonal couplets; stance shortens with speed,
  swing does not; all four feet have the same timing. (Górska et al. call the sequence diagonal;
  both find diagonal couplets. The generator follows Hruska et al.)
- Gillis & Biewener 2001, J Exp Biol 204:2717, fig. 1: swing duration is nearly constant over a
  large range of speeds; rats gallop from 60 to 75 cm/s upwards.
- Bellardita & Kiehn 2015, Curr Biol 25:1426, fig. 1 (mice): in a bound the two hind limbs move
  together, the two fore limbs together, at 10 Hz and 1.0 m/s. (For the rat the generator keeps
  the stride duration of Górska et al., 4.7 Hz at 0.8 m/s; it also goes there continued beyond
  their 0.78 m/s.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vnl_envs.motion.clip import RATE

FRAMES = 250
"""Default length of a clip, frames."""

TAU = 2 * np.pi
LEGS = ("hind_L", "fore_L", "hind_R", "fore_R")

# Górska et al. 1999: cycle duration at two speeds, joined by a power law.
SLOW_SPEED, SLOW_CYCLE = 0.10, 0.685
FAST_SPEED, FAST_CYCLE = 0.78, 0.215
SWING = 0.13
"""Swing duration, s. Constant (Hruska et al. 1979, Gillis & Biewener 2001); this value puts the
duty factor at 0.40 in the shortest and 0.81 in the longest cycles of Górska et al. 1999, where it
crosses 0.5. The value itself is chosen, not measured."""


@dataclass(frozen=True)
class Motion:
    """Parameters of one clip. Amplitudes are zero to peak; all of them are chosen by eye.

    Attributes:
        name, label, split: as in `Clip`.
        speed: along the path, m/s; 0 stands.
        turn: rate of heading, rad/s, left positive.
        lag: delay of a fore paw's touch-down after the hind paw's on its side, cycles. Between
            0.25 and 0.5 the sequence is lateral with diagonal couplets; 0.5 is a trot.
        apart: delay of a right paw's touch-down after the left one's, cycles; 0 is a bound.
        start: phase of the gait in the first frame, cycles.
        runs: whether the trunk bounces according to the paws' forces (`momentum`).
        drive: mean forward force of a running gait's hind limbs over body weight; the fore limbs
            brake by the same force.
        clearance: height of the toes in mid-swing, m.
        keys: instants of a swing, 0 to 1, solved by inverse kinematics; splines join them. Several
            instants keep a fast paw on its path.
        lift: height of the trunk over its standing height, m.
        carriage: pitch of the trunk about its standing pitch, rad, nose up positive.
        gaze: pitch of the head, rad, up positive.
        stagger: lead of the left hind and right fore paws of a standing rat, m.
        spine: lateral bend of the back, rad. Pelvis and shoulders follow their hind and fore paws.
        arch: sagittal bend of the back, rad.
        sway, bob: sideways and vertical motion of the trunk, m.
        roll, pitch: rotations of the trunk, rad.
        head_yaw, head_pitch: rotations of the head relative to the path and its gaze, rad.
        head_rate: frequency of the head's sweep from side to side, Hz; nods are 1.5 times as fast.
        breath: vertical motion of breathing, m.
        rear: pitch of the trunk on the hind legs in the middle of a bout, rad.
        dip: lowering of the trunk in the middle of a bout, m.
        bouts: number of times that the rat rears or dips.
        seconds: duration of the motion, s.
    """

    name: str
    label: str
    split: str
    speed: float = 0.0
    turn: float = 0.0
    lag: float = 0.375
    apart: float = 0.5
    start: float = 0.0
    runs: bool = False
    drive: float = 0.0
    clearance: float = 0.013
    keys: tuple[float, ...] = (0.5,)
    lift: float = 0.0
    carriage: float = 0.0
    gaze: float = 0.0
    stagger: float = 0.0
    spine: float = 0.0
    arch: float = 0.0
    sway: float = 0.0
    bob: float = 0.0
    roll: float = 0.0
    pitch: float = 0.0
    head_yaw: float = 0.0
    head_pitch: float = 0.0
    head_rate: float = 0.4
    breath: float = 0.0
    rear: float = 0.0
    dip: float = 0.0
    bouts: int = 1
    seconds: float = FRAMES / RATE

    @property
    def cycle(self) -> float:
        """Stride duration, s (Górska et al. 1999)."""
        power = np.log(SLOW_CYCLE / FAST_CYCLE) / np.log(SLOW_SPEED / FAST_SPEED)
        return SLOW_CYCLE * (self.speed / SLOW_SPEED) ** power if self.speed else 1.0

    @property
    def duty(self) -> float:
        """Fraction of the cycle that a paw is on the ground."""
        return 1 - SWING / self.cycle if self.speed else 1.0

    def phase(self, time: float) -> float:
        """Phase of the gait, cycles; 0 at the touch-down of the left hind paw."""
        return self.start + time / self.cycle

    def offset(self, leg: str) -> float:
        """Phase of a leg's touch-down, cycles."""
        return self.apart * leg.endswith("R") + self.lag * leg.startswith("fore")

    def bout(self, time: float) -> float:
        """Degree of rearing or dipping, 0 to 1. The rat is still for a tenth of the bout, rises
        within the next quarter, and returns symmetrically at the end.
        """
        duration = self.seconds / self.bouts
        time = np.clip(time, 0.0, self.seconds) % duration
        u = np.clip((min(time, duration - time) / duration - 0.1) / 0.24, 0.0, 1.0)
        return u**3 * (10 - 15 * u + 6 * u**2)

    def rearing(self, time: float) -> float:
        """Pitch of the raised trunk, rad."""
        return self.rear * self.bout(time)

    def dipping(self, time: float) -> float:
        """Lowering of the trunk, m."""
        return self.dip * self.bout(time)

    def tucking(self, time: float) -> float:
        """Degree to which the fore limbs are drawn up, 0 to 1."""
        return self.bout(time) if self.rear else 0.0

    @property
    def moves(self) -> bool:
        """Whether the rat moves along a path."""
        return self.speed != 0

    def now(self, time: float) -> Motion:
        """The parameters at an instant, which are constant in a single motion."""
        return self

    def distance(self, time: float) -> float:
        """Distance of the rat along its path, m."""
        return self.speed * time

    def curvature(self, time: float) -> float:
        """Curvature of the path, 1/m, left positive."""
        return self.turn / self.speed if self.turn else 0.0

    def path(self, distance: float) -> np.ndarray:
        """(x, y, heading) at a distance along the path: a straight line or a circle."""
        if self.turn == 0:
            return np.array([distance, 0.0, 0.0])
        radius = self.speed / self.turn
        heading = distance / radius
        return np.array([radius * np.sin(heading), radius * (1 - np.cos(heading)), heading])

    def stride(self, leg: str, time: float) -> tuple[int, float]:
        """The number of a paw's stride at an instant, from touch-down to touch-down, and the
        completed part of its swing, 0 to 1; negative while the paw stands.
        """
        step, progress = divmod(self.phase(time) - self.offset(leg), 1.0)
        return int(step), (progress - self.duty) / (1 - self.duty)

    def foothold(self, leg: str, step: int) -> float:
        """Distance of the rat along its path in the middle of a paw's stance, m."""
        return self.speed * ((step + self.offset(leg) + self.duty / 2 - self.start) * self.cycle)

    def carries(self, leg: str, time: float) -> bool:
        """Whether a paw should be on the ground."""
        if leg.startswith("fore") and self.rearing(time) > 0:
            return False
        return not self.moves or self.stride(leg, time)[1] < 0
