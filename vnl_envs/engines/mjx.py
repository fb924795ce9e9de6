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

# MJX prints that Warp is missing, which is nothing to those who do not ask for Warp.
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

# By default a GPU rounds what it multiplies in a product of matrices to 10 bits.
_PRECISION = "highest"

BATCH = {"cpu": 64, "gpu": 8192}
"""For how many simulations Warp's contact buffer has room by default, by JAX backend."""

CONTACTS_PER_GEOM = 2
"""Room for contacts in one simulation, for each geom of a moving body that collides.

A capsule that lies on a plane or on a box has two contacts, one at each end. How many there really
are, and how many constraint rows, is measured by `benchmarks/contact_buffers.py`; the largest
numbers in any simulation, in runs of random actions and of each task, beside the room:

    rodent, floor: contacts 26 of 44, rows 105 of 243
    rodent, gaps: contacts 22 of 44, rows 89 of 243
    humanoid, floor: contacts 14 of 28, rows 56 of 168
    humanoid, gaps: contacts 12 of 28, rows 50 of 168

The pairs that the broad phase hands on need room in the same buffer: at most 22, 17, 11 and 12.
"""

ROWS_PER_CONTACT = 4
"""Constraint rows of a contact with sliding friction and a pyramidal cone."""


def check_impl(impl: str) -> None:
    """Look whether an implementation can be used here, and make Warp quiet.

    Raises:
        ValueError: there is no such implementation.
        RuntimeError: it is not installed.
    """
    if impl not in get_args(Impl):
        raise ValueError(f"unknown impl {impl!r}; there are {list(get_args(Impl))}")
    if impl == "warp" and not mjx_warp.WARP_INSTALLED:
        raise RuntimeError("impl='warp' needs MJX-Warp: pip install vnl_envs[warp]")
    if impl == "warp":
        import warp

        # Its banner and a line per kernel would end up in what a program prints.
        warp.config.log_level = max(warp.config.log_level, warp.LOG_WARNING)


def room(model: mujoco.MjModel) -> tuple[int, int]:
    """Contacts and constraint rows that Warp's buffers hold for one simulation by default."""
    collides = (model.geom_contype | model.geom_conaffinity) > 0
    scenery = (model.body_weldid == 0) | (model.body_mocapid >= 0)
    moves = ~scenery[model.geom_bodyid]
    contacts = CONTACTS_PER_GEOM * int((collides & moves).sum())
    limits = int(model.jnt_limited.sum() + model.tendon_limited.sum())
    return contacts, limits + ROWS_PER_CONTACT * contacts


