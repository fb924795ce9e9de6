"""Import of recordings as session files, in parts, with resumption after an interruption."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from tqdm.auto import tqdm

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.clip import RATE, Clip, write_clips
from vnl_envs.motion.fitting import keypoints as fitting
from vnl_envs.motion.readers.sessions import CLIP_FRAMES, clip, finite_runs
from vnl_envs.neural import session
from vnl_envs.neural.errors import NeuralError
from vnl_envs.neural.session import guarded, naming, opened_session
from vnl_envs.neural.sources import Published, Source, part_of
from vnl_envs.neural.unfinished import mark_done, unfinished
from vnl_envs.utils.files import check_writable

PART = 8192
"""Number of frames that are read, checked and written at once."""
CONTEXT = 16
"""Number of frames on either side of a part that a fit to keypoints includes."""
CALIBRATION = 2000
"""Number of evenly spread frames from which an animal's size and markers are estimated."""


@dataclass(frozen=True)
class Imported:
    """Summary of an import.

    Attributes:
        frames, units, clips: numbers of frames, units and clips.
        spikes: number of spikes of all units together.
        resumed: first frame that this call read.
        fitted: whether poses were fitted to keypoints.
        without_pose: number of frames without a pose.
    """

    frames: int
    units: int
    clips: int
    spikes: int
    resumed: int
    fitted: bool
    without_pose: int


def import_session(
    path: str | Path,
    out: str | Path,
    body: BodyModel,
    *,
    region: str = "",
    subject: str = "",
    licence: str = "unknown",
    start: float = 0.0,
    stop: float | None = None,
    progress: bool = False,
) -> Imported:
    """Write a recording's session file, whole or not at all.

    After an interruption an unfinished file stays beside `out`, and the same call resumes.

    Args:
        path: a session in the published layout, or an NWB file.
        out: the .h5 file to write.
        body: body of the motion.
        region: region of units for which the recording has none.
        subject, licence: subject and licence of the recording.
        start, stop: the part of the recording to import, s; by default all of it.
        progress: whether to show a bar.

    Raises:
        FileNotFoundError: there is no such recording, or no folder for `out`.
        NeuralError: the recording is damaged or impossible. Nothing is kept.
    """
    path, out = Path(path), Path(out)
    check_writable(out, path)
    about = {
        "body": body.body.name,
        "session": path.stem,
        "subject": subject,
        "source": path.name,
        "licence": licence,
    }
    if start or stop is not None:
        end = "" if stop is None else f" to {stop:g} s"
        about["source"] += f" from {start:g} s{end}"
    with _opened(path, body) as recording:
        with naming(path):
            source = part_of(recording, start, stop)
        regions = [found or region or "unknown" for found in source.regions]
        key = _key(path, {**about, "regions": "\n".join(regions)})

        def create(file: h5py.File) -> None:
            _create(file, source, body, about, regions)

        with unfinished(out, "importing", key, create) as file:
            resumed = int(file.attrs["done"])
            with naming(path):
                _fill(file, source, body, progress)
            return _finish(file, resumed, fitted=not source.has_poses)


def write_session_clips(path: str | Path, out: str | Path, body: BodyModel) -> int:
    """Write a session's clips as a clip file for training; return their number.

    Their names end in their first frame of the session.
    """
    with opened_session(path) as found:
        write_clips(out, session_clips(found, found.clips), body)
        return len(found.clips)


def session_clips(found: session.Session, spans: np.ndarray) -> Iterator[Clip]:
    """Clips of frames [start, stop) of a session, (C, 2)."""
    names = found.names["label_names"]
    for start, stop in spans.tolist():
        labels = found.read("labels", start, stop)
        known = labels[labels >= 0]
        made = clip(
            found.read("qpos", start, stop), start, found.text["session"], found.text["source"]
        )
        label = names[np.bincount(known).argmax()] if len(known) else made.label
        texts = {key: found.text[key] for key in ("licence", "subject")}
        yield Clip(**{**vars(made), **texts, "label": label})


