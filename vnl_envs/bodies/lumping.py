"""Joint damping inside the inertia: implicit steps whose contacts know what they push.

`docs/physics.md` has the measurements: at equal depth of contact it allows coarser steps than
MuJoCo's `implicitfast`, and each step is cheaper.
"""

from __future__ import annotations

import mujoco
import numpy as np


def lump(model: mujoco.MjModel, ground: np.ndarray) -> None:
    """Make Euler steps of a compiled model implicit in joint damping, and keep contacts stiff.

    Args:
        model: changed in place, for the time step that it has.
        ground: ids of the geoms whose contacts count.
    """
    lump_damping(model)
    keep_contact_stiffness(model, ground)


def lump_damping(model: mujoco.MjModel) -> None:
    """Move joint damping into the inertia.

    The implicit step ``(M + hD) (v' - v) = h (f - D v)`` is the explicit step of a model with
    armature ``hD`` more. MuJoCo's own implicit steps solve the constraints with M and only then
    divide by M + hD, so that contacts push less than the solver thinks; here it knows.
    """
    model.dof_armature[:] += model.opt.timestep * model.dof_damping
    model.tendon_armature[:] += model.opt.timestep * model.tendon_damping
    mujoco.mj_setConst(model, mujoco.MjData(model))
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_EULERDAMP


def keep_contact_stiffness(model: mujoco.MjModel, ground: np.ndarray) -> None:
    """Where a contact's time constant is below two steps, lengthen it at the same stiffness.

    MuJoCo raises the time constant T to 2h by itself and keeps the damping ratio r, which divides
    the stiffness 1 / (T r)² by up to (2h / T)². This keeps T r. The bound r = 1/2, T = 2h is the
    row that stops in one step.
    """
    time_constant, ratio = model.geom_solref[ground].T
    longer = np.maximum(time_constant, 2 * model.opt.timestep)
    ratio = np.where(longer > time_constant, np.maximum(ratio * time_constant / longer, 0.5), ratio)
    model.geom_solref[ground] = np.stack([longer, ratio], axis=1)
