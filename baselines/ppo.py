"""PPO (Schulman et al. 2017), Stable-Baselines3's, on a task's vector environment.

python -m baselines.ppo --task vnl/RodentGoalReaching-v0 --seed 0 --steps 3000000 --out runs/rat
"""

from __future__ import annotations

import importlib
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import stable_baselines3
import torch
import typer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from tqdm.auto import tqdm

from baselines import hyperparameters
from baselines.export import (
    Chain,
    Layer,
    check_exported,
    dense,
    normaliser,
    write_onnx,
)
from baselines.run import Interrupt, Run, follow, means
from vnl_envs import SB3VecEnv, VectorEnv
from vnl_envs.tasks.metrics import STANDARD

ALGORITHM = "ppo"


@dataclass(frozen=True)
class Hyperparameters:
    """See `docs/baselines.md` for where each value comes from.

    Attributes:
        num_envs, rollout: environments, and steps of each between two updates.
        epochs, minibatch: passes over a rollout, and samples in a gradient step.
        gamma, gae_lambda: discount, and the mixture of Schulman et al. 2016.
        clip_range: of the probability ratio.
        target_kl: divergence of an update that the actor's step size is adapted to.
        step_size, critic_step_size: Adam's, the first one at the start.
        max_grad_norm: bound on the gradient's norm.
        entropy: weight of the entropy bonus.
        survival: reward for every step, in training only.
        sigma: standard deviation of the actions at the start, in the action's range of [-1, 1].
        layers: widths of the hidden layers, of the actor and of the critic, tanh.
        clip_observation: bound on normalised observations.
        log_every, evaluate_every: updates between rows of the log, and between evaluations.
        evaluation_episodes: episodes of an evaluation.
    """

    num_envs: int
    rollout: int
    epochs: int
    minibatch: int
    gamma: float
    gae_lambda: float
    clip_range: float
    target_kl: float
    step_size: float
    critic_step_size: float
    max_grad_norm: float
    entropy: float
    survival: float
    sigma: float
    layers: list[int]
    clip_observation: float
    log_every: int
    evaluate_every: int
    evaluation_episodes: int


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

    def prepare(self, model: PPO, h: Any) -> None:
        """What comes before the first update."""

    def get_state(self) -> dict[str, Any]:
        """What the model's state holds of the network beside its parameters."""
        return {}

    @staticmethod
    def layers(state: dict[str, Any]) -> Chain:
        """The mean action of a `PPO.get_state`, for `write_onnx`."""
        return mean_layers(state)


class Survival(VecEnvWrapper):
    """Adds a reward to every step that training sees, so that falling costs what it would earn.

    Args:
        venv: the environments.
        reward: for a step.
    """

    def __init__(self, venv: VecEnv, reward: float) -> None:
        super().__init__(venv)
        self.reward = reward

    def reset(self) -> VecEnvObs:
        """As the environments do."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """As the environments do, with more reward."""
        observation, reward, done, infos = self.venv.step_wait()
        return observation, reward + np.float32(self.reward), done, infos


def training_envs(task_id: str, h: Hyperparameters, network: Network | None = None) -> VecNormalize:
    """The environments that training sees, and normalises, with a network.

    Raises:
        ValueError: an unknown id, or a task that the network is not for.
    """
    bare = SB3VecEnv(task_id, h.num_envs)
    surviving = Survival((network or Network()).inside(bare), h.survival)
    return VecNormalize(surviving, gamma=h.gamma, clip_obs=h.clip_observation)


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


class Rows(BaseCallback):
    """Figures of training since they were last taken."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def take(self) -> list[dict[str, float]]:
        """They, once."""
        rows, self.rows = self.rows, []
        return rows


class Episodes(Rows):
    """The metrics of every episode that has ended."""

    def _on_step(self) -> bool:
        self.rows += [info["metrics"] for info in self.locals["infos"] if "metrics" in info]
        return True


class Terms(Rows):
    """The reward's terms of every step, means over the environments."""

    def _on_step(self) -> bool:
        assert isinstance(self.model, PPO)
        terms = self.model.face.reward_terms
        self.rows.append({name: float(values.mean()) for name, values in terms.items()})
        return True


