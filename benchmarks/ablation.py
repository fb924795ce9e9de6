"""The effect of each part of the recipe of imitation, at equal steps.

    python -m benchmarks.ablation RUNS [VARIANT ...]

Each variant trains an expert of the humanoid's walk without one part of the recipe, with several
seeds. Unfinished runs in the folder RUNS are resumed. The mean actions of the last policies are
compared on the original task: 64 episodes from random frames. Writes `results/ablation.json`
beside this file when all variants are complete.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml

from baselines import hyperparameters, ppo
from baselines.run import CHECKPOINT, LOG, rows_of
from benchmarks.measuring import write_results

TASK = "vnl/HumanoidImitation-v0"
OPTIONS = ("-o", 'clips=["walk"]', "-o", "split=all")
STEPS = 1_500_000
SEEDS = (0, 1, 2)
FIGURES = ("return", "length", "survived")

VARIANTS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "no residual": {"base": "none"},
    "kl 0.02": {"target_kl": 0.02},
    "kl 0.1": {"target_kl": 0.1},
    "failure starts": {"starts": "failures"},
    "own limits": {"constants": {}},
}
"""Variant -> hyperparameters that differ from those of the task."""


def train(runs: Path, name: str, seed: int) -> Path:
    """Train a variant, or finish its run. Returns the folder of the run.

    Raises:
        SystemExit: the training was stopped or failed.
    """
    folder = runs / f"{name.replace(' ', '-')}-{seed}"
    file = folder.with_suffix(".yml")
    recipe = hyperparameters.load(ppo.Hyperparameters, ppo.Network.file, TASK)
    runs.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({"default": dataclasses.asdict(recipe) | VARIANTS[name]}))
    command = [sys.executable, "-m", "baselines.ppo", "--task", TASK, *OPTIONS]
    command += ["--steps", str(STEPS), "--seed", str(seed), "--out", str(folder)]
    command += ["--hyperparams", str(file)]
    if (folder / CHECKPOINT).is_file():
        command.append("--resume")
    if code := subprocess.call(command):
        sys.exit(code)
    return folder


def last(folder: Path) -> dict[str, float]:
    """Steps and figures of a run's last evaluation."""
    evaluated = [row for row in rows_of(folder / LOG) if row["length"]]
    return {name: float(evaluated[-1][name]) for name in ("step", *FIGURES)}


def summary(rows: list[dict[str, float]]) -> Mapping[str, Any]:
    """Mean over seeds of each figure, and the values of all seeds."""
    return {
        name: {
            "mean": float(np.mean([row[name] for row in rows])),
            "seeds": [row[name] for row in rows],
        }
        for name in ("step", *FIGURES)
    }


def main(
    runs: Annotated[Path, typer.Argument(help="folder of the runs")],
    variants: Annotated[list[str] | None, typer.Argument(help="only these")] = None,
) -> None:
    """See the module."""
    if unknown := sorted(set(variants or ()) - set(VARIANTS)):
        raise typer.BadParameter(f"no variants {unknown}; there are {list(VARIANTS)}")
    found = {}
    for name in variants or VARIANTS:
        found[name] = summary([last(train(runs, name, seed)) for seed in SEEDS])
        typer.echo(f"{name}: {found[name]}")
    if not variants:
        write_results("ablation", {"steps": STEPS, "seeds": list(SEEDS), "variants": found}, "jax")


if __name__ == "__main__":
    typer.run(main)
