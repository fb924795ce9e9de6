"""PPO whose actions are offsets from a decoder's prior; `python -m baselines.transfer`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from baselines import ppo
from baselines.export import Branches, Chain, Layer, added, clip, normaliser, part, perceptron
from baselines.intention import LATENT
from baselines.intention.network import prior_mean
from baselines.ppo.networks import Actor, mlp_layers
from baselines.registered import DECODER
from baselines.transfer.bundle import Decoder
from baselines.transfer.wrappers import REACH


class Decoded(ppo.Network):
    """The feed-forward actor, with a decoder between the actor and the body.

    Args:
        task, layout, h: see `ppo.Network`.
        decoder: the decoder.

    Raises:
        BundleError: the decoder does not fit the task.
    """

    name = DECODER
    files = (*ppo.Network.files, "transfer.yml")

    def __init__(
        self, task: Any, layout: Mapping[str, slice], h: ppo.Hyperparameters, decoder: Decoder
    ) -> None:
        decoder.check(task, layout)
        self.decoder = decoder
        self.identity = {"decoder": decoder.digest}
        self.action_size = LATENT
        self.actor = Actor(LATENT, tuple(h.layers), h.sigma)

    def applied(self, raw: jax.Array, action: jax.Array) -> jax.Array:
        """The decoder's actions (..., nu) for actions (..., `LATENT`) at observations (..., D)."""
        return self.decoder.act(raw, REACH * action.clip(-1.0, 1.0))

    def about(self) -> dict[str, Any]:
        """The decoder, so that a checkpoint can be exported without its bundle."""
        return {"decoder": self.decoder.tree()}

    @staticmethod
    def layers(acting: Mapping[str, Any]) -> Chain:
        """The actor's mean and the prior's, then the decoder."""
        decoder = Decoder.from_tree(acting["decoder"])
        reach = Layer("Mul", (np.array(REACH, np.float32),))
        actor = [*mlp_layers(acting), clip(-1, 1), reach]
        scaled = normaliser(decoder.mean, decoder.deviation, decoder.bound)
        own = [part(slice(0, decoder.own)), *scaled]
        latent = added(actor, [*own, *prior_mean(decoder)], LATENT)
        return [Branches((latent, own)), *perceptron(decoder.layers)]


def network_of(decoder: Decoder) -> Any:
    """The class of networks with this decoder, for `ppo.Training`."""
    made: Any = functools.partial(Decoded, decoder=decoder)
    made.name = Decoded.name
    return made
