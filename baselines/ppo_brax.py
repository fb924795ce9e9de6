"""PPO (Schulman et al. 2017), Brax's, on a task's functional environment.

python -m baselines.ppo --impl native --task vnl/RodentGoalReaching-v0 --seed 0 --out runs/rat
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from brax.training.acme import running_statistics
from brax.training.agents.ppo import networks
from brax.training.agents.ppo.train import train

from baselines import hyperparameters, run
from baselines.export import Layer, check_exported, layer_of, normaliser, write_onnx
from baselines.jax_trees import leaves_of, with_leaves
from baselines.ppo.hyperparameters import Common
from vnl_envs import make_functional, wrap_for_training
from vnl_envs.envs.autoreset import Wrapper
from vnl_envs.tasks.metrics import STANDARD

ALGORITHM = "ppo_brax"
FILE = f"{ALGORITHM}.yml"


@dataclass(frozen=True)
class Hyperparameters(Common):
    """Those of Brax's, whose `step_size` is that of actor and critic together.

    Attributes:
        minibatches: gradient steps in a pass, each on the rollouts of other environments.
        least_step_size, most_step_size: bounds on the step size.
        reward_scale: by which rewards are multiplied for the critic.
    """

    minibatches: int
    least_step_size: float
    most_step_size: float
    reward_scale: float

    @property
    def arguments(self) -> dict[str, Any]:
        """They by the names of Brax's `train`."""
        return {
            "num_envs": self.num_envs, "unroll_length": self.rollout,
            "num_updates_per_batch": self.epochs, "num_minibatches": self.minibatches,
            "batch_size": self.num_envs // self.minibatches, "discounting": self.gamma,
            "gae_lambda": self.gae_lambda, "clipping_epsilon": self.clip_range,
            "learning_rate": self.step_size, "learning_rate_schedule": "ADAPTIVE_KL",
            "learning_rate_schedule_min_lr": self.least_step_size,
            "learning_rate_schedule_max_lr": self.most_step_size,
            "desired_kl": self.target_kl, "max_grad_norm": self.max_grad_norm,
            "entropy_cost": self.entropy, "reward_scaling": self.reward_scale,
            "normalize_observations": True,
        }  # fmt: skip

    def networks(
        self, observation_size: Any, action_size: int, preprocess_observations_fn: Any
    ) -> networks.PPONetworks:
        """Actor and critic, as Brax's `network_factory` has them.

        Actions are normal, their mean at first about 0, the standing pose, and their deviation the
        same at all observations.
        """
        bound = self.clip_observation
        return networks.make_ppo_networks(
            observation_size,
            action_size,
            lambda x, statistics: preprocess_observations_fn(x, statistics, bound),
            policy_hidden_layer_sizes=self.layers,
            value_hidden_layer_sizes=self.layers,
            activation=jnp.tanh,
            distribution_type="normal",
            noise_std_type="log",
            init_noise_std=self.sigma,
            mean_kernel_init_fn=jax.nn.initializers.orthogonal,
            mean_kernel_init_kwargs={"scale": _FIRST_MEAN},
        )


_FIRST_MEAN = 0.01
"""Gain of the mean's layer before learning, as in Stable-Baselines3's actor."""


class Ended(Wrapper):
    """Adds up what the episodes that ended have earned, since the run began.

    `info["ended"]` has, for each environment, how many there were and the sums of their returns
    and lengths.
    """

    def reset(self, rng: jax.Array) -> Any:
        """Starts of episodes from keys (B, ...)."""
        state = self.env.reset(rng)
        zero = jnp.zeros(state.done.shape, jnp.float32)
        return state.replace(info={**state.info, "ended": dict.fromkeys(_ENDED, zero)})

    def step(self, state: Any, action: jax.Array) -> Any:
        """A control step with actions (B, nu)."""
        state = self.env.step(state, action)
        totals, before = state.info["episode_metrics"], state.info["ended"]
        gained = {
            "episodes": state.done,
            "return": state.done * totals["sum_reward"],
            "length": state.done * totals["length"],
        }
        ended = {name: before[name] + gained[name] for name in _ENDED}
        return state.replace(info={**state.info, "ended": ended})


_ENDED = ("episodes", "return", "length")