@contextlib.contextmanager
def _opened(path: Path, body: BodyModel) -> Iterator[Source]:
    """Open a recording in the published layout or in NWB.

    Raises:
        FileNotFoundError: there is no such file.
        NeuralError: the file is neither, damaged or incomplete; the message names the file.
    """
    with guarded(path, lambda file: "nwb_version" in file.attrs) as is_nwb:
        pass
    if not is_nwb:
        with guarded(path, lambda file: Published(file, body)) as source:
            yield source
        return
    # Imported here: NWB's library takes seconds.
    from vnl_envs.neural.nwb import opened_nwb

    with naming(path), opened_nwb(path, body) as recorded:
        yield recorded


def _key(path: Path, about: dict[str, str]) -> str:
    """Key of the source and the settings; an interrupted import with the same key resumes."""
    stat = path.stat()
    text = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {sorted(about.items())}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _create(
    file: h5py.File, source: Source, body: BodyModel, about: dict[str, str], regions: list[str]
) -> None:
    """Create the empty tables of a session."""
    names = {
        "joint_names": list(body.joint_names),
        "keypoint_names": source.keypoint_names,
        "unit_ids": source.unit_ids,
        "regions": regions,
        "label_names": source.label_names,
    }
    session.create(file, source.frames, {**about, "identity": ""}, names)


def _fill(file: h5py.File, source: Source, body: BodyModel, progress: bool) -> None:
    """Copy the missing frames, part by part."""
    poses = _Poses(source, body)
    done = int(file.attrs["done"])
    bar = tqdm(
        total=source.frames, initial=done, unit=" frames", disable=None if progress else True
    )
    with bar:
        for start in range(done, source.frames, PART):
            stop = min(start + PART, source.frames)
            part = {
                "spikes": source.spikes(start, stop),
                "qpos": poses(start, stop),
                "labels": source.labels(start, stop),
            }
            if source.keypoint_names:
                part["keypoints"] = source.keypoints(start, stop)
            for name, rows in part.items():
                file[name][start:stop] = rows
            mark_done(file, stop)
            bar.update(stop - start)


class _Poses:
    """The poses of a source; if it has none, poses fitted to its keypoints."""

    def __init__(self, source: Source, body: BodyModel) -> None:
        self._source, self._nq = source, body.nq
        self._track = None
        if not source.has_poses:
            frames = np.unique(np.linspace(0, source.frames - 1, CALIBRATION).astype(int))
            sample = np.concatenate([source.keypoints(i, i + 1) for i in frames.tolist()])
            self._track = fitting.Tracker(body, fitting.calibrate(sample, body), RATE)

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """Poses (n, nq) of frames [start, stop); NaN in frames without a pose."""
        if self._track is None:
            return self._source.qpos(start, stop)
        first = max(start - CONTEXT, 0)
        points = self._source.keypoints(first, min(stop + CONTEXT, self._source.frames))
        qpos = np.full((len(points), self._nq), np.nan)
        mask = np.where(fitting.enough(points)[:, None], 0.0, np.nan)
        for span in finite_runs(mask, 2):
            qpos[span] = self._track(points[span])[0]
        return qpos[start - first :][: stop - start]


def _finish(file: h5py.File, resumed: int, fitted: bool) -> Imported:
    """Write the clips and the identity into the file; return the summary."""
    digest, spikes, missing = hashlib.sha256(), 0, 0
    clips: list[tuple[int, int]] = []
    frames = len(file["spikes"])
    for start in range(0, frames, CLIP_FRAMES * 32):
        stop = start + CLIP_FRAMES * 32
        spikes += int(file["spikes"][start:stop].sum(dtype=np.int64))
        qpos = file["qpos"][start:stop]
        # The identity is that of the motion, as activity does not depend on the units.
        digest.update(np.ascontiguousarray(qpos).tobytes())
        missing += int(np.isnan(qpos[:, 0]).sum())
        for at in range(0, len(qpos), CLIP_FRAMES):
            runs = finite_runs(qpos[at : at + CLIP_FRAMES])
            clips += [(start + at + r.start, start + at + r.stop) for r in runs]
    if not clips:
        raise NeuralError("there are no clips: poses are missing nearly everywhere")
    file.create_dataset("clips", data=np.array(clips), track_times=False)
    file.attrs["identity"] = digest.hexdigest()[:16]
    units = file["spikes"].shape[1]
    return Imported(frames, units, len(clips), spikes, resumed, fitted, missing)
