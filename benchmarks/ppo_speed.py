"""Control steps a second that PPO trains at: Brax's on the functional API beside SB3's.

    python -m benchmarks.ppo_speed

Both with the hyperparameters of their baselines: as many environments, steps between updates,
gradient steps and layers. They take turns, an update each (collection and gradient steps). Writes
`results/ppo_speed.json` beside this file and prints a markdown table.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer

from baselines import hyperparameters, ppo, ppo_brax
from benchmarks.measuring import in_turns, rates, write_results

UNCOUNTED = 3


def measure(task_id: str, updates: int) -> dict[str, dict[str, float]]:
    """Rates of both, from `updates` updates of each."""
    torch.set_num_threads(1)
    h = hyperparameters.load(ppo.Hyperparameters, ppo.Network.file, task_id)
    b = hyperparameters.load(ppo_brax.Hyperparameters, ppo_brax.FILE, task_id)
    assert h.update_steps == b.update_steps, "other numbers of steps between updates"
    model = ppo.PPO(ppo.training_envs(task_id, h), h, seed=0)
    with tempfile.TemporaryDirectory() as temporary:
        training = ppo_brax.Training(task_id, 0, "native", Path(temporary, "run"), False, b)
        contenders = {
            "Brax, native": training.advance,
            "SB3": functools.partial(model.learn, 1, reset_num_timesteps=False),
        }
        spent = in_turns(contenders, updates, UNCOUNTED)
        training.close()
    return rates(spent, h.update_steps, "steps")


def main(
    task: Annotated[str, typer.Option(help="a task id")] = "vnl/RodentGoalReaching-v0",
    updates: Annotated[int, typer.Option(min=1, help="of each")] = 20,
) -> None:
    """Measure, write and print."""
    rows = measure(task, updates)
    content = {"task": task, "updates": updates, "trainers": rows}
    write_results("ppo_speed", content, "brax", "jax", "torch", "stable-baselines3")
    print("| PPO | steps/s | steps/CPU s |\n|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['steps_per_s']:.0f} | {row['steps_per_cpu_s']:.0f} |")


if __name__ == "__main__":
    typer.run(main)
