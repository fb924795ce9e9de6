"""DMPO's losses, and their gradients, beside those of rlax, which few will have installed.

rlax brings a nightly build of TensorFlow Probability, so that it is best kept out of the
environment: `pip install --no-deps --target FOLDER rlax distrax chex toolz gast six tfp-nightly`
and PYTHONPATH=FOLDER.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import gaussian

from baselines.dmpo.losses import (
    Bounds,
    Duals,
    critic_loss,
    divergences,
    improve,
    log_density,
    policy_loss,
    positive,
    project,
)
from baselines.dmpo.networks import Gaussian

rlax = pytest.importorskip("rlax", reason="compares with rlax")
distrax = pytest.importorskip("distrax", reason="compares with rlax")

BATCH, SAMPLES, ACTION, ATOMS = 7, 16, 3, 21
SUPPORT = jnp.linspace(-2.0, 3.0, ATOMS)
BOUNDS = Bounds(improvement=0.1, penalty=1e-2, mean=2e-3, std=1e-4)


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def drawn(seed: int) -> Gaussian:
    std = 0.2 + 0.5 * jax.nn.sigmoid(normal(seed + 1, BATCH, ACTION))
    return gaussian(0.6 * normal(seed, BATCH, ACTION), std)


def assert_near(ours: Any, theirs: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5), ours, theirs)


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.95])
def test_projection(discount: float) -> None:
    values = 4 * normal(0, BATCH, 1) + discount * SUPPORT
    probabilities = jax.nn.softmax(normal(1, BATCH, ATOMS))
    theirs = jax.vmap(rlax.categorical_l2_project, (0, 0, None))(values, probabilities, SUPPORT)
    assert_near(project(SUPPORT, values, probabilities), theirs)


def test_critic_loss_of_one_sampled_action() -> None:
    logits, next_logits = normal(0, BATCH, ATOMS), normal(1, BATCH, ATOMS)
    reward, discount = normal(2, BATCH), jnp.linspace(0.0, 1.0, BATCH)

    def theirs(logits: jax.Array) -> jax.Array:
        learn = jax.vmap(rlax.categorical_td_learning, (None, 0, 0, 0, None, 0))
        return jnp.mean(learn(SUPPORT, logits, reward, discount, SUPPORT, next_logits))

    def ours(logits: jax.Array) -> jax.Array:
        return critic_loss(logits, SUPPORT, next_logits[None], reward, discount)

    assert_near(jax.value_and_grad(ours)(logits), jax.value_and_grad(theirs)(logits))


@pytest.mark.parametrize("raw", [-2.0, 0.5, 10.0])
def test_improvement(raw: float) -> None:
    returns = 2 * normal(0, SAMPLES, BATCH)

    def ours(raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        weights, loss = improve(returns, positive(raw), BOUNDS.improvement)
        return loss, weights

    def theirs(raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        constraint = rlax.LagrangePenalty(raw, jnp.asarray(BOUNDS.improvement))
        loss, weights, _ = rlax.mpo_compute_weights_and_temperature_loss(
            returns, constraint, positive
        )
        return jnp.mean(loss), weights

    both = (jax.value_and_grad(f, has_aux=True)(jnp.asarray(raw)) for f in (ours, theirs))
    assert_near(*both)


def test_densities_and_divergences() -> None:
    old, new = drawn(0), drawn(10)
    actions = normal(5, SAMPLES, BATCH, ACTION)
    density = distrax.MultivariateNormalDiag(old.mean, old.std).log_prob(actions)
    assert_near(log_density(actions, old.mean, old.std), density)
    own = distrax.Normal(old.mean, old.std)
    expected = (
        own.kl_divergence(distrax.Normal(new.mean, old.std)),
        own.kl_divergence(distrax.Normal(old.mean, new.std)),
    )
    assert_near(divergences(old, new), expected)


def rlax_loss(
    duals: Duals, online: Gaussian, target: Gaussian, actions: jax.Array, returns: jax.Array
) -> jax.Array:
    """The loss of Acme's DMPO put together from rlax's parts."""
    own = distrax.Normal(target.mean, target.std)
    kinds = (
        (distrax.Normal(online.mean, target.std), duals.alpha_mean, BOUNDS.mean),
        (distrax.Normal(target.mean, online.std), duals.alpha_std, BOUNDS.std),
    )
    likelihood = sum(new.log_prob(actions).sum(axis=-1) for new, _, _ in kinds)
    constraints = [
        (own.kl_divergence(new), rlax.LagrangePenalty(alpha, jnp.asarray(bound), True))
        for new, alpha, bound in kinds
    ]
    temperature = rlax.LagrangePenalty(duals.temperature, jnp.asarray(BOUNDS.improvement))
    loss, _ = rlax.mpo_loss(likelihood, returns, temperature, constraints, positive)
    outside = -jnp.linalg.norm(actions - jnp.clip(actions, -1.0, 1.0), axis=-1)
    constraint = rlax.LagrangePenalty(duals.penalty_temperature, jnp.asarray(BOUNDS.penalty))
    penalty_loss, weights, _ = rlax.mpo_compute_weights_and_temperature_loss(
        outside, constraint, positive
    )
    penalty_loss -= jnp.sum(jax.lax.stop_gradient(weights) * likelihood, axis=0)
    return jnp.mean(loss + penalty_loss)


def test_policy_loss_and_its_gradients() -> None:
    """With respect to the policy and to all dual variables."""
    target = drawn(0)
    actions = target.mean + target.std * normal(5, SAMPLES, BATCH, ACTION)
    assert (jnp.abs(actions) > 1).any()
    returns = normal(6, SAMPLES, BATCH)
    duals = Duals(jnp.asarray(0.3), jnp.asarray(-1.0), normal(7, ACTION), 3 + normal(8, ACTION))

    def ours(duals: Duals, online: Gaussian) -> jax.Array:
        return policy_loss(duals, online, target, actions, returns, BOUNDS)[0]

    def theirs(duals: Duals, online: Gaussian) -> jax.Array:
        return rlax_loss(duals, online, target, actions, returns) + jnp.mean(online.penalty)

    both = (jax.value_and_grad(f, argnums=(0, 1))(duals, drawn(10)) for f in (ours, theirs))
    assert_near(*both)
