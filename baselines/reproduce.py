"""Every run behind the published numbers: python -m baselines.reproduce [NAME ...].

The missing runs of `campaign.yml` are started or continued, in its order. An interruption loses at
most a minute of work. The curve, policy and scores of a finished run go to `baselines/results` and
`baselines/checkpoints` under the row's name. Networks with which other rows begin go to
`baselines/kept`. With `--keep`, a few megabytes of a running run go there too, from which another
machine can continue.
"""

from __future__ import annotations

import json
import math
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
import yaml
from rich.console import Console
from rich.table import Table

from baselines.checkpoint import read_tree, write_tree
from baselines.run import CHECKPOINT, LOG, POLICY, RECORD, read_record, rows_of
from baselines.score import score
from baselines.transfer.bundle import from_run
from vnl_envs.utils.files import written_whole

HERE = Path(__file__).parent
TABLE, RESULTS, CHECKPOINTS = HERE / "campaign.yml", HERE / "results", HERE / "checkpoints"
KEPT = HERE / "kept"
"""Folder of networks from running runs, and from runs with which others begin."""
EPISODES = 100
"""Number of episodes of each policy in a score."""


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: unique name.
        command: module of `baselines` and its arguments, without steps, seed and folder.
        steps: number of control steps of all environments together.
        seeds: seeds, with one run each.
        hours: expected wall hours of a run on "cpu" and "gpu"; None if not measured.
        bundle: whether the run's decoder is kept.
    """

    name: str
    command: str
    steps: int
    seeds: Sequence[int]
    hours: dict[str, float | None]
    bundle: bool = False

    @property
    def task(self) -> str:
        """The id of the task."""
        arguments = shlex.split(self.command)
        return arguments[arguments.index("--task") + 1]

    def folder(self, runs: Path, seed: int) -> Path:
        """The folder of a run."""
        return runs / f"{self.name}-{seed}"

    def learnt(self, runs: Path, seed: int) -> Path:
        """The folder of a run, or its kept networks if the run was on another machine."""
        folder, kept = self.folder(runs, seed), KEPT / self.stem(seed)
        return kept if kept.is_dir() and not (folder / CHECKPOINT).is_file() else folder

    def needed(self, others: dict[str, Row]) -> bool:
        """Whether other rows begin with the networks of the row's first run."""
        return any(f"{{{self.name}}}" in row.command for row in others.values())

    def stem(self, seed: int) -> str:
        """The stem of a run's files in the repository."""
        return f"{self.name}-{seed}"

    def decoder(self, seed: int) -> Path:
        """The file of a finished run's decoder."""
        return CHECKPOINTS / f"{self.stem(seed)}.safetensors"

    def published(self, seed: int) -> bool:
        """Whether the scores of a run are in the repository."""
        return (RESULTS / f"{self.stem(seed)}.json").is_file()

    def arguments(self, runs: Path, seed: int, others: dict[str, Row]) -> list[str]:
        """The command line of a run."""
        firsts = {name: row.learnt(runs, row.seeds[0]) for name, row in others.items()}
        bundles = {f"{name}.decoder": row.decoder(row.seeds[0]) for name, row in others.items()}
        module, *arguments = shlex.split(self.command)
        known = {**firsts, **bundles}
        arguments = [_filled(argument, known) for argument in arguments]
        folder = self.folder(runs, seed)
        more = ["--resume"] if (folder / CHECKPOINT).is_file() else []
        return [
            sys.executable,
            "-m",
            f"baselines.{module}",
            *arguments,
            "--steps",
            str(self.steps),
            "--seed",
            str(seed),
            "--out",
            str(folder),
            *more,
        ]


def _filled(argument: str, known: dict[str, Path]) -> str:
    if argument.startswith("{") and argument.endswith("}"):
        name = argument[1:-1]
        if name not in known:
            raise ValueError(f"a command names {argument}, there are {sorted(known)}")
        return str(known[name])
    return argument


def read_table(path: Path = TABLE) -> dict[str, Row]:
    """The rows by name, in order.

    Raises:
        ValueError: the file is no table, or a row lacks a key or has an unknown one.
    """
    rows, table = {}, yaml.safe_load(path.read_text())
    if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
        raise ValueError(f"{path.name} must hold rows by name, each with its keys")
    for name, parts in table.items():
        try:
            rows[name] = Row(name, **parts)
        except TypeError as error:
            raise ValueError(f"{path.name}: {name}: {error}") from None
    return rows


def steps_of(folder: Path) -> int:
    """Number of steps in the log of a run; 0 without a log."""
    log = folder / LOG
    rows = rows_of(log) if log.is_file() else []
    return int(rows[-1]["step"]) if rows else 0


