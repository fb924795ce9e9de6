"""Watch a policy, one simulation, episode after episode, as a video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from tqdm.auto import tqdm

from vnl_envs.envs.core import Core
from vnl_envs.evaluation.evaluate import begin_episodes, episode_seed
from vnl_envs.evaluation.policies import make_policy
from vnl_envs.motion.clip import RATE
from vnl_envs.registry import make_task
from vnl_envs.rendering.renderer import HEIGHT, WIDTH, check_size
from vnl_envs.rendering.video import LONGEST, STRIDE, open_video
from vnl_envs.tasks.task import Overlay
from vnl_envs.utils import checks

_ONLY = np.array([0])


def write_video(
    task_id: str,
    policy: Any,
    path: str | Path,
    seconds: float = 10.0,
    seed: int = 0,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    **options: Any,
) -> None:
    """Write a video of a policy, whole or not at all.

    Args:
        task_id, policy, seed, options: see `vnl_envs.evaluate`; its episodes are these.
        path: ends in .mp4 or .gif.
        seconds: length of the video.
        size: width and height, pixels.

    Raises:
        TypeError: an unknown option; the message lists what there is.
        ValueError: an unknown id, policy or format, or a length or size that is none.
        RuntimeError: there is no OpenGL library.
    """
    size = check_size(*size)
    seconds = checks.number("seconds", seconds, 1 / RATE, LONGEST, "s")
    player = Player(task_id, policy, seed, options)
    rate = round(1 / player.core.task.dt)
    frames = range(max(1, round(seconds * rate)))
    with open_video(path, player.core.task.world, rate, size) as add:
        for step in tqdm(frames, desc=Path(path).name, unit="step", disable=None):
            if step % STRIDE == 0:
                add(player.data, player.overlays)
            player.step()


class Player:
    """One simulation driven by a policy, episode after episode."""

    def __init__(self, task_id: str, policy: Any, seed: int, options: dict[str, Any]) -> None:
        self.core = Core(make_task(task_id, **options), 1, 1)
        self.policy = make_policy(policy, self.core)
        self.seed = checks.integer("seed", seed, 0)
        self.index = 0
        self._begin()

    def _begin(self) -> None:
        begin_episodes(self.core, self.policy, _ONLY, [episode_seed(self.seed, self.index)])
        self.index += 1

    def step(self) -> None:
        """One control step; after an episode's last one the next begins."""
        result = self.core.step(self.policy.act(self.core.observation))
        if result.terminated[0] or result.truncated[0]:
            self._begin()

    @property
    def data(self) -> mujoco.MjData:
        """The state of now."""
        return self.core.engine.data(0)

    @property
    def overlays(self) -> Sequence[Overlay]:
        """What is drawn now and not simulated."""
        return self.core.overlays(0)
