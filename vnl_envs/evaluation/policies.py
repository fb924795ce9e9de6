"""Policies: those that need no training, functions, and models of other libraries."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeGuard, cast, get_args

import numpy as np

from vnl_envs.evaluation.onnx_policy import SUFFIX, OnnxPolicy
from vnl_envs.evaluation.simulations import Simulations
from vnl_envs.tasks.task import ReferenceAction

FOLLOWING: tuple[ReferenceAction, ...] = get_args(ReferenceAction)
NAMES = ("zero", "random", *FOLLOWING)


class Policy(Protocol):
    """Chooses actions for all simulations from their observations."""

    def begin(self, ids: np.ndarray, generators: Sequence[np.random.Generator]) -> None:
        """Start new episodes in simulations `ids`, each with its own generator.

        Raises:
            PolicyError: see `act`.
        """

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Actions (num, nu) float32 for observations (num, D) float32, which stay unchanged.

        Raises:
            PolicyError: the policy failed in an episode, which ends.
        """
        ...


class Predicts(Protocol):
    """The interface of Stable-Baselines3's algorithms and policies."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Actions for observations (n, D), and the next memory of a recurrent model."""
        ...


PolicyLike = str | Path | Callable[[np.ndarray], Any] | Predicts
"""A name, an ONNX file (a path, or a name that ends in .onnx), a function from observations (n, D)
to actions (n, nu), or a model with `predict`."""


class _Stateless:
    def begin(self, ids: np.ndarray, generators: Sequence[np.random.Generator]) -> None:
        """Do nothing: there is no memory."""


class Zero(_Stateless):
    """The policy that holds the standing pose.

    Args:
        nu: length of an action.
    """

    def __init__(self, nu: int) -> None:
        self._nu = nu

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Zeros."""
        return np.zeros((len(observation), self._nu), np.float32)


class Random:
    """The policy whose actions are uniform over the action space.

    Args:
        nu: length of an action.
    """

    def __init__(self, nu: int) -> None:
        self._nu = nu
        self._generators: dict[int, np.random.Generator] = {}

    def begin(self, ids: np.ndarray, generators: Sequence[np.random.Generator]) -> None:
        """Store the generators: an episode's draws do not depend on its simulation."""
        self._generators.update(zip(ids.tolist(), generators, strict=True))

    def act(self, observation: np.ndarray) -> np.ndarray:
        """A random action for each simulation."""
        draws = [self._generators[i].random(self._nu) for i in range(len(observation))]
        return (2 * np.stack(draws) - 1).astype(np.float32)


class Follow(_Stateless):
    """The policy that acts towards the reference pose.

    It gets the pose from the task, as not every task observes it.

    Args:
        simulations: simulations of the task.
        kind: see `Task.reference_action`.

    Raises:
        ValueError: the task has no reference pose.
    """

    def __init__(self, simulations: Simulations, kind: ReferenceAction) -> None:
        if simulations.reference_action(kind) is None:
            raise ValueError(f"the policy {kind!r} needs a task with a reference to follow")
        self._simulations, self._kind = simulations, kind

    def act(self, observation: np.ndarray) -> np.ndarray:
        """See `Task.reference_action`."""
        action = self._simulations.reference_action(self._kind)
        assert action is not None
        return action.astype(np.float32)


class Function(_Stateless):
    """A function from observations (n, D) float32 to actions (n, nu) as a policy.

    Args:
        function: the function.
        nu: length of an action.
    """

    def __init__(self, function: Callable[[np.ndarray], Any], nu: int) -> None:
        self._function, self._nu = function, nu

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The function's actions, clipped to [-1, 1].

        Raises:
            ValueError: the actions have a wrong shape or are not finite.
        """
        actions = self._function(observation.copy())
        if isinstance(actions, tuple):
            raise ValueError(
                "the policy returned a tuple instead of actions; if it is a model's predict, give "
                "the model itself"
            )
        return _checked(actions, (len(observation), self._nu))


class Model:
    """The mean actions of a model of Stable-Baselines3, or of one with the same `predict`.

    A recurrent model starts each episode with a fresh memory.

    Args:
        model: see `Predicts`.
        nu: length of an action.
    """

    def __init__(self, model: Predicts, nu: int) -> None:
        self._model, self._nu = model, nu
        self._memory: Any = None
        self._begun: set[int] = set()

    def begin(self, ids: np.ndarray, generators: Sequence[np.random.Generator]) -> None:
        """Reset the memory of simulations `ids` with the next action."""
        self._begun.update(ids.tolist())

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The model's actions, clipped to [-1, 1].

        Raises:
            ValueError: the actions have a wrong shape or are not finite.
        """
        first = np.array([i in self._begun for i in range(len(observation))])
        self._begun.clear()
        actions, self._memory = self._model.predict(
            observation.copy(), state=self._memory, episode_start=first, deterministic=True
        )
        return _checked(actions, (len(observation), self._nu))


def _checked(actions: Any, shape: tuple[int, int]) -> np.ndarray:
    """Actions of a function or model as (num, nu) float32 in [-1, 1]."""
    actions = np.asarray(actions)
    if actions.shape != shape:
        raise ValueError(f"the policy must return actions of shape {shape}, got {actions.shape}")
    if not np.isfinite(actions).all():
        raise ValueError("the policy returned an action that is not finite")
    return np.clip(actions, -1, 1).astype(np.float32)


def make_policy(policy: PolicyLike, simulations: Simulations) -> Policy:
    """Make a policy of a name, an ONNX file, a function of observations, or a model.

    Args:
        policy: see `PolicyLike`.
        simulations: simulations of the task.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the name is unknown, the policy is "track" or "feedforward" and the task has no
            reference, or the file does not fit the task.
    """
    nu = simulations.task.body.nu
    if not isinstance(policy, str):
        if _predicts(policy):
            return Model(policy, nu)
        if callable(policy):
            return Function(policy, nu)
    if isinstance(policy, Path) or (isinstance(policy, str) and policy.endswith(SUFFIX)):
        return OnnxPolicy(policy, simulations.num, simulations.size, nu)
    if policy == "zero":
        return Zero(nu)
    if policy == "random":
        return Random(nu)
    if policy in FOLLOWING:
        return Follow(simulations, cast(ReferenceAction, policy))
    raise ValueError(
        f"policy must be one of {NAMES}, an {SUFFIX} file, a function of observations or a model "
        f"with predict, got {policy!r}"
    )


def _predicts(policy: Any) -> TypeGuard[Predicts]:
    """Whether it has the `predict` of SB3; other libraries have other ones."""
    predict = getattr(policy, "predict", None)
    return callable(predict) and "deterministic" in inspect.signature(predict).parameters
