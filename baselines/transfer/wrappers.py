"""Environments whose action is an offset from a decoder's prior, for any algorithm.

Actions lie in [-1, 1]. The offset of the latent from the prior's mean is `REACH` times the action;
0 is the prior's most likely behaviour.
"""

from __future__ import annotations

import gymnasium
import numpy as np

from baselines.intention import LATENT
from baselines.transfer.bundle import Decoder
from vnl_envs import SingleEnv

REACH = 2.0


class LatentEnv(gymnasium.ActionWrapper):
    """A Gymnasium environment of `vnl_envs` with such an action.

    Args:
        env: an environment from `gymnasium.make`.
        decoder: decoder from latents to actions of the body.

    Raises:
        BundleError: the decoder does not fit the environment.
    """

    def __init__(self, env: gymnasium.Env, decoder: Decoder) -> None:
        super().__init__(env)
        assert isinstance(env.unwrapped, SingleEnv)
        self._core, self._decoder = env.unwrapped.core, decoder
        decoder.check(self._core.task, self._core.layout)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (LATENT,), np.float32)

    def action(self, action: np.ndarray) -> np.ndarray:
        """The body's action (nu,) at the present observation."""
        return self._decoder.act(self._core.observation, REACH * action[None])[0]
