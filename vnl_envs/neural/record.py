"""Recording of units' activity while policies run along a session's clips."""

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
from vnl_envs.neural.policies import Exposed, ExposedProcess, expose
from vnl_envs.neural.session import Session, opened_session
from vnl_envs.neural.unfinished import mark_done, quiet_processes, unfinished
from vnl_envs.registry import get_row, make_task, task_class, task_ids
from vnl_envs.tasks.imitation import Imitation
from vnl_envs.tasks.task import Task
from vnl_envs.utils.files import check_writable

GROUP = 20
"""Number of clips that are prepared at once; their kinematics take 0.02 MB per frame."""
FALLING = 10
"""Number of frames before a fall that are masked too, 0.2 s."""
UNTRAINED = "untrained"
_ONLY = np.array([0])


@dataclass(frozen=True)
class Network:
    """A policy to record, with its control.

    Attributes:
        name: name of the policy in the file.
        policy: exposed policy.
        control: the same network with random weights. It gets the same observations.
    """

    name: str
    policy: Exposed
    control: Exposed


class Rows(NamedTuple):
    """The result of one policy along some clips.

    Attributes:
        frames: (n,) frames of the session.
        usable: (n,) bool, whether the frame is not masked.
        root_error: (n,) distance of the root from the reference, m.
        activity, control: (n, units) activity of all layers of policy and control, side by side.
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
    """Write the activity file of policies along a session.

    Every clip begins at its first pose. After a fall the body is put on the next pose, and the
    frames of the fall are masked. Beside every policy runs a network of the same shape with random
    weights, on the same observations. After an interruption an unfinished file stays beside `out`,
    and the same call resumes. The file does not depend on `workers`.

    Args:
        session: a session file.
        policies: name of each policy -> its ONNX file.
        out: the .h5 file to write.
        units: patterns of layers, see `sandbox/inside/expose.py`.
        seed: seed of the random weights.
        workers: number of processes.
        progress: whether to show a bar.

    Returns:
        Name of each policy -> share of frames that can be used.

    Raises:
        FileNotFoundError: there is no such session or policy.
        NeuralError: a file cannot be used, a policy fails, or it is for another body.
    """
    out = Path(out)
    check_writable(out, session, *policies.values())
    networks = [
        Network(name, expose(path, units), expose(path, units, seed))
        for name, path in policies.items()
    ]
    with opened_session(session) as found:
        task_id = imitation_of(found.text["body"])

        def create(file: h5py.File) -> None:
            _create(file, found, networks, task_id, seed)

        with unfinished(out, "recording", _key(found, networks, seed), create) as file:
            _run(file, Path(session), found, networks, task_id, workers, progress)
            return {
                network.name: float(file[network.name]["usable"][()].mean()) for network in networks
            }


def imitation_of(body: str) -> str:
    """The id of a body's imitation task.

    Raises:
        NeuralError: the body has none.
    """
    for task_id in task_ids():
        row = get_row(task_id)
        if row.body == body and issubclass(task_class(row), Imitation):
            return task_id
    raise NeuralError(f"no imitation task has the body {body!r}")


def _key(found: Session, networks: Sequence[Network], seed: int) -> str:
    parts = [found.text["identity"], str(seed)]
    parts += [
        f"{network.name} {network.policy.digest} {network.policy.layers}" for network in networks
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _create(
    file: h5py.File, found: Session, networks: Sequence[Network], task_id: str, seed: int
) -> None:
    """Create the empty tables of an activity file."""
    stamp = env_hash(task_id, make_task(task_id))
    activity.create(file, found.text["identity"])
    for network in networks:
        for name, untrained in ((network.name, -1), (f"{network.name}-{UNTRAINED}", seed)):
            about: dict[str, str | int] = {
                "digest": network.policy.digest,
                "env_hash": stamp,
                "untrained": untrained,
            }
            activity.add_policy(file, name, found.frames, network.policy.layers, about)


def _run(
    file: h5py.File,
    path: Path,
    found: Session,
    networks: Sequence[Network],
    task_id: str,
    workers: int,
    progress: bool,
) -> None:
    """Run the missing groups of clips, and write their results in order."""
    groups = [found.clips[i : i + GROUP] for i in range(0, len(found.clips), GROUP)]
    done = int(file.attrs["done"])
    bar = tqdm(
        total=len(found.clips),
        initial=min(done * GROUP, len(found.clips)),
        unit=" clips",
        disable=None if progress else True,
    )
    jobs = ((path, task_id, networks, spans) for spans in groups[done:])
    with bar, _mapped(workers) as apply:
        for number, results in enumerate(apply(_group, jobs), done):
            for network, rows in zip(networks, results, strict=True):
                _write(file, network, rows)
            mark_done(file, number + 1)
            bar.update(len(groups[number]))


@contextlib.contextmanager
def _mapped(workers: int) -> Iterator:
    """A `map` over processes, with results in order."""
    if workers == 1:
        yield map
        return
    with quiet_processes(workers) as pool:
        yield pool.map


def _group(job: tuple[Path, str, Sequence[Network], np.ndarray]) -> list[Rows]:
    """Run all policies along some clips."""
    path, task_id, networks, spans = job
    with opened_session(path) as found, tempfile.TemporaryDirectory() as folder:
        ahead = int(np.max(_imitation(make_task(task_id)).reference_frames))
        clips = Path(folder) / "clips.h5"
        body = make_task(task_id).body
        write_clips(clips, session_clips(found, _extended(found, spans, ahead)), body)
        core = Core(make_task(task_id, clips=clips, split="all"), 1, 1)
        return [_along(core, spans, network) for network in networks]


def _extended(found: Session, spans: np.ndarray, ahead: int) -> np.ndarray:
    """Spans with the frames after them that are observed ahead, and the frame that ends an episode.

    Frames are added only as long as they have poses.
    """
    out = spans.copy()
    for i, (_, stop) in enumerate(spans.tolist()):
        more = found.read("qpos", stop, min(stop + ahead + 2, found.frames))
        runs = finite_runs(more, 1)
        if runs and runs[0].start == 0:
            out[i, 1] = stop + runs[0].stop
    return out


def _along(core: Core, spans: np.ndarray, network: Network) -> Rows:
    """Run one policy along some clips."""
    policy = network.policy
    task = core.task
    if (policy.observation, policy.action) != (core.size, task.body.nu):
        raise NeuralError(
            f"{network.name}: the policy maps {policy.observation} numbers to {policy.action}, the "
            f"task has observations of {core.size} and actions of {task.body.nu}"
        )
    kept: list[tuple[int, float, np.ndarray, np.ndarray]] = []
    usable: list[bool] = []
    with (
        ExposedProcess(policy, network.name) as acting,
        ExposedProcess(network.control, network.name) as control,
    ):
        for clip, (first, stop) in enumerate(spans.tolist()):
            last = int(_imitation(task).reference.length[clip]) - 1
            frame = 0
            while frame < min(stop - first, last):
                _reset(core, clip, frame)
                acting.reset()
                control.reset()
                begun, fell = len(kept), False
                while frame < min(stop - first, last) and not fell:
                    action, activity_row = acting(core.observation[0])
                    control_row = control(core.observation[0])[1]
                    step = core.step(action[None])
                    error = float(core.figures_of(0)["root_error"])
                    kept.append((first + frame, error, activity_row, control_row))
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
    """Put the body on a frame of a clip, without noise."""
    joints = core.episode["noise"].shape[1]
    core.reset(
        _ONLY,
        {
            "clip": np.array([clip], core.episode["clip"].dtype),
            "start": np.array([frame], core.episode["start"].dtype),
            "noise": np.zeros((1, joints), core.episode["noise"].dtype),
        },
    )


def _write(file: h5py.File, network: Network, rows: Rows) -> None:
    """Write the rows of a policy and of its control to their frames."""
    low, high = int(rows.frames.min()), int(rows.frames.max()) + 1
    at = rows.frames - low
    bounds = np.cumsum([0, *(size for _, size in network.policy.layers)])
    tables = (
        (network.name, rows.activity),
        (f"{network.name}-{UNTRAINED}", rows.control),
    )
    for name, table in tables:
        group = file[name]
        if not np.isfinite(table).all():
            raise NeuralError(f"{name}: activity exceeds the range of half precision")
        parts = {
            f"layers/{layer}": table[:, a:b]
            for (layer, _), a, b in zip(network.policy.layers, bounds[:-1], bounds[1:], strict=True)
        }
        parts |= {"usable": rows.usable, "root_error": rows.root_error}
        for path, values in parts.items():
            block = group[path][low:high]
            block[at] = values
            group[path][low:high] = block
