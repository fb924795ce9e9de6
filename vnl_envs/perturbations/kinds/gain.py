"""Strength of the actuators."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from vnl_envs.perturbations.factors import FieldFactor, factor
from vnl_envs.tasks.task import Task


class Gain(FieldFactor):
    """One factor for the actuators' forces at a given state and control.

    The bounds of the forces are scaled as well: unscaled bounds would limit a strong motor.

    Raises:
        ValueError: an actuator is neither a servo nor a motor.
    """

    settings = (
        factor(
            "gain",
            0.9,
            "actuators' forces and their bounds times one factor; the target pose of a servo stays",
            in_every_hash=True,
        ),
    )
    fields = ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange")

    def __init__(self, task: Task, *sizes: float) -> None:
        super().__init__(task, *sizes)
        _check_linear(task.world.model, self._rows)

    @staticmethod
    def rows(task: Task) -> np.ndarray[Any, Any]:
        """The animal's actuators."""
        rows = np.zeros(task.world.model.nu, bool)
        rows[task.body.ctrl] = True
        return rows


def _check_linear(model: mujoco.MjModel, rows: np.ndarray[Any, Any]) -> None:
    """Check that forces are linear in the gain and bias parameters, which scale them.

    Raises:
        ValueError: an actuator is neither a servo nor a motor.
    """
    gains = [mujoco.mjtGain.mjGAIN_FIXED.value, mujoco.mjtGain.mjGAIN_AFFINE.value]
    biases = [mujoco.mjtBias.mjBIAS_NONE.value, mujoco.mjtBias.mjBIAS_AFFINE.value]
    linear = np.isin(model.actuator_gaintype, gains) & np.isin(model.actuator_biastype, biases)
    if not linear[rows].all():
        raise ValueError("the perturbation 'gain' needs actuators that are servos or motors")
