"""Proximal policy optimisation (PPO, Schulman et al. 2017), one jitted program an update.

The algorithm from top to bottom: `PPO.iterate` collects a rollout from functional environments,
estimates advantages, and takes gradient steps on minibatches of it.

Environments begin a new episode by themselves and give the last observation of the old one as
`final_obs` (`vnl_envs.wrap_for_training`). They clip actions; likelihoods are those of the actions
before. Unlike in many implementations, there is no bonus for entropy, values are not clipped, and
advantages are normalised over the whole rollout. Actors see observations raw and normalised,
because some add to an action that is a function of the raw ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from baselines.episodes import TERM, episode_sums
from baselines.ppo.hyperparameters import Hyperparameters
from baselines.ppo.networks import Critic, Gaussian, Network
from baselines.ppo.neurons import Neurons
from baselines.ppo.starts import BINS, FAILURES_KEPT, failed, preferring
from baselines.statistics import Statistics

LEARNING_RATES = 1e-5, 2e-3
"""Lowest and highest learning rate of the actor."""
_LEARNING_RATE_FACTOR = 1.2
_RETURN_DEVIATION = 1e-3
"""Below this deviation, returns have not varied yet and are not divided by it."""
Teacher = Callable[[Any], jax.Array]


class TrainState(NamedTuple):
    """The complete state of training.

    Attributes:
        params: parameters of "actor" and "critic"; with neurons also of "readout".
        adam: Adam's moments.
        learning_rate: () the actor's learning rate, which follows the KL divergence.
        observed: statistics of observations (D,).
        returns: statistics of the critic's targets (1,).
        failures: counts of failures by which starts are drawn, see `FailureStarts`.
        envs: the batch of environments.
        key: random key.
        steps: () control steps so far, of all environments together.
    """

    params: dict[str, Any]
    adam: Any
    learning_rate: jax.Array
    observed: Statistics
    returns: Statistics
    failures: jax.Array
    envs: Any
    key: jax.Array
    steps: jax.Array


class Rollout(NamedTuple):
    """Control steps of a batch of environments, (T, B, ...) each.

    Attributes:
        observation: (D,) observation before the step.
        noise: noise input of the network.
        taught: the teacher's action at this observation; zeros without a teacher.
        spikes: (U,) spikes in 0.1 s around this observation; U is 0 without neurons.
        action: sampled action, before it is applied to the body.
        policy: distribution from which the action was drawn.
        reward: reward, including what training adds to it.
        terminated, done: whether the episode ended by a failure, or at all.
        next_observation: (D,) observation after the step, before a new episode begins.
    """

    observation: jax.Array
    noise: jax.Array
    taught: jax.Array
    spikes: jax.Array
    action: jax.Array
    policy: Gaussian
    reward: jax.Array
    terminated: jax.Array
    done: jax.Array
    next_observation: jax.Array


class Batch(NamedTuple):
    """Samples of a rollout for gradient steps, (N, ...) each.

    Attributes:
        raw: (D,) observations.
        observation: (D,) normalised observations, the input of the networks.
        noise, taught, spikes, action, policy: as in `Rollout`.
        advantage: advantages, zero mean and unit deviation.
        value_target: targets of the critic, normalised by the statistics of returns.
    """

    raw: jax.Array
    observation: jax.Array
    noise: jax.Array
    taught: jax.Array
    spikes: jax.Array
    action: jax.Array
    policy: Gaussian
    advantage: jax.Array
    value_target: jax.Array


class PPO:
    """PPO on a batch of functional environments.

    Args:
        env: batched environment with automatic resets, from `vnl_envs.wrap_for_training`.
        h: hyperparameters.
        network: network of the actor.
        teacher: function from the batch of environments to the actions (B, nu) that `clone`
            teaches, or None.
        neurons: neurons that a read-out of the network's latent predicts, or None.

    Attributes:
        init: function from a seed, () uint32, to a state before learning.
        iterate: function from a state to the next state and figures to log; see `_iterate`.
        clone: the same, but the actor learns the teacher's actions.
    """

    def __init__(
        self,
        env: Any,
        h: Hyperparameters,
        network: Network,
        teacher: Teacher | None = None,
        neurons: Neurons | None = None,
    ) -> None:
        self.env, self.h, self.network = env, h, network
        self.teacher, self.neurons = teacher, neurons
        self.critic: Any = Critic(tuple(h.critic_layers))
        self.readout: Any = neurons.readout() if neurons else None
        # One norm for all gradients together. `_update` has the learning rates.
        self.optimizer = optax.chain(
            optax.clip_by_global_norm(h.max_grad_norm), optax.scale_by_adam(eps=1e-5)
        )
        self.init = jax.jit(self._init)
        self.iterate, self.clone = (
            jax.jit(functools.partial(self._iterate, cloning=cloning), donate_argnums=0)
            for cloning in (False, True)
        )

    def _init(self, seed: jax.Array) -> TrainState:
        """A state before learning, with the statistics of a first rollout's observations."""
        key, actor_key, critic_key, env_key = jax.random.split(jax.random.PRNGKey(seed), 4)
        envs = self.env.reset(jax.random.split(env_key, self.h.num_envs))
        size = envs.obs.shape[-1]
        raw, noise = jnp.zeros((1, size)), jnp.zeros((1, self.network.noise_size))
        params = {
            "actor": self.network.actor.init(actor_key, raw, raw, noise),
            "critic": self.critic.init(critic_key, raw),
        }
        if self.neurons:
            policy = self.network.actor.apply(params["actor"], raw, raw, noise)
            params["readout"] = self.readout.init(jax.random.fold_in(key, 0), policy.latent)
        state = TrainState(
            params,
            self.optimizer.init(params),
            jnp.asarray(self.h.learning_rate, jnp.float32),
            Statistics.empty(size),
            Statistics.empty(1),
            jnp.zeros(BINS),
            envs,
            key,
            jnp.zeros((), jnp.int32),
        )
        # These control steps do not count: only their observations are used.
        state, rollout, _ = self._collect(state)
        return state._replace(observed=state.observed.including(_flat(rollout.observation)))

    def _iterate(self, state: TrainState, cloning: bool) -> tuple[TrainState, dict[str, jax.Array]]:
        """Collect a rollout and take its gradient steps. The argument's buffers are donated.

        Returns the next state and figures to log: `episodes` counts the episodes that ended,
        `episode_return` and `episode_length` are sums over these episodes, and `reward/…` are
        means of the reward's terms over steps.
        """
        state, rollout, figures = self._collect(state)
        state, batch = self._prepare(state, rollout)
        state, learnt = self._learn(state, batch, cloning)
        observed = state.observed.including(_flat(rollout.observation))
        steps = state.steps + self.h.num_envs * self.h.num_steps
        return state._replace(observed=observed, steps=steps), {**figures, **learnt}

    # Collect

    def policy(self, state: TrainState, raw: jax.Array, noise: jax.Array) -> Gaussian:
        """The distribution of actions at observations (..., D) as environments give them."""
        observation = state.observed.normalise(raw)
        return self.network.actor.apply(state.params["actor"], raw, observation, noise)

    def mean_action(self, state: TrainState, raw: jax.Array) -> jax.Array:
        """The body's action without noise, (..., nu), at observations (..., D)."""
        noise = jnp.zeros((*raw.shape[:-1], self.network.noise_size))
        return self.network.applied(raw, self.policy(state, raw, noise).mean)

    def renewed(self, state: TrainState) -> TrainState:
        """The state with new episodes in every environment, as after a change of the task."""
        key, own = jax.random.split(state.key)
        envs = jax.jit(self.env.reset)(jax.random.split(own, self.h.num_envs))
        return state._replace(envs=envs, key=key)

    def _collect(self, state: TrainState) -> tuple[TrainState, Rollout, dict[str, jax.Array]]:
        h, nu = self.h, self.network.action_size

        def step(envs: Any, key: jax.Array) -> tuple[Any, tuple[Rollout, dict[str, jax.Array]]]:
            noise_key, action_key = jax.random.split(key)
            noise = jax.random.normal(noise_key, (h.num_envs, self.network.noise_size))
            policy = self.policy(state, envs.obs, noise)
            drawn = jax.random.normal(action_key, (h.num_envs, nu))
            action = policy.mean + policy.deviation * drawn
            after = self.env.step(envs, self.network.applied(envs.obs, action))
            terminated = after.done * (1.0 - after.info["truncation"])
            taught = self.teacher(envs) if self.teacher else jnp.zeros_like(action)
            spikes = self.neurons(envs) if self.neurons else jnp.zeros((h.num_envs, 0))
            reward, last = after.reward + h.survival, after.info["final_obs"]
            taken = Rollout(
                envs.obs, noise, taught, spikes, action, policy, reward, terminated, after.done,
                last,
            )  # fmt: skip
            return after, (taken, {**episode_sums(after), **failed(after, terminated)})

        key, own = jax.random.split(state.key)
        # Resets within the scan draw their starts by the counts.
        with preferring(self.env, state.failures):
            envs, (rollout, sums) = jax.lax.scan(
                step, state.envs, jax.random.split(own, h.num_steps)
            )
        sums = {name: values.sum(axis=0) for name, values in sums.items()}
        failures = FAILURES_KEPT * state.failures + sums.pop("failures", 0.0)
        figures = {
            k: v / (h.num_envs * h.num_steps) if k.startswith(TERM) else v for k, v in sums.items()
        }
        return state._replace(envs=envs, failures=failures, key=key), rollout, figures

    # Estimate

    def value(self, state: TrainState, observation: jax.Array) -> jax.Array:
        """Expected returns (...,) at normalised observations (..., D)."""
        scaled = self.critic.apply(state.params["critic"], observation)
        return state.returns.mean[0] + _deviation(state.returns) * scaled

    def _prepare(self, state: TrainState, rollout: Rollout) -> tuple[TrainState, Batch]:
        """Estimate advantages and targets, and update the statistics of returns."""
        observation = state.observed.normalise(rollout.observation)
        value = self.value(state, observation)
        following = self.value(state, state.observed.normalise(rollout.next_observation))
        advantage = generalized_advantage(rollout, value, following, self.h)
        target = advantage + value
        # The critic's output is not rescaled for the new statistics, which soon hardly change.
        returns = state.returns.including(target.reshape(-1, 1))
        batch = Batch(
            rollout.observation,
            observation,
            rollout.noise,
            rollout.taught,
            rollout.spikes,
            rollout.action,
            rollout.policy,
            (advantage - advantage.mean()) / (advantage.std() + 1e-8),
            (target - returns.mean[0]) / _deviation(returns),
        )
        return state._replace(returns=returns), jax.tree.map(_flat, batch)

    # Learn

    def _learn(
        self, state: TrainState, batch: Batch, cloning: bool
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Make passes over the batch, each in minibatches of a new random order."""
        h = self.h
        key, own = jax.random.split(state.key)
        total, size = h.num_envs * h.num_steps, h.minibatch_size
        orders = jax.vmap(functools.partial(jax.random.permutation, x=total))(
            jax.random.split(own, h.epochs)
        )

        def step(carry: Any, rows: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
            params, adam, learning_rate = carry
            minibatch = jax.tree.map(lambda x: x[rows], batch)
            return self._update(params, adam, learning_rate, minibatch, cloning)

        carry = state.params, state.adam, state.learning_rate
        carry, figures = jax.lax.scan(step, carry, orders.reshape(-1, size))
        params, adam, learning_rate = carry
        last = {name: values[-1] for name, values in figures.items()}
        figures = {**last, "learning_rate": learning_rate, "explained": figures["explained"].mean()}
        return state._replace(
            params=params, adam=adam, learning_rate=learning_rate, key=key
        ), figures

    def _update(
        self, params: Any, adam: Any, learning_rate: jax.Array, batch: Batch, cloning: bool
    ) -> tuple[Any, dict[str, jax.Array]]:
        """Take one gradient step, then adapt the actor's learning rate to the divergence before it.

        In cloning the actor has the critic's learning rate.
        """
        gradient, figures = jax.grad(self.loss, has_aux=True)(params, batch, cloning)
        change, adam = self.optimizer.update(gradient, adam)
        constant = self.h.critic_learning_rate
        rates = {**dict.fromkeys(params, constant), "actor": constant if cloning else learning_rate}
        params = {
            name: jax.tree.map(lambda p, d, rate=rate: p - rate * d, params[name], change[name])
            for name, rate in rates.items()
        }
        if not cloning:
            learning_rate = adapted(learning_rate, figures["kl"], self.h.target_kl)
        return (params, adam, learning_rate), figures

    def loss(
        self, params: Any, batch: Batch, cloning: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The sum of the actor's loss, the critic's squared error and the read-out's loss, and
        figures to log.

        In cloning, the actor's loss is a variational bound as in Merel et al. 2019: squared error
        in units of the first deviation, which cloning keeps. The states are the actor's own
        (DAgger, Ross et al. 2011).
        """
        h = self.h
        new = self.network.actor.apply(params["actor"], batch.raw, batch.observation, batch.noise)
        ratio = jnp.exp(new.log_prob(batch.action) - batch.policy.log_prob(batch.action))
        if cloning:
            actor = 0.5 * jnp.sum(((new.mean - batch.taught) / h.sigma) ** 2, axis=-1)
        else:
            actor = -surrogate(ratio, batch.advantage, h.clip_range)
        error = self.critic.apply(params["critic"], batch.observation) - batch.value_target
        weight = h.cloning_kl_weight if cloning else h.kl_weight
        loss = (actor + weight * new.latent_kl + 0.5 * error**2).mean()
        figures = {
            "kl": batch.policy.divergence(new).mean(),
            "clipped": (jnp.abs(ratio - 1.0) > h.clip_range).mean(),
            "sigma": new.deviation.mean(),
            "latent_kl": new.latent_kl.mean(),
            "explained": 1.0 - error.var() / (batch.value_target.var() + 1e-8),
            "cloning_error": jnp.abs(new.mean - batch.taught).mean() if self.teacher else 0.0,
        }
        if self.neurons:
            log_rate = self.readout.apply(params["readout"], new.latent)
            loss += self.neurons.weight * self.neurons.loss(log_rate, batch.spikes).mean()
            figures["bits_per_spike"] = self.neurons.bits_per_spike(log_rate, batch.spikes)
        return loss, figures


def surrogate(ratio: jax.Array, advantage: jax.Array, clip_range: float) -> jax.Array:
    """The clipped surrogate, eq. 7 of Schulman et al. 2017, (...,)."""
    clipped = jnp.clip(ratio, 1.0 - clip_range, 1.0 + clip_range)
    return jnp.minimum(ratio * advantage, clipped * advantage)


def generalized_advantage(
    rollout: Rollout, value: jax.Array, following: jax.Array, h: Hyperparameters
) -> jax.Array:
    """Generalised advantage estimates (Schulman et al. 2016), (T, B).

    A time limit is not a failure: the return then continues with the value of the last observation.

    Args:
        rollout: control steps (T, B).
        value, following: values of the observations and of the next observations, (T, B).
        h: hyperparameters, of which `gamma` and `gae_lambda` are used.
    """
    error = rollout.reward + h.gamma * (1.0 - rollout.terminated) * following - value

    def backward(later: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[Any, Any]:
        error, done = now
        advantage = error + h.gamma * h.gae_lambda * (1.0 - done) * later
        return advantage, advantage

    zero = jnp.zeros_like(error[0])
    return jax.lax.scan(backward, zero, (error, rollout.done), reverse=True)[1]


def adapted(learning_rate: jax.Array, kl: jax.Array, target: float) -> jax.Array:
    """The next learning rate: lower if `kl` is above twice the target, higher if below half."""
    low, high = LEARNING_RATES
    lower = jnp.maximum(learning_rate / _LEARNING_RATE_FACTOR, low)
    higher = jnp.minimum(learning_rate * _LEARNING_RATE_FACTOR, high)
    return jnp.where(kl > 2 * target, lower, jnp.where(kl < target / 2, higher, learning_rate))


def _deviation(returns: Statistics) -> jax.Array:
    deviation = returns.deviation[0]
    return jnp.where(deviation > _RETURN_DEVIATION, deviation, 1.0)


def _flat(x: jax.Array) -> jax.Array:
    """(T, B, ...) -> (T·B, ...)."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
