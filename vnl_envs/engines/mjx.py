"""MuJoCo in JAX: MJX-JAX (`impl="jax"`) and MJX-Warp (`impl="warp"`).

All functions are pure and take one simulation, for `jax.vmap`, `jax.jit` and `jax.lax.scan`.
"""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any, Literal, get_args

import mujoco
import numpy as np

# MJX prints a message when Warp is missing, which concerns only users of Warp.
with contextlib.redirect_stdout(io.StringIO()):
    try:
        import jax
        import jax.numpy as jnp
        from mujoco import mjx
        from mujoco.mjx import warp as mjx_warp
    except ImportError as error:
        raise RuntimeError("JAX environments need MJX: pip install vnl_envs[jax]") from error

from vnl_envs.bodies.model import BodyModel
from vnl_envs.engines.native import MAX_SPEED
from vnl_envs.engines.tree import Tree
from vnl_envs.physics import Physics

Impl = Literal["jax", "warp"]
Array = jax.Array

# By default a GPU rounds the factors of a matrix product to 10 bits.
_PRECISION = "highest"

BATCH = {"cpu": 64, "gpu": 8192}
"""Default number of simulations that Warp's contact buffer has room for, by JAX backend."""

CONTACTS_PER_GEOM = 2
"""Room for contacts in one simulation, per colliding geom of a moving body.

A capsule that lies on a plane or on a box has two contacts, one at each end.
`benchmarks/contact_buffers.py` measures the numbers of contacts and constraint rows. The largest
numbers in any simulation, with random actions in each task, and the room for them:

    rodent, floor: contacts 26 of 44, rows 105 of 243
    rodent, gaps: contacts 22 of 44, rows 89 of 243
    humanoid, floor: contacts 14 of 28, rows 56 of 168
    humanoid, gaps: contacts 12 of 28, rows 50 of 168

Pairs from the broad phase need room in the same buffer: at most 22, 17, 11 and 12.
"""

ROWS_PER_CONTACT = 4
"""Constraint rows of a contact with sliding friction and a pyramidal cone."""


def check_impl(impl: str) -> None:
    """Check that an implementation can be used here, and make Warp quiet.

    Raises:
        ValueError: there is no implementation of this name.
        RuntimeError: the implementation is not installed.
    """
    if impl not in get_args(Impl):
        raise ValueError(f"unknown impl {impl!r}; there are {list(get_args(Impl))}")
    if impl == "warp" and not mjx_warp.WARP_INSTALLED:
        raise RuntimeError("impl='warp' needs MJX-Warp: pip install vnl_envs[warp]")
    if impl == "warp":
        import warp

        # Warp would print a banner and a line per kernel.
        warp.config.log_level = max(warp.config.log_level, warp.LOG_WARNING)


def room(model: mujoco.MjModel) -> tuple[int, int]:
    """Default numbers of contacts and constraint rows in Warp's buffers for one simulation."""
    collides = (model.geom_contype | model.geom_conaffinity) > 0
    scenery = (model.body_weldid == 0) | (model.body_mocapid >= 0)
    moves = ~scenery[model.geom_bodyid]
    contacts = CONTACTS_PER_GEOM * int((collides & moves).sum())
    limits = int(model.jnt_limited.sum() + model.tendon_limited.sum())
    return contacts, limits + ROWS_PER_CONTACT * contacts


