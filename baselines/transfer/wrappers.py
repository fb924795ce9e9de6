"""Environments whose action is a decoder's latent, for any algorithm.

Actions lie in [-1, 1]; the latent is `REACH` times the action, so that all but one in 16 000 of the
prior's numbers are within reach and a power of two loses no bits.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from baselines.intention import LATENT
from baselines.transfer.bundle import Decoder
from vnl_envs import SB3VecEnv, SingleEnv

REACH = 4.0


def _space() -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(-1.0, 1.0, (LATENT,), np.float32)


class LatentEnv(gymnasium.ActionWrapper):
    """A Gymnasium environment of `vnl_envs` whose action is the latent.

    Args:
        env: what `gymnasium.make` gave.
        decoder: what makes actions of latents.

    Raises:
        BundleError: the decoder does not fit the environment.
    """

    def __init__(self, env: gymnasium.Env, decoder: Decoder) -> None:
        super().__init__(env)
        assert isinstance(env.unwrapped, SingleEnv)
        self._core, self._decoder = env.unwrapped.core, decoder
        decoder.check(self._core.task, self._core.layout)
        self.action_space = _space()

    def action(self, action: np.ndarray) -> np.ndarray:
        """The body's action (nu,) at the present observation."""
        return self._decoder(REACH * action[None], self._core.observation)[0]


class LatentVecEnv(VecEnvWrapper):
    """`SB3VecEnv`, bare or wrapped, whose actions are latents.

    Args:
        env: the environments.
        decoder: what makes actions of latents.

    Raises:
        BundleError: the decoder does not fit the environments.
    """

    def __init__(self, env: VecEnv, decoder: Decoder) -> None:
        super().__init__(env, action_space=_space())
        assert isinstance(env.unwrapped, SB3VecEnv)
        self._core, self._decoder = env.unwrapped.env.core, decoder
        decoder.check(self._core.task, self._core.layout)

    def reset(self) -> Any:
        """First observations of new episodes."""
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        """Start a control step with the actions that the decoder makes of latents."""
        self.venv.step_async(self._decoder(REACH * actions, self._core.observation))

    def step_wait(self) -> Any:
        """One control step."""
        return self.venv.step_wait()
