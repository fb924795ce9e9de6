"""The intention network under PPO: `python -m baselines.ppo --network intention`.

The ratio of likelihoods needs the same latent in the loss as in the action. So the latent's noise
is stored with the observation, and the network is a function of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import linen as nn

from baselines import ppo
from baselines.export import Chain
from baselines.intention import LATENT, network
from baselines.ppo.networks import Gaussian, mean_head, with_deviation
from baselines.registered import INTENTION
from baselines.transfer.bundle import Decoder, describe


class IntentionActor(nn.Module):
    """An actor for `baselines.ppo.PPO`.

    Attributes:
        action_size: size of the action, nu.
        own, sizes: see `network.Bottleneck`.
        sigma: initial standard deviation of the actions.
    """

    action_size: int
    own: int
    sizes: Sequence[int]
    sigma: float

    @nn.compact
    def __call__(self, raw: jax.Array, observation: jax.Array, noise: jax.Array) -> Gaussian:
        """The distribution at observations (..., D), raw and normalised, and noise
        (..., `LATENT`).
        """
        bottleneck = network.Bottleneck(self.own, self.sizes, name="bottleneck")
        x, kl, latent = bottleneck(observation, noise)
        action = with_deviation(self, mean_head(x, self.action_size), self.sigma)
        return action._replace(latent_kl=kl, latent=latent)


class Intention(ppo.Network):
    """See `baselines.intention`."""

    name = INTENTION
    files = (*ppo.Network.files, "ppo_intention.yml")
    noise_size = LATENT

    def __init__(self, task: Any, layout: Mapping[str, slice], h: ppo.Hyperparameters) -> None:
        self._about = describe(task, layout)
        own = sum(self._about["proprioception"].values())
        self.action_size = task.body.nu
        self.actor = IntentionActor(self.action_size, own, tuple(h.layers), h.sigma)

    def about(self) -> dict[str, Any]:
        """The properties that the decoder matches, see `describe`."""
        return {"about": self._about}

    @staticmethod
    def layers(acting: Mapping[str, Any]) -> Chain:
        """The encoder's mean and the prior's, then the decoder."""
        modules = acting["actor"]["params"]["bottleneck"]
        statistics = acting["mean"], acting["deviation"]
        return network.policy_layers(modules, decoder_of(acting, {}), statistics, reused=False)


def decoder_of(acting: Mapping[str, Any], origin: Mapping[str, Any]) -> Decoder:
    """The decoder in a checkpoint's "model".

    Args:
        acting: `acting_state` of a run with this network.
        origin: see `Decoder`.
    """
    modules = acting["actor"]["params"]
    statistics = acting["mean"], acting["deviation"]
    return network.decoder_of(
        modules["bottleneck"], modules["mean"], acting["about"], statistics, origin
    )
