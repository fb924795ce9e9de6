"""Stable-Baselines3's PPO with a step size that follows the divergence, and its whole state."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from baselines.ppo.hyperparameters import Hyperparameters
from baselines.ppo.network import Network
from vnl_envs import SB3VecEnv, VectorEnv


class PPO(stable_baselines3.PPO):
    """Stable-Baselines3's, with a step size for the critic and one for the actor that follows KL.

    The rule is that of Schulman's own code: a divergence of more than twice the target makes the
    step size smaller by 1.5, one of less than half of it larger.

    Args:
        env: a normalised vector environment.
        h: hyperparameters.
        seed: of networks, noise and environments.
        network: the policy's.
    """

    _BOUNDS, _FACTOR = (1e-5, 3e-3), 1.5

    def __init__(
        self, env: VecNormalize, h: Hyperparameters, seed: int, network: Network | None = None
    ) -> None:
        self.network = network or Network()
        env = self.network.outside(env)  # type: ignore[assignment]
        super().__init__(
            self.network.policy,
            env,
            n_steps=h.rollout,
            batch_size=h.minibatch,
            n_epochs=h.epochs,
            gamma=h.gamma,
            gae_lambda=h.gae_lambda,
            clip_range=h.clip_range,
            ent_coef=self.network.entropy(h),
            max_grad_norm=h.max_grad_norm,
            policy_kwargs={
                "net_arch": {"pi": h.layers, "vf": h.layers},
                "activation_fn": torch.nn.Tanh,
                "log_std_init": math.log(h.sigma),
                **self.network.arguments(env, h),
            },
            seed=seed,
            device="cpu",
        )
        critic = [*self.policy.mlp_extractor.value_net.parameters(),
                  *self.policy.value_net.parameters()]  # fmt: skip
        own = {id(p) for p in critic}
        actor = [p for p in self.policy.parameters() if id(p) not in own]
        self.policy.optimizer = torch.optim.Adam(
            [{"params": actor, "lr": h.step_size}, {"params": critic, "lr": h.critic_step_size}],
            eps=1e-5,
        )
        self._target_kl = h.target_kl
        # The run has a log of its own; this one keeps the last values of each update.
        self.set_logger(Logger(None, []))

    def _update_learning_rate(self, optimizers: Any) -> None:
        """Step sizes are set below, not by a schedule."""

    def train(self) -> None:
        """One update, after which the actor's step size is adapted."""
        super().train()
        actor = self.policy.optimizer.param_groups[0]
        kl, (low, high) = self.figure("approx_kl"), self._BOUNDS
        if kl > 2 * self._target_kl:
            actor["lr"] = max(actor["lr"] / self._FACTOR, low)
        elif kl < self._target_kl / 2:
            actor["lr"] = min(actor["lr"] * self._FACTOR, high)

    def figure(self, name: str) -> float:
        """A figure of the last update, by its name in Stable-Baselines3's log."""
        return float(self.logger.name_to_value[f"train/{name}"])

    @property
    def normalise(self) -> VecNormalize:
        """The wrapper that normalises observations and rewards."""
        wrapper = self.get_vec_normalize_env()
        assert wrapper is not None
        return wrapper

    @property
    def vector(self) -> VectorEnv:
        """The environments."""
        return self.face.env

    @property
    def face(self) -> SB3VecEnv:
        """They as Stable-Baselines3 sees them, without what wraps them."""
        face = self.normalise.unwrapped
        assert isinstance(face, SB3VecEnv)
        return face

    @property
    def observed(self) -> RunningMeanStd:
        """Mean and variance of the observations."""
        assert isinstance(self.normalise.obs_rms, RunningMeanStd)
        return self.normalise.obs_rms

    def mean_action(self, observations: np.ndarray) -> np.ndarray:
        """The policy without its noise: observations (n, D), not normalised, to actions (n, nu)."""
        assert self.observation_space.shape is not None
        seen = self.normalise.normalize_obs(observations)
        assert isinstance(seen, np.ndarray)
        # Noise that a network takes with its observations is 0.
        noise = self.observation_space.shape[0] - seen.shape[1]
        seen = np.pad(seen, ((0, 0), (0, noise)))
        return self.network.actions(observations, self.predict(seen, deterministic=True)[0])

    def get_state(self) -> dict[str, Any]:
        """Everything that the coming updates depend on, between two of them."""
        wrapper = self.normalise
        return {
            **self.network.get_state(),
            "steps": self.num_timesteps,
            "updates": self._n_updates,
            "parameters": {k: v.numpy() for k, v in self.policy.state_dict().items()},
            "clip_observation": wrapper.clip_obs,
            "epsilon": wrapper.epsilon,
            "step_sizes": [group["lr"] for group in self.policy.optimizer.param_groups],
            "moments": [
                {k: v.numpy() for k, v in moments.items()}
                for moments in self.policy.optimizer.state_dict()["state"].values()
            ],
            "observation": self._last_obs,
            "starts": self._last_episode_starts,
            "statistics": {name: vars(getattr(wrapper, name)) for name in _STATISTICS},
            "returns": wrapper.returns,
            "environments": self.vector.get_state(),
            "torch": torch.get_rng_state().numpy(),
            "numpy": np.random.get_state(legacy=False),  # noqa: NPY002
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a `get_state`; the coming updates give the same bits."""
        wrapper, optimizer = self.normalise, self.policy.optimizer
        self.num_timesteps, self._n_updates = state["steps"], state["updates"]
        self.policy.load_state_dict({k: torch.tensor(v) for k, v in state["parameters"].items()})
        groups = optimizer.state_dict()["param_groups"]
        for group, step_size in zip(groups, state["step_sizes"], strict=True):
            group["lr"] = step_size
        moments = {
            i: {k: torch.tensor(v) for k, v in moments.items()}
            for i, moments in enumerate(state["moments"])
        }
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self._last_obs, self._last_episode_starts = state["observation"], state["starts"]
        for name in _STATISTICS:
            vars(getattr(wrapper, name)).update(state["statistics"][name])
        wrapper.returns = state["returns"]
        self.vector.set_state(state["environments"])
        torch.set_rng_state(torch.tensor(state["torch"]))
        np.random.set_state(state["numpy"])  # noqa: NPY002


_STATISTICS = ("obs_rms", "ret_rms")
