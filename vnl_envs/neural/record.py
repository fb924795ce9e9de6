"""Policies run along a session's clips, and what their units do at every frame."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from tqdm.auto import tqdm

from vnl_envs.envs.core import Core
from vnl_envs.identity import env_hash
from vnl_envs.motion.clip import write_clips
from vnl_envs.motion.readers.sessions import finite_runs
from vnl_envs.neural import activity
from vnl_envs.neural.errors import NeuralError
from vnl_envs.neural.importing import session_clips
from vnl_envs.neural.policies import Exposed, Teller, expose
from vnl_envs.neural.session import Session, opened_session
from vnl_envs.neural.unfinished import mark_done, quiet_processes, unfinished
from vnl_envs.registry import get_row, make_task, task_class, task_ids
from vnl_envs.tasks.imitation import Imitation
from vnl_envs.tasks.task import Task
from vnl_envs.utils.files import check_writable

GROUP = 20
"""Clips that are prepared at once: what is derived from poses takes 0.02 MB a frame."""
FALLING = 10
"""Frames before a fall that are not used either, 0.2 s."""
UNTRAINED = "untrained"
_ONLY = np.array([0])


@dataclass(frozen=True)
class Wanted:
    """One network along the session.

    Attributes:
        name: in the file.
        policy: it.
        control: the same network with drawn weights, which sees what the policy sees.
    """

    name: str
    policy: Exposed
    control: Exposed


class Rows(NamedTuple):
    """What one policy's run along some clips gave.

    Attributes:
        frames: (n,) of the session.
        usable: (n,) bool.
        root_error: (n,) m.
        activity, control: (n, units) of all layers side by side.
    """

    frames: np.ndarray
    usable: np.ndarray
    root_error: np.ndarray
    activity: np.ndarray
    control: np.ndarray


def record(
    session: str | Path,
    policies: Mapping[str, Path],
    out: str | Path,
    units: Sequence[str] = ("*",),
    seed: int = 0,
    workers: int = 1,
    progress: bool = False,
) -> dict[str, float]:
    """Write the activity file of policies along a session; their usable share by name.

    Every clip begins at its first pose. After a fall the body is put back on the next one; the
    frames of the fall are masked. Beside every policy runs a network of the same shape with drawn
    weights, on the same observations. What was done before an interruption stays beside `out`, and
    the same call goes on from there. The file does not depend on `workers`.

    Args:
        session: a session file.
        policies: ONNX files by the names that they get.
        out: the .h5 file to write.
        units: patterns of layers, see `sandbox/inside/expose.py`.
        seed: of the drawn weights.
        workers: processes.
        progress: whether to show a bar.

    Raises:
        FileNotFoundError: there is no such session or policy.
        NeuralError: a file cannot be used, a policy fails or is for another body.
    """
    out = Path(out)
    check_writable(out)
    wanted = [
        Wanted(name, expose(path, units), expose(path, units, seed))
        for name, path in policies.items()
    ]
    with opened_session(session) as found:
        task_id = imitation_of(found.text["body"])

        def create(file: h5py.File) -> None:
            _create(file, found, wanted, task_id, seed)

        with unfinished(out, "recording", _key(found, wanted, seed), create) as file:
            _run(file, Path(session), found, wanted, task_id, workers, progress)
            return {w.name: float(file[w.name]["usable"][()].mean()) for w in wanted}


def imitation_of(body: str) -> str:
    """The imitation task of a body.

    Raises:
        NeuralError: there is none.
    """
    for task_id in task_ids():
        row = get_row(task_id)
        if row.body == body and issubclass(task_class(row), Imitation):
            return task_id
    raise NeuralError(f"no imitation task has the body {body!r}")


def _key(found: Session, wanted: Sequence[Wanted], seed: int) -> str:
    parts = [found.text["identity"], str(seed)]
    parts += [f"{w.name} {w.policy.digest} {w.policy.layers}" for w in wanted]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _create(
    file: h5py.File, found: Session, wanted: Sequence[Wanted], task_id: str, seed: int
) -> None:
    """The empty tables of an activity file."""
    stamp = env_hash(task_id, make_task(task_id))
    activity.create(file, found.text["identity"])
    for w in wanted:
        for name, untrained in ((w.name, -1), (f"{w.name}-{UNTRAINED}", seed)):
            about: dict[str, str | int] = {
                "digest": w.policy.digest,
                "env_hash": stamp,
                "untrained": untrained,
            }
            activity.add_policy(file, name, found.frames, w.policy.layers, about)


def _run(
    file: h5py.File,
    path: Path,
    found: Session,
    wanted: Sequence[Wanted],
    task_id: str,
    workers: int,
    progress: bool,
) -> None:
    """Run what is missing, group by group, and write it in order."""
    groups = [found.clips[i : i + GROUP] for i in range(0, len(found.clips), GROUP)]
    done = int(file.attrs["done"])
    bar = tqdm(
        total=len(found.clips),
        initial=min(done * GROUP, len(found.clips)),
        unit=" clips",
        disable=None if progress else True,
    )
    jobs = ((path, task_id, wanted, spans) for spans in groups[done:])
    with bar, _mapped(workers) as apply:
        for number, results in enumerate(apply(_group, jobs), done):
            for w, rows in zip(wanted, results, strict=True):
                _write(file, w, rows)
            mark_done(file, number + 1)
            bar.update(len(groups[number]))


@contextlib.contextmanager
def _mapped(workers: int) -> Iterator:
    """A `map` over so many processes, results in order."""
    if workers == 1:
        yield map
        return
    with quiet_processes(workers) as pool:
        yield pool.map


def _group(job: tuple[Path, str, Sequence[Wanted], np.ndarray]) -> list[Rows]:
    """All policies along some clips."""
    path, task_id, wanted, spans = job
    with opened_session(path) as found, tempfile.TemporaryDirectory() as folder:
        ahead = int(np.max(_imitation(make_task(task_id)).reference_frames))
        clips = Path(folder) / "clips.h5"
        body = make_task(task_id).body
        write_clips(clips, session_clips(found, _extended(found, spans, ahead)), body)
        core = Core(make_task(task_id, clips=clips, split="all"), 1, 1)
        return [_along(core, spans, w) for w in wanted]


def _extended(found: Session, spans: np.ndarray, ahead: int) -> np.ndarray:
    """Spans with the frames after them that are observed ahead, and the one that ends an episode,
    as far as there are poses.
    """
    out = spans.copy()
    for i, (_, stop) in enumerate(spans.tolist()):
        more = found.read("qpos", stop, min(stop + ahead + 2, found.frames))
        runs = finite_runs(more, 1)
        if runs and runs[0].start == 0:
            out[i, 1] = stop + runs[0].stop
    return out


def _along(core: Core, spans: np.ndarray, wanted: Wanted) -> Rows:
    """One policy along some clips."""
    policy = wanted.policy
    task = core.task
    if (policy.observation, policy.action) != (core.size, task.body.nu):
        raise NeuralError(
            f"{wanted.name}: the policy maps {policy.observation} numbers to {policy.action}, the "
            f"task has observations of {core.size} and actions of {task.body.nu}"
        )
    kept: list[tuple[int, float, np.ndarray, np.ndarray]] = []
    usable: list[bool] = []
    with Teller(policy, wanted.name) as acting, Teller(wanted.control, wanted.name) as control:
        for clip, (first, stop) in enumerate(spans.tolist()):
            last = int(_imitation(task).reference.length[clip]) - 1
            frame = 0
            while frame < min(stop - first, last):
                _reset(core, clip, frame)
                acting.reset()
                control.reset()
                begun, fell = len(kept), False
                while frame < min(stop - first, last) and not fell:
                    action, told = acting(core.observation[0])
                    beside = control(core.observation[0])[1]
                    step = core.step(action[None])
                    error = float(core.figures_of(0)["root_error"])
                    kept.append((first + frame, error, told, beside))
                    usable.append(True)
                    fell = bool(step.terminated[0])
                    frame += 1
                    if step.truncated[0]:
                        break
                if fell:
                    at = max(begun, len(usable) - FALLING - 1)
                    usable[at:] = [False] * (len(usable) - at)
    frames, errors, *tables = (np.array(column) for column in zip(*kept, strict=True))
    halves = (table.astype(np.float16) for table in tables)
    return Rows(frames, np.array(usable), errors, *halves)


def _imitation(task: Task) -> Imitation:
    assert isinstance(task.unwrapped, Imitation)
    return task.unwrapped


def _reset(core: Core, clip: int, frame: int) -> None:
    """Put the body on a frame of a clip."""
    joints = core.episode["noise"].shape[1]
    core.reset(
        _ONLY,
        {
            "clip": np.array([clip], core.episode["clip"].dtype),
            "start": np.array([frame], core.episode["start"].dtype),
            "noise": np.zeros((1, joints), core.episode["noise"].dtype),
        },
    )


def _write(file: h5py.File, wanted: Wanted, rows: Rows) -> None:
    """Put rows where they belong, of the policy and of its control."""
    low, high = int(rows.frames.min()), int(rows.frames.max()) + 1
    at = rows.frames - low
    bounds = np.cumsum([0, *(size for _, size in wanted.policy.layers)])
    tables = (
        (wanted.name, rows.activity),
        (f"{wanted.name}-{UNTRAINED}", rows.control),
    )
    for name, table in tables:
        group = file[name]
        if not np.isfinite(table).all():
            raise NeuralError(f"{name}: activity is beyond what half precision holds")
        parts = {
            f"layers/{layer}": table[:, a:b]
            for (layer, _), a, b in zip(wanted.policy.layers, bounds[:-1], bounds[1:], strict=True)
        }
        parts |= {"usable": rows.usable, "root_error": rows.root_error}
        for path, values in parts.items():
            block = group[path][low:high]
            block[at] = values
            group[path][low:high] = block
