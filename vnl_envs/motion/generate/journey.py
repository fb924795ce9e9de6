"""Sequences of motions with smooth transitions: a rat walks, stops, rears and walks on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from vnl_envs.motion.generate.motion import SWING, Motion

BLEND = 0.7
"""Duration of a transition, s. Chosen: a rat that stops from 0.3 m/s decelerates at 0.8 m/s² at
most."""
STEP = 0.002
"""Time step of the integrals over time, s."""
BEYOND = 3.0
"""Extension of the first and the last motion beyond the journey, s, for the strides at its ends."""

# The parameters of a motion that are blended with those of the next one.
_BLENDED = (
    "lift",
    "carriage",
    "gaze",
    "spine",
    "sway",
    "bob",
    "roll",
    "pitch",
    "head_yaw",
    "head_pitch",
    "breath",
)


@dataclass(frozen=True)
class Journey:
    """A sequence of motions with the interface of `Motion`.

    Curvature of the path and speed change smoothly between motions. Strides follow the speed: each
    paw swings for `SWING` before every touch-down and stands in between. So all paws stand in a
    pause.

    Attributes:
        name, label, split: as in `Clip`.
        parts: the motions, none of which runs. The limbs' timing (`lag`, `start`), the swings
            (`clearance`, `keys`) and the rate of the head's sweeps are those of the first.
    """

    name: str
    label: str
    split: str
    parts: tuple[Motion, ...]

    stagger = 0.0

    @property
    def seconds(self) -> float:
        """Duration, s."""
        return sum(part.seconds for part in self.parts)

    @property
    def moves(self) -> bool:
        """Whether the rat moves along a path."""
        return any(part.moves for part in self.parts)

    @property
    def clearance(self) -> float:
        """Height of the toes in mid-swing, m."""
        return self.parts[0].clearance

    @property
    def keys(self) -> tuple[float, ...]:
        """See `Motion`."""
        return self.parts[0].keys

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0.0, *(part.seconds for part in self.parts[:-1])])

    def weights(self, time: np.ndarray) -> np.ndarray:
        """Weight of each motion at times (T,), (T, P). The weights add up to 1."""
        u = np.clip((time[:, None] - self._starts[1:]) / BLEND + 0.5, 0.0, 1.0)
        begun = np.hstack([np.ones((len(time), 1)), u**3 * (10 - 15 * u + 6 * u**2)])
        return begun - np.hstack([begun[:, 1:], np.zeros((len(time), 1))])

    @cached_property
    def _grid(self) -> dict[str, np.ndarray]:
        """Integrals over time: distance (m), phase (cycles), and place and heading on the path."""
        time = np.arange(-BEYOND, self.seconds + BEYOND, STEP)
        weights = self.weights(time)
        speed = weights @ [part.speed for part in self.parts]
        curvature = weights @ self._curvatures
        rate = np.array([1 / replace(self.parts[0], speed=v).cycle if v else 0.0 for v in speed])
        distance, phase = _integral(speed), _integral(rate)
        heading = _integral(speed * curvature)
        x, y = _integral(speed * np.cos(heading)), _integral(speed * np.sin(heading))
        return {
            "time": time,
            "distance": distance,
            "phase": self.parts[0].start + phase,
            "x": x,
            "y": y,
            "heading": heading,
        }

    @cached_property
    def _curvatures(self) -> np.ndarray:
        return np.array([part.curvature(0.0) for part in self.parts])

    def now(self, time: float) -> Motion:
        """The parameters at an instant."""
        weights = self.weights(np.array([time]))[0]
        values: dict[str, Any] = {
            name: float(weights @ [getattr(part, name) for part in self.parts]) for name in _BLENDED
        }
        return replace(self.parts[0], **values)

    def _along(self, key: str, time: float) -> float:
        return float(np.interp(time, self._grid["time"], self._grid[key]))

    def phase(self, time: float) -> float:
        """Phase of the gait, cycles; constant in a pause."""
        return self._along("phase", time)

    def offset(self, leg: str) -> float:
        """Phase of a leg's touch-down, cycles."""
        return self.parts[0].offset(leg)

    def distance(self, time: float) -> float:
        """Distance of the rat along its path, m."""
        return self._along("distance", time)

    def curvature(self, time: float) -> float:
        """Curvature of the path, 1/m, left positive."""
        return float(self.weights(np.array([time]))[0] @ self._curvatures)

    def path(self, distance: float) -> np.ndarray:
        """(x, y, heading) at a distance along the path, which continues straight at its ends."""
        grid = self._grid
        known = np.clip(distance, grid["distance"][0], grid["distance"][-1])
        x, y, heading = (
            np.interp(known, grid["distance"], grid[key]) for key in ("x", "y", "heading")
        )
        more = distance - known
        return np.array([x + more * np.cos(heading), y + more * np.sin(heading), heading])

    def _touch_down(self, leg: str, step: int) -> float:
        """Time of a paw's touch-down, s; infinite if there is none."""
        phase, grid = step + self.offset(leg), self._grid
        if phase <= grid["phase"][0]:
            return -np.inf
        if phase > grid["phase"][-1]:
            return np.inf
        return float(grid["time"][0] + STEP * _crossing(grid["phase"], phase))

    def stride(self, leg: str, time: float) -> tuple[int, float]:
        """See `Motion.stride`."""
        step = int(np.floor(self.phase(time) - self.offset(leg)))
        return step, 1 - (self._touch_down(leg, step + 1) - time) / SWING

    def foothold(self, leg: str, step: int) -> float:
        """Distance of the rat along its path halfway between a paw's touch-down and lift-off, m."""
        down, up = self._touch_down(leg, step), self._touch_down(leg, step + 1) - SWING
        return (self.distance(down) + self.distance(up)) / 2

    def rearing(self, time: float) -> float:
        """Pitch of the raised trunk, rad."""
        return sum(p.rearing(time - t) for p, t in zip(self.parts, self._starts, strict=True))

    def dipping(self, time: float) -> float:
        """Lowering of the trunk, m."""
        return sum(p.dipping(time - t) for p, t in zip(self.parts, self._starts, strict=True))

    def tucking(self, time: float) -> float:
        """Degree to which the fore limbs are drawn up, 0 to 1."""
        return sum(p.tucking(time - t) for p, t in zip(self.parts, self._starts, strict=True))

    def carries(self, leg: str, time: float) -> bool:
        """Whether a paw should be on the ground."""
        if leg.startswith("fore") and self.rearing(time) > 0:
            return False
        return not self.moves or self.stride(leg, time)[1] < 0


Course = Motion | Journey
"""Motion of a rat in a clip."""


def _integral(rate: np.ndarray) -> np.ndarray:
    """Integral over the time grid, 0 at time 0."""
    steps = (rate[1:] + rate[:-1]) / 2 * STEP
    total = np.concatenate([[0.0], np.cumsum(steps)])
    return total - total[round(BEYOND / STEP)]


def _crossing(values: np.ndarray, level: float) -> float:
    """The fractional index at which a rising sequence first reaches a level."""
    after = int(np.searchsorted(values, level))
    before = after - 1
    return before + (level - values[before]) / (values[after] - values[before])
