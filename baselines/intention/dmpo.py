"""The intention network under DMPO, with a learning or a reused decoder:
`python -m baselines.dmpo --network intention`, or `--decoder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from flax import linen as nn

from baselines.dmpo import settings
from baselines.dmpo.networks import Gaussian, deviation_head, mean_head
from baselines.export import Chain
from baselines.intention import LATENT, network
from baselines.registered import DECODER, INTENTION
from baselines.transfer.bundle import Decoder, describe


@dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
    """Settings of DMPO. `policy_layers` are the layers of encoder, prior and decoder.

    Attributes:
        kl_weight: weight of the latent's divergence from the prior (β), per nat.
    """

    kl_weight: float


class IntentionPolicy(nn.Module):
    """A policy for `baselines.dmpo.Learner`; its penalty is β KL.

    Attributes:
        action_size: size of the action, nu.
        own, sizes, decoder: see `network.Bottleneck`.
        initial_std: standard deviation of the actions before learning.
        kl_weight: β, per nat.
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
        bottleneck = network.Bottleneck(self.own, self.sizes, self.decoder, name="bottleneck")
        x, kl, _ = bottleneck(observation, noise)
        if self.decoder is None:
            action = mean_head(x, self.action_size)
        else:
            action = network.affine(self.decoder.layers[-1], x)
        std = deviation_head(x, self.action_size, self.initial_std)
        return Gaussian(action, std, self.kl_weight * kl)


class Intention(settings.Network):
    """See `baselines.intention`.

    Args:
        decoder: fixed decoder; None for a learning one.
    """

    kind = Settings
    files = (*settings.Network.files, "dmpo_intention.yml")
    columns = ("latent_kl",)

    def __init__(self, decoder: Decoder | None = None) -> None:
        self._decoder = decoder
        self.identity = {"network": INTENTION}
        if decoder is not None:
            self.identity = {"network": DECODER, "decoder": decoder.digest}

    def policy(self, task: Any, layout: Mapping[str, slice], h: Settings) -> IntentionPolicy:
        """The network for a task.

        Raises:
            ValueError: its observations do not begin with proprioception, or are not normalised.
            BundleError: the decoder does not fit the task.
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
        """The properties that the decoder matches, or a reused decoder itself for the export."""
        reused = {} if self._decoder is None else {"decoder": self._decoder.tree()}
        return {"about": describe(task, layout), **reused}

    @staticmethod
    def layers(acting: Mapping[str, Any], normalise: bool) -> Chain:
        """The encoder's mean and the prior's, then the decoder."""
        reused = "decoder" in acting
        decoder = Decoder.from_tree(acting["decoder"]) if reused else decoder_of(acting, {})
        modules = acting["policy"]["params"]["bottleneck"]
        statistics = acting["mean"], acting["deviation"]
        return network.policy_layers(modules, decoder, statistics, reused)


def decoder_of(acting: Mapping[str, Any], origin: Mapping[str, Any]) -> Decoder:
    """The decoder in a checkpoint's "model".

    Args:
        acting: `acting_state` of a run with this network and a learning decoder.
        origin: see `Decoder`.
    """
    modules = acting["policy"]["params"]
    statistics = acting["mean"], acting["deviation"]
    return network.decoder_of(
        modules["bottleneck"], modules["mean"], acting["about"], statistics, origin
    )
