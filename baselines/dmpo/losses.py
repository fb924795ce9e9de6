"""The losses of DMPO, as pure functions.

Shapes: B the batch, N sampled actions, nu the action's size, A the atoms of the critic.

Sources: Abdolmaleki et al. 2018a, "Maximum a posteriori policy optimisation" (arXiv 1806.06920);
2018b, "Relative entropy regularized policy iteration" (arXiv 1812.02256: decoupled constraints);
2020, "A distributional view on multi-objective policy optimization" (arXiv 2005.07513: the
penalty on actions out of bounds); Bellemare et al. 2017 (arXiv 1707.06887: the projection);
Hoffman et al. 2020, "Acme" (arXiv 2006.00979: how the parts go together).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from baselines.dmpo.networks import Gaussian

LEAST_DUAL = 1e-8
"""Lower bound of temperatures and multipliers."""


class Duals(NamedTuple):
    """Lagrange multipliers before the softplus that makes them positive.

    Attributes:
        temperature, penalty_temperature: () temperatures of the two E-steps.
        alpha_mean, alpha_std: (nu,) multipliers of the M-step's constraints.
    """

    temperature: jax.Array
    penalty_temperature: jax.Array
    alpha_mean: jax.Array
    alpha_std: jax.Array


class Bounds(NamedTuple):
    """Constraints, nats.

    Attributes:
        improvement: bound on the KL of the improved to the sampling policy (E-step).
        penalty: the same for the objective "stay within bounds".
        mean, std: bounds on the KL of the old to the new policy due to the mean and due to the
            standard deviation, for each dimension of the action (M-step).
    """

    improvement: float = 0.1
    penalty: float = 1e-3
    mean: float = 2.5e-3
    std: float = 1e-6


def positive(raw: jax.Array) -> jax.Array:
    """A dual variable from its unconstrained parameter."""
    return jax.nn.softplus(raw) + LEAST_DUAL


# The critic ---------------------------------------------------------------------------------------


def mixture(logits: jax.Array) -> jax.Array:
    """Log-probabilities of the mixture over sampled actions, (N, B, A) -> (B, A)."""
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(len(logits))


def project(support: jax.Array, values: jax.Array, probabilities: jax.Array) -> jax.Array:
    """Project a distribution on `values` (..., A) to `support` (A,) (Bellemare et al.).

    Each value's probability is split between its two neighbours on the support, so that the mean
    is kept. Values beyond the ends go to the ends. The support is evenly spaced.
    """
    gap = support[1] - support[0]
    values = jnp.clip(values, support[0], support[-1])
    nearness = 1.0 - jnp.abs(values[..., None, :] - support[:, None]) / gap
    return jnp.sum(jnp.clip(nearness, 0.0, 1.0) * probabilities[..., None, :], axis=-1)


def critic_loss(
    logits: jax.Array,
    support: jax.Array,
    next_logits: jax.Array,
    reward: jax.Array,
    discount: jax.Array,
) -> jax.Array:
    """Cross entropy between the critic and its projected target, ().

    Args:
        logits: (B, A) logits of the critic.
        support: (A,) returns of the atoms.
        next_logits: (N, B, A) logits of the target critic at actions of the target policy.
        reward: (B,) sum of n discounted rewards.
        discount: (B,) γⁿ, or 0 where the episode failed within the n steps.
    """
    values = reward[:, None] + discount[:, None] * support
    target = project(support, values, jnp.exp(mixture(next_logits)))
    target = jax.lax.stop_gradient(target)
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits), axis=-1))


def expected_return(support: jax.Array, logits: jax.Array) -> jax.Array:
    """Means of the critic's distributions, (..., A) -> (...,)."""
    return jnp.sum(jax.nn.softmax(logits) * support, axis=-1)


# The policy ---------------------------------------------------------------------------------------


def improve(objective: jax.Array, temperature: jax.Array, bound: float) -> tuple[jax.Array, ...]:
    """E-step: weights (N, B) of sampled actions, and the temperature's dual loss ().

    Args:
        objective: (N, B) objective of each action, to be maximised.
        temperature: () positive temperature.
        bound: bound on the KL divergence between weights and uniform weights, averaged over B.
    """
    tempered = jax.lax.stop_gradient(objective) / temperature
    weights = jax.lax.stop_gradient(jax.nn.softmax(tempered, axis=0))
    spread = jax.nn.logsumexp(tempered, axis=0) - jnp.log(len(objective))
    return weights, temperature * (bound + jnp.mean(spread))


