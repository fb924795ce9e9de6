"""The networks of PPO: actors that give a diagonal Gaussian, and the critic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from baselines.export import Chain, Layer, added, layer_of, normaliser
from baselines.ppo.base import Track
from baselines.ppo.hyperparameters import TRACK, Hyperparameters
from baselines.registered import MLP
from baselines.statistics import MOST_DEVIATIONS

_FIRST_MEAN = 0.01
"""Initial gain of the mean's layer: the first actions are close to the base action."""


class Gaussian(NamedTuple):
    """A diagonal Gaussian over actions.

    Attributes:
        mean, deviation: (..., nu) mean and standard deviation.
        latent_kl: (...,) divergence of a latent from its prior, nats; 0 without a latent.
        latent: (..., L) the latent's mean; L is 0 without a latent.
    """

    mean: jax.Array
    deviation: jax.Array
    latent_kl: jax.Array
    latent: jax.Array

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log-likelihood (...,) of actions (..., nu), up to a constant."""
        apart = (action - self.mean) / self.deviation
        return -(0.5 * apart**2 + jnp.log(self.deviation)).sum(axis=-1)

    def divergence(self, other: Gaussian) -> jax.Array:
        """KL(self ‖ other), (...,), nats."""
        ratio = self.deviation / other.deviation
        apart = (self.mean - other.mean) / other.deviation
        return (0.5 * (ratio**2 + apart**2 - 1.0) - jnp.log(ratio)).sum(axis=-1)


class Torso(nn.Module):
    """Dense layers, each with ELU.

    Attributes:
        sizes: sizes of the layers.
    """

    sizes: Sequence[int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., D) -> (..., sizes[-1])."""
        for size in self.sizes:
            x = nn.elu(nn.Dense(size, kernel_init=nn.initializers.orthogonal(math.sqrt(2)))(x))
        return x


class Actor(nn.Module):
    """A feed-forward actor whose deviation is the same at all observations.

    Attributes:
        action_size: size of the action, nu.
        sizes: sizes of the torso's layers.
        sigma: initial standard deviation of the actions.
        base: function from raw observations to the action to which the network adds; None adds to
            0, the standing pose.
    """

    action_size: int
    sizes: Sequence[int]
    sigma: float
    base: Any = None

    @nn.compact
    def __call__(self, raw: jax.Array, observation: jax.Array, noise: jax.Array) -> Gaussian:
        """The distribution at observations (..., D), raw and normalised, and noise (..., 0)."""
        mean = mean_head(Torso(self.sizes, name="torso")(observation), self.action_size)
        if self.base is not None:
            mean += self.base(raw)
        return with_deviation(self, mean, self.sigma)


def mean_head(x: jax.Array, action_size: int) -> jax.Array:
    """The mean as a layer over features; call it inside a compact module."""
    start = nn.initializers.orthogonal(_FIRST_MEAN)
    return nn.Dense(action_size, kernel_init=start, name="mean")(x)


def with_deviation(module: nn.Module, mean: jax.Array, sigma: float) -> Gaussian:
    """A Gaussian whose deviation is a parameter of the module, one number per dimension."""
    start = nn.initializers.constant(math.log(sigma))
    log_sigma = module.param("log_sigma", start, mean.shape[-1:])
    deviation = jnp.broadcast_to(jnp.exp(log_sigma), mean.shape)
    return Gaussian(mean, deviation, jnp.zeros(mean.shape[:-1]), mean[..., :0])


class Critic(nn.Module):
    """Expected returns.

    Attributes:
        sizes: sizes of the torso's layers.
    """

    sizes: Sequence[int]

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        """Normalised observations (..., D) -> (...,)."""
        x = Torso(self.sizes, name="torso")(observation)
        return nn.Dense(1, kernel_init=nn.initializers.orthogonal(1.0), name="value")(x)[..., 0]


class Network:
    """Interface between a policy's network and PPO. This class is a feed-forward actor; for others
    see `baselines.intention.ppo` and `baselines.transfer.ppo`.

    Args:
        task: task of the environments.
        layout: slices of the observations by name.
        h: hyperparameters.

    Raises:
        ValueError: the network is not for this task.

    Attributes:
        name: name in a run's record.
        files: names of the files of hyperparameters in `hyperparameters.FOLDER`.
        actor: module from observations, raw and normalised, and noise to a `Gaussian`.
        action_size: size of the actor's output.
        noise_size: number of standard normal numbers in the actor's input.
        identity: other fields of the network in a run's record.
    """

    name = MLP
    files: tuple[str, ...] = ("ppo.yml",)
    noise_size = 0
    identity: Mapping[str, Any] = {}

    def __init__(self, task: Any, layout: Mapping[str, slice], h: Hyperparameters) -> None:
        self.base = Track.of(task, layout) if h.base == TRACK else None
        self.action_size = task.body.nu
        self.actor: Any = Actor(self.action_size, tuple(h.layers), h.sigma, self.base)

    def applied(self, raw: jax.Array, action: jax.Array) -> jax.Array:
        """The body's action (..., nu) for the actor's action at observations (..., D)."""
        return action

    def about(self) -> dict[str, Any]:
        """The description of the network in a checkpoint, besides its parameters."""
        return {} if self.base is None else {"base": self.base.tree()}

    @staticmethod
    def layers(acting: Mapping[str, Any]) -> Chain:
        """The mean action of a checkpoint's "model", for `write_onnx`."""
        chain = mlp_layers(acting)
        if "base" not in acting:
            return chain
        base = Track(**acting["base"])
        return added(chain, base.layers(), len(base.bias))


def mlp_layers(acting: Mapping[str, Any]) -> list[Layer]:
    """The mean of an `Actor` in a checkpoint's "model", without its base."""
    modules = acting["actor"]["params"]
    scaling = normaliser(acting["mean"], acting["deviation"], MOST_DEVIATIONS)
    torso = modules["torso"]
    hidden = [layer_of(torso[f"Dense_{i}"]) for i in range(len(torso))]
    with_elu = [layer for dense in hidden for layer in (dense, Layer("Elu"))]
    return [*scaling, *with_elu, layer_of(modules["mean"])]