Epoch = Callable[[Any, Any, Any], tuple[Any, Any, Any]]
"""Brax's: state of the learner, environments and keys to the next two and figures of training. All
have a first axis over devices."""


def epoch_of(train: Callable[[], Any]) -> tuple[Epoch, Any, Any, Any]:
    """The epoch that Brax's `train` makes, and what it would first be called with.

    Its own callbacks see nothing but the networks; Adam's moments, environments and keys, which
    a run goes on from, are local to it. But it compiles its epoch, a function of all of them, by
    `jax.pmap`, and this is where they can be had. Around it is a loop and no part of PPO.

    Args:
        train: Brax's, with its arguments; it is left before the first epoch.

    Raises:
        RuntimeError: there was no epoch.
    """
    compiled = jax.pmap

    def pmap(function: Any, *args: Any, **kwargs: Any) -> Any:
        result = compiled(function, *args, **kwargs)

        def take(*arguments: Any) -> None:
            raise _Taken(result, *arguments)

        return take if getattr(function, "__name__", "") == _EPOCH else result

    with mock.patch.object(jax, "pmap", pmap):
        try:
            train()
        except _Taken as taken:
            epoch, learner, environments, keys = taken.args
            return epoch, learner, environments, keys
    raise RuntimeError(f"this version of brax has no {_EPOCH}, which runs are made of")


_EPOCH = "training_epoch"


class _Taken(Exception):  # noqa: N818
    """Leaves Brax's `train` with an epoch and its arguments."""


