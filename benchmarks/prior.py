"""What a decoder does before anything is learnt with it: with its prior's mean, and without.

python -m benchmarks.prior rat.safetensors vnl/RodentGoalReaching-v0 vnl/RodentJumpGap-v0

z = μ(s) is the latent with which transfer begins; z = 0 ignores the prior. Adds the decoder's rows
to `results/prior.json` beside this file and prints them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from baselines.intention import LATENT
from baselines.transfer.bundle import Decoder, perceptron
from benchmarks.measuring import write_results
from vnl_envs import evaluate

STEPS = 200
"""Number of control steps for which a body should stand, 4 s."""


def entrants(decoder: Decoder) -> dict[str, Any]:
    """Policies by name."""

    def mean(observations: np.ndarray) -> np.ndarray:
        return decoder.act(observations, np.zeros((len(observations), LATENT), np.float32))

    def zero(observations: np.ndarray) -> np.ndarray:
        own = decoder.normalise(observations[:, : decoder.own])
        return decoder.act(observations, -perceptron(decoder.prior, own)[:, :LATENT])

    return {"z = μ(s)": mean, "z = 0": zero, "standing pose": "zero"}


def main(
    bundle: Path,
    task: list[str],
    episodes: Annotated[int, typer.Option(min=1)] = 64,
) -> None:
    """See the module."""
    decoder = Decoder.read(bundle)
    rows = []
    for task_id in task:
        for name, policy in entrants(decoder).items():
            result = evaluate(task_id, policy, episodes)
            lengths, rewards = result.values["length"], result.values["return"]
            rows.append(
                {
                    "task": task_id,
                    "policy": name,
                    "stands": float((lengths > STEPS).mean()),
                    "median_length": float(np.median(lengths)),
                    "return": float(rewards.mean()),
                }
            )
            print(rows[-1])
    about = {"steps": decoder.origin.get("steps"), "digest": decoder.digest}
    write_results("prior", {"decoder": about, "episodes": episodes, "rows": rows})


if __name__ == "__main__":
    typer.run(main)
