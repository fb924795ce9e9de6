"""Watch a policy, one simulation, episode after episode, or clips, as a video."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import mujoco
import numpy as np
from tqdm.auto import tqdm

from vnl_envs import checks
from vnl_envs.envs.core import Core
from vnl_envs.files import written_whole
from vnl_envs.motion.clip import RATE, Clip
from vnl_envs.registry import make_task
from vnl_envs.rendering import HEIGHT, WIDTH, Picture, check_size
from vnl_envs.scenes.world import World
from vnl_envs.scoring.evaluate import begin_episodes, episode_seed
from vnl_envs.scoring.policies import make_policy
from vnl_envs.tasks.task import Overlay

FORMATS = (".mp4", ".gif")
STRIDE = 2
"""Every second control step is drawn: 25 frames per second show motion well."""
LONGEST = 86_400.0
"""Length of a video at most, s."""
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


def write_clips_video(
    world: World,
    clips: Sequence[Clip],
    path: str | Path,
    seconds: float = 5.0,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> None:
    """Write a video of clips as they are, without physics, one after the other.

    Args:
        world: with the clips' body.
        clips: what to show.
        path, size: see `write_video`.
        seconds: of each clip, at most.

    Raises:
        ValueError: another format, or a length or size that is none.
        RuntimeError: there is no OpenGL library.
    """
    seconds = checks.number("seconds", seconds, 1 / RATE, LONGEST, "s")
    shown = [clip.qpos[: max(1, round(seconds * RATE)) : STRIDE] for clip in clips]
    data = mujoco.MjData(world.model)
    with (
        open_video(path, world, round(RATE), size) as add,
        tqdm(total=sum(map(len, shown)), desc=Path(path).name, unit="frame", disable=None) as bar,
    ):
        for pose in itertools.chain.from_iterable(shown):
            data.qpos[world.body.qpos] = pose
            mujoco.mj_fwdPosition(world.model, data)
            add(data, ())
            bar.update()


@contextlib.contextmanager
def open_video(
    path: str | Path, world: World, rate: int, size: tuple[int, int], bitrate: int | None = None
) -> Iterator[Callable[[mujoco.MjData, Sequence[Overlay]], None]]:
    """A video of states of a world, written whole or not at all; yields what adds a picture.

    Args:
        path, size: see `write_video`.
        world: what to draw.
        rate: control steps per second, of which every `STRIDE`-th is to be added.
        bitrate: of an .mp4, about so many bits per second; by default for good pictures.

    Raises:
        ValueError: another format.
        RuntimeError: there is no OpenGL library.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f"a video's name ends in one of {FORMATS}, got {path.name!r}")
    with (
        written_whole(path) as partial,
        contextlib.closing(Picture(world, *size)) as picture,
        _writer(partial, rate // STRIDE, bitrate) as writer,
    ):
        yield lambda data, overlays: writer.append_data(picture.draw(data, overlays))


def _writer(path: Path, rate: int, bitrate: int | None) -> Any:
    # Codecs want sizes in multiples of 16; a smaller block keeps ours.
    video: dict[str, Any] = {"macro_block_size": 8, "bitrate": bitrate}
    options = {} if path.suffix == ".gif" else video
    return imageio.get_writer(path, fps=rate, **options)


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
        result = self.core.step(self.policy.act(self.core))
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
