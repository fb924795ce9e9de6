"""The effect of each part of a recipe, at equal steps.

    python -m benchmarks.ablation STUDY RUNS [VARIANT ...]

A study trains variants of a recipe with several seeds. Unfinished runs in the folder RUNS are
resumed; curves of finished ones lie in `results/ablation` beside this file, and are not run again.
The mean actions of the last policies are compared on the original task: 64 episodes, of imitation
from random frames. When all variants are complete, `results/ablation_STUDY.json` is written.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml

from baselines.reproduce import call
from baselines.run import CHECKPOINT, LOG, rows_of
from benchmarks.measuring import RESULTS, write_results

CURVES = RESULTS / "ablation"
FIGURES = ("step", "return", "length", "survived")
"""Columns of the log; goals have no `survived`."""


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Attributes:
        task: task id.
        changes: hyperparameters that differ from those of the task.
        options: options of the task, as on the command line.
        module: module whose command line trains.
    """

    task: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    module: str = "baselines.ppo"


@dataclass(frozen=True)
class Study:
    """Variants at equal steps.

    Attributes:
        steps: control steps of each run.
        variants: variants by name.
        seeds: seeds of each variant.
    """

    steps: int
    variants: Mapping[str, Variant]
    seeds: tuple[int, ...] = (0, 1, 2)


def walk(**changes: Any) -> Variant:
    """An expert of the humanoid's walk."""
    return Variant("vnl/HumanoidImitation-v0", changes, ('clips=["walk"]', "split=all"))


def goals(body: str, module: str = "baselines.ppo") -> Variant:
    """Goal reaching of a body, from scratch."""
    return Variant(f"vnl/{body}GoalReaching-v0", module=module)


STUDIES = {
    "walk": Study(
        1_500_000,
        {
            "recipe": walk(),
            "no residual": walk(base="none"),
            "kl 0.02": walk(target_kl=0.02),
            "kl 0.1": walk(target_kl=0.1),
            "failure starts": walk(starts="failures"),
            "own limits": walk(constants={}),
        },
    ),
    "action_map": Study(
        1_000_000,
        {
            f"{body.lower()} {name}": goals(body, module)
            for body in ("Rodent", "Humanoid")
            for name, module in (
                ("linear", "baselines.ppo"),
                ("piecewise", "benchmarks.piecewise_actions"),
            )
        },
    ),
}


def curve(study: str, name: str, seed: int, runs: Path) -> Path:
    """The log of a variant's run, which is trained or finished first if need be.

    Raises:
        SystemExit: the training was stopped or failed.
    """
    stem = f"{study}-{name.replace(' ', '-')}-{seed}"
    kept, folder = CURVES / f"{stem}.csv", runs / stem
    if not kept.is_file():
        train(STUDIES[study].variants[name], STUDIES[study].steps, seed, folder)
        CURVES.mkdir(exist_ok=True)
        shutil.copy(folder / LOG, kept)
    return kept


def train(variant: Variant, steps: int, seed: int, folder: Path) -> None:
    """Train a variant, or finish its run.

    Raises:
        SystemExit: the training was stopped or failed.
    """
    file = folder.with_suffix(".yml")
    folder.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({"default": variant.changes}))
    command = [sys.executable, "-m", variant.module, "--task", variant.task]
    for option in variant.options:
        command += ["-o", option]
    command += ["--steps", str(steps), "--seed", str(seed), "--out", str(folder)]
    command += ["--hyperparams", str(file)]
    if (folder / CHECKPOINT).is_file():
        command.append("--resume")
    if code := call(command):
        sys.exit(code)


def last(log: Path) -> dict[str, float]:
    """Figures of a run's last evaluation."""
    row = [row for row in rows_of(log) if row["length"]][-1]
    return {name: float(row[name]) for name in FIGURES if name in row}


def summary(rows: list[dict[str, float]]) -> Mapping[str, Any]:
    """Mean over seeds of each figure, and the values of all seeds."""
    return {
        name: {
            "mean": float(np.mean([row[name] for row in rows])),
            "seeds": [row[name] for row in rows],
        }
        for name in rows[0]
    }


def main(
    study: Annotated[str, typer.Argument(help=f"one of {', '.join(STUDIES)}")],
    runs: Annotated[Path, typer.Argument(help="folder of the runs")],
    variants: Annotated[list[str] | None, typer.Argument(help="only these")] = None,
) -> None:
    """See the module."""
    if study not in STUDIES:
        raise typer.BadParameter(f"no study {study!r}; there are {list(STUDIES)}")
    chosen = STUDIES[study]
    if unknown := sorted(set(variants or ()) - set(chosen.variants)):
        raise typer.BadParameter(f"no variants {unknown}; there are {list(chosen.variants)}")
    found = {}
    for name in variants or chosen.variants:
        found[name] = summary([last(curve(study, name, seed, runs)) for seed in chosen.seeds])
        typer.echo(f"{name}: {found[name]}")
    if not variants:
        content = {"steps": chosen.steps, "seeds": list(chosen.seeds), "variants": found}
        write_results(f"ablation_{study}", content, "jax")


if __name__ == "__main__":
    typer.run(main)
