"""Joins a task and an engine for a number of simulations; every environment stands on this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vnl_envs.engines.native import NativeEngine
from vnl_envs.physics import Array, Physics, namespace
from vnl_envs.tasks.metrics import Accumulator, Metric
from vnl_envs.tasks.task import (
    PRIVILEGED,
    Observation,
    Outcome,
    Overlay,
    ReferenceAction,
    Start,
    Task,
)

GROUPS = ("proprioception", "task")

Rows = dict[str, np.ndarray]


@dataclass(frozen=True)
class Step:
    """What a control step gave.

    Attributes:
        reward: (...,). terminated, truncated, diverged, success: (...,) bool.
        terms: reward terms by name, (...,) each.
    """

    reward: Array
    terminated: Array
    truncated: Array
    diverged: Array
    success: Array
    terms: dict[str, Array]

    @classmethod
    def none(cls, terms: Iterable[str], shape: tuple[int, ...]) -> Step:
        """What an episode has before its first step: nothing earned, nothing over."""
        zero, no = np.zeros(shape), np.zeros(shape, bool)
        return cls(zero, no, no, no, no, dict.fromkeys(terms, zero))

    def end(self, index: int) -> str:
        """How the episode of a simulation ended that did: terminated, truncated or diverged."""
        if self.diverged[index]:
            return "diverged"
        return "truncated" if self.truncated[index] else "terminated"


class Core:
    """`num` simulations of a task on the native engine.

    Rows (num,) are simulations; a core of several animals in each overrides `shape`, `physics`,
    `_start`, `_actuate` and `_each`.

    Args:
        task: the task.
        num: simulations.
        threads: of the engine; 0 uses every CPU.
        transient: whether every step is preceded by `recall`; see `NativeEngine`.

    Attributes:
        observation: (num, D) float32, the observation of every simulation, always current.
        privileged: (num, P) float32, what only a critic may see of it.
        layout: name of each part of a flat observation -> its slice, in order.
        groups: group -> slice of the flat observation.
        episode, carry: rows of what the task knows of each simulation.
        fields: rows of model fields by name, for simulations that differ whatever the episode.
    """

    def __init__(self, task: Task, num: int, threads: int = 0, transient: bool = False) -> None:
        self.task = task
        self.num = num
        self.engine = NativeEngine(task.world.model, num, threads, transient)
        self.finalizer = StepFinalizer(task.metrics)
        self._totals = self.finalizer.accumulator.begin(self.shape(num))
        self.episode, self.carry = self._blank()
        self.fields: Rows = {}
        observed = self._observed()
        privileged = flat_privileged(observed).shape[-1]
        self.layout = _layout(observed)
        self.size = max(s.stop for s in self.layout.values())
        self.groups = _group_slices(self.layout)
        self.observation = np.zeros((*self.shape(num), self.size), np.float32)
        self.privileged = np.zeros((*self.shape(num), privileged), np.float32)

    def shape(self, num: int) -> tuple[int, ...]:
        """Shape of what is known of each animal in `num` simulations."""
        return (num,)

    def _blank(self) -> tuple[Rows, Rows]:
        """Rows of the shapes and types that episodes and carries have."""
        u = np.zeros((self.num, self.task.uniforms), np.float32)
        episode = {k: np.array(v) for k, v in self.task.episode(u).items()}
        _, carry = self.task.begin(episode)
        return episode, {k: np.array(v) for k, v in carry.items()}

    def _observed(self) -> Observation:
        """What is observed of one simulation, for names and sizes."""
        first = np.array([0])
        return self.task.observe(
            self.physics[first], _take(self.episode, first), _take(self.carry, first)
        )

    @property
    def physics(self) -> Physics:
        """The body's state in every simulation, live."""
        return self.engine.physics(self.task.body)

    def draw(self, generators: list[np.random.Generator]) -> Rows:
        """An episode from each generator."""
        return draw(self.task, generators)

    def episodes(self, u: np.ndarray) -> Rows:
        """Episodes from uniform numbers, (n, uniforms) float32."""
        return _episodes(self.task, u)

    def check_episode(self, episode: Mapping[str, Any]) -> Rows:
        """Rows of an episode given by a user, checked against what the task draws.

        Raises:
            ValueError: a part is missing, unknown, of another shape or not a number.
        """
        if not isinstance(episode, Mapping) or set(episode) != set(self.episode):
            names = sorted(episode) if isinstance(episode, Mapping) else type(episode).__name__
            raise ValueError(f"an episode has the parts {sorted(self.episode)}, got {names}")
        rows = {name: _row(name, episode[name], drawn) for name, drawn in self.episode.items()}
        self.task.check_episode({name: row[0] for name, row in rows.items()})
        return rows

    def reset(self, ids: np.ndarray, episode: Rows) -> None:
        """Start episodes (rows of len(ids)) in simulations `ids`."""
        start, carry = self.task.begin(episode)
        self._edit(ids, episode)
        self._start(ids, start)
        for rows, new in ((self.episode, episode), (self.carry, carry)):
            for name, value in new.items():
                rows[name][ids] = value
        self._totals[ids] = self.finalizer.accumulator.begin(self.shape(len(ids)))
        observed = self.task.observe(self.physics[ids], episode, carry)
        self.observation[ids] = flat(observed)
        self.privileged[ids] = flat_privileged(observed)

    def put(self, start: Start, episode: Mapping[str, Any], carry: Mapping[str, Any]) -> None:
        """Put every simulation into a state in the midst of an episode."""
        self.episode, self.carry = dict(episode), dict(carry)
        self.edit()
        self._start(np.arange(self.num), start)
        self._totals = self.finalizer.accumulator.begin(self.shape(self.num))
        observed = self.task.observe(self.physics, episode, carry)
        self.observation, self.privileged = flat(observed), flat_privileged(observed)

    def edit(self, ids: np.ndarray | None = None) -> None:
        """Give simulations `ids` (all if None) the models that their rows of `episode` ask for.

        To be called before their states are set. Rows whose models stay cost a comparison.
        """
        ids = np.arange(self.num) if ids is None else ids
        self._edit(ids, _take(self.episode, ids))

    def _edit(self, ids: np.ndarray, episode: Mapping[str, Any]) -> None:
        fields = {**self.task.model_fields(episode), **_take(self.fields, ids)}
        self.engine.edit(ids, fields)

    def step(self, action: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """One control step of simulations `ids` (all if None) with actions (num, nu) float32.

        Results of the others mean nothing.
        """
        task, engine = self.task, self.engine
        engine.set_inputs(task.body, *task.external_inputs(self.episode, self.carry))
        applied = task.applied_action(action, self.episode, self.carry)
        self._actuate(task.body.control(applied))
        failed = engine.step(task.world.substeps, ids)
        physics = self.physics
        broken = failed.any()
        if broken:
            self._revive(np.flatnonzero(failed))
        failed = self._each(failed)
        carry, outcome = task.evaluate(physics, action, self.episode, self.carry)
        self.carry = dict(carry)
        before = self.observation, self.privileged
        step, self._totals, (self.observation, self.privileged) = self.finalizer(
            outcome, failed if broken else None, self._totals, before
        )
        return step

    def _start(self, ids: np.ndarray, start: Start) -> None:
        """Put simulations into the states of a start, rows of len(ids)."""
        self.engine.start(ids, self.task.body, *start)

    def _actuate(self, control: np.ndarray) -> None:
        """Set the controls of the coming step, (num, nu)."""
        self.engine.ctrl[:, self.task.body.ctrl] = control

    def _each(self, simulations: np.ndarray) -> np.ndarray:
        """What holds for simulations, (num,), as what holds for each animal in them."""
        return simulations

    def _revive(self, ids: np.ndarray) -> None:
        """Put diverged simulations back into a finite state; their episode is over."""
        start, _ = self.task.begin(_take(self.episode, ids))
        self._start(ids, start)

    def overlays(self, index: int) -> list[Overlay]:
        """What is drawn and not simulated in one simulation."""
        episode, carry = (
            {k: v[index] for k, v in rows.items()} for rows in (self.episode, self.carry)
        )
        return self.task.overlays(self.physics[index], episode, carry)

    def figures(self) -> dict[str, np.ndarray]:
        """The metrics of every simulation's episode so far, (num,) each."""
        return dict(zip(self.finalizer.accumulator.names, self.figure_rows().T, strict=True))

    def figure_rows(self) -> np.ndarray:
        """The metrics of every simulation's episode so far, (num, M)."""
        return self.finalizer.accumulator.result(self._totals)

    def first_figures(self) -> np.ndarray:
        """The metrics of an episode before its first step, (M,)."""
        accumulator = self.finalizer.accumulator
        return accumulator.result(accumulator.begin(()))

    def figures_of(self, index: int) -> dict[str, float]:
        """The metrics of one simulation's episode so far."""
        figures = self.finalizer.accumulator.result(self._totals[index])
        return dict(zip(self.finalizer.accumulator.names, figures.tolist(), strict=True))

    def reference_action(self, kind: ReferenceAction) -> np.ndarray | None:
        """See `Task.reference_action`: of every simulation, (num, nu)."""
        return self.task.unwrapped.reference_action(self.episode, self.carry, kind)

    def memory(self) -> dict[str, Any]:
        """What the coming steps depend on, to be carried about; the rows themselves, no copies."""
        return {
            "physics": self.engine.rows(),
            "episode": self.episode,
            "carry": self.carry,
            "totals": self._totals,
            "observation": self.observation,
            "privileged": self.privileged,
        }

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Go on from a `memory`; what the engine derives is current after the next step."""
        self.episode, self.carry = dict(memory["episode"]), dict(memory["carry"])
        self._totals, self.observation = memory["totals"], memory["observation"]
        self.privileged = memory["privileged"]
        self.edit()
        self.engine.set_rows(memory["physics"])

    def get_state(self) -> dict[str, Any]:
        """Everything that the coming steps depend on, as plain arrays."""
        return {
            "physics": self.engine.get_state(),
            "episode": {k: v.copy() for k, v in self.episode.items()},
            "carry": {k: v.copy() for k, v in self.carry.items()},
            "totals": self._totals.copy(),
            "observation": self.observation.copy(),
            "privileged": self.privileged.copy(),
        }

    def check_state(self, state: Any, *more: str) -> None:
        """Raise ValueError unless a state has the parts of `get_state` and `more`, and their
        shapes.
        """
        check_state(self.get_state(), state, *more)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`'s, which `check_state` has accepted."""
        self.episode = {k: np.array(v) for k, v in state["episode"].items()}
        self.edit()
        self.engine.set_state(state["physics"])
        self.carry = {k: np.array(v) for k, v in state["carry"].items()}
        self._totals = np.array(state["totals"])
        self.observation = np.array(state["observation"])
        self.privileged = np.array(state["privileged"])


class StepFinalizer:
    """What a control step gave, from the task's outcome and from what diverged. NumPy or JAX.

    Args:
        metrics: of the task.

    Attributes:
        accumulator: of the metrics.
    """

    def __init__(self, metrics: tuple[Metric, ...]) -> None:
        self.accumulator = Accumulator(metrics)

    def __call__(
        self, outcome: Outcome, failed: Array | None, totals: Array, before: tuple[Array, Array]
    ) -> tuple[Step, Array, tuple[Array, Array]]:
        """The step, the accumulator's next state, and the flat observations with the privileged.

        An episode that diverged ends without reward, with its last finite observation.

        Args:
            outcome: of the task, (...,).
            failed: (...,) what diverged; None for nothing.
            totals: (..., M) the accumulator's state before the step.
            before: (..., D) and (..., P) observations before the step.
        """
        # Where nothing is privileged, the empty array stays.
        hidden = PRIVILEGED in outcome.observation
        privileged = flat_privileged(outcome.observation) if hidden else before[1]
        observed = flat(outcome.observation), privileged
        reward, terms = outcome.reward, outcome.terms
        terminated, truncated, success = outcome.terminated, outcome.truncated, outcome.success
        after = self.accumulator.add(totals, reward, outcome.metrics)
        xp = namespace(reward)
        if failed is None:
            failed = xp.zeros(terminated.shape, dtype=bool)
        else:
            wide = failed[..., None]
            observed = tuple(xp.where(wide, a, b) for a, b in zip(before, observed, strict=True))
            reward = xp.where(failed, 0.0, reward)
            terms = {k: xp.where(failed, 0.0, v) for k, v in terms.items()}
            terminated, truncated = terminated | failed, truncated & ~failed
            success = success & ~failed
            # The diverged state says nothing: only the step itself counts.
            after = xp.where(wide, self.accumulator.count(totals), after)
        return Step(reward, terminated, truncated, failed, success, terms), after, observed


def draw(task: Task, generators: Sequence[np.random.Generator]) -> Rows:
    """An episode of a task from each generator."""
    return _episodes(task, np.stack([rng.random(task.uniforms, np.float32) for rng in generators]))


def _episodes(task: Task, u: np.ndarray) -> Rows:
    return {k: np.asarray(v) for k, v in task.episode(u).items()}


def check_state(own: Mapping[str, Any], state: Any, *more: str) -> None:
    """Raise ValueError unless a state has the parts of an environment's `own` and `more`, and their
    shapes.
    """
    expected = {*own, *more}
    if not isinstance(state, Mapping) or not expected <= set(state):
        raise ValueError(f"a state has the parts {sorted(expected)}")
    for part, value in own.items():
        theirs = state[part]
        pairs = {part: (theirs, value)}
        if isinstance(value, dict):
            if not isinstance(theirs, Mapping) or set(theirs) != set(value):
                raise ValueError(f"state part {part!r} has the parts {sorted(value)}")
            pairs = {f"{part}/{k}": (theirs[k], v) for k, v in value.items()}
        for name, (given, here) in pairs.items():
            if np.shape(given) != np.shape(here):
                raise ValueError(
                    f"state part {name!r} has shape {np.shape(given)}, expected {np.shape(here)}: "
                    "it is of another task or number of environments"
                )


def flat(observed: Observation) -> Array:
    """Both groups of observations side by side, (..., D) float32."""
    return _side_by_side([value for group in GROUPS for value in observed[group].values()])


def flat_privileged(observed: Observation) -> Array:
    """What only a critic may see, (..., P) float32; P is 0 where nothing is perturbed."""
    if PRIVILEGED in observed:
        return _side_by_side(list(observed[PRIVILEGED].values()))
    some = next(iter(observed[GROUPS[0]].values()))
    return namespace(some).astype(some[..., :0], np.float32)


def _side_by_side(parts: list[Array]) -> Array:
    xp = namespace(parts[0])
    if xp is np:
        return np.concatenate(parts, axis=-1, dtype=np.float32, casting="same_kind")
    return xp.concat([xp.astype(part, xp.float32) for part in parts], axis=-1)


def _row(name: str, given: Any, drawn: np.ndarray) -> np.ndarray:
    """One part of an episode given by a user as a row like those drawn."""
    value = np.asarray(given)
    if value.shape != drawn.shape[1:]:
        raise ValueError(
            f"episode part {name!r} must have shape {drawn.shape[1:]}, got {value.shape}"
        )
    if value.dtype.kind not in "iuf" or not np.isfinite(value).all():
        raise ValueError(f"episode part {name!r} must be finite numbers")
    row = value.astype(drawn.dtype)
    if drawn.dtype.kind in "iu" and (row != value).any():
        raise ValueError(f"episode part {name!r} must be integers, got {given!r}")
    return row[None]


def _take(rows: Mapping[str, np.ndarray], ids: np.ndarray) -> Rows:
    return {name: value[ids] for name, value in rows.items()}


def _layout(observed: Observation) -> dict[str, slice]:
    """Name of each part of a flat observation -> its slice, in order."""
    layout, start = {}, 0
    for group in GROUPS:
        for name, value in observed[group].items():
            layout[f"{group}/{name}"] = slice(start, start + value.shape[-1])
            start += value.shape[-1]
    return layout


def _group_slices(layout: dict[str, slice]) -> dict[str, slice]:
    """The run of each group in a flat observation."""
    groups = {}
    for group in GROUPS:
        spans = [span for name, span in layout.items() if name.startswith(group + "/")]
        groups[group] = slice(spans[0].start, spans[-1].stop)
    return groups
