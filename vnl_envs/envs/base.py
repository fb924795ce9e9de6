"""Shared parts of all environments: properties, pickling, and the arguments of `reset`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from vnl_envs.envs.core import Core
from vnl_envs.envs.gym_core import GymCore
from vnl_envs.tasks.task import Task
from vnl_envs.utils import checks


class EnvBase:
    """Properties of environments that come from their core, and pickling."""

    _gym: GymCore
    _arguments: dict[str, Any]
    spec: Any
    get_state: Callable[[], dict[str, Any]]

    @property
    def _own(self) -> Core:
        """A core in this process, which need not be the one that steps."""
        return self._gym.core

    @property
    def core(self) -> Core:
        """The core that joins task and engine, for tools that inspect an environment."""
        return self._own

    @property
    def task(self) -> Task:
        """The task of the environment."""
        return self._own.task

    @property
    def dt(self) -> float:
        """Duration of a control step, s."""
        return self.task.dt

    @property
    def layout(self) -> dict[str, slice]:
        """Name of each part of the flat observation -> its slice, in order."""
        return dict(self._own.layout)

    @property
    def model(self) -> mujoco.MjModel:
        """The compiled model."""
        return self._own.engine.model

    @property
    def env_hash(self) -> str:
        """Identity of the task; see `vnl_envs.env_hash`."""
        from vnl_envs.identity import env_hash

        return env_hash(self._arguments["task_id"], self.task)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._arguments, self.get_state(), self.spec)


def _restore(cls: type, arguments: dict[str, Any], state: dict[str, Any], spec: Any) -> Any:
    env = cls(**arguments)
    env.spec = spec
    env.set_state(state)
    return env


def restored_generator(state: Any) -> np.random.Generator:
    """A generator with a saved state.

    Raises:
        ValueError: `state` is not the state of a generator.
    """
    generator = np.random.default_rng(0)
    try:
        generator.bit_generator.state = state
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"state part 'generator' is not a generator's state ({error})") from None
    return generator


def check_seed(seed: Any) -> int | None:
    """Check a seed as Gymnasium accepts it; None stays None.

    Raises:
        ValueError: it is not an integer of at least 0.
    """
    return None if seed is None else checks.integer("seed", seed, 0)


def reset_options(options: Any) -> dict[str, Any]:
    """The options of a reset; None becomes {}.

    Raises:
        ValueError: they are not a dictionary.
    """
    if options is not None and not isinstance(options, dict):
        raise ValueError(f"reset options must be a dictionary, got {type(options).__name__}")
    return options or {}


def check_reset_options(options: dict[str, Any]) -> Any:
    """The option "episode" of a reset; None if it is not given.

    Raises:
        ValueError: there are other options.
    """
    unknown = sorted(set(options) - {"episode"})
    if unknown:
        raise ValueError(f"reset has the option 'episode' only, got {unknown}")
    return options.get("episode")
