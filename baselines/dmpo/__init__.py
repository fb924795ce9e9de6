"""Distributional maximum a posteriori policy optimisation (DMPO)."""

from baselines.dmpo.sb3 import DMPO
from baselines.dmpo.state import Hyperparameters, Learner

__all__ = ["DMPO", "Hyperparameters", "Learner"]
