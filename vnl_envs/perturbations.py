"""What may be perturbed, in one place, and how a task becomes one that is.

Everything random is decided by the Episode: factors are parts of it, and what changes from step to
step (noise, pushes, repeated actions) follows from its seed and the step's number. So the same
Episode is the same perturbation on every engine that supports it. `docs/perturbations.md` has the
meanings.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import mujoco
import numpy as np

from vnl_envs import counter
from vnl_envs.bodies.limbs import Limbs
from vnl_envs.motion.kinematics import forward_kinematics
from vnl_envs.physics import Array, Physics, namespace
from vnl_envs.scenes.world import Scene
from vnl_envs.tasks.observations import Frame, frame
from vnl_envs.tasks.task import (
    PRIVILEGED,
    Carry,
    Episode,
    Observation,
    Outcome,
    Overlay,
    Placement,
    Start,
    Task,
)
from vnl_envs.utils import checks

PREFIX = "perturbation/"
"""Of the names that a perturbation adds to episodes and carries."""

# Factors of model fields, each one uniform number and one part of the Episode.
_FACTORS = ("mass", "friction", "gain", "limb_length", "limb_size")
# Greatest size of each; a limb that is too short starts fallen.
_MOST = {"mass": 0.9, "friction": 0.99, "gain": 0.9, "limb_length": 0.3, "limb_size": 0.5}
_MOST_TILT = math.pi / 4
_MOST_DELAY = 50
# What an episode given by a user may hold: beyond what is drawn, for sweeps, but not beyond sense.
_LEAST_FACTOR, _GREATEST_FACTOR = 0.05, 20.0

# Streams of `vnl_envs.counter`.
_PUSH, _REPEAT, _NOISE = 1, 2, 3

_Rows = TypeVar("_Rows", bound=Mapping[str, Array])


@dataclass(frozen=True)
class Push:
    """Horizontal pushes of the root, one in every interval, at a random time in it.

    Attributes:
        force: in weights of the unperturbed body.
        duration: of a push, s.
        interval: s; at least the duration.
    """

    force: float
    duration: float
    interval: float

    def __post_init__(self) -> None:
        checks.number("push force", self.force, 0.0, 100.0, "body weights")
        checks.number("push duration", self.duration, 1e-3, 1e3, "s")
        checks.number("push interval", self.interval, self.duration, 1e6, "s")

    @classmethod
    def from_mapping(cls, value: Any) -> Push | None:
        """From a mapping with these attributes as keys; None without force.

        Raises:
            ValueError: it is not one, or a number is out of its bounds.
        """
        if isinstance(value, Mapping):
            names = {f.name for f in dataclasses.fields(cls)}
            if set(value) != names:
                raise ValueError(f"push has the keys {sorted(names)}, got {sorted(value)}")
            value = cls(**value)
        if not isinstance(value, cls):
            raise ValueError(f"push must be a mapping or a Push, got {value!r}")
        return value if value.force > 0 else None


@dataclass(frozen=True)
class Perturbations:
    """How much of what is perturbed; everything is off by default.

    Attributes:
        mass: x draws one factor in [1 - x, 1 + x] for the masses and inertias of all bodies.
        friction: likewise, for the friction of the body and of the ground.
        gain: likewise, for the actuators' strength: force at a given pose and control, and its
            bounds. The pose that a servo is asked for stays.
        gravity_tilt: gravity is turned by up to this angle, rad, in a random direction.
        limb_length: x draws one factor in [1 - x, 1 + x] for the length of all limb segments.
        limb_size: likewise, for their thickness. Masses follow at the same density.
        push: pushes of the root: a mapping of "force" in body weights, "duration" and "interval"
            in s; see `Push`.
        observation_noise: name of an observation -> standard deviation of the Gaussian noise
            added to each of its numbers at every step, in that observation's unit.
        action_delay: actions come up to this many control steps late, the same in an episode;
            until the first arrives the body is asked for its standing pose.
        action_repeat: probability that an actuator command is the last step's once more in place
            of the new one ("sticky actions": Machado et al. 2018, "Revisiting the Arcade Learning
            Environment").

    Raises:
        ValueError: a value is out of its bounds or of a wrong kind.
    """

    NATIVE_ONLY: ClassVar[tuple[str, ...]] = ("limb_length", "limb_size")
    """Those that only the native engine simulates."""

    mass: float = 0.0
    friction: float = 0.0
    gain: float = 0.0
    gravity_tilt: float = 0.0
    limb_length: float = 0.0
    limb_size: float = 0.0
    push: Push | None = None
    observation_noise: Mapping[str, float] = field(default_factory=dict)
    action_delay: int = 0
    action_repeat: float = 0.0

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            name: checks.number(name, getattr(self, name), 0.0, _MOST[name]) for name in _FACTORS
        }
        tilt = checks.number("gravity_tilt", self.gravity_tilt, 0.0, _MOST_TILT, "rad")
        repeat = checks.number("action_repeat", self.action_repeat, 0.0, 0.99)
        delay = checks.integer("action_delay", self.action_delay, 0)
        if delay > _MOST_DELAY:
            raise ValueError(f"action_delay must be at most {_MOST_DELAY} steps, got {delay}")
        noise = self.observation_noise
        if not isinstance(noise, Mapping):
            raise ValueError(f"observation_noise must be a mapping of names, got {noise!r}")
        checked |= {
            "gravity_tilt": tilt,
            "action_repeat": repeat,
            "action_delay": delay,
            "push": None if self.push is None else Push.from_mapping(self.push),
            "observation_noise": {
                str(k): checks.number(f"observation_noise of {k!r}", v, 0.0, 1e6)
                for k, v in noise.items()
            },
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any] | Perturbations | None) -> Perturbations:
        """From a mapping with these attributes as keys, for options and JSON.

        Raises:
            ValueError: an unknown key (the message lists what there is), or see the class.
        """
        if value is None:
            return cls()
        if isinstance(value, cls):
            return value
        names = [f.name for f in dataclasses.fields(cls)]
        if not isinstance(value, Mapping):
            raise ValueError(f"perturbations must be a mapping with keys among {names}, "
                             f"got {value!r}")  # fmt: skip
        unknown = [k for k in value if k not in names]
        if unknown:
            raise ValueError(f"there are no perturbations {unknown}; there are {names}")
        return cls(**value)

    def active(self) -> tuple[str, ...]:
        """Names of those that change anything."""
        on = [f.name for f in dataclasses.fields(self)]
        noise = any(self.observation_noise.values())
        return tuple(n for n in on if (noise if n == "observation_noise" else getattr(self, n)))

    def native_only(self) -> tuple[str, ...]:
        """Names of those that are on and that only the native engine simulates."""
        return tuple(name for name in self.active() if name in self.NATIVE_ONLY)


def perturbed(task: Task, value: Mapping[str, Any] | Perturbations | None) -> Task:
    """A task with perturbations, itself where none is on.

    Raises:
        ValueError: see `Perturbations`; noise for observations that the task does not have, or
            limbs or actuators that cannot be changed.
    """
    perturbations = Perturbations.from_mapping(value)
    if perturbations.observation_noise:
        names = [name for parts in _observed(task).values() for name in parts]
        unknown = sorted(set(perturbations.observation_noise) - set(names))
        if unknown:
            raise ValueError(f"there are no observations {unknown} for noise; there are {names}")
    return PerturbedTask(task, perturbations) if perturbations.active() else task


class PerturbedTask(Task):
    """A task in which something is perturbed; everything else is the task's own.

    Its observations have a third group, "privileged", for critics: the noise-free values of both
    others ("proprioception/…", "task/…"), "perturbation", the episode's factors as one vector (see
    `privileged`), and "push", the force during the coming step in body weights, forward and left.

    Args:
        inner: the task.
        perturbations: at least one of them on.

    Attributes:
        perturbations: as given.
        privileged: what the vector "perturbation" consists of, in order. Factors are pure numbers,
            the tilt of gravity is (forward, left) in the body's own heading, rad, the delay is in
            control steps.
    """

    def __init__(self, inner: Task, perturbations: Perturbations) -> None:
        super().__init__(inner.world, inner.horizon)
        self.inner, self.perturbations = inner, perturbations
        self.metrics = inner.metrics
        active = perturbations.active()
        self._factors = tuple(name for name in _FACTORS if name in active)
        self._tilted = "gravity_tilt" in active
        self._delay = perturbations.action_delay
        self._seeded = bool({"push", "observation_noise", "action_repeat"} & set(active))
        self._push = _PushTimes(perturbations.push, inner) if perturbations.push else None
        self._noise = {k: v for k, v in perturbations.observation_noise.items() if v > 0}
        scaled = perturbations.native_only()
        self._limbs = Limbs(inner.body) if scaled else None
        self._model = _Model(inner)
        if "gain" in active:
            self._model.check_actuators()
        tilt = ("gravity_tilt_forward", "gravity_tilt_left") if self._tilted else ()
        self.privileged = (*self._factors, *tilt, *(("action_delay",) if self._delay else ()))
        self.uniforms = inner.uniforms + len(self._factors) + 2 * self._tilted
        self.uniforms += bool(self._delay) + 2 * self._seeded

    @classmethod
    def scene(cls, **settings: Any) -> Scene:
        """None: its world is the inner task's.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a perturbed task is made from a task, which has its world")

    @property
    def reward_terms(self) -> dict[str, str]:
        """The task's."""
        return self.inner.reward_terms

    @property
    def unwrapped(self) -> Task:
        """The task that is perturbed."""
        return self.inner.unwrapped

    def episode(self, u: Array) -> Episode:
        """The task's, and under "perturbation/": factors (...,) by name, gravity_tilt (..., 2) rad
        that gravity leans towards x and y, action_delay (...,) steps, seed (...,).
        """
        xp = namespace(u)
        own = u[..., self.inner.uniforms :]
        parts: dict[str, Array] = {}
        for i, name in enumerate(self._factors):
            x = getattr(self.perturbations, name)
            parts[name] = (1.0 - x) + (2.0 * x) * own[..., i]
        next_ = len(self._factors)
        if self._tilted:
            angle = self.perturbations.gravity_tilt * own[..., next_]
            towards = 2.0 * math.pi * own[..., next_ + 1]
            lean = [angle * xp.cos(towards), angle * xp.sin(towards)]
            parts["gravity_tilt"] = xp.stack(lean, axis=-1)
            next_ += 2
        if self._delay:
            steps = xp.astype(own[..., next_] * (self._delay + 1.0), xp.int32)
            parts["action_delay"] = xp.minimum(steps, self._delay)
            next_ += 1
        if self._seeded:
            parts["seed"] = counter.seed_of(own[..., next_ : next_ + 2])
        inner = self.inner.episode(u[..., : self.inner.uniforms])
        return {**inner, **{PREFIX + name: value for name, value in parts.items()}}

    def check_episode(self, episode: Episode) -> None:
        """Factors are positive, the delay is within its bound; they may lie beyond what is drawn,
        for sweeps.
        """
        self.inner.check_episode(_inner(episode))
        for name in self._factors:
            value = float(episode[PREFIX + name])
            checks.number(f"episode part {PREFIX + name!r}", value, _LEAST_FACTOR, _GREATEST_FACTOR)
        if self._tilted:
            angle = float(np.hypot(*np.asarray(episode[PREFIX + "gravity_tilt"], float)))
            part = f"the angle of episode part {PREFIX + 'gravity_tilt'!r}"
            checks.number(part, angle, 0.0, math.pi / 2, "rad")
        if self._delay:
            steps = int(episode[PREFIX + "action_delay"])
            part = f"episode part {PREFIX + 'action_delay'!r}"
            checks.number(part, steps, 0, self._delay, "steps")

    def begin(self, episode: Episode) -> tuple[Start, Carry]:
        """The task's start, raised or lowered by what limbs of other lengths ask for."""
        start, carry = self.inner.begin(_inner(episode))
        xp = namespace(start.qpos)
        if self._limbs is not None:
            lift = self._limbs.sink(start.qpos, *self._scales(episode))
            up = lift[..., None] * (np.arange(self.body.nq) == 2)
            start = start._replace(qpos=start.qpos + up)
        batch, nu = start.qpos.shape[:-1], self.body.nu
        own: dict[str, Array] = {}
        if self._seeded:
            own["step"] = xp.zeros(batch, dtype=xp.int32)
        if self._delay:
            own["actions"] = xp.zeros((*batch, self._delay, nu), dtype=xp.float32)
        if self.perturbations.action_repeat:
            own["command"] = xp.zeros((*batch, nu), dtype=xp.float32)
        return start, {**carry, **{PREFIX + name: value for name, value in own.items()}}

    def native_only(self) -> tuple[str, ...]:
        """See `Perturbations`."""
        return self.perturbations.native_only()

    def model_fields(self, episode: Episode) -> dict[str, Array]:
        """The task's, and what the perturbations change."""
        fields = dict(self.inner.model_fields(_inner(episode)))
        if self._limbs is not None:
            fields |= self._limbs.fields(*self._scales(episode))
        factors = {name: episode[PREFIX + name] for name in self._factors}
        fields |= self._model.scaled(factors, fields)
        if self._tilted:
            fields["opt.gravity"] = self._model.gravity(episode[PREFIX + "gravity_tilt"])
        return fields

    def applied_action(self, action: Array, episode: Episode, carry: Carry) -> Array:
        """The action late, or the last one once more."""
        command = self._command(action, episode, carry)
        return self.inner.applied_action(command, _inner(episode), _inner(carry))

    def place(self, episode: Episode, carry: Carry) -> Placement:
        """The task's scenery and forces, and pushes."""
        placed = self.inner.place(_inner(episode), _inner(carry))
        if self._push is None:
            return placed
        push = self._push.newtons(episode[PREFIX + "seed"], carry[PREFIX + "step"])
        return placed._replace(force=push if placed.force is None else placed.force + push)

    def evaluate(
        self, physics: Physics, action: Array, episode: Episode, carry: Carry
    ) -> tuple[Carry, Outcome]:
        """The task's judgement; it is told the action that was applied."""
        command = self._command(action, episode, carry)
        after, outcome = self.inner.evaluate(physics, command, _inner(episode), _inner(carry))
        after = {**after, **self._remembered(action, command, carry)}
        seen = self._perceived(outcome.observation, physics, None, episode, after)
        return after, outcome._replace(observation=seen)

    def observe(
        self, physics: Physics, episode: Episode, carry: Carry, own: Frame | None = None
    ) -> Observation:
        """Both groups with noise, and "privileged"; see the class."""
        observed = self.inner.observe(physics, _inner(episode), _inner(carry), own)
        return self._perceived(observed, physics, own, episode, carry)

    def observe_task(
        self, physics: Physics, own: Frame, episode: Episode, carry: Carry
    ) -> dict[str, Array]:
        """The task's, without noise."""
        return self.inner.observe_task(physics, own, _inner(episode), _inner(carry))

    def clearance(self, points: Array, carry: Carry) -> Array:
        """The task's."""
        return self.inner.clearance(points, _inner(carry))

    def overlays(self, physics: Physics, episode: Episode, carry: Carry) -> list[Overlay]:
        """The task's."""
        return self.inner.overlays(physics, _inner(episode), _inner(carry))

    def label(self, episode: Episode) -> str:
        """The task's."""
        return self.inner.label(_inner(episode))

    def unit(self, episode: Episode) -> str:
        """The task's."""
        return self.inner.unit(_inner(episode))

    def available(self, episode: Episode) -> Array | int:
        """The task's."""
        return self.inner.available(_inner(episode))

    def data_digest(self) -> str:
        """The task's."""
        return self.inner.data_digest()

    def _scales(self, episode: Episode) -> tuple[Array, Array]:
        """Factors of the limbs' lengths and thicknesses, (...,) each."""
        names = [PREFIX + name for name in ("limb_length", "limb_size")]
        known = next(episode[name] for name in names if name in episode)
        one = namespace(known).ones_like(known)
        length, size = (episode.get(name, one) for name in names)
        return length, size

    def _command(self, action: Array, episode: Episode, carry: Carry) -> Array:
        """What reaches the actuators, (..., nu), before the task's own filter."""
        xp = namespace(action)
        if self._delay:
            # Newest first.
            queue = xp.concat([action[..., None, :], carry[PREFIX + "actions"]], axis=-2)
            late = xp.astype(episode[PREFIX + "action_delay"], xp.int32)[..., None, None]
            action = xp.take_along_axis(queue, late, axis=-2)[..., 0, :]
        chance = self.perturbations.action_repeat
        if chance:
            seed, step = episode[PREFIX + "seed"], carry[PREFIX + "step"]
            again = counter.uniform(seed, step, _REPEAT, 1) < chance
            action = xp.where(again, carry[PREFIX + "command"], action)
        return action

    def _remembered(self, action: Array, command: Array, carry: Carry) -> dict[str, Array]:
        """Our part of the next carry."""
        xp = namespace(action)
        own: dict[str, Array] = {}
        if self._seeded:
            own["step"] = carry[PREFIX + "step"] + 1
        if self._delay:
            older = carry[PREFIX + "actions"][..., : self._delay - 1, :]
            newest = xp.astype(action, xp.float32)[..., None, :]
            own["actions"] = xp.concat([newest, older], axis=-2)
        if self.perturbations.action_repeat:
            own["command"] = xp.astype(command, xp.float32)
        return {PREFIX + name: value for name, value in own.items()}

    def _perceived(
        self,
        observed: Observation,
        physics: Physics,
        own: Frame | None,
        episode: Episode,
        carry: Carry,
    ) -> Observation:
        """What the policy sees of what there is, and what only a critic may see."""
        if self._limbs is not None:
            touch = self._touch(physics, episode, carry)
            body = {**observed["proprioception"], "touch": touch}
            observed = {**observed, "proprioception": body}
        privileged = {
            f"{group}/{name}": value
            for group in observed
            for name, value in observed[group].items()
        }
        privileged |= self._private(physics, own, episode, carry)
        seen = self._noisy(observed, episode, carry) if self._noise else observed
        return {**seen, PRIVILEGED: privileged}

    def _touch(self, physics: Physics, episode: Episode, carry: Carry) -> Array:
        """The touch sensors of limbs that have other sizes than the model's."""
        assert self._limbs is not None
        sense = self._proprioception
        geoms = sense.geoms + self.body.geoms.start
        scales = self._scales(episode)
        half, radius = self._limbs.capsules(geoms, sense.half, sense.radius, *scales)
        return sense.touch(physics, lambda points: self.clearance(points, carry), half, radius)

    def _private(
        self, physics: Physics, own: Frame | None, episode: Episode, carry: Carry
    ) -> dict[str, Array]:
        """The episode's factors and the coming push, in the body's own frame."""
        xp, kind = namespace(physics.qpos), physics.qpos.dtype
        level = (own or frame(self.body, physics)).level
        parts = [episode[PREFIX + name][..., None] for name in self._factors]
        if self._tilted:
            parts.append(level(episode[PREFIX + "gravity_tilt"]))
        if self._delay:
            parts.append(episode[PREFIX + "action_delay"][..., None])
        out: dict[str, Array] = {}
        if parts:
            out["perturbation"] = xp.concat([xp.astype(p, kind) for p in parts], axis=-1)
        if self._push is not None:
            push = self._push.weights(episode[PREFIX + "seed"], carry[PREFIX + "step"])
            out["push"] = level(xp.astype(push, kind))
        return out

    def _noisy(self, observed: Observation, episode: Episode, carry: Carry) -> Observation:
        """The observations with the step's noise."""
        noisy = [(g, n) for g in observed for n in observed[g] if n in self._noise]
        total = sum(observed[g][n].shape[-1] for g, n in noisy)
        seed, step = episode[PREFIX + "seed"], carry[PREFIX + "step"]
        draws = counter.normal(seed, step, _NOISE, total)
        out, start = {group: dict(parts) for group, parts in observed.items()}, 0
        for group, name in noisy:
            value = out[group][name]
            stop = start + value.shape[-1]
            out[group][name] = value + self._noise[name] * draws[..., start:stop]
            start = stop
        return out


