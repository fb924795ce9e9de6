"""The cost of the embedded clips when an imitation task is made.

    python benchmarks/clip_loading.py [--rounds 7]

Every measurement is a fresh process that makes one environment: alternately an imitation task and
the goal-reaching task of the same body, which has no clips. Two times are measured: `gym.make`, and
within it `load_reference`, which reads the file, checks every clip and computes forward kinematics.
Both are measured as wall time and as CPU time of all threads, which other load does not affect.
Writes medians to `results/clip_loading.json` beside this file and prints a markdown table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from vnl_envs.benchmarking.throughput import machine
from vnl_envs.utils.files import written_whole

RESULTS = Path(__file__).parent / "results" / "clip_loading.json"
BODIES = ("Rodent", "Humanoid")

# Run with -c: the task's id is the argument.
MAKE_ONE = """
import json, sys, time
import gymnasium as gym
import vnl_envs
from vnl_envs.tasks import imitation

loading = []

def timed(*args, load=imitation.load_reference):
    start, busy = time.perf_counter(), time.process_time()
    reference = load(*args)
    took = time.perf_counter() - start, time.process_time() - busy
    loading.append((*took, len(reference.clips), len(reference.qpos)))
    return reference

imitation.load_reference = timed
start = time.perf_counter()
gym.make(sys.argv[1])
print(json.dumps([time.perf_counter() - start, loading]))
"""


def make_one(task_id: str) -> tuple[float, list[tuple[float, float, int, int]]]:
    """Seconds of `gym.make`, and the seconds, CPU seconds, clips and frames of each load in it."""
    run = [sys.executable, "-c", MAKE_ONE, task_id]
    made, loading = json.loads(subprocess.check_output(run, text=True))
    return made, loading


def measure(body: str, rounds: int) -> dict[str, Any]:
    """Medians of one body."""
    ids = f"vnl/{body}Imitation-v0", f"vnl/{body}GoalReaching-v0"
    with_clips, without = zip(*([make_one(i) for i in ids] for _ in range(rounds)), strict=True)
    loads = [load for _, (load,) in with_clips]
    return {
        "clips": loads[0][2],
        "frames": loads[0][3],
        "load_s": statistics.median(load[0] for load in loads),
        "load_cpu_s": statistics.median(load[1] for load in loads),
        "make_s": statistics.median(made for made, _ in with_clips),
        "make_without_clips_s": statistics.median(made for made, _ in without),
    }


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    found = {body.lower(): measure(body, rounds) for body in BODIES}
    with written_whole(RESULTS) as partial:
        partial.write_text(json.dumps({"machine": machine(), "bodies": found}, indent=1) + "\n")
    print("| body | clips | frames | loading, s | of a CPU, s | gym.make, s | without clips, s |")
    print("|---|---|---|---|---|---|---|")
    for body, row in found.items():
        seconds = (
            f"{row[k]:.3f}" for k in ("load_s", "load_cpu_s", "make_s", "make_without_clips_s")
        )
        print(f"| {body} | {row['clips']} | {row['frames']} | {' | '.join(seconds)} |")


if __name__ == "__main__":
    main()
