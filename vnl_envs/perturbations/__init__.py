"""Perturbations: changes of body, world, actions and observations that differ by episode.

The Episode decides everything random. Factors are parts of it. Values that change from step to
step (noise, pushes, repeated actions) follow from its seed and the step's number. So the same
Episode gives the same perturbation on every engine that supports it. `docs/perturbations.md`
describes all perturbations.
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
