"""Batches of functional environments for trainers, with autoreset to new episodes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from vnl_envs.envs.backends import Data, choose
from vnl_envs.envs.functional import FunctionalEnv, State, apart
from vnl_envs.utils import checks

RandomizationFn = Callable[[Any], tuple[Any, Any]]
"""Function from an `mjx.Model` to one with batched fields and the axes to map over, as in Brax."""


def wrap_for_training(
    env: Any,
    episode_length: int | None = None,
    action_repeat: int = 1,
    randomization_fn: RandomizationFn | None = None,
) -> AutoReset:
    """Wrap a functional environment for Brax's trainers: `ppo.train(…, wrap_env_fn=this)`.

    Args:
        env: environment from `make_functional`.
        episode_length: number of control steps after which an episode is truncated; None is the
            task's horizon.
        action_repeat: number of control steps with the same action; rewards add up.
        randomization_fn: function that gives each simulation of the batch its own model.
    """
    return AutoReset(EpisodeLimit(Batched(env, randomization_fn), episode_length, action_repeat))


class Wrapper:
    """An environment around another one, whose attributes it forwards."""

    def __init__(self, env: Any) -> None:
        self.env = env

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.env, name)

    @property
    def unwrapped(self) -> FunctionalEnv:
        """The functional environment."""
        return self.env.unwrapped


class Batched(Wrapper):
    """A batch of B simulations, (B, ...).

    Args:
        env: functional environment.
        randomization_fn: see `wrap_for_training`.
    """

    def __init__(self, env: FunctionalEnv, randomization_fn: RandomizationFn | None = None) -> None:
        super().__init__(env)
        self._model: Any = None
        self._axes: Any = None
        if randomization_fn is not None:
            self._model, self._axes = randomization_fn(env.unwrapped.mjx_model)

    def __getstate__(self) -> dict[str, Any]:
        # Varied fields are recognised by identity, so a copy keeps only these of the model.
        varied = None
        if self._model is not None:
            pairs = zip(jax.tree.leaves(self._model), self._base()[0], strict=True)
            varied = [None if new is old else new for new, old in pairs]
        return {**vars(self), "_model": varied}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._model is not None:
            leaves, structure = self._base()
            pairs = zip(self._model, leaves, strict=True)
            self._model = structure.unflatten([old if new is None else new for new, old in pairs])

    def _base(self) -> tuple[list[Any], Any]:
        """Leaves and structure of the model before randomization."""
        return jax.tree.flatten(self.unwrapped.mjx_model)

    def reset(self, rng: jax.Array) -> State:
        """Starts of episodes from keys (B, ...)."""
        return self._map(self.env.reset, rng)

    def step(self, state: State, action: jax.Array) -> State:
        """A control step with actions (B, nu)."""
        return self._map(self.env.step, state, action)

    def restart(self, state: State, done: jax.Array, rng: jax.Array) -> State:
        """Start new episodes where `done` (B,), from keys (B, ...)."""
        return self._map(self.env.restart, state, done, rng)

    def _map(self, function: Callable[..., State], *args: Any) -> State:
        if self._axes is None:
            return jax.vmap(function)(*args)

        def with_model(model: Any, *args: Any) -> State:
            with self.unwrapped.using(model):
                return function(*args)

        return jax.vmap(with_model, in_axes=(self._axes, *(0 for _ in args)))(self._model, *args)


class EpisodeLimit(Wrapper):
    """Time limit, action repeat and episode metrics, as in Brax's own `EpisodeWrapper`.

    Unlike there, a truncation by the task itself stays a truncation and is no failure. `info` gains
    `steps`, `episode_done` and `episode_metrics`.

    Args:
        env: batched environment.
        episode_length: number of control steps after which an episode is truncated; None is the
            task's horizon.
        action_repeat: number of control steps with the same action.
    """

    def __init__(self, env: Any, episode_length: int | None = None, action_repeat: int = 1) -> None:
        super().__init__(env)
        self._limit = env.unwrapped.task.horizon
        if episode_length is not None:
            self._limit = checks.integer("episode_length", episode_length, 1)
        self._repeat = checks.integer("action_repeat", action_repeat, 1)

    def reset(self, rng: jax.Array) -> State:
        """Starts of episodes from keys (B, ...)."""
        state = self.env.reset(rng)
        # With weak types the first step would be compiled separately.
        zero = jnp.zeros(state.done.shape, jnp.float32)
        names = ("sum_reward", "length", *state.metrics)
        info = {
            "steps": zero,
            "episode_done": zero,
            "episode_metrics": dict.fromkeys(names, zero),
        }
        return apart(state.replace(info={**state.info, **info}))

    def step(self, state: State, action: jax.Array) -> State:
        """A control step, or `action_repeat` of them, with actions (B, nu)."""
        before = state.info
        ongoing = 1.0 - before["episode_done"]
        totals = {k: v * ongoing for k, v in before["episode_metrics"].items()}
        steps = before["steps"] * ongoing
        state = state.replace(info={**before, "steps": steps, "episode_metrics": totals})
        if self._repeat == 1:
            return self._limited(self._add(state, self.env.step(state, action)))
        live = jnp.zeros_like(state.done)

        def repeat(state: State, _: None) -> tuple[State, None]:
            after = self._limited(self._add(state, self.env.step(state, action)))
            # An episode that ended within the repetition makes no more steps.
            after = after.replace(reward=state.reward + after.reward)
            return choose(state.done > 0, state, after), None

        state = state.replace(reward=live, done=live)
        return jax.lax.scan(repeat, state, None, length=self._repeat)[0]

    @staticmethod
    def _add(before: State, after: State) -> State:
        """The state after a step, with the number of steps and the sums of the episode."""
        gained = {"sum_reward": after.reward, "length": jnp.ones_like(after.reward)}
        gained |= after.metrics
        totals = before.info["episode_metrics"]
        info = {
            "steps": before.info["steps"] + 1,
            "episode_metrics": {k: totals[k] + gained[k] for k in totals},
        }
        return after.replace(info={**after.info, **info})

    def _limited(self, state: State) -> State:
        """The state, truncated where the time limit is reached."""
        timeout = (state.info["steps"] >= self._limit) & (state.done == 0)
        truncation = jnp.where(timeout, 1.0, state.info["truncation"])
        done = jnp.where(timeout, 1.0, state.done)
        info = {"truncation": truncation, "time_out": truncation, "episode_done": done}
        return apart(state.replace(done=done, info={**state.info, **info}))


class AutoReset(Wrapper):
    """Starts a *new* episode in the step in which one has ended.

    Then `obs` is the first observation of the new episode. The last one of the finished episode is
    `info["final_obs"]`; reward, done and the rest of `info` belong to the finished episode. Each
    simulation draws its episodes from its own key, `info["key"]`, independently of the others.

    Args:
        env: batched environment with `EpisodeLimit`.
    """

    def reset(self, rng: jax.Array) -> State:
        """Starts of episodes from keys (B, ...)."""
        keys = jax.vmap(jax.random.split)(rng)
        state = self.env.reset(keys[:, 0])
        info = {"final_obs": state.obs, "key": keys[:, 1]}
        return apart(state.replace(info={**state.info, **info}))

    def step(self, state: State, action: jax.Array) -> State:
        """A control step with actions (B, nu)."""
        # Keys are split at every step: keeping those of running episodes would use them twice.
        keys = jax.vmap(jax.random.split)(state.info["key"])
        state = self.env.step(state, action)
        overflow = state.info["overflow"]
        jax.lax.cond((overflow > 0).any(), _report_overflow, lambda _: None, overflow)

        def renew(data: Data, obs: Any) -> tuple[Data, Any]:
            new = self.env.restart(state.replace(data=data, obs=obs), done, keys[:, 0])
            return new.data, new.obs

        done = state.done > 0
        # Outside vmap: inside it, both branches would run at every step.
        data, obs = jax.lax.cond(done.any(), renew, lambda *same: same, state.data, state.obs)
        info = {**state.info, "final_obs": state.obs, "key": keys[:, 1]}
        return state.replace(data=data, obs=obs, info=info)


class Sharded(Wrapper):
    """A batched environment whose batch is spread over devices.

    Args:
        env: environment with a batch axis, such as that of `wrap_for_training`.
        devices: devices of the batch; None is all.

    Raises:
        ValueError: the implementation does not shard.
    """

    def __init__(self, env: Any, devices: Sequence[jax.Device] | None = None) -> None:
        super().__init__(env)
        if env.unwrapped.impl == "warp":
            raise ValueError("impl='warp' keeps buffers without a batch axis: use jax.pmap for it")
        devices = jax.devices() if devices is None else list(devices)
        self.mesh = Mesh(np.array(devices), ("batch",))
        spread = PartitionSpec("batch")
        shard = functools.partial(
            jax.shard_map, mesh=self.mesh, in_specs=spread, out_specs=spread, check_vma=False
        )
        self._reset, self._step = jax.jit(shard(env.reset)), jax.jit(shard(env.step))

    def __reduce__(self) -> tuple[Any, ...]:
        return _sharded, (self.env, [device.id for device in self.mesh.devices.flat])

    def reset(self, rng: jax.Array) -> State:
        """Starts of episodes from keys (B, ...).

        Raises:
            ValueError: B is not a multiple of the number of devices.
        """
        count = self.mesh.size
        if rng.shape[0] % count:
            raise ValueError(f"a batch of {rng.shape[0]} does not divide over {count} devices")
        return self._reset(rng)

    def step(self, state: State, action: jax.Array) -> State:
        """A control step with actions (B, nu)."""
        return self._step(state, action)


def _sharded(env: Any, ids: Sequence[int]) -> Sharded:
    """A `Sharded` environment over the devices with these ids."""
    devices = {device.id: device for device in jax.devices()}
    return Sharded(env, [devices[i] for i in ids])


def _report_overflow(overflow: jax.Array) -> None:
    jax.debug.print(
        "vnl_envs: contacts of {n} simulations did not fit into the engine's buffers",
        n=(overflow > 0).sum(),
    )
