"""Control steps on the native engine for JAX: rows go in and come out, nothing stays behind."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from vnl_envs.envs.core import Core
from vnl_envs.tasks.task import Start, Task

Tree = Any
"""Nested dictionaries of arrays."""


class Host:
    """Pure functions of rows, by a `Core` for each number of rows that was ever asked for.

    A memory is everything that the coming steps depend on: `physics` (k), `episode`, `carry`,
    `totals` (M) and `observation` (D). JAX has no 64-bit numbers by default, so each
    travels as two words: an array (...) of float64 is one of uint32, (..., 2).

    Every function takes arrays with the same leading batch axes, and gives such. The first is
    always `fields`: values of model fields by name, beside those that the episode asks for.

    Args:
        task: the task.
        threads: of the engine; 0 uses every CPU.
    """

    def __init__(self, task: Task, threads: int = 0) -> None:
        self.task, self.threads = task, threads
        self._cores: dict[tuple[Any, ...], Core] = {}
        # JAX calls from several threads; a core is not safe under them.
        self._lock = threading.Lock()
        core = self._core(1, {})
        self.layout, self.groups = core.layout, core.groups
        self._begin(core, np.zeros((1, task.uniforms), np.float32))
        self.names = core.finalizer.accumulator.names
        core.step(np.zeros((1, task.body.nu), np.float32))
        # A step may widen what an episode's carry begins with, hence the types after one.
        self._types = _map(lambda array: array.dtype, core.memory())
        # Figures that are finite from the first step on; others would spoil a trainer's means.
        self.finite = tuple(n for n, v in core.figures_of(0).items() if np.isfinite(v))
        self.memory = _map(lambda array: array[0], self._words(core.memory()))
        self.terms = tuple(task.reward_terms)

    def begin(self, fields: Tree, u: np.ndarray) -> Tree:
        """Memories of new episodes from uniform numbers (..., uniforms)."""
        batch, (fields, rows) = _flatten(u.shape[:-1], fields, u)
        with self._lock:
            core = self._core(len(rows), fields)
            self._begin(core, rows)
            return _shape(self._words(core.memory()), batch)

    def put(self, fields: Tree, start: Tree, episode: Tree, carry: Tree) -> Tree:
        """Memories of states in the midst of episodes; `start` has the fields of `Start`."""
        batch, (fields, start, episode, carry) = _flatten(
            start["qpos"].shape[:-1], fields, start, episode, carry
        )
        with self._lock:
            core = self._core(len(start["qpos"]), fields)
            core.put(Start(**start), episode, carry)
            return _shape(self._words(core.memory()), batch)

    def step(self, fields: Tree, memory: Tree, action: np.ndarray) -> tuple[Tree, Tree]:
        """One control step with actions (..., nu): the next memories, and what the step gave.

        An action that is not a number breaks the simulation that it is given to.
        """
        batch, (fields, memory, action) = _flatten(action.shape[:-1], fields, memory, action)
        memory = self.numbers(memory)
        broken = ~np.isfinite(action).all(axis=-1)
        if broken.any():
            action = np.where(broken[:, None], np.float32(0), action)
            memory["physics"] = np.where(broken[:, None], np.nan, memory["physics"])
        with self._lock:
            core = self._core(len(action), fields)
            core.recall(memory)
            step = core.step(action)
            after = core.memory()
            gave = {
                "reward": step.reward,
                "terms": step.terms,
                "terminated": step.terminated,
                "truncated": step.truncated,
                "diverged": step.diverged,
                "success": step.success,
                "increments": core.finalizer.accumulator.increments(
                    memory["totals"], after["totals"]
                ),
            }
            return _shape(self._words(after), batch), _shape(_single(gave), batch)

    def restart(self, fields: Tree, memory: Tree, done: np.ndarray, u: np.ndarray) -> Tree:
        """The memories, but those of new episodes where `done` (...)."""
        batch, (fields, memory, done, u) = _flatten(done.shape, fields, memory, done, u)
        with self._lock:
            core = self._core(len(done), fields)
            # The core writes to its rows.
            core.recall(_map(np.array, self.numbers(memory)))
            ids = np.flatnonzero(done)
            if len(ids):
                core.reset(ids, core.episodes(u[ids]))
            return _shape(self._words(core.memory()), batch)

    def numbers(self, memory: Tree) -> Tree:
        """A memory, or rows of such, with 64-bit numbers in place of their words."""
        return _map(_to_numbers, _map(np.asarray, memory), self._types)

    def fill(self, data: mujoco.MjData, memory: Tree) -> None:
        """Write the state of one memory into a simulation."""
        self._core(1, {}).engine.fill(data, self.numbers(memory)["physics"])

    def _core(self, num: int, fields: Tree) -> Core:
        # A core keeps what was once edited, so that each set of fields has its own.
        key = num, *sorted(fields)
        if key not in self._cores:
            self._cores[key] = Core(self.task, num, self.threads, transient=True)
        core = self._cores[key]
        core.fields = fields
        return core

    def _begin(self, core: Core, u: np.ndarray) -> None:
        # Not `reset`: the rows of an earlier call were JAX's memory.
        episode = core.episodes(u)
        start, carry = self.task.begin(episode)
        core.put(start, episode, carry)

    def _words(self, memory: Tree) -> Tree:
        """A memory with words in place of its 64-bit numbers; the inverse of `numbers`."""
        return _map(_to_words, _map(np.asarray, memory, self._types))


def _map(function: Any, *trees: Tree) -> Tree:
    if isinstance(trees[0], Mapping):
        return {name: _map(function, *(tree[name] for tree in trees)) for name in trees[0]}
    return function(*trees)


def _to_words(array: np.ndarray) -> np.ndarray:
    if array.dtype.itemsize != 8:
        return array
    return np.ascontiguousarray(array)[..., None].view(np.uint32)


def _to_numbers(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.itemsize != 8:
        return array
    return np.ascontiguousarray(array).view(dtype)[..., 0]


def _single(tree: Tree) -> Tree:
    """Float64 rounded to float32."""
    return _map(lambda a: a.astype(np.float32) if a.dtype == np.float64 else a, tree)


def _flatten(batch: tuple[int, ...], *trees: Tree) -> tuple[tuple[int, ...], list[Tree]]:
    """Trees of NumPy arrays with one batch axis in place of those of `batch`."""
    n, size = len(batch), math.prod(batch)

    def flat(array: Any) -> np.ndarray:
        array = np.asarray(array)
        return array.reshape((size, *array.shape[n:]))

    return batch, [_map(flat, tree) for tree in trees]


def _shape(tree: Tree, batch: tuple[int, ...]) -> Tree:
    """The inverse of `_flatten`."""
    return _map(lambda array: array.reshape((*batch, *array.shape[1:])), tree)
