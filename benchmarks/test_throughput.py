"""Speed of environments relative to the bare physics, by task; `make bench` writes the table.

Every ratio comes from contenders that take turns in one run on the same model, actions and
threads. Nothing here asserts on time.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import psutil
import pytest
from dm_control_env import contender as dm_control_contender

import vnl_envs
from vnl_envs.benchmarking import throughput as bench
from vnl_envs.utils.files import written_whole

NUM_ENVS = 64
STEPS = 30
SINGLE_STEPS = 300
RESULTS = Path(__file__).parent / "results" / "throughput.json"


@pytest.fixture(scope="session")
def report():
    """Rows by task, written when the session ends."""
    rows: dict[str, dict[str, float]] = {}
    yield rows
    RESULTS.parent.mkdir(exist_ok=True)
    with written_whole(RESULTS) as partial:
        partial.write_text(json.dumps({"machine": bench.machine(), "tasks": rows}, indent=2) + "\n")
    print("\n" + table(rows))


@pytest.mark.parametrize("task_id", vnl_envs.task_ids())
def test_vector(benchmark, report, task_id):
    """64 environments on all threads against the bare loop of 64 simulations."""
    row = report.setdefault(task_id, {})
    row["vector"], row["bare_vector"], row["vector_over_bare"] = bench.beside_bare(
        task_id, NUM_ENVS, 0, STEPS
    )
    benchmark.extra_info.update(row)
    actions = bench.actions_for(vnl_envs.make_task(task_id), NUM_ENVS, STEPS)
    ours, _ = bench.environments(task_id, NUM_ENVS, 0, actions)
    benchmark.pedantic(ours.run, args=(actions,), rounds=3)


@pytest.mark.parametrize("task_id", vnl_envs.task_ids())
def test_single(benchmark, report, task_id):
    """One environment against the bare loop of one simulation, and dm_control's own."""
    task = vnl_envs.make_task(task_id)
    row = report.setdefault(task_id, {})
    row["single"], row["bare_single"], row["single_over_bare"] = bench.beside_bare(
        task_id, 1, 1, SINGLE_STEPS
    )
    actions = bench.actions_for(task, 1, SINGLE_STEPS)
    ours, _ = bench.environments(task_id, 1, 1, actions)
    dm_control = dm_control_contender(task_id)
    if dm_control:
        rates = bench.compare([ours, dm_control], task, SINGLE_STEPS)
        row["dm_control"] = float(np.median(rates["dm_control"]))
        row["single_over_dm_control"] = ratio(rates["single"], rates["dm_control"])
    benchmark.extra_info.update(row)
    benchmark.pedantic(ours.run, args=(actions,), rounds=3)


@pytest.mark.parametrize("task_id", vnl_envs.task_ids())
def test_async(report, task_id):
    """Gymnasium's process per environment against our threads, at 16 environments."""
    task = vnl_envs.make_task(task_id)
    ours, _ = bench.environments(task_id, 16, 0, bench.actions_for(task, 16, STEPS))
    rates = bench.compare([ours, bench.async_env(task_id, 16)], task, STEPS, rounds=3)
    row = report.setdefault(task_id, {})
    row["vector_over_async"] = ratio(rates["vector"], rates["async"])


@pytest.mark.parametrize("task_id", [i for i in vnl_envs.task_ids() if "GoalReaching" in i])
def test_muscles(report, task_id):
    """Pairs of muscles against servos, 64 environments on all threads."""
    task = vnl_envs.make_task(task_id)
    servos, _ = bench.environments(task_id, NUM_ENVS, 0, bench.actions_for(task, NUM_ENVS, STEPS))
    pairs = vnl_envs.make_task(task_id, actuation="muscle")
    actions = bench.actions_for(pairs, NUM_ENVS, STEPS)
    env, _ = bench.environments(task_id, NUM_ENVS, 0, actions, actuation="muscle")
    muscles = replace(env, name="muscles", run=lambda _: env.run(actions))
    rates = bench.compare([servos, muscles], task, STEPS)
    report.setdefault(task_id, {})["muscles_over_servos"] = ratio(rates["muscles"], rates["vector"])


@pytest.mark.parametrize("task_id", vnl_envs.task_ids())
def test_memory(report, task_id):
    """Memory of an extra environment in a vector."""
    process = psutil.Process()
    used = []
    for num in (64, 192):
        before = process.memory_info().rss
        env = gymnasium.make_vec(task_id, num_envs=num)
        env.reset(seed=0)
        env.step(np.zeros(env.action_space.shape, np.float32))
        used.append(process.memory_info().rss - before)
        env.close()
        del env
    report.setdefault(task_id, {})["mb_per_environment"] = (used[1] - used[0]) / 128 / 1e6


def ratio(ours: list[float], others: list[float]) -> float:
    """Median of the rounds' ratios."""
    return float(np.median(np.array(ours) / np.array(others)))


def table(rows: dict[str, dict[str, float]]) -> str:
    """A markdown table of the report."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = ["| task | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for task_id, row in rows.items():
        cells = [f"{row[n]:.3g}" if n in row else "" for n in names]
        lines.append(f"| {task_id} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
