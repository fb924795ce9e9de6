"""PPO whose actions are a decoder's latents; the command is `python -m baselines.transfer`."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from baselines import ppo
from baselines.export import Branches, Chain, Layer, clip, normaliser, part, perceptron
from baselines.transfer.bundle import Decoder
from baselines.transfer.wrappers import REACH, LatentVecEnv


class Decoded(ppo.Network):
    """The feed-forward actor and critic, with a decoder between actor and body.

    Args:
        decoder: it.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.identity = {"network": "decoder", "decoder": decoder.digest}

    def inside(self, env: VecEnv) -> VecEnv:
        """With latents as actions."""
        return LatentVecEnv(env, self.decoder)

    def actions(self, observations: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """The decoder's."""
        return self.decoder(REACH * outputs, observations)

    def get_state(self) -> dict[str, Any]:
        """The decoder, so that a checkpoint can be exported without its bundle."""
        return {"decoder": self.decoder.tree()}

    @staticmethod
    def layers(state: dict[str, Any]) -> Chain:
        """The actor's mean and the normalised proprioception, then the decoder."""
        decoder = Decoder.from_tree(state["decoder"])
        actor = [*ppo.mean_layers(state), clip(-1, 1), Layer("Mul", (np.array(REACH, np.float32),))]
        scaled = normaliser(decoder.mean, decoder.deviation, decoder.bound)
        own = [part(slice(0, decoder.own)), *scaled]
        return [Branches((actor, own)), *perceptron(decoder.layers)]


NETWORK = Decoded
