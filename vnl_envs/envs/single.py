"""A single environment: the core with one simulation."""

from __future__ import annotations

import copy
from typing import Any, Literal

import gymnasium
import mujoco
import numpy as np

from vnl_envs.envs.base import (
    EnvBase,
    check_reset_options,
    check_seed,
    reset_options,
    restored_generator,
)
from vnl_envs.envs.core import Step
from vnl_envs.envs.gym_core import METADATA, GymCore
from vnl_envs.envs.view import View
from vnl_envs.registry import make_task
from vnl_envs.rendering.renderer import HEIGHT, WIDTH, Window, check_size
from vnl_envs.utils.opengl import has_display

_ONLY = np.array([0])


class SingleEnv(EnvBase, gymnasium.Env[Any, np.ndarray]):
    """A registered task as a Gymnasium environment.

    The `info` of `reset` and `step` holds `reward_terms` and `metrics` (of the episode so far) by
    name, `is_success` and `diverged`.

    Args:
        task_id: registered id.
        render_mode: None, "rgb_array" or "human".
        width, height: size of rendered images, pixels.
        vision: whether to add a 64 x 64 egocentric image. Observations are then a dictionary.
        observation: "flat" (one vector) or "dict" (one vector per group).
        options: options of the task, see `vnl_envs.task_options`.
    """

    metadata = METADATA

    def __init__(
        self,
        task_id: str,
        render_mode: str | None = None,
        width: int = WIDTH,
        height: int = HEIGHT,
        vision: bool = False,
        observation: Literal["flat", "dict"] = "flat",
        **options: Any,
    ) -> None:
        if render_mode not in (None, "rgb_array", "human"):
            raise ValueError(
                f"render_mode must be 'rgb_array', 'human' or None, got {render_mode!r}"
            )
        if render_mode == "human" and not has_display():
            raise RuntimeError("render_mode='human' needs a display; without one use 'rgb_array'")
        self._arguments = copy.deepcopy(
            {
                "task_id": task_id,
                "render_mode": render_mode,
                "width": width,
                "height": height,
                "vision": vision,
                "observation": observation,
                **options,
            }
        )
        self.metadata = copy.deepcopy(METADATA)
        size = check_size(width, height)
        self._gym = GymCore(make_task(task_id, **options), 1, 1, vision, observation)
        self._view = View(self._gym.core, *size)
        self.observation_space = self._gym.observation_space
        self.action_space = self._gym.action_space
        self.render_mode = render_mode
        self._window: Window | None = None
        # Before the first reset there is no episode to step.
        self._over = True

    @property
    def data(self) -> mujoco.MjData:
        """A snapshot of the simulation. Writing to it changes nothing."""
        return self._gym.core.engine.data(0)

    @property
    def episode(self) -> dict[str, np.ndarray]:
        """The current episode, for `reset(options={"episode": …})`."""
        return {k: v[0].copy() for k, v in self._gym.core.episode.items()}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode, drawn from the generator or given as `options={"episode": …}`.

        Raises:
            ValueError: an option is unknown, the episode is of another task, or the seed is not an
                integer of at least 0.
        """
        core = self._gym.core
        seed = check_seed(seed)
        given = check_reset_options(reset_options(options))
        rows = None if given is None else core.check_episode(given)
        super().reset(seed=seed)
        core.reset(_ONLY, core.draw([self.np_random]) if rows is None else rows)
        self._over = False
        self._show()
        return self._gym.observe_one(0), self._info(Step.none(self.task.reward_terms, (1,)))

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One control step with an action (nu,) in [-1, 1]; see the class for `info`.

        Raises:
            ValueError: the action has a wrong shape or type, or is not finite.
            gymnasium.error.ResetNeeded: no episode is under way.
        """
        gym = self._gym
        action = gym.check_action(action, gym.action_space.shape)
        if self._over:
            raise gymnasium.error.ResetNeeded("call reset() before step(): no episode is under way")
        result = gym.core.step(action[None])
        terminated, truncated = bool(result.terminated[0]), bool(result.truncated[0])
        self._over = terminated or truncated
        info = self._info(result)
        self._show()
        return self._gym.observe_one(0), float(result.reward[0]), terminated, truncated, info

    def _info(self, step: Step) -> dict[str, Any]:
        return {
            "reward_terms": {k: float(v[0]) for k, v in step.terms.items()},
            "metrics": self._gym.core.figures_of(0),
            "is_success": bool(step.success[0]),
            "diverged": bool(step.diverged[0]),
        }

    def render(self) -> np.ndarray | None:
        """An image (height, width, 3) uint8 in mode "rgb_array", else None."""
        if self.render_mode != "rgb_array":
            return None
        return self._view.draw(0)

    def _show(self) -> None:
        if self.render_mode != "human":
            return
        if self._window is None:
            self._window = Window(self.task.world, self.model)
        self._window.show(self.data, self.core.overlays(0), self.dt)

    def close(self) -> None:
        """Close windows and free the renderer."""
        for part in (self._view, self._window, self._gym):
            if part is not None:
                part.close()
        self._window = None

    def get_state(self) -> dict[str, Any]:
        """Everything on which the next steps depend, with the generator, as plain arrays."""
        return {
            **self._gym.core.get_state(),
            "generator": self.np_random.bit_generator.state,
            "over": self._over,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state from `get_state`. The next steps give the same bits.

        Raises:
            ValueError: the state is of another task.
        """
        self.core.check_state(state, "generator", "over")
        generator = restored_generator(state["generator"])
        self.core.set_state(state)
        self.np_random = generator
        self._over = state["over"]
