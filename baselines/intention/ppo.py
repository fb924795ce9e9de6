"""The intention network under PPO: `python -m baselines.ppo --network intention`.

The ratio of likelihoods needs the latent of the loss to be that of the action. So the latent's
noise is part of the observation, and the network is a function of both without noise of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize
from torch import nn

from baselines import ppo
from baselines.export import Branches, Chain, normaliser, part, perceptron
from baselines.intention import LATENT
from baselines.run import Interrupt
from baselines.transfer.bundle import Decoder, describe
from vnl_envs import SB3VecEnv


@dataclass(frozen=True)
class Hyperparameters(ppo.Hyperparameters):
    """Those of PPO, whose layers are now the encoder's, the decoder's and the critic's.

    Attributes:
        kl_weight: of the latent's divergence from the prior (β), per nat; in place of `entropy`.
        cloning_steps: steps of all environments in which the tracking policy is cloned first.
        cloning_kl_weight: β of that, per nat.
        critic_updates: PPO updates after it in which the critic alone learns.
    """

    kl_weight: float
    cloning_steps: int
    cloning_kl_weight: float
    critic_updates: int


class Noise(VecEnvWrapper):
    """Appends standard normal numbers to observations.

    They are torch's, whose generator is part of a run's state; wrapped around the normalisation,
    which is not to see them.

    Args:
        env: flat observations.
        size: how many numbers.
    """

    def __init__(self, env: VecEnv, size: int) -> None:
        assert isinstance(env.observation_space, gymnasium.spaces.Box)
        shape = (env.observation_space.shape[0] + size,)
        super().__init__(env, gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32))
        self._size = size

    def reset(self) -> np.ndarray:
        """First observations."""
        return self._with_noise(self.venv.reset())

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """One control step; of last observations only values are asked, which need no noise."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                last = info["terminal_observation"]
                info["terminal_observation"] = np.pad(last, (0, self._size))
        return self._with_noise(observations), rewards, dones, infos

    def _with_noise(self, observations: Any) -> np.ndarray:
        noise = torch.randn(len(observations), self._size).numpy()
        return np.concatenate([observations, noise], axis=1)


def divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, variance) ‖ N(0, 1)), summed over the last axis, nats."""
    return 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance).sum(dim=-1)


class Actor(nn.Module):
    """Encoder and decoder but for its last layer, which is Stable-Baselines3's `action_net`.

    Args:
        observed, own: sizes of the observation and of its first part, the proprioception.
        layers: widths of the hidden layers of each, tanh.
    """

    def __init__(self, observed: int, own: int, layers: list[int]) -> None:
        super().__init__()
        self._own = own
        self.encoder = nn.Sequential(*_hidden(observed, layers), nn.Linear(layers[-1], 2 * LATENT))
        self.decoder = nn.Sequential(*_hidden(LATENT + own, layers))

    def forward(self, observed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Observations and noise (n, D + `LATENT`) -> the decoder's features (n, layers[-1]) and
        the latent's divergence from the prior (n,).
        """
        observation, noise = observed[:, :-LATENT], observed[:, -LATENT:]
        mean, log_variance = self.encoder(observation).chunk(2, dim=-1)
        latent = mean + (0.5 * log_variance).exp() * noise
        features = self.decoder(torch.cat([latent, observation[:, : self._own]], dim=-1))
        return features, divergence(mean, log_variance)


