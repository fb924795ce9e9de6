"""Engines joined to a task as pure functions of one simulation, for JAX."""

from __future__ import annotations

import atexit
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

try:
    import jax
except ImportError:
    raise ImportError(
        "batched JAX environments need JAX and MJX: pip install vnl_envs[jax]"
    ) from None
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco.batch import MODEL_FIELDS

from vnl_envs.bodies.constants import derived_fields, derived_names, need_constants
from vnl_envs.envs.core import Step, StepFinalizer, flat, flat_privileged
from vnl_envs.envs.host import Host
from vnl_envs.tasks.task import Start, Task


def _finish() -> None:
    """Wait for running steps: a callback into Python at its exit would never return."""
    for array in jax.live_arrays():
        array.block_until_ready()


atexit.register(_finish)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Data:
    """Everything on which the next steps depend: resetting it resets the whole episode.

    In a `State`, one zero replaces each empty array, also in `physics`.

    Attributes:
        physics: state of the engine: an `mjx.Data`, or on the native engine k float64 numbers as
            pairs of words, (k, 2) uint32.
        episode, carry: episode and carry of the task; on the native engine with float64 numbers as
            pairs of words.
        totals: (M,) state of the metrics' accumulator.
        observation: (D,) float32, observation of this state.
        privileged: (P,) float32, observation for critics only; P is 0 without perturbations.
        model: fields of the model that differ in this episode, and the constants derived from
            them, by name; empty on the native engine, which derives them from the episode.
    """

    physics: Any
    episode: dict[str, Any]
    carry: dict[str, Any]
    totals: Any
    observation: Any
    privileged: Any
    model: dict[str, Any] = dataclasses.field(default_factory=dict)

    def replace(self, **changes: Any) -> Data:
        """A copy with some attributes changed."""
        return dataclasses.replace(self, **changes)


class Backend(Protocol):
    """An engine joined to a task, as pure functions of one simulation."""

    @property
    def model(self) -> Any:
        """The `mjx.Model` that methods use if their `model` is None."""

    def begin(self, model: Any, u: jax.Array) -> Data:
        """The data of a new episode from uniform numbers (uniforms,)."""

    def put(self, model: Any, start: Start, episode: dict, carry: dict) -> Data:
        """The data of a given state within an episode."""

    def step(self, model: Any, data: Data, action: jax.Array) -> tuple[Data, Step, Any, Any]:
        """The next data, the step, the metrics' increments (M,), and the overflow flag."""

    def restart(self, model: Any, data: Data, done: jax.Array, u: jax.Array) -> Data:
        """The data; that of a new episode if `done`."""

    def memory(self, data: Data) -> dict[str, Any]:
        """Episode and carry of concrete data, as NumPy arrays."""

    def fill(self, mj_data: mujoco.MjData, data: Data) -> None:
        """Write the physics of concrete data into an `MjData`."""


