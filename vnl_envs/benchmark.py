"""Throughput of environments beside the bare physics, in one run."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import mujoco
import numpy as np
from mujoco.batch import Batch

import vnl_envs
from vnl_envs.tasks.task import Task

_CURRENT = mujoco.mjtStage.mjSTAGE_VEL.value
# Random actions of this size keep the body moving without making every episode end at once.
ACTION_SIZE = 0.3


def actions_for(task: Task, num: int, steps: int) -> np.ndarray:
    """The same random actions for every contender, (steps, num, nu) float32."""
    rng = np.random.default_rng(0)
    shape = (steps, num, task.body.nu)
    return rng.uniform(-ACTION_SIZE, ACTION_SIZE, shape).astype(np.float32)


@dataclass(frozen=True)
class Contender:
    """Something that steps.

    Attributes:
        name: unique in a comparison.
        run: steps it once per row of actions.
        num: simulations.
        dt: control step, s; rates are given in steps of 20 ms.
    """

    name: str
    run: Callable[[np.ndarray], None]
    num: int
    dt: float = 0.02


def bare_loop(task: Task, num: int, threads: int) -> Contender:
    """The bare `mujoco.batch` loop: write controls, step, nothing else.

    Simulations start in the task's own start state and are put back there as often as an
    environment would be, so that both meet the same contacts.
    """
    batch = Batch(task.world.model, num, nthread=threads, persistent=True)
    ctrl = batch.bind("ctrl")
    rng = np.random.default_rng(0)
    start, _ = task.begin(task.episode(rng.random((num, task.uniforms), np.float32)))
    batch.bind("qpos")[:] = start.qpos
    batch.bind("qvel")[:] = start.qvel
    batch.bind("act")[:] = start.act
    if start.mocap_pos is not None:
        batch.bind("mocap_pos")[:] = start.mocap_pos
    batch.forward(stage=_CURRENT)
    initial = batch.state.copy()
    qpos = batch.bind("qpos")
    root = task.body.qpos.start + 2
    floor = task.body.body.fallen_height

    def run(actions: np.ndarray) -> None:
        for action in actions:
            ctrl[:] = task.body.control(action)
            batch.step(nstep=task.world.substeps, stage=_CURRENT)
            fallen = np.flatnonzero(qpos[:, root] < floor)
            if len(fallen):
                batch.state[fallen] = initial[fallen]
                batch.forward(fallen, stage=_CURRENT)

    return Contender("bare", run, num)


def single_env(task_id: str, **options: Any) -> Contender:
    """One environment, reset when an episode ends."""
    env = gymnasium.make(task_id, disable_env_checker=True, **options)
    env.reset(seed=0)

    def run(actions: np.ndarray) -> None:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action[0])
            if terminated or truncated:
                env.reset()

    return Contender("single", run, 1)


def vector_env(task_id: str, num: int, threads: int, **options: Any) -> Contender:
    """The vector environment."""
    env = gymnasium.make_vec(task_id, num_envs=num, threads=threads, **options)
    env.reset(seed=0)

    def run(actions: np.ndarray) -> None:
        for action in actions:
            env.step(action)

    return Contender("vector", run, num)


def async_env(task_id: str, num: int) -> Contender:
    """Gymnasium's `AsyncVectorEnv` over single environments: one process each."""
    env = gymnasium.make_vec(task_id, num_envs=num, vectorization_mode="async")
    env.reset(seed=0)

    def run(actions: np.ndarray) -> None:
        for action in actions:
            env.step(action)

    return Contender("async", run, num)


def compare(
    contenders: Sequence[Contender], task: Task, steps: int, rounds: int = 5
) -> dict[str, list[float]]:
    """Control steps of 20 ms per second of each contender in each round.

    They take turns, so that the machine's drift is shared.

    Args:
        contenders: what to time.
        task: whose actions to send.
        steps: control steps per simulation and round.
        rounds: counted rounds, after one that is not.
    """
    rates: dict[str, list[float]] = {c.name: [] for c in contenders}
    for counted in [False, *[True] * rounds]:
        for contender in contenders:
            actions = actions_for(task, contender.num, steps)
            begin = time.perf_counter()
            contender.run(actions)
            elapsed = time.perf_counter() - begin
            if counted:
                seconds = steps * contender.num * contender.dt
                rates[contender.name].append(seconds / 0.02 / elapsed)
    return rates


def machine() -> dict[str, str]:
    """Hardware and versions to stamp a measurement with."""
    return {
        "cpu": _cpu_name(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "mujoco": mujoco.__version__,
        "numpy": np.__version__,
        "gymnasium": gymnasium.__version__,
        "vnl_envs": vnl_envs.__version__,
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
