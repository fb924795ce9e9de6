"""The state of a DMPO learner, and one update of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from baselines.dmpo.losses import (
    Bounds,
    Duals,
    critic_loss,
    expected_return,
    policy_loss,
)
from baselines.dmpo.networks import ATOMS, Critic, Gaussian, Policy
from baselines.statistics import Statistics

Params = Any
Array = Any
"""An array of NumPy or JAX."""


@dataclass(frozen=True)
class Hyperparameters:
    """Settings of the learner; `docs/baselines.md` says where each default comes from.

    Attributes:
        lowest_return, highest_return: ends of the critic's support, the range of discounted
            returns. Rewards of these tasks are in [0, 1], so 0 to 1 / (1 - discount) holds.
        discount: discount per control step.
        n_step: number of rewards in a target before the bootstrap.
        samples: number of actions drawn from the target policy at each state.
        batch_size: transitions per update.
        policy_layers, critic_layers: widths of the torsos' layers.
        sigma: initial standard deviation of the policy, for actions in [-1, 1].
        policy_learning_rate, critic_learning_rate, dual_learning_rate: learning rates of Adam.
        max_grad_norm: bound on the norm of each network's gradient.
        target_period: updates between copies to the target networks.
        epsilon, epsilon_penalty, epsilon_mean, epsilon_std: constraints, see `losses.Bounds`.
        temperature, alpha_mean, alpha_std: initial dual variables, before softplus.
        normalise: whether observations are normalised by their running mean and deviation.
    """

    lowest_return: float = 0.0
    highest_return: float = 100.0
    discount: float = 0.99
    n_step: int = 5
    samples: int = 20
    batch_size: int = 256
    policy_layers: Sequence[int] = (256, 256, 256)
    critic_layers: Sequence[int] = (512, 512, 256)
    sigma: float = 0.3
    policy_learning_rate: float = 1e-4
    critic_learning_rate: float = 1e-4
    dual_learning_rate: float = 1e-2
    max_grad_norm: float = 40.0
    target_period: int = 100
    epsilon: float = 0.1
    epsilon_penalty: float = 1e-3
    epsilon_mean: float = 2.5e-3
    epsilon_std: float = 1e-6
    temperature: float = 10.0
    alpha_mean: float = 10.0
    alpha_std: float = 1000.0
    normalise: bool = True

    @property
    def bounds(self) -> Bounds:
        """The constraints."""
        return Bounds(self.epsilon, self.epsilon_penalty, self.epsilon_mean, self.epsilon_std)


class Transitions(NamedTuple):
    """A batch of n-step transitions.

    Attributes:
        observation: (B, D) first observation.
        action: (B, nu) action at this observation.
        reward: (B,) sum of the discounted rewards that followed.
        discount: (B,) discount of the value of `next_observation`: γⁿ, or 0 after a failure. A
            time limit is not a failure.
        next_observation: (B, D) observation n steps later, or at the episode's end if earlier.
    """

    observation: Array
    action: Array
    reward: Array
    discount: Array
    next_observation: Array


def in_batches(transitions: Transitions, count: int) -> Transitions:
    """Transitions (K·B, ...) as `count` = K batches, (K, B, ...)."""
    return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), transitions)


class LearnerState(NamedTuple):
    """The complete state of learning.

    Attributes:
        policy, critic, duals: learnt parameters.
        target_policy, target_critic: parameters of the target networks.
        policy_optimiser, critic_optimiser, dual_optimiser: states of Adam.
        statistics: statistics of observations.
        updates: () number of updates so far.
    """

    policy: Params
    critic: Params
    duals: Duals
    target_policy: Params
    target_critic: Params
    policy_optimiser: optax.OptState
    critic_optimiser: optax.OptState
    dual_optimiser: optax.OptState
    statistics: Statistics
    updates: jax.Array


class PolicyNetwork(Protocol):
    """Interface of a policy network, see `networks.Policy`.

    If it has a `decoder` that is not None, the decoder normalises the first part of observations,
    see `baselines.intention.dmpo`.
    """

    noise_size: int

    def init(self, key: jax.Array, observation: jax.Array, noise: jax.Array) -> Params:
        """Parameters."""

    def apply(self, params: Params, observation: jax.Array, noise: jax.Array) -> Gaussian:
        """The distribution of actions."""
        ...


class Learner:
    """DMPO over observations (D,) and actions (nu,). All methods are pure and can be jitted.

    Args:
        observation_size: size of an observation, D.
        action_size: size of an action, nu.
        hyperparameters: settings.
        policy: policy network that replaces `networks.Policy`.

    Raises:
        ValueError: the critic's support is empty.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hyperparameters: Hyperparameters | None = None,
        policy: nn.Module | None = None,
    ) -> None:
        self.settings = s = hyperparameters or Hyperparameters()
        if not s.lowest_return < s.highest_return:
            raise ValueError(
                f"lowest_return must be below highest_return, got {s.lowest_return} and "
                f"{s.highest_return}"
            )
        self.observation_size, self.action_size = observation_size, action_size
        self.policy: Any = policy or Policy(action_size, tuple(s.policy_layers), s.sigma)
        self.critic: Any = Critic(tuple(s.critic_layers))
        self.support = jnp.linspace(s.lowest_return, s.highest_return, ATOMS)
        self._optimisers = {
            name: optax.chain(optax.clip_by_global_norm(s.max_grad_norm), optax.adam(rate))
            for name, rate in (
                ("policy", s.policy_learning_rate),
                ("critic", s.critic_learning_rate),
            )
        }
        self._dual_optimiser = optax.adam(s.dual_learning_rate)

    def init(self, key: jax.Array) -> LearnerState:
        """A state before learning."""
        policy_key, critic_key = jax.random.split(key)
        observation, action = jnp.zeros(self.observation_size), jnp.zeros(self.action_size)
        policy = self.policy.init(policy_key, observation, jnp.zeros(self.policy.noise_size))
        critic = self.critic.init(critic_key, observation, action)
        s = self.settings
        # Weak types would need a second compilation after the first update.
        temperature = jnp.asarray(s.temperature, jnp.float32)
        duals = Duals(
            temperature,
            jnp.copy(temperature),
            jnp.full(self.action_size, s.alpha_mean, jnp.float32),
            jnp.full(self.action_size, s.alpha_std, jnp.float32),
        )
        return LearnerState(
            policy=policy,
            critic=critic,
            duals=duals,
            # Copies, because a donated buffer must not occur twice.
            target_policy=jax.tree.map(jnp.copy, policy),
            target_critic=jax.tree.map(jnp.copy, critic),
            policy_optimiser=self._optimisers["policy"].init(policy),
            critic_optimiser=self._optimisers["critic"].init(critic),
            dual_optimiser=self._dual_optimiser.init(duals),
            statistics=Statistics.empty(self.observation_size),
            updates=jnp.zeros((), jnp.int32),
        )

    def distribution(
        self, state: LearnerState, observation: jax.Array, key: jax.Array | None = None
    ) -> Gaussian:
        """The distribution of actions at observations (..., D). Without a key its noise is 0."""
        noise = self._noise(key, observation.shape[:-1])
        return self.policy.apply(state.policy, self._seen(state, observation), noise)

    def act(self, state: LearnerState, observation: jax.Array, key: jax.Array) -> jax.Array:
        """Sampled actions (..., nu) in [-1, 1] at observations (..., D)."""
        own, draw = jax.random.split(key)
        gaussian = self.distribution(state, observation, own)
        noise = jax.random.normal(draw, gaussian.mean.shape)
        return jnp.clip(gaussian.mean + gaussian.std * noise, -1.0, 1.0)

    def act_mean(self, state: LearnerState, observation: jax.Array) -> jax.Array:
        """The mean actions (..., nu), in [-1, 1]."""
        return jnp.clip(self.distribution(state, observation).mean, -1.0, 1.0)

    def observe(self, state: LearnerState, observations: jax.Array) -> LearnerState:
        """The state whose statistics include observations (n, D)."""
        return state._replace(statistics=state.statistics.including(observations))

    def update(
        self, state: LearnerState, batch: Transitions, key: jax.Array, axis: str | None = None
    ) -> tuple[LearnerState, dict[str, jax.Array]]:
        """One gradient step of policy, critic and dual variables; and figures to log.

        Args:
            state: state of the learner.
            batch: transitions; with `axis`, this device's part of the batch.
            key: random key of the sampled actions.
            axis: name of the mapped axis over devices, over which gradients are averaged.
        """
        batch = batch._replace(
            observation=self._seen(state, batch.observation),
            next_observation=self._seen(state, batch.next_observation),
        )
        own, draw = jax.random.split(key)
        noise = self._noise(own, batch.reward.shape)
        after = batch.next_observation
        target = self.policy.apply(state.target_policy, after, noise)
        shape = (self.settings.samples, *target.mean.shape)
        actions = target.mean + target.std * jax.random.normal(draw, shape)
        next_logits = self.critic.apply(state.target_critic, after, actions)

        def loss_of_critic(critic: Params) -> jax.Array:
            logits = self.critic.apply(critic, batch.observation, batch.action)
            return critic_loss(logits, self.support, next_logits, batch.reward, batch.discount)

        def loss_of_policy(policy: Params, duals: Duals) -> tuple[jax.Array, dict[str, jax.Array]]:
            # The same noise as in the target policy, so that both are compared at equal latents.
            online = self.policy.apply(policy, after, noise)
            returns = expected_return(self.support, next_logits)
            return policy_loss(duals, online, target, actions, returns, self.settings.bounds)

        critic_value, critic_gradient = jax.value_and_grad(loss_of_critic)(state.critic)
        (policy_value, figures), (policy_gradient, dual_gradient) = jax.value_and_grad(
            loss_of_policy, argnums=(0, 1), has_aux=True
        )(state.policy, state.duals)
        figures = {
            **figures,
            "critic_loss": critic_value,
            "policy_loss": policy_value,
            "expected_return": jnp.mean(expected_return(self.support, next_logits)),
            "critic_gradient": optax.tree.norm(critic_gradient),
            "policy_gradient": optax.tree.norm(policy_gradient),
        }
        gradients = (policy_gradient, critic_gradient, dual_gradient)
        if axis is not None:
            gradients, figures = jax.lax.pmean((gradients, figures), axis)
        return self._step(state, *gradients), figures

    def several_updates(
        self, state: LearnerState, batches: Transitions, key: jax.Array
    ) -> tuple[LearnerState, dict[str, jax.Array]]:
        """Make updates on batches (K, B, ...) in sequence; figures are of the last update."""

        def one(state: LearnerState, item: tuple[Transitions, jax.Array]) -> tuple[Any, Any]:
            return self.update(state, *item)

        keys = jax.random.split(key, len(batches.reward))
        state, figures = jax.lax.scan(one, state, (batches, keys))
        return state, {name: values[-1] for name, values in figures.items()}

    def _step(
        self, state: LearnerState, policy: Params, critic: Params, duals: Duals
    ) -> LearnerState:
        """The state after a gradient step, and after copies to the target networks if due."""
        updates = state.updates + 1
        policy_change, policy_optimiser = self._optimisers["policy"].update(
            policy, state.policy_optimiser
        )
        critic_change, critic_optimiser = self._optimisers["critic"].update(
            critic, state.critic_optimiser
        )
        dual_change, dual_optimiser = self._dual_optimiser.update(duals, state.dual_optimiser)
        new_policy = optax.apply_updates(state.policy, policy_change)
        new_critic = optax.apply_updates(state.critic, critic_change)
        return state._replace(
            policy=new_policy,
            critic=new_critic,
            duals=optax.apply_updates(state.duals, dual_change),
            target_policy=optax.periodic_update(
                new_policy, state.target_policy, updates, self.settings.target_period
            ),
            target_critic=optax.periodic_update(
                new_critic, state.target_critic, updates, self.settings.target_period
            ),
            policy_optimiser=policy_optimiser,
            critic_optimiser=critic_optimiser,
            dual_optimiser=dual_optimiser,
            updates=updates,
        )

    def _seen(self, state: LearnerState, observation: jax.Array) -> jax.Array:
        """Observations, normalised if the settings say so, as input of the networks."""
        seen = state.statistics.normalise(observation) if self.settings.normalise else observation
        decoder = getattr(self.policy, "decoder", None)
        if decoder is None:
            return seen
        own = decoder.normalise(observation[..., : decoder.own])
        return jnp.concatenate([own, seen[..., decoder.own :]], axis=-1)

    def _noise(self, key: jax.Array | None, shape: tuple[int, ...]) -> jax.Array:
        shape = (*shape, self.policy.noise_size)
        return jnp.zeros(shape) if key is None else jax.random.normal(key, shape)
