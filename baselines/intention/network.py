"""The intention network for any algorithm, and the decoder and the layers of its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from baselines.dmpo.networks import Torso, torso_layers
from baselines.export import Branches, Chain, Layer, added, layer_of, normaliser, part, perceptron
from baselines.intention import LATENT
from baselines.statistics import MOST_DEVIATIONS
from baselines.transfer.bundle import Decoder, Layers

Moments = tuple[np.ndarray, np.ndarray]


class Bottleneck(nn.Module):
    """Encoder, learned prior and decoder without the decoder's last layer.

    The latent is z = μ(own) + e(observation) + noise: the sum of the prior's mean, a function of
    the proprioception, the encoder's output and noise (Luo et al. 2024, PULSE, arXiv 2310.04582).

    Attributes:
        own: size of the observation's first part, the proprioception.
        sizes: widths of the hidden layers of the encoder, the prior and the decoder.
        decoder: fixed decoder; None for a learning one. With a fixed decoder, the proprioception
            must be normalised by the decoder's statistics.
    """

    own: int
    sizes: Sequence[int]
    decoder: Decoder | None = None

    @nn.compact
    def __call__(
        self, observation: jax.Array, noise: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Observations (..., D) and noise (..., `LATENT`) -> the input of the decoder's last layer,
        the latent's divergence from the prior (...,), nats, and its mean (..., `LATENT`).
        """
        own = observation[..., : self.own]
        encoded = nn.Dense(2 * LATENT, name="latent")(
            Torso(self.sizes, name="encoder")(observation)
        )
        added, log_variance = jnp.split(encoded, 2, axis=-1)
        prior, prior_log_variance = jnp.split(self._prior(own), 2, axis=-1)
        mean = prior + added
        latent = mean + jnp.exp(0.5 * log_variance) * noise
        x = jnp.concatenate([latent, own], axis=-1)
        if self.decoder is None:
            for i, size in enumerate(self.sizes):
                x = jnp.tanh(nn.Dense(size, name=f"decoder_{i}")(x))
        else:
            x = _hidden(self.decoder.layers, x)
        return x, divergence(added, log_variance, prior_log_variance), mean

    def _prior(self, own: jax.Array) -> jax.Array:
        if self.decoder is not None:
            return affine(self.decoder.prior[-1], _hidden(self.decoder.prior, own))
        for i, size in enumerate(self.sizes):
            own = jnp.tanh(nn.Dense(size, name=f"prior_{i}")(own))
        return nn.Dense(2 * LATENT, name="prior")(own)


def divergence(apart: jax.Array, log_variance: jax.Array, prior_log_variance: Any) -> jax.Array:
    """KL(N(m + apart, variance) ‖ N(m, prior's variance)), summed over the last axis, nats."""
    ratio = log_variance - prior_log_variance
    scaled = apart**2 * jnp.exp(-prior_log_variance)
    return 0.5 * jnp.sum(scaled + jnp.exp(ratio) - 1.0 - ratio, axis=-1)


def affine(layer: tuple[np.ndarray, np.ndarray], x: jax.Array) -> jax.Array:
    """Apply a dense layer with constant weights (outputs, inputs) and biases (outputs,)."""
    weight, bias = layer
    return x @ weight.T + bias


def _hidden(layers: Layers, x: jax.Array) -> jax.Array:
    """Apply all layers but the last, each with tanh."""
    for layer in layers[:-1]:
        x = jnp.tanh(affine(layer, x))
    return x


def decoder_of(
    modules: Mapping[str, Any],
    mean: Mapping[str, Any],
    about: Mapping[str, Any],
    statistics: Moments,
    origin: Mapping[str, Any],
) -> Decoder:
    """The decoder that a network has learnt.

    Args:
        modules: parameters of a `Bottleneck`.
        mean: parameters of the layer after the `Bottleneck`.
        about: properties that the decoder matches, see `describe`.
        statistics: mean and deviation of the full observation, (D,) each.
        origin: see `Decoder`.
    """
    layers = [*_numbered(modules, "decoder_"), _pair(mean)]
    prior = [*_numbered(modules, "prior_"), _pair(modules["prior"])]
    return Decoder.of(about, statistics, MOST_DEVIATIONS, layers, prior, origin)


def policy_layers(
    modules: Mapping[str, Any], decoder: Decoder, statistics: Moments, reused: bool
) -> Chain:
    """The mean of a policy without noise, for `write_onnx`.

    Args:
        modules: parameters of a `Bottleneck`.
        decoder: the learnt or the reused decoder.
        statistics: mean and deviation of the full observation, (D,) each.
        reused: whether the decoder has its own statistics of the proprioception.
    """
    head = {name: np.asarray(value)[..., :LATENT] for name, value in modules["latent"].items()}
    encoder = [*torso_layers(modules["encoder"]), layer_of(head)]
    own = [part(slice(0, decoder.own))]
    return [
        *_normaliser(statistics, decoder if reused else None),
        Branches((added(encoder, [*own, *prior_mean(decoder)], LATENT), own)),
        *perceptron(decoder.layers),
    ]


def prior_mean(decoder: Decoder) -> list[Layer]:
    """The prior's mean as a function of the normalised proprioception, for `write_onnx`."""
    *hidden, (weight, bias) = decoder.prior
    return perceptron([*hidden, (weight[:LATENT], bias[:LATENT])])


def _normaliser(statistics: Moments, decoder: Decoder | None) -> Chain:
    """The layers that normalise observations as in the learner."""
    mean, deviation = map(np.asarray, statistics)
    if decoder is None:
        return normaliser(mean, deviation, MOST_DEVIATIONS)
    rest = slice(decoder.own, len(mean))
    own = normaliser(decoder.mean, decoder.deviation, decoder.bound)
    others = normaliser(mean[rest], deviation[rest], MOST_DEVIATIONS)
    return [Branches(([part(slice(0, decoder.own)), *own], [part(rest), *others]))]


def _numbered(modules: Mapping[str, Any], prefix: str) -> Layers:
    count = sum(name.startswith(prefix) for name in modules)
    return [_pair(modules[f"{prefix}{i}"]) for i in range(count)]


def _pair(module: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(module["kernel"]).T, np.asarray(module["bias"])
