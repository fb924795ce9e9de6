"""Distributional maximum a posteriori policy optimisation (DMPO)."""

from baselines.dmpo.export import export_state
from baselines.dmpo.sb3 import DMPO
from baselines.dmpo.state import Hyperparameters, Learner

__all__ = ["DMPO", "Hyperparameters", "Learner", "export_state"]
