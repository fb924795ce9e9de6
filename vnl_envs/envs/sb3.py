"""The vector environment as Stable-Baselines3's `VecEnv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs

from vnl_envs.envs.vector import VectorEnv


class SB3VecEnv(VecEnv):
    """`num_envs` environments on one thread pool, for SB3's algorithms.

    Infos are filled where an episode ends: `terminal_observation`, `TimeLimit.truncated`,
    `is_success`, `diverged` and `metrics`.

    Args:
        task_id: a registered id.
        num_envs: environments.
        arguments: of `VectorEnv`, but for its `autoreset_mode`, which SB3 decides.

    Attributes:
        reward_terms: of the last step, by name, each (num_envs,).
    """

    def __init__(self, task_id: str, num_envs: int, **arguments: Any) -> None:
        self.env = VectorEnv(task_id, num_envs, **arguments)
        self.render_mode = self.env.render_mode
        super().__init__(num_envs, self.env.single_observation_space, self.env.single_action_space)
        self.reward_terms: dict[str, np.ndarray] = {}
        self._actions: np.ndarray | None = None

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed environment i with seed + i at the next reset."""
        if seed is None:
            seed = int(np.random.default_rng().integers(2**31))
        return super().seed(seed)

    def reset(self) -> VecEnvObs:
        """First observations of new episodes."""
        seeds = self._seeds
        observation, _ = self.env.reset(seed=seeds)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = np.asarray(actions)

    def step_wait(self) -> tuple[VecEnvObs, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """One control step."""
        assert self._actions is not None
        observation, reward, terminated, truncated, info = self.env.step(self._actions)
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        self.reward_terms = _reward_terms(info)
        for i in np.flatnonzero(done):
            final = info["final_info"]
            infos[i] = {
                "terminal_observation": info["final_obs"][i],
                "TimeLimit.truncated": bool(truncated[i]),
                "is_success": bool(final["is_success"][i]),
                "diverged": bool(final["diverged"][i]),
                "metrics": {
                    k: float(v[i]) for k, v in final["metrics"].items() if not k.startswith("_")
                },
            }
        return observation, reward.astype(np.float32), done, infos

    def close(self) -> None:
        """Free the renderer."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """A picture of each environment."""
        return list(self.env.render() or [None] * self.num_envs)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute of the vector environment, once per index."""
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the vector environment.

        Raises:
            ValueError: for some environments only, which share one object.
        """
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError("the environments share one object: set an attribute on all of them")
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of the vector environment, once, and return its result per index."""
        result = getattr(self.env, method_name)(*args, **kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None
    ) -> list[bool]:
        """No environment is wrapped."""
        return [False for _ in self._get_indices(indices)]


def _reward_terms(info: dict[str, Any]) -> dict[str, np.ndarray]:
    """Of every environment; those of ended episodes are apart in a vector environment's infos."""
    parts = [part["reward_terms"] for part in (info, info.get("final_info", {}))
             if "reward_terms" in part]  # fmt: skip
    names = [name for name in parts[0] if not name.startswith("_")]
    return {name: np.sum([part[name] for part in parts], axis=0) for name in names}
