"""The intention network as a policy of DMPO, with a decoder that learns or a reused one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from baselines.dmpo.networks import (
    Gaussian,
    Torso,
    deviation_head,
    layer_of,
    mean_head,
    torso_layers,
)
from baselines.dmpo.state import MOST_DEVIATIONS, Statistics
from baselines.export import Branches, Chain, normaliser, part, perceptron
from baselines.intention import LATENT
from baselines.transfer.bundle import Decoder, Layers


def divergence(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """KL(N(mean, variance) ‖ N(0, 1)), summed over the last axis, nats."""
    return 0.5 * jnp.sum(mean**2 + jnp.exp(log_variance) - 1.0 - log_variance, axis=-1)


class IntentionPolicy(nn.Module):
    """A policy for `baselines.dmpo.Learner`; its penalty is β KL.

    The decoder is that of `baselines.intention.ppo`, tanh layers, so that a bundle serves both.

    Attributes:
        action_size: nu.
        own: size of the observation's first part, the proprioception.
        sizes: widths of the hidden layers, of the encoder and of the decoder.
        initial_std: standard deviation of the actions before learning.
        kl_weight: β, per nat.
        decoder: one whose numbers are constants, in place of one that learns. The learner then
            normalises the proprioception by this decoder's statistics.
    """

    action_size: int
    own: int
    sizes: Sequence[int]
    initial_std: float
    kl_weight: float
    decoder: Decoder | None = None
    noise_size: int = LATENT

    @nn.compact
    def __call__(self, observation: jax.Array, noise: jax.Array) -> Gaussian:
        """Observations (..., D) and noise (..., `LATENT`) -> the distribution of actions."""
        encoded = nn.Dense(2 * LATENT, name="latent")(
            Torso(self.sizes, name="encoder")(observation)
        )
        mean, log_variance = jnp.split(encoded, 2, axis=-1)
        latent = mean + jnp.exp(0.5 * log_variance) * noise
        x = jnp.concatenate([latent, observation[..., : self.own]], axis=-1)
        if self.decoder is None:
            for i, size in enumerate(self.sizes):
                x = jnp.tanh(nn.Dense(size, name=f"decoder_{i}")(x))
            action = mean_head(x, self.action_size)
        else:
            *hidden, last = self.decoder.layers
            for layer in hidden:
                x = jnp.tanh(_constant(layer, x))
            action = _constant(last, x)
        std = deviation_head(x, self.action_size, self.initial_std)
        return Gaussian(action, std, self.kl_weight * divergence(mean, log_variance))


def _constant(layer: tuple[np.ndarray, np.ndarray], x: jax.Array) -> jax.Array:
    weight, bias = layer
    return x @ weight.T + bias


def decoder_of(params: Any) -> Layers:
    """The decoder among an `IntentionPolicy`'s parameters, as `Decoder.of` takes it."""
    modules = params["params"]
    names = sorted(name for name in modules if name.startswith("decoder_"))
    dense = [modules[name] for name in names] + [modules["mean"]]
    return [(np.asarray(m["kernel"]).T, np.asarray(m["bias"])) for m in dense]


def layers_of(
    params: Any, statistics: Statistics, own: int, decoder: Decoder | None = None
) -> Chain:
    """The mean of an `IntentionPolicy` without noise, for `write_onnx`.

    Args:
        params: the policy's.
        statistics: the learner's, of the whole observation.
        own, decoder: see `IntentionPolicy`.
    """
    modules = params["params"]
    head = {name: np.asarray(value)[..., :LATENT] for name, value in modules["latent"].items()}
    encoder = [*torso_layers(modules["encoder"]), layer_of(head)]
    layers = decoder_of(params) if decoder is None else decoder.layers
    return [
        *_normaliser(statistics, decoder), Branches((encoder, [part(slice(0, own))])),
        *perceptron(layers),
    ]  # fmt: skip


def _normaliser(statistics: Statistics, decoder: Decoder | None) -> Chain:
    """Observations as the learner's networks see them."""
    mean, deviation = np.asarray(statistics.mean), np.asarray(statistics.deviation)
    if decoder is None:
        return normaliser(mean, deviation, MOST_DEVIATIONS)
    rest = slice(decoder.own, len(mean))
    own = normaliser(decoder.mean, decoder.deviation, decoder.bound)
    others = normaliser(mean[rest], deviation[rest], MOST_DEVIATIONS)
    return [Branches(([part(slice(0, decoder.own)), *own], [part(rest), *others]))]
