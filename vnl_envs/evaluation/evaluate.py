"""The evaluation loop: episodes are enumerated beforehand, and each counts exactly once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from tqdm.auto import tqdm

from vnl_envs.envs.core import Core, Step, draw
from vnl_envs.envs.processes import workers
from vnl_envs.envs.processes.spread import SpreadSimulations
from vnl_envs.evaluation.policies import Policy, PolicyLike, make_policy
from vnl_envs.evaluation.simulations import Simulations
from vnl_envs.identity import env_hash
from vnl_envs.physics import GRAVITY
from vnl_envs.problems import Code, PolicyError
from vnl_envs.registry import make_task
from vnl_envs.statistics.intervals import around, bootstrap
from vnl_envs.tasks.metrics import STANDARD, Metric
from vnl_envs.tasks.task import Task
from vnl_envs.utils import checks

_DISTANCE = "distance"
"""Name of the metric of tasks that count a way."""


@dataclass(frozen=True)
class Summary:
    """One metric over all episodes: mean and 95 % interval, computed as for scores.

    Values that are not finite (such as the time to an event that never happened) are left out. The
    interval is NaN if the values show no spread: if there is one unit, or if all are the same and
    on no bound.

    Attributes:
        metric: the metric.
        mean: mean over episodes; NaN without episodes.
        low, high: ends of the interval.
        units: number of independent units: clips in imitation, else episodes.
        unit_name: name of a unit, "clip" or "episode".
    """

    metric: Metric
    mean: float
    low: float
    high: float
    units: int
    unit_name: str = "episode"


@dataclass(frozen=True)
class Evaluation:
    """The metrics of N episodes.

    Attributes:
        task_id, env_hash: task, and its hash.
        seed: seed of the episodes.
        metrics: declared metrics, the standard ones first.
        values: metric name -> (N,) values.
        labels: (N,) behaviours, "" if the task has only one.
        units: (N,) independent units, see `Summary`.
        unit_name: see `Summary`.
        ends: (N,) "terminated", "truncated" or "diverged".
        success: (N,) bool, whether the task counts the episode as a success.
        available: (N,) number of control steps that each episode could have had.
        dt: duration of a control step, s.
    """

    task_id: str
    env_hash: str
    seed: int
    metrics: tuple[Metric, ...]
    values: dict[str, np.ndarray]
    labels: np.ndarray
    units: np.ndarray
    ends: np.ndarray
    success: np.ndarray
    available: np.ndarray
    dt: float
    unit_name: str = "episode"

    @property
    def cost_of_transport(self) -> float | None:
        """Energy divided by weight and distance, over all episodes together.

        It is None for tasks without a distance, and infinite if there was none. The mean of each
        episode's own cost would be that of the episodes in which the body hardly moved.
        """
        if _DISTANCE not in self.values:
            return None
        energy = (self.values["power"] * self.values["length"]).sum() * self.dt
        distance = self.values[_DISTANCE].sum()
        return float(energy / (GRAVITY * distance)) if distance > 0 else math.inf

    @property
    def followed(self) -> float:
        """Followed share of the available steps, over all episodes together.

        A terminated episode's last step does not count. The mean of each episode's own share, as
        in `survived`, would count an episode that starts near the clip's end in full.
        """
        steps = self.values["length"] - (self.ends == "terminated")
        return float(steps.sum() / self.available.sum())

    def summaries(self, label: str | None = None) -> list[Summary]:
        """Mean and interval of each metric, over all episodes or those with a label."""
        chosen = np.ones(len(self.labels), bool) if label is None else self.labels == label
        return [
            _summary(metric, self.values[metric.name][chosen], self.units[chosen], self.unit_name)
            for metric in self.metrics
        ]

    def record(self) -> dict[str, Any]:
        """The evaluation as plain values for JSON; numbers that are not finite become None."""
        cost = self.cost_of_transport
        return {
            "task": self.task_id,
            "env_hash": self.env_hash,
            "seed": self.seed,
            **({} if cost is None else {"cost_of_transport": _number(cost)}),
            "episodes": [
                {
                    "label": str(self.labels[i]),
                    "end": str(self.ends[i]),
                    "success": bool(self.success[i]),
                    **{k: _number(v[i]) for k, v in self.values.items()},
                }
                for i in range(len(self.ends))
            ],
            "summary": {
                s.metric.name: {
                    "unit": s.metric.unit,
                    "mean": _number(s.mean),
                    "low": _number(s.low),
                    "high": _number(s.high),
                    "units": s.units,
                }
                for s in self.summaries()
            },
        }


def evaluate(
    task_id: str,
    policy: PolicyLike,
    episodes: int = 20,
    seed: int = 0,
    num_envs: int = 16,
    threads: int = 0,
    progress: bool = False,
    processes: int | Literal["auto"] = 1,
    **options: Any,
) -> Evaluation:
    """Run `episodes` episodes of a task, the same ones for every policy.

    The result does not depend on `num_envs`, `threads` or `processes`.

    Args:
        task_id: a registered id.
        policy: a name of `policies.NAMES`; an ONNX file, see `OnnxPolicy`; a function from
            observations (n, D) float32 to actions (n, nu); or a model with Stable-Baselines3's
            `predict`, which gives its mean actions.
        episodes: number of episodes; episode i is drawn from (seed, i).
        seed: see `episodes`.
        num_envs: number of simulations at a time.
        threads: number of threads of each process; 0 divides the CPUs among the processes.
        progress: whether to show a bar.
        processes: number of processes that step the simulations, at most one for each simulation;
            "auto" chooses as many as make it faster. The policy runs in this process.
        options: options of the task.

    Raises:
        TypeError: an option is unknown; the message lists the known ones.
        ValueError: the id or the policy is unknown, or actions have a wrong shape.
    """
    episodes = checks.integer("episodes", episodes, 1)
    num_envs = checks.integer("num_envs", num_envs, 1)
    seed = checks.integer("seed", seed, 0)
    num = min(num_envs, episodes)
    spread = min(workers.count(processes, num), num)
    task = make_task(task_id, **options)
    seeds = [episode_seed(seed, number) for number in range(episodes)]
    with _simulations(task, num, threads, spread) as simulations:
        finished = run_episodes(simulations, make_policy(policy, simulations), seeds)
        bar = tqdm(
            finished,
            desc=task_id,
            total=episodes,
            unit="episode",
            disable=None if progress else True,
        )
        ended = sorted(bar, key=lambda episode: episode.number)
    metrics = STANDARD + task.metrics
    return Evaluation(
        task_id=task_id,
        env_hash=env_hash(task_id, task),
        seed=seed,
        metrics=metrics,
        values={m.name: np.array([e.figures[m.name] for e in ended]) for m in metrics},
        labels=np.array([e.label for e in ended], object),
        units=np.array([e.unit or f"episode {e.number}" for e in ended]),
        ends=np.array([e.end for e in ended], object),
        success=np.array([e.success for e in ended]),
        available=np.array([e.available for e in ended]),
        dt=task.dt,
        unit_name=task.unwrapped.unit_name if any(e.unit for e in ended) else "episode",
    )


def _simulations(
    task: Task, num: int, threads: int, processes: int
) -> contextlib.AbstractContextManager[Simulations]:
    """Simulations in this process, or over several processes that end with the context."""
    if processes == 1:
        return contextlib.nullcontext(Core(task, num, threads))
    return SpreadSimulations(task, num, processes, threads)


@dataclass(frozen=True)
class Finished:
    """The result of one episode.

    Attributes:
        number: number of its seed in the list.
        label, unit: see `Task.label` and `Task.unit`.
        end: "terminated", "truncated", "diverged", or "failed" if the policy failed.
        success: whether the task counts it as a success.
        available: number of control steps that it could have had.
        figures: metrics by name, the standard ones first; if the policy failed, those of the steps
            before.
        failure: error of the policy, else None.
    """

    number: int
    label: str
    unit: str
    end: str
    success: bool
    available: int
    figures: dict[str, float]
    failure: PolicyError | None = None

    @property
    def steps(self) -> int:
        """Number of control steps that were run."""
        return int(self.figures["length"])

    @property
    def reason(self) -> Code | None:
        """Reason for which the episode counts 0 in a score; None if it counts as it is."""
        if self.failure is not None:
            return self.failure.code
        return Code.DIVERGED if self.end == "diverged" else None


def run_episodes(
    simulations: Simulations, policy: Policy, seeds: Sequence[np.random.SeedSequence]
) -> Iterator[Finished]:
    """Run one episode per seed, each once, and yield them as they end.

    The result of an episode depends on its seed alone, not on other episodes or the number of
    simulations. An episode is yielded before the policy begins the next one in its simulation.

    Args:
        simulations: simulations of the task, no more than there are seeds.
        policy: chooses the actions. If it raises `PolicyError`, that episode ends with the error,
            and the others go on.
        seeds: seed i determines episode i and the policy's generator in it.
    """
    return _Run(simulations, policy, seeds).finished()


def episode_seed(seed: int, number: int) -> np.random.SeedSequence:
    """The seed of episode `number` of `seed`."""
    return np.random.SeedSequence([seed, number])


def episode_generators(
    seed: np.random.SeedSequence,
) -> tuple[np.random.Generator, np.random.Generator]:
    """Two generators from an episode's seed: one draws the episode, one is for the policy."""
    # The first children that `spawn` would give; `spawn` itself would change the seed.
    draws, own = (
        np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, i)) for i in range(2)
    )
    return np.random.default_rng(draws), np.random.default_rng(own)


