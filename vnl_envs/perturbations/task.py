"""A task in which something is perturbed: the task, and the kinds of perturbation that are on."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from operator import attrgetter
from typing import Any

from vnl_envs.perturbations import counter_rng
from vnl_envs.perturbations.configuration import Perturbations
from vnl_envs.perturbations.kind import PREFIX
from vnl_envs.physics import Array, Physics, namespace
from vnl_envs.scenes.world import Scene
from vnl_envs.tasks.observations import Frame, frame
from vnl_envs.tasks.task import (
    PRIVILEGED,
    Carry,
    Episode,
    ExternalInputs,
    Observation,
    Outcome,
    Overlay,
    Start,
    Task,
)


def perturbed(task: Task, value: Mapping[str, Any] | Perturbations | None) -> Task:
    """A task with perturbations, itself where none is on.

    Raises:
        ValueError: see `Perturbations`; or the task has no such thing to perturb.
    """
    perturbations = Perturbations.from_mapping(value)
    perturbations.check_task(task)
    return PerturbedTask(task, perturbations) if perturbations.active() else task


class PerturbedTask(Task):
    """A task in which something is perturbed; everything else is the task's own.

    Its observations have a third group, "privileged", for critics: the noise-free values of both
    others ("proprioception/…", "task/…"), "perturbation", the episode's factors as one vector (see
    `privileged`), and what changes from step to step, such as "push", the force during the coming
    step in body weights, forward and left.

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
        self._kinds = kinds = perturbations.of(inner)
        self._seeded = any(kind.stream for kind in kinds)
        self.privileged = tuple(name for kind in kinds for name in kind.privileged)
        self.uniforms = inner.uniforms + sum(kind.uniforms for kind in kinds) + 2 * self._seeded

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
        """The task's, and under "perturbation/" what the kinds draw and seed (...,) uint32."""
        next_ = self.inner.uniforms
        inner = self.inner.episode(u[..., :next_])
        parts: dict[str, Array] = {}
        for kind in self._kinds:
            parts |= kind.draw(u[..., next_ : next_ + kind.uniforms])
            next_ += kind.uniforms
        if self._seeded:
            parts["seed"] = counter_rng.seed_of(u[..., next_ : next_ + 2])
        return {**inner, **_prefixed(parts)}

    def check_episode(self, episode: Episode) -> None:
        """What the kinds drew may lie beyond what is drawn, for sweeps, within wide bounds."""
        self.inner.check_episode(_inner(episode))
        drawn = _added(episode)
        for kind in self._kinds:
            kind.check_episode(drawn)

    def begin(self, episode: Episode) -> tuple[Start, Carry]:
        """The task's start as the kinds change it, and their parts of the carry."""
        start, carry = self.inner.begin(_inner(episode))
        xp, batch = namespace(start.qpos), start.qpos.shape[:-1]
        first = {"step": xp.zeros(batch, dtype=xp.int32)} if self._seeded else {}
        drawn = _added(episode)
        for kind in self._kinds:
            start = kind.start(start, drawn)
            first |= kind.first_carry(start)
        return start, {**carry, **_prefixed(first)}

    def native_only(self) -> tuple[str, ...]:
        """See `Perturbations`."""
        return self.perturbations.native_only()

    def model_fields(self, episode: Episode) -> dict[str, Array]:
        """The task's, then those that kinds replace, then their factors."""
        fields, drawn = dict(self.inner.model_fields(_inner(episode))), _added(episode)
        for kind in self._kinds:
            fields |= kind.model_fields(drawn)
        for kind in self._kinds:
            for name, factor in kind.model_factors(drawn).items():
                before = fields[name] if name in fields else attrgetter(name)(self.world.model)
                fields[name] = factor * before
        return fields

    def applied_action(self, action: Array, episode: Episode, carry: Carry) -> Array:
        """The action that has passed through all kinds, and through the task's own filter."""
        command = self._commands(action, episode, carry)[-1]
        return self.inner.applied_action(command, _inner(episode), _inner(carry))

    def external_inputs(self, episode: Episode, carry: Carry) -> ExternalInputs:
        """The task's scenery and forces, and the forces of all kinds."""
        inputs = self.inner.external_inputs(_inner(episode), _inner(carry))
        drawn, remembered = _added(episode), _added(carry)
        for kind in self._kinds:
            force = kind.force(drawn, remembered)
            if force is not None:
                total = force if inputs.force is None else inputs.force + force
                inputs = inputs._replace(force=total)
        return inputs

    def evaluate(
        self, physics: Physics, action: Array, episode: Episode, carry: Carry
    ) -> tuple[Carry, Outcome]:
        """The task's judgement; it gets the action that was applied."""
        commands = self._commands(action, episode, carry)
        after, outcome = self.inner.evaluate(physics, commands[-1], _inner(episode), _inner(carry))
        after = {**after, **_prefixed(self._next_carry(commands, carry))}
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

    def _commands(self, action: Array, episode: Episode, carry: Carry) -> list[Array]:
        """The action, and what each kind makes of it in turn, (..., nu) each."""
        drawn, remembered = _added(episode), _added(carry)
        commands = [action]
        for kind in self._kinds:
            commands.append(kind.command(commands[-1], drawn, remembered))
        return commands

    def _next_carry(self, commands: list[Array], carry: Carry) -> dict[str, Array]:
        """The kinds' parts of the next carry, by names without the prefix."""
        remembered = _added(carry)
        after = {"step": remembered["step"] + 1} if self._seeded else {}
        for kind, (given, passed) in zip(self._kinds, pairwise(commands), strict=True):
            after |= kind.next_carry(given, passed, remembered)
        return after

    def _perceived(
        self,
        observed: Observation,
        physics: Physics,
        own: Frame | None,
        episode: Episode,
        carry: Carry,
    ) -> Observation:
        """What the policy sees of what there is, and what only a critic may see."""
        drawn, remembered = _added(episode), _added(carry)
        for kind in self._kinds:
            observed = kind.sensed(observed, physics, lambda p: self.clearance(p, carry), drawn)
        privileged = {
            f"{group}/{name}": value
            for group in observed
            for name, value in observed[group].items()
        }
        privileged |= self._privileged(physics, own, episode, carry)
        for kind in self._kinds:
            observed = kind.perceived(observed, drawn, remembered)
        return {**observed, PRIVILEGED: privileged}

    def _privileged(
        self, physics: Physics, own: Frame | None, episode: Episode, carry: Carry
    ) -> dict[str, Array]:
        """What the kinds tell a critic, vectors in the body's own frame."""
        xp, dtype = namespace(physics.qpos), physics.qpos.dtype
        facing = own or frame(self.body, physics)

        def level(vector: Array) -> Array:
            return facing.level(xp.astype(vector, dtype))

        drawn, remembered = _added(episode), _added(carry)
        privileged: dict[str, Array] = {}
        if self.privileged:
            entries = [e for kind in self._kinds for e in kind.privileged_entries(drawn, level)]
            privileged["perturbation"] = xp.concat([xp.astype(e, dtype) for e in entries], axis=-1)
        for kind in self._kinds:
            privileged |= kind.privileged_parts(drawn, remembered, level)
        return privileged


def _inner(rows: Mapping[str, Array]) -> dict[str, Array]:
    """The parts of an episode or carry that are the task's own."""
    return {name: value for name, value in rows.items() if not name.startswith(PREFIX)}


def _added(rows: Mapping[str, Array]) -> dict[str, Array]:
    """The parts of an episode or carry that perturbations added, without the prefix."""
    return {n.removeprefix(PREFIX): v for n, v in rows.items() if n.startswith(PREFIX)}


def _prefixed(parts: Mapping[str, Array]) -> dict[str, Array]:
    """The opposite of `_added`."""
    return {PREFIX + name: value for name, value in parts.items()}