class _PushTimes:
    """When, where to and how hard a body is pushed."""

    def __init__(self, push: Push, task: Task) -> None:
        self._force = push.force
        self._duration = max(1, round(push.duration / task.dt))
        self._interval = max(self._duration, round(push.interval / task.dt))
        gravity = float(np.linalg.norm(task.world.model.opt.gravity))
        self._weight = float(task.body.mass.sum()) * gravity

    def weights(self, seed: Array, step: Array) -> Array:
        """Horizontal force in a control step, in body weights, (..., 2), world frame."""
        xp = namespace(step)
        since = step % self._interval
        u = counter.uniform(seed, step // self._interval, _PUSH, 2)
        begin = xp.astype(u[..., 0] * float(self._interval - self._duration + 1), xp.int32)
        on = (since >= begin) & (since < begin + self._duration)
        angle = np.float32(2.0 * math.pi) * u[..., 1]
        force = xp.where(on, np.float32(self._force), np.float32(0.0))
        return xp.stack([force * xp.cos(angle), force * xp.sin(angle)], axis=-1)

    def newtons(self, seed: Array, step: Array) -> Array:
        """The force in N, (..., 3)."""
        push = self.weights(seed, step) * np.float32(self._weight)
        xp = namespace(push)
        return xp.concat([push, xp.zeros_like(push[..., :1])], axis=-1)


class _Model:
    """The fields that factors and gravity change, as the model has them."""

    def __init__(self, task: Task) -> None:
        world, body = task.world, task.body
        self._model = model = world.model
        others = [other for other in world.bodies if other is not body]
        self._bodies, self._actuators = np.zeros(model.nbody, bool), np.zeros(model.nu, bool)
        self._bodies[body.bodies], self._actuators[body.ctrl] = True, True
        # A contact has the greater friction of its two geoms: the ground's is changed as well.
        self._geoms = np.ones(model.ngeom, bool)
        for other in others:
            self._geoms[other.geoms] = False

    def check_actuators(self) -> None:
        """Only force that is linear in gain and bias parameters can be scaled by them.

        Raises:
            ValueError: an actuator is of another kind.
        """
        model, on = self._model, self._actuators
        gains = [mujoco.mjtGain.mjGAIN_FIXED.value, mujoco.mjtGain.mjGAIN_AFFINE.value]
        biases = [mujoco.mjtBias.mjBIAS_NONE.value, mujoco.mjtBias.mjBIAS_AFFINE.value]
        kinds = np.isin(model.actuator_gaintype, gains) & np.isin(model.actuator_biastype, biases)
        if not kinds[on].all():
            raise ValueError("the perturbation 'gain' needs actuators that are servos or motors")

    def scaled(self, factors: Mapping[str, Array], fields: Mapping[str, Array]) -> dict[str, Array]:
        """Fields times factors (...,) by name; `fields` are those that were changed before."""
        tables = {
            "mass": (self._bodies, ("body_mass", "body_inertia")),
            "friction": (self._geoms, ("geom_friction",)),
            # Forces are bounded: without the bounds a strong motor would be no stronger.
            "gain": (
                self._actuators,
                ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange"),
            ),
        }
        out = {}
        for name, (rows, names) in tables.items():
            if name not in factors:
                continue
            xp = namespace(factors[name])
            by_row = xp.where(rows, factors[name][..., None], 1.0)
            for changed in names:
                base = getattr(self._model, changed)
                factor = by_row if base.ndim == 1 else by_row[..., None]
                out[changed] = factor * fields.get(changed, base)
        return out

    def gravity(self, tilt: Array) -> Array:
        """Gravity, m/s², (..., 3), turned by the angle that `tilt` (..., 2) rad is long."""
        xp = namespace(tilt)
        # In the model's precision: without a tilt these are its very numbers.
        strength = np.full(3, np.linalg.norm(self._model.opt.gravity))
        angle = xp.sqrt((tilt * tilt).sum(axis=-1, keepdims=True))
        # The sine over the angle, which is 1 at 0.
        ratio = xp.where(angle > 0, xp.sin(angle) / xp.where(angle > 0, angle, 1.0), 1.0)
        return strength * xp.concat([ratio * tilt, -xp.cos(angle)], axis=-1)


def _inner(rows: _Rows) -> dict[str, Array]:
    """The parts of an episode or carry that are the task's own."""
    return {name: value for name, value in rows.items() if not name.startswith(PREFIX)}


def _observed(task: Task) -> dict[str, list[str]]:
    """Names of what a task observes, by group."""
    start, carry = task.begin(task.episode(np.zeros((1, task.uniforms), np.float32)))
    kinematics = forward_kinematics(task.body, np.asarray(start.qpos))
    del kinematics["actuator_length"]
    physics = Physics(start.qpos, start.qvel, start.act, **kinematics)
    episode = task.episode(np.zeros((1, task.uniforms), np.float32))
    return {group: list(parts) for group, parts in task.observe(physics, episode, carry).items()}
