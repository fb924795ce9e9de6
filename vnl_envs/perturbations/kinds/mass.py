"""Masses of the body."""

from __future__ import annotations

from typing import Any

import numpy as np

from vnl_envs.perturbations.factors import FieldFactor, factor
from vnl_envs.tasks.task import Task


class Mass(FieldFactor):
    """One factor for the masses and inertias of the animal's bodies."""

    settings = (
        factor(
            "mass",
            0.9,
            "all masses and inertias times one factor in [1 − x, 1 + x]",
            in_every_hash=True,
        ),
    )
    fields = ("body_mass", "body_inertia")

    @staticmethod
    def rows(task: Task) -> np.ndarray[Any, Any]:
        """The animal's bodies."""
        rows = np.zeros(task.world.model.nbody, bool)
        rows[task.body.bodies] = True
        return rows
