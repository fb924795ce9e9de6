"""Speed-up of the scoring harness by a second worker.

    OMP_NUM_THREADS=1 python -m benchmarks.scoring_parallel

The reference checkpoints of PPO run the same episodes of the quick suite with one worker and with
two workers in turns, in the sandbox if there is one. Efficiency is the time of one worker over
twice the time of two, without the start of the processes. Two causes of a loss are separated:
`slower`, the factor by which an episode takes longer beside another one (caches, clock, memory: the
machine's), and `idle`, the share of the workers' time outside episodes (the harness's). Writes
`results/scoring_parallel.json` beside this file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from vnl_envs.benchmarking.throughput import machine
from vnl_envs.sandbox import launch
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.documents.schema.suite import Spec
from vnl_envs.scoring.run import plan, runner
from vnl_envs.utils.files import written_whole

RESULTS = Path(__file__).parent / "results" / "scoring_parallel.json"
CHECKPOINTS = Path(__file__).parents[1] / "baselines" / "checkpoints" / "ppo"


def run(workers: int, episodes: int) -> tuple[plan.Run, list[Spec]]:
    """The checkpoints on their tasks, and `episodes` episodes of each task, easiest cell first."""
    suite = suites.load_suite("quick-v2")
    files = {task.id: CHECKPOINTS / f"{task.id.partition('/')[2]}.onnx" for task in suite.tasks}
    policies = {task: path.read_bytes() for task, path in files.items() if path.exists()}
    candidate = dataclasses.replace(plan.reference("zero"), policies=policies, reference=None)
    season = plan.season_of(suite, "dev", None)
    isolated = launch.unavailable_reason() is None
    anchors = suites.load_anchors(suite)
    specs = [
        spec for task in policies for spec in [s for s in suite.specs if s.task == task][:episodes]
    ]
    return plan.Run(candidate, suite, anchors, season, isolated, workers), specs


def measure(workers: int, episodes: int) -> dict[str, float]:
    """Wall-clock seconds of the episodes, and the workers' seconds in them."""
    scoring, specs = run(workers, episodes)
    with contextlib.closing(scoring.pool()) as pool:
        runner.common_stamps(pool)
        begin = time.perf_counter()
        records = list(runner.records(pool, specs))
        wall = time.perf_counter() - begin
    return {
        "wall": wall,
        "busy": sum(record.seconds for record in records),
        "steps": sum(record.episode.steps for record in records),
    }


def main(
    rounds: Annotated[int, typer.Option(help="rounds of one and of two workers")] = 3,
    episodes: Annotated[int, typer.Option(help="episodes of each task")] = 8,
) -> None:
    """See the module."""
    rows: list[dict[str, Any]] = []
    for _ in range(rounds):
        one, two = (measure(workers, episodes) for workers in (1, 2))
        rows.append(
            {
                "one_s": round(one["wall"], 2),
                "two_s": round(two["wall"], 2),
                "steps": int(one["steps"]),
                "efficiency": round(one["wall"] / (2 * two["wall"]), 3),
                "slower": round(two["busy"] / one["busy"], 3),
                "idle": round(1 - two["busy"] / (2 * two["wall"]), 3),
            }
        )
        typer.echo(json.dumps(rows[-1]))
    median = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    with written_whole(RESULTS) as partial:
        result = {"machine": machine(), "episodes": episodes, "median": median, "rounds": rows}
        partial.write_text(json.dumps(result, indent=1) + "\n")
    typer.echo(f"efficiency {median['efficiency']:.3f}")


if __name__ == "__main__":
    typer.run(main)
