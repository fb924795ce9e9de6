"""Throughput of environments compared with the bare physics in the same run."""

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
from vnl_envs.registry import make_task
from vnl_envs.tasks.task import Task
from vnl_envs.utils.machine import cpu_name

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
    """A stepper in a comparison.

    Attributes:
        name: name, unique in a comparison.
        run: function that steps once per row of actions.
        num: number of simulations.
        dt: duration of a control step, s; rates are in steps of 20 ms.
        prepare: function that restores the start of a round; it is not timed.
    """

    name: str
    run: Callable[[np.ndarray], None]
    num: int
    dt: float = 0.02
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Trace:
    """The physics of an environment in a run of actions, for the bare loop to repeat.

    Attributes:
        start: (num, nstate) states before the first step.
        mocap: (steps, num, nmocap, 3) positions of platforms during each step, m.
        resets: for each step, the simulations that started a new episode after it, and their
            states.
    """

    start: np.ndarray
    mocap: np.ndarray
    resets: list[tuple[np.ndarray, np.ndarray]]


def environments(
    task_id: str, num: int, threads: int, actions: np.ndarray, **options: Any
) -> tuple[Contender, Trace]:
    """The vector environment (the single one for num = 1), and the trace of a run of actions.

    Every round starts from the same state, so that all rounds are the same run.
    """
    env: Any
    if num == 1:
        env = gymnasium.make(task_id, disable_env_checker=True, **options)
    else:
        env = gymnasium.make_vec(task_id, num_envs=num, threads=threads, **options)
    env.reset(seed=0)
    state = env.unwrapped.get_state()

    def step(action: np.ndarray) -> np.ndarray:
        """Step once, and return the simulations that started a new episode."""
        if num > 1:
            _, _, terminated, truncated, _ = env.step(action)
            return np.flatnonzero(terminated | truncated)
        _, _, terminated, truncated, _ = env.step(action[0])
        if terminated or truncated:
            env.reset()
        return np.arange(int(terminated or truncated))

    def run(actions: np.ndarray) -> None:
        for action in actions:
            step(action)

    core = env.unwrapped.core
    mocap, resets = [], []
    for action in actions:
        inputs = core.task.external_inputs(core.episode, core.carry).mocap_pos
        mocap.append(np.zeros((num, 0, 3)) if inputs is None else inputs)
        ids = step(action)
        resets.append((ids, core.engine.get_state()[ids]))
    trace = Trace(state["physics"], np.array(mocap), resets)
    name = "single" if num == 1 else "vector"
    return Contender(name, run, num, prepare=lambda: env.unwrapped.set_state(state)), trace


def over_processes(task_id: str, num: int, processes: int, threads: int = 0) -> Contender:
    """The vector environment over several processes, in the same run as `environments`."""
    env: Any = gymnasium.make_vec(task_id, num_envs=num, processes=processes, threads=threads)
    env.reset(seed=0)
    state = env.unwrapped.get_state()

    def run(actions: np.ndarray) -> None:
        for action in actions:
            env.step(action)

    return Contender("processes", run, num, prepare=lambda: env.unwrapped.set_state(state))


def bare_loop(task: Task, num: int, threads: int, actions: np.ndarray, trace: Trace) -> Contender:
    """The bare `mujoco.batch` loop over the same physics, which only writes controls and steps.

    It repeats the states of the environment's run, so that both have the same contacts.
    """
    batch = Batch(task.world.model, num, nthread=threads, persistent=True)
    ctrl, mocap = batch.bind("ctrl"), batch.bind("mocap_pos")
    controls = task.body.control(actions)

    def prepare() -> None:
        batch.state[:] = trace.start
        batch.forward(stage=_CURRENT)

    def run(actions: np.ndarray) -> None:
        for control, platforms, (ids, states) in zip(
            controls, trace.mocap, trace.resets, strict=True
        ):
            ctrl[:] = control
            mocap[:] = platforms
            batch.step(nstep=task.world.substeps, stage=_CURRENT)
            if len(ids):
                batch.state[ids] = states
                batch.forward(ids, stage=_CURRENT)

    return Contender("bare", run, num, prepare=prepare)


def beside_bare(
    task_id: str, num: int, threads: int, steps: int, rounds: int = 5, processes: int = 1
) -> tuple[float, float, float]:
    """Medians of the steps per second of an environment and the bare loop, and of their ratio.

    The bare loop has the threads of all processes.
    """
    task = make_task(task_id)
    actions = actions_for(task, num, steps)
    env, trace = environments(task_id, num, threads, actions)
    if processes > 1:
        env = over_processes(task_id, num, processes, threads)
    bare = bare_loop(task, num, threads * processes, actions, trace)
    rates = compare([env, bare], task, steps, rounds)
    ratio = np.median(np.array(rates[env.name]) / np.array(rates["bare"]))
    return float(np.median(rates[env.name])), float(np.median(rates["bare"])), float(ratio)


def vector_env(task_id: str, num: int) -> Contender:
    """The Gymnasium vector environment on all threads, without a trace."""
    env: Any = gymnasium.make_vec(task_id, num_envs=num)

    def run(actions: np.ndarray) -> None:
        for action in actions:
            env.step(action)

    def prepare() -> None:
        env.reset(seed=0)

    return Contender("vector", run, num, env.unwrapped.dt, prepare)


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

    The contenders take turns, so that they share the machine's drift.

    Args:
        contenders: contenders to time.
        task: task of the actions.
        steps: number of control steps per simulation and round.
        rounds: number of counted rounds, after one that is not counted.
    """
    rates: dict[str, list[float]] = {c.name: [] for c in contenders}
    for counted in [False, *[True] * rounds]:
        for contender in contenders:
            actions = actions_for(task, contender.num, steps)
            contender.prepare()
            begin = time.perf_counter()
            contender.run(actions)
            elapsed = time.perf_counter() - begin
            if counted:
                seconds = steps * contender.num * contender.dt
                rates[contender.name].append(seconds / 0.02 / elapsed)
    return rates


def machine() -> dict[str, str]:
    """Hardware and versions, as stamps of a measurement."""
    return {
        "cpu": cpu_name(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "mujoco": mujoco.__version__,
        "numpy": np.__version__,
        "gymnasium": gymnasium.__version__,
        "vnl_envs": vnl_envs.__version__,
    }
