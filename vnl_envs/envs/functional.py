"""Tasks as pure functions for JAX: `jit`, `vmap`, `scan`, `shard_map`, Brax-style trainers."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

# First: its error says what to install if JAX is missing.
from vnl_envs.envs.backends import Backend, Data, Mjx, Native, varied  # isort: skip
import jax
import jax.numpy as jnp
import mujoco

from vnl_envs.envs.host import Host
from vnl_envs.registry import make_task
from vnl_envs.rendering.renderer import HEIGHT, WIDTH, Picture
from vnl_envs.tasks.task import Overlay, Start
from vnl_envs.utils import checks

IMPLS = ("auto", "native", "warp", "jax")
OBSERVATIONS = ("flat", "dict", "privileged")
_UNIFORM_BITS = 24


def default_impl() -> str:
    """Fastest implementation on JAX's default device: native on a CPU, warp on CUDA, else jax."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return "native"
    return "warp" if "cuda" in device.client.platform_version.lower() else "jax"


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """A state as in MuJoCo Playground and Brax. All leaves are arrays.

    Attributes:
        data: state of the simulation and the episode, see `Data`.
        obs: (D,) float32 observation, or a dictionary of observations.
        reward: () float32 reward in [0, 1].
        done: () float32, 1 if the episode is over.
        metrics: name -> () float32, change of an episode metric in the last step. Trainers sum
            these over an episode, which gives the metric. Reward terms are "reward/<name>"; on
            Warp there is "overflow", as in `info`.
        info: `truncation` and `time_out`, 1 if time or motion ran out; `is_success`; `diverged`;
            `overflow`, 1 if contacts did not fit into the engine's buffers.
    """

    data: Any
    obs: Any
    reward: Any
    done: Any
    metrics: dict[str, Any]
    info: dict[str, Any]

    def replace(self, **changes: Any) -> State:
        """A copy with some attributes changed."""
        return dataclasses.replace(self, **changes)


def lean(tree: Any) -> Any:
    """A tree whose empty arrays are replaced by one zero, as checkpoints refuse empty arrays."""
    return jax.tree.map(lambda leaf: leaf if leaf.size else jnp.zeros(1, leaf.dtype), tree)


