"""Touch a target with a hand, and again after a set time: movement, memory and timing."""

from __future__ import annotations

from typing import Any, NamedTuple

import mujoco
import numpy as np

from vnl_envs.bodies.model import BodyModel
from vnl_envs.physics import Array, Physics, columns, namespace, pick
from vnl_envs.scenes.floor import Floor
from vnl_envs.scenes.world import World
from vnl_envs.tasks.metrics import POSITIVE, Metric, PrimaryMetric
from vnl_envs.tasks.observations import Frame
from vnl_envs.tasks.task import Carry, Episode, Marker, Outcome, Overlay, Start, Task

# More targets than there is time for. After the last one its place is used again.
TARGETS = 32
# Reward for a hand at the target, relative to that of a touch; dm_control's value.
CLOSENESS = 0.01

# Phases of a target: it waits for its first touch, for its second one, for its end.
FIRST, SECOND, OVER = range(3)
_COLOURS = ((0.1, 0.7, 0.2, 1.0), (1.0, 0.85, 0.2, 1.0), (0.6, 0.6, 0.6, 1.0))


class Attempt(NamedTuple):
    """The effect of a control step on a target, each (...,).

    Attributes:
        first: whether the first touch happened.
        timed, early: whether a second touch happened in time, or too soon.
        late: whether the time for the second touch ran out.
        phase: phase of the target, int32.
        since: control steps since the first touch, or since the failure, int32.
        done: whether the next target appears.
    """

    first: Array
    timed: Array
    early: Array
    late: Array
    phase: Array
    since: Array
    done: Array


