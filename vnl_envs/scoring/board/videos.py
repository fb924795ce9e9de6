"""Videos of a result's episodes, and their list on a board."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tqdm.auto import tqdm

from vnl_envs.problems import Code, problem
from vnl_envs.rendering.video import STRIDE, open_video
from vnl_envs.scoring.board.views import TaskFigures, by_task, episode_place, slug
from vnl_envs.scoring.documents.schema.board import Video
from vnl_envs.scoring.documents.schema.fields import MOST_BYTES
from vnl_envs.scoring.documents.schema.reading import parse
from vnl_envs.scoring.documents.schema.result import EpisodeResult, Result
from vnl_envs.scoring.documents.suites import NOMINAL
from vnl_envs.scoring.run.worker import Worker
from vnl_envs.utils.files import read_inside, written_whole

if TYPE_CHECKING:
    from vnl_envs.envs.core import Core
    from vnl_envs.scoring.run.plan import Run

FOLDER = "videos"
INDEX = "videos.json"
SECONDS = 8
SIZE = 384, 288
BITRATE = 250_000
"""Bits per second; `SECONDS` then take a quarter of a megabyte."""
MOST_VIDEO = 8 * 2**20
"""Greatest size of a video on a board, bytes."""
# The type of the first box of an MP4 file (ISO/IEC 14496-12, 4.3).
_MP4 = b"ftyp"


def write_videos(result: Result, plan: Run, out: Path, key: str) -> list[Video]:
    """Run some episodes of a result again, and write their videos and the list of them.

    Args:
        result: result of the whole suite or a part of it.
        plan: run with the same candidate, suite and seeds, on the native engine.
        out: folder `videos` of a board, made if necessary.
        key: name of the result on the board, without suffix.

    Raises:
        ScoringError: the suite is of another version.
        RuntimeError: there is no OpenGL library.
    """
    folder = out / key
    folder.mkdir(parents=True, exist_ok=True)
    shown = [
        (task.task.id, which, episode)
        for task in by_task(result, plan.suite)
        if plan.has_policy(task.task.id)
        for which, episode in chosen(task)
    ]
    videos = []
    with contextlib.closing(Worker(plan.job)) as worker:
        for task_id, which, episode in tqdm(shown, unit="video", disable=None):
            name = f"{slug(task_id)}-{which}.mp4"
            _draw((core for core, _ in worker.play(episode.id)), folder / name)
            file = f"{FOLDER}/{key}/{name}"
            videos.append(
                Video(task=task_id, which=which, episode=episode.id, score=episode.score, file=file)
            )
    with written_whole(folder / INDEX) as partial:
        rows = [video.model_dump(mode="json") for video in videos]
        partial.write_text(json.dumps(rows, indent=1) + "\n")
    return videos


def _draw(states: Iterator[Core], path: Path) -> None:
    """Write a video of the first seconds of an episode."""
    core = next(states)
    rate = round(1 / core.task.dt)
    with open_video(path, core.task.world, rate, SIZE, BITRATE) as add:
        add(core.engine.data(0), core.overlays(0))
        for core in itertools.islice(states, STRIDE - 1, SECONDS * rate, STRIDE):
            add(core.engine.data(0), core.overlays(0))


def read_videos(board: Path, key: str, result: Result) -> list[Video]:
    """The videos of an entry whose files exist.

    Args:
        board: folder of the board.
        key: name of the result on the board, without suffix.
        result: result with the episodes.

    Raises:
        ScoringError: the list is invalid, or contradicts the result; or see `read_video`.
    """
    name = f"{FOLDER}/{key}/{INDEX}"
    if not (board / name).exists():
        return []
    try:
        videos = parse(list[Video], read_inside(board, name, MOST_BYTES), name)
    except OSError as error:
        raise problem(Code.SCHEMA, name, str(error.strerror).lower()) from None
    scores = {episode.id: episode.score for episode in result.episodes}
    existing = []
    for video in videos:
        own = video.episode.startswith(f"{video.task}/") and video.file.startswith(
            f"{FOLDER}/{key}/"
        )
        if not own or scores.get(video.episode) != video.score:
            message = f"{video.file}: is of {video.episode} with score {video.score:g}, which the "
            raise problem(Code.CLAIM, name, f"{message}result does not have")
        if (board / video.file).exists():
            read_video(board, video)
            existing.append(video)
    return existing


def read_video(board: Path, video: Video) -> bytes:
    """The bytes of a video.

    Raises:
        ScoringError: the file is not a video, not a regular one, or larger than `MOST_VIDEO`.
    """
    try:
        data = read_inside(board, video.file, MOST_VIDEO)
    except OSError as error:
        raise problem(Code.SCHEMA, video.file, str(error.strerror).lower()) from None
    if data[4:8] != _MP4:
        raise problem(Code.SCHEMA, video.file, "is no MP4 file")
    return data


def chosen(
    task: TaskFigures,
) -> list[tuple[Literal["best", "median", "worst"], EpisodeResult]]:
    """The best, median and worst of the counted nominal episodes of a task."""
    counted = {cell.id for cell in task.task.tiers[NOMINAL] if cell.counted}
    places = ((episode_place(episode.id), episode) for episode in task.episodes)
    nominal = [e for (tier, cell), e in places if tier == NOMINAL and cell in counted]
    if not nominal:
        return []
    ordered: Sequence[EpisodeResult] = sorted(nominal, key=lambda e: (-e.score, -e.steps))
    return [("best", ordered[0]), ("median", ordered[len(ordered) // 2]), ("worst", ordered[-1])]