class Training:
    """One run of PPO.

    Args:
        task_id: a registered id.
        seed: of everything random.
        folder: of the run.
        resume: whether to go on with the run in the folder.
        h: hyperparameters.
        network: the policy's.

    Raises:
        ValueError: an unknown id, a task that the network is not for, or a folder with another run
            in it.
    """

    def __init__(
        self, task_id: str, seed: int, folder: Path, resume: bool, h: Hyperparameters,
        network: Network | None = None,
    ) -> None:  # fmt: skip
        torch.set_num_threads(1)
        self.task_id, self.h, self.network = task_id, h, network or Network()
        self.model = PPO(training_envs(task_id, h, self.network), h, seed, self.network)
        self.episodes, self.terms = Episodes(), Terms()
        vector = self.model.vector
        self.identity = {
            "algorithm": ALGORITHM, "task": task_id, "env_hash": vector.env_hash,
            "seed": seed, **self.network.identity, "hyperparameters": asdict(h),
        }  # fmt: skip
        metrics = [metric.name for metric in STANDARD + vector.task.metrics]
        terms = [_term(name) for name in vector.task.reward_terms] if self.network.terms else []
        columns = ["step", "seconds", "seed", *_FIGURES, *self.network.figures, *terms, *metrics]
        self.run = Run(folder, self.identity, columns, resume)
        self.callbacks: list[BaseCallback] = [self.episodes, *([self.terms] if terms else [])]
        self.best, spent = -math.inf, 0.0
        if resume:
            state = self.run.load()
            self.model.set_state(state["model"])
            self.episodes.rows, self.best = state["episodes"], state["best"]
            self.terms.rows = state.get("terms", [])
            spent = state["seconds"]
            self.run.forget_after(self.model.num_timesteps)
        self._since = time.perf_counter() - spent

    @property
    def seconds(self) -> float:
        """Wall time of the run, that before an interruption included."""
        return time.perf_counter() - self._since

    def __call__(self, steps: int) -> bool:
        """Train to the first update that reaches `steps` steps; return whether it got there."""
        model, h = self.model, self.h
        if model.num_timesteps == 0:
            # There is no state yet that an interrupt could save.
            self.network.prepare(model, h)
        with Interrupt() as interrupt, tqdm(
            total=steps, initial=model.num_timesteps, unit="step", unit_scale=True,
            desc=self.task_id, disable=None,
        ) as bar:  # fmt: skip
            while model.num_timesteps < steps and not interrupt.asked:
                # One rollout and one update, as 1 is less than both.
                model.learn(1, callback=self.callbacks, reset_num_timesteps=False)
                bar.update(model.num_timesteps - bar.n)
                update, last = model._n_updates // h.epochs, model.num_timesteps >= steps
                evaluate = last or update % h.evaluate_every == 0
                if evaluate or update % h.log_every == 0:
                    self._log(evaluate)
                if evaluate:
                    self._save()
            if interrupt.asked:
                self._save()
        self.run.close()
        return model.num_timesteps >= steps

    def _log(self, evaluate: bool) -> None:
        """Write a row of the log; keep the policy if an evaluation finds it the best so far."""
        at = {"step": self.model.num_timesteps, "seconds": self.seconds}
        row = {**at, "seed": self.identity["seed"], **_figures(self.model, self.episodes.take())}
        row |= {name: self.model.figure(of) for name, of in self.network.figures.items()}
        if terms := self.terms.take():
            row |= {_term(name): means(terms, name) for name in terms[0]}
        if evaluate:
            row |= follow(self.task_id, self.model.mean_action, self.h.evaluation_episodes)
            if row["return"] > self.best:
                self.best = row["return"]
                export(self.model, self.run.policy, self.identity)
        self.run.log(row)

    def _save(self) -> None:
        self.run.save({"model": self.model.get_state(), "episodes": self.episodes.rows,
                       "terms": self.terms.rows, "best": self.best,
                       "seconds": self.seconds})  # fmt: skip


_FIGURES = ("training_return", "training_length", "training_episodes", "kl", "step_size", "sigma",
            "explained_variance")  # fmt: skip


def _term(name: str) -> str:
    """The column of a reward's term."""
    return f"reward_{name}"


def _figures(model: PPO, rows: list[dict[str, float]]) -> dict[str, Any]:
    """What the log has of training itself: sampled episodes and the last update."""
    figures = (
        means(rows, "return"), means(rows, "length"), len(rows), model.figure("approx_kl"),
        model.policy.optimizer.param_groups[0]["lr"], model.figure("std"),
        model.figure("explained_variance"),
    )  # fmt: skip
    return dict(zip(_FIGURES, figures, strict=True))


def export(model: PPO, path: Path, identity: dict[str, Any]) -> None:
    """Write a model's mean action as ONNX, and check it against the model.

    Raises:
        RuntimeError: they differ.
    """
    export_state(model.get_state(), path, identity)
    observed = model.observed
    check_exported(path, model.mean_action, observed.mean, np.sqrt(observed.var))


def export_state(state: dict[str, Any], path: Path, identity: dict[str, Any]) -> None:
    """Write the mean action of a `PPO.get_state` as ONNX."""
    layers = network_class(identity.get("network", MLP)).layers(state)
    last = layers[-1]
    # A policy ends in a dense layer, weights (outputs, inputs) first.
    assert isinstance(last, Layer)
    sizes = len(state["statistics"]["obs_rms"]["mean"]), len(last.arrays[0])
    write_onnx(path, layers, sizes, {**identity, "steps": state["steps"]})


def main(
    task: Annotated[str, typer.Option(help="a task id, see `vnl-envs list`")],
    out: Annotated[Path, typer.Option(help="folder of the run")],
    steps: Annotated[int, typer.Option(min=1, help="of all environments together")] = 3_000_000,
    seed: Annotated[int, typer.Option(min=0, help="of everything random")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
    network: Annotated[str, typer.Option(help=f"one of {', '.join(NAMES)}")] = MLP,
    hyperparams: Annotated[
        Path | None, typer.Option(help="YAML file, keyed by task; default the network's own")
    ] = None,
) -> None:
    """Train a policy by PPO."""
    try:
        if network not in NAMES:
            raise ValueError(f"network must be one of {NAMES}, got {network!r}")
        finish(task, seed, out, steps, resume, hyperparams, network_class(network)())
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def finish(
    task: str, seed: int, out: Path, steps: int, resume: bool, file: Path | None, network: Network
) -> None:
    """Train to the end, or leave with a message where the run was interrupted.

    Raises:
        ValueError, OSError: see `Training` and `hyperparameters.load`.
    """
    path = file or hyperparameters.FOLDER / network.file
    h = hyperparameters.load(network.kind, path, task)
    if not Training(task, seed, out, resume, h, network)(steps):
        sys.exit(f"interrupted: its state is in {out}; go on with --resume")


if __name__ == "__main__":
    # As the module that others import, so that its classes exist once.
    typer.run(importlib.import_module("baselines.ppo").main)
