"""The vector environment as Stable-Baselines3's `VecEnv`."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs

from vnl_envs.envs.base import check_reset_options, reset_options
from vnl_envs.envs.gym_core import METADATA
from vnl_envs.envs.member import Member
from vnl_envs.envs.vector import VectorEnv, info_of


class SB3VecEnv(VecEnv):
    """`num_envs` environments on threads, for SB3's algorithms.

    It behaves like the result of SB3's `make_vec_env`, a `DummyVecEnv` of monitored environments.
    For speed, infos are filled only when an episode ends: with the info of a single environment,
    `terminal_observation`, and the `episode` of SB3's `Monitor`.

    Args:
        task_id: registered id.
        num_envs: number of environments.
        arguments: arguments of `VectorEnv`, except `autoreset_mode`, which SB3 decides.

    Attributes:
        env: vector environment.
        envs: its environments, see `Member`, on which attributes and methods are accessed.
        reward_terms: reward terms of the last step by name, each (num_envs,).
    """

    def __init__(self, task_id: str, num_envs: int, **arguments: Any) -> None:
        mode = AutoresetMode.SAME_STEP
        self.env = VectorEnv(task_id, num_envs, autoreset_mode=mode, **arguments)
        spec = copy.deepcopy(gymnasium.spec(task_id))
        spec.kwargs.update(arguments)
        spec.max_episode_steps = spec.kwargs.pop("max_episode_steps", spec.max_episode_steps)
        self.env.spec = spec
        self.envs = [Member(self.env, i) for i in range(num_envs)]
        super().__init__(num_envs, self.env.single_observation_space, self.env.single_action_space)
        self.metadata = copy.deepcopy(METADATA)
        self.reward_terms: dict[str, np.ndarray] = {}
        self._actions: np.ndarray | None = None
        self._since = time.time()

    def reset(self) -> VecEnvObs:
        """Start episodes, drawn or given by `set_options`, and return the first observations."""
        episodes = self._episodes()
        replayed = np.array([episode is not None for episode in episodes])
        given = [episode for episode in episodes if episode is not None]
        for mask, options in ((replayed, {"episode": _stacked(given)}), (~replayed, {})):
            if mask.any():
                observation, infos = self.env.reset(
                    seed=self._seeds, options={"reset_mask": mask, **options}
                )
                for i in np.flatnonzero(mask).tolist():
                    self.reset_infos[i] = info_of(infos, i)
        self._reset_seeds()
        self._reset_options()
        return observation

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """Set options of the next reset: a list with one per environment, or the same for all.

        Raises:
            ValueError: an option is unknown, or there is another number of options than of
                environments. The previous options stay.
        """
        before = self._options
        super().set_options(options)
        try:
            given = [episode for episode in self._episodes() if episode is not None]
            if given:
                self.env.episode_rows(_stacked(given), len(given))
        except ValueError:
            self._options = before
            raise

    def _episodes(self) -> list[Any]:
        """The episode in the options of each environment; None if it draws one."""
        if len(self._options) != self.num_envs:
            raise ValueError(
                f"set_options was given {len(self._options)} for {self.num_envs} environments"
            )
        return [check_reset_options(reset_options(options)) for options in self._options]

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = np.array(actions)

    def step_wait(self) -> tuple[VecEnvObs, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """One control step.

        Raises:
            RuntimeError: `step_async` was not called before.
        """
        if self._actions is None:
            raise RuntimeError("call step_async() before step_wait()")
        actions, self._actions = self._actions, None
        observation, reward, terminated, truncated, infos = self.env.step(actions)
        done = terminated | truncated
        out: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in range(self.num_envs)]
        self.reward_terms = _reward_terms(infos)
        for i in np.flatnonzero(done).tolist():
            final = info_of(infos["final_info"], i)
            out[i] = {
                **final,
                "terminal_observation": infos["final_obs"][i],
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                "episode": self._episode(final["metrics"]),
            }
            self.reset_infos[i] = info_of({k: v for k, v in infos.items() if "final_" not in k}, i)
        return observation, reward.astype(np.float32), done, out

    def _episode(self, metrics: dict[str, float]) -> dict[str, Any]:
        """The entry `episode` of SB3's `Monitor` for a finished episode."""
        return {
            "r": round(metrics["return"], 6),
            "l": int(metrics["length"]),
            "t": round(time.time() - self._since, 6),
        }

    def close(self) -> None:
        """Free the renderer."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """An image of each environment in mode "rgb_array"; else None, with a warning."""
        images = self.env.render()
        if images is None:
            warnings.warn(
                f"pictures need render_mode='rgb_array', got {self.render_mode!r}", stacklevel=2
            )
            return [None] * self.num_envs
        return list(images)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of each of the environments."""
        return [getattr(member, attr_name) for member in self._members(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of each of the environments."""
        for member in self._members(indices):
            setattr(member, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of each of the environments."""
        return [getattr(member, method_name)(*args, **kwargs) for member in self._members(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Whether environments behave as if wrapped: True only for SB3's `Monitor`."""
        return [wrapper_class is Monitor for _ in self._members(indices)]

    def _members(self, indices: VecEnvIndices) -> list[Member]:
        return [self.envs[i] for i in self._get_indices(indices)]


def _stacked(episodes: list[Any]) -> dict[str, np.ndarray]:
    """Stack n episodes into rows (n, ...).

    Raises:
        ValueError: the episodes have different parts.
    """
    if any(not isinstance(e, dict) or set(e) != set(episodes[0]) for e in episodes):
        raise ValueError("the episodes of set_options must be dictionaries with the same parts")
    return {name: np.stack([e[name] for e in episodes]) for name in episodes[0]} if episodes else {}


def _reward_terms(info: dict[str, Any]) -> dict[str, np.ndarray]:
    """Reward terms of every environment, also those of finished episodes in `final_info`."""
    parts = [
        part["reward_terms"]
        for part in (info, info.get("final_info", {}))
        if "reward_terms" in part
    ]
    names = [name for name in parts[0] if not name.startswith("_")]
    return {name: np.sum([part[name] for part in parts], axis=0) for name in names}
