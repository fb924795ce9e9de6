"""A core with Gymnasium's interface: spaces, shaped observations, checked actions, images."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np

from vnl_envs.envs.core import Core, Rows
from vnl_envs.envs.view import View
from vnl_envs.tasks.task import Task
from vnl_envs.utils import checks

VISION_SIZE = 64
METADATA: dict[str, Any] = {"render_modes": ["rgb_array", "human"], "render_fps": 50}


class GymCore:
    """A core with Gymnasium's spaces.

    Args:
        task: task of the simulations.
        num: number of simulations.
        threads: number of threads of the engine; 0 uses every CPU.
        vision: whether observations contain an image of the egocentric camera.
        observation: "flat" (one Box) or "dict" (one Box per group).

    Attributes:
        core: core of the simulations.
        observation_space, action_space: spaces of one simulation.
    """

    def __init__(
        self,
        task: Task,
        num: int,
        threads: int,
        vision: bool,
        observation: Literal["flat", "dict"] = "flat",
    ) -> None:
        checks.choice("observation", observation, ("flat", "dict"))
        self.vision = checks.flag("vision", vision)
        self.dict_observation = self.vision or observation == "dict"
        self.core = Core(task, num, threads)
        body = self.core.task.body.body
        self._eye = View(
            self.core, VISION_SIZE, VISION_SIZE, camera=body.prefix + body.egocentric_camera
        )
        nu = self.core.task.body.nu
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (nu,), np.float32)
        self.observation_space = self._observation_space()

    def _observation_space(self) -> gymnasium.Space:
        def box(size: int) -> gymnasium.spaces.Box:
            return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)

        if not self.dict_observation:
            return box(self.core.size)
        spaces: dict[str, gymnasium.Space] = {
            name: box(span.stop - span.start) for name, span in self.core.groups.items()
        }
        if self.vision:
            shape = (VISION_SIZE, VISION_SIZE, 3)
            spaces["vision"] = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        return gymnasium.spaces.Dict(spaces)

    def parts(self, ids: np.ndarray | None = None) -> Rows:
        """Parts of the observations of simulations `ids` (all if None).

        Returns:
            "flat" (n, D) float32, the core's own array for all simulations; and with vision,
            "vision" (n, 64, 64, 3) uint8.
        """
        flat = self.core.observation if ids is None else self.core.observation[ids]
        if not self.vision:
            return {"flat": flat}
        indices = range(self.core.num) if ids is None else ids
        return {"flat": flat, "vision": np.stack([self.see(int(i)) for i in indices])}

    def shaped(self, parts: Rows) -> Any:
        """Observations from `parts` of any leading shape: an array or a dictionary."""
        flat = parts["flat"]
        if not self.dict_observation:
            return flat
        groups = {name: flat[..., span].copy() for name, span in self.core.groups.items()}
        return {**groups, "vision": parts["vision"]} if self.vision else groups

    def observe_one(self, index: int) -> Any:
        """The observation of one simulation: (D,), or a dictionary of arrays."""
        flat = self.core.observation[index]
        if not self.dict_observation:
            return flat.copy()
        groups = {name: flat[span].copy() for name, span in self.core.groups.items()}
        return {**groups, "vision": self.see(index)} if self.vision else groups

    def see(self, index: int) -> np.ndarray:
        """The egocentric image of one simulation, (64, 64, 3) uint8."""
        return self._eye.draw(index)

    @staticmethod
    def check_action(
        action: Any, shape: tuple[int, ...] | None, owner: str = "environment {}"
    ) -> np.ndarray:
        """Check actions, and return them as float32, clipped to [-1, 1].

        Args:
            action: actions of the given shape.
            shape: required shape.
            owner: format string that names the owner of a row in error messages.

        Raises:
            ValueError: the shape or the type is wrong, or a number is not finite; the message
                names the owner.
        """
        array = np.asarray(action)
        if array.dtype.kind != "f":
            # Short floats of JAX and PyTorch, such as bfloat16, have no NumPy kind.
            if "float" not in array.dtype.name:
                raise ValueError(f"actions must be floating point, got {array.dtype}")
            array = array.astype(np.float32)
        if array.shape != shape:
            raise ValueError(f"actions must have shape {shape}, got {array.shape}")
        # Fast path for valid actions; the comparison is False for NaN.
        if (np.abs(array) <= 1.0).all():
            return array.astype(np.float32)
        if not np.isfinite(array).all():
            rows = np.atleast_2d(array)
            index = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            raise ValueError(f"the action of {owner.format(index)} has a number that is not finite")
        return np.minimum(np.maximum(array, -1.0), 1.0).astype(np.float32, copy=False)

    def close(self) -> None:
        """Free the renderer."""
        self._eye.close()
