"""Overhead of the harness over bare environment and inference, per step and per run.

    python -m benchmarks.scoring_overhead [--task ID] [--policy FILE] [--blocks 200] [--steps 50]
        [--bundle leaderboard/submissions/ppo.zip] [--suites quick-v2 ...] [--rounds 2]

Per step: two simulations of the same episodes with the same policy take turns of a block of steps.
One evaluates ONNX Runtime in this process, the other a process in the sandbox. Their actions and
states are the same, so the blocks differ in nothing else. The overhead is the median of the blocks'
ratios, once with all CPUs and once with both processes on one CPU. CPU time is the sum over both
processes. The round trip (the same with a server that answers zeros, without inference) is measured
too.

Per run, if there is a bundle (`python -m leaderboard.make_submissions ppo` writes it): a suite is
run by the harness with one worker, from its start to the result's file. In turns with it, the same
episodes run in this process, one by one, without records. Both compile each cell once. All run on
one CPU, as a worker does if each CPU has one. The ratio is that of the sums. CPU time is the sum
over all processes. Writes `results/scoring_overhead.json` beside this file and prints markdown
tables.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from time import perf_counter, process_time, thread_time
from typing import Any, Self

import numpy as np
import psutil

import vnl_envs
from benchmarks.measuring import in_turns, write_results
from vnl_envs.envs.core import Core
from vnl_envs.evaluation.evaluate import begin_episodes, episode_seed
from vnl_envs.evaluation.policies import Policy
from vnl_envs.evaluation.remote import RemotePolicy
from vnl_envs.sandbox import launch
from vnl_envs.sandbox.client import PolicyProcess, on_one_cpu
from vnl_envs.sandbox.inside import policy_server
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.run import plan, runner
from vnl_envs.scoring.run.worker import cell_of
from vnl_envs.tasks.task import Task

POLICY = Path(__file__).parents[1] / "baselines/checkpoints/ppo/RodentGoalReaching-v0.onnx"
ROUND_TRIPS = 2000
PERIOD = 0.2

# A policy server that does nothing, for the round trip alone.
ECHO = """
import os, struct, sys
observation, action = map(int, open(sys.argv[1]).read().split())
os.write(1, struct.pack("<5sIII", b"VNLP1", observation, action, 0))
frame, answer = bytearray(1 + 4 * observation), bytes(4 * action)
while os.readv(0, [frame]):
    os.write(1, answer)
"""


class Inside:
    """A policy that runs inference in this process."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def begin(self, ids: np.ndarray, generators: Sequence[np.random.Generator]) -> None:
        """Do nothing, because the policy has no state."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The network's output, which the policies of the baselines clip themselves."""
        action: np.ndarray = self._session.run(["action"], {"obs": observation})[0]
        return action


class Side:
    """One simulation that runs episode after episode with one policy."""

    def __init__(self, task: Task, policy: Callable[[Core], Policy]) -> None:
        self.core = Core(task, 1, threads=1)
        self.policy = policy(self.core)
        self.number = 0
        self.begin()

    def begin(self) -> None:
        """Start the next episode."""
        begin_episodes(self.core, self.policy, np.array([0]), [episode_seed(0, self.number)])
        self.number += 1

    def block(self, steps: int) -> None:
        """Make a number of steps."""
        for _ in range(steps):
            step = self.core.step(self.policy.act(self.core.observation))
            if step.terminated[0] or step.truncated[0]:
                self.begin()


