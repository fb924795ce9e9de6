"""Videos of a result's episodes, and the list of those that a board has."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tqdm.auto import tqdm

from vnl_envs.files import written_whole
from vnl_envs.play import STRIDE, open_video
from vnl_envs.scoring.figures import TaskFigures, by_task, episode_place, slug
from vnl_envs.scoring.schema import EpisodeResult, Result, Video, parse
from vnl_envs.scoring.suites import NOMINAL
from vnl_envs.scoring.worker import Worker

if TYPE_CHECKING:
    from vnl_envs.envs.core import Core
    from vnl_envs.scoring.runner import Run

FOLDER = "videos"
INDEX = "videos.json"
SECONDS = 8
SIZE = 384, 288
BITRATE = 250_000
"""So that `SECONDS` take a quarter of a megabyte."""


def write_videos(result: Result, what: Run, out: Path, key: str) -> list[Video]:
    """Run some episodes of a result again, drawn, and write the list of them beside the videos.

    Args:
        result: of the whole suite or a part of it.
        what: the same contestant, suite and seeds; on the native engine.
        out: the folder `videos` of a board; its parts are made if need be.
        key: name of the result on the board, without suffix.

    Raises:
        ScoringError: the suite is not of this version.
        RuntimeError: there is no OpenGL library.
    """
    folder = out / key
    folder.mkdir(parents=True, exist_ok=True)
    shown = [
        (task.task.id, which, episode)
        for task in by_task(result, what.suite)
        if what.has_policy(task.task.id)
        for which, episode in chosen(task)
    ]
    videos = []
    with contextlib.closing(Worker(what.job)) as worker:
        for task_id, which, episode in tqdm(shown, unit="video", disable=None):
            name = f"{slug(task_id)}-{which}.mp4"
            _draw(worker.play(episode.id), folder / name)
            file = f"{FOLDER}/{key}/{name}"
            videos.append(
                Video(task=task_id, which=which, episode=episode.id, score=episode.score, file=file)
            )
    with written_whole(folder / INDEX) as partial:
        rows = [video.model_dump(mode="json") for video in videos]
        partial.write_text(json.dumps(rows, indent=1) + "\n")
    return videos


def _draw(states: Iterator[Core], path: Path) -> None:
    """The first seconds of an episode."""
    core = next(states)
    rate = round(1 / core.task.dt)
    with open_video(path, core.task.world, rate, SIZE, BITRATE) as add:
        add(core.engine.data(0), core.overlays(0))
        for core in itertools.islice(states, STRIDE - 1, SECONDS * rate, STRIDE):
            add(core.engine.data(0), core.overlays(0))


def read_videos(board: Path, key: str) -> list[Video]:
    """The videos of an entry whose files a board has, by the name of its result.

    Raises:
        ScoringError: the list of them is none.
    """
    index = board / FOLDER / key / INDEX
    if not index.is_file():
        return []
    videos = parse(list[Video], index.read_bytes(), f"{FOLDER}/{key}/{INDEX}")
    return [video for video in videos if (board / video.file).is_file()]


def chosen(
    task: TaskFigures,
) -> list[tuple[Literal["best", "median", "worst"], EpisodeResult]]:
    """The best, median and worst nominal episode of a task among those that count."""
    counted = {cell.id for cell in task.task.tiers[NOMINAL] if cell.counted}
    places = ((episode_place(episode.id), episode) for episode in task.episodes)
    nominal = [e for (tier, cell), e in places if tier == NOMINAL and cell in counted]
    if not nominal:
        return []
    ordered: Sequence[EpisodeResult] = sorted(nominal, key=lambda e: (-e.score, -e.steps))
    return [("best", ordered[0]), ("median", ordered[len(ordered) // 2]), ("worst", ordered[-1])]
