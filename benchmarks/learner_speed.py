"""Updates per second of DMPO's learner, compared with the SAC of Stable-Baselines3 and of SBX.

    taskset -c 0 python -m benchmarks.learner_speed

All three get batches of the same size from a replay buffer of Stable-Baselines3. Their networks
have the same layers, with the observations and actions of the rat's goal-reaching. They take turns.
SBX (`pip install sbx-rl`) is left out if it is not installed. Their updates differ: SAC evaluates
two critics at one action, DMPO one critic at 20 actions with 51 atoms each. Writes
`results/learner_speed.json` beside this file and prints a markdown table.
"""

from __future__ import annotations

import functools
import os
from typing import Annotated, Any

import gymnasium
import numpy as np
import torch
import typer
from gymnasium import spaces
from stable_baselines3 import SAC

from baselines.dmpo import DMPO, Hyperparameters
from benchmarks.measuring import in_turns, rates, write_results

TASK = "vnl/RodentGoalReaching-v0"
STORED = 5_000


class Noise(gymnasium.Env[np.ndarray, np.ndarray]):
    """Normal observations of a task's size, whatever the action."""

    def __init__(self) -> None:
        env = gymnasium.make(TASK)
        shape = env.observation_space.shape
        env.close()
        self.observation_space = spaces.Box(-np.inf, np.inf, shape, np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, env.action_space.shape, np.float32)
        self._rng = np.random.default_rng(0)

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """An observation."""
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Another one, with a reward in [0, 1]."""
        return self._observation(), float(self._rng.random()), False, self._rng.random() < 0.01, {}

    def _observation(self) -> np.ndarray:
        return self._rng.normal(size=self.observation_space.shape).astype(np.float32)


def learners(layers: list[int], batch: int) -> dict[str, Any]:
    """Algorithms with `STORED` random transitions in their buffers."""
    sac = {
        "policy_kwargs": {"net_arch": layers},
        "batch_size": batch,
        "buffer_size": STORED,
        "learning_starts": 2 * STORED,
        "seed": 0,
    }
    h = Hyperparameters(policy_layers=layers, critic_layers=layers, batch_size=batch, n_step=1)
    made = {
        "DMPO": DMPO("MlpPolicy", Noise(), h, STORED, learning_starts=2 * STORED, seed=0),
        "SB3 SAC": SAC("MlpPolicy", Noise(), device="cpu", **sac),
    }
    try:
        import sbx
    except ImportError:
        print("SBX is not installed: left out")
    else:
        made["SBX SAC"] = sbx.SAC("MlpPolicy", Noise(), **sac)
    for model in made.values():
        model.learn(STORED)
    return made


def main(
    layers: Annotated[list[int] | None, typer.Option(help="layer widths of every network")] = None,
    batch: Annotated[int, typer.Option(min=1)] = 256,
    updates: Annotated[int, typer.Option(min=1, help="updates in a round")] = 32,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Measure, write and print."""
    layers = layers or [256, 256]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    made = learners(layers, batch)
    contenders = {name: functools.partial(m.train, updates, batch) for name, m in made.items()}
    spent = in_turns(contenders, rounds)
    rows = rates(spent, updates, "updates")
    content = {
        "cores_used": len(os.sched_getaffinity(0)),
        "layers": layers,
        "batch": batch,
        "updates": updates,
        "learners": {name: {**row, "seconds": spent[name].tolist()} for name, row in rows.items()},
    }
    packages = ("jax", "torch", "stable-baselines3", *(["sbx-rl"] if "SBX SAC" in made else []))
    write_results("learner_speed", content, *packages)
    print("| learner | updates/s | updates/CPU s |\n|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['updates_per_s']:.1f} | {row['updates_per_cpu_s']:.1f} |")


if __name__ == "__main__":
    typer.run(main)
