"""What every training run has: a folder of its own, a log, checkpoints, and a clean way to stop."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

import vnl_envs
from baselines.checkpoint import read_tree, write_tree
from vnl_envs.files import written_whole

RECORD, LOG, CHECKPOINT, POLICY = (
    "run.json",
    "progress.csv",
    "checkpoint.safetensors",
    "policy.onnx",
)

EVALUATION_SEED = 1000
"""Of the episodes by which training follows its policy; scores that are reported use another."""

_VERSIONS = ("mujoco", "numpy", "torch", "stable-baselines3")


class Run:
    """The folder of a run: `run.json` says what it is, `progress.csv` is its log, TensorBoard's
    files hold the same, `checkpoint.safetensors` is the newest state and `policy.onnx` the best
    policy so far.

    Args:
        folder: made if it is not there.
        identity: what the run is: its algorithm, task, seed and hyperparameters.
        columns: of the log, "step" first.
        resume: whether to go on with the run that is there.

    Raises:
        ValueError: there is a run already, or (resume) none, or one that is not this one.
    """

    def __init__(
        self, folder: Path, identity: dict[str, Any], columns: Sequence[str], resume: bool
    ) -> None:
        self.folder = folder
        self.columns = tuple(columns)
        identity = json.loads(json.dumps(identity))
        if resume:
            self._check_same(identity)
        elif folder.exists() and not self._barely_begun() and any(folder.iterdir()):
            raise ValueError(f"{str(folder)!r} is not empty: go on with its run by --resume, "
                             "or give another --out")  # fmt: skip
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._write_record(identity)
            self._write_log([])
        self._board = SummaryWriter(str(folder))

    def _barely_begun(self) -> bool:
        """Whether there is a run that ended before its first checkpoint: nothing to keep."""
        return (self.folder / RECORD).is_file() and not self.checkpoint.is_file()

    def _check_same(self, identity: dict[str, Any]) -> None:
        path = self.folder / RECORD
        if not path.is_file() or not self.checkpoint.is_file():
            raise ValueError(f"{str(self.folder)!r} has no run to go on with")
        there = json.loads(path.read_text())
        for name, value in identity.items():
            if there.get(name) != value:
                raise ValueError(f"{str(self.folder)!r} has another run in it: its {name} is "
                                 f"{there.get(name)!r}, not {value!r}")  # fmt: skip

    def _write_record(self, identity: dict[str, Any]) -> None:
        versions = {name: importlib.metadata.version(name) for name in _VERSIONS}
        with written_whole(self.folder / RECORD) as partial:
            partial.write_text(json.dumps({**identity, "versions": versions}, indent=2) + "\n")

    @property
    def checkpoint(self) -> Path:
        """Where the newest state is."""
        return self.folder / CHECKPOINT

    @property
    def policy(self) -> Path:
        """Where the best policy is."""
        return self.folder / POLICY

    def save(self, tree: Any) -> None:
        """Keep a state; see `write_tree`."""
        write_tree(self.checkpoint, tree)

    def load(self) -> Any:
        """The state that was kept."""
        return read_tree(self.checkpoint)

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row to the log; what a column lacks stays empty."""
        texts = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
        with (self.folder / LOG).open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(texts)
        for name, value in row.items():
            if name != "step" and np.isfinite(value):
                self._board.add_scalar(name, value, row["step"])

    def forget_after(self, step: int) -> None:
        """Drop rows of the log beyond a step, which will be written again."""
        with (self.folder / LOG).open(newline="") as file:
            rows = list(csv.DictReader(file))
        self._write_log([row for row in rows if int(row["step"]) <= step])

    def _write_log(self, rows: Sequence[Mapping[str, Any]]) -> None:
        with (
            written_whole(self.folder / LOG) as partial,
            partial.open("w", newline="") as file,
        ):
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)

    def close(self) -> None:
        """Write what TensorBoard's writer still holds."""
        self._board.close()


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
