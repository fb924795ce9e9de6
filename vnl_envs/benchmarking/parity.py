"""Agreement of the engines on the same states, episodes and actions."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from vnl_envs.envs.core import Core
from vnl_envs.envs.functional import FunctionalEnv, State, make_functional
from vnl_envs.tasks.task import Start, Task

STATES = 64
_ENVS = 16
# Control steps after which states are sampled, early ones and ones after ends of episodes.
_TIMES = (2, 9, 23, 47)
_ACTION_SIZE = 0.18


class Sample(NamedTuple):
    """States along rollouts of the native engine, (n, ...), and an action for each.

    Attributes:
        start: positions, velocities, activations and scenery.
        episode: episodes of the task.
        carry: carries before the step that led to the state, so that evaluating the state gives
            the reward and end of this step.
        action: (n, nu) float32 actions.
    """

    start: Start
    episode: dict[str, np.ndarray]
    carry: dict[str, np.ndarray]
    action: np.ndarray

    def head(self, count: int) -> Sample:
        """The first rows."""
        return jax.tree.map(lambda array: array[:count], self)


def sample_states(task: Task, seed: int = 0) -> Sample:
    """`STATES` states under random actions, including last ones of episodes, in random order."""
    rng = np.random.default_rng(seed)
    core = Core(task, _ENVS)
    draws = [np.random.default_rng([seed, i]) for i in range(_ENVS)]
    everyone = np.arange(_ENVS)
    core.reset(everyone, core.draw(draws))
    # A push forward, so that bodies make progress and earn rewards.
    start = _start(core)
    start.qvel[:, 0] += rng.uniform(0, task.body.body.reach, _ENVS)
    core.engine.start(everyone, task.body, *start)
    taken = []
    for step in range(max(_TIMES) + 1):
        carry = {k: v.copy() for k, v in core.carry.items()}
        result = core.step(_actions(rng, _ENVS, task))
        if step in _TIMES:
            taken.append((_start(core), {k: v.copy() for k, v in core.episode.items()}, carry))
        ids = np.flatnonzero(result.terminated | result.truncated)
        if len(ids):
            core.reset(ids, core.draw([draws[i] for i in ids]))
    rows = jax.tree.map(lambda *parts: np.concatenate(parts), *taken)
    order = rng.permutation(STATES)
    start, episode, carry = jax.tree.map(lambda array: array[order], rows)
    return Sample(start, episode, carry, _actions(rng, STATES, task))


def _actions(rng: np.random.Generator, num: int, task: Task) -> np.ndarray:
    size = (num, task.body.nu)
    return rng.uniform(-_ACTION_SIZE, _ACTION_SIZE, size).astype(np.float32)


def _start(core: Core) -> Start:
    physics = core.physics
    mocap = np.stack([core.engine.data(i).mocap_pos for i in range(core.num)])
    qpos, qvel, act = (part.copy() for part in (physics.qpos, physics.qvel, physics.act))
    return Start(qpos, qvel, act, mocap if mocap.size else None)


class Side:
    """The results of one engine for a sample.

    Args:
        task_id: registered id.
        impl: implementation, see `FunctionalEnv`.
        options: options of the task.
    """

    def __init__(self, task_id: str, impl: str, **options: Any) -> None:
        self.env = make_functional(task_id, impl, **options)
        self.put = jax.jit(jax.vmap(self.env.put))
        self.step = jax.jit(jax.vmap(self.env.step))
        self._evaluate = jax.jit(jax.vmap(self.env.step))

    def at(self, sample: Sample) -> dict[str, np.ndarray]:
        """Quantities of the sample's states, by name, without the power, which is of a step."""
        state = self.put(sample.start, sample.episode, sample.carry)
        with _without_physics(self.env.task):
            found = quantities(self.env, self._evaluate(state, sample.action))
        del found["metric power"]
        return found

    def after(self, sample: Sample) -> dict[str, np.ndarray]:
        """Quantities one control step later, by name."""
        state = self.put(sample.start, sample.episode, sample.carry)
        return quantities(self.env, self.step(state, sample.action))


@contextlib.contextmanager
def _without_physics(task: Task) -> Iterator[None]:
    """Context in which a step is no physics step: the task evaluates exactly the given state.

    MJX reads the number of physics steps when a program is traced, the native engine when it runs.
    """
    world = task.world
    task.world = dataclasses.replace(world, substeps=0)
    try:
        yield
    finally:
        task.world = world


def quantities(env: FunctionalEnv, state: State) -> dict[str, np.ndarray]:
    """The compared quantities, (n, k) each: observations by name, reward, flags and metrics."""
    observed = np.asarray(state.data.observation)
    parts = {name: observed[:, span] for name, span in env.layout.items()}
    flags = {"done": state.done, "truncation": state.info["truncation"]}
    # Only Warp has the overflow flag.
    shown = {name: value for name, value in state.metrics.items() if name != "overflow"}
    figures = {f"metric {name}": value for name, value in shown.items()}
    scalars = {"reward": state.reward, **flags, **figures}
    return parts | {name: np.asarray(value)[:, None] for name, value in scalars.items()}


def differences(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> dict[str, Any]:
    """Median, 90 % quantile and maximum of the states' greatest differences, by quantity.

    A difference is absolute where the expected value is below 1, else relative.
    """
    table = {}
    for name, a in actual.items():
        b = expected[name]
        worst = (np.abs(a - b) / np.maximum(np.abs(b), 1.0)).max(axis=1)
        table[name] = {
            "median": float(np.median(worst)),
            "p90": float(np.quantile(worst, 0.9)),
            "max": float(worst.max()),
        }
    return table
