"""Neurodata Without Borders: reading and writing of sessions, writing of activity.

`pynwb` is imported when used. The table of units has the spike trains. `processing/behavior` has
time series at 50 Hz: `qpos` (T, nq), `keypoints` (T, K, 3) m and `labels` (T,), with their names as
JSON in `comments`. Keypoints can also be a `SpatialSeries` (T, 3), m, for each marker, as in files
of other programs. Frame i counts the spikes from i/50 s to (i + 1)/50 s after the behaviour's
start.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.clip import RATE
from vnl_envs.motion.fitting.markers import marker_set
from vnl_envs.neural.errors import NeuralError
from vnl_envs.neural.session import UNLABELLED, Session
from vnl_envs.neural.sources import checked_counts
from vnl_envs.utils.files import written_whole

if TYPE_CHECKING:
    import pynwb

_PART = 8192
# Session files have no date, which NWB requires.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NONE = np.empty(0)
_SERIES = {
    "qpos": ("m, rad", "root position (m), its quaternion (w, x, y, z), angles of joints (rad)"),
    "keypoints": ("m", "positions of keypoints"),
    "labels": ("1", f"index of the behaviour; {UNLABELLED} in frames without one"),
}
"""Unit and description of each series; names of its numbers are in `comments`."""


def write_nwb(path: str | Path, session: Session) -> None:
    """Write a session as NWB, whole or not at all.

    The spikes of a frame are spread evenly over it, so counting them gives the same counts.
    """
    import pynwb

    file = _new(session.text["session"], session.text["source"], session.text["subject"])
    file.add_unit_column("region", "where the unit was recorded")
    trains = _trains(session)
    for i, region in enumerate(session.names["regions"]):
        file.add_unit(spike_times=trains[i], region=region, id=i)
    behavior = file.create_processing_module("behavior", "how the body moved")
    tables = {"qpos": session.names["joint_names"], "labels": session.names["label_names"]}
    if session.has_keypoints:
        tables["keypoints"] = session.names["keypoint_names"]
    for name, names in tables.items():
        unit, about = _SERIES[name]
        series = pynwb.TimeSeries(
            name=name,
            data=_chunks(session, name),
            rate=RATE,
            unit=unit,
            description=f"{about}; names in comments",
            comments=json.dumps(names),
        )
        behavior.add(series)
    _write(path, file)


def write_activity_nwb(
    path: str | Path, title: str, tables: Iterator[tuple[str, np.ndarray]]
) -> None:
    """Write tables (T, n) at 50 Hz, by name, as NWB."""
    import pynwb

    file = _new(title, title, "")
    module = file.create_processing_module("network", "activity of a policy's network")
    for name, table in tables:
        module.add(
            pynwb.TimeSeries(name=name.replace("/", "_"), data=table, rate=RATE, unit="a.u.")
        )
    _write(path, file)


@contextlib.contextmanager
def opened_nwb(path: Path, body: BodyModel) -> Iterator[NwbRecording]:
    """Open an NWB file as a `Source`."""
    import pynwb

    try:
        reader = pynwb.NWBHDF5IO(str(path), "r")
        file = reader.read()
    # On damaged files pynwb raises exceptions of any type.
    except Exception as error:
        raise NeuralError(f"cannot be read as NWB ({str(error).splitlines()[0]})") from None
    with reader:
        yield NwbRecording(file, body)


class NwbRecording:
    """An NWB file; see `vnl_envs.neural.sources.Source`."""

    def __init__(self, file: pynwb.NWBFile, body: BodyModel) -> None:
        if file.units is None or not len(file.units):
            raise NeuralError("has no units")
        module = file.processing.get("behavior")
        found = _series(module) if module is not None else {}
        self.has_poses = "qpos" in found
        self._qpos = found.get("qpos")
        self._points, self.keypoint_names = _keypoints(found, body)
        main = found.get("qpos") or (self._points[0] if self._points else None)
        if main is None:
            raise NeuralError("has neither 'qpos' nor keypoints in processing/behavior")
        self.frames = len(main.data)
        self._begin = _start(main)
        for series in [*found.values()]:
            if len(series.data) != self.frames:
                raise NeuralError(
                    f"{series.name!r} has {len(series.data)} frames, "
                    f"{main.name!r} has {self.frames}"
                )
            _start(series)
        if self._qpos is not None:
            _check_joints(self._qpos, body)
        table = file.units
        self.unit_ids = [str(i) for i in table.id[:]]
        self.regions = _regions(table, len(table))
        self._trains = [self._frames_of(table, i) for i in range(len(table))]
        self._labels = found.get("labels")
        self.label_names = _names(self._labels) if self._labels is not None else []

    def _frames_of(self, table: Any, unit: int) -> np.ndarray:
        """Sorted frames of a unit's spikes."""
        times = np.asarray(table["spike_times"][unit], float)
        if not np.isfinite(times).all():
            raise NeuralError(f"unit {unit} has a spike time that is not finite")
        # A small offset, so that rounding does not move spikes at the start of a frame.
        frames = np.floor((times - self._begin) * RATE + 1e-6).astype(int)
        return np.sort(frames[(frames >= 0) & (frames < self.frames)])

    def spikes(self, start: int, stop: int) -> np.ndarray:
        """See `Source`."""
        out = np.zeros((stop - start, len(self._trains)))
        for i, frames in enumerate(self._trains):
            low, high = np.searchsorted(frames, (start, stop))
            out[:, i] = np.bincount(frames[low:high] - start, minlength=stop - start)
        return checked_counts(out, start)

    def qpos(self, start: int, stop: int) -> np.ndarray:
        """See `Source`."""
        assert self._qpos is not None
        qpos = np.asarray(self._qpos.data[start:stop], float)
        finite = np.isfinite(qpos)
        part = np.flatnonzero(finite.any(axis=1) & ~finite.all(axis=1))
        if len(part):
            raise NeuralError(f"frame {start + part[0]} of 'qpos' has a number that is not finite")
        return qpos

    def keypoints(self, start: int, stop: int) -> np.ndarray:
        """See `Source`."""
        parts = [np.asarray(series.data[start:stop], float) for series in self._points]
        return parts[0] if parts[0].ndim == 3 else np.stack(parts, axis=1)

    def labels(self, start: int, stop: int) -> np.ndarray:
        """See `Source`."""
        if self._labels is None:
            return np.full(stop - start, UNLABELLED)
        return np.asarray(self._labels.data[start:stop]).astype(int)


