"""Proximal policy optimisation (PPO) on functional environments, one jitted program an update."""

from baselines.ppo.algorithm import PPO
from baselines.ppo.export import export_state
from baselines.ppo.hyperparameters import Hyperparameters
from baselines.ppo.networks import Network
from baselines.ppo.training import Training

__all__ = ["PPO", "Hyperparameters", "Network", "Training", "export_state"]
