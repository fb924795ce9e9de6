"""The intention network under DMPO, with a decoder that learns or a reused one:
`python -m baselines.dmpo --network intention`, or `--decoder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from baselines.dmpo import settings
from baselines.dmpo.networks import (
    Gaussian,
    Torso,
    deviation_head,
    mean_head,
    torso_layers,
)
from baselines.dmpo.state import MOST_DEVIATIONS
from baselines.export import Branches, Chain, layer_of, normaliser, part, perceptron
from baselines.intention import LATENT
from baselines.transfer.bundle import Decoder, Layers, describe


@dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
    """Those of DMPO, whose `policy_layers` are now the encoder's and the decoder's.

    Attributes:
        kl_weight: of the latent's divergence from the prior (β), per nat.
    """

    kl_weight: float


Moments = tuple[np.ndarray, np.ndarray]


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


class Intention(settings.Network):
    """See `baselines.intention`.

    Args:
        decoder: one that does not learn, in place of one that does.
    """

    kind, file = Settings, "dmpo_intention.yml"
    columns = ("latent_kl",)

    def __init__(self, decoder: Decoder | None = None) -> None:
        self._decoder = decoder
        self.identity = {"network": settings.INTENTION}
        if decoder is not None:
            self.identity = {"network": settings.DECODER, "decoder": decoder.digest}

    def policy(self, task: Any, layout: Mapping[str, slice], h: Settings) -> IntentionPolicy:
        """The network for a task.

        Raises:
            ValueError: its observations do not begin with proprioception, or are not normalised.
            BundleError: the decoder does not fit it.
        """
        if not h.normalise:
            raise ValueError("the intention network needs `normalise`: a bundle has its numbers")
        own = sum(describe(task, layout)["proprioception"].values())
        if self._decoder is not None:
            self._decoder.check(task, layout)
        return IntentionPolicy(
            task.body.nu, own, tuple(h.policy_layers), h.sigma, h.kl_weight, self._decoder
        )

    def figures(self, row: Mapping[str, float], h: Settings) -> dict[str, float]:
        """The latent's divergence from the prior, nats."""
        kl = row["policy_penalty"] / h.kl_weight if h.kl_weight else float("nan")
        return {"latent_kl": kl}

    def about(self, task: Any, layout: Mapping[str, slice]) -> dict[str, Any]:
        """What the decoder is for; a reused one itself, so that no export needs its bundle."""
        reused = {} if self._decoder is None else {"decoder": self._decoder.tree()}
        return {"about": describe(task, layout), **reused}

    @staticmethod
    def layers(acting: Mapping[str, Any], normalise: bool) -> Chain:
        """The encoder's mean, then the decoder."""
        statistics = acting["mean"], acting["deviation"]
        own = sum(acting["about"]["proprioception"].values())
        decoder = Decoder.from_tree(acting["decoder"]) if "decoder" in acting else None
        return layers_of(acting["policy"], statistics, own, decoder)


NETWORK = Intention


def decoder_of(acting: Mapping[str, Any], origin: Mapping[str, Any]) -> Decoder:
    """The decoder in a checkpoint's "model".

    Args:
        acting: of a run with this network, whose decoder has learnt.
        origin: see `Decoder`.
    """
    statistics = acting["mean"], acting["deviation"]
    layers = decoder_layers(acting["policy"])
    return Decoder.of(acting["about"], statistics, MOST_DEVIATIONS, layers, origin)


def decoder_layers(params: Any) -> Layers:
    """The decoder among an `IntentionPolicy`'s parameters, as `Decoder.of` takes it."""
    modules = params["params"]
    names = sorted(name for name in modules if name.startswith("decoder_"))
    dense = [modules[name] for name in names] + [modules["mean"]]
    return [(np.asarray(m["kernel"]).T, np.asarray(m["bias"])) for m in dense]


def layers_of(params: Any, statistics: Moments, own: int, decoder: Decoder | None = None) -> Chain:
    """The mean of an `IntentionPolicy` without noise, for `write_onnx`.

    Args:
        params: the policy's.
        statistics: mean and deviation of the whole observation, (D,) each.
        own, decoder: see `IntentionPolicy`.
    """
    modules = params["params"]
    head = {name: np.asarray(value)[..., :LATENT] for name, value in modules["latent"].items()}
    encoder = [*torso_layers(modules["encoder"]), layer_of(head)]
    layers = decoder_layers(params) if decoder is None else decoder.layers
    return [
        *_normaliser(statistics, decoder), Branches((encoder, [part(slice(0, own))])),
        *perceptron(layers),
    ]  # fmt: skip


def _normaliser(statistics: Moments, decoder: Decoder | None) -> Chain:
    """Observations as the learner's networks see them."""
    mean, deviation = map(np.asarray, statistics)
    if decoder is None:
        return normaliser(mean, deviation, MOST_DEVIATIONS)
    rest = slice(decoder.own, len(mean))
    own = normaliser(decoder.mean, decoder.deviation, decoder.bound)
    others = normaliser(mean[rest], deviation[rest], MOST_DEVIATIONS)
    return [Branches(([part(slice(0, decoder.own)), *own], [part(rest), *others]))]
