"""Pack the baselines: `python -m leaderboard.make_submissions [BUNDLE ...]`, by default all.

The bundles are not kept in the repository, because the same checkpoints give the same bytes. The
metadata of each policy has its task, algorithm, seed and number of steps.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

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


def pack_baseline(bundle: str, out: Path) -> None:
    """Write one bundle.

    Raises:
        ScoringError: a policy is not allowed to run.
    """
    baseline = BASELINES[bundle]
    policies = [path for name in baseline.folders for path in (CHECKPOINTS / name).glob("*.onnx")]
    fields = {
        "name": baseline.name,
        "authors": ["vnl_envs"],
        "licence": "Apache-2.0",
        "date": DATE,
        "description": "A baseline of vnl_envs, see docs/baselines.md.",
        "suite": SUITE,
        "training": {"backend": baseline.backend, "hardware": "2 cores, no GPU"},
        "tasks": {
            f"vnl/{path.stem}": {"policy": str(path.relative_to(CHECKPOINTS))}
            for path in sorted(policies, key=lambda path: path.stem)
        },
    }
    pack_entry(fields, CHECKPOINTS, out)


def main(*bundles: str) -> None:
    """Write bundles."""
    FOLDER.mkdir(exist_ok=True)
    for bundle in bundles or BASELINES:
        out = FOLDER / f"{bundle}.zip"
        pack_baseline(bundle, out)
        print(f"{out.relative_to(FOLDER.parent.parent)}: {out.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