class Training(run.Training):
    """One run of Brax's PPO; see `run.Training`.

    Args:
        task_id, seed, impl: what is trained on.
        folder: of the run.
        resume: whether to go on with the run in the folder.
        h: hyperparameters.
        options: of the task.

    Raises:
        ValueError: an unknown id, option or implementation, environments that do not divide over
            minibatches and devices, or a folder with another run in it.
    """

    def __init__(
        self, task_id: str, seed: int, impl: str, folder: Path, resume: bool, h: Hyperparameters,
        options: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        for what, count in (("minibatches", h.minibatches), ("devices", jax.device_count())):
            if h.num_envs % count:
                raise ValueError(f"num_envs={h.num_envs} does not divide over {count} {what}")
        self.env = make_functional(task_id, impl, **(options or {}))
        identity = {
            "algorithm": ALGORITHM, "impl": self.env.impl, "env_hash": self.env.env_hash,
        }  # fmt: skip
        metrics = [metric.name for metric in STANDARD + self.env.task.metrics]
        columns = [*_ENDED_COLUMNS, *_FIGURES, *metrics]
        self._updates = 0
        self._rows: list[dict[str, float]] = []
        self._counted = dict.fromkeys(_ENDED, 0.0)
        self._mean_action = jax.jit(self._mean)
        super().__init__(task_id, seed, h, identity, folder, columns, resume, options)

    @property
    def steps(self) -> int:
        """Control steps so far, of all environments together."""
        return self._updates * self.h.update_steps

    @property
    def iteration(self) -> int:
        """Updates so far."""
        return self._updates

    def begin(self, saved: dict[str, Any] | None) -> None:
        """Have Brax make its epoch; start from its first state or from what `get_state` gave."""
        self._epoch, learner, environments, self._keys = epoch_of(self._train)
        state = learner, environments
        if saved:
            self._updates, self._rows = saved["updates"], saved["rows"]
            self._counted = saved["counted"]
            state = with_leaves(state, saved["run"])
        # Over devices as it will be later on: otherwise the epoch is compiled twice.
        self._learner, self._environments = jax.device_put(state, environments.done.sharding)

    def _train(self) -> None:
        """Brax's, with epochs of one update each."""
        train(
            environment=self.env,
            wrap_env_fn=lambda env, **arguments: Ended(wrap_for_training(env, **arguments)),
            episode_length=self.env.task.horizon,
            num_timesteps=self.h.update_steps,
            num_evals=0,
            run_evals=False,
            num_eval_envs=1,
            network_factory=self.h.networks,
            seed=self.seed,
            **self.h.arguments,
        )

    def get_state(self) -> dict[str, Any]:
        """What acting needs, and what training goes on from."""
        return {
            "model": self._acting(), "run": leaves_of((self._learner, self._environments)),
            "updates": self._updates, "rows": self._rows, "counted": self._counted,
        }  # fmt: skip

    def advance(self) -> None:
        """One update: a rollout and its gradient steps."""
        keys = jax.vmap(jax.random.fold_in, (0, None))(self._keys, self._updates)
        self._learner, self._environments, figures = self._epoch(
            self._learner, self._environments, keys
        )
        self._updates += 1
        self._rows.append({name: float(np.mean(figures[of])) for name, of in _FIGURES.items()})

    def figures(self) -> dict[str, Any]:
        """Sampled episodes, and means over updates."""
        rows, self._rows = self._rows, []
        return {**self._episodes(), **{name: run.means(rows, name) for name in _FIGURES}}

    def _episodes(self) -> dict[str, float]:
        """Means over the episodes that ended since this was last asked."""
        ended = self._environments.info["ended"]
        totals = {name: float(np.asarray(ended[name], np.float64).sum()) for name in _ENDED}
        new = {name: totals[name] - self._counted[name] for name in _ENDED}
        self._counted = totals
        count = new["episodes"]
        means = (new[name] / count if count else math.nan for name in ("return", "length"))
        return dict(zip(_ENDED_COLUMNS, (*means, int(count)), strict=True))

    def mean_action(self, observations: np.ndarray) -> np.ndarray:
        """The policy without its noise: observations (n, D) to actions (n, nu)."""
        acting = self._learner.normalizer_params, self._learner.params.policy
        return np.asarray(self._mean_action(acting, observations))

    def _mean(self, acting: Any, observations: jax.Array) -> jax.Array:
        """The same of statistics and parameters, with a first axis over devices."""
        seen, policy = jax.tree.map(lambda x: x[0], acting)
        network = self.h.networks(
            self.env.observation_size, self.env.action_size, running_statistics.normalize
        )
        mean, _ = network.policy_network.apply(seen, policy, observations)
        return jnp.clip(mean, -1.0, 1.0)

    def export(self, path: Path) -> None:
        """Write the policy's mean action as ONNX, and check it against the policy.

        Raises:
            RuntimeError: they differ.
        """
        acting = self._acting()
        export_state(acting, path, self.run.identity)
        check_exported(path, self.mean_action, acting["mean"], acting["deviation"])

    def _acting(self) -> dict[str, Any]:
        """What acting needs of the learner, as a checkpoint can hold it."""
        learner = jax.tree.map(lambda x: np.asarray(x)[0], self._learner)
        seen = learner.normalizer_params
        policy = dict(learner.params.policy)
        return {"steps": self.steps, "policy": policy, "mean": seen.mean, "deviation": seen.std}


_ENDED_COLUMNS = ("training_return", "training_length", "training_episodes")
_FIGURES = {"kl": "kl_mean", "step_size": "learning_rate", "sigma": "policy_dist_mean_std",
            "critic_loss": "v_loss"}  # fmt: skip
"""Columns of the log, and what Brax calls them."""


def export_state(acting: Mapping[str, Any], path: Path, identity: Mapping[str, Any]) -> None:
    """Write the mean action of a checkpoint's "model" as ONNX.

    Args:
        acting: the state.
        path: ends in .onnx.
        identity: of the run: its record, kept in the file.
    """
    clip = identity["hyperparameters"]["clip_observation"]
    modules = acting["policy"]["params"]
    layers = normaliser(acting["mean"], acting["deviation"], clip)
    for i in range(len(modules["MLP_0"])):
        layers += [layer_of(modules["MLP_0"][f"hidden_{i}"]), Layer("Tanh")]
    layers.append(layer_of(modules["Dense_0"]))
    sizes = len(acting["mean"]), len(modules["Dense_0"]["bias"])
    write_onnx(path, layers, sizes, {**identity, "steps": acting["steps"]})


def finish(
    task: str, seed: int, impl: str, out: Path, steps: int, resume: bool, file: Path | None,
    options: Mapping[str, Any],
) -> None:  # fmt: skip
    """Train to the end, or leave with a message where the run was interrupted.

    Raises:
        ValueError, OSError: see `Training` and `hyperparameters.load`.
    """
    h = hyperparameters.load(Hyperparameters, FILE, task, file)
    run.finish(Training(task, seed, impl, out, resume, h, options), steps)
