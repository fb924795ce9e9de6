"""Breakdown of the training time of the PPO baseline, and a comparison with Stable-Baselines3.

    python -m benchmarks.training_time

Both use the hyperparameters of their baselines and take turns of one update. The parts of our
update are also compiled and timed separately. Writes `results/training_time.json` beside this file
and prints a markdown table.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import typer
from stable_baselines3.common.vec_env import VecNormalize

from baselines import hyperparameters, ppo, ppo_sb3
from benchmarks.measuring import in_turns, rates, write_results
from vnl_envs import SB3VecEnv, make_functional, wrap_for_training

TASKS = ("vnl/RodentGoalReaching-v0", "vnl/HumanoidGoalReaching-v0")
SB3_STEPS = 32 * 64
"""Control steps of an update of `ppo_sb3`."""


class Parts:
    """One of our updates, and its parts: collection, estimation and gradient steps.

    Args:
        task_id: a registered id.
    """

    def __init__(self, task_id: str) -> None:
        self.h = hyperparameters.load(ppo.Hyperparameters, ppo.Network.files, task_id)
        env = make_functional(task_id, "native")
        network = ppo.Network(env.task, env.layout, self.h)
        self._algorithm = ppo.PPO(wrap_for_training(env), self.h, network)
        self._state = self._algorithm.init(jnp.uint32(0))
        self._collect = jax.jit(self._algorithm._collect)
        self._prepare = jax.jit(self._algorithm._prepare)
        self._learn = jax.jit(functools.partial(self._algorithm._learn, cloning=False))
        # A state of its own: updates donate theirs.
        self._still = self._algorithm.init(jnp.uint32(1))
        self.rollout()

    def update(self) -> None:
        """One update as one program."""
        self._state, _ = jax.block_until_ready(self._algorithm.iterate(self._state))

    def rollout(self) -> None:
        """Collection alone."""
        self._rolled = jax.block_until_ready(self._collect(self._still))

    def gradient_steps(self) -> None:
        """Estimation and gradient steps on what `rollout` collected."""
        state, rollout, _ = self._rolled
        jax.block_until_ready(self._learn(*self._prepare(state, rollout)))


def measure(task_id: str, updates: int) -> dict[str, Any]:
    """Steps per second of both, and seconds of the parts of one of our updates.

    Args:
        task_id: a registered id.
        updates: number of counted updates of each.
    """
    torch.set_num_threads(1)
    ours = Parts(task_id)
    model = ppo_sb3.make_model(VecNormalize(SB3VecEnv(task_id, 32), gamma=0.99), 0)
    # As many steps as in one of our updates.
    many = ours.h.update_steps // SB3_STEPS * SB3_STEPS
    contenders = {
        "PPO": ours.update,
        "rollout": ours.rollout,
        "gradient steps": ours.gradient_steps,
        "SB3": functools.partial(model.learn, many, reset_num_timesteps=False),
    }
    spent = in_turns(contenders, updates, uncounted=2)
    trainers = {name: spent[name] for name in ("PPO", "SB3")}
    medians = {name: np.median(rows, axis=0).tolist() for name, rows in spent.items()}
    ratio = float(np.median(spent["SB3"][:, 0] / spent["PPO"][:, 0]))
    return {
        "task": task_id,
        "steps": many,
        "trainers": rates(trainers, many, "steps"),
        "seconds_and_cpu_seconds": medians,
        "ratio": ratio,
    }


def main(updates: Annotated[int, typer.Option(min=1, help="counted updates of each")] = 8) -> None:
    """Measure, write and print."""
    rows = [measure(task_id, updates) for task_id in TASKS]
    write_results("training_time", {"rows": rows}, "jax", "torch", "stable-baselines3")
    headings = ("task", "PPO, steps/s", "SB3", "ratio", "rollout, s", "gradient steps, s")
    print("| " + " | ".join(headings) + " |\n" + "|---" * len(headings) + "|")
    for row in rows:
        ours, theirs = (row["trainers"][name]["steps_per_s"] for name in ("PPO", "SB3"))
        seconds = row["seconds_and_cpu_seconds"]
        print(
            f"| `{row['task']}` | {ours:.0f} | {theirs:.0f} | {row['ratio']:.2f} | "
            f"{seconds['rollout'][0]:.2f} | {seconds['gradient steps'][0]:.2f} |"
        )


if __name__ == "__main__":
    typer.run(main)
