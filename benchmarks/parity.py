"""Agreement of the engines: `python benchmarks/parity.py [ID ...]`, by default for all tasks.

Writes `results/parity.json` (differences from C after zero and after one control step, and compile
times without a cache) and `../docs/images/parity.png` (divergence over a second).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np

import vnl_envs
from vnl_envs.benchmarking.parity import Sample, Side, differences, sample_states
from vnl_envs.benchmarking.throughput import machine
from vnl_envs.utils.files import written_whole

RESULTS = Path(__file__).parent / "results" / "parity.json"
PLOT = Path(__file__).parents[1] / "docs" / "images" / "parity.png"
IMPLS = ("warp", "jax")
STEPS = 50
ACTION_SIZE = 0.3
# Rounding error of a float32 number of size 1. C itself diverges after a change of this size.
ROUNDING = 1e-7


def compile_times(side: Side, sample: Sample) -> dict[str, float]:
    """Seconds to trace and to compile one control step of the sample's batch."""
    state = side.put(sample.start, sample.episode, sample.carry)
    begin = time.perf_counter()
    lowered = side.step.lower(state, sample.action)
    traced = time.perf_counter()
    lowered.compile()
    return {"trace_s": traced - begin, "compile_s": time.perf_counter() - traced}


def open_loop(side: Side, sample: Sample, actions: np.ndarray) -> np.ndarray:
    """Joint angles along a run, (steps, n, nj), rad. Terminations are ignored."""
    state = side.put(sample.start, sample.episode, sample.carry)
    span = side.env.layout["proprioception/joint_position"]
    angles = []
    for action in actions:
        state = side.step(state, action)
        angles.append(np.asarray(state.data.observation)[:, span])
    return np.stack(angles)


def rounded(sample: Sample) -> Sample:
    """The sample with joint angles changed by about the rounding error of float32."""
    noise = np.random.default_rng(1).uniform(-ROUNDING, ROUNDING, sample.start.qpos.shape)
    noise[:, :7] = 0
    return sample._replace(start=sample.start._replace(qpos=sample.start.qpos + noise))


def measure(task_id: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The table of one task, and each engine's median divergence by step."""
    task = vnl_envs.make_task(task_id)
    sample = sample_states(task)
    rng = np.random.default_rng(2)
    size = (STEPS, *sample.action.shape)
    actions = rng.uniform(-ACTION_SIZE, ACTION_SIZE, size).astype(np.float32)
    native = Side(task_id, "native")
    at, after = native.at(sample), native.after(sample)
    ours = open_loop(native, sample, actions)
    drift = {"C, start changed by 1e-7": open_loop(native, rounded(sample), actions)}
    table: dict[str, Any] = {}
    for impl in IMPLS:
        side = Side(task_id, impl)
        table[impl] = {
            "compile": compile_times(side, sample),
            "at": differences(side.at(sample), at),
            "after_one_step": differences(side.after(sample), after),
        }
        drift[impl] = open_loop(side, sample, actions)
        print(task_id, impl, table[impl]["compile"], flush=True)
    rms = {name: np.sqrt(((run - ours) ** 2).mean(axis=2)) for name, run in drift.items()}
    return table, {name: np.median(value, axis=1) for name, value in rms.items()}


def plot(curves: dict[str, dict[str, np.ndarray]]) -> None:
    """One panel per task."""
    columns = min(3, len(curves))
    figure, axes = plt.subplots(
        -(-len(curves) // columns),
        columns,
        figsize=(4 * columns, 6),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (task_id, drift) in zip(axes.flat, curves.items(), strict=False):
        for name, median in drift.items():
            seconds = 0.02 * np.arange(1, len(median) + 1)
            axis.semilogy(seconds, np.maximum(median, 1e-9), label=name)
        axis.set_title(task_id.split("/")[1], fontsize=9)
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    figure.supxlabel("time, s")
    figure.supylabel("difference from C: joint angles, rad RMS, median of 64 runs")
    with written_whole(PLOT) as partial:
        figure.savefig(partial, dpi=110)


def main() -> None:
    """Measure and write."""
    jax.config.update("jax_enable_compilation_cache", False)
    tables, curves = {}, {}
    for task_id in sys.argv[1:] or vnl_envs.task_ids():
        tables[task_id], curves[task_id] = measure(task_id)
    with written_whole(RESULTS) as partial:
        content = {"machine": {**machine(), "jax": jax.__version__}, "tasks": tables}
        partial.write_text(json.dumps(content, indent=1) + "\n")
    plot(curves)


if __name__ == "__main__":
    main()
