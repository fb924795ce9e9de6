"""DMPO on a task: its functional environment in one program with the learner, or actors on Ray.

python -m baselines.dmpo --task vnl/RodentGoalReaching-v0 --seed 0 --steps 1000000 --out runs/rat
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from baselines import hyperparameters, loop
from baselines.dmpo.settings import Network
from baselines.dmpo.training import Training
from baselines.options import HyperparameterFile, Out, Resume, Seed, Steps, Task
from baselines.registered import MLP, SELECTABLE, selected_class
from vnl_envs.cli.terminal import TaskOptions, parse_options


def main(
    task: Task,
    out: Out,
    steps: Steps = 1_000_000,
    seed: Seed = 0,
    impl: Annotated[str, typer.Option(help="auto, native, warp or jax")] = "auto",
    actors: Annotated[
        int | None, typer.Option(min=1, help="collect in this many processes, on Ray")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="address of a Ray cluster; default: this machine")
    ] = None,
    network: Annotated[str, typer.Option(help=f"one of {', '.join(SELECTABLE)}")] = MLP,
    decoder: Annotated[
        Path | None, typer.Option(help="bundle of a decoder, reused in an intention network")
    ] = None,
    resume: Resume = False,
    hyperparams: HyperparameterFile = None,
    option: TaskOptions = None,
) -> None:
    """Train a policy by DMPO."""
    try:
        chosen = network_of(network, decoder)
        h = hyperparameters.load(chosen.kind, chosen.files, task, hyperparams)
        options = parse_options(task, option)
        training = Training(task, seed, impl, out, resume, h, chosen, actors, ray_address, options)
        loop.finish(training, steps)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def network_of(name: str, decoder: Path | None) -> Network:
    """The network of that name, or with a decoder the intention network around it.

    Raises:
        FileNotFoundError: there is no such bundle.
        ValueError: there is no network of that name, or the file is not a bundle.
    """
    chosen = selected_class("dmpo", name)
    if decoder is None:
        return chosen()
    from baselines.intention.dmpo import Intention
    from baselines.transfer.bundle import Decoder

    return Intention(Decoder.read(decoder))


if __name__ == "__main__":
    typer.run(main)
