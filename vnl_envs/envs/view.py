"""Images of a core's simulations, for environments."""

from __future__ import annotations

import mujoco
import numpy as np

from vnl_envs.envs.core import Core
from vnl_envs.rendering import gl_thread
from vnl_envs.rendering.renderer import HEIGHT, WIDTH, Picture, check_size


class View:
    """Draws the current state of a core's simulations, from any thread.

    The renderer is made at the first image.

    Args:
        core: core of the simulations.
        width, height, camera: see `Picture`.

    Raises:
        ValueError: a width or height is not an integer of at least 1.
    """

    def __init__(
        self, core: Core, width: int = WIDTH, height: int = HEIGHT, camera: str | None = None
    ) -> None:
        self._core = core
        self._size = check_size(width, height)
        self._camera = camera
        self._picture: Picture | None = None
        self._data: mujoco.MjData | None = None

    def draw(self, index: int) -> np.ndarray:
        """An image of one simulation, (height, width, 3) uint8.

        Raises:
            RuntimeError: no OpenGL backend works.
        """
        # The snapshot is taken in the same thread, so that only one thread writes to it.
        return gl_thread.call(lambda: self._draw(index))

    def _draw(self, index: int) -> np.ndarray:
        if self._picture is None:
            self._picture = Picture(self._core.task.world, *self._size, self._camera)
        self._data = self._core.engine.data(index, self._data)
        return self._picture.draw(self._data, self._core.overlays(index))

    def close(self) -> None:
        """Free the renderer."""
        if self._picture is not None:
            self._picture.close()
