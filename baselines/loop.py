"""The loop of a training run: iterations, log, evaluations, and a clean interruption."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from tqdm.auto import tqdm

import vnl_envs
from baselines.run import Run

SAVE_EVERY = 60.0
"""Greatest time of training that a kill loses, s, or one iteration."""

EVALUATION_SEED = 1000
"""Seed of the evaluation episodes during training; reported scores use another one."""


class Interrupt:
    """Context in which Ctrl-C and SIGTERM set `asked`, so that a loop can end with a valid state.

    A second signal interrupts as usual.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Interrupt:
        self._before = {s: signal.signal(s, self._ask) for s in self._SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def follow(task_id: str, policy: Any, episodes: int, **options: Any) -> dict[str, float]:
    """Means of a policy's metrics over the evaluation episodes during training.

    Args:
        task_id, policy, episodes, options: see `vnl_envs.evaluate`.
    """
    result = vnl_envs.evaluate(
        task_id, policy, episodes, EVALUATION_SEED, num_envs=episodes, **options
    )
    return {s.metric.name: s.mean for s in result.summaries()}


def means(rows: Sequence[Mapping[str, float]], name: str) -> float:
    """Mean of one figure over rows; NaN without rows."""
    return float(np.mean([row[name] for row in rows])) if rows else float("nan")


def term_column(name: str) -> str:
    """The column for a reward term: its mean over control steps with sampled actions."""
    return f"reward_{name}"


class Training(ABC):
    """A training in iterations, between which its state is valid, and its run.

    Args:
        task_id: registered id.
        seed: seed of the run.
        h: dataclass of hyperparameters with `log_every` and `evaluate_every`, the iterations
            between rows of the log and between evaluations, and `evaluation_episodes`.
        identity: see `Run`; task, seed and hyperparameters are added.
        folder: folder of the run.
        columns: columns of the log beside "step", "seconds" and "seed".
        resume: see `Run`.
        options: options of the task.

    Raises:
        ValueError, FileNotFoundError: see `Run`.

    Attributes:
        task_id, seed, h, options: as given.
        run: folder of the run.
        best: best mean return of an evaluation so far.
    """

    def __init__(
        self,
        task_id: str,
        seed: int,
        h: Any,
        identity: Mapping[str, Any],
        folder: Path,
        columns: Sequence[str],
        resume: bool,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.task_id, self.seed, self.h, self.options = task_id, seed, h, dict(options or {})
        identity = {
            "task": task_id,
            "options": self.options,
            **identity,
            "seed": seed,
            "hyperparameters": asdict(h),
        }
        self.run = Run(folder, identity, ("step", "seconds", "seed", *columns), resume)
        self.best, self._before = -math.inf, 0.0
        if self.run.resumed:
            self._resume(self.run.load())
        else:
            self.begin(None)
        self._since = self._saved = time.perf_counter()

    def _resume(self, saved: dict[str, Any]) -> None:
        """Continue from a saved state.

        Raises:
            ValueError: the state lacks a part.
        """
        try:
            self.begin(saved)
            self.best, self._before = saved["best"], saved["seconds"]
        except KeyError as error:
            raise ValueError(
                f"{str(self.run.checkpoint)!r} is of another version of the baselines, it has no "
                f"{error}: go on with that version, or begin again with another --out"
            ) from error
        self.run.forget_after(self.steps)

    @property
    @abstractmethod
    def steps(self) -> int:
        """Number of control steps so far, of all environments together."""

    @property
    @abstractmethod
    def iteration(self) -> int:
        """Number of iterations so far."""

    @abstractmethod
    def begin(self, saved: dict[str, Any] | None) -> None:
        """Start from scratch, or from a state of `get_state`."""

    @abstractmethod
    def get_state(self) -> dict[str, Any]:
        """The state of training, for `begin`."""

    @abstractmethod
    def advance(self) -> None:
        """Run one iteration."""

    @abstractmethod
    def figures(self) -> dict[str, Any]:
        """Figures of training since the last row of the log."""

    @abstractmethod
    def mean_action(self, observations: np.ndarray) -> np.ndarray:
        """Actions (n, nu) of the policy without noise, at observations (n, D)."""

    @abstractmethod
    def export(self, path: Path) -> None:
        """Write the policy as ONNX, and check it against the policy."""

    def prepare(self, interrupt: Interrupt) -> None:  # noqa: B027  most need nothing
        """Prepare the first iteration, and stop early if an interrupt is requested."""

    def evaluated(self) -> None:  # noqa: B027  most need nothing
        """React to an evaluation."""

    def close(self) -> None:
        """End other processes, and the log."""
        self.run.close()

    @property
    def seconds(self) -> float:
        """Wall time of the run, s, including the time before interruptions."""
        return self._before + time.perf_counter() - self._since

    def __call__(self, steps: int) -> bool:
        """Train to the first iteration that reaches `steps` steps; return whether it got there.

        Raises:
            OSError: a file cannot be written. The earlier state is still valid.
        """
        try:
            with contextlib.closing(self), Interrupt() as interrupt:
                if self.steps == 0:
                    self.prepare(interrupt)
                # There is no state to keep in the midst of preparing.
                if not interrupt.asked:
                    self._iterate(steps, interrupt)
        except OSError as error:
            raise OSError(f"{error}; {self.run.advice}") from error
        return self.steps >= steps

    def _iterate(self, steps: int, interrupt: Interrupt) -> None:
        with tqdm(
            total=steps,
            initial=self.steps,
            unit="step",
            unit_scale=True,
            desc=self.task_id,
            disable=None,
        ) as bar:
            while self.steps < steps and not interrupt.asked:
                self.advance()
                self._after(steps, bar)
        if interrupt.asked:
            self._save()

    def _after(self, steps: int, bar: tqdm) -> None:
        """After an iteration, write a row of the log, evaluate and save a checkpoint, if due."""
        bar.update(self.steps - bar.n)
        evaluate = self.steps >= steps or self.iteration % self.h.evaluate_every == 0
        if evaluate or self.iteration % self.h.log_every == 0:
            row = self._log(evaluate)
        if evaluate:
            bar.set_postfix({"return": f"{row['return']:.4g}"})
        if evaluate or time.perf_counter() - self._saved > SAVE_EVERY:
            self._save()

    def _log(self, evaluate: bool) -> dict[str, Any]:
        """Write a row of the log, and export the policy if an evaluation is the best so far."""
        row = {"step": self.steps, "seconds": self.seconds, "seed": self.seed, **self.figures()}
        if evaluate:
            row |= follow(
                self.task_id, self.mean_action, self.h.evaluation_episodes, **self.options
            )
            if row["return"] > self.best:
                self.best = row["return"]
                self.export(self.run.policy)
        self.run.log(row)
        if evaluate:
            self.evaluated()
        return row

    def _save(self) -> None:
        self.run.save({**self.get_state(), "best": self.best, "seconds": self.seconds})
        self._saved = time.perf_counter()


def finish(training: Training, steps: int) -> None:
    """Train to the end, or exit with a message if the run was interrupted.

    Raises:
        OSError: see `Training`.
    """
    if not training(steps):
        sys.exit(f"interrupted: {training.run.advice}")
    policy = training.run.policy
    best = f"the best policy is {str(policy)!r}" if policy.is_file() else "not evaluated yet"
    print(f"{training.steps} steps: {best}")
