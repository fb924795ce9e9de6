"""The policies that need no training, and how a function of observations becomes one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from vnl_envs.envs.core import Core
from vnl_envs.scoring.problems import Code
from vnl_envs.tasks.imitation import Imitation

NAMES = ("zero", "random", "track")


class PolicyError(Exception):
    """A policy cannot go on with an episode, which ends with it.

    Args:
        code: what happened.
        message: one line on it.
        simulation: which one the episode runs in.
    """

    def __init__(self, code: Code, message: str, simulation: int = 0) -> None:
        super().__init__(message)
        self.code, self.message, self.simulation = code, message, simulation


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
        actions = np.asarray(self._function(core.observation.copy()))
        shape = (core.num, core.task.body.nu)
        if actions.shape != shape:
            raise ValueError(
                f"the policy must return actions of shape {shape}, got {actions.shape}"
            )
        if not np.isfinite(actions).all():
            raise ValueError("the policy returned an action that is not finite")
        return np.clip(actions, -1, 1).astype(np.float32)


def make_policy(policy: str | Callable[[np.ndarray], Any], core: Core) -> Policy:
    """A policy by name, or from a function of observations.

    Raises:
        ValueError: the name is unknown, or "track" is asked of a task without a reference.
    """
    if callable(policy):
        return Function(policy)
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
    raise ValueError(f"policy must be one of {NAMES} or a function, got {policy!r}")
