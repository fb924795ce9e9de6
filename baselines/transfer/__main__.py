"""PPO with a reused decoder: the hyperparameters and the budget are those of `baselines.ppo`.

python -m baselines.transfer --task vnl/RodentJumpGap-v0 --decoder rat.safetensors --out runs/gap
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from baselines import ppo
from baselines.transfer.bundle import Decoder
from baselines.transfer.ppo import Decoded


def main(
    task: Annotated[str, typer.Option(help="a task id, see `vnl-envs list`")],
    decoder: Annotated[Path, typer.Option(help="what `baselines.transfer.bundle` wrote")],
    out: Annotated[Path, typer.Option(help="folder of the run")],
    steps: Annotated[int, typer.Option(min=1, help="of all environments together")] = 3_000_000,
    seed: Annotated[int, typer.Option(min=0, help="of everything random")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
    hyperparams: Annotated[
        Path | None, typer.Option(help="YAML file, keyed by task; default that of baselines.ppo")
    ] = None,
) -> None:
    """Train a policy by PPO whose actions are the latents of a decoder that does not learn."""
    try:
        network = Decoded(Decoder.read(decoder))
        ppo.finish(task, seed, out, steps, resume, hyperparams, network)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    typer.run(main)
