"""The one evaluation loop: episodes are enumerated up front and each counts exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from vnl_envs import checks
from vnl_envs.envs.core import Core
from vnl_envs.identity import env_hash
from vnl_envs.registry import make_task
from vnl_envs.scoring.intervals import bootstrap_mean
from vnl_envs.scoring.policies import Policy, make_policy
from vnl_envs.tasks.metrics import STANDARD, Metric


@dataclass(frozen=True)
class Summary:
    """One metric over all episodes: mean and 95 % bootstrap interval.

    Values that are not finite (a time to what never happened) are left out.
    """

    metric: Metric
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """Every episode's figures.

    Attributes:
        task_id, env_hash, seed: what was run.
        metrics: the declared metrics, the standard ones first.
        values: metric name -> (N,) one figure per episode.
        labels: (N,) each episode's behaviour, "" where the task has one only.
        ends: (N,) "terminated", "truncated" or "diverged".
        success: (N,) bool.
    """

    task_id: str
    env_hash: str
    seed: int
    metrics: tuple[Metric, ...]
    values: dict[str, np.ndarray]
    labels: np.ndarray
    ends: np.ndarray
    success: np.ndarray

    def summaries(self, label: str | None = None) -> list[Summary]:
        """Each metric's mean and interval, over all episodes or those of a label."""
        chosen = np.ones(len(self.labels), bool) if label is None else self.labels == label
        return [_summary(metric, self.values[metric.name][chosen]) for metric in self.metrics]

    def record(self) -> dict[str, Any]:
        """The evaluation as plain values for JSON; what is not finite becomes None."""
        return {
            "task": self.task_id,
            "env_hash": self.env_hash,
            "seed": self.seed,
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
                }
                for s in self.summaries()
            },
        }


def evaluate(
    task_id: str,
    policy: str | Callable[[np.ndarray], Any],
    episodes: int = 20,
    seed: int = 0,
    num_envs: int = 16,
    threads: int = 0,
    progress: bool = False,
    **options: Any,
) -> Evaluation:
    """Run `episodes` episodes of a task, the same ones for every policy.

    The result does not depend on `num_envs` or `threads`.

    Args:
        task_id: a registered id.
        policy: "zero", "random", "track", or a function of observations (n, D) float32 to
            actions (n, nu).
        episodes: how many; episode i is drawn from (seed, i).
        seed: see `episodes`.
        num_envs: simulations at a time.
        threads: 0 uses every CPU.
        progress: whether to show a bar.
        options: of the task.

    Raises:
        ValueError: an unknown id, option or policy, or actions of a wrong shape.
    """
    episodes = checks.integer("episodes", episodes, 1)
    num_envs = checks.integer("num_envs", num_envs, 1)
    seed = checks.integer("seed", seed, 0)
    core = Core(make_task(task_id, **options), min(num_envs, episodes), threads)
    run = _Run(core, make_policy(policy, core), episodes, seed)
    with tqdm(
        total=episodes, desc=task_id, unit="episode", disable=None if progress else True
    ) as bar:
        while run.remaining:
            bar.update(run.step())
    return Evaluation(
        task_id=task_id,
        env_hash=env_hash(task_id, core.task),
        seed=seed,
        metrics=STANDARD + core.task.metrics,
        values=run.values,
        labels=run.labels,
        ends=run.ends,
        success=run.success,
    )


def episode_generators(seed: int, index: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Generators of episode `index`: one draws the episode, one is the policy's."""
    children = np.random.SeedSequence([seed, index]).spawn(2)
    return np.random.default_rng(children[0]), np.random.default_rng(children[1])


def begin_episodes(
    core: Core, policy: Policy, ids: np.ndarray, seed: int, numbers: Iterable[int]
) -> list[str]:
    """Start the episodes `numbers` of a seed in simulations `ids`; return their labels."""
    draws, own = zip(*(episode_generators(seed, int(i)) for i in numbers), strict=True)
    rows = core.draw(list(draws))
    core.reset(ids, rows)
    policy.begin(ids, own)
    return [core.task.label({k: v[i] for k, v in rows.items()}) for i in range(len(ids))]


class _Run:
    """Feeds a list of episodes through the simulations of a core."""

    def __init__(self, core: Core, policy: Policy, episodes: int, seed: int) -> None:
        self._core, self._policy, self._seed = core, policy, seed
        self._next = 0
        self.remaining = episodes
        self._count = episodes
        names = [metric.name for metric in STANDARD + core.task.metrics]
        self.values = {name: np.full(episodes, np.nan) for name in names}
        self.labels = np.empty(episodes, object)
        self.ends = np.empty(episodes, object)
        self.success = np.zeros(episodes, bool)
        # Which episode each simulation runs; -1 for none.
        self._running = np.full(core.num, -1)
        self._start(np.arange(core.num))

    def _start(self, ids: np.ndarray) -> None:
        """Give the next episodes to idle simulations, as long as there are any."""
        self._running[ids] = -1
        ids = ids[: self._count - self._next]
        if not len(ids):
            return
        numbers = np.arange(self._next, self._next + len(ids))
        self._next += len(ids)
        self._running[ids] = numbers
        labels = begin_episodes(self._core, self._policy, ids, self._seed, numbers)
        self.labels[numbers] = labels

    def step(self) -> int:
        """One control step; return how many episodes ended."""
        active = np.flatnonzero(self._running >= 0)
        idle = len(active) < self._core.num
        result = self._core.step(self._policy.act(self._core), active if idle else None)
        done = (result.terminated | result.truncated) & (self._running >= 0)
        ids = np.flatnonzero(done)
        if not len(ids):
            return 0
        figures = self._core.figures()
        for i in ids:
            number = self._running[i]
            for name, values in figures.items():
                self.values[name][number] = values[i]
            self.ends[number] = result.end(int(i))
            self.success[number] = result.success[i]
        self.remaining -= len(ids)
        self._start(ids)
        return len(ids)


def _summary(metric: Metric, values: np.ndarray) -> Summary:
    known = values[np.isfinite(values)]
    mean = float(known.mean()) if len(known) else float("nan")
    return Summary(metric, mean, *bootstrap_mean(known))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
