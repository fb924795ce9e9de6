"""DMPO as a Stable-Baselines3 algorithm."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv

from baselines.checkpoint import read_tree, write_tree
from baselines.dmpo.state import (
    Hyperparameters,
    Learner,
    LearnerState,
    Transitions,
    in_batches,
)
from baselines.jax_trees import leaves_of, with_leaves

FORMAT = "vnl_envs-dmpo"
VERSION = 2
_SETTINGS = ("buffer_size", "learning_starts", "samples_per_insert", "seed")


class MlpPolicy(BasePolicy):
    """The policy in SB3's interface: a learner and its present state.

    Args:
        observation_space, action_space: boxes; actions are scaled to [-1, 1] for the learner.
        lr_schedule: unused, because the learner has its own rates.
        hyperparameters: hyperparameters of the learner.
        network: policy network that replaces the learner's own.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Box,
        lr_schedule: Any = None,
        hyperparameters: Hyperparameters | None = None,
        network: Any = None,
        **_: Any,
    ) -> None:
        super().__init__(observation_space, action_space)
        size, actions = observation_space.shape[0], action_space.shape[0]
        self.learner = Learner(size, actions, hyperparameters, network)
        self.state: LearnerState
        self.key: jax.Array
        self._act = jax.jit(self.learner.act)
        self._act_mean = jax.jit(self.learner.act_mean)

    def begin(self, seed: int) -> None:
        """Start from scratch."""
        self.key, key = jax.random.split(jax.random.PRNGKey(seed))
        self.state = jax.jit(self.learner.init)(key)

    def next_key(self) -> jax.Array:
        """A new random key."""
        self.key, key = jax.random.split(self.key)
        return key

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, None]:
        """Actions on the environment's scale for one observation or a batch of observations."""
        observation = jnp.asarray(observation, jnp.float32)
        if deterministic:
            actions = self._act_mean(self.state, observation)
        else:
            actions = self._act(self.state, observation, self.next_key())
        return self.unscale_action(np.asarray(actions)), None

    def _predict(self, observation: Any, deterministic: bool = False) -> Any:
        raise NotImplementedError("DMPO's policy runs in JAX; call predict")