def _new(title: str, about: str, subject: str) -> pynwb.NWBFile:
    import pynwb

    return pynwb.NWBFile(
        session_description=about or title,
        identifier=title or "session",
        session_start_time=_EPOCH,
        subject=pynwb.file.Subject(subject_id=subject, species="Rattus norvegicus")
        if subject
        else None,
    )


def _write(path: str | Path, file: pynwb.NWBFile) -> None:
    import pynwb

    with written_whole(path) as partial, pynwb.NWBHDF5IO(str(partial), "w") as writer:
        writer.write(file)


def _trains(session: Session) -> list[np.ndarray]:
    """Spike times of each unit, s."""
    trains: list[list[np.ndarray]] = [[] for _ in range(session.units)]
    for start in range(0, session.frames, _PART):
        spikes = session.read("spikes", start, start + _PART)
        for i, counts in enumerate(spikes.T):
            frames = np.repeat(np.arange(len(counts)), counts)
            order = np.arange(len(frames)) - np.repeat(np.cumsum(counts) - counts, counts)
            within = (order + 0.5) / counts[frames]
            trains[i].append((start + frames + within) / RATE)
    return [np.concatenate(parts) if parts else _NONE for parts in trains]


def _chunks(session: Session, name: str) -> Any:
    """A table of a session as an iterator over parts."""
    from hdmf.data_utils import DataChunkIterator

    parts = (
        row
        for start in range(0, session.frames, _PART)
        for row in session.read(name, start, start + _PART)
    )
    return DataChunkIterator(data=parts, buffer_size=_PART)


def _series(module: Any) -> dict[str, Any]:
    """The time series in a module and in the containers within it, by name."""
    found: dict[str, Any] = {}
    for name, item in module.data_interfaces.items():
        inner = getattr(item, "spatial_series", None) or getattr(item, "time_series", None)
        found |= dict(inner.items()) if inner is not None else {name: item}
    return {name: item for name, item in found.items() if hasattr(item, "data")}


def _keypoints(found: dict[str, Any], body: BodyModel) -> tuple[list[Any], list[str]]:
    """The series of keypoints, one for all or one for each marker, and the markers' names."""
    names = [marker.name for marker in marker_set(body)]
    if "keypoints" in found:
        shape = found["keypoints"].data.shape[1:]
        if shape != (len(names), 3):
            raise NeuralError(f"'keypoints' must be (T, {len(names)}, 3), got (T, *{shape})")
        return [found["keypoints"]], names
    if all(name in found for name in names):
        return [found[name] for name in names], names
    return [], []


def _start(series: Any) -> float:
    """Start time of a series, s.

    Raises:
        NeuralError: the series is not at 50 Hz.
    """
    if series.rate is not None:
        rate, start = float(series.rate), float(series.starting_time or 0.0)
    else:
        times = np.asarray(series.timestamps[:], float)
        steps = np.diff(times)
        if not len(steps) or np.abs(steps * RATE - 1).max() > 0.05:
            raise NeuralError(f"the timestamps of {series.name!r} are not at {RATE:g} Hz")
        rate, start = 1 / float(steps.mean()), float(times[0])
    if abs(rate / RATE - 1) > 1e-3:
        raise NeuralError(f"{series.name!r} is at {rate:g} Hz, expected {RATE:g} Hz")
    return start


def _names(series: Any) -> list[str]:
    try:
        found = json.loads(series.comments)
    except ValueError:
        raise NeuralError(f"{series.name!r} has no names, a JSON list in its comments") from None
    return [str(name) for name in found]


def _check_joints(series: Any, body: BodyModel) -> None:
    if series.data.shape[1:] != (body.nq,) or tuple(_names(series)) != body.joint_names:
        raise NeuralError(
            f"'qpos' must be (T, {body.nq}) with the joints of {body.body.name!r} in their order"
        )


def _regions(table: Any, units: int) -> list[str]:
    for name in ("region", "location", "brain_area"):
        if name in table.colnames:
            return [str(table[name][i]) for i in range(units)]
    return [""] * units
