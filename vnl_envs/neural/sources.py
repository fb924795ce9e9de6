"""Recordings that can be imported, read in parts."""

from __future__ import annotations

from typing import Protocol

import h5py
import numpy as np

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion import hdf5
from vnl_envs.motion.clip import RATE
from vnl_envs.motion.fitting.markers import marker_set
from vnl_envs.motion.readers import sessions
from vnl_envs.motion.readers.sessions import UNCLASSIFIED, Poses, check_frames, names_of
from vnl_envs.neural.errors import NeuralError
from vnl_envs.neural.session import UNLABELLED

MOST_COUNT = 1000
"""Greatest possible count of spikes of one neuron in 20 ms."""


class Source(Protocol):
    """A recording at 50 Hz.

    Attributes:
        frames: number of frames, T.
        unit_ids, regions: U texts; the region is "" if it is unknown.
        keypoint_names: K names; none without keypoints.
        label_names: name of each label.
        has_poses: whether there are poses; if not, they are fitted to the keypoints.
    """

    frames: int
    unit_ids: list[str]
    regions: list[str]
    keypoint_names: list[str]
    label_names: list[str]
    has_poses: bool

    def spikes(self, start: int, stop: int) -> np.ndarray:
        """Spike counts (n, U) of frames [start, stop)."""
        ...

    def qpos(self, start: int, stop: int) -> np.ndarray:
        """Poses (n, nq) as in clips, NaN in frames without a pose."""
        ...

    def keypoints(self, start: int, stop: int) -> np.ndarray:
        """Keypoints (n, K, 3) m, NaN if missing."""
        ...

    def labels(self, start: int, stop: int) -> np.ndarray:
        """Labels (n,), `UNLABELLED` in frames without a label."""
        ...


class Published:
    """A session in the layout of Aldarondo et al. 2024; see `Source` and `readers/sessions.py`.

    Units are those of `/ephys/active_units`, a mask (U,) or indices; if it is missing, all. Their
    regions are in `/ephys/regions` (U,), if it exists.
    """

    has_poses = True

    def __init__(self, file: h5py.File, body: BodyModel) -> None:
        self._poses = Poses(file, body)
        self.frames = self._poses.frames
        ephys = hdf5.subgroup(file, "ephys")
        sessions.check_rate(ephys)
        self._counts = hdf5.numbers(ephys, "spike_counts", _two(ephys, "spike_counts"))
        check_frames("ephys/spike_counts", len(self._counts), "pose/qpos", self.frames)
        total = self._counts.shape[1]
        self._active = _active(ephys, total)
        if not len(self._active):
            raise NeuralError("'ephys/active_units' leaves no units")
        self.unit_ids = [str(i) for i in self._active]
        regions = hdf5.names(ephys, "regions") if "regions" in ephys else [""] * total
        if len(regions) != total:
            raise NeuralError(f"'ephys/regions' has {len(regions)} entries for {total} units")
        self.regions = [regions[i] for i in self._active]
        markers = [marker.name for marker in marker_set(body)] if self._poses.has_keypoints else []
        self.keypoint_names = markers
        self._labels, self._code, self.label_names = _labels(file, self.frames)

    def spikes(self, start: int, stop: int) -> np.ndarray:
        """See `Source`."""
        return checked_counts(self._counts[start:stop][:, self._active], start)

    def qpos(self, start: int, stop: int) -> np.ndarray:
        """See `Source`."""
        return self._poses.qpos(start, stop)

    def keypoints(self, start: int, stop: int) -> np.ndarray:
        """See `Source`."""
        return self._poses.keypoints(start, stop)

    def labels(self, start: int, stop: int) -> np.ndarray:
        """See `Source`."""
        if self._labels is None:
            return np.full(stop - start, UNLABELLED)
        found = np.asarray(self._labels[start:stop]).astype(int)
        bad = np.flatnonzero((found < 0) | (found > UNCLASSIFIED))
        if len(bad):
            raise NeuralError(
                f"frame {start + bad[0]} of 'behavior/motion_mapper' is {found[bad[0]]}, "
                f"expected 0 to {UNCLASSIFIED}"
            )
        # Clusters without a name, and frames without a cluster, have no label.
        code = np.append(self._code, UNLABELLED)
        return code[np.minimum(found, len(self._code))]


