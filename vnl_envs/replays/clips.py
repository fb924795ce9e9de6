"""Replays of clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mujoco

from vnl_envs.motion.clip import RATE, Clip
from vnl_envs.rendering.video import LONGEST
from vnl_envs.replays.page import check_name, write_page
from vnl_envs.replays.recording import Recording
from vnl_envs.scenes.world import World
from vnl_envs.utils import checks
from vnl_envs.utils.files import check_writable


def write_clips_page(
    world: World, clips: Sequence[Clip], path: str | Path, seconds: float, title: str
) -> None:
    """Write one HTML file that replays clips without physics.

    Args:
        world: world with the clips' body.
        clips: clips to show, at least one.
        path: name that ends in .html.
        seconds: greatest length of each clip, s.
        title: title of the page.

    Raises:
        ValueError: the suffix is another one, or the length is out of bounds.
        RuntimeError: there is no OpenGL library.
    """
    path = check_name(path)
    check_writable(path)
    seconds = checks.number("seconds", seconds, 1 / RATE, LONGEST, "s")
    recordings = [_recorded(world, clip, seconds) for clip in clips]
    replays = [r.replay(clip.name) for clip, r in zip(clips, recordings, strict=True)]
    facts = f"{len(clips)} clip{'' if len(clips) == 1 else 's'}, as recorded, without physics"
    write_page(path, replays, recordings[0].still(), title, facts)


def _recorded(world: World, clip: Clip, seconds: float) -> Recording:
    recording = Recording(world)
    data = mujoco.MjData(world.model)
    for pose in clip.qpos[: max(1, round(seconds * RATE))]:
        data.qpos[world.body.qpos] = pose
        # This also detects contacts.
        mujoco.mj_fwdPosition(world.model, data)
        recording.add(data)
    return recording
