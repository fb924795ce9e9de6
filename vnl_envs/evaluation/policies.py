"""The policies that need no training, and how a function of observations becomes one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np

from vnl_envs.envs.core import Core
from vnl_envs.evaluation.onnx_policy import SUFFIX, OnnxPolicy
from vnl_envs.tasks.imitation import Imitation

NAMES = ("zero", "random", "track")


class Policy(Protocol):
    """Chooses actions for all simulations of a core."""

    def begin(self, ids: np.ndarray, generators: Sequence[np.random.Generator]) -> None:
        """Simulations `ids` start new episodes, each with a generator of its own.

        Raises:
            PolicyError: see `act`.
        """

    def act(self, core: Core) -> np.ndarray:
        """Actions (num, nu) float32.

        Raises:
            PolicyError: an episode is over because of the policy.
        """
        ...


class Predicts(Protocol):
    """What Stable-Baselines3's algorithms and policies have."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:  # fmt: skip
        """Actions for observations (n, D), and the memory of a recurrent model."""
        ...


PolicyLike = str | Path | Callable[[np.ndarray], Any] | Predicts
"""A name, an ONNX file (a path, or a name that ends in .onnx), a function of observations (n, D) to
actions (n, nu), or a model with `predict`."""


class _Stateless:
    def begin(self, ids: np.ndarray, generators: Sequence[np.random.Generator]) -> None:
        """Nothing to remember."""


class Zero(_Stateless):
    """Holds the standing pose."""

    def act(self, core: Core) -> np.ndarray:
        """Zeros."""
        return np.zeros((core.num, core.task.body.nu), np.float32)


class Random:
    """Uniform over the action space."""

    def __init__(self) -> None:
        self._generators: dict[int, np.random.Generator] = {}

    def begin(self, ids: np.ndarray, generators: Sequence[np.random.Generator]) -> None:
        """Each episode draws from its own generator, whichever simulation it runs in."""
        self._generators.update(zip(ids.tolist(), generators, strict=True))

    def act(self, core: Core) -> np.ndarray:
        """A draw for each simulation."""
        draws = [self._generators[i].random(core.task.body.nu) for i in range(core.num)]
        return (2 * np.stack(draws) - 1).astype(np.float32)


class Track(_Stateless):
    """Asks the position servos for the next reference frame. Imitation only."""

    def act(self, core: Core) -> np.ndarray:
        """See `Imitation.track`."""
        task = core.task.unwrapped
        assert isinstance(task, Imitation)
        return task.track(core.episode, core.carry).astype(np.float32)


class Function(_Stateless):
    """A function of observations (n, D) float32 to actions (n, nu)."""

    def __init__(self, function: Callable[[np.ndarray], Any]) -> None:
        self._function = function

    def act(self, core: Core) -> np.ndarray:
        """The function's actions, clipped to [-1, 1].

        Raises:
            ValueError: they are of a wrong shape or not finite.
        """
        actions = self._function(core.observation.copy())
        if isinstance(actions, tuple):
            raise ValueError(
                "the policy returned a tuple where actions were expected; of a model, whose "
                "predict does so, give the model itself"
            )
        return _checked(actions, core)


class Model:
    """A model of Stable-Baselines3 or what predicts as one does; it takes its mean actions.

    A recurrent one starts each episode with a fresh memory.

    Args:
        model: see `Predicts`.
    """

    def __init__(self, model: Predicts) -> None:
        self._model = model
        self._memory: Any = None
        self._begun: set[int] = set()

    def begin(self, ids: np.ndarray, generators: Sequence[np.random.Generator]) -> None:
        """Their memories start anew with the next action."""
        self._begun.update(ids.tolist())

    def act(self, core: Core) -> np.ndarray:
        """The model's actions, clipped to [-1, 1].

        Raises:
            ValueError: they are of a wrong shape or not finite.
        """
        first = np.array([i in self._begun for i in range(core.num)])
        self._begun.clear()
        actions, self._memory = self._model.predict(
            core.observation.copy(), state=self._memory, episode_start=first, deterministic=True
        )
        return _checked(actions, core)


def _checked(actions: Any, core: Core) -> np.ndarray:
    """Actions from outside, (num, nu) float32 in [-1, 1]."""
    actions = np.asarray(actions)
    shape = (core.num, core.task.body.nu)
    if actions.shape != shape:
        raise ValueError(f"the policy must return actions of shape {shape}, got {actions.shape}")
    if not np.isfinite(actions).all():
        raise ValueError("the policy returned an action that is not finite")
    return np.clip(actions, -1, 1).astype(np.float32)


def make_policy(policy: PolicyLike, core: Core) -> Policy:
    """A policy by name, from an ONNX file, a function of observations, or a model that predicts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the name is unknown, "track" is asked of a task without a reference, or the file
            does not fit the task.
    """
    if not isinstance(policy, str):
        if _predicts(policy):
            return Model(policy)
        if callable(policy):
            return Function(policy)
    if isinstance(policy, Path) or (isinstance(policy, str) and policy.endswith(SUFFIX)):
        return OnnxPolicy(policy, core)
    if policy == "zero":
        return Zero()
    if policy == "random":
        return Random()
    if policy == "track":
        if not isinstance(core.task.unwrapped, Imitation):
            raise ValueError("the policy 'track' needs an imitation task")
        if not core.task.body.servos:
            raise ValueError("the policy 'track' needs actuation='position'")
        return Track()
    raise ValueError(
        f"policy must be one of {NAMES}, an {SUFFIX} file, a function of observations or a model "
        f"with predict, got {policy!r}"
    )


def _predicts(policy: Any) -> TypeGuard[Predicts]:
    """Whether it has SB3's `predict`; other libraries have others."""
    predict = getattr(policy, "predict", None)
    return callable(predict) and "deterministic" in inspect.signature(predict).parameters