class Part:
    """The frames [start, stop) of another recording; see `Source`."""

    def __init__(self, source: Source, start: int, stop: int) -> None:
        self._source, self._start = source, start
        self.frames = stop - start
        self.unit_ids, self.regions = source.unit_ids, source.regions
        self.keypoint_names, self.label_names = source.keypoint_names, source.label_names
        self.has_poses = source.has_poses

    def spikes(self, start: int, stop: int) -> np.ndarray:
        """See `Source`."""
        return self._source.spikes(self._start + start, self._start + stop)

    def qpos(self, start: int, stop: int) -> np.ndarray:
        """See `Source`."""
        return self._source.qpos(self._start + start, self._start + stop)

    def keypoints(self, start: int, stop: int) -> np.ndarray:
        """See `Source`."""
        return self._source.keypoints(self._start + start, self._start + stop)

    def labels(self, start: int, stop: int) -> np.ndarray:
        """See `Source`."""
        return self._source.labels(self._start + start, self._start + stop)


def part_of(source: Source, start: float, stop: float | None) -> Source:
    """The part of a recording from `start` to `stop`, s; None is its end.

    Raises:
        NeuralError: the part is empty, or longer than the recording.
    """
    seconds = source.frames / RATE
    first, last = round(start * RATE), round((seconds if stop is None else stop) * RATE)
    if not 0 <= first < last <= source.frames:
        end = "the end" if stop is None else f"{stop:g} s"
        raise NeuralError(f"there is no part from {start:g} s to {end} of {seconds:g} s")
    return source if (first, last) == (0, source.frames) else Part(source, first, last)


def checked_counts(spikes: np.ndarray, start: int) -> np.ndarray:
    """Spikes (n, U) as integers.

    Raises:
        NeuralError: a number is no count: negative, fractional, not finite or above `MOST_COUNT`.
    """
    wrong = ~((spikes >= 0) & (spikes <= MOST_COUNT) & (spikes == np.round(spikes)))
    if wrong.any():
        frame, unit = np.argwhere(wrong)[0]
        raise NeuralError(
            f"frame {start + frame} of unit column {unit} has {spikes[frame, unit]} spikes, "
            f"expected a count of 0 to {MOST_COUNT}"
        )
    return spikes.astype(np.uint16)


def _two(group: h5py.Group, name: str) -> tuple[None, int]:
    """The shape of a table, with any number of rows."""
    data = hdf5.member(group, name)
    if not isinstance(data, h5py.Dataset) or len(data.shape or ()) != 2:
        raise NeuralError(f"'{group.name.strip('/')}/{name}' is missing or not a table (T, U)")
    return None, data.shape[1]


def _active(ephys: h5py.Group, total: int) -> np.ndarray:
    """The columns of the active units."""
    if "active_units" not in ephys:
        return np.arange(total)
    given = hdf5.member(ephys, "active_units")
    if not isinstance(given, h5py.Dataset) or given.dtype.kind not in "biu" or given.ndim != 1:
        raise NeuralError("'ephys/active_units' must be a mask (U,) or indices of units")
    found = np.asarray(given[()])
    if found.dtype.kind == "b" or (len(found) == total and np.isin(found, (0, 1)).all()):
        if len(found) != total:
            raise NeuralError(f"'ephys/active_units' has {len(found)} entries for {total} units")
        return np.flatnonzero(found)
    missing = sorted({int(i) for i in found if not 0 <= i < total})
    if missing:
        raise NeuralError(f"'ephys/active_units' names unit {missing[0]}; there are {total}")
    return np.unique(found)


def _labels(file: h5py.File, frames: int) -> tuple[h5py.Dataset | None, np.ndarray, list[str]]:
    """The cluster of each frame, the label of each cluster, and the labels' names.

    Clusters with the same name are one behaviour: the publication has 16 names for 100 clusters.
    """
    if "behavior" not in file or "motion_mapper" not in file["behavior"]:
        return None, np.empty(0, int), []
    behavior = hdf5.subgroup(file, "behavior")
    data = hdf5.numbers(behavior, "motion_mapper", (None,))
    check_frames("behavior/motion_mapper", len(data), "pose/qpos", frames)
    clusters = names_of(behavior, "motion_mapper", "label_names")
    clusters = clusters or [f"cluster {i}" for i in range(UNCLASSIFIED)]
    names = list(dict.fromkeys(clusters[:UNCLASSIFIED]))
    return data, np.array([names.index(name) for name in clusters[:UNCLASSIFIED]]), names
