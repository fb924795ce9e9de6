"""A trusted ONNX policy, run in this process; submitted ones run in a sandbox (`remote`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vnl_envs.sandbox.inside import policy_server

SUFFIX = ".onnx"


class OnnxPolicy:
    """A policy from a file: `obs` to `action`, and `state_in` to `state_out` if it has a memory.

    Observations are passed one by one, so an action does not depend on the number of simulations,
    and has the same bits as in the sandbox.

    Args:
        path: the file.
        num: number of simulations.
        observation_size, action_size: sizes of the task's observation and action.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no policy, or one for other sizes.
        ModuleNotFoundError: onnxruntime is not installed.
    """

    def __init__(self, path: str | Path, num: int, observation_size: int, action_size: int) -> None:
        self._path = str(path)
        if not Path(path).is_file():
            raise FileNotFoundError(f"no policy {self._path!r}")
        try:
            self._session = policy_server.session(self._path)
            observation, action, state = policy_server.sizes(self._session)
        except ModuleNotFoundError:
            raise
        # The runtime's exceptions have no base class of their own.
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{self._path}: not a policy that can be run ({reason})") from None
        if (observation, action) != (observation_size, action_size):
            raise ValueError(
                f"{self._path}: the policy maps {observation} numbers to {action}, the task has "
                f"observations of {observation_size} and actions of {action_size}"
            )
        self._state = np.zeros((num, 1, state), np.float32)

    def begin(self, ids: np.ndarray, generators: Sequence[np.random.Generator]) -> None:
        """Reset the memory of simulations `ids` to zeros."""
        self._state[ids] = 0

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The policy's actions, clipped to [-1, 1].

        Raises:
            ValueError: an action is not finite.
        """
        actions = np.concatenate([self._row(i, row) for i, row in enumerate(observation)])
        if not np.isfinite(actions).all():
            raise ValueError(f"{self._path}: the policy returned an action that is not finite")
        return np.clip(actions, -1, 1).astype(np.float32)

    def _row(self, i: int, observation: np.ndarray) -> np.ndarray:
        """The action (1, nu) of simulation `i`; updates its memory."""
        feeds = {"obs": observation[None]}
        if not self._state.shape[2]:
            (action,) = self._session.run(["action"], feeds)
        else:
            feeds["state_in"] = self._state[i]
            action, self._state[i] = self._session.run(["action", "state_out"], feeds)
        return np.asarray(action)
