"""Learning curve of DMPO on dm_control's cartpole-swingup, for which published curves exist.

    python -m benchmarks.learning_cartpole

Uses the Stable-Baselines3 class with Acme's settings, except for the critic's support and widths.
Writes the returns of mean actions to `baselines/results/dmpo/cartpole-swingup.csv` during training.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
import torch
import typer
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv
from tqdm.auto import tqdm

import baselines
from baselines.dmpo import DMPO, Hyperparameters
from vnl_envs.utils.files import written_whole
from vnl_envs.utils.opengl import quiet_dm_control

RESULTS = Path(baselines.__file__).parent / "results" / "dmpo" / "cartpole-swingup.csv"
COLUMNS = ("step", "seconds", "seed", "updates", "return", "lowest_return")
NUM_ENVS, EVALUATE_EVERY, EPISODES = 4, 10_000, 5
EVALUATION_SEED = 1000
# A critic of 512, 512, 256 in Acme; rewards in [0, 1] have discounted returns of at most 100.
SETTINGS = Hyperparameters(critic_layers=(256, 256, 128), sigma=0.7, highest_return=100.0)


class Swingup(gymnasium.Env[np.ndarray, np.ndarray]):
    """cartpole-swingup of dm_control's suite: 1000 control steps, rewards in [0, 1], no failures.

    Args:
        seed: seed of the starts.
    """

    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    observation_space = spaces.Box(-np.inf, np.inf, (5,), np.float32)

    def __init__(self, seed: int) -> None:
        with quiet_dm_control():
            from dm_control import suite
        self._env = suite.load("cartpole", "swingup", {"random": seed})

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """First observation of the next episode."""
        return self._flat(self._env.reset()), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One control step of 10 ms."""
        after = self._env.step(action)
        return self._flat(after), float(after.reward), False, after.last(), {}

    @staticmethod
    def _flat(after: Any) -> np.ndarray:
        parts = [np.ravel(value) for value in after.observation.values()]
        return np.concatenate(parts).astype(np.float32)


def environments(count: int, seed: int) -> DummyVecEnv:
    """Environments with different starts."""
    return DummyVecEnv([lambda i=i: Swingup(seed + i) for i in range(count)])


def main(
    steps: Annotated[int, typer.Option(min=1, help="steps of all environments together")] = 500_000,
    seed: Annotated[int, typer.Option(min=0, help="seed of all random numbers")] = 0,
    out: Annotated[Path, typer.Option(help="the CSV file to write")] = RESULTS,
) -> None:
    """Train, with evaluations at intervals."""
    torch.set_num_threads(1)
    model = DMPO("MlpPolicy", environments(NUM_ENVS, seed), SETTINGS, steps, seed=seed)
    evaluation = environments(EPISODES, EVALUATION_SEED)
    rows: list[tuple[float, ...]] = []
    since = time.perf_counter()
    for _ in tqdm(range(0, steps, EVALUATE_EVERY), unit_scale=EVALUATE_EVERY, unit="step"):
        model.learn(EVALUATE_EVERY, reset_num_timesteps=False)
        returns = evaluate_policy(model, evaluation, EPISODES, return_episode_rewards=True)[0]
        updates, seconds = int(model.policy.state.updates), round(time.perf_counter() - since)
        low, mean = round(float(np.min(returns)), 1), round(float(np.mean(returns)), 1)
        rows.append((model.num_timesteps, seconds, seed, updates, mean, low))
        with written_whole(out) as partial, partial.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])


if __name__ == "__main__":
    typer.run(main)
