"""PPO with a reused decoder: the hyperparameters and the budget are those of `baselines.ppo`.

python -m baselines.transfer --task vnl/RodentJumpGap-v0 --decoder rat.safetensors --out runs/gap
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from baselines import ppo
from baselines.options import HyperparameterFile, Out, Resume, Seed, Steps, Task
from baselines.transfer.bundle import Decoder
from baselines.transfer.ppo import Decoded
from vnl_envs.terminal import TaskOptions, parse_options


def main(
    task: Task,
    decoder: Annotated[Path, typer.Option(help="what `baselines.transfer.bundle` wrote")],
    out: Out,
    steps: Steps = 3_000_000,
    seed: Seed = 0,
    resume: Resume = False,
    hyperparams: HyperparameterFile = None,
    option: TaskOptions = None,
) -> None:
    """Train a policy by PPO whose actions are the latents of a decoder that does not learn."""
    try:
        network = Decoded(Decoder.read(decoder))
        options = parse_options(option)
        ppo.finish(task, seed, out, steps, resume, hyperparams, network, options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    typer.run(main)
