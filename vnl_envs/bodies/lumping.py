"""Joint damping as part of the inertia: implicit steps whose contact solver knows the damping.

At equal contact depth this allows longer steps than MuJoCo's `implicitfast`, and each step is
cheaper. `docs/physics.md` has the measurements.
"""

from __future__ import annotations

import mujoco
import numpy as np

from vnl_envs.bodies.muscles import lump_muscle_damping


def lump(model: mujoco.MjModel, ground: np.ndarray) -> None:
    """Make Euler steps of a compiled model implicit in damping, and keep contacts stiff.

    Args:
        model: model to change in place; its time step must be final.
        ground: ids of the geoms whose contact stiffness is kept.
    """
    lump_muscle_damping(model)
    lump_damping(model)
    keep_contact_stiffness(model, ground)


def lump_damping(model: mujoco.MjModel) -> None:
    """Move joint damping into the inertia.

    The implicit step ``(M + hD) (v' - v) = h (f - D v)`` equals the explicit step of a model with
    additional armature ``hD``. MuJoCo's own implicit steps solve the constraints with M and then
    divide by M + hD, so that contacts push less than the solver computed. Here the solver uses
    M + hD as well.
    """
    model.dof_armature[:] += model.opt.timestep * model.dof_damping
    model.tendon_armature[:] += model.opt.timestep * model.tendon_damping
    mujoco.mj_setConst(model, mujoco.MjData(model))
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_EULERDAMP


def keep_contact_stiffness(model: mujoco.MjModel, ground: np.ndarray) -> None:
    """Lengthen time constants of contacts below two time steps, at the same stiffness.

    MuJoCo itself raises the time constant T to 2h and keeps the damping ratio r, which divides the
    stiffness 1 / (T r)² by up to (2h / T)². This function keeps T r. At the bound r = 1/2, T = 2h
    a constraint row stops in one step.
    """
    time_constant, ratio = model.geom_solref[ground].T
    longer = np.maximum(time_constant, 2 * model.opt.timestep)
    ratio = np.where(longer > time_constant, np.maximum(ratio * time_constant / longer, 0.5), ratio)
    model.geom_solref[ground] = np.stack([longer, ratio], axis=1)
