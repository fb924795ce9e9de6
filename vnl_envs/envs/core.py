"""A task joined to C MuJoCo for a number of simulations; on MJX see `backends`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vnl_envs.engines.native import NativeEngine
from vnl_envs.physics import Array, Physics, namespace
from vnl_envs.tasks.metrics import Accumulator, mechanical_power
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
    """The result of a control step.

    Attributes:
        reward: (...,) reward.
        terminated, truncated, diverged, success: (...,) bool flags.
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
        """The state before the first step of an episode: no reward, all flags False."""
        zero, no = np.zeros(shape), np.zeros(shape, bool)
        return cls(zero, no, no, no, no, dict.fromkeys(terms, zero))

    def end(self, index: int) -> str:
        """How the episode of simulation `index` ended: "terminated", "truncated" or "diverged"."""
        if self.diverged[index]:
            return "diverged"
        return "truncated" if self.truncated[index] else "terminated"


class Core:
    """`num` simulations of a task on the native engine.

    Rows (num,) are simulations. A core with several animals in each simulation overrides `shape`,
    `physics`, `_start`, `_actuate` and `_each`.

    Args:
        task: task of the simulations.
        num: number of simulations.
        threads: number of threads of the engine; 0 uses every CPU.
        transient: whether every step follows a `recall`; see `NativeEngine`.

    Attributes:
        observation: (num, D) float32, current observation of every simulation.
        privileged: (num, P) float32, current observation for critics only.
        layout: name of each part of a flat observation -> its slice, in order.
        groups: group -> its slice of the flat observation.
        episode, carry: episode and carry of every simulation, as rows.
        fields: rows of model fields by name, for simulations whose models differ independently of
            the episode.
    """

    def __init__(self, task: Task, num: int, threads: int = 0, transient: bool = False) -> None:
        self.task = task
        self.num = num
        self.engine = NativeEngine(task.world.model, num, threads, transient)
        self.finalizer = StepFinalizer(task)
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
        """Shape of values per animal in `num` simulations."""
        return (num,)

    def _blank(self) -> tuple[Rows, Rows]:
        """Episode and carry rows of the right shapes and types."""
        u = np.zeros((self.num, self.task.uniforms), np.float32)
        episode = {k: np.array(v) for k, v in self.task.episode(u).items()}
        _, carry = self.task.begin(episode)
        return episode, {k: np.array(v) for k, v in carry.items()}

    def _observed(self) -> Observation:
        """Observations of one simulation, for names and sizes."""
        first = np.array([0])
        return self.task.observe(
            self.physics[first], _take(self.episode, first), _take(self.carry, first)
        )

    @property
    def physics(self) -> Physics:
        """A live view of the body in every simulation."""
        return self.engine.physics(self.task.body)

    def draw(self, generators: list[np.random.Generator]) -> Rows:
        """Draw one episode from each generator."""
        return draw(self.task, generators)

    def episodes(self, u: np.ndarray) -> Rows:
        """Make episodes from uniform numbers, (n, uniforms) float32."""
        return _episodes(self.task, u)

    def check_episode(self, episode: Mapping[str, Any]) -> Rows:
        """Check an episode from a user against the task, and return it as rows (1, ...).

        Raises:
            ValueError: a part is missing, unknown, of a wrong shape, not finite or impossible.
        """
        if not isinstance(episode, Mapping) or set(episode) != set(self.episode):
            names = sorted(episode) if isinstance(episode, Mapping) else type(episode).__name__
            raise ValueError(f"an episode has the parts {sorted(self.episode)}, got {names}")
        rows = {name: _row(name, episode[name], drawn) for name, drawn in self.episode.items()}
        self.task.check_episode({name: row[0] for name, row in rows.items()})
        return rows

    def reset(self, ids: np.ndarray, episode: Rows) -> None:
        """Start episodes, (n, ...) each, in the n simulations `ids`."""
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
        """Set every simulation to a state within an episode, (num, ...) each."""
        self.episode, self.carry = dict(episode), dict(carry)
        self.edit()
        self._start(np.arange(self.num), start)
        self._totals = self.finalizer.accumulator.begin(self.shape(self.num))
        observed = self.task.observe(self.physics, episode, carry)
        self.observation, self.privileged = flat(observed), flat_privileged(observed)

    def edit(self, ids: np.ndarray | None = None) -> None:
        """Set the models of simulations `ids` (all if None) as their rows of `episode` require.

        Call this before their states are set. Unchanged models cost only a comparison.
        """
        ids = np.arange(self.num) if ids is None else ids
        self._edit(ids, _take(self.episode, ids))

    def _edit(self, ids: np.ndarray, episode: Mapping[str, Any]) -> None:
        fields = {**self.task.model_fields(episode), **_take(self.fields, ids)}
        self.engine.edit(ids, fields)

    def step(self, action: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """One control step of simulations `ids` (all if None) with actions (num, nu) float32.

        Results of the other simulations are meaningless, and so are their carry and metrics: they
        need a reset before their next step.
        """
        task, engine = self.task, self.engine
        engine.set_inputs(task.body, *task.external_inputs(self.episode, self.carry))
        applied = task.applied_action(action, self.episode, self.carry)
        self._actuate(task.body.control(applied))
        failed = engine.step(task.world.substeps, ids)
        physics = self.physics
        any_failed = failed.any()
        if any_failed:
            self._revive(np.flatnonzero(failed))
        failed = self._each(failed)
        carry, outcome = task.evaluate(physics, action, self.episode, self.carry)
        self.carry = dict(carry)
        before = self.observation, self.privileged
        step, self._totals, (self.observation, self.privileged) = self.finalizer(
            outcome, physics, failed if any_failed else None, self._totals, before
        )
        return step

    def _start(self, ids: np.ndarray, start: Start) -> None:
        """Set simulations `ids` to the states of a start, (n, ...)."""
        self.engine.start(ids, self.task.body, *start)

    def _actuate(self, control: np.ndarray) -> None:
        """Set the controls of the coming step, (num, nu)."""
        self.engine.ctrl[:, self.task.body.ctrl] = control

    def _each(self, simulations: np.ndarray) -> np.ndarray:
        """Values per simulation (num,) as values per animal, `shape(num)`."""
        return simulations

    def _revive(self, ids: np.ndarray) -> None:
        """Return diverged simulations to a finite state. Their episodes are over."""
        start, _ = self.task.begin(_take(self.episode, ids))
        self._start(ids, start)

    def overlays(self, index: int) -> list[Overlay]:
        """The overlays of one simulation."""
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
        """The reference action of every simulation, (num, nu); see `Task.reference_action`."""
        return self.task.unwrapped.reference_action(self.episode, self.carry, kind)

    def memory(self) -> dict[str, Any]:
        """Everything on which the next steps depend, as rows; the arrays are not copied."""
        return {
            "physics": self.engine.rows(),
            "episode": self.episode,
            "carry": self.carry,
            "totals": self._totals,
            "observation": self.observation,
            "privileged": self.privileged,
        }

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Continue from a `memory`. The engine's derived values are current after the next step."""
        self.episode, self.carry = dict(memory["episode"]), dict(memory["carry"])
        self._totals, self.observation = memory["totals"], memory["observation"]
        self.privileged = memory["privileged"]
        self.edit()
        self.engine.set_rows(memory["physics"])

    def get_state(self) -> dict[str, Any]:
        """Everything on which the next steps depend, as plain arrays, copied."""
        return {
            "physics": self.engine.get_state(),
            "episode": {k: v.copy() for k, v in self.episode.items()},
            "carry": {k: v.copy() for k, v in self.carry.items()},
            "totals": self._totals.copy(),
            "observation": self.observation.copy(),
            "privileged": self.privileged.copy(),
        }

    def check_state(self, state: Any, *more: str) -> None:
        """Check that a state has the parts and shapes of `get_state`, and the parts `more`.

        Raises:
            ValueError: it does not.
        """
        check_state(self.get_state(), state, *more)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `get_state` that `check_state` has accepted."""
        self.episode = {k: np.array(v) for k, v in state["episode"].items()}
        self.edit()
        self.engine.set_state(state["physics"])
        self.carry = {k: np.array(v) for k, v in state["carry"].items()}
        self._totals = np.array(state["totals"])
        self.observation = np.array(state["observation"])
        self.privileged = np.array(state["privileged"])


class StepFinalizer:
    """Computes the result of a control step from the task's outcome and divergence. NumPy or JAX.

    Args:
        task: task.

    Attributes:
        accumulator: accumulator of the metrics.
    """

    def __init__(self, task: Task) -> None:
        self.accumulator = Accumulator(task.metrics)
        self._mass = float(task.body.mass.sum())

    def __call__(
        self,
        outcome: Outcome,
        physics: Physics,
        failed: Array | None,
        totals: Array,
        before: tuple[Array, Array],
    ) -> tuple[Step, Array, tuple[Array, Array]]:
        """The step, the accumulator's next state, and the flat and the privileged observations.

        A diverged episode ends without reward, with its last finite observation.

        Args:
            outcome: outcome of the task, (...,).
            physics: state after the step.
            failed: (...,) bool, whether a simulation diverged; None if none did.
            totals: (..., M) state of the accumulator before the step.
            before: flat (..., D) and privileged (..., P) observations before the step.
        """
        # Without privileged observations the empty array stays.
        has_privileged = PRIVILEGED in outcome.observation
        privileged = flat_privileged(outcome.observation) if has_privileged else before[1]
        observed = flat(outcome.observation), privileged
        reward, terms = outcome.reward, outcome.terms
        terminated, truncated, success = outcome.terminated, outcome.truncated, outcome.success
        power = mechanical_power(physics, self._mass)
        after = self.accumulator.add(totals, reward, power, outcome.metrics)
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
            # The diverged state is meaningless: only the number of steps grows.
            after = xp.where(wide, self.accumulator.count(totals), after)
        return Step(reward, terminated, truncated, failed, success, terms), after, observed


def draw(task: Task, generators: Sequence[np.random.Generator]) -> Rows:
    """Draw one episode of a task from each of n generators, as rows (n, ...)."""
    return _episodes(task, np.stack([rng.random(task.uniforms, np.float32) for rng in generators]))


def _episodes(task: Task, u: np.ndarray) -> Rows:
    return {k: np.asarray(v) for k, v in task.episode(u).items()}


def check_state(own: Mapping[str, Any], state: Any, *more: str) -> None:
    """Check that a state has the parts and shapes of an environment's `own`, and the parts `more`.

    Raises:
        ValueError: it does not.
    """
    required = {*own, *more}
    if not isinstance(state, Mapping) or not required <= set(state):
        raise ValueError(f"a state has the parts {sorted(required)}")
    for part, value in own.items():
        given = state[part]
        pairs = {part: (given, value)}
        if isinstance(value, dict):
            if not isinstance(given, Mapping) or set(given) != set(value):
                raise ValueError(f"state part {part!r} has the parts {sorted(value)}")
            pairs = {f"{part}/{k}": (given[k], v) for k, v in value.items()}
        for name, (actual, expected) in pairs.items():
            if np.shape(actual) != np.shape(expected):
                raise ValueError(
                    f"state part {name!r} has shape {np.shape(actual)}, expected "
                    f"{np.shape(expected)}: it is of another task or number of environments"
                )


def flat(observed: Observation) -> Array:
    """The observations of both groups, concatenated, (..., D) float32."""
    return _side_by_side([value for group in GROUPS for value in observed[group].values()])


def flat_privileged(observed: Observation) -> Array:
    """The privileged observations, concatenated, (..., P) float32; P is 0 if nothing is hidden."""
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
    """One part of a user's episode as a row (1, ...), in the type of the drawn ones.

    Raises:
        ValueError: it has a wrong shape or type, or is not finite.
    """
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
    """The slice of each group in a flat observation."""
    groups = {}
    for group in GROUPS:
        spans = [span for name, span in layout.items() if name.startswith(group + "/")]
        groups[group] = slice(spans[0].start, spans[-1].stop)
    return groups