def begin_episodes(
    simulations: Simulations,
    policy: Policy,
    ids: np.ndarray,
    seeds: Sequence[np.random.SeedSequence],
) -> list[str]:
    """Start the episodes of `seeds` in simulations `ids`; return their labels."""
    draws, own = zip(*map(episode_generators, seeds), strict=True)
    task = simulations.task
    rows = draw(task, draws)
    simulations.reset(ids, rows)
    policy.begin(ids, own)
    return [task.label({k: v[i] for k, v in rows.items()}) for i in range(len(ids))]


class _Run:
    """Feeds a list of episodes through simulations."""

    def __init__(
        self, simulations: Simulations, policy: Policy, seeds: Sequence[np.random.SeedSequence]
    ) -> None:
        self._simulations, self._policy, self._seeds = simulations, policy, seeds
        self._next = 0
        # The number of the episode in each simulation; -1 without one.
        self._running = np.full(simulations.num, -1)

    def finished(self) -> Iterator[Finished]:
        """See `run_episodes`."""
        idle = np.arange(self._simulations.num)
        while True:
            try:
                self._start(idle)
                if not (self._running >= 0).any():
                    return
                action = self._policy.act(self._simulations.observation)
            except PolicyError as failure:
                yield self._ended(failure.simulation, "failed", False, failure)
                idle = np.array([failure.simulation])
                continue
            idle, result = self._step(action)
            for i in map(int, idle):
                yield self._ended(i, result.end(i), bool(result.success[i]))

    def _start(self, ids: np.ndarray) -> None:
        """Start the next episodes, if any are left, in idle simulations."""
        self._running[ids] = -1
        ids = ids[: len(self._seeds) - self._next]
        if not len(ids):
            return
        numbers = range(self._next, self._next + len(ids))
        self._next += len(ids)
        self._running[ids] = numbers
        begin_episodes(self._simulations, self._policy, ids, [self._seeds[i] for i in numbers])

    def _step(self, action: np.ndarray) -> tuple[np.ndarray, Step]:
        """Advance one control step; return the simulations whose episodes ended, and the result."""
        active = np.flatnonzero(self._running >= 0)
        idle = len(active) < self._simulations.num
        result = self._simulations.step(action, active if idle else None)
        done = (result.terminated | result.truncated) & (self._running >= 0)
        return np.flatnonzero(done), result

    def _ended(
        self, i: int, end: str, success: bool, failure: PolicyError | None = None
    ) -> Finished:
        """The result of the episode that ended in a simulation."""
        task = self._simulations.task
        episode = {name: rows[i] for name, rows in self._simulations.episode.items()}
        return Finished(
            number=int(self._running[i]),
            label=task.label(episode),
            unit=task.unit(episode),
            end=end,
            success=success,
            available=int(task.available(episode)),
            figures=self._simulations.figures_of(i),
            failure=failure,
        )


def _summary(metric: Metric, values: np.ndarray, units: np.ndarray, unit_name: str) -> Summary:
    finite = np.isfinite(values)
    known, units = values[finite], units[finite]
    if not len(known):
        return Summary(metric, math.nan, math.nan, math.nan, 0, unit_name)
    mean = float(known.mean())
    low, high = around(mean, bootstrap(known, units, bounds=metric.range))
    if low == high:
        low = high = math.nan
    return Summary(metric, mean, low, high, len({*units.tolist()}), unit_name)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
