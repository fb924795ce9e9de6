"""The view of the physics that tasks read, the same for every engine."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import array_api_compat
import numpy as np

Array = Any
"""A NumPy or JAX array; tasks are written for both."""

GRAVITY = 9.81
"""Acceleration of gravity, m/s², MuJoCo's default; every scene has it."""


# A tuple made once: building a union in every call costs as much as the check.
_NUMPY = (np.ndarray, np.generic)


def namespace(array: Array) -> Any:
    """The array library of an array, `numpy` or `jax.numpy`, with the names of the Array API.

    Only JAX arrays go through `array_api_compat`. NumPy has all the names since version 2.1, and
    the wrappers around it would double the time that a task takes for one simulation.
    """
    if isinstance(array, _NUMPY):
        return np
    return array_api_compat.array_namespace(array)


def columns(*arrays: Array) -> Array:
    """Stack n arrays (...,) on a new last axis, (..., n); takes a third of the time of `stack`."""
    return namespace(arrays[0]).concat([array[..., None] for array in arrays], axis=-1)


def pick(table: Array, index: Array) -> Array:
    """Entries (..., k) of a table (..., G); takes half the time of `take_along_axis`."""
    xp = namespace(table)
    batch, width = table.shape[:-1], table.shape[-1]
    rows = xp.arange(math.prod(batch)).reshape((*batch, 1))
    return table.reshape(-1)[rows * width + index]


@dataclass(frozen=True)
class Physics:
    """One body's state and the kinematics that belong to the same instant.

    Every array has the same leading batch shape ``...``. Indices are local to the body: row 0 of
    ``xpos`` is its root body, ``qpos[..., :7]`` its free joint.

    Attributes:
        qpos: (..., nq) positions: root position (m), root quaternion (w, x, y, z), joints (rad).
        qvel: (..., nv) velocities: root linear (m/s, world frame), root angular (rad/s, root
            frame), joints (rad/s).
        qfrc_actuator: (..., nv) forces of the actuators on the coordinates of `qvel` in the last
            physics step, N m.
        act: (..., na) actuator activation states.
        xpos: (..., nbody, 3) body frame origins, m, world frame.
        xquat: (..., nbody, 4) body orientations, world frame.
        xmat: (..., nbody, 9) the same orientations as row-major rotation matrices.
        xipos: (..., nbody, 3) body centres of mass, m, world frame.
        geom_xpos: (..., ngeom, 3) geom centres, m, world frame.
        geom_xmat: (..., ngeom, 9) geom orientations as row-major rotation matrices.
    """

    qpos: Array
    qvel: Array
    qfrc_actuator: Array
    act: Array
    xpos: Array
    xquat: Array
    xmat: Array
    xipos: Array
    geom_xpos: Array
    geom_xmat: Array

    def __getitem__(self, rows: Any) -> Physics:
        """The view of the selected rows of the leading batch axis."""
        return Physics(*(getattr(self, f.name)[rows] for f in fields(self)))
