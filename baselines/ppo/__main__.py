"""PPO (Schulman et al. 2017), Stable-Baselines3's, on a task's vector environment.

With `--impl` it is Brax's on the functional one, see `baselines.ppo_brax`.

python -m baselines.ppo --task vnl/RodentGoalReaching-v0 --seed 0 --steps 3000000 --out runs/rat
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from baselines.options import HyperparameterFile, Out, Resume, Seed, Steps, Task
from baselines.ppo.network import MLP, NAMES, network_class
from baselines.ppo.training import finish
from vnl_envs.terminal import TaskOptions, parse_options

GYMNASIUM = "gymnasium"
IMPLS = (GYMNASIUM, "auto", "native", "warp", "jax")
"""What is trained on: the vector environment, or, by Brax's PPO, a functional one."""


def main(
    task: Task,
    out: Out,
    steps: Steps = 3_000_000,
    seed: Seed = 0,
    resume: Resume = False,
    network: Annotated[str, typer.Option(help=f"one of {', '.join(NAMES)}")] = MLP,
    impl: Annotated[
        str, typer.Option(help=f"{GYMNASIUM}, or by Brax's PPO {', '.join(IMPLS[1:])}")
    ] = GYMNASIUM,
    hyperparams: HyperparameterFile = None,
    option: TaskOptions = None,
) -> None:
    """Train a policy by PPO."""
    try:
        for name, value, known in (("network", network, NAMES), ("impl", impl, IMPLS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, got {value!r}")
        options = parse_options(option)
        if impl == GYMNASIUM:
            finish(task, seed, out, steps, resume, hyperparams, network_class(network)(), options)
        elif network == MLP:
            from baselines import ppo_brax

            ppo_brax.finish(task, seed, impl, out, steps, resume, hyperparams, options)
        else:
            raise ValueError(f"network {network!r} needs --impl {GYMNASIUM}, got {impl!r}")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    typer.run(main)