class TwoTouch(Task):
    """Targets to touch twice, as in dm_control's `TwoTouch` (Merel et al. 2020).

    The reward is 1 for the first touch and 1 for a second one in time. It is a failure if the
    second touch is too soon or does not happen: the target rests for a while before the next one
    appears. After a second touch in time the next target appears at once. In all other steps a
    hand near the target earns up to `CLOSENESS`. The time since the touch is not observed, but
    privileged: a critic may observe it.

    Args:
        world: a flat floor with the body.
        horizon: number of control steps.
        radius: radius of a target, m.
        height: height of its centre above the floor, m.
        distance: least and greatest distance from one target to the next, m.
        interval: time between the two touches, s.
        tolerance: greatest deviation from this time, s.
        debounce: time after the first touch in which no other touch counts, s.
        rest: duration of the rest after a failure, s.
        falloff: rate of closeness, exp(-falloff * d), 1/m; d is the sum of the absolute
            differences between the coordinates of hand and target.
    """

    about = "touch a target twice, {interval:g} s apart"
    metrics = (
        Metric("timed_touches", "touches", "last", "higher", POSITIVE),
        Metric("first_touches", "touches", "last", "higher", POSITIVE),
        Metric("early_touches", "touches", "last", "lower", POSITIVE),
        Metric("late_touches", "touches", "last", "lower", POSITIVE),
        Metric("fallen", "1", "last", "lower", (0.0, 1.0)),
    )
    primary = PrimaryMetric(
        metric="timed_touches",
        form="capped",
        cap=10.0,
        name="fraction of 10 targets touched twice in time",
        formula="min(second touches in time, 10) / 10",
    )

    def __init__(
        self,
        world: World,
        *,
        horizon: int,
        radius: float,
        height: float,
        distance: tuple[float, float],
        interval: float,
        tolerance: float,
        debounce: float,
        rest: float,
        falloff: float,
    ) -> None:
        super().__init__(world, horizon)
        self.radius, self.height, self.distance = radius, height, distance
        self.interval, self.tolerance = interval, tolerance
        self.debounce, self.rest = debounce, rest
        self.falloff = falloff
        self.uniforms = 2 * TARGETS + 1
        self._hands = self.body.body_index(*self.body.body.hands)
        self._geoms, self._extent, self._round = _solids(self.body, self.body.body.hands)
        self._earliest, self._latest = (
            round((interval + sign * tolerance) / self.dt) for sign in (-1, 1)
        )
        self._debounced, self._rested = round(debounce / self.dt), round(rest / self.dt)

    @classmethod
    def scene(cls, **settings: Any) -> Floor:
        """A floor with tiles of a third of the greatest distance between targets."""
        return Floor(tile=settings["distance"][1] / 3)

    @property
    def reward_terms(self) -> dict[str, str]:
        """Names and meanings of the reward terms."""
        return {
            "first": "1 on the first touch of a target",
            "timed": "1 on a second touch in time",
            "closeness": f"a hand near the target, up to {CLOSENESS:g}, 0 on a touch",
        }

    def episode(self, u: Array) -> Episode:
        """Targets (..., TARGETS * 2) m, x and y in turn, relative to the start, and the start's
        yaw (...,) rad.
        """
        xp = namespace(u)
        low, high = self.distance
        step = low + (high - low) * u[..., :TARGETS]
        angle = 2 * np.pi * u[..., TARGETS : 2 * TARGETS]
        offset = xp.stack([step * xp.cos(angle), step * xp.sin(angle)], axis=-1)
        targets = xp.cumulative_sum(offset, axis=-2)
        return {
            "targets": targets.reshape((*u.shape[:-1], 2 * TARGETS)),
            "yaw": 2 * np.pi * u[..., 2 * TARGETS],
        }

    def begin(self, episode: Episode) -> tuple[Start, Carry]:
        """Standing at the origin."""
        yaw = episode["yaw"]
        xp = namespace(yaw)
        zero, count = xp.zeros_like(yaw), xp.zeros(yaw.shape, dtype=xp.int32)
        names = ("step", "phase", "since", "targets", *_COUNTED)
        carry = {**dict.fromkeys(names, count), "target": self._target(episode, count)}
        return self.standing_start(yaw.shape, zero, zero, yaw), carry

    def evaluate(
        self, physics: Physics, action: Array, episode: Episode, carry: Carry
    ) -> tuple[Carry, Outcome]:
        """See `Task.evaluate`; the class describes the reward."""
        xp = namespace(physics.qpos)
        target = self._place(carry["target"])
        now = self.attempt(self.touches(physics, target), carry)
        paid = now.first | now.timed
        closeness = CLOSENESS * self._closeness(physics, target)
        terms = {
            "first": xp.where(now.first, 1.0, 0.0),
            "timed": xp.where(now.timed, 1.0, 0.0),
            "closeness": xp.where(paid, 0.0, closeness),
        }
        step = carry["step"] + 1
        happened = (now.timed, now.first, now.early, now.late)
        counts = {n: carry[n] + e for n, e in zip(_COUNTED, happened, strict=True)}
        targets = carry["targets"] + now.done
        fallen = self.fallen(physics, carry)
        carry = {
            "step": step,
            "phase": now.phase,
            "since": now.since,
            "targets": targets,
            "target": self._target(episode, targets),
            **counts,
        }
        return carry, Outcome(
            observation=self.observe(physics, episode, carry),
            reward=sum(terms.values()),
            terms=terms,
            terminated=fallen,
            truncated=(step >= self.horizon) & ~fallen,
            metrics={**counts, "fallen": fallen},
            success=counts["timed_touches"] > 0,
        )

    def attempt(self, touched: Array, carry: Carry) -> Attempt:
        """The effect of a step in which a hand touches the target or not, `touched` (...,) bool."""
        xp = namespace(touched)
        phase, since = carry["phase"], carry["since"] + 1
        first = touched & (phase == FIRST)
        again = touched & (phase == SECOND) & (since > self._debounced)
        early = again & (since < self._earliest)
        timed = again & ~early & (since <= self._latest)
        late = (phase == SECOND) & (since > self._latest)
        done = timed | ((phase == OVER) & (since > self._rested))
        failed = early | late
        phase = xp.where(first, SECOND, xp.where(failed, OVER, xp.where(done, FIRST, phase)))
        since = xp.where(first | failed | done, 0, since)
        return Attempt(
            first,
            timed,
            early,
            late,
            xp.astype(phase, xp.int32),
            xp.astype(since, xp.int32),
            done,
        )

    def touches(self, physics: Physics, target: Array) -> Array:
        """Whether a geom of a hand or of its fingers reaches into a target, (...,)."""
        xp = namespace(physics.qpos)
        turn = physics.geom_xmat.take(self._geoms, axis=-2)
        turn = turn.reshape((*turn.shape[:-1], 3, 3))
        away = target[..., None, :] - physics.geom_xpos.take(self._geoms, axis=-2)
        local = (away[..., :, None] * turn).sum(axis=-2)
        outside = xp.maximum(xp.abs(local) - self._extent, 0.0)
        distance = xp.sqrt((outside * outside).sum(axis=-1)) - self._round
        return distance.min(axis=-1) < self.radius

    def observe_task(
        self, physics: Physics, own: Frame, episode: Episode, carry: Carry
    ) -> dict[str, Array]:
        """Observe target_position (3, m, forward, left and up of the body) and target_phase (3,
        flags: waits for the first touch, waits for the second, is over).
        """
        xp = namespace(physics.qpos)
        away = self._place(carry["target"]) - own.position
        phase = carry["phase"]
        flags = [xp.where(phase == kind, 1.0, 0.0) for kind in (FIRST, SECOND, OVER)]
        return {
            "target_position": (away[..., None, :] @ own.rotation)[..., 0, :],
            "target_phase": columns(*flags),
        }

    def hidden(self, carry: Carry) -> dict[str, Array]:
        """time_since_touch (1, s): time since the first touch, or since the failure."""
        return {"time_since_touch": carry["since"][..., None] * self.dt}

    def overlays(self, physics: Physics, episode: Episode, carry: Carry) -> list[Overlay]:
        """The target: green before the first touch, yellow before the second, grey at rest."""
        colour = _COLOURS[int(carry["phase"])]
        return [Marker(self._place(carry["target"]), self.radius, colour)]

    def _closeness(self, physics: Physics, target: Array) -> Array:
        """Closeness of the nearer hand, in [0, 1], (...,)."""
        xp = namespace(target)
        away = xp.abs(physics.xpos.take(self._hands, axis=-2) - target[..., None, :])
        return xp.exp(-self.falloff * away.sum(axis=-1).min(axis=-1))

    def _target(self, episode: Episode, index: Array) -> Array:
        """The index-th target's x and y, (..., 2), m."""
        xp = namespace(index)
        index = xp.minimum(index, TARGETS - 1)[..., None]
        return pick(episode["targets"], 2 * index + _TWO)

    def _place(self, target: Array) -> Array:
        """Centre of a target with x and y (..., 2), (..., 3), m."""
        xp = namespace(target)
        return xp.concat([target, xp.full_like(target[..., :1], self.height)], axis=-1)


