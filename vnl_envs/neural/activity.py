"""The activity file: activity of policies' units along a session, HDF5.

Root attributes: `format`, `version`, `rate`, `session` (identity of the session). Each policy has a
group under its name, with the attributes `digest` (of its file), `env_hash` and `untrained` (seed
of its weights, or -1), and the data sets `usable` (T,) uint8, 1 in frames in which the body was
upright, `root_error` (T,) m, and `layers/<name>` (T, n) float16 for each layer and the action. Half
precision has 11 bits, which is enough for principal components.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from vnl_envs.motion import hdf5
from vnl_envs.motion.clip import RATE
from vnl_envs.neural.errors import NeuralError
from vnl_envs.neural.session import guarded

FORMAT, VERSION = "vnl_envs-activity", 1
LAYERS = "layers"
_CHUNK = 1024


@dataclass(frozen=True)
class PolicyActivity:
    """Description of one policy's activity.

    Attributes:
        name: name of the policy in the file.
        untrained: whether its weights are random.
        layers: name of each layer -> number of its units.
        frames: number of frames, T.
    """

    name: str
    untrained: bool
    layers: dict[str, int]
    frames: int


class Activity:
    """An open activity file.

    Args:
        file: the open file.

    Attributes:
        session: identity of the session along which the policies ran.
        policies: descriptions by name.

    Raises:
        NeuralError: the file is no activity file.
    """

    def __init__(self, file: h5py.File) -> None:
        if hdf5.text_attribute(file, "format") != FORMAT:
            raise NeuralError(f"not a {FORMAT} file; `vnl-envs neural record` makes one")
        self._file = file
        self.session = hdf5.text_attribute(file, "session") or ""
        self.policies = {name: self._recorded(name) for name in hdf5.members(file)}
        if not self.policies:
            raise NeuralError("holds no policies")

    def _recorded(self, name: str) -> PolicyActivity:
        group = hdf5.subgroup(self._file, name)
        usable = hdf5.numbers(group, "usable", (None,))
        found: dict[str, int] = {}

        def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset) and item.ndim == 2:
                found[path] = item.shape[1]

        hdf5.subgroup(group, LAYERS).visititems(visit)
        names = hdf5.names_attribute(group, LAYERS) or []
        if sorted(names) != sorted(found):
            raise NeuralError(f"{name!r} has the layers {sorted(found)}, but names {names}")
        found = {layer: found[layer] for layer in names}
        untrained = (hdf5.number(group, "untrained") or 0) >= 0
        return PolicyActivity(name, untrained, found, len(usable))

    def usable(self, policy: str) -> np.ndarray:
        """(T,) bool, whether the body was upright in each frame."""
        return np.asarray(self._file[policy]["usable"][()]).astype(bool)

    def read(self, policy: str, layer: str, start: int, stop: int) -> np.ndarray:
        """Activity (n, units) float32 of a layer in frames [start, stop)."""
        return np.asarray(self._file[policy][LAYERS][layer][start:stop], np.float32)

    def tables(self) -> Iterator[tuple[str, np.ndarray]]:
        """All tables, each with a unique name."""
        for name, policy in self.policies.items():
            yield f"{name}/usable", self.usable(name).astype(np.uint8)
            for layer in policy.layers:
                yield f"{name}/{layer}", self.read(name, layer, 0, policy.frames)


@contextlib.contextmanager
def opened_activity(path: str | Path) -> Iterator[Activity]:
    """Open an activity file for reading.

    Raises:
        FileNotFoundError: there is no such file.
        NeuralError: the file is damaged, or no activity file.
    """
    with guarded(path, Activity) as activity:
        yield activity


def is_activity(path: str | Path) -> bool:
    """Whether a file is an activity file."""
    return hdf5.holds(Path(path), lambda file: file.attrs.get("format") == FORMAT)


def create(file: h5py.File, session: str) -> None:
    """Write the attributes of an empty activity file."""
    file.attrs.update(format=FORMAT, version=VERSION, rate=RATE, session=session)


def add_policy(
    file: h5py.File,
    name: str,
    frames: int,
    layers: tuple[tuple[str, int], ...],
    about: dict[str, str | int],
) -> None:
    """Create the tables of a policy, with all frames unusable."""
    group = file.create_group(name)
    group.attrs.update(about)
    # HDF5 lists its members by name.
    group.attrs.create(LAYERS, [name for name, _ in layers], dtype=h5py.string_dtype())
    group.create_dataset("usable", (frames,), np.uint8, track_times=False)
    group.create_dataset("root_error", (frames,), np.float32, fillvalue=np.nan, track_times=False)
    for layer, size in layers:
        group.create_dataset(
            f"{LAYERS}/{layer}",
            (frames, size),
            np.float16,
            chunks=(min(_CHUNK, frames), size),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
            track_times=False,
        )
