"""A repertoire for training: motions of the rat with random parameters.

Ranges are slightly larger than those of the embedded clips. No draw has exactly the parameters of
an embedded clip, because all are drawn from intervals.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vnl_envs.bodies import BodyModel
from vnl_envs.motion.checking.check import check_clips
from vnl_envs.motion.clip import Clip
from vnl_envs.motion.generate.journey import BLEND, Course, Journey
from vnl_envs.motion.generate.motion import Motion
from vnl_envs.motion.generate.poses import generate
from vnl_envs.utils import checks

Parameters = dict[str, Any]
"""Parameters of a `Motion` by name."""

SOURCE = "vnl_envs gait generator"
LICENCE = "Apache-2.0"
LEAST_GOOD = 0.2
"""Share of good clips below which the generator gives up, after at least `PATIENCE` clips."""
PATIENCE = 20


def repertoire(
    body: BodyModel, count: int, seed: int, dropped: Counter[str] | None = None
) -> Iterator[Clip]:
    """Generate training clips of the rat that pass the check, the same for the same seed.

    Args:
        body: the rat.
        count: number of clips.
        seed: seed of the draws. A longer repertoire begins with the clips of a shorter one.
        dropped: counter of the dropped clips by label.

    Raises:
        RuntimeError: hardly any clip is ok.
        TypeError, ValueError: `count` or `seed` is not a natural number.
    """
    count = checks.integer("count", count, 1)
    seed = checks.integer("seed", seed, 0)
    dropped = Counter() if dropped is None else dropped
    good = 0
    for made in itertools.count(1):
        if good == count:
            return
        course = draw(np.random.default_rng([seed, made]), f"{made:05d}")
        clip = make_clip(course, body, f"{SOURCE}, seed {seed}")
        if check_clips([clip], body)[0].verdict == "ok":
            good += 1
            yield clip
            continue
        dropped[course.label] += 1
        if made >= PATIENCE and good < LEAST_GOOD * made:
            raise RuntimeError(f"only {good} of {made} generated clips are ok")


def make_clip(course: Course, body: BodyModel, source: str = SOURCE) -> Clip:
    """The clip of a rat's motion."""
    return Clip(
        name=course.name,
        qpos=generate(course, body).astype(np.float32),
        label=course.label,
        split=course.split,
        source=source,
        licence=LICENCE,
        session=course.name,
    )


# What is drawn ------------------------------------------------------------------------------------


def draw(rng: np.random.Generator, number: str) -> Course:
    """Draw the motion of a clip whose name ends in `number`; the split is "train"."""
    labels, shares = zip(*SHARES.items(), strict=True)
    label = str(rng.choice(labels, p=np.array(shares) / sum(shares)))
    name = f"{label}_{number}"
    if label == "journey":
        return Journey(name, label, "train", _parts(rng))
    return Motion(name, label, "train", **BEHAVIOURS[label](rng))


def _between(rng: np.random.Generator, **ranges: tuple[float, float]) -> Parameters:
    """Draw a number from each range."""
    return {name: float(rng.uniform(*ends)) for name, ends in ranges.items()}


def _either_way(rng: np.random.Generator, least: float, most: float) -> float:
    return float(rng.choice([-1.0, 1.0]) * rng.uniform(least, most))


def _look(rng: np.random.Generator) -> Parameters:
    """Motion of the head, and breathing, of a rat that stays where it is."""
    return _between(
        rng,
        head_yaw=(0.0, 0.5),
        head_pitch=(0.0, 0.2),
        head_rate=(0.2, 0.6),
        breath=(0.0002, 0.0005),
        sway=(0.0004, 0.0012),
    )


def _step(rng: np.random.Generator) -> Parameters:
    """Motion of trunk, spine and head with strides, and the phase at the start."""
    return _between(
        rng,
        start=(0.0, 1.0),
        lag=(0.34, 0.44),
        lift=(-0.008, -0.003),
        spine=(0.06, 0.16),
        sway=(0.0, 0.003),
        bob=(0.0, 0.0015),
        roll=(0.0, 0.04),
        pitch=(0.0, 0.02),
        carriage=(-0.1, 0.1),
        gaze=(-0.4, 0.3),
        head_yaw=(0.0, 0.25),
        head_pitch=(0.0, 0.06),
        head_rate=(0.2, 0.6),
        clearance=(0.011, 0.015),
    )


def _stand(rng: np.random.Generator) -> Parameters:
    return _look(rng) | _between(
        rng, carriage=(-0.05, 0.12), gaze=(-0.3, 0.35), stagger=(-0.008, 0.008), lift=(-0.006, 0.0)
    )


