"""Friction of the body and of the ground."""

from __future__ import annotations

from typing import Any

import numpy as np

from vnl_envs.perturbations.factors import FieldFactor, factor
from vnl_envs.tasks.task import Task


class Friction(FieldFactor):
    """One factor for the friction of the animal's geoms and the ground's.

    A contact has the greater friction of its two geoms, so both change.
    """

    settings = (
        factor(
            "friction",
            0.99,
            "all friction coefficients of body and ground times one factor",
            in_every_hash=True,
        ),
    )
    fields = ("geom_friction",)

    @staticmethod
    def rows(task: Task) -> np.ndarray[Any, Any]:
        """All geoms except those of other animals."""
        rows = np.ones(task.world.model.ngeom, bool)
        for other in task.world.bodies:
            if other is not task.body:
                rows[other.geoms] = False
        return rows
