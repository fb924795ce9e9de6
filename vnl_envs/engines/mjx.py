"""MuJoCo in JAX: MJX-JAX (`impl="jax"`) and MJX-Warp (`impl="warp"`).

Pure functions of one simulation, for `jax.vmap`, `jax.jit` and `jax.lax.scan`.
"""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any, Literal, get_args

import mujoco
import numpy as np

# MJX prints that Warp is missing, which concerns nobody who does not ask for Warp.
with contextlib.redirect_stdout(io.StringIO()):
    try:
        import jax
        import jax.numpy as jnp
        from mujoco import mjx
        from mujoco.mjx import warp as mjx_warp
    except ImportError as error:
        raise RuntimeError("JAX environments need MJX: pip install vnl_envs[jax]") from error

from vnl_envs.bodies.body import BodyModel
from vnl_envs.engines.native import MAX_SPEED
from vnl_envs.engines.tree import Tree
from vnl_envs.physics import Physics

Impl = Literal["jax", "warp"]
Array = jax.Array

# MJX-JAX compiles to products of matrices, which a GPU would round to 10 bits.
_PRECISION = "highest"


def check_impl(impl: str) -> None:
    """Whether an implementation can be used here.

    Raises:
        ValueError: there is no such implementation.
        RuntimeError: it is not installed.
    """
    if impl not in get_args(Impl):
        raise ValueError(f"unknown impl {impl!r}; there are {list(get_args(Impl))}")
    if impl == "warp" and not mjx_warp.WARP_INSTALLED:
        raise RuntimeError("impl='warp' needs MJX-Warp: pip install vnl_envs[warp]")


class MjxEngine:
    """Simulations of a model in JAX. No argument of any method has a batch axis: use `jax.vmap`.

    Warp has fixed buffers, see `vnl_envs.engines.buffers`. That of contacts is one for all
    simulations of a batch: under `jax.vmap` MJX keeps it without a batch axis. That of constraint
    rows is each simulation's own. MJX-JAX allocates whatever the model could ever need.

    Args:
        model: the compiled model; the engine patches the options of a copy.
        impl: "jax" or "warp".
        contacts: room for contacts in all simulations of a batch together (Warp only); None is
            room for `buffers.BATCH` simulations.
        rows: room for constraint rows in each simulation (Warp only); None is `buffers.rows`.

    Attributes:
        model: the model on the device, the default of every `model` argument.
        impl, contacts, rows: as given, or chosen; None for MJX-JAX.

    Raises:
        ValueError, RuntimeError: see `check_impl`.
        NotImplementedError: MJX cannot simulate the model.
    """
