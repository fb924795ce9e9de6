"""Where a training second of the PPO baseline goes.

python -m benchmarks.training_time vnl/RodentGoalReaching-v0 --updates 40
"""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import torch
import typer

from baselines import hyperparameters
from baselines.ppo import PPO, Hyperparameters, Network, training_envs
from vnl_envs import benchmark


class Stopwatch:
    """Adds up the time that calls of some methods take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def watch(self, name: str, owner: Any, method: str) -> None:
        """Time every call of `owner.method` under `name`."""
        called, self.seconds[name] = getattr(owner, method), 0.0

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return called(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - start

        setattr(owner, method, timed)


def measure(task_id: str, updates: int) -> dict[str, Any]:
    """Steps per second of training, and fractions of its time.

    "physics" is the engine's step, "task" the rest of the environment's (rewards, observations,
    resets), "policy" choosing actions, "update" the gradient steps, "python" what remains: SB3's
    loop, normalisation and its buffer.

    Args:
        task_id: a registered id.
        updates: how many, after two that are not counted.
    """
    torch.set_num_threads(1)
    h = hyperparameters.load(Hyperparameters, Network.file, task_id)
    model = PPO(training_envs(task_id, h), h, seed=0)
    size = h.update_steps
    model.learn(2 * size, reset_num_timesteps=False)
    watch = Stopwatch()
    watch.watch("physics", model.vector.core.engine, "step")
    watch.watch("environment", model.vector, "step")
    watch.watch("policy", model.policy, "forward")
    watch.watch("update", model, "train")
    start = time.perf_counter()
    model.learn(updates * size, reset_num_timesteps=False)
    total = time.perf_counter() - start
    spent = watch.seconds
    spent["task"] = spent.pop("environment") - spent["physics"]
    spent["python"] = total - sum(spent.values())
    return {
        "task": task_id,
        "steps_per_s": updates * size / total,
        "fractions": {name: seconds / total for name, seconds in spent.items()},
    }


def main(
    task_ids: Annotated[list[str], typer.Argument(help="task ids")],
    updates: Annotated[int, typer.Option(min=1, help="counted updates")] = 20,
) -> None:
    """Measure where the time goes and print it as JSON."""
    rows = [measure(task_id, updates) for task_id in task_ids]
    print(json.dumps({"machine": benchmark.machine(), "rows": rows}, indent=2))


if __name__ == "__main__":
    typer.run(main)
