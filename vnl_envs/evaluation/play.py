"""Videos and replays of a policy in one simulation, episode after episode."""

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
from vnl_envs.replays.page import check_name, write_page
from vnl_envs.replays.recording import Recording
from vnl_envs.tasks.task import Overlay
from vnl_envs.utils import checks
from vnl_envs.utils.files import check_writable

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
        task_id, policy, seed, options: as for `vnl_envs.evaluate`, with the same episodes.
        path: name that ends in .mp4 or .gif.
        seconds: length of the video, s.
        size: width and height, pixels.

    Raises:
        TypeError: an option is unknown; the message lists the known ones.
        ValueError: the id, policy or format is unknown, or the length or size is out of bounds.
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


def write_replay(
    task_id: str,
    policy: Any,
    path: str | Path,
    seconds: float = 10.0,
    seed: int = 0,
    **options: Any,
) -> None:
    """Write one HTML file in which a policy's episodes play in 3-D, whole or not at all.

    Args:
        task_id, policy, seed, options: as for `vnl_envs.evaluate`, with the same episodes.
        path: name that ends in .html.
        seconds: length of all episodes together, s; the last one is cut.

    Raises:
        TypeError, ValueError, RuntimeError: see `write_video`.
    """
    path = check_name(path)
    check_writable(path)
    seconds = checks.number("seconds", seconds, 1 / RATE, LONGEST, "s")
    recordings = record_episodes(Player(task_id, policy, seed, options), seconds, path.name)
    replays = [recording.replay(name) for name, recording in recordings]
    named = "/".join(Path(str(policy)).parts[-2:])
    facts = f"policy {named}, seed {seed}"
    write_page(path, replays, recordings[0][1].still(), task_id, facts)


def record_episodes(player: Player, seconds: float, title: str) -> list[tuple[str, Recording]]:
    """Names and recordings of episodes, `seconds` long together.

    `title` is the title of the progress bar.
    """
    dt = player.core.task.dt
    recordings: list[tuple[str, Recording]] = []
    over = True
    for _ in tqdm(range(max(1, round(seconds / dt))), desc=title, unit="step", disable=None):
        if over:
            name = f"{len(recordings) + 1}" + (f": {player.label}" if player.label else "")
            recordings.append((name, player.recording()))
        over = player.step(recordings[-1][1])
    return recordings


class Player:
    """One simulation driven by a policy, episode after episode.

    Attributes:
        label: behaviour of the current episode.
    """

    def __init__(self, task_id: str, policy: Any, seed: int, options: dict[str, Any]) -> None:
        self.core = Core(make_task(task_id, **options), 1, 1)
        self.policy = make_policy(policy, self.core)
        self.seed = checks.integer("seed", seed, 0)
        self.index = 0
        self._begin()

    def _begin(self) -> None:
        seeds = [episode_seed(self.seed, self.index)]
        (self.label,) = begin_episodes(self.core, self.policy, _ONLY, seeds)
        self.index += 1

    def recording(self) -> Recording:
        """A recording that begins with the current state."""
        recording = Recording(self.core.task.world, self.core.engine.model_of(0))
        recording.add(self.data, self.overlays)
        return recording

    def step(self, recording: Recording | None = None) -> bool:
        """Advance one control step, and record it if a recording is given.

        After an episode's last step the next episode begins.

        Returns:
            Whether it began.
        """
        result = self.core.step(self.policy.act(self.core.observation))
        if recording is not None:
            terms = {name: float(value[0]) for name, value in result.terms.items()}
            recording.add(self.data, self.overlays, terms)
        over = bool(result.terminated[0] or result.truncated[0])
        if over:
            self._begin()
        return over

    @property
    def data(self) -> mujoco.MjData:
        """The current state."""
        return self.core.engine.data(0)

    @property
    def overlays(self) -> Sequence[Overlay]:
        """The overlays of the current state."""
        return self.core.overlays(0)
