"""PPO with a reused decoder: the learnt action is added to the mean of the decoder's prior.

python -m baselines.transfer --task vnl/RodentJumpGap-v0 --decoder rat.safetensors --out runs/gap
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from baselines import hyperparameters, loop, ppo
from baselines.options import HyperparameterFile, Out, Resume, Seed, Steps, Task
from baselines.transfer.bundle import Decoder
from baselines.transfer.ppo import Decoded, network_of
from vnl_envs.cli.terminal import TaskOptions, parse_options


def main(
    task: Task,
    decoder: Annotated[Path, typer.Option(help="file from `baselines.transfer.bundle`")],
    out: Out,
    steps: Steps = 3_000_000,
    seed: Seed = 0,
    impl: Annotated[str, typer.Option(help="auto, native, warp or jax")] = "auto",
    resume: Resume = False,
    hyperparams: HyperparameterFile = None,
    option: TaskOptions = None,
) -> None:
    """Train a policy by PPO with a fixed decoder."""
    try:
        network = network_of(Decoder.read(decoder))
        h = hyperparameters.load(ppo.Hyperparameters, Decoded.files, task, hyperparams)
        options = parse_options(task, option)
        training = ppo.Training(task, seed, impl, out, resume, h, network, options=options)
        loop.finish(training, steps)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    typer.run(main)
