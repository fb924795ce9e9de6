"""Controls with which servos hold the poses of a clip and carry their loads."""

from __future__ import annotations

import mujoco
import numpy as np

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.checking.dynamics import actuator_loads
from vnl_envs.motion.clip import RATE
from vnl_envs.motion.kinematics import Reference


def load_controls(reference: Reference, body: BodyModel) -> np.ndarray:
    """Controls of position servos for each frame of the clips, (F, nu), within their limits.

    At the length of the pose, a servo with this control exerts the force of `actuator_loads`. If
    its activation lags behind its control (a first-order filter), the filter's inverse is applied.

    Args:
        reference: clips with F frames in total.
        body: body whose actuators are servos.
    """
    model, rows = body.model, body.ctrl
    force = actuator_loads(reference, body).force
    activation = reference.servo + force / model.actuator_gainprm[rows, 0]
    filtered = model.actuator_dyntype[rows] != mujoco.mjtDyn.mjDYN_NONE
    lag = np.where(filtered, model.actuator_dynprm[rows, 0], 0.0)
    controls = activation.copy()
    for first, length in zip(reference.first, reference.length, strict=True):
        if length > 1:
            clip = slice(first, first + length)
            controls[clip] += lag * np.gradient(activation[clip], 1 / RATE, axis=0)
    return np.clip(controls, *model.actuator_ctrlrange[rows].T)
