"""Control steps on the native engine for JAX, as functions without state of their own."""

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
    """Pure functions of rows, computed by one `Core` per number of rows.

    A memory is everything on which the next steps depend: `physics` (k), `episode`, `carry`,
    `totals` (M), `observation` (D) and `privileged` (P). JAX has no 64-bit numbers by default.
    Therefore each is passed as two words: an array (...) of float64 becomes (..., 2) uint32.

    Every function takes and returns arrays with the same leading batch axes. The first argument is
    always `fields`: values of model fields by name, in addition to those of the episode.

    Args:
        task: task of the simulations.
        threads: number of threads of the engine; 0 uses every CPU.

    Attributes:
        names: names of the metrics.
        finite: names of the metrics that are finite from the first step on.
        terms: names of the reward terms.
        memory: memory of one simulation, as an example of shapes and types.
    """

    def __init__(self, task: Task, threads: int = 0) -> None:
        self.task, self.threads = task, threads
        self._cores: dict[tuple[Any, ...], Core] = {}
        # JAX calls from several threads, and a core is not thread-safe.
        self._lock = threading.Lock()
        core = self._core(1, {})
        self.layout, self.groups = core.layout, core.groups
        self._begin(core, np.zeros((1, task.uniforms), np.float32))
        self.names = core.finalizer.accumulator.names
        core.step(np.zeros((1, task.body.nu), np.float32))
        # A step may widen the types of the first carry, so types are taken after one.
        self._types = _map(lambda array: array.dtype, core.memory())
        # Infinite metrics would spoil a trainer's means.
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
        """Memories of given states within episodes; `start` has the fields of `Start`."""
        batch, (fields, start, episode, carry) = _flatten(
            start["qpos"].shape[:-1], fields, start, episode, carry
        )
        with self._lock:
            core = self._core(len(start["qpos"]), fields)
            core.put(Start(**start), episode, carry)
            return _shape(self._words(core.memory()), batch)

    def step(self, fields: Tree, memory: Tree, action: np.ndarray) -> tuple[Tree, Tree]:
        """One control step with actions (..., nu): the next memories, and the step's results.

        A simulation whose action is not finite diverges.
        """
        batch, (fields, memory, action) = _flatten(action.shape[:-1], fields, memory, action)
        memory = self.numbers(memory)
        invalid = ~np.isfinite(action).all(axis=-1)
        if invalid.any():
            action = np.where(invalid[:, None], np.float32(0), action)
            memory["physics"] = np.where(invalid[:, None], np.nan, memory["physics"])
        with self._lock:
            core = self._core(len(action), fields)
            core.recall(memory)
            step = core.step(action)
            after = core.memory()
            results = {
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
            return _shape(self._words(after), batch), _shape(_single(results), batch)

    def restart(self, fields: Tree, memory: Tree, done: np.ndarray, u: np.ndarray) -> Tree:
        """The memories; those of new episodes where `done` (...)."""
        batch, (fields, memory, done, u) = _flatten(done.shape, fields, memory, done, u)
        with self._lock:
            core = self._core(len(done), fields)
            # Copies, as the core writes into its rows.
            core.recall(_map(np.array, self.numbers(memory)))
            ids = np.flatnonzero(done)
            if len(ids):
                core.reset(ids, core.episodes(u[ids]))
            return _shape(self._words(core.memory()), batch)

    def numbers(self, memory: Tree) -> Tree:
        """A memory (..., *) with 64-bit numbers in place of pairs of words."""
        return _map(_to_numbers, _map(np.asarray, memory), self._types)

    def fill(self, data: mujoco.MjData, memory: Tree) -> None:
        """Write the physics of one memory into an `MjData`."""
        self._core(1, {}).engine.fill(data, self.numbers(memory)["physics"])

    def _core(self, num: int, fields: Tree) -> Core:
        # A core keeps its edited fields, so that each set of fields needs its own core.
        key = num, *sorted(fields)
        if key not in self._cores:
            self._cores[key] = Core(self.task, num, self.threads, transient=True)
        core = self._cores[key]
        core.fields = fields
        return core

    def _begin(self, core: Core, u: np.ndarray) -> None:
        # `reset` would write into the rows of an earlier call, which are JAX's memory.
        episode = core.episodes(u)
        start, carry = self.task.begin(episode)
        core.put(start, episode, carry)

    def _words(self, memory: Tree) -> Tree:
        """A memory with pairs of words in place of 64-bit numbers, the inverse of `numbers`."""
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
    """Leaves of float64 rounded to float32."""
    return _map(lambda a: a.astype(np.float32) if a.dtype == np.float64 else a, tree)


def _flatten(batch: tuple[int, ...], *trees: Tree) -> tuple[tuple[int, ...], list[Tree]]:
    """The batch shape, and trees of NumPy arrays whose batch axes are merged into one."""
    n, size = len(batch), math.prod(batch)

    def flat(array: Any) -> np.ndarray:
        array = np.asarray(array)
        return array.reshape((size, *array.shape[n:]))

    return batch, [_map(flat, tree) for tree in trees]


def _shape(tree: Tree, batch: tuple[int, ...]) -> Tree:
    """The inverse of `_flatten`."""
    return _map(lambda array: array.reshape((*batch, *array.shape[1:])), tree)
