"""Tasks as pure functions for JAX: `jit`, `vmap`, `scan`, `shard_map`, Brax-style trainers."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

try:
    import jax
except ImportError:
    raise ImportError(
        "batched JAX environments need JAX and MJX: pip install vnl_envs[jax]"
    ) from None
import jax.numpy as jnp
import mujoco
from mujoco.batch import MODEL_FIELDS

from vnl_envs import checks
from vnl_envs.bodies.constants import derived_fields, derived_names, need_constants
from vnl_envs.envs.core import Judge, Step, flat, flat_privileged
from vnl_envs.envs.host import Host
from vnl_envs.registry import make_task
from vnl_envs.rendering import HEIGHT, WIDTH, Picture
from vnl_envs.tasks.task import Overlay, Start, Task

IMPLS = ("auto", "native", "warp", "jax")
# What runs best where: MJX-JAX on a CPU is 50 to 300 times slower than C.
_BY_PLATFORM = {"cpu": "native", "gpu": "warp", "cuda": "warp", "rocm": "jax", "tpu": "jax"}
OBSERVATIONS = ("flat", "dict", "privileged")
_UNIFORM_BITS = 24


def _finish() -> None:
    """Wait for steps under way: one that calls Python while Python ends would wait for ever."""
    for array in jax.live_arrays():
        array.block_until_ready()


atexit.register(_finish)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Data:
    """Everything that the coming steps depend on: who resets this resets the whole episode.

    Attributes:
        physics: of the engine: an `mjx.Data`, or on the native engine its float64 numbers as
            pairs of words, (k, 2) uint32.
        episode, carry: of the task; float64 numbers of the native engine as pairs of words.
        totals: the metrics' accumulator.
        observation: (D,) float32, of this state.
        privileged: (P,) float32, what only a critic may see; P is 0 where nothing is perturbed.
        model: fields of the model that differ in this episode, by name, with what follows from
            them; the native engine derives them from the episode.
    """

    physics: Any
    episode: dict[str, Any]
    carry: dict[str, Any]
    totals: Any
    observation: Any
    privileged: Any
    model: dict[str, Any] = dataclasses.field(default_factory=dict)

    def replace(self, **changes: Any) -> Data:
        """A copy with some parts changed."""
        return dataclasses.replace(self, **changes)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """What MuJoCo Playground and Brax call a state. All leaves are arrays.

    Attributes:
        data: see `Data`.
        obs: (D,) float32, or a dictionary of such.
        reward: () float32 in [0, 1].
        done: () float32, 1 where the episode is over.
        metrics: name -> () float32, what the last step added to the episode's figures: their sum
            over an episode, which trainers take, is the figure. Reward terms as "reward/<name>";
            on Warp "overflow", as in `info`.
        info: `truncation` and `time_out`, 1 where time or motion ran out; `is_success`;
            `diverged`; `overflow`, 1 where contacts did not fit into the engine's buffers.
    """

    data: Any
    obs: Any
    reward: Any
    done: Any
    metrics: dict[str, Any]
    info: dict[str, Any]

    def replace(self, **changes: Any) -> State:
        """A copy with some parts changed."""
        return dataclasses.replace(self, **changes)


def make_functional(
    task_id: str,
    impl: str = "auto",
    observation: str = "flat",
    threads: int = 0,
    max_batch: int | None = None,
    **options: Any,
) -> FunctionalEnv:
    """The functional form of a registered task; see `FunctionalEnv`.

    Raises:
        ValueError: an unknown id, implementation or option.
        RuntimeError: the implementation is not installed.
    """
    return FunctionalEnv(task_id, impl, observation, threads, max_batch, **options)


class FunctionalEnv:
    """A registered task as pure functions of one simulation; batches are `jax.vmap`.

    Args:
        task_id: a registered id.
        impl: "native" (C MuJoCo on threads, behind a callback), "warp" (MJX-Warp), "jax"
            (MJX-JAX), or "auto": native on a CPU, warp on CUDA, jax on a TPU.
        observation: "flat" (one vector), "dict" (one vector per group) or "privileged" ("state",
            the flat vector, and "privileged_state", for a critic: without noise and with the
            perturbations).
        threads: of the native engine; 0 uses every CPU.
        max_batch: simulations that share Warp's contact buffer; None is 8192 on a GPU, 64 on a
            CPU. More do not fit, and are told by `info["overflow"]`.
        options: of the task, see `vnl_envs.task_options`.

    Attributes:
        task_id, impl, task: as given and made.
        layout: name of each part of the flat observation -> its slice, in order.
    """

    def __init__(
        self,
        task_id: str,
        impl: str = "auto",
        observation: str = "flat",
        threads: int = 0,
        max_batch: int | None = None,
        **options: Any,
    ) -> None:
        checks.choice("impl", impl, IMPLS)
        checks.choice("observation", observation, OBSERVATIONS)
        threads = checks.integer("threads", threads, 0)
        if max_batch is not None:
            max_batch = checks.integer("max_batch", max_batch, 1)
        self.task_id = task_id
        self.impl: Any = impl
        if impl == "auto":
            self.impl = _BY_PLATFORM.get(jax.default_backend(), "jax")
        self.task = make_task(task_id, **options)
        self._observation = observation
        self._host = Host(self.task, threads)
        self._backend: _Backend = (
            _Native(self._host) if self.impl == "native" else _Mjx(self.task, self.impl, max_batch)
        )
        self.layout = self._host.layout
        # Swapped by those who randomize, by Playground under this name.
        self._mjx_model: Any = None
        drawn = self.task.episode(np.zeros((1, self.task.uniforms), np.float32))
        self._episode_fields = tuple(self.task.model_fields(drawn))
        self._template = jax.eval_shape(self.reset, jax.random.key(0))

    # Functions

    def reset(self, rng: jax.Array) -> State:
        """The start of an episode drawn from a key."""
        return self._first(self._backend.begin(self._model(), self._uniforms(rng)))

    def put(self, start: Start, episode: Mapping[str, Any], carry: Mapping[str, Any]) -> State:
        """A state in the midst of an episode; numbers travel as float32."""
        given = Start(*(None if part is None else jnp.asarray(part) for part in start))
        rows = [{k: jnp.asarray(v) for k, v in part.items()} for part in (episode, carry)]
        return self._first(self._backend.put(self._model(), given, *rows))

    def step(self, state: State, action: jax.Array) -> State:
        """One control step with an action (nu,) in [-1, 1].

        An action that is not a number ends the episode as diverged.

        Raises:
            ValueError: the state is of another task, implementation or option, or the action of
                another shape.
        """
        self._check(state, action)
        action = jnp.clip(jnp.asarray(action, jnp.float32), -1.0, 1.0)
        data, step, increments, overflow = self._backend.step(self._model(), state.data, action)
        figures = dict(zip(self._host.names, jnp.unstack(increments, axis=-1), strict=True))
        flags = {
            "truncation": step.truncated,
            "time_out": step.truncated,
            "is_success": step.success,
            "diverged": step.diverged,
            "overflow": overflow,
        }
        return State(
            data=data,
            obs=self._observe(data),
            reward=jnp.asarray(step.reward, jnp.float32),
            done=jnp.asarray(step.terminated | step.truncated, jnp.float32),
            metrics={
                **{name: figures[name] for name in self._figures},
                **{f"reward/{k}": jnp.asarray(v, jnp.float32) for k, v in step.terms.items()},
                **({"overflow": jnp.asarray(overflow, jnp.float32)} if self._may_overflow else {}),
            },
            # What wrappers keep here stays.
            info={**state.info, **{k: jnp.asarray(v, jnp.float32) for k, v in flags.items()}},
        )

    def restart(self, state: State, done: jax.Array, rng: jax.Array) -> State:
        """The state, but with data and observation of a new episode where `done`."""
        data = self._backend.restart(self._model(), state.data, done, self._uniforms(rng))
        return state.replace(data=data, obs=self._observe(data))

    # What trainers ask for

    @property
    def observation_size(self) -> Any:
        """D, or name -> (size,) of a dictionary."""
        obs = self._template.obs
        return {k: v.shape for k, v in obs.items()} if isinstance(obs, dict) else obs.shape[-1]

    @property
    def action_size(self) -> int:
        """Number of actuators."""
        return self.task.body.nu

    @property
    def dt(self) -> float:
        """Duration of a control step, s."""
        return self.task.dt

    @property
    def sim_dt(self) -> float:
        """Duration of a physics step, s."""
        return self.mj_model.opt.timestep

    @property
    def n_substeps(self) -> int:
        """Physics steps in one control step."""
        return self.task.world.substeps

    @property
    def unwrapped(self) -> FunctionalEnv:
        """The environment itself."""
        return self

    @property
    def mj_model(self) -> mujoco.MjModel:
        """The compiled model."""
        return self.task.world.model

    @property
    def mjx_model(self) -> Any:
        """The model whose fields a `randomization_fn` may vary, on every engine."""
        if self._mjx_model is None:
            self._mjx_model = self._backend.model
        return self._mjx_model

    @property
    def env_hash(self) -> str:
        """Identity of the task; see `vnl_envs.env_hash`."""
        from vnl_envs.identity import env_hash

        return env_hash(self.task_id, self.task)

    @contextlib.contextmanager
    def using(self, model: Any) -> Iterator[FunctionalEnv]:
        """The environment with another model, such as one of a randomized batch."""
        before, self._mjx_model = self._mjx_model, model
        try:
            yield self
        finally:
            self._mjx_model = before

    def render(
        self, trajectory: State | Sequence[State], height: int = HEIGHT, width: int = WIDTH
    ) -> Any:
        """Pictures (height, width, 3) uint8 of states without a batch axis, one or a list."""
        single = isinstance(trajectory, State)
        states = [trajectory] if isinstance(trajectory, State) else trajectory
        with contextlib.closing(Picture(self.task.world, width, height)) as picture:
            drawn = [picture.draw(self.mj_data(s), self._overlays(s)) for s in states]
        return drawn[0] if single else drawn

    def mj_data(self, state: State) -> mujoco.MjData:
        """The simulation of a state without a batch axis, as C MuJoCo has it."""
        data = mujoco.MjData(self.mj_model)
        self._backend.fill(data, state.data)
        mujoco.mj_forward(self.mj_model, data)
        return data

    # Inside

    def _model(self) -> Any:
        """The model in use; None for the engine's own.

        Raises:
            ValueError: a field is varied by the episode and by a randomization, too.
        """
        model = self._mjx_model
        if model is not None:
            varied = _varied(self._backend.model, model)
            both = sorted(set(varied) & set(self._episode_fields))
            if both:
                raise ValueError(f"perturbations and a randomization both vary {both}")
        return model

    def _overlays(self, state: State) -> list[Overlay]:
        memory = self._backend.memory(state.data)
        view = self.task.body.physics(self.mj_data(state))[0]
        return self.task.overlays(view, memory["episode"], memory["carry"])

    @property
    def _figures(self) -> tuple[str, ...]:
        """Metrics shown: the standard two are every trainer's own, infinite ones spoil means."""
        return tuple(n for n in self._host.finite if n not in ("return", "length"))

    @property
    def _may_overflow(self) -> bool:
        """Whether the engine's buffers are smaller than all contacts that could ever be."""
        return self.impl == "warp"

    def _uniforms(self, rng: jax.Array) -> jax.Array:
        """Multiples of 2^-24 in [0, 1), (uniforms,) float32, as Gymnasium's generators draw."""
        bits = jax.random.bits(rng, (self.task.uniforms,), jnp.uint32)
        return (bits >> (32 - _UNIFORM_BITS)).astype(jnp.float32) * 2.0**-_UNIFORM_BITS

    def _first(self, data: Data) -> State:
        zero = jnp.zeros((), jnp.float32)
        names = [*self._figures, *(f"reward/{name}" for name in self._host.terms)]
        names += ["overflow"] if self._may_overflow else []
        flags = ("truncation", "time_out", "is_success", "diverged", "overflow")
        return State(
            data=data,
            obs=self._observe(data),
            reward=zero,
            done=zero,
            metrics=dict.fromkeys(names, zero),
            info=dict.fromkeys(flags, zero),
        )

    def _observe(self, data: Data) -> Any:
        if self._observation == "flat":
            return data.observation
        if self._observation == "privileged":
            critic = data.privileged if data.privileged.size else data.observation
            return {"state": data.observation, "privileged_state": critic}
        return {name: data.observation[span] for name, span in self._host.groups.items()}

    def _check(self, state: State, action: Any) -> None:
        """Shapes only, so at no cost once compiled."""
        if jnp.shape(action) != (self.action_size,):
            raise ValueError(
                f"an action of {self.task_id} has shape ({self.action_size},), got "
                f"{jnp.shape(action)}; batches are jax.vmap's"
            )
        own, given = (
            dict(jax.tree_util.tree_leaves_with_path(data))
            for data in (self._template.data, state.data)
        )
        for path in own.keys() | given.keys():
            here, there = own.get(path), given.get(path)
            if getattr(here, "shape", None) != getattr(there, "shape", None):
                raise ValueError(
                    f"the state is not one of {self.task_id} with impl={self.impl!r}: its data"
                    f"{jax.tree_util.keystr(path)} has shape {getattr(there, 'shape', None)}, "
                    f"expected {getattr(here, 'shape', None)}; batches are jax.vmap's"
                )


