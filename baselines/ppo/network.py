"""How a policy's network joins PPO, and which networks there are."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from baselines import run
from baselines.export import Chain, Layer, dense, normaliser
from baselines.ppo.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    from baselines.ppo.algorithm import PPO

ALGORITHM = "ppo"


class Network:
    """How a policy's network joins PPO. This one is a feed-forward actor beside its critic; others
    override what differs, see `baselines.intention.ppo` and `baselines.transfer.ppo`.

    Attributes:
        kind, file: of the hyperparameters, the second in `hyperparameters.FOLDER`.
        policy: Stable-Baselines3's class.
        figures: further columns of the log, by the name of each in Stable-Baselines3's log.
        terms: whether the log has the reward's terms, means over the steps of training.
        identity: what the run's record says of the network.
    """

    kind: type[Hyperparameters] = Hyperparameters
    file = f"{ALGORITHM}.yml"
    policy: type[ActorCriticPolicy] = ActorCriticPolicy
    figures: dict[str, str] = {}  # noqa: RUF012
    terms = False
    identity: dict[str, Any] = {}  # noqa: RUF012

    def inside(self, env: VecEnv) -> VecEnv:
        """The environments as they are normalised."""
        return env

    def outside(self, env: VecNormalize) -> VecEnv:
        """The normalised environments as the network sees them."""
        return env

    def arguments(self, env: VecEnv, h: Any) -> dict[str, Any]:
        """Of the policy's class, beside those of every network."""
        return {}

    def entropy(self, h: Any) -> float:
        """Weight of what the policy gives as its entropy."""
        return h.entropy

    def actions(self, observations: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """What reaches the body, (n, nu), where the policy gives `outputs` at observations."""
        return outputs

    def prepare(self, model: PPO, h: Any, interrupt: run.Interrupt) -> None:
        """What comes before the first update; it leaves off when an interrupt is asked for."""

    def get_state(self) -> dict[str, Any]:
        """What the model's state holds of the network beside its parameters."""
        return {}

    @staticmethod
    def layers(state: dict[str, Any]) -> Chain:
        """The mean action of a `PPO.get_state`, for `write_onnx`."""
        return mean_layers(state)


MLP = "mlp"
# Where the others are; each module has a class `NETWORK`. The decoder is not for this command line.
_MODULES = {"intention": "baselines.intention.ppo", "decoder": "baselines.transfer.ppo"}
NAMES = (MLP, "intention")


def network_class(name: str) -> type[Network]:
    """The class of a network by its name in a run's record.

    Raises:
        ValueError: there is none of that name.
    """
    if name == MLP:
        return Network
    if name not in _MODULES:
        raise ValueError(f"network must be one of {NAMES}, got {name!r}")
    return importlib.import_module(_MODULES[name]).NETWORK


def mean_layers(state: dict[str, Any]) -> list[Layer]:
    """The mean of the policy in a `PPO.get_state`, for `write_onnx`."""
    observed, parameters = state["statistics"]["obs_rms"], state["parameters"]
    deviation = np.sqrt(observed["var"] + state["epsilon"])
    layers = normaliser(observed["mean"], deviation, state["clip_observation"])
    for name in parameters:
        if name.startswith("mlp_extractor.policy_net") and name.endswith(".weight"):
            layers += [_dense(parameters, name), Layer("Tanh")]
    return [*layers, _dense(parameters, "action_net.weight")]


def _dense(parameters: dict[str, np.ndarray], weight: str) -> Layer:
    return dense(parameters[weight], parameters[weight.replace(".weight", ".bias")])