def keep(row: Row, seed: int, runs: Path) -> None:
    """Keep the networks of a run, without parts that restart: episodes, replay, PPO's moments.

    Raises:
        ValueError: the folder has another task's run.
    """
    folder, kept = row.folder(runs, seed), KEPT / row.stem(seed)
    if not (folder / CHECKPOINT).is_file():
        return
    if (task := read_record(folder)["task"]) != row.task:
        raise ValueError(f"{str(folder)!r} has a run of {task}, {row.name} is one of {row.task}")
    print(f"kept {row.stem(seed)} at {steps_of(folder)} steps")
    tree = read_tree(folder / CHECKPOINT)
    state = {k: v for k, v in tree["state"].items() if k not in tree["renewed"]}
    kept.mkdir(parents=True, exist_ok=True)
    # The policy is half as large as the networks. The next evaluation writes it anew.
    write_tree(kept / CHECKPOINT, {**tree, "state": state, "best": -math.inf})
    for name in (LOG, RECORD):
        shutil.copy(folder / name, kept / name)


def call(arguments: list[str]) -> int:
    """The exit status of a command, or the negative number of the signal that ended it.

    When Ctrl-C or SIGTERM comes, the command is waited for.

    The terminal sends Ctrl-C to the command as well; SIGTERM is passed on.
    """
    child = subprocess.Popen(arguments)
    stopped = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        if number == signal.SIGTERM:
            child.terminate()

    handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM), stop)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        # A run that was complete by then does not start the next one.
        return child.wait() or (-stopped[0] if stopped else 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(row: Row, seed: int, runs: Path, others: dict[str, Row]) -> None:
    """Run a row to its end, continuing an earlier run or kept networks.

    Raises:
        SystemExit: the run was interrupted or failed, and has printed the reason.
        ValueError: a row whose decoder it takes is missing.
    """
    for other in others.values():
        taken = f"{{{other.name}.decoder}}" in row.command
        if taken and not other.decoder(other.seeds[0]).is_file():
            raise ValueError(f"{row.name} takes the decoder of {other.name}: run that row first")
    folder, learnt = row.folder(runs, seed), row.learnt(runs, seed)
    if learnt != folder:
        shutil.copytree(learnt, folder, dirs_exist_ok=True)
    if code := call(row.arguments(runs, seed, others)):
        sys.exit(f"error: {row.name}: {signal.Signals(-code).name}" if code < 0 else code)


def publish(row: Row, seed: int, runs: Path, others: dict[str, Row]) -> None:
    """Keep a finished run's curve, best policy, decoder and scores in the repository."""
    folder, stem = row.folder(runs, seed), row.stem(seed)
    RESULTS.mkdir(exist_ok=True)
    CHECKPOINTS.mkdir(exist_ok=True)
    shutil.copy(folder / LOG, RESULTS / f"{stem}.csv")
    shutil.copy(folder / POLICY, CHECKPOINTS / f"{stem}.onnx")
    if row.bundle:
        from_run(folder).write(row.decoder(seed))
    record = {"row": row.name, **score(folder / POLICY, EPISODES)}
    with written_whole(RESULTS / f"{stem}.json") as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n")
    if seed == row.seeds[0] and row.needed(others):
        keep(row, seed, runs)
    else:
        shutil.rmtree(KEPT / stem, ignore_errors=True)


def status(rows: dict[str, Row], runs: Path) -> Table:
    """A table of the finished and the missing runs."""
    table = Table(title="campaign", title_justify="left")
    for heading in ("row", "seed", "million steps", "of", "hours", "on a GPU", "state"):
        name = heading == "row"
        left = name or heading == "state"
        table.add_column(
            heading, justify="left" if left else "right", no_wrap=left, overflow="fold"
        )
    for row in rows.values():
        for seed in row.seeds:
            done = max(map(steps_of, (row.folder(runs, seed), KEPT / row.stem(seed))))
            state = "published" if row.published(seed) else "begun" if done else "missing"
            hours = ("-" if h is None else f"{h:g}" for h in (row.hours["cpu"], row.hours["gpu"]))
            table.add_row(
                row.name, str(seed), f"{done / 1e6:.2f}", f"{row.steps / 1e6:g}", *hours, state
            )
    return table


def main(
    names: Annotated[list[str] | None, typer.Argument(help="rows; all by default")] = None,
    runs: Annotated[Path, typer.Option(help="folder of the runs")] = Path("runs"),
    listed: Annotated[bool, typer.Option("--list", help="show the state, run nothing")] = False,
    kept: Annotated[bool, typer.Option("--keep", help="keep running runs, run nothing")] = False,
    table: Annotated[Path, typer.Option(help="another table")] = TABLE,
) -> None:
    """Run the missing rows of the campaign."""
    try:
        rows = read_table(table)
        if unknown := sorted(set(names or ()) - set(rows)):
            raise ValueError(f"no rows {unknown}; there are {list(rows)}")
        if listed:
            Console().print(status(rows, runs))
            return
        for row in (rows[name] for name in names or rows):
            for seed in row.seeds:
                if row.published(seed):
                    continue
                if kept:
                    keep(row, seed, runs)
                    continue
                train(row, seed, runs, rows)
                publish(row, seed, runs, rows)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    typer.run(main)
