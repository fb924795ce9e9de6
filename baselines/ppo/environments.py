"""The environments that PPO's training sees."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from baselines.ppo.hyperparameters import Hyperparameters
from baselines.ppo.network import Network
from vnl_envs import SB3VecEnv


class Survival(VecEnvWrapper):
    """Adds a reward to every step that training sees, so that falling costs what it would earn.

    Args:
        venv: the environments.
        reward: for a step.
    """

    def __init__(self, venv: VecEnv, reward: float) -> None:
        super().__init__(venv)
        self.reward = reward

    def reset(self) -> VecEnvObs:
        """As the environments do."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """As the environments do, with more reward."""
        observation, reward, done, infos = self.venv.step_wait()
        return observation, reward + np.float32(self.reward), done, infos


def training_envs(
    task_id: str, h: Hyperparameters, network: Network | None = None, **options: Any
) -> VecNormalize:
    """The environments that training sees, and normalises, with a network.

    Args:
        task_id, options: see `vnl_envs.make_task`.
        h: hyperparameters.
        network: the policy's.

    Raises:
        ValueError: an unknown id or option, or a task that the network is not for.
    """
    bare = SB3VecEnv(task_id, h.num_envs, **options)
    surviving = Survival((network or Network()).inside(bare), h.survival)
    return VecNormalize(surviving, gamma=h.gamma, clip_obs=h.clip_observation)