class Native:
    """The native engine and NumPy, behind one callback per step of a whole batch."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._memory = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), host.memory)
        number = jax.ShapeDtypeStruct((), jnp.float32)
        flag = jax.ShapeDtypeStruct((), jnp.bool_)
        self._step_shapes = {
            "reward": number,
            "terms": dict.fromkeys(host.terms, number),
            **dict.fromkeys(("terminated", "truncated", "diverged", "success"), flag),
            "increments": jax.ShapeDtypeStruct((len(host.names),), jnp.float32),
        }

    @functools.cached_property
    def model(self) -> Any:
        """The model for randomizations. The host gets the fields that they have changed."""
        from vnl_envs.engines.mjx import MjxEngine

        return MjxEngine(self._host.task.world.model, "jax").model

    def begin(self, model: Any, u: jax.Array) -> Data:
        return Data(**self._call(self._host.begin, self._memory, model, u))

    def put(self, model: Any, start: Start, episode: dict, carry: dict) -> Data:
        given = {k: v for k, v in start._asdict().items() if v is not None}
        return Data(**self._call(self._host.put, self._memory, model, given, episode, carry))

    def step(self, model: Any, data: Data, action: jax.Array) -> tuple[Data, Step, Any, Any]:
        shapes = (self._memory, self._step_shapes)
        memory, results = self._call(self._host.step, shapes, model, _memory(data), action)
        increments = results.pop("increments")
        return Data(**memory), Step(**results), increments, jnp.zeros(())

    def restart(self, model: Any, data: Data, done: jax.Array, u: jax.Array) -> Data:
        memory = _memory(data)
        return Data(**self._call(self._host.restart, self._memory, model, memory, done, u))

    def memory(self, data: Data) -> dict[str, Any]:
        return self._host.numbers(_memory(data))

    def fill(self, mj_data: mujoco.MjData, data: Data) -> None:
        self._host.fill(mj_data, _memory(data))

    def _call(self, function: Any, shapes: Any, model: Any, *args: Any) -> Any:
        fields = {} if model is None else varied(self.model, model)
        args = _without_derivatives((fields, *args))
        return jax.pure_callback(function, shapes, *args, vmap_method="broadcast_all")


@jax.custom_jvp
def _without_derivatives(tree: Any) -> Any:
    """The tree itself; differentiating with respect to it is an error."""
    return tree


@_without_derivatives.defjvp
def _refuse(primals: Any, tangents: Any) -> Any:
    raise NotImplementedError(
        "only impl='jax' has derivatives of a step (by jax.jvp): here put jax.lax.stop_gradient "
        "around the state and action that depend on what is differentiated"
    )


def _memory(data: Data) -> dict[str, Any]:
    """The data in the form of the host's memory."""
    return {k: v for k, v in vars(data).items() if k != "model"}


