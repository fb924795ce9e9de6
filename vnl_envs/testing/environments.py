"""Environments of a task id, and their results for random actions."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import vnl_envs
from vnl_envs.tasks.task import Task

NUM, STEPS = 64, 40
"""Numbers of environments and control steps of a rollout."""


@functools.lru_cache(maxsize=16)
def task_of(task_id: str) -> Task:
    """A task with its default options, shared by all tests, which must not change it."""
    return vnl_envs.make_task(task_id)


@functools.lru_cache(maxsize=16)
def single(task_id: str, **arguments: Any) -> Any:
    """A single environment shared by all tests, which must reset it first."""
    return gymnasium.make(task_id, **arguments)


def vector(task_id: str, num_envs: int, **arguments: Any) -> Any:
    """A new vector environment."""
    return gymnasium.make_vec(task_id, num_envs=num_envs, **arguments)


def sync(task_id: str, num: int, mode: AutoresetMode, **arguments: Any) -> SyncVectorEnv:
    """Gymnasium's own vector of single environments, the reference for `vector`."""
    make = functools.partial(gymnasium.make, task_id, disable_env_checker=True, **arguments)
    return SyncVectorEnv([make] * num, autoreset_mode=mode)


@functools.lru_cache(maxsize=1)
def rollout(task_id: str, **arguments: Any) -> list[tuple[Any, ...]]:
    """Results of a reset and random actions in 64 environments on 2 threads, with autoresets."""
    env = vector(task_id, NUM, threads=2, **arguments)
    return run_vector(env, actions_of(env.task, STEPS, NUM), seed=11)


def episode_of(task: Task, num: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Episodes from a seeded generator, (num, ...) each."""
    u = np.random.default_rng(seed).random((num, task.uniforms), np.float32)
    return {k: np.asarray(v) for k, v in task.episode(u).items()}


def actions_of(task: Task, steps: int, num: int, seed: int = 0, size: float = 1.0) -> np.ndarray:
    """Uniform actions, (steps, num, nu) float32."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-size, size, (steps, num, task.body.nu)).astype(np.float32)


def rows(parts: Mapping[str, np.ndarray], index: Any) -> dict[str, np.ndarray]:
    """Selected rows of an episode or carry."""
    return {k: v[index] for k, v in parts.items()}


def run_vector(env: Any, actions: np.ndarray, seed: Any = 0) -> list[tuple[Any, ...]]:
    """The results of `reset` and of every step."""
    return [env.reset(seed=seed), *(env.step(a) for a in actions)]


def run_single(env: Any, actions: np.ndarray, seed: int) -> list[tuple[Any, ...]]:
    """Like `run_vector`, with resets at ends of episodes, whose final step is the 6th entry."""
    results: list[tuple[Any, ...]] = [env.reset(seed=seed)]
    for action in actions:
        result = env.step(action)
        if result[2] or result[3]:
            first, info = env.reset()
            results.append((first, *result[1:4], info, (result[0], result[4])))
        else:
            results.append(result)
    return results


def row_of(infos: Mapping[str, Any], index: int) -> dict[str, Any]:
    """The info of one environment from the infos of a vector, by their masks."""
    out: dict[str, Any] = {}
    for key, value in infos.items():
        if key.startswith("_") or not infos["_" + key][index]:
            continue
        out[key] = row_of(value, index) if isinstance(value, dict) else value[index]
    return out