class MjxEngine:
    """Simulations of a model in JAX. Arrays have no batch axis: use `jax.vmap`.

    MJX-JAX has room for every contact and constraint that the model could ever have. Warp has
    buffers of fixed size: one of constraint rows for each simulation, and one of contacts for the
    whole batch. Under `jax.vmap` MJX keeps the contact buffer without a batch axis, and its size
    is `contacts` for any batch. Therefore merge two Warp states by `mjx.Data.where` (or field by
    field), never by `jax.tree.map`, which would give the buffer a batch axis. Contacts and rows
    that do not fit are left out; Warp prints a line, and `overflow` returns True.

    A step of MJX-JAX differs from one of C MuJoCo by float32 rounding only (by 1e-15 in float64).
    The same holds for Warp, except for the friction directions of steep capsules on a plane, see
    `_align_capsules`.

    Args:
        model: compiled model; options are patched on a copy.
        impl: "jax" or "warp".
        contacts: Warp's room for contacts in all simulations of a batch together; None is enough
            for `BATCH` simulations.
        rows: Warp's room for constraint rows in one simulation; None is the default of `room`.

    Attributes:
        model: model on the device. Every method takes it, or an edited copy.
        impl: as given.

    Raises:
        ValueError, RuntimeError: see `check_impl`.
        NotImplementedError: MJX does not support a feature of the model.
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
        # Neither implementation resets simulations by itself, and Warp refuses this flag.
        model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        if impl == "jax":
            # The solver's matrices are dense anyway, and code for dense matrices is far shorter.
            model.opt.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
            _average_impedance(model)
            self._integrate = _integrator(model)
            self._tree = Tree(model)
            self.model = mjx.put_model(model, impl=impl)
            new = mjx.make_data(model, impl=impl)
        else:
            # Warp refuses dense matrices for more than 60 velocities.
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
        """A new simulation in a given state. Derived values are current.

        Args:
            model: model of the engine, or an edited copy.
            body: body with this state; other bodies are at the model's defaults.
            qpos: (nq,) positions of the body, see `Physics`.
            qvel: (nv,) velocities of the body, see `Physics`.
            act: (na,) actuator activation states of the body.
            mocap_pos: (nmocap, 3) positions of movable scenery, m; None is the model's default.
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
        """Advance a simulation. Derived values describe the same instant as qpos and qvel.

        With MJX-JAX, moved scenery takes effect from the second substep on: the first one uses the
        contacts of the last call. This changes nothing while no geom touches the moved scenery.

        Args:
            model: model of the engine, or an edited copy.
            data: state, from `start` or `step`.
            body: body that is controlled and pushed.
            ctrl: (nu,) controls of the body.
            substeps: number of physics steps, a Python integer.
            mocap_pos: (nmocap, 3) positions of movable scenery, m; None leaves it in place.
            force: (3,) force on the body's root at its centre of mass, N, world frame; None is 0.
        """
        force = jnp.zeros(3) if force is None else force
        data = self._place(data, body, mocap_pos, force)
        data = data.replace(ctrl=_set(data.ctrl, body.ctrl, ctrl))
        with jax.default_matmul_precision(_PRECISION):
            data, _ = jax.lax.scan(
                lambda data, _: (self._substep(model, data), None), data, None, length=substeps
            )
            if self.impl == "jax":
                return data
            # The forces with which the last substep was made, as on the other engines.
            return mjx.forward(model, data).replace(qfrc_actuator=data.qfrc_actuator)

    def physics(self, data: mjx.Data, body: BodyModel) -> Physics:
        """The view of one body that tasks read. `data` may have leading batch axes."""
        batch = (slice(None),) * (data.qpos.ndim - 1)
        rows = {name: getattr(data, name)[(*batch, span)] for name, span in body.spans.items()}
        for name in ("xmat", "geom_xmat"):
            rows[name] = rows[name].reshape(*rows[name].shape[:-2], 9)
        return Physics(**rows)

    def diverged(self, data: mjx.Data) -> Array:
        """Whether a simulation has diverged, bool. `data` may have leading batch axes.

        It has if a velocity is not below `MAX_SPEED`, or a position is not below `mjMAXVAL` in
        magnitude; NaN is neither.
        """
        # A comparison with NaN is False.
        slow = (jnp.abs(data.qvel) < MAX_SPEED).all(axis=-1)
        return ~(slow & (jnp.abs(data.qpos) < mujoco.mjMAXVAL).all(axis=-1))

    def overflow(self, data: mjx.Data) -> Array:
        """Whether contacts or constraint rows did not fit in any step since `start`, bool.

        A full contact buffer counts for all simulations of the batch. The result is always False
        for MJX-JAX. `data` may have leading batch axes.
        """
        if self.impl == "jax":
            return jnp.zeros(data.qpos.shape[:-1], bool)
        return (data._impl.overflow & _lost()) != 0

    def _place(
        self, data: mjx.Data, body: BodyModel, mocap_pos: Array | None, force: Array | None
    ) -> mjx.Data:
        """Move scenery and set the force on a body's root; None changes nothing."""
        if mocap_pos is not None:
            data = data.replace(mocap_pos=jnp.asarray(mocap_pos, data.mocap_pos.dtype))
        if force is not None:
            push = np.s_[body.bodies.start, :3]
            data = data.replace(xfrc_applied=_set(data.xfrc_applied, push, force))
        return data

    def _substep(self, m: mjx.Model, d: mjx.Data) -> mjx.Data:
        if self.impl == "warp":
            return mjx.step(m, d)
        # The last substep, or `start`, has computed everything that depends on position and
        # velocity. With MJX's own order these values would be one substep old after a step.
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
        """Compute everything that follows from positions and velocities."""
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
    """One array of a new simulation. An array of equal entries is kept as its shape and value.

    Compiled code then creates Warp's large empty buffers instead of containing them.
    """

    def __init__(self, leaf: Array) -> None:
        value = np.asarray(leaf)
        constant = value.size > 0 and (value == value.flat[0]).all()
        self._value = value.flat[0] if constant else value
        self._shape, self._dtype = value.shape, value.dtype

    def array(self) -> Array:
        return jnp.broadcast_to(jnp.asarray(self._value, self._dtype), self._shape)


def _set(array: Array, where: Any, value: Array) -> Array:
    """A copy of `array` with `value` at `where`, converted to its type."""
    return array.at[where].set(jnp.asarray(value, array.dtype))


def _integrator(model: mujoco.MjModel) -> Any:
    """MJX-JAX's function for the integrator of a model."""
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
    """Make MJX-JAX treat an impedance of width 0 as MuJoCo does.

    MuJoCo and Warp use the mean of its two ends. MJX-JAX uses the upper end, which makes the rat's
    joint limits fifty times as stiff. This function sets the lower end to the mean and the width
    to a huge value, at which only the lower end matters.
    """
    for name in ("jnt_solimp", "dof_solimp", "tendon_solimp_lim", "tendon_solimp_fri"):
        solimp = getattr(model, name)
        flat = solimp[:, 2] <= mujoco.mjMINVAL
        ends = np.clip(solimp[flat, :2], mujoco.mjMINIMP, mujoco.mjMAXIMP)
        solimp[flat, 0], solimp[flat, 2] = ends.mean(axis=1), mujoco.mjMAXVAL


def _align_capsules(m: mjx.Model, d: mjx.Data) -> mjx.Data:
    """Align the friction pyramid of a capsule on a plane with the capsule, as MuJoCo does.

    MJX aligns it with the world's axes if the capsule is steeper than 60 degrees.
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
    """Warp's overflow flags, without those for a solver that used all its iterations."""
    flags = mjx_warp.mjwp_types.OverflowType
    return int(flags.ALL & ~(flags.ITERATIONS | flags.LS_ITERATIONS))


def _quiet(model: mjx.Model) -> mjx.Model:
    """A model for which Warp prints nothing when the solver uses all its iterations."""
    return model.tree_replace({"opt._impl.warn_overflow": _lost()})