class DMPO(OffPolicyAlgorithm):
    """Distributional maximum a posteriori policy optimisation.

    Args:
        policy: "MlpPolicy".
        env: a Gymnasium id, environment or SB3 vector environment with box spaces. None as in
            SB3: `load` sets one by `set_env`.
        hyperparameters: hyperparameters of the learner.
        buffer_size: number of transitions kept.
        learning_starts: steps of uniformly random actions before the first update.
        samples_per_insert: transitions sampled per transition collected; with the batch size and
            the number of environments, this determines how often updates are made.
        policy_kwargs: `network`: policy network that replaces the learner's own.
        seed, verbose, tensorboard_log, stats_window_size: as in SB3.

    Raises:
        ValueError: an observation or action space is not a bounded box with one axis.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": MlpPolicy}
    policy: MlpPolicy

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        hyperparameters: Hyperparameters | None = None,
        buffer_size: int = 1_000_000,
        learning_starts: int = 1_000,
        samples_per_insert: float = 32.0,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: str = "cpu",
        _init_setup_model: bool = True,
    ) -> None:
        self.hyperparameters = hyperparameters or Hyperparameters()
        self.samples_per_insert = samples_per_insert
        h = self.hyperparameters
        # SB3 accepts None as well, although its annotation does not.
        given: Any = env
        super().__init__(
            policy,
            given,
            learning_rate=h.policy_learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=h.batch_size,
            gamma=h.discount,
            n_steps=h.n_step,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            seed=seed,
            device=device,
            support_multi_env=True,
            sde_support=False,
            supported_action_spaces=(spaces.Box,),
        )
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        for name, space in (("observation", self.observation_space), ("action", self.action_space)):
            if not isinstance(space, spaces.Box) or len(space.shape) != 1:
                raise ValueError(f"DMPO needs a flat box as {name} space, got {space}")
        if self.seed is None:
            self.seed = int(np.random.default_rng().integers(2**31))
        ratio = self.n_envs * self.samples_per_insert / self.batch_size
        self.train_freq = max(1, round(1 / ratio))
        self.gradient_steps = max(1, round(ratio * self.train_freq))
        self.policy_kwargs = {**self.policy_kwargs, "hyperparameters": self.hyperparameters}
        super()._setup_model()
        self.policy.begin(self.seed)
        self._updates = jax.jit(self.policy.learner.several_updates, donate_argnums=0)
        self._observe = jax.jit(self.policy.learner.observe)

    def _store_transition(self, replay_buffer: Any, buffer_action: Any, *others: Any) -> None:
        assert self._last_obs is not None
        self.policy.state = self._observe(self.policy.state, jnp.asarray(self._last_obs))
        super()._store_transition(replay_buffer, buffer_action, *others)

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Take gradient steps on batches from the replay buffer."""
        assert self.replay_buffer is not None
        sampled = self.replay_buffer.sample(gradient_steps * batch_size)
        batches = in_batches(transitions(sampled, self.gamma), gradient_steps)
        self.policy.state, figures = self._updates(
            self.policy.state, batches, self.policy.next_key()
        )
        for name, value in figures.items():
            self.logger.record(f"train/{name}", float(value))
        self.logger.record("train/updates", int(self.policy.state.updates), exclude="tensorboard")

    def save(self, path: Any, *_: Any, **__: Any) -> None:
        """Write learner, dual variables, optimisers and statistics, but not the replay buffer."""
        write_tree(
            _with_suffix(path),
            {
                "format": FORMAT,
                "version": VERSION,
                "hyperparameters": dataclasses.asdict(self.hyperparameters),
                "observation_space": _bounds(self.observation_space),
                "action_space": _bounds(self.action_space),
                "n_envs": self.n_envs,
                "settings": {name: getattr(self, name) for name in _SETTINGS},
                "num_timesteps": self.num_timesteps,
                "learner": leaves_of(self.policy.state),
                "key": np.asarray(self.policy.key),
            },
        )

    @classmethod
    def load(cls, path: str | Path, env: Any = None, **kwargs: Any) -> DMPO:  # type: ignore[override]
        """Load an algorithm from a file of `save`, with an environment of the same sizes if given.

        Without an environment it can predict. To `learn`, set one by `set_env`, as in SB3.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, or its sizes differ from the environment's.
        """
        path = _with_suffix(path)
        saved = read_tree(path)
        if not isinstance(saved, dict) or (saved.get("format"), saved.get("version")) != (
            FORMAT,
            VERSION,
        ):
            raise ValueError(f"{path}: not a {FORMAT} file of version {VERSION}")
        settings = {**saved["settings"], **kwargs, "_init_setup_model": False}
        model = cls("MlpPolicy", env, Hyperparameters(**saved["hyperparameters"]), **settings)
        seen, acted = (_box(saved[name]) for name in ("observation_space", "action_space"))
        if env is None:
            model.observation_space, model.action_space = seen, acted
            model.n_envs = saved["n_envs"]
        model._setup_model()
        learner = model.policy.learner
        if (learner.observation_size, learner.action_size) != (*seen.shape, *acted.shape):
            raise ValueError(
                f"{path}: was trained on {seen.shape[0]} observations and {acted.shape[0]} "
                f"actions, the environment has {learner.observation_size} and "
                f"{learner.action_size}"
            )
        model.policy.state = with_leaves(model.policy.state, saved["learner"])
        model.policy.key = jnp.asarray(saved["key"])
        model.num_timesteps = saved["num_timesteps"]
        return model


def transitions(sampled: Any, discount: float) -> Transitions:
    """Transitions from a sample of an SB3 replay buffer, whose `dones` exclude time limits."""
    n_step = discount if sampled.discounts is None else sampled.discounts.numpy()[:, 0]
    return Transitions(
        observation=sampled.observations.numpy(),
        action=sampled.actions.numpy(),
        reward=sampled.rewards.numpy()[:, 0],
        discount=(n_step * (1.0 - sampled.dones.numpy()[:, 0])).astype(np.float32),
        next_observation=sampled.next_observations.numpy(),
    )


def _bounds(space: spaces.Space) -> dict[str, np.ndarray]:
    assert isinstance(space, spaces.Box)
    return {"low": space.low, "high": space.high}


def _box(bounds: Mapping[str, np.ndarray]) -> spaces.Box:
    return spaces.Box(bounds["low"], bounds["high"], dtype=bounds["low"].dtype.type)


def _with_suffix(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")
