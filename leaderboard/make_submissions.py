"""Pack the baselines: `python -m leaderboard.make_submissions [BUNDLE ...]`, by default all, for
the leaderboard's suite.

The bundles are not kept in the repository, because the same checkpoints give the same bytes. The
metadata of each policy has its task, algorithm, seed and number of steps.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.submission.bundles import pack_entry

FOLDER = Path(__file__).parent / "submissions"
CHECKPOINTS = Path(__file__).parent.parent / "baselines" / "checkpoints"
SUITE = "core-v2"
DATE = "2026-11-24"


class Baseline(NamedTuple):
    """A bundle.

    Attributes:
        name: name on the board.
        folders: folders of `baselines/checkpoints` with its policies.
        backend: physics backend of their training.
    """

    name: str
    folders: tuple[str, ...]
    backend: str = "MuJoCo C"


BASELINES = {
    "ppo": Baseline("PPO", ("ppo", "ppo_intention")),
    "dmpo": Baseline("DMPO", ("dmpo",)),
}
"""Baselines by name of the bundle. PPO imitates with an intention network."""


def stem(name: str, suite: str) -> str:
    """The name of the files of a reference or a bundle on a suite."""
    return name if suite == SUITE else f"{suite}-{name}"


def pack(bundle: str, suite: str = SUITE) -> Path:
    """Write a bundle of the policies for a suite's tasks; return its path.

    Raises:
        ScoringError: there is no such suite, or a policy is not allowed to run.
    """
    baseline, tasks = BASELINES[bundle], {task.id for task in suites.load_suite(suite).tasks}
    paths = [path for name in baseline.folders for path in (CHECKPOINTS / name).glob("*.onnx")]
    policies = {f"vnl/{path.stem}": str(path.relative_to(CHECKPOINTS)) for path in paths}
    fields = {
        "name": baseline.name,
        "authors": ["vnl_envs"],
        "licence": "Apache-2.0",
        "date": DATE,
        "description": "A baseline of vnl_envs, see docs/baselines.md.",
        "suite": suite,
        "training": {"backend": baseline.backend, "hardware": "2 cores, no GPU"},
        "tasks": {id: {"policy": policies[id]} for id in sorted(tasks & policies.keys())},
    }
    FOLDER.mkdir(exist_ok=True)
    out = FOLDER / f"{stem(bundle, suite)}.zip"
    pack_entry(fields, CHECKPOINTS, out)
    return out


def main(*bundles: str) -> None:
    """Write bundles."""
    for bundle in bundles or BASELINES:
        out = pack(bundle)
        print(f"{out.relative_to(FOLDER.parent.parent)}: {out.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
