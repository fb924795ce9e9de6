"""A perturbed task: an inner task, and the kinds of perturbation that are on."""

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
    FALLEN_HEIGHT,
    PRIVILEGED,
    Carry,
    Episode,
    ExternalInputs,
    Observation,
    Outcome,
    Overlay,
    Start,
    Task,
    named,
)


def perturbed(task: Task, value: Mapping[str, Any] | Perturbations | None) -> Task:
    """A task with perturbations; `task` itself if none is on.

    Raises:
        ValueError: see `Perturbations`, or the task does not have what a setting perturbs.
    """
    perturbations = Perturbations.from_mapping(value)
    perturbations.check_task(task)
    return PerturbedTask(task, perturbations) if perturbations.active() else task


class PerturbedTask(Task):
    """A task with perturbations. Everything else is that of the inner task.

    Observations have a third group, "privileged", for critics:

    - "proprioception/…" and "task/…": the noise-free values of both other groups.
    - "perturbation": the episode's factors as one vector, see `privileged`.
    - Values that change from step to step, such as "push": the force during the coming step, in
      body weights, forward and left.

    Args:
        inner: inner task.
        perturbations: settings, at least one of them on.

    Attributes:
        inner, perturbations: as given.
        privileged: names of the entries of the vector "perturbation", in order. Factors are pure
            numbers. The tilt of gravity is (forward, left) in the body's heading, rad. The delay
            is in control steps.
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
        """Not available: the world is that of the inner task.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a perturbed task is made from a task, which has its world")

    @property
    def reward_terms(self) -> dict[str, str]:
        """Those of the inner task."""
        return self.inner.reward_terms

    @property
    def unwrapped(self) -> Task:
        """The innermost task."""
        return self.inner.unwrapped

    def episode(self, u: Array) -> Episode:
        """The inner episode, and under "perturbation/" the kinds' parts and seed (...,) uint32."""
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
        """Check all parts. The kinds' bounds are wider than those of drawn values, for sweeps."""
        self.inner.check_episode(_inner(episode))
        drawn = _added(episode)
        for kind in self._kinds:
            kind.check_episode(drawn)

    def begin(self, episode: Episode) -> tuple[Start, Carry]:
        """The inner start as the kinds change it, and the carry with the kinds' parts."""
        start, carry = self.inner.begin(_inner(episode))
        xp, batch = namespace(start.qpos), start.qpos.shape[:-1]
        first = {"step": xp.zeros(batch, dtype=xp.int32)} if self._seeded else {}
        drawn = _added(episode)
        for kind in self._kinds:
            start = kind.start(start, drawn)
            first |= kind.first_carry(start) | kind.known(drawn)
        return start, {**carry, **_prefixed(first)}

    def native_only(self) -> tuple[str, ...]:
        """See `Perturbations`."""
        return self.perturbations.native_only()

    def model_fields(self, episode: Episode) -> dict[str, Array]:
        """The inner task's fields, replaced by the kinds' fields, times the kinds' factors."""
        fields, drawn = dict(self.inner.model_fields(_inner(episode))), _added(episode)
        for kind in self._kinds:
            fields |= kind.model_fields(drawn)
        for kind in self._kinds:
            for name, factor in kind.model_factors(drawn).items():
                before = fields[name] if name in fields else attrgetter(name)(self.world.model)
                fields[name] = factor * before
        return fields

    def applied_action(self, action: Array, episode: Episode, carry: Carry) -> Array:
        """The action after all kinds and after the inner task's own filter."""
        command = self._commands(action, episode, carry)[-1]
        return self.inner.applied_action(command, _inner(episode), _inner(carry))

    def external_inputs(self, episode: Episode, carry: Carry) -> ExternalInputs:
        """The inner task's scenery and forces, and the forces of all kinds."""
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
        """The inner task's outcome for the applied action, with perturbed observations."""
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
        """The inner task's observations, without noise."""
        return self.inner.observe_task(physics, own, _inner(episode), _inner(carry))

    def clearance(self, points: Array, carry: Carry) -> Array:
        """That of the inner task."""
        return self.inner.clearance(points, _inner(carry))

    def elevation(self, physics: Physics, carry: Carry) -> Array | None:
        """The task's."""
        return self.inner.elevation(physics, _inner(carry))

    def overlays(self, physics: Physics, episode: Episode, carry: Carry) -> list[Overlay]:
        """Those of the inner task."""
        return self.inner.overlays(physics, _inner(episode), _inner(carry))

    def label(self, episode: Episode) -> str:
        """That of the inner task."""
        return self.inner.label(_inner(episode))

    def unit(self, episode: Episode) -> str:
        """That of the inner task."""
        return self.inner.unit(_inner(episode))

    def available(self, episode: Episode) -> Array | int:
        """That of the inner task."""
        return self.inner.available(_inner(episode))

    def data_digest(self) -> str:
        """That of the inner task."""
        return self.inner.data_digest()

    def _commands(self, action: Array, episode: Episode, carry: Carry) -> list[Array]:
        """The action before the first kind and after each kind, (..., nu) each."""
        drawn, remembered = _added(episode), _added(carry)
        commands = [action]
        for kind in self._kinds:
            commands.append(kind.command(commands[-1], drawn, remembered))
        return commands

    def _next_carry(self, commands: list[Array], carry: Carry) -> dict[str, Array]:
        """The kinds' parts of the next carry, by name without the prefix."""
        remembered = _added(carry)
        after = {FALLEN_HEIGHT: remembered[FALLEN_HEIGHT]} if FALLEN_HEIGHT in remembered else {}
        after |= {"step": remembered["step"] + 1} if self._seeded else {}
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
        """The observations of the policy, and those that only a critic may see."""
        drawn, remembered = _added(episode), _added(carry)
        observed = {group: part for group, part in observed.items() if group != PRIVILEGED}
        for kind in self._kinds:
            observed = kind.sensed(observed, physics, lambda p: self.clearance(p, carry), drawn)
        privileged = named(observed) | self.inner.hidden(_inner(carry))
        privileged |= self._privileged(physics, own, episode, carry)
        for kind in self._kinds:
            observed = kind.perceived(observed, drawn, remembered)
        return {**observed, PRIVILEGED: privileged}

    def _privileged(
        self, physics: Physics, own: Frame | None, episode: Episode, carry: Carry
    ) -> dict[str, Array]:
        """The kinds' observations for a critic; vectors are in the body's own frame."""
        xp, dtype = namespace(physics.qpos), physics.qpos.dtype
        body_frame = own or frame(self.body, physics)

        def level(vector: Array) -> Array:
            return body_frame.level(xp.astype(vector, dtype))

        drawn, remembered = _added(episode), _added(carry)
        privileged: dict[str, Array] = {}
        if self.privileged:
            entries = [e for kind in self._kinds for e in kind.privileged_entries(drawn, level)]
            privileged["perturbation"] = xp.concat([xp.astype(e, dtype) for e in entries], axis=-1)
        for kind in self._kinds:
            privileged |= kind.privileged_parts(drawn, remembered, level)
        return privileged


def _inner(rows: Mapping[str, Array]) -> dict[str, Array]:
    """The parts of an episode or carry that are the task's own, and those that it must know."""
    own = {name: value for name, value in rows.items() if not name.startswith(PREFIX)}
    known = PREFIX + FALLEN_HEIGHT
    return own | {FALLEN_HEIGHT: rows[known]} if known in rows else own


def _added(rows: Mapping[str, Array]) -> dict[str, Array]:
    """The parts of an episode or carry that perturbations added, without the prefix."""
    return {n.removeprefix(PREFIX): v for n, v in rows.items() if n.startswith(PREFIX)}


def _prefixed(parts: Mapping[str, Array]) -> dict[str, Array]:
    """The parts with the prefix, the inverse of `_added`."""
    return {PREFIX + name: value for name, value in parts.items()}