def apart(tree: Any) -> Any:
    """A tree in which no two leaves are the same array, so that all of it can be donated."""
    seen: set[int] = set()

    def leaf(array: jax.Array) -> jax.Array:
        if id(array) in seen:
            return jnp.array(array)
        seen.add(id(array))
        return array

    return jax.tree.map(leaf, tree)


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
        TypeError: an option is unknown; the message lists the known ones.
        ValueError: the id or implementation is unknown, or a value is refused.
        RuntimeError: the implementation is not installed.
    """
    return FunctionalEnv(task_id, impl, observation, threads, max_batch, **options)


class FunctionalEnv:
    """A registered task as pure functions of one simulation. Use `jax.vmap` for batches.

    Args:
        task_id: registered id.
        impl: "native" (C MuJoCo on threads, behind a callback), "warp" (MJX-Warp), "jax"
            (MJX-JAX), or "auto": native on a CPU, warp on CUDA, jax on a TPU.
        observation: "flat" (one vector), "dict" (one vector per group) or "privileged" ("state",
            the flat vector, and "privileged_state", for a critic: without noise and with the
            perturbations).
        threads: number of threads of the native engine; 0 uses every CPU.
        max_batch: number of simulations that share Warp's contact buffer; None is 8192 on a GPU,
            64 on a CPU. If contacts of a larger batch do not fit, `info["overflow"]` is 1.
        options: options of the task, see `vnl_envs.task_options`.

    Attributes:
        task_id: as given.
        impl: implementation, never "auto".
        task: task made from the id and the options.
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
        self.impl = default_impl() if impl == "auto" else impl
        self.task = make_task(task_id, **options)
        self._arguments = {
            "task_id": task_id,
            "impl": self.impl,
            "observation": observation,
            "threads": threads,
            "max_batch": max_batch,
            **options,
        }
        self._observation = observation
        self._host = Host(self.task, threads)
        self._backend: Backend = (
            Native(self._host) if self.impl == "native" else Mjx(self.task, self.impl, max_batch)
        )
        self.layout = self._host.layout
        # Model for randomization, set by `using`, and by Playground under this name.
        self._mjx_model: Any = None
        drawn = self.task.episode(np.zeros((1, self.task.uniforms), np.float32))
        self._episode_fields = tuple(self.task.model_fields(drawn))
        # Data of the backend, with the empty arrays that `lean` replaces in a state.
        self._whole_data = jax.eval_shape(self._begin, jax.random.key(0))
        self._template = jax.eval_shape(self._first, self._whole_data)

    def __reduce__(self) -> tuple[Any, ...]:
        # C simulations and traced functions cannot be copied: they are made again.
        return _remade, (type(self), self._arguments)

    # Functions

    def reset(self, rng: jax.Array) -> State:
        """The start of an episode drawn from a key."""
        return self._first(self._begin(rng))

    def put(self, start: Start, episode: Mapping[str, Any], carry: Mapping[str, Any]) -> State:
        """The state for a given physics state, episode and carry. Numbers become float32."""
        # Copies, so that later changes of the caller's arrays do not reach the state.
        given = Start(*(None if part is None else jnp.array(part) for part in start))
        rows = [{k: jnp.array(v) for k, v in part.items()} for part in (episode, carry)]
        return self._first(self._backend.put(self._model(), given, *rows))

    def step(self, state: State, action: jax.Array) -> State:
        """One control step with an action (nu,) in [-1, 1].

        An action that is not finite ends the episode as diverged.

        Raises:
            ValueError: the state is of another task, implementation or option, or the action has a
                wrong shape.
            NotImplementedError: on native or Warp, the function is differentiated with respect to
                state or action. Put `jax.lax.stop_gradient` around them.
        """
        self._check(state, action)
        action = jnp.clip(jnp.asarray(action, jnp.float32), -1.0, 1.0)
        data = self._whole(state.data)
        data, step, increments, overflow = self._backend.step(self._model(), data, action)
        increments = jnp.asarray(increments, jnp.float32)
        figures = dict(zip(self._host.names, jnp.unstack(increments, axis=-1), strict=True))
        flags = {
            "truncation": step.truncated,
            "time_out": step.truncated,
            "is_success": step.success,
            "diverged": step.diverged,
            "overflow": overflow,
        }
        data = lean(data)
        after = State(
            data=data,
            obs=self._observe(data),
            reward=jnp.asarray(step.reward, jnp.float32),
            done=jnp.asarray(step.terminated | step.truncated, jnp.float32),
            metrics={
                **{name: figures[name] for name in self._figures},
                **{f"reward/{k}": jnp.asarray(v, jnp.float32) for k, v in step.terms.items()},
                **({"overflow": jnp.asarray(overflow, jnp.float32)} if self._may_overflow else {}),
            },
            # Entries of wrappers are kept.
            info={**state.info, **{k: jnp.asarray(v, jnp.float32) for k, v in flags.items()}},
        )
        return apart(after)

    def restart(self, state: State, done: jax.Array, rng: jax.Array) -> State:
        """The state, with data and observation of a new episode if `done`."""
        data = self._whole(state.data)
        data = lean(self._backend.restart(self._model(), data, done, self.uniforms(rng)))
        return apart(state.replace(data=data, obs=self._observe(data)))

    def uniforms(self, rng: jax.Array) -> jax.Array:
        """Uniform numbers for an episode, (uniforms,) float32: multiples of 2^-24 in [0, 1).

        A subclass may override this.
        """
        bits = jax.random.bits(rng, (self.task.uniforms,), jnp.uint32)
        return (bits >> (32 - _UNIFORM_BITS)).astype(jnp.float32) * 2.0**-_UNIFORM_BITS

    # Interface of trainers

    @property
    def observation_size(self) -> Any:
        """D; for a dictionary of observations, name -> (size,)."""
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
        """Number of physics steps in one control step."""
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
        """The model whose fields a `randomization_fn` may vary, for every engine."""
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
        """Context in which the environment uses another model, such as one of a batch."""
        before, self._mjx_model = self._mjx_model, model
        try:
            yield self
        finally:
            self._mjx_model = before

    def render(
        self,
        trajectory: State | Sequence[State],
        height: int = HEIGHT,
        width: int = WIDTH,
        camera: str | mujoco.MjvCamera | None = None,
        scene_option: mujoco.MjvOption | None = None,
        modify_scene_fns: Sequence[Callable[[mujoco.MjvScene], None]] | None = None,
    ) -> Any:
        """Images (height, width, 3) uint8 of states without a batch axis: one, or a list.

        The interface is that of MuJoCo Playground's `MjxEnv.render`.

        Args:
            trajectory: one state, or several.
            height, width: size of the images, pixels.
            camera: name of a camera of `mj_model`, or a camera; None follows the body.
            scene_option: visualization options; None is the default look of the body.
            modify_scene_fns: function for each state that changes its scene before it is drawn.

        Raises:
            ValueError: states have a batch axis, the model has no such camera, a size is not an
                integer of at least 1, or the numbers of functions and states differ.
        """
        single = isinstance(trajectory, State)
        states = [trajectory] if isinstance(trajectory, State) else list(trajectory)
        modify = [None] * len(states) if modify_scene_fns is None else list(modify_scene_fns)
        if len(modify) != len(states):
            raise ValueError(
                f"{len(states)} states need as many modify_scene_fns, got {len(modify)}"
            )
        with contextlib.closing(Picture(self.task.world, width, height, camera)) as picture:
            drawn = [
                picture.draw(self.mj_data(state), self._overlays(state), scene_option, function)
                for state, function in zip(states, modify, strict=True)
            ]
        return drawn[0] if single else drawn

    def mj_data(self, state: State) -> mujoco.MjData:
        """The C MuJoCo data of a state without a batch axis.

        Raises:
            ValueError: the state has a batch axis, or is of another task.
        """
        self._check_data(state)
        data = mujoco.MjData(self.mj_model)
        self._backend.fill(data, self._whole(state.data))
        mujoco.mj_forward(self.mj_model, data)
        return data

    # Internals

    def _model(self) -> Any:
        """The model in use; None is the engine's own.

        Raises:
            ValueError: both the episode and a randomization vary a field.
        """
        model = self._mjx_model
        if model is not None:
            fields = varied(self._backend.model, model)
            both = sorted(set(fields) & set(self._episode_fields))
            if both:
                raise ValueError(f"perturbations and a randomization both vary {both}")
        return model

    def _overlays(self, state: State) -> list[Overlay]:
        memory = self._backend.memory(self._whole(state.data))
        view = self.task.body.physics(self.mj_data(state))[0]
        return self.task.overlays(view, memory["episode"], memory["carry"])

    @property
    def _figures(self) -> tuple[str, ...]:
        """Names of the reported metrics, without infinite ones and those that trainers add."""
        return tuple(n for n in self._host.finite if n not in ("return", "length"))

    @property
    def _may_overflow(self) -> bool:
        """Whether the engine's buffers may be too small for all contacts."""
        return self.impl == "warp"

    def _begin(self, rng: jax.Array) -> Data:
        return self._backend.begin(self._model(), self.uniforms(rng))

    def _whole(self, data: Data) -> Data:
        """The inverse of `lean`."""

        def leaf(known: jax.ShapeDtypeStruct, value: Any) -> Any:
            return value if known.size else jnp.zeros(known.shape, known.dtype)

        return jax.tree.map(leaf, self._whole_data, data)

    def _first(self, data: Data) -> State:
        data = lean(data)
        zero = jnp.zeros((), jnp.float32)
        names = [*self._figures, *(f"reward/{name}" for name in self._host.terms)]
        names += ["overflow"] if self._may_overflow else []
        flags = ("truncation", "time_out", "is_success", "diverged", "overflow")
        state = State(
            data=data,
            obs=self._observe(data),
            reward=zero,
            done=zero,
            metrics=dict.fromkeys(names, zero),
            info=dict.fromkeys(flags, zero),
        )
        return apart(state)

    def _observe(self, data: Data) -> Any:
        if self._observation == "flat":
            return data.observation
        if self._observation == "privileged":
            perturbed = self._whole_data.privileged.size > 0
            critic = data.privileged if perturbed else data.observation
            return {"state": data.observation, "privileged_state": critic}
        return {name: data.observation[span] for name, span in self._host.groups.items()}

    def _check(self, state: State, action: Any) -> None:
        """Check shapes of a state and an action, which costs nothing once compiled."""
        if jnp.shape(action) != (self.action_size,):
            raise ValueError(
                f"an action of {self.task_id} has shape ({self.action_size},), got "
                f"{jnp.shape(action)}; batches are jax.vmap's"
            )
        self._check_data(state)

    def _check_data(self, state: State) -> None:
        own, given = (
            dict(jax.tree_util.tree_leaves_with_path(data))
            for data in (self._template.data, state.data)
        )
        for path in own.keys() | given.keys():
            expected, actual = (getattr(d.get(path), "shape", None) for d in (own, given))
            if actual != expected:
                raise ValueError(
                    f"the state is not one of {self.task_id} with impl={self.impl!r}: its data"
                    f"{jax.tree_util.keystr(path)} has shape {actual}, expected {expected}; "
                    "batches are jax.vmap's, and row i of one is "
                    "jax.tree.map(lambda leaf: leaf[i], state)"
                )


def _remade(kind: type[FunctionalEnv], arguments: dict[str, Any]) -> FunctionalEnv:
    return kind(**arguments)
