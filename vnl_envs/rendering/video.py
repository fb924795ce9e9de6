"""Videos of states of a world, and of clips."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import mujoco
from tqdm.auto import tqdm

from vnl_envs.motion.clip import RATE, Clip
from vnl_envs.rendering.renderer import HEIGHT, WIDTH, Picture
from vnl_envs.scenes.world import World
from vnl_envs.tasks.task import Overlay
from vnl_envs.utils import checks
from vnl_envs.utils.files import written_whole

FORMATS = (".mp4", ".gif")
STRIDE = 2
"""Number of control steps per frame; 25 frames per second show motion well."""
LONGEST = 86_400.0
"""Greatest length of a video, s."""


def write_clips_video(
    world: World,
    clips: Sequence[Clip],
    path: str | Path,
    seconds: float = 5.0,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> None:
    """Write a video of clips, one after the other, without physics.

    Args:
        world: world with the clips' body.
        clips: clips to show.
        path: name that ends in .mp4 or .gif.
        seconds: greatest length of each clip, s.
        size: width and height, pixels.

    Raises:
        ValueError: the format is another one, or the length or size is out of bounds.
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
    """A video of states of a world, written whole or not at all.

    Args:
        path: name that ends in .mp4 or .gif.
        world: world to draw.
        rate: control steps per second; the caller adds every `STRIDE`-th one.
        size: width and height, pixels.
        bitrate: approximate bits per second of an .mp4; None chooses it by quality.

    Yields:
        A function of a state and its overlays that adds a picture.

    Raises:
        ValueError: the format is another one.
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
    # Sizes are rounded up to multiples of 16 by default; a smaller block keeps ours.
    video: dict[str, Any] = {"macro_block_size": 8, "bitrate": bitrate}
    options = {} if path.suffix == ".gif" else video
    return imageio.get_writer(path, fps=rate, **options)
