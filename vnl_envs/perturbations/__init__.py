"""Perturbations: what differs by episode in body, world, actions and observations.

Everything random is decided by the Episode: factors are parts of it, and what changes from step to
step (noise, pushes, repeated actions) follows from its seed and the step's number. So the same
Episode is the same perturbation on every engine that supports it. `docs/perturbations.md` has the
meanings.
"""

from vnl_envs.perturbations.configuration import Perturbations, markdown_table, option_text
from vnl_envs.perturbations.kind import PREFIX
from vnl_envs.perturbations.kinds.push import Push
from vnl_envs.perturbations.task import PerturbedTask, perturbed

__all__ = [
    "PREFIX",
    "Perturbations",
    "PerturbedTask",
    "Push",
    "markdown_table",
    "option_text",
    "perturbed",
]