class Extractor(nn.Module):
    """Actor and critic in the places where Stable-Baselines3 looks for them."""

    def __init__(self, size: int, own: int, layers: dict[str, list[int]]) -> None:
        super().__init__()
        observed = size - LATENT
        self.policy_net = Actor(observed, own, layers["pi"])
        self.value_net = nn.Sequential(*_hidden(observed, layers["vf"]))
        self.latent_dim_pi, self.latent_dim_vf = layers["pi"][-1], layers["vf"][-1]

    def forward(self, observed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of both."""
        return self.forward_actor(observed), self.forward_critic(observed)

    def forward_actor(self, observed: torch.Tensor) -> torch.Tensor:
        """Features that actions are made of."""
        return self.policy_net(observed)[0]

    def forward_critic(self, observed: torch.Tensor) -> torch.Tensor:
        """Features that values are made of; they do not depend on the noise."""
        return self.value_net(observed[:, :-LATENT])


class IntentionPolicy(ActorCriticPolicy):
    """Stable-Baselines3's policy with an encoder and a decoder as its actor.

    Args:
        arguments: its own.
        own: size of the observation's first part, the proprioception.
    """

    def __init__(self, *arguments: Any, own: int, **keywords: Any) -> None:
        self._own = own
        super().__init__(*arguments, **keywords)

    def _build_mlp_extractor(self) -> None:
        assert isinstance(self.net_arch, dict)
        self.mlp_extractor = Extractor(self.features_dim, self._own, self.net_arch)  # type: ignore[assignment]

    def evaluate_actions(  # type: ignore[override]
        self, obs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Values, log-likelihoods and, in the place of an entropy, minus the latent's divergence.

        Stable-Baselines3's loss has one further term, -`ent_coef` times the mean of this: with
        `ent_coef` = β it is + β KL.
        """
        features: Any = self.extract_features(obs)
        decoded, kl = self.mlp_extractor.policy_net(features)
        distribution = self._get_action_dist_from_latent(decoded)
        values = self.value_net(self.mlp_extractor.forward_critic(features))
        return values, distribution.log_prob(actions), -kl


class Intention(ppo.Network):
    """See `baselines.intention`."""

    kind, file = Hyperparameters, "ppo_intention.yml"
    policy = IntentionPolicy
    # Stable-Baselines3 calls it the loss of the entropy.
    figures = {"latent_kl": "entropy_loss"}  # noqa: RUF012
    terms = True
    identity = {"network": "intention"}  # noqa: RUF012

    def __init__(self) -> None:
        self._about: dict[str, Any] = {}

    def outside(self, env: VecNormalize) -> VecEnv:
        """With the latent's noise."""
        return Noise(env, LATENT)

    def arguments(self, env: VecEnv, h: Hyperparameters) -> dict[str, Any]:
        """Where the proprioception is."""
        face = env.unwrapped
        assert isinstance(face, SB3VecEnv)
        self._about = describe(face.env.task, face.env.layout)
        return {"own": sum(self._about["proprioception"].values())}

    def get_state(self) -> dict[str, Any]:
        """What the decoder is for."""
        return {"about": self._about}

    def entropy(self, h: Hyperparameters) -> float:
        """β: see `IntentionPolicy.evaluate_actions`."""
        return h.kl_weight

    def prepare(self, model: ppo.PPO, h: Hyperparameters, interrupt: Interrupt) -> None:
        """Clone the tracking policy, then let the critic learn what the clone earns."""
        if not h.cloning_steps:
            return
        clone(model, h, interrupt)
        actor = model.policy.optimizer.param_groups[0]
        step_size, actor["lr"] = actor["lr"], 0.0
        for _ in range(h.critic_updates):
            if interrupt.asked:
                return
            model.learn(1, reset_num_timesteps=False)
        actor["lr"] = step_size

    @staticmethod
    def layers(state: dict[str, Any]) -> Chain:
        """The encoder's mean, then the decoder."""
        observed, parameters = state["statistics"]["obs_rms"], state["parameters"]
        deviation = np.sqrt(observed["var"] + state["epsilon"])
        encoder, decoder = (weights(parameters, name) for name in ("encoder", "decoder"))
        weight, bias = encoder[-1]
        encoder[-1] = weight[:LATENT], bias[:LATENT]
        own = decoder[0][0].shape[1] - LATENT
        return [
            *normaliser(observed["mean"], deviation, state["clip_observation"]),
            Branches((perceptron(encoder), [part(slice(0, own))])),
            *perceptron(decoder),
        ]


NETWORK = Intention


def clone(model: ppo.PPO, h: Hyperparameters, interrupt: Interrupt) -> None:
    """Teach the actor what the tracking policy does in the states that the actor gets into.

    The loss is a variational bound, as Merel et al. distil experts: squared error in units of the
    action's deviation, and β KL. The states are the actor's own (Ross et al. 2011).

    Raises:
        ValueError: the task has no tracking policy.
    """
    task, env, policy = model.vector.task, model.env, model.policy
    if not hasattr(task, "track"):
        raise ValueError("cloning_steps needs an imitation task, whose tracking policy is cloned")
    assert env is not None
    optimiser = torch.optim.Adam(policy.parameters(), h.critic_step_size)
    observation = env.reset()
    while model.num_timesteps < h.cloning_steps and not interrupt.asked:
        seen: list[Any] = []
        aims: list[Any] = []
        for _ in range(h.rollout):
            seen.append(observation)
            aims.append(task.track(model.vector.episodes, model.vector.carries))
            with torch.no_grad():
                actions = policy(torch.as_tensor(observation))[0].numpy()
            observation = env.step(np.clip(actions, -1, 1))[0]
        model.num_timesteps += h.update_steps
        rows = torch.as_tensor(np.concatenate(seen))
        targets = torch.as_tensor(np.concatenate(aims), dtype=torch.float32)
        for _ in range(h.epochs):
            for batch in torch.randperm(len(rows)).split(h.minibatch):
                decoded, kl = policy.mlp_extractor.policy_net(rows[batch])
                errors = (policy.action_net(decoded) - targets[batch]) / h.sigma
                loss = (0.5 * errors.square().sum(dim=-1) + h.cloning_kl_weight * kl).mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()


def decoder_of(state: dict[str, Any], origin: Mapping[str, Any]) -> Decoder:
    """The decoder in a `PPO.get_state`.

    Args:
        state: of a model with this network.
        origin: see `Decoder`.
    """
    observed = state["statistics"]["obs_rms"]
    statistics = observed["mean"], np.sqrt(observed["var"] + state["epsilon"])
    layers = weights(state["parameters"], "decoder")
    return Decoder.of(state["about"], statistics, state["clip_observation"], layers, origin)


def weights(parameters: dict[str, np.ndarray], name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights (outputs, inputs) and biases of the "encoder" or the "decoder", layer by layer."""
    prefix = f"mlp_extractor.policy_net.{name}."
    names = [k for k in parameters if k.startswith(prefix) and k.endswith(".weight")]
    names += ["action_net.weight"] if name == "decoder" else []
    return [(parameters[k], parameters[k.replace(".weight", ".bias")]) for k in names]


def _hidden(size: int, layers: list[int]) -> list[nn.Module]:
    """Dense layers, each with tanh."""
    sizes = [size, *layers]
    pairs = ((nn.Linear(i, o), nn.Tanh()) for i, o in zip(sizes, layers, strict=False))
    return [module for pair in pairs for module in pair]