def _solids(body: BodyModel, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Geoms of some bodies and of their descendants, as rounded boxes.

    Returns:
        (n,) rows in the body's own geoms; (n, 3) half-sizes of the boxes, m; (n,) radii of the
        rounding, m. A capsule is a box without width or depth, rounded by its radius. An ellipsoid
        is approximated by a capsule of its length; the radius is the mean of its other half-axes.

    Raises:
        ValueError: one of the geoms has another shape, or there is none.
    """
    model = body.model
    wanted = {model.body(body.body.prefix + name).id for name in names}
    for child in range(model.nbody):
        if int(model.body_parentid[child]) in wanted:
            wanted.add(child)
    ids = np.flatnonzero(np.isin(model.geom_bodyid, sorted(wanted)))
    if not len(ids):
        raise ValueError(f"hands {names} have no geoms to touch with")
    shapes = [_rounded_box(int(model.geom_type[g]), model.geom_size[g]) for g in ids]
    extent, around = zip(*shapes, strict=True)
    return ids - body.geoms.start, np.array(extent), np.array(around)


def _rounded_box(kind: int, size: np.ndarray) -> tuple[np.ndarray, float]:
    """A geom as half-sizes (3,) of a box and the radius of its rounding, m."""
    shapes = mujoco.mjtGeom
    if kind == shapes.mjGEOM_BOX:
        return size, 0.0
    if kind == shapes.mjGEOM_SPHERE:
        return np.zeros(3), size[0]
    if kind == shapes.mjGEOM_CAPSULE:
        return np.array([0, 0, size[1]]), size[0]
    if kind == shapes.mjGEOM_ELLIPSOID:
        longest = size.argmax()
        radius = (size.sum() - size[longest]) / 2
        return (size[longest] - radius) * np.eye(3)[longest], radius
    raise ValueError(
        f"hands touch with spheres, capsules, ellipsoids and boxes, not {shapes(kind)}"
    )


_COUNTED = tuple(metric.name for metric in TwoTouch.metrics[:4])
_TWO = np.arange(2)