def weights_divergence(weights: jax.Array) -> jax.Array:
    """KL of the weights (N, B) to uniform ones, averaged over B, ()."""
    return jnp.mean(jnp.sum(weights * jnp.log(len(weights) * weights + 1e-8), axis=0))


def log_density(actions: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Log-density of diagonal Gaussians, (..., nu) -> (...,)."""
    z = (actions - mean) / std
    return -jnp.sum(0.5 * z**2 + jnp.log(std) + 0.5 * jnp.log(2 * jnp.pi), axis=-1)


def divergences(old: Gaussian, new: Gaussian) -> tuple[jax.Array, jax.Array]:
    """KL(old ‖ new) if only the mean differs, and if only the deviation differs; (..., nu) each."""
    by_mean = 0.5 * ((new.mean - old.mean) / old.std) ** 2
    ratio = old.std / new.std
    by_std = 0.5 * (ratio**2 - 1.0) - jnp.log(ratio)
    return by_mean, by_std


def _constrain(kl: jax.Array, alpha: jax.Array, bound: float) -> tuple[jax.Array, jax.Array]:
    """A constraint's penalty on the policy, and the loss of its multipliers."""
    mean = jnp.mean(kl, axis=0)
    penalty = jnp.sum(jax.lax.stop_gradient(alpha) * mean)
    dual = jnp.sum(alpha * (bound - jax.lax.stop_gradient(mean)))
    return penalty, dual


def policy_loss(
    duals: Duals,
    online: Gaussian,
    target: Gaussian,
    actions: jax.Array,
    returns: jax.Array,
    bounds: Bounds,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss () of the E-step and the decoupled M-step, and figures to log.

    The policy is fitted to the weighted actions by maximum likelihood: its mean under the old
    deviation, and its deviation under the old mean. Actions outside [-1, 1] lose weight by a
    separate objective with its own temperature, so that no scale between returns and penalty is
    needed.

    Args:
        duals: multipliers.
        online: (B,) distributions to be improved.
        target: (B,) distributions from which the actions were drawn.
        actions: (N, B, nu) sampled actions.
        returns: (N, B) returns expected by the target critic.
        bounds: constraints.
    """
    target = jax.lax.stop_gradient(target)
    weights, dual_loss = improve(returns, positive(duals.temperature), bounds.improvement)
    outside = -jnp.linalg.norm(actions - jnp.clip(actions, -1.0, 1.0), axis=-1)
    inward, penalty_dual_loss = improve(
        outside, positive(duals.penalty_temperature), bounds.penalty
    )
    both = weights + inward
    likelihood = log_density(actions, online.mean, target.std)
    likelihood += log_density(actions, target.mean, online.std)
    fit = -jnp.mean(jnp.sum(both * likelihood, axis=0))

    by_mean, by_std = divergences(target, online)
    keep_mean, alpha_mean_loss = _constrain(by_mean, positive(duals.alpha_mean), bounds.mean)
    keep_std, alpha_std_loss = _constrain(by_std, positive(duals.alpha_std), bounds.std)
    loss = fit + keep_mean + keep_std + jnp.mean(online.penalty)
    loss += dual_loss + penalty_dual_loss + alpha_mean_loss + alpha_std_loss
    figures = {
        "temperature": positive(duals.temperature),
        "penalty_temperature": positive(duals.penalty_temperature),
        "alpha_mean": jnp.mean(positive(duals.alpha_mean)),
        "alpha_std": jnp.mean(positive(duals.alpha_std)),
        "kl_improvement": weights_divergence(weights),
        "kl_penalty": weights_divergence(inward),
        "kl_mean": jnp.mean(by_mean),
        "kl_std": jnp.mean(by_std),
        "std": jnp.mean(online.std),
        "outside": jnp.mean(-outside),
        "policy_penalty": jnp.mean(online.penalty),
    }
    return loss, figures