def measure(task: Task, path: Path, blocks: int, steps: int) -> dict[str, Any]:
    """Medians of the time per step in µs, and of the blocks' ratios."""
    session = policy_server.session(str(path))
    file = path.open("rb")

    def inside(core: Core) -> Policy:
        return Inside(session)

    def outside(core: Core) -> Policy:
        return RemotePolicy(PolicyProcess(file, core.size, core.task.body.nu))

    sides = Side(task, inside), Side(task, outside)
    isolated = sides[1].policy
    assert isinstance(isolated, RemotePolicy)
    contenders = {
        name: functools.partial(side.block, steps)
        for name, side in zip(("bare", "harness"), sides, strict=True)
    }
    before = cpu_of_children()
    spent = in_turns(contenders, blocks)
    np.testing.assert_array_equal(sides[0].core.observation, sides[1].core.observation)
    # The block for warming up is included.
    child_cpu = (cpu_of_children() - before) / (blocks + 1)
    isolated.process.close()
    file.close()
    (alone, alone_cpu), (guarded, guarded_cpu) = (rows.T for rows in spent.values())
    us_per_step = 1e6 / steps
    bare_cpu = us_per_step * alone_cpu.mean()
    harness_cpu = us_per_step * (guarded_cpu.mean() + child_cpu)
    ratios = guarded / alone
    return {
        "bare_us": us_per_step * np.median(alone),
        "harness_us": us_per_step * np.median(guarded),
        "ratio": float(np.median(ratios)),
        "ratio_quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(),
        "ratio_of_totals": guarded.sum() / alone.sum(),
        "bare_cpu_us": bare_cpu,
        "harness_cpu_us": harness_cpu,
        "cpu_ratio": harness_cpu / bare_cpu,
        "round_trip_us": round_trip(sides[0].core),
    }


def cpu_of_children() -> float:
    """CPU seconds of all running child processes."""
    running = psutil.Process().children(recursive=True)
    return sum(t.user + t.system for t in (child.cpu_times() for child in running))


def round_trip(core: Core) -> float:
    """Median µs from an observation to an answer without computation."""
    with tempfile.TemporaryDirectory() as folder:
        program, policy = Path(folder, "echo.py"), Path(folder, "sizes")
        program.write_text(ECHO)
        policy.write_text(f"{core.size} {core.task.body.nu}")
        sizes = core.size, core.task.body.nu
        with policy.open("rb") as file, PolicyProcess(file, *sizes, server=program) as process:
            process.reset()
            took = []
            for _ in range(ROUND_TRIPS):
                start = perf_counter()
                process.act(core.observation[0])
                took.append(perf_counter() - start)
    return 1e6 * statistics.median(took)


def measure_run(bundle: Path, suite_name: str, rounds: int) -> dict[str, Any]:
    """Seconds of complete runs of a suite, by the harness and bare in turns, and their ratios."""
    suite = suites.load_suite(suite_name)
    season = plan.season_of(suite, "dev", None)
    candidate, anchors = plan.entry(bundle), suites.load_anchors(suite)
    run = plan.Run(candidate, suite, anchors, season, isolated=True, workers=1)
    sides = {"bare": bare_run, "harness": harness_run}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for number in range(rounds):
        steps = []
        # The two sides alternate in going first.
        for name in sorted(sides, reverse=number % 2 == 1):
            start, busy = perf_counter(), process_time()
            with ChildrenClock() if name == "harness" else contextlib.nullcontext() as clock:
                steps.append(sides[name](run))
            wall, cpu = perf_counter() - start, process_time() - busy
            times[name].append((wall, cpu + (clock.seconds if clock else 0.0)))
            print(f"{name}: {wall:.1f} s, CPU {times[name][-1][1]:.1f} s", file=sys.stderr)
        if steps[0] != steps[1]:
            raise RuntimeError("the two sides did not run the same episodes")
    bare, harness = (np.array(times[name]).sum(axis=0) for name in ("bare", "harness"))
    return {
        "suite": suite_name,
        "rounds": rounds,
        "episodes": len(steps[0]),
        "steps": sum(steps[0].values()),
        "bare_s": bare[0] / rounds,
        "harness_s": harness[0] / rounds,
        "ratio": harness[0] / bare[0],
        "bare_cpu_s": bare[1] / rounds,
        "harness_cpu_s": harness[1] / rounds,
        "cpu_ratio": harness[1] / bare[1],
        "of_each_round": times,
    }


