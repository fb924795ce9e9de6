"""Writes the golden rollouts: `python tests/tasks/golden/make.py [ID ...]`, all ids without any.

Each is a short seeded rollout of one id beside its `env_hash`. A changed physics, observation or
reward shows as a difference; a difference with the old hash is a bug, and one with a new hash asks
for a new version of the id (docs/versioning.md) or, before the first release, for this script.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import vnl_envs

FOLDER = Path(__file__).parent
STEPS = 20


def path_of(task_id: str) -> Path:
    """Where the golden rollout of an id is."""
    return FOLDER / (task_id.replace("/", "_") + ".json")


def summary(task_id: str) -> dict[str, Any]:
    """The rollout of an id: seed 0, small random actions, up to 20 steps of one episode."""
    env = gymnasium.make(task_id, disable_env_checker=True).unwrapped
    rng = np.random.default_rng(0)
    first, _ = env.reset(seed=0)
    rewards: list[float] = []
    for _ in range(STEPS):
        action = rng.uniform(-0.2, 0.2, env.action_space.shape).astype(np.float32)
        last, reward, terminated, truncated, _ = env.step(action)
        rewards.append(reward)
        if terminated or truncated:
            break
    return {
        "id": task_id,
        "env_hash": env.env_hash,
        "layout": {name: [s.start, s.stop] for name, s in env.layout.items()},
        "first": _digest(first),
        "last": _digest(last),
        "rewards": rewards,
        "end": [terminated, truncated],
    }


def _digest(observation: np.ndarray) -> dict[str, Any]:
    values = observation.astype(float)
    return {
        "sum": values.sum(),
        "sum_of_squares": (values**2).sum(),
        "every_17th": values[::17].tolist(),
    }


def main() -> None:
    """Write the files."""
    for task_id in sys.argv[1:] or vnl_envs.task_ids():
        text = json.dumps(summary(task_id), indent=1)
        path_of(task_id).write_text(text + "\n")
        print(f"wrote {path_of(task_id).name}")


if __name__ == "__main__":
    main()
