"""The vector environment with processes, compared with threads and the bare physics in one run.

    OMP_NUM_THREADS=1 python -m benchmarks.processes

One process per CPU is compared with one thread per CPU, at three numbers of simulations; both and
the bare loop take turns. `serial_us` is the CPU time of this process outside its own block, per
simulation step: the part that more cores do not reduce. From `serial_us`, and from blocks with as
many simulations as 16 and 64 processes would have, the ratio on 16 and 64 cores is projected. This
is not a measurement: it assumes no effect of memory, clock and scheduler. Blocks are timed by CPU
time. Writes `results/processes.json` beside this file.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Annotated, Any

import gymnasium
import numpy as np
import typer

import vnl_envs
from benchmarks.measuring import write_results
from vnl_envs.benchmarking import throughput as bench
from vnl_envs.envs.processes.workers import cpus
from vnl_envs.registry import make_task

NUMS = {64: 32, 256: 12, 1024: 4}
"""Simulations -> control steps in a round."""

MANY = 1024
"""Number of simulations that the projection spreads over `CORES`."""

CORES = (16, 64)
BLOCKS, BLOCK_STEPS = 32, 6
"""Number of blocks of each size, and number of steps of each."""

SERIAL_STEPS = 8


def beside_bare(
    task_id: str, num: int, processes: int, rounds: int, pause: float
) -> dict[str, float]:
    """Ratios of the rates of threads and processes to the bare physics, medians over rounds."""
    steps, task = NUMS[num], make_task(task_id)
    actions = bench.actions_for(task, num, steps)
    threads, trace = bench.environments(task_id, num, processes, actions)
    contenders = [
        bench.bare_loop(task, num, processes, actions, trace),
        threads,
        bench.over_processes(task_id, num, processes, threads=1),
    ]

    spent: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(rounds + 1):
        for contender in contenders[:: 1 if number % 2 else -1]:
            contender.prepare()
            # Short turns with pauses, in which other processes of the machine can run.
            time.sleep(pause)
            begin = time.perf_counter()
            contender.run(actions)
            spent[contender.name].append(time.perf_counter() - begin)
    wall = {name: np.array(seconds[1:]) for name, seconds in spent.items()}
    return {
        "bare_steps_per_s": float(num * steps / np.median(wall["bare"])),
        "threads_over_bare": float(np.median(wall["bare"] / wall["vector"])),
        "processes_over_bare": float(np.median(wall["bare"] / wall["processes"])),
    }


def serial(task_id: str, num: int, processes: int) -> float:
    """CPU time of this process outside its own block, µs per simulation step."""
    env: Any = gymnasium.make_vec(task_id, num_envs=num, processes=processes, threads=1)
    env.reset(seed=0)
    workers = env.unwrapped._simulations
    rest = []
    for action in bench.actions_for(env.unwrapped.task, num, SERIAL_STEPS):
        with clocked(workers._processes[0], "wait") as own:
            begin = time.process_time()
            env.step(action)
            rest.append(time.process_time() - begin - sum(own))
    env.close()
    return float(np.median(rest) / num * 1e6)


def blocks(task_id: str, num: int) -> dict[str, float]:
    """CPU time of a simulation step in blocks of `num`, the engine's part of it, and the time of
    the slowest of `MANY / num` simultaneous blocks relative to their mean.
    """
    actions = bench.actions_for(make_task(task_id), BLOCKS * num, BLOCK_STEPS)
    seconds = np.zeros((BLOCKS, BLOCK_STEPS, 2))
    for block in range(BLOCKS):
        env: Any = gymnasium.make_vec(task_id, num_envs=num, threads=1)
        env.reset(seed=block * num)
        engine = env.unwrapped.core.engine
        for step, action in enumerate(actions[:, block * num : (block + 1) * num]):
            with clocked(engine, "step") as physics:
                begin = time.process_time()
                env.step(action)
                seconds[block, step] = time.process_time() - begin, sum(physics)
    # The first step starts with empty caches.
    total, physics_only = np.moveaxis(seconds[:, 1:], -1, 0)
    together = np.random.default_rng(0).integers(0, BLOCKS, (500, MANY // num))
    slowest = total[together].max(axis=1) / total[together].mean(axis=1)
    return {
        "block_us": float(np.median(total) / num * 1e6),
        "engine_us": float(np.median(physics_only) / num * 1e6),
        "slowest_over_mean": float(np.median(slowest)),
    }


@contextlib.contextmanager
def clocked(thing: Any, method: str) -> Iterator[list[float]]:
    """Record the CPU seconds of each call of a method."""
    taken: list[float] = []
    plain = getattr(thing, method)

    def timed(*arguments: Any) -> Any:
        begin = time.process_time()
        result = plain(*arguments)
        taken.append(time.process_time() - begin)
        return result

    setattr(thing, method, timed)
    try:
        yield taken
    finally:
        delattr(thing, method)


def projected(row: dict[str, Any], cores: int) -> dict[str, float]:
    """Projected ratios to the bare physics for `MANY` simulations on `cores` cores."""
    block = row["blocks"][str(MANY // cores)]
    bare = block["engine_us"] / cores
    processes = block["block_us"] * block["slowest_over_mean"] / cores
    # Threads parallelise only the physics.
    outside = row["blocks"][str(MANY // CORES[0])]
    task = outside["block_us"] - outside["engine_us"]
    return {
        "processes": bare / (processes + row["serial_us"]),
        "threads": bare / (bare + task),
    }


def main(
    rounds: Annotated[int, typer.Option(help="counted rounds")] = 5,
    pause: Annotated[float, typer.Option(help="pause before each turn, s")] = 0.0,
    task: Annotated[list[str] | None, typer.Option(help="only these")] = None,
) -> None:
    """See the module."""
    tasks: dict[str, Any] = {}
    for task_id in task or vnl_envs.task_ids():
        row: dict[str, Any] = {
            "beside_bare": {
                str(num): beside_bare(task_id, num, cpus(), rounds, pause) for num in NUMS
            },
            "serial_us": serial(task_id, MANY, cpus()),
            "blocks": {str(MANY // cores): blocks(task_id, MANY // cores) for cores in CORES},
        }
        row["projected"] = {str(cores): projected(row, cores) for cores in CORES}
        tasks[task_id] = row
        typer.echo(f"{task_id} {row}")
    write_results("processes", {"processes": cpus(), "rounds": rounds, "tasks": tasks})


if __name__ == "__main__":
    typer.run(main)
