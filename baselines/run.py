"""What every training run has: a folder of its own, a log, checkpoints, and a clean way to stop."""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import json
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
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar
from tqdm.auto import tqdm

import vnl_envs
from baselines.checkpoint import read_tree, write_tree
from vnl_envs.utils.files import written_whole

RECORD, LOG, CHECKPOINT, POLICY = (
    "run.json",
    "progress.csv",
    "checkpoint.safetensors",
    "policy.onnx",
)

SAVE_EVERY = 60.0
"""Seconds of training that a stop without notice may lose, or one iteration."""

EVALUATION_SEED = 1000
"""Of the episodes by which training follows its policy; scores that are reported use another."""

_VERSIONS = ("mujoco", "numpy", "torch", "stable-baselines3", "jax", "brax")


class Run:
    """The folder of a run: `run.json` says what it is, `progress.csv` is its log, TensorBoard's
    files hold the same, `checkpoint.safetensors` is the newest state and `policy.onnx` the best
    policy so far.

    All files but TensorBoard's are written whole, so that a full disk leaves them as they were.

    Args:
        folder: made if it is not there.
        identity: what the run is: its algorithm, task, seed and hyperparameters.
        columns: of the log, "step" first.
        resume: whether to go on with the run that is there; one that ended before its first
            checkpoint begins again.

    Raises:
        ValueError: there is a run already, or (resume) none, or one that is not this one.

    Attributes:
        folder, identity, columns: as given.
        resumed: whether there is a state to go on from.
    """

    def __init__(
        self, folder: Path, identity: dict[str, Any], columns: Sequence[str], resume: bool
    ) -> None:
        self.folder = folder
        self.columns = tuple(columns)
        self.identity = json.loads(json.dumps(identity))
        if resume:
            self._check_record()
        elif folder.exists() and not self._barely_begun() and any(folder.iterdir()):
            raise ValueError(
                f"{str(folder)!r} is not empty: go on with its run by --resume, "
                "or give another --out"
            )
        self.resumed = resume and self.checkpoint.is_file()
        if self.resumed:
            self._rows: list[dict[str, Any]] = list(rows_of(folder / LOG))
        else:
            self._rows = []
            folder.mkdir(parents=True, exist_ok=True)
            self._write_record()
            self._write_log()
        # Without a thread of its own, which would take errors with it.
        self._board = EventsWriter(str(folder / "events"))

    def _barely_begun(self) -> bool:
        """Whether there is a run that ended before its first checkpoint: nothing to keep."""
        return (self.folder / RECORD).is_file() and not self.checkpoint.is_file()

    def _check_record(self) -> None:
        path = self.folder / RECORD
        if not path.is_file():
            raise ValueError(f"{str(self.folder)!r} has no run to go on with")
        try:
            self._check_same(json.loads(path.read_text()), str(self.folder))
        except json.JSONDecodeError as error:
            raise ValueError(f"{str(path)!r} is damaged: {error}") from None

    def _check_same(self, there: Mapping[str, Any], place: str) -> None:
        for name, value in self.identity.items():
            if there.get(name) != value:
                raise ValueError(
                    f"{place!r} has another run in it: its {name} is "
                    f"{there.get(name)!r}, not {value!r}"
                )

    def _write_record(self) -> None:
        versions = {name: _version(name) for name in _VERSIONS}
        record = {**self.identity, "versions": versions}
        with written_whole(self.folder / RECORD) as partial:
            partial.write_text(json.dumps(record, indent=2) + "\n")

    @property
    def checkpoint(self) -> Path:
        """Where the newest state is."""
        return self.folder / CHECKPOINT

    @property
    def policy(self) -> Path:
        """Where the best policy is."""
        return self.folder / POLICY

    @property
    def advice(self) -> str:
        """How to go on with what there is."""
        if self.checkpoint.is_file():
            return f"the last state is kept in {str(self.folder)!r}: go on with --resume"
        return "there was no state to keep yet: the same command begins again"

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep a state; see `write_tree`."""
        write_tree(self.checkpoint, {**state, "identity": self.identity})

    def load(self) -> dict[str, Any]:
        """The state that was kept.

        Raises:
            ValueError: it is damaged, or of another run.
        """
        state = read_tree(self.checkpoint)
        # States that were kept before they had an identity are taken at the record's word.
        self._check_same(state.get("identity", self.identity), str(self.checkpoint))
        return state

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row to the log; what a column lacks stays empty."""
        self._rows.append({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        self._write_log()
        for name, value in row.items():
            if name != "step" and np.isfinite(value):
                summary = scalar(name, value)
                event = Event(step=row["step"], wall_time=time.time(), summary=summary)
                self._board.write_event(event)
        self._board.flush()

    def forget_after(self, step: int) -> None:
        """Drop rows of the log beyond a step, which will be written again."""
        self._rows = [row for row in self._rows if int(row["step"]) <= step]
        self._write_log()

    def _write_log(self) -> None:
        with written_whole(self.folder / LOG) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self._rows)

    def close(self) -> None:
        """Close TensorBoard's file."""
        self._board.close()


def rows_of(log: Path) -> list[dict[str, str]]:
    """The rows of a log."""
    with log.open(newline="") as file:
        return list(csv.DictReader(file))


def _version(package: str) -> str | None:
    """Of a package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class Interrupt:
    """Ctrl-C and SIGTERM set `asked`, so that a loop can end where its state is whole.

    A second one interrupts as usual.
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
    """Means of a policy's metrics over the episodes by which training follows it.

    Args:
        task_id, policy, episodes, options: see `vnl_envs.evaluate`.
    """
    result = vnl_envs.evaluate(
        task_id, policy, episodes, EVALUATION_SEED, num_envs=episodes, **options
    )
    return {s.metric.name: s.mean for s in result.summaries()}


def means(rows: Sequence[Mapping[str, float]], name: str) -> float:
    """Mean of one figure over rows, NaN where there are none."""
    return float(np.mean([row[name] for row in rows])) if rows else float("nan")


def term_column(name: str) -> str:
    """The column of a reward's term: its mean over control steps, sampled actions."""
    return f"reward_{name}"


class Training(ABC):
    """Training in iterations, between which its state is whole, and its run.

    Args:
        task_id: a registered id.
        seed: of everything random.
        h: hyperparameters, a dataclass; it has `log_every` and `evaluate_every`, iterations between
            rows of the log and between evaluations, and `evaluation_episodes`.
        identity: see `Run`; task, seed and hyperparameters are added.
        folder: of the run.
        columns: of the log, beside "step", "seconds" and "seed".
        resume: see `Run`.
        options: of the task.

    Raises:
        ValueError: see `Run`.

    Attributes:
        task_id, seed, h, options: as given.
        run: its folder.
        best: the best mean return of an evaluation so far.
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
        """Go on from a state that was kept.

        Raises:
            ValueError: it lacks something.
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
        """Control steps so far, of all environments together."""

    @property
    @abstractmethod
    def iteration(self) -> int:
        """Iterations so far."""

    @abstractmethod
    def begin(self, saved: dict[str, Any] | None) -> None:
        """Start, from nothing or from what `get_state` gave."""

    @abstractmethod
    def get_state(self) -> dict[str, Any]:
        """What training goes on from, for `begin`."""

    @abstractmethod
    def advance(self) -> None:
        """One iteration."""

    @abstractmethod
    def figures(self) -> dict[str, Any]:
        """What a row of the log has of training itself, since the row before."""

    @abstractmethod
    def mean_action(self, observations: np.ndarray) -> np.ndarray:
        """The policy without its noise: observations (n, D) to actions (n, nu)."""

    @abstractmethod
    def export(self, path: Path) -> None:
        """Write the policy as ONNX, and check it against the policy."""

    def prepare(self, interrupt: Interrupt) -> None:  # noqa: B027  most need nothing
        """What comes before the first iteration; it leaves off when an interrupt is asked for."""

    def evaluated(self) -> None:  # noqa: B027  most need nothing
        """What follows an evaluation."""

    def close(self) -> None:
        """End what runs beside this process, and the log."""
        self.run.close()

    @property
    def seconds(self) -> float:
        """Wall time of the run, that before an interruption included."""
        return self._before + time.perf_counter() - self._since

    def __call__(self, steps: int) -> bool:
        """Train to the first iteration that reaches `steps` steps; return whether it got there.

        Raises:
            OSError: a file cannot be written; the state that was kept before is whole.
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
        """What follows an iteration: a row of the log, an evaluation and a checkpoint, if due."""
        bar.update(self.steps - bar.n)
        evaluate = self.steps >= steps or self.iteration % self.h.evaluate_every == 0
        if evaluate or self.iteration % self.h.log_every == 0:
            row = self._log(evaluate)
        if evaluate:
            bar.set_postfix({"return": f"{row['return']:.4g}"})
        if evaluate or time.perf_counter() - self._saved > SAVE_EVERY:
            self._save()

    def _log(self, evaluate: bool) -> dict[str, Any]:
        """Write a row of the log; keep the policy if an evaluation finds it the best so far."""
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
    """Train to the end, or leave with a message where the run was interrupted.

    Raises:
        OSError: see `Training`.
    """
    if not training(steps):
        sys.exit(f"interrupted: {training.run.advice}")
    print(f"{training.steps} steps: the best policy is {str(training.run.policy)!r}")
