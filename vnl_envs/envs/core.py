"""Joins a task and an engine for a number of simulations; every environment is a face of this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vnl_envs.engines.native import NativeEngine
from vnl_envs.physics import Physics
from vnl_envs.tasks.metrics import Accumulator
from vnl_envs.tasks.task import Observation, Overlay, Start, Task

GROUPS = ("proprioception", "task")

Rows = dict[str, np.ndarray]


@dataclass(frozen=True)
class Step:
    """What a control step gave, rows being simulations.

    Attributes:
        reward: (n,) float64. terminated, truncated, diverged, success: (n,) bool.
        terms: reward terms by name, (n,) each.
    """

    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    diverged: np.ndarray
    success: np.ndarray
    terms: dict[str, np.ndarray]

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

    Attributes:
        observation: (num, D) float32, the observation of every simulation, always current.
        layout: name of each part of a flat observation -> its slice, in order.
        groups: group -> slice of the flat observation.
        episode, carry: rows of what the task knows of each simulation.
    """

    def __init__(self, task: Task, num: int, threads: int = 0) -> None:
        self.task = task
        self.num = num
        self.engine = NativeEngine(task.world.model, num, threads)
        self._accumulator = Accumulator(task.metrics)
        self._totals = self._accumulator.begin(self.shape(num))
        self.episode, self.carry = self._blank()
        self.layout = self._layout()
        self.size = max(s.stop for s in self.layout.values())
        self.groups = _group_slices(self.layout)
        self.observation = np.zeros((*self.shape(num), self.size), np.float32)

    def shape(self, num: int) -> tuple[int, ...]:
        """Shape of what is known of each animal in `num` simulations."""
        return (num,)

    def _blank(self) -> tuple[Rows, Rows]:
        """Rows of the shapes and types that episodes and carries have."""
        u = np.zeros((self.num, self.task.uniforms), np.float32)
        episode = {k: np.array(v) for k, v in self.task.episode(u).items()}
        _, carry = self.task.begin(episode)
        return episode, {k: np.array(v) for k, v in carry.items()}

    def _layout(self) -> dict[str, slice]:
        first = np.array([0])
        observed = self.task.observe(
            self.physics[first], _take(self.episode, first), _take(self.carry, first)
        )
        layout, start = {}, 0
        for group in GROUPS:
            for name, value in observed[group].items():
                layout[f"{group}/{name}"] = slice(start, start + value.shape[-1])
                start += value.shape[-1]
        return layout

    @property
    def physics(self) -> Physics:
        """The body's state in every simulation, live."""
        return self.engine.physics(self.task.body)

    def draw(self, generators: list[np.random.Generator]) -> Rows:
        """An episode from each generator."""
        u = np.stack([rng.random(self.task.uniforms, np.float32) for rng in generators])
        return {k: np.asarray(v) for k, v in self.task.episode(u).items()}

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
        self._start(ids, start)
        for rows, new in ((self.episode, episode), (self.carry, carry)):
            for name, value in new.items():
                rows[name][ids] = value
        self._totals[ids] = self._accumulator.begin(self.shape(len(ids)))
        observed = self.task.observe(self.physics[ids], episode, carry)
        self.observation[ids] = self._flat(observed)

    def step(self, action: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """One control step of simulations `ids` (all if None) with actions (num, nu) float32.

        Results of the others mean nothing.
        """
        task, engine = self.task, self.engine
        engine.place(task.body, *task.place(self.episode, self.carry))
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
        flat = self._flat(outcome.observation)
        reward, terms, metrics = outcome.reward, outcome.terms, outcome.metrics
        terminated, truncated = outcome.terminated, outcome.truncated
        success = outcome.success
        if broken:
            flat[failed] = self.observation[failed]
            reward = np.where(failed, 0.0, reward)
            terms = {k: np.where(failed, 0.0, v) for k, v in terms.items()}
            terminated, truncated = terminated | failed, truncated & ~failed
            success = success & ~failed
        self.observation = flat
        totals = self._accumulator.add(self._totals, reward, metrics)
        if broken:
            # The diverged state says nothing: only the step itself counts.
            totals[failed] = self._totals[failed]
            totals[failed, 1] += 1
        self._totals = totals
        return Step(reward, terminated, truncated, failed, success, terms)

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
        figures = self._accumulator.result(self._totals)
        return dict(zip(self._accumulator.names, figures.T, strict=True))

    def figures_of(self, index: int) -> dict[str, float]:
        """The metrics of one simulation's episode so far."""
        figures = self._accumulator.result(self._totals[index])
        return dict(zip(self._accumulator.names, figures.tolist(), strict=True))

    def get_state(self) -> dict[str, Any]:
        """Everything that the coming steps depend on, as plain arrays."""
        return {
            "physics": self.engine.get_state(),
            "episode": {k: v.copy() for k, v in self.episode.items()},
            "carry": {k: v.copy() for k, v in self.carry.items()},
            "totals": self._totals.copy(),
            "observation": self.observation.copy(),
        }

    def check_state(self, state: Any, *more: str) -> None:
        """Raise ValueError unless a state has the parts of `get_state` and `more`, and their
        shapes.
        """
        here = self.get_state()
        expected = {*here, *more}
        if not isinstance(state, Mapping) or not expected <= set(state):
            raise ValueError(f"a state has the parts {sorted(expected)}")
        for part, value in here.items():
            theirs = state[part]
            pairs = {part: (theirs, value)}
            if isinstance(value, dict):
                if not isinstance(theirs, Mapping) or set(theirs) != set(value):
                    raise ValueError(f"state part {part!r} has the parts {sorted(value)}")
                pairs = {f"{part}/{k}": (theirs[k], v) for k, v in value.items()}
            for name, (given, own) in pairs.items():
                if np.shape(given) != own.shape:
                    raise ValueError(
                        f"state part {name!r} has shape {np.shape(given)}, expected {own.shape}: "
                        "it is of another task or number of environments"
                    )

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`'s, which `check_state` has accepted."""
        self.engine.set_state(state["physics"])
        self.episode = {k: np.array(v) for k, v in state["episode"].items()}
        self.carry = {k: np.array(v) for k, v in state["carry"].items()}
        self._totals = np.array(state["totals"])
        self.observation = np.array(state["observation"])

    def _flat(self, observed: Observation) -> np.ndarray:
        parts = [value for group in GROUPS for value in observed[group].values()]
        return np.concatenate(parts, axis=-1, dtype=np.float32, casting="same_kind")


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
    if drawn.dtype.kind == "i" and (row != value).any():
        raise ValueError(f"episode part {name!r} must be integers, got {given!r}")
    return row[None]


def _take(rows: Mapping[str, np.ndarray], ids: np.ndarray) -> Rows:
    return {name: value[ids] for name, value in rows.items()}


def _group_slices(layout: dict[str, slice]) -> dict[str, slice]:
    """The run of each group in a flat observation."""
    groups = {}
    for group in GROUPS:
        spans = [span for name, span in layout.items() if name.startswith(group + "/")]
        groups[group] = slice(spans[0].start, spans[-1].stop)
    return groups
