"""Watch a policy: one simulation, episode after episode, as a video."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from tqdm.auto import tqdm

from vnl_envs.envs.core import Core
from vnl_envs.files import written_whole
from vnl_envs.registry import make_task
from vnl_envs.rendering import HEIGHT, WIDTH, Picture
from vnl_envs.scoring.evaluate import begin_episodes
from vnl_envs.scoring.policies import make_policy

FORMATS = (".mp4", ".gif")
# Every second control step is drawn: 25 frames per second show motion well.
_STRIDE = 2
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
        ValueError: an unknown id, option, policy or format.
        RuntimeError: there is no OpenGL library.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f"a video's name ends in one of {FORMATS}, got {path.name!r}")
    player = Player(task_id, policy, seed, options)
    picture = Picture(player.core.task.world, *size)
    rate = round(1 / player.core.task.dt)
    frames = range(max(1, round(seconds * rate)))
    with (
        written_whole(path) as partial,
        contextlib.closing(picture),
        _writer(partial, rate // _STRIDE) as writer,
    ):
        for step in tqdm(frames, desc=path.name, unit="step", disable=None):
            if step % _STRIDE == 0:
                writer.append_data(player.draw(picture))
            player.step()


def _writer(path: Path, rate: int) -> Any:
    # Codecs want sizes in multiples of 16; a smaller block keeps ours.
    options: dict[str, Any] = {} if path.suffix == ".gif" else {"macro_block_size": 8}
    return imageio.get_writer(path, fps=rate, **options)


class Player:
    """One simulation driven by a policy, episode after episode."""

    def __init__(self, task_id: str, policy: Any, seed: int, options: dict[str, Any]) -> None:
        self.core = Core(make_task(task_id, **options), 1, 1)
        self.policy = make_policy(policy, self.core)
        self.seed = seed
        self.index = 0
        self._begin()

    def _begin(self) -> None:
        begin_episodes(self.core, self.policy, _ONLY, self.seed, [self.index])
        self.index += 1

    def step(self) -> None:
        """One control step; after an episode's last one the next begins."""
        result = self.core.step(self.policy.act(self.core))
        if result.terminated[0] or result.truncated[0]:
            self._begin()

    def draw(self, picture: Picture) -> np.ndarray:
        """A picture of now."""
        return picture.draw(self.core.engine.data(0), self.core.overlays(0))
