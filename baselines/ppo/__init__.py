"""Proximal policy optimisation (PPO) on vector environments."""

from baselines.ppo.algorithm import PPO
from baselines.ppo.environments import training_envs
from baselines.ppo.export import export_state
from baselines.ppo.hyperparameters import Hyperparameters
from baselines.ppo.network import ALGORITHM, Network, mean_layers
from baselines.ppo.training import Training, finish

__all__ = [
    "ALGORITHM", "PPO", "Hyperparameters", "Network", "Training", "export_state", "finish",
    "mean_layers", "training_envs",
]  # fmt: skip