class MjxEngine:
    """Simulations of a model in JAX. Arrays have no batch axis: use `jax.vmap`.

    MJX-JAX has room for every contact and constraint that the model could ever have. Warp has
    buffers of a fixed size. That of constraint rows is each simulation's own. That of contacts is
    one for a whole batch: under `jax.vmap` MJX keeps it without a batch axis, and `contacts` is
    its size whatever the batch. So two Warp states are merged by `mjx.Data.where` (or field by
    field), never by `jax.tree.map`, which would give the buffer a batch axis. What does not fit
    is left out, Warp prints a line, and `overflow` tells.

    A step of MJX-JAX differs from C MuJoCo's by float32 rounding alone (1e-15 in float64), one of
    Warp too except for the direction of friction under steep capsules on a plane, which Warp
    turns otherwise (`_align_capsules`).

    Args:
        model: the compiled model; options are patched on a copy.
        impl: "jax" or "warp".
        contacts: Warp's room for contacts in all simulations of a batch together; None is enough
            for `BATCH` simulations.
        rows: Warp's room for constraint rows in one simulation; None is `room`'s.

    Attributes:
        model: the model on the device, to be given to every method, with or without edits.
        impl: as given.

    Raises:
        ValueError, RuntimeError: see `check_impl`.
        NotImplementedError: MJX has no such thing as the model asks for.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        impl: Impl,
        contacts: int | None = None,
        rows: int | None = None,
    ) -> None:
        check_impl(impl)
        self.impl = impl
        model = copy.copy(model)
        # Neither ever resets a simulation by itself; Warp refuses to be told not to.
        model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        if impl == "jax":
            # The solver's matrices are dense anyway, and dense code is far shorter.
            model.opt.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
            _average_impedance(model)
            self._integrate = _integrator(model)
            self._tree = Tree(model)
            self.model = mjx.put_model(model, impl=impl)
            new = mjx.make_data(model, impl=impl)
        else:
            # Beyond 60 velocities Warp refuses dense matrices.
            model.opt.jacobian = mujoco.mjtJacobian.mjJAC_AUTO
            self.model = _quiet(mjx.put_model(model, impl=impl))
            each, most = room(model)
            batch = BATCH["cpu" if jax.default_backend() == "cpu" else "gpu"]
            contacts = contacts or batch * each
            new = mjx.make_data(model, impl=impl, naconmax=contacts, njmax=rows or most)
        leaves, self._structure = jax.tree.flatten(new)
        self._leaves = [_Leaf(leaf) for leaf in leaves]

    def start(
        self,
        model: mjx.Model,
        body: BodyModel,
        qpos: Array,
        qvel: Array,
        act: Array,
        mocap_pos: Array | None = None,
    ) -> mjx.Data:
        """A simulation in a state, everything else as in a new one; derived values are current.

        Args:
            model: the engine's, or an edited one.
            body: whose state it is; other bodies are at their model's defaults.
            qpos: (nq,). qvel: (nv,). act: (na,).
            mocap_pos: (nmocap, 3) positions of movable scenery, m; None is where the model has it.
        """
        data = jax.tree.unflatten(self._structure, [leaf.array() for leaf in self._leaves])
        data = data.replace(
            qpos=_set(data.qpos, body.qpos, qpos),
            qvel=_set(data.qvel, body.qvel, qvel),
            act=_set(data.act, body.act, act),
        )
        data = self._place(data, body, mocap_pos, None)
        with jax.default_matmul_precision(_PRECISION):
            return self._derive(model, data)

    def step(
        self,
        model: mjx.Model,
        data: mjx.Data,
        body: BodyModel,
        ctrl: Array,
        substeps: int,
        mocap_pos: Array | None = None,
        force: Array | None = None,
    ) -> mjx.Data:
        """Advance a simulation; derived values describe the instant of its qpos and qvel.

        MJX-JAX feels scenery that moves from the second substep on: the contacts of the first are
        those that the last call left. It is the same, as long as nothing touches what moves.

        Args:
            model: the engine's, or an edited one.
            data: the state, from `start` or `step`.
            body: whose controls and root these are.
            ctrl: (nu,) controls.
            substeps: physics steps, a Python integer.
            mocap_pos: (nmocap, 3) positions of movable scenery, m; None leaves it where it is.
            force: (3,) on the body's root at its centre of mass, N, world frame; None is 0.
        """
        force = jnp.zeros(3) if force is None else force
        data = self._place(data, body, mocap_pos, force)
        data = data.replace(ctrl=_set(data.ctrl, body.ctrl, ctrl))
        with jax.default_matmul_precision(_PRECISION):
            data, _ = jax.lax.scan(
                lambda data, _: (self._substep(model, data), None), data, None, length=substeps
            )
            return data if self.impl == "jax" else mjx.forward(model, data)

    def physics(self, data: mjx.Data, body: BodyModel) -> Physics:
        """What a task may read of one body. Takes any leading batch axes too."""
        batch = (slice(None),) * (data.qpos.ndim - 1)
        rows = {name: getattr(data, name)[(*batch, span)] for name, span in body.spans.items()}
        for name in ("xmat", "geom_xmat"):
            rows[name] = rows[name].reshape(*rows[name].shape[:-2], 9)
        return Physics(**rows)

    def diverged(self, data: mjx.Data) -> Array:
        """Whether a velocity is not below `MAX_SPEED` or a position not a number, bool.

        Takes any leading batch axes too.
        """
        # A comparison with NaN is False.
        slow = (jnp.abs(data.qvel) < MAX_SPEED).all(axis=-1)
        return ~(slow & (jnp.abs(data.qpos) < mujoco.mjMAXVAL).all(axis=-1))

    def overflow(self, data: mjx.Data) -> Array:
        """Whether contacts or constraint rows did not fit in any step since `start`, bool.

        A contact buffer that is full counts against all simulations of the batch. Always False
        for MJX-JAX. Takes any leading batch axes too.
        """
        if self.impl == "jax":
            return jnp.zeros(data.qpos.shape[:-1], bool)
        return (data._impl.overflow & _lost()) != 0

    def _place(
        self, data: mjx.Data, body: BodyModel, mocap_pos: Array | None, force: Array | None
    ) -> mjx.Data:
        """Move scenery and push a body's root; None leaves them as they are."""
        if mocap_pos is not None:
            data = data.replace(mocap_pos=jnp.asarray(mocap_pos, data.mocap_pos.dtype))
        if force is not None:
            push = np.s_[body.bodies.start, :3]
            data = data.replace(xfrc_applied=_set(data.xfrc_applied, push, force))
        return data

    def _substep(self, m: mjx.Model, d: mjx.Data) -> mjx.Data:
        if self.impl == "warp":
            return mjx.step(m, d)
        # Everything that depends on position and velocity is current: the last substep, or
        # `start`, has computed it. MJX's own order leaves it one substep behind.
        d = mjx.fwd_actuation(m, d)
        d = self._accelerate(m, d)
        return self._derive(m, self._integrate(m, d))

    def _accelerate(self, m: mjx.Model, d: mjx.Data) -> mjx.Data:
        """Accelerations without and with constraints (MJX-JAX)."""
        applied = d.qfrc_applied + self._tree.applied(d)
        force = d.qfrc_passive - d.qfrc_bias + d.qfrc_actuator + applied
        smooth = jax.scipy.linalg.cho_solve((d._impl.qLD, False), force)
        d = d.replace(qfrc_smooth=force, qacc_smooth=smooth, qacc=smooth)
        return mjx.solve(m, d) if d._impl.efc_J.size else d

    def _derive(self, m: mjx.Model, d: mjx.Data) -> mjx.Data:
        """All that follows from positions and velocities."""
        if self.impl == "warp":
            return mjx.forward(m, d)
        tree = self._tree
        for compute in (
            tree.kinematics,
            tree.com_pos,
            mjx.tendon,
            tree.crb,
            mjx.tendon_armature,
            mjx.factor_m,
            mjx.collision,
            _align_capsules,
            mjx.make_constraint,
            mjx.transmission,
        ):
            d = compute(m, d)
        d = d.tree_replace(
            {
                "_impl.actuator_velocity": d._impl.actuator_moment @ d.qvel,
                "_impl.ten_velocity": d._impl.ten_J @ d.qvel,
            }
        )
        for compute in (tree.com_vel, mjx.passive, tree.rne, mjx.tendon_bias):
            d = compute(m, d)
        return d