def _as_numpy_promotes(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method with standard type promotion, even if the caller has set another one.

    MJX does not work with `jax_numpy_dtype_promotion="strict"`, and tasks follow NumPy's promotion.
    """

    @functools.wraps(method)
    def inside(*args: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return method(*args)

    return inside


def _typed(tree: Any, like: Any) -> Any:
    """Leaves converted to the types of another tree, so that a state keeps its types."""
    return jax.tree.map(lambda leaf, known: jnp.asarray(leaf, known.dtype), tree, like)


class Mjx:
    """MJX and the task in JAX."""

    def __init__(self, task: Task, impl: Any, max_batch: int | None) -> None:
        # Imported here: the native engine needs no MJX.
        from vnl_envs.engines.mjx import MjxEngine, room

        native = task.native_only()
        if native:
            raise ValueError(f"only impl='native' simulates {list(native)}, got impl={impl!r}")
        self._task = task
        model = task.world.model
        contacts = None if max_batch is None else max_batch * room(model)[0]
        self._engine = MjxEngine(model, impl, contacts)
        self._finalizer = StepFinalizer(task)
        self.model = self._engine.model

    @_as_numpy_promotes
    def begin(self, model: Any, u: jax.Array) -> Data:
        return self._new(model, u, jnp.asarray(True))

    @_as_numpy_promotes
    def put(self, model: Any, start: Start, episode: Any, carry: Any) -> Data:
        return self._put(model, start, episode, carry, jnp.asarray(True))

    def _new(self, model: Any, u: jax.Array, wanted: jax.Array) -> Data:
        episode = self._task.episode(u)
        start, carry = self._task.begin(episode)
        return self._put(model, start, episode, carry, wanted)

    def _put(self, model: Any, start: Start, episode: Any, carry: Any, wanted: jax.Array) -> Data:
        """The data of a state; derived constants are valid only if it is `wanted`."""
        fields = self._fields(episode, wanted)
        model = self.model if model is None else model
        physics = self._engine.start(_edited(model, fields), self._task.body, *start)
        view = self._engine.physics(physics, self._task.body)
        observed = self._task.observe(view, episode, carry)
        return Data(
            physics=physics,
            episode=dict(episode),
            carry=dict(carry),
            totals=jnp.asarray(self._finalizer.accumulator.begin(()), jnp.float32),
            observation=flat(observed),
            privileged=flat_privileged(observed),
            model=fields,
        )

    @_as_numpy_promotes
    def step(self, model: Any, data: Data, action: jax.Array) -> tuple[Data, Step, Any, Any]:
        task, engine = self._task, self._engine
        if engine.impl == "warp":
            data, action = _without_derivatives((data, action))
        episode, carry = data.episode, data.carry
        inputs = task.external_inputs(episode, carry)
        control = task.body.control(task.applied_action(action, episode, carry))
        model = _edited(self.model if model is None else model, data.model)
        physics = engine.step(model, data.physics, task.body, control, task.world.substeps, *inputs)
        failed = engine.diverged(physics) | ~jnp.isfinite(action).all()
        view = engine.physics(physics, task.body)
        next_carry, outcome = task.evaluate(view, action, episode, carry)
        before = data.observation, data.privileged
        step, totals, seen = self._finalizer(outcome, view, failed, data.totals, before)
        next_carry, totals = _typed((dict(next_carry), totals), (carry, data.totals))
        after = Data(physics, episode, next_carry, totals, *seen, data.model)
        # A diverged simulation keeps its last finite state. Its episode is over.
        after = choose(failed, data.replace(totals=totals), after)
        increments = self._finalizer.accumulator.increments(data.totals, totals)
        return after, step, increments, engine.overflow(physics)

    def _fields(self, episode: Any, wanted: jax.Array) -> dict[str, jax.Array]:
        """The model fields that differ in an episode, with derived constants if `wanted`."""
        fields = {
            name: jnp.asarray(value, jnp.float32)
            for name, value in self._task.model_fields(episode).items()
        }
        model = self._task.world.model
        if not need_constants(fields):
            return fields
        # MuJoCo's derivation takes 0.3 ms, so it runs only if it is wanted.
        shapes = {
            name: jax.ShapeDtypeStruct(getattr(model, name).shape, jnp.float32)
            for name in derived_names(model)
        }

        def derive(fields: Any, wanted: Any) -> Any:
            rows = np.asarray(wanted)
            derived = derived_fields(model, {k: np.asarray(v)[rows] for k, v in fields.items()})
            out = {k: np.zeros((*rows.shape, *v.shape), np.float32) for k, v in shapes.items()}
            for name, value in out.items():
                value[rows] = derived[name]
            return out

        derived = jax.pure_callback(derive, shapes, fields, wanted, vmap_method="broadcast_all")
        return fields | derived

    @_as_numpy_promotes
    def restart(self, model: Any, data: Data, done: jax.Array, u: jax.Array) -> Data:
        return choose(done, self._new(model, u, done), data)

    def memory(self, data: Data) -> dict[str, Any]:
        return jax.tree.map(np.asarray, {"episode": data.episode, "carry": data.carry})

    def fill(self, mj_data: mujoco.MjData, data: Data) -> None:
        for name in ("qpos", "qvel", "act", "mocap_pos"):
            getattr(mj_data, name)[:] = np.asarray(getattr(data.physics, name))


def choose(mask: jax.Array, yes: Any, no: Any) -> Any:
    """Leaves (..., *) of `yes` where the mask (...) is True, of `no` elsewhere."""

    def leaf(yes: Any, no: Any) -> Any:
        # An `mjx.Data` knows which of its leaves have no batch axis.
        if hasattr(no, "where"):
            return no.where(mask, yes)
        return jnp.where(mask.reshape(mask.shape + (1,) * (no.ndim - mask.ndim)), yes, no)

    return jax.tree.map(leaf, yes, no, is_leaf=lambda part: hasattr(part, "where"))


def _edited(model: Any, fields: dict[str, jax.Array]) -> Any:
    """A model with some fields replaced."""
    return model.tree_replace(fields) if fields else model


def varied(base: Any, model: Any) -> dict[str, jax.Array]:
    """Fields of a model that are other arrays than those of `base`, by name in `mujoco.batch`."""
    if model is base:
        return {}
    pairs = {name: [_field(m, name) for m in (base, model)] for name in MODEL_FIELDS}
    return {name: new for name, (old, new) in pairs.items() if new is not old}


def _field(model: Any, name: str) -> Any:
    """A field of an `mjx.Model` by its name in `mujoco.batch`; None if MJX does not have it."""
    owner = model.opt if name.startswith("opt.") else model
    name = name.removeprefix("opt.")
    return getattr(owner, name) if name in {f.name for f in dataclasses.fields(owner)} else None
