"""Interactive replays of a result's episodes, the same ones as in its videos."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from tqdm.auto import tqdm

from vnl_envs.problems import Code, problem
from vnl_envs.replays.folder import page_text, shared_files
from vnl_envs.replays.page import jpeg, page_data
from vnl_envs.replays.recording import Recording
from vnl_envs.scoring.board.videos import chosen
from vnl_envs.scoring.board.views import by_task, slug, title
from vnl_envs.scoring.documents.schema.fields import Document, Number, TaskId
from vnl_envs.scoring.documents.schema.reading import parse
from vnl_envs.scoring.documents.schema.result import EpisodeId, Result
from vnl_envs.scoring.run.worker import Worker
from vnl_envs.utils.files import read_inside, written_whole

if TYPE_CHECKING:
    from vnl_envs.scoring.run.plan import Run

FOLDER = "replays"
MOST_BYTES = 4 * 2**20
"""Greatest size of the replays of a task, and of a picture, bytes."""
_JPEG = b"\xff\xd8\xff"


class ReplayedEpisode(Document):
    """The episode of a replay.

    Attributes:
        which: rank of the episode among the task's counted nominal episodes.
        episode: episode id.
        score: primary metric of the episode.
    """

    which: Literal["best", "median", "worst"]
    episode: EpisodeId
    score: Number


class TaskReplays(Document):
    """The replays of a task, `replays/NAME/TASK.json` of a board.

    Attributes:
        task: task id.
        episodes: episodes of the replays, in order.
        content: data of the page, for the viewer only; see `vnl_envs.replays.page.page_data`.
    """

    task: TaskId
    episodes: list[ReplayedEpisode] = Field(min_length=1, max_length=3)
    content: dict[str, Any]


def write_replays(result: Result, plan: Run, out: Path, key: str) -> list[Path]:
    """Run some episodes of a result again; write a file of replays and a picture for each task.

    Args:
        result, plan, key: see `write_videos`.
        out: folder `replays` of a board, made if necessary.

    Raises:
        ScoringError: the suite is of another version.
        RuntimeError: there is no OpenGL library.
    """
    folder = out / key
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [task for task in by_task(result, plan.suite) if plan.has_policy(task.task.id)]
    written = []
    with contextlib.closing(Worker(plan.job)) as worker:
        for task in tqdm(tasks, unit="task", disable=None):
            shown = chosen(task)
            if not shown:
                continue
            recordings = [_recorded(worker, episode.id) for _, episode in shown]
            names = [f"{which}: {episode.score:.3g}" for which, episode in shown]
            replays = TaskReplays(
                task=task.task.id,
                episodes=[
                    ReplayedEpisode(which=which, episode=e.id, score=e.score) for which, e in shown
                ],
                content=page_data(
                    [r.replay(name) for r, name in zip(recordings, names, strict=True)]
                ),
            )
            path = folder / f"{slug(task.task.id)}.json"
            with written_whole(path) as partial:
                partial.write_text(replays.model_dump_json())
            with written_whole(path.with_suffix(".jpg")) as partial:
                partial.write_bytes(jpeg(recordings[0].still()))
            written.append(path)
    return written


def _recorded(worker: Worker, episode: str) -> Recording:
    states = worker.play(episode)
    core, _ = next(states)
    recording = Recording(core.task.world, core.engine.model_of(0))
    recording.add(core.engine.data(0), core.overlays(0))
    for core, step in states:
        assert step is not None
        terms = {name: float(value[0]) for name, value in step.terms.items()}
        recording.add(core.engine.data(0), core.overlays(0), terms)
    return recording


def read_replays(root: Path, place: str, result: Result) -> list[TaskReplays]:
    """The replays of a result, by task. Tasks without replays are left out.

    Args:
        root: folder of a board, or the output folder of `write_replays`.
        place: folder of the result's replays, under the root.
        result: result with the episodes.

    Raises:
        ScoringError: a file is malformed, or contradicts the result.
    """
    scores = {episode.id: episode.score for episode in result.episodes}
    return [
        _read(root, f"{place}/{slug(task)}", task, scores)
        for task in result.tasks
        if (root / f"{place}/{slug(task)}.json").exists()
    ]


def pages(
    root: Path, place: str, replays: Sequence[TaskReplays], key: str, policy: str, back: str
) -> Iterator[tuple[str, bytes]]:
    """Pages of replays, their pictures and shared files: name and content of each file.

    Args:
        root, place: see `read_replays`.
        replays: result of `read_replays`.
        key: first part of the pages' names.
        policy: name of the policy.
        back: address of the link back.

    Raises:
        ScoringError: see `read_still`.
    """
    for of_task in replays:
        name = f"{key}-{slug(of_task.task)}"
        own = f"{of_task.task}/"
        episodes = ", ".join(episode.episode.removeprefix(own) for episode in of_task.episodes)
        heading = f"{title(of_task.task)}, {policy}"
        page = page_text(name, of_task.content, heading, episodes, (back, policy))
        yield f"{name}.html", page.encode()
        yield f"{name}.jpg", read_still(root, f"{place}/{slug(of_task.task)}")
    if replays:
        for name, text in shared_files().items():
            yield name, text.encode()


def _read(root: Path, stem: str, task: str, scores: dict[str, float]) -> TaskReplays:
    name = f"{stem}.json"
    try:
        replays = parse(TaskReplays, read_inside(root, name, MOST_BYTES), name)
    except OSError as error:
        raise problem(Code.SCHEMA, name, str(error.strerror).lower()) from None
    for replayed in replays.episodes:
        own = replays.task == task and replayed.episode.startswith(f"{task}/")
        if not own or scores.get(replayed.episode) != replayed.score:
            message = f"{replayed.episode} with score {replayed.score:g} is not in the result"
            raise problem(Code.CLAIM, name, message)
    read_still(root, stem)
    return replays


def read_still(root: Path, stem: str) -> bytes:
    """The picture beside a file of replays.

    Raises:
        ScoringError: it is no picture, no regular file, or larger than `MOST_BYTES`.
    """
    name = f"{stem}.jpg"
    try:
        data = read_inside(root, name, MOST_BYTES)
    except OSError as error:
        raise problem(Code.SCHEMA, name, str(error.strerror).lower()) from None
    if not data.startswith(_JPEG):
        raise problem(Code.SCHEMA, name, "is no JPEG file")
    return data