def _head_scan(rng: np.random.Generator) -> Parameters:
    return _stand(rng) | _between(
        rng, head_yaw=(0.5, 0.85), head_pitch=(0.05, 0.3), head_rate=(0.3, 0.6)
    )


def _walk(rng: np.random.Generator) -> Parameters:
    return _step(rng) | _between(rng, speed=(0.1, 0.36))


def _turn(rng: np.random.Generator) -> Parameters:
    speed = float(rng.uniform(0.1, 0.32))
    # Radii of 0.11 m and more; faster rats turn in wider arcs.
    return _step(rng) | {"speed": speed, "turn": _either_way(rng, 0.3, min(1.2, speed / 0.11))}


def _crouch(rng: np.random.Generator) -> Parameters:
    if rng.random() < 0.5:
        return _look(rng) | _between(rng, dip=(0.008, 0.02)) | {"bouts": int(rng.integers(1, 3))}
    low = _between(rng, speed=(0.14, 0.22), lift=(-0.011, -0.008), carriage=(-0.05, 0.05))
    return _step(rng) | low | {"turn": _either_way(rng, 0.0, 0.6)}


def _trot(rng: np.random.Generator) -> Parameters:
    drawn = _between(
        rng,
        speed=(0.37, 0.54),
        start=(0.0, 1.0),
        lift=(-0.007, -0.003),
        spine=(0.08, 0.14),
        sway=(0.0, 0.0015),
        roll=(0.0, 0.03),
        carriage=(-0.04, 0.04),
        gaze=(-0.2, 0.2),
        clearance=(0.0135, 0.016),
    )
    return {**drawn, "lag": 0.5, "runs": True, "keys": (0.5, 0.85)}


def _bound(rng: np.random.Generator) -> Parameters:
    drawn = _between(
        rng,
        speed=(0.76, 0.97),
        start=(0.0, 1.0),
        lag=(0.46, 0.48),
        drive=(0.08, 0.12),
        lift=(0.001, 0.003),
        arch=(0.3, 0.38),
        clearance=(0.014, 0.016),
    )
    return {**drawn, "apart": 0.0, "runs": True, "keys": (0.35, 0.65)}


def _rear(rng: np.random.Generator) -> Parameters:
    rear = float(rng.uniform(0.35, 1.25))
    # Two rears in a clip are lower, so that they are not faster.
    bouts = 2 if rear < 0.7 and rng.random() < 0.5 else 1
    return _look(rng) | {"rear": rear, "bouts": bouts, "head_pitch": 0.0}


def _parts(rng: np.random.Generator) -> tuple[Motion, ...]:
    """Three to five motions of 1 to 3 s that alternate with pauses or differ in gait."""
    count = int(rng.integers(3, 6))
    moving, parts = bool(rng.random() < 0.5), []
    for _ in range(count):
        parts.append(_moving_part(rng) if moving else _pause(rng))
        # After a pause always, after a walk mostly: a walk may lead to another one.
        moving = not moving or bool(rng.random() < 0.4)
    if not any(part.moves for part in parts):
        parts.append(_moving_part(rng))
    return tuple(parts)


def _moving_part(rng: np.random.Generator) -> Motion:
    chosen = (_turn if rng.random() < 0.6 else _walk)(rng)
    chosen["speed"] = min(chosen["speed"], 0.3)
    return Motion("", "", "train", **chosen, seconds=float(rng.uniform(1.2, 2.5)))


def _pause(rng: np.random.Generator) -> Motion:
    chosen = _look(rng) | _between(rng, gaze=(-0.3, 0.3)) | {"sway": 0.0}
    seconds = float(rng.uniform(1.0, 2.0))
    if rng.random() < 0.35:
        # Up and down take a quarter of the time each; with a tenth before and after, in which the
        # rat has stopped and does not go on yet.
        seconds = float(rng.uniform(5.0 * BLEND, 4.5))
        chosen["rear"] = float(rng.uniform(0.3, 0.8))
    return Motion("", "", "train", **chosen, seconds=seconds)


BEHAVIOURS: dict[str, Callable[[np.random.Generator], Parameters]] = {
    "stand": _stand,
    "head_scan": _head_scan,
    "walk": _walk,
    "turn": _turn,
    "crouch": _crouch,
    "trot": _trot,
    "bound": _bound,
    "rear": _rear,
}
"""Label -> function that draws the parameters of a `Motion`."""
SHARES = {
    "stand": 4,
    "head_scan": 4,
    "walk": 16,
    "turn": 18,
    "crouch": 8,
    "trot": 12,
    "bound": 8,
    "rear": 10,
    "journey": 20,
}
"""Share of each label among the generated clips, percent."""
