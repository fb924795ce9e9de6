"""The folder of a training run: record, log, checkpoint and best policy."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from baselines.checkpoint import read_tree, write_tree
from vnl_envs.utils.files import written_whole

RECORD, LOG, CHECKPOINT, POLICY = (
    "run.json",
    "progress.csv",
    "checkpoint.safetensors",
    "policy.onnx",
)

_VERSIONS = (
    "vnl_envs",
    "mujoco",
    "numpy",
    "jax",
    "flax",
    "optax",
    "torch",
    "stable-baselines3",
)
"""Packages whose versions are in a run's record."""


class Run:
    """The folder of a run.

    `run.json` is its record, `progress.csv` its log, which TensorBoard's files repeat,
    `checkpoint.safetensors` the newest state, and `policy.onnx` the best policy so far. All files
    except TensorBoard's are written atomically, so that a full disk does not damage them.

    Args:
        folder: folder, made if necessary.
        identity: algorithm, task, seed and hyperparameters of the run.
        columns: columns of the log, "step" first.
        resume: whether to continue the run in the folder. A run that ended before its first
            checkpoint starts again.

    Raises:
        ValueError: there is a run already, or with `resume`, another one.
        FileNotFoundError: with `resume`, there is none.

    Attributes:
        folder, identity, columns: as given.
        resumed: whether there is a state to continue from.
    """

    def __init__(
        self, folder: Path, identity: dict[str, Any], columns: Sequence[str], resume: bool
    ) -> None:
        self.folder = folder
        self.columns = tuple(columns)
        self.identity = json.loads(json.dumps(identity))
        if resume:
            self._check_same(read_record(folder), str(folder))
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
        # Without a thread of its own, in which errors would be lost.
        self._board = EventsWriter(str(folder / "events"))

    def _barely_begun(self) -> bool:
        """Whether there is a run that ended before its first checkpoint, which may be replaced."""
        return (self.folder / RECORD).is_file() and not self.checkpoint.is_file()

    def _check_same(self, there: Mapping[str, Any], place: str) -> None:
        for name, value in self.identity.items():
            found = there.get(name)
            if found == value:
                continue
            if isinstance(found, dict) and isinstance(value, dict):
                # Of two long mappings, the first difference.
                pairs = [(value, found), (found, value)]
                key = next(k for a, b in pairs for k in a if k not in b or a[k] != b[k])
                name, found, value = f"{name}: {key}", found.get(key), value.get(key)
            raise ValueError(
                f"{place!r} has another run in it: its {name} is {found!r}, not {value!r}"
            )

    def _write_record(self) -> None:
        versions = {name: _version(name) for name in _VERSIONS}
        record = {**self.identity, "versions": versions}
        with written_whole(self.folder / RECORD) as partial:
            partial.write_text(json.dumps(record, indent=2) + "\n")

    @property
    def checkpoint(self) -> Path:
        """Path of the newest state."""
        return self.folder / CHECKPOINT

    @property
    def policy(self) -> Path:
        """Path of the best policy."""
        return self.folder / POLICY

    @property
    def advice(self) -> str:
        """Advice for people on how to continue the run."""
        if self.checkpoint.is_file():
            return f"the last state is kept in {str(self.folder)!r}: go on with --resume"
        return "there was no state to keep yet: the same command begins again"

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a state; see `write_tree`."""
        write_tree(self.checkpoint, {**state, "identity": self.identity})

    def load(self) -> dict[str, Any]:
        """Read the newest state.

        Raises:
            ValueError: it is damaged, or of another run.
        """
        state = read_tree(self.checkpoint)
        # Old states without an identity are accepted.
        self._check_same(state.get("identity", self.identity), str(self.checkpoint))
        return state

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row to the log. Missing columns stay empty."""
        self._rows.append({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        self._write_log()
        for name, value in row.items():
            if name != "step" and np.isfinite(value):
                summary = scalar(name, value)
                event = Event(step=row["step"], wall_time=time.time(), summary=summary)
                self._board.write_event(event)
        self._board.flush()

    def forget_after(self, step: int) -> None:
        """Drop rows of the log after a step, as they will be written again."""
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


def read_record(folder: Path) -> dict[str, Any]:
    """The record of the run in a folder.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: the record is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        raise FileNotFoundError(f"no run in {str(folder)!r}")
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from None
    if not isinstance(record, dict) or not {"algorithm", "task"} <= set(record):
        raise ValueError(f"{str(path)!r} is not the record of a run")
    return record


def rows_of(log: Path) -> list[dict[str, str]]:
    """The rows of a log."""
    with log.open(newline="") as file:
        return list(csv.DictReader(file))


def _version(package: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
