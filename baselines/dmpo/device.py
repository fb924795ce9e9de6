"""DMPO over functional environments: collection, replay and learning in one jitted program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from baselines.dmpo.replay import Replay, Step
from baselines.dmpo.state import Hyperparameters, Learner, LearnerState
from baselines.episodes import episode_sums
from vnl_envs import wrap_for_training

AXIS = "batch"


class Run(NamedTuple):
    """The complete state of training.

    Attributes:
        learner: state of the learner, the same on every device.
        environments: state of the batch of environments, spread over the devices.
        replay: rings, spread over the devices by environment.
        key: random key.
        steps: () control steps so far, of all environments together.
    """

    learner: LearnerState
    environments: Any
    replay: Replay
    key: jax.Array
    steps: jax.Array


class DeviceDMPO:
    """Training on a functional environment. Environments and replay are spread over devices.

    Args:
        env: an environment from `vnl_envs.make_functional`.
        hyperparameters: hyperparameters of the learner.
        num_envs: number of environments on all devices.
        capacity: number of transitions kept on all devices.
        samples_per_insert: transitions sampled per transition collected.
        unroll: control steps between updates.
        warmup: initial control steps (of all environments) with uniformly random actions.
        network: policy network that replaces the learner's own.
        devices: JAX devices; all of them by default.

    Raises:
        ValueError: environments or batch do not divide over the devices.
    """

    def __init__(
        self,
        env: Any,
        hyperparameters: Hyperparameters | None = None,
        num_envs: int = 64,
        capacity: int = 500_000,
        samples_per_insert: float = 32.0,
        unroll: int = 1,
        warmup: int = 1_000,
        network: Any = None,
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        self.env = wrap_for_training(env)
        self.learner = Learner(env.observation_size, env.action_size, hyperparameters, network)
        devices = jax.devices() if devices is None else list(devices)
        self._mesh = Mesh(np.array(devices), (AXIS,))
        self._devices = len(devices)
        batch = self.learner.settings.batch_size
        for name, count in (("num_envs", num_envs), ("batch_size", batch)):
            if count % self._devices:
                raise ValueError(f"{name}={count} does not divide over {self._devices} devices")
        self.num_envs, self.unroll = num_envs, unroll
        self.updates = max(1, round(num_envs * unroll * samples_per_insert / batch))
        self._capacity = max(capacity // num_envs, unroll)
        self._warmup = -(-warmup // num_envs)
        spread, same = PartitionSpec(AXIS), PartitionSpec()
        rings = Replay(PartitionSpec(None, AXIS), same, same)  # type: ignore[arg-type]
        specs = Run(same, spread, rings, same, same)  # type: ignore[arg-type]
        shard: dict[str, Any] = {"mesh": self._mesh, "check_vma": False}
        self._init = jax.jit(jax.shard_map(self._start, in_specs=same, out_specs=specs, **shard))
        self._renew = jax.jit(
            jax.shard_map(self._again, in_specs=(specs,), out_specs=specs, **shard)
        )
        self._iterate = jax.jit(
            jax.shard_map(self._one, in_specs=(specs,), out_specs=(specs, same), **shard),
            donate_argnums=0,
        )

    def init(self, seed: int) -> Run:
        """The state before learning. Its replay holds `warmup` random steps."""
        return self._init(jax.random.PRNGKey(seed))

    def renewed(self, run: Run) -> Run:
        """The state with new episodes, and with `warmup` steps of its own policy as replay."""
        return self._renew(run)

    def iterate(self, run: Run) -> tuple[Run, dict[str, jax.Array]]:
        """Make `unroll` control steps of every environment, then `updates` updates.

        Returns the next state and figures to log: `episodes` counts the episodes that ended,
        `episode_return` and `episode_length` are sums over these episodes; `steps` counts control
        steps, and figures with the prefix `TERM` are sums over these steps. The argument's
        buffers are donated.
        """
        return self._iterate(run)

    def _start(self, key: jax.Array) -> Run:
        learner_key, key = jax.random.split(key)
        learner = self.learner.init(learner_key)

        def random(key: jax.Array, observation: jax.Array) -> jax.Array:
            shape = (len(observation), self.learner.action_size)
            return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)

        environments, replay, steps = self._filled(self._own(key), random)
        learner = self._observe(learner, steps)
        key = jax.random.fold_in(key, 1)
        count = jnp.asarray(self._warmup * self.num_envs, jnp.int32)
        return Run(learner, environments, replay, key, count)

    def _again(self, run: Run) -> Run:
        key, shared = jax.random.split(run.key)
        policy = self._policy(run.learner)
        environments, replay, _ = self._filled(self._own(shared), policy)
        count = run.steps + self._warmup * self.num_envs
        return Run(run.learner, environments, replay, key, count)

    def _filled(self, key: jax.Array, policy: Any) -> tuple[Any, Replay, Step]:
        """New environments after `warmup` steps of a policy, a replay of them, and the steps."""
        num = self.num_envs // self._devices
        reset_key, act_key = jax.random.split(key)
        environments = self.env.reset(jax.random.split(reset_key, num))
        sizes = self.learner.observation_size, self.learner.action_size
        environments, steps, _ = self._collect(environments, act_key, self._warmup, policy)
        return environments, Replay.empty(self._capacity, num, *sizes).insert(steps), steps

    def _policy(self, learner: LearnerState) -> Any:
        return lambda key, observation: self.learner.act(learner, observation, key)

    def _one(self, run: Run) -> tuple[Run, dict[str, jax.Array]]:
        key, shared = jax.random.split(run.key)
        act_key, learn_key = jax.random.split(self._own(shared))
        environments, steps, sums = self._collect(
            run.environments, act_key, self.unroll, self._policy(run.learner)
        )
        replay = run.replay.insert(steps)
        learner, figures = self._learn(self._observe(run.learner, steps), replay, learn_key)
        count = run.steps + self.unroll * self.num_envs
        figures |= jax.lax.psum(sums, AXIS)
        return Run(learner, environments, replay, key, count), figures

    def _collect(
        self, environments: Any, key: jax.Array, steps: int, policy: Any
    ) -> tuple[Any, Step, dict[str, jax.Array]]:
        """Make control steps (K, B, ...) by a policy; returns sums too, see `iterate`."""

        def one(state: Any, key: jax.Array) -> tuple[Any, tuple[Step, dict[str, jax.Array]]]:
            action = policy(key, state.obs)
            after = self.env.step(state, action)
            step = Step(
                state.obs,
                action,
                after.reward,
                after.done * (1.0 - after.info["truncation"]),
                after.done,
                after.info["final_obs"],
            )
            return after, (step, {**episode_sums(after), "steps": jnp.ones_like(after.done).sum()})

        environments, (taken, sums) = jax.lax.scan(one, environments, jax.random.split(key, steps))
        return environments, taken, jax.tree.map(jnp.sum, sums)

    def _observe(self, learner: LearnerState, steps: Step) -> LearnerState:
        seen = jax.lax.all_gather(steps.observation, AXIS)
        return self.learner.observe(learner, seen.reshape(-1, seen.shape[-1]))

    def _learn(
        self, learner: LearnerState, replay: Replay, key: jax.Array
    ) -> tuple[LearnerState, dict[str, jax.Array]]:
        settings = self.learner.settings
        share = settings.batch_size // self._devices

        def one(learner: LearnerState, key: jax.Array) -> tuple[LearnerState, dict[str, Any]]:
            draw, own = jax.random.split(key)
            batch = replay.sample(draw, share, settings.n_step, settings.discount)
            return self.learner.update(learner, batch, own, AXIS)

        learner, figures = jax.lax.scan(one, learner, jax.random.split(key, self.updates))
        return learner, {name: values[-1] for name, values in figures.items()}

    def _own(self, key: jax.Array) -> jax.Array:
        """A key that differs between devices."""
        return jax.random.fold_in(key, jax.lax.axis_index(AXIS))