def harness_run(run: plan.Run) -> dict[str, int]:
    """Steps of each episode of a run."""
    with tempfile.TemporaryDirectory() as out:
        result, problems = runner.run(run, Path(out), lambda line: None, progress=False)
    if problems:
        raise RuntimeError(f"episodes failed: {problems}")
    return {episode.id: episode.steps for episode in result.episodes}


def bare_run(run: plan.Run) -> dict[str, int]:
    """Steps of each episode with environment and inference alone."""
    taken = {}
    for task_id, of_task in groupby(run.suite.specs, key=lambda spec: spec.task):
        with tempfile.NamedTemporaryFile() as file:
            file.write(run.candidate.policies[task_id])
            file.flush()
            policy = Inside(policy_server.session(file.name))
        for _, of_cell in groupby(of_task, key=cell_of):
            specs = list(of_cell)
            core = Core(vnl_envs.make_task(task_id, **specs[0].cell.options), 1, 1)
            for spec in specs:
                begin_episodes(core, policy, np.array([0]), [spec.seed(run.season.key)])
                steps, over = 0, False
                while not over:
                    step = core.step(policy.act(core.observation))
                    steps, over = steps + 1, bool(step.terminated[0] or step.truncated[0])
                taken[spec.id] = steps
    return taken


class ChildrenClock(threading.Thread):
    """CPU time of all processes that this one starts while the context is open.

    It is read every `PERIOD` s, because the CPU time of a policy is lost when its sandbox is
    killed. The thread may run on any CPU, so that it does not disturb the measurement.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self._seen: dict[psutil.Process, float] = {}
        self._own = 0.0

    def run(self) -> None:
        """Read until the context is closed."""
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        while not self._over.wait(PERIOD):
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    used = child.cpu_times()
                    self._seen[child] = used.user + used.system
        self._own = thread_time()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    @property
    def seconds(self) -> float:
        """CPU seconds of the processes without this clock's own, after the context."""
        return sum(self._seen.values()) - self._own


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="vnl/RodentGoalReaching-v0")
    parser.add_argument("--policy", type=Path, default=POLICY)
    parser.add_argument("--blocks", type=int, default=200)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--suites", nargs="+", default=["quick-v2"])
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    if (reason := launch.unavailable_reason()) is not None:
        parser.error(f"no isolation here: {reason}")
    task = vnl_envs.make_task(arguments.task)
    results: dict[str, Any] = {"task": arguments.task}
    print("| CPUs | bare, µs a step | harness, µs | ratio | CPU ratio | round trip, µs |")
    print("|---|---|---|---|---|---|")
    for name, where in {"all": contextlib.nullcontext(), "one": on_one_cpu(0)}.items():
        with where:
            row = measure(task, arguments.policy, arguments.blocks, arguments.steps)
        results[name] = row
        print(
            f"| {name} | {row['bare_us']:.0f} | {row['harness_us']:.0f} | {row['ratio']:.3f} "
            f"| {row['cpu_ratio']:.3f} | {row['round_trip_us']:.0f} |",
            flush=True,
        )
    if arguments.bundle is not None:
        print("\n| run | steps | bare, s | harness, s | ratio | CPU ratio |")
        print("|---|---|---|---|---|---|")
        results["runs"] = []
        for suite in arguments.suites:
            with on_one_cpu(0):
                row = measure_run(arguments.bundle, suite, arguments.rounds)
            results["runs"].append(row)
            print(
                f"| {suite} | {row['steps']} | {row['bare_s']:.1f} | {row['harness_s']:.1f} "
                f"| {row['ratio']:.3f} | {row['cpu_ratio']:.3f} |",
                flush=True,
            )
    write_results("scoring_overhead", results)


if __name__ == "__main__":
    main()