class _Backend(Protocol):
    """An engine joined to a task, as pure functions of one simulation."""

    @property
    def model(self) -> Any:
        """An `mjx.Model`; the one meant where a method is given None."""

    def begin(self, model: Any, u: jax.Array) -> Data:
        """A new episode from uniform numbers."""

    def put(self, model: Any, start: Start, episode: dict, carry: dict) -> Data:
        """A state in the midst of an episode."""

    def step(self, model: Any, data: Data, action: jax.Array) -> tuple[Data, Step, Any, Any]:
        """The next data, what the step gave, the figures' increments, and what overflowed."""

    def restart(self, model: Any, data: Data, done: jax.Array, u: jax.Array) -> Data:
        """The data, but a new episode's where `done`."""

    def memory(self, data: Data) -> dict[str, Any]:
        """Episode and carry of concrete data as NumPy has them."""

    def fill(self, mj_data: mujoco.MjData, data: Data) -> None:
        """Write the physics of concrete data into a C simulation."""


class _Native:
    """The native engine and NumPy, behind one callback per step of a whole batch."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._memory = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), host.memory)
        number = jax.ShapeDtypeStruct((), jnp.float32)
        flag = jax.ShapeDtypeStruct((), jnp.bool_)
        self._gave = {
            "reward": number,
            "terms": dict.fromkeys(host.terms, number),
            **dict.fromkeys(("terminated", "truncated", "diverged", "success"), flag),
            "increments": jax.ShapeDtypeStruct((len(host.names),), jnp.float32),
        }

    @functools.cached_property
    def model(self) -> Any:
        """What randomizations know; the host is told which fields they have changed."""
        from vnl_envs.engines.mjx import MjxEngine

        return MjxEngine(self._host.task.world.model, "jax").model

    def begin(self, model: Any, u: jax.Array) -> Data:
        return Data(**self._call(self._host.begin, self._memory, model, u))

    def put(self, model: Any, start: Start, episode: dict, carry: dict) -> Data:
        given = {k: v for k, v in start._asdict().items() if v is not None}
        return Data(**self._call(self._host.put, self._memory, model, given, episode, carry))

    def step(self, model: Any, data: Data, action: jax.Array) -> tuple[Data, Step, Any, Any]:
        shapes = (self._memory, self._gave)
        memory, gave = self._call(self._host.step, shapes, model, _memory(data), action)
        increments = gave.pop("increments")
        return Data(**memory), Step(**gave), increments, jnp.zeros(())

    def restart(self, model: Any, data: Data, done: jax.Array, u: jax.Array) -> Data:
        memory = _memory(data)
        return Data(**self._call(self._host.restart, self._memory, model, memory, done, u))

    def memory(self, data: Data) -> dict[str, Any]:
        return self._host.numbers(_memory(data))

    def fill(self, mj_data: mujoco.MjData, data: Data) -> None:
        self._host.fill(mj_data, _memory(data))

    def _call(self, function: Any, shapes: Any, model: Any, *args: Any) -> Any:
        fields = {} if model is None else _varied(self.model, model)
        # Nothing is differentiated through C; what surrounds the call may be.
        args = jax.lax.stop_gradient((fields, *args))
        return jax.pure_callback(function, shapes, *args, vmap_method="broadcast_all")


def _memory(data: Data) -> dict[str, Any]:
    """What the host knows as a memory."""
    return {k: v for k, v in vars(data).items() if k != "model"}


class _Mjx:
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
        self._judge = Judge(task.metrics)
        self.model = self._engine.model

    def begin(self, model: Any, u: jax.Array) -> Data:
        return self._new(model, u, jnp.asarray(True))

    def put(self, model: Any, start: Start, episode: Any, carry: Any) -> Data:
        return self._put(model, start, episode, carry, jnp.asarray(True))

    def _new(self, model: Any, u: jax.Array, wanted: jax.Array) -> Data:
        episode = self._task.episode(u)
        start, carry = self._task.begin(episode)
        return self._put(model, start, episode, carry, wanted)

    def _put(self, model: Any, start: Start, episode: Any, carry: Any, wanted: jax.Array) -> Data:
        """Data of a state; its constants mean nothing where it is not wanted."""
        fields = self._fields(episode, wanted)
        model = self.model if model is None else model
        physics = self._engine.start(_edited(model, fields), self._task.body, *start)
        view = self._engine.physics(physics, self._task.body)
        observed = self._task.observe(view, episode, carry)
        return Data(
            physics=physics,
            episode=dict(episode),
            carry=dict(carry),
            totals=jnp.asarray(self._judge.accumulator.begin(()), jnp.float32),
            observation=flat(observed),
            privileged=flat_privileged(observed),
            model=fields,
        )

    def step(self, model: Any, data: Data, action: jax.Array) -> tuple[Data, Step, Any, Any]:
        task, engine = self._task, self._engine
        episode, carry = data.episode, data.carry
        placed = task.place(episode, carry)
        control = task.body.control(task.applied_action(action, episode, carry))
        model = _edited(self.model if model is None else model, data.model)
        physics = engine.step(model, data.physics, task.body, control, task.world.substeps, *placed)
        failed = engine.diverged(physics) | ~jnp.isfinite(action).all()
        view = engine.physics(physics, task.body)
        next_carry, outcome = task.evaluate(view, action, episode, carry)
        before = data.observation, data.privileged
        step, totals, seen = self._judge(outcome, failed, data.totals, before)
        after = Data(physics, episode, dict(next_carry), totals, *seen, data.model)
        # A diverged simulation stays where it last was finite; its episode is over.
        after = choose(failed, data.replace(totals=totals), after)
        increments = self._judge.accumulator.increments(data.totals, totals)
        return after, step, increments, engine.overflow(physics)

    def _fields(self, episode: Any, wanted: jax.Array) -> dict[str, jax.Array]:
        """What differs in the model in an episode, with the constants that follow if wanted."""
        fields = {
            name: jnp.asarray(value, jnp.float32)
            for name, value in self._task.model_fields(episode).items()
        }
        model = self._task.world.model
        if not need_constants(fields):
            return fields
        # MuJoCo's own derivation takes a third of a millisecond, so only where one is wanted.
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

    def restart(self, model: Any, data: Data, done: jax.Array, u: jax.Array) -> Data:
        return choose(done, self._new(model, u, done), data)

    def memory(self, data: Data) -> dict[str, Any]:
        return jax.tree.map(np.asarray, {"episode": data.episode, "carry": data.carry})

    def fill(self, mj_data: mujoco.MjData, data: Data) -> None:
        for name in ("qpos", "qvel", "act", "mocap_pos"):
            getattr(mj_data, name)[:] = np.asarray(getattr(data.physics, name))


def choose(mask: jax.Array, yes: Any, no: Any) -> Any:
    """Leaves (..., *) of one tree where the mask (...) holds, of the other elsewhere."""

    def leaf(yes: Any, no: Any) -> Any:
        # An `mjx.Data` has leaves without a batch axis and knows which.
        if hasattr(no, "where"):
            return no.where(mask, yes)
        return jnp.where(mask.reshape(mask.shape + (1,) * (no.ndim - mask.ndim)), yes, no)

    return jax.tree.map(leaf, yes, no, is_leaf=lambda part: hasattr(part, "where"))


def _edited(model: Any, fields: dict[str, jax.Array]) -> Any:
    """A model with some fields changed."""
    return model.tree_replace(fields) if fields else model


def _varied(base: Any, model: Any) -> dict[str, jax.Array]:
    """Fields of a model that are other arrays than the base's, by their names in `mujoco.batch`."""
    if model is base:
        return {}
    pairs = {name: [_field(m, name) for m in (base, model)] for name in MODEL_FIELDS}
    return {name: new for name, (old, new) in pairs.items() if new is not old}


def _field(model: Any, name: str) -> Any:
    """A field of an `mjx.Model` by its name in `mujoco.batch`; None where MJX has none."""
    owner = model.opt if name.startswith("opt.") else model
    name = name.removeprefix("opt.")
    return getattr(owner, name) if name in {f.name for f in dataclasses.fields(owner)} else None
