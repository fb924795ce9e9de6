"""PPO (Schulman et al. 2017) on a task's functional environment.

python -m baselines.ppo --task vnl/RodentGoalReaching-v0 --seed 0 --steps 3000000 --out runs/rat
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from baselines import hyperparameters, loop
from baselines.options import HyperparameterFile, Out, Resume, Seed, Steps, Task
from baselines.ppo.hyperparameters import Hyperparameters
from baselines.ppo.training import Training
from baselines.registered import MLP, SELECTABLE, selected_class
from vnl_envs.cli.terminal import TaskOptions, parse_options


def main(
    task: Task,
    out: Out,
    steps: Steps = 3_000_000,
    seed: Seed = 0,
    impl: Annotated[str, typer.Option(help="auto, native, warp or jax")] = "auto",
    network: Annotated[str, typer.Option(help=f"one of {', '.join(SELECTABLE)}")] = MLP,
    expert: Annotated[
        list[Path] | None, typer.Option(help="folder of a run to clone first; may be repeated")
    ] = None,
    init_from: Annotated[
        Path | None, typer.Option(help="folder of a run whose networks this one begins with")
    ] = None,
    neural: Annotated[
        Path | None, typer.Option(help="session whose neurons the latent also predicts")
    ] = None,
    neural_weight: Annotated[float, typer.Option(min=0, help="weight of their loss")] = 1.0,
    resume: Resume = False,
    hyperparams: HyperparameterFile = None,
    option: TaskOptions = None,
) -> None:
    """Train a policy by PPO."""
    try:
        made = selected_class("ppo", network)
        h = hyperparameters.load(Hyperparameters, made.files, task, hyperparams)
        options = parse_options(task, option)
        neurons = (neural, neural_weight) if neural else None
        training = Training(
            task, seed, impl, out, resume, h, made, expert or (), options, init_from, neurons
        )
        loop.finish(training, steps)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    typer.run(main)