class _Leaf:
    """One array of a new simulation. A constant one is kept as its shape and value.

    Compiled code then makes Warp's large and empty buffers, in place of carrying them along.
    """

    def __init__(self, leaf: Array) -> None:
        value = np.asarray(leaf)
        constant = value.size > 0 and (value == value.flat[0]).all()
        self._value = value.flat[0] if constant else value
        self._shape, self._dtype = value.shape, value.dtype

    def array(self) -> Array:
        return jnp.broadcast_to(jnp.asarray(self._value, self._dtype), self._shape)


def _set(array: Array, where: Any, value: Array) -> Array:
    """An array with other values somewhere, in its own type."""
    return array.at[where].set(jnp.asarray(value, array.dtype))


def _integrator(model: mujoco.MjModel) -> Any:
    """MJX-JAX's function for the integrator that a model asks for."""
    kinds = mujoco.mjtIntegrator
    functions = {kinds.mjINT_EULER: mjx.euler, kinds.mjINT_IMPLICITFAST: mjx.implicit}
    try:
        return functions[kinds(model.opt.integrator)]
    except KeyError:
        names = [kind.name for kind in functions]
        raise NotImplementedError(
            f"impl='jax' has the integrators {names}, not {kinds(model.opt.integrator).name}"
        ) from None


def _average_impedance(model: mujoco.MjModel) -> None:
    """Make MJX-JAX do what MuJoCo does with an impedance that changes over no width.

    MuJoCo and Warp take the mean of its two ends, MJX-JAX the upper end: on the rat's joint limits
    that is fifty times as stiff. Where the width is huge, the lower end is all that matters.
    """
    for name in ("jnt_solimp", "dof_solimp", "tendon_solimp_lim", "tendon_solimp_fri"):
        solimp = getattr(model, name)
        flat = solimp[:, 2] <= mujoco.mjMINVAL
        ends = np.clip(solimp[flat, :2], mujoco.mjMINIMP, mujoco.mjMAXIMP)
        solimp[flat, 0], solimp[flat, 2] = ends.mean(axis=1), mujoco.mjMAXVAL


def _align_capsules(m: mjx.Model, d: mjx.Data) -> mjx.Data:
    """Turn the friction pyramid of a capsule on a plane along the capsule, as MuJoCo does.

    MJX turns it along the world's axes where the capsule is steeper than 60 degrees.
    """
    contact = d._impl.contact
    if not contact.dist.size:
        return d
    kind = jnp.asarray(m.geom_type)[contact.geom]
    wanted = (int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_CAPSULE))
    normal, axis = contact.frame[:, 0], d.geom_xmat[contact.geom[:, 1], :, 2]
    along = axis - normal * (normal * axis).sum(axis=1, keepdims=True)
    square = (along * along).sum(axis=1, keepdims=True)
    lies = square > 1e-10
    along = along / jnp.sqrt(jnp.where(lies, square, 1))
    frame = jnp.stack([normal, along, jnp.cross(normal, along)], axis=1)
    aligned = (kind == np.array(wanted)).all(axis=1) & lies[:, 0]
    frame = jnp.where(aligned[:, None, None], frame, contact.frame)
    return d.tree_replace({"_impl.contact.frame": frame})


def _lost() -> int:
    """Warp's flags for what did not fit, as opposed to a solver that used all its iterations."""
    flags = mjx_warp.mjwp_types.OverflowType
    return int(flags.ALL & ~(flags.ITERATIONS | flags.LS_ITERATIONS))


def _quiet(model: mjx.Model) -> mjx.Model:
    """Warp would print whenever the solver uses all the iterations that our models allow it."""
    return model.tree_replace({"opt._impl.warn_overflow": _lost()})
