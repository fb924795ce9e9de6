"""What leads from one motion to the next: a rat that walks, stops, rears, walks on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from vnl_envs.motion.generate.motion import SWING, Motion

BLEND = 0.7
"""How long a motion gives way to the next, s. Chosen: a rat that stops from 0.3 m/s decelerates at
0.8 m/s² at most."""
STEP = 0.002
"""Of the integrals over time, s."""
BEYOND = 3.0
"""How long the first and the last motion last outside a journey, s: paws come from somewhere."""

# Of a motion's parameters, those that change smoothly into the next one's.
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
    """Motions one after the other. It answers what a `Motion` does, for every instant.

    The path's curvature and the speed pass smoothly from each to the next. Strides follow the
    speed: each paw swings for `SWING` before every touch-down and stands in between, so that in a
    pause all stand.

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
        """How long it takes."""
        return sum(part.seconds for part in self.parts)

    @property
    def moves(self) -> bool:
        """Whether the rat goes anywhere."""
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
        """How much of each motion there is at times (T,), (T, P); they add up to 1."""
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
        """Phase of the gait, cycles; it stays where it is in a pause."""
        return self._along("phase", time)

    def offset(self, leg: str) -> float:
        """Phase of a leg's touch-down, cycles."""
        return self.parts[0].offset(leg)

    def distance(self, time: float) -> float:
        """Way of the rat along its path, m."""
        return self._along("distance", time)

    def curvature(self, time: float) -> float:
        """Of the path, 1/m, left positive."""
        return float(self.weights(np.array([time]))[0] @ self._curvatures)

    def path(self, distance: float) -> np.ndarray:
        """(x, y, heading) at a distance along the path; straight on where it has not led."""
        grid = self._grid
        known = np.clip(distance, grid["distance"][0], grid["distance"][-1])
        x, y, heading = (
            np.interp(known, grid["distance"], grid[key]) for key in ("x", "y", "heading")
        )
        more = distance - known
        return np.array([x + more * np.cos(heading), y + more * np.sin(heading), heading])

    def _touch_down(self, leg: str, step: int) -> float:
        """When a paw comes down, s; endlessly far where it does not."""
        phase, grid = step + self.offset(leg), self._grid
        if phase <= grid["phase"][0]:
            return -np.inf
        if phase > grid["phase"][-1]:
            return np.inf
        return float(grid["time"][0] + STEP * _crossing(grid["phase"], phase))

    def stride(self, leg: str, time: float) -> tuple[int, float]:
        """As `Motion.stride`."""
        step = int(np.floor(self.phase(time) - self.offset(leg)))
        return step, 1 - (self._touch_down(leg, step + 1) - time) / SWING

    def foothold(self, leg: str, step: int) -> float:
        """Way of the rat along its path, m, halfway between a paw's touch-down and lift-off."""
        down, up = self._touch_down(leg, step), self._touch_down(leg, step + 1) - SWING
        return (self.distance(down) + self.distance(up)) / 2

    def rearing(self, time: float) -> float:
        """By how much the trunk is raised, rad."""
        return sum(p.rearing(time - t) for p, t in zip(self.parts, self._starts, strict=True))

    def dipping(self, time: float) -> float:
        """By how much the trunk is lowered, m."""
        return sum(p.dipping(time - t) for p, t in zip(self.parts, self._starts, strict=True))

    def tucking(self, time: float) -> float:
        """How far the fore limbs are drawn up, 0 to 1."""
        return sum(p.tucking(time - t) for p, t in zip(self.parts, self._starts, strict=True))

    def carries(self, leg: str, time: float) -> bool:
        """Whether a paw should be on the ground."""
        if leg.startswith("fore") and self.rearing(time) > 0:
            return False
        return not self.moves or self.stride(leg, time)[1] < 0


Course = Motion | Journey
"""What a rat does in a clip."""


def _integral(rate: np.ndarray) -> np.ndarray:
    """Over the time grid, 0 at the instant 0."""
    steps = (rate[1:] + rate[:-1]) / 2 * STEP
    total = np.concatenate([[0.0], np.cumsum(steps)])
    return total - total[round(BEYOND / STEP)]


def _crossing(values: np.ndarray, level: float) -> float:
    """Where a rising sequence first reaches a level, as an index with a fraction."""
    after = int(np.searchsorted(values, level))
    before = after - 1
    return before + (level - values[before]) / (values[after] - values[before])
