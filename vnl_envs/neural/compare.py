"""Comparison of a session's neurons with feature sets: prediction in held-out blocks of time.

The work is divided into jobs that depend on the files and the settings alone, so the result is the
same for any number of workers. Results of finished jobs are stored in a journal beside the output
until all are finished.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from vnl_envs.motion.clip import RATE
from vnl_envs.neural import encoding, probes, similarity
from vnl_envs.neural.activity import opened_activity
from vnl_envs.neural.design import Layout, components
from vnl_envs.neural.errors import NeuralError
from vnl_envs.neural.features import (
    FeatureSet,
    binned,
    binned_spikes,
    in_bins,
    sets_of,
    usable_bins,
)
from vnl_envs.neural.session import opened_session
from vnl_envs.neural.unfinished import quiet_processes
from vnl_envs.utils.files import check_writable, written_whole

FORMAT, VERSION = "vnl_envs-comparison", 1
LEAST_SPIKES = 100
"""Least number of spikes of a unit in usable bins; units with fewer are left out."""
LEAST_USABLE = 0.2
"""Least usable share of a session's bins."""
# One thread, so that sums have a fixed order. Set before NumPy is imported.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Settings:
    """Settings of a comparison.

    Attributes:
        bin: width of a bin, frames.
        block, gap: lengths of blocks and gaps, s, see `Layout`.
        folds: number of folds of the outer cross-validation.
        lags: lags of the features, bins.
        components: number of principal components of every feature set.
        labels: whether behaviour probes are run.
        seed: seed of shifts and resamples.
    """

    bin: int = 5
    block: float = 60.0
    gap: float = 2.0
    folds: int = 5
    lags: tuple[int, ...] = (-2, 0, 2)
    components: int = 16
    labels: bool = False
    seed: int = 0

    def layout(self, bins: int) -> Layout:
        """The layout of a session with `bins` bins."""
        rate = RATE / self.bin
        return Layout(
            bins, max(round(self.block * rate), 1), round(self.gap * rate), self.folds, self.lags
        )


@dataclass(frozen=True)
class Problem:
    """The input of all jobs.

    Attributes:
        session, files: paths of the session and of the activity files.
        settings: settings of the comparison.
        sets: feature sets.
        units: columns of the spikes to predict.
        count: number of principal components of every set.
    """

    session: Path
    files: tuple[Path, ...]
    settings: Settings
    sets: tuple[FeatureSet, ...]
    units: tuple[int, ...]
    count: int

    @property
    def key(self) -> str:
        """Identity of the problem, for the journal."""
        stats = [(p.stat().st_size, p.stat().st_mtime_ns) for p in (self.session, *self.files)]
        text = json.dumps(
            [asdict(self.settings), [s.plain() for s in self.sets], self.units, stats]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Data:
    """Binned spikes and labels of a session, and the bins that can be used."""

    def __init__(self, session: Path, files: Sequence[Path], settings: Settings) -> None:
        with opened_session(session) as found:
            self.spikes = binned_spikes(found, settings.bin)
            usable = usable_bins(found, files, settings.bin)
            self.labels = probes.binned_labels(in_bins(found.read("labels"), settings.bin))
            self.regions = found.names["regions"]
        self.layout = settings.layout(len(self.spikes))
        self.upright = usable
        self.usable = self.layout.lagged(usable)

    def common(self, sets: Sequence[FeatureSet]) -> np.ndarray:
        """(B,) bool, bins that can be used for every set, also the shifted ones."""
        out = self.usable.copy()
        for feature_set in sets:
            if feature_set.shift:
                out &= self.layout.lagged(np.roll(self.upright, feature_set.shift))
        return out


def compare(
    session: str | Path,
    files: Sequence[str | Path],
    out: str | Path,
    settings: Settings,
    workers: int = 1,
    progress: bool = False,
) -> dict[str, Any]:
    """Compare a session's neurons with all feature sets; write the result and return it.

    Args:
        session: a session file.
        files: activity files along the session.
        out: the .json file to write.
        settings: settings of the comparison.
        workers: number of processes.
        progress: whether to show a bar.

    Raises:
        FileNotFoundError: a file is missing.
        NeuralError: a file cannot be used, the session is too short, or too much of it is masked.
    """
    out = Path(out)
    check_writable(out, session, *files)
    problem, data = _problem(Path(session), tuple(map(Path, files)), settings)
    jobs = _jobs(problem, data)
    journal = out.with_name(f".{out.stem}.comparing.jsonl")
    done = _journalled(journal, problem.key)
    missing = [job for job in jobs if _name(job) not in done]
    bar = tqdm(total=len(jobs), initial=len(done), unit=" fits", disable=None if progress else True)
    with bar, journal.open("a") as file, _pool(workers) as pool:
        if not done:
            file.write(json.dumps({"key": problem.key}) + "\n")
        futures = [pool.submit(_job, problem, job) for job in missing]
        for future in concurrent.futures.as_completed(futures):
            name, result = future.result()
            done[name] = result
            file.write(json.dumps({"job": name, "result": result}) + "\n")
            file.flush()
            bar.update()
    record = _record(problem, data, jobs, done)
    with written_whole(out) as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n")
    journal.unlink(missing_ok=True)
    return record


Job = tuple[str, int, int]
"""Kind ("encode", "probe", "similar", "ceiling"), number of the set, and fold; -1 is none."""


def _problem(session: Path, files: tuple[Path, ...], settings: Settings) -> tuple[Problem, Data]:
    with opened_session(session) as found:
        identity = found.text["identity"]
    for path in files:
        with opened_activity(path) as activity:
            if activity.session != identity:
                raise NeuralError(f"{path}: was recorded along another session than {session}")
    data = Data(session, files, settings)
    with opened_session(session) as found:
        rng = np.random.default_rng(settings.seed)
        sets = sets_of(found, files, len(data.spikes), rng)
    usable = data.common(sets)
    if usable.mean() < LEAST_USABLE:
        raise NeuralError(
            f"{session}: {usable.mean():.0%} of the bins can be used, at least {LEAST_USABLE:.0%} "
            "are needed: the policies fall too often, or poses are missing"
        )
    folds = [usable & rows for f in range(settings.folds) for rows in data.layout.split(f)]
    folds += [usable & rows for f in range(settings.folds) for rows in data.layout.inner(f)]
    least = np.min([data.spikes[rows].sum(axis=0) for rows in folds], axis=0)
    enough = (data.spikes[usable].sum(axis=0) >= LEAST_SPIKES) & (least > 0)
    if not enough.any():
        raise NeuralError(f"{session}: no unit has {LEAST_SPIKES} spikes in the usable bins")
    count = min([settings.components, *(s.size for s in sets)])
    units = tuple(np.flatnonzero(enough).tolist())
    return Problem(session, files, settings, tuple(sets), units, count), data


def _jobs(problem: Problem, data: Data) -> list[Job]:
    """All jobs, ordered so that a worker rarely has to load another feature set."""
    usable = data.common(problem.sets)
    probed = problem.settings.labels and probes.classes(data.labels, data.layout, usable)
    if problem.settings.labels and not probed:
        raise NeuralError(f"{problem.session}: too few labelled bins for behaviour probes")
    jobs: list[Job] = []
    similar = len(_behaviours(data, usable)) >= 3
    if similar:
        jobs.append(("ceiling", -1, -1))
    for i in range(len(problem.sets)):
        folds = range(problem.settings.folds)
        jobs += [("encode", i, fold) for fold in folds]
        jobs += [("probe", i, fold) for fold in folds if probed]
        jobs += [("similar", i, -1)] if similar else []
    return jobs


def _name(job: Job) -> str:
    return "/".join(map(str, job))


def _behaviours(data: Data, usable: np.ndarray) -> list[int]:
    block = data.layout.block_of
    return similarity.enough(data.labels[usable], block[usable], data.layout.blocks)


def _job(problem: Problem, job: Job) -> tuple[str, dict[str, Any]]:
    """Run a job in a worker; return its name and its result."""
    kind, number, fold = job
    data, usable = _data(problem)
    layout, count = data.layout, problem.count
    spikes = data.spikes[:, problem.units]
    if kind == "ceiling":
        return _name(job), {
            region: similarity.ceiling(
                _patterns(spikes[:, columns], data, usable), layout.blocks, 0
            )
            for region, columns in _regions(problem, data)
        }
    features = _features(problem, number)
    if kind == "encode":
        sums = encoding.fold_sums(features, spikes, layout, usable, fold, count)
    elif kind == "probe":
        known = probes.classes(data.labels, layout, usable)
        sums = probes.fold_sums(features, data.labels, known, layout, usable, fold, count)
    else:
        model = _patterns(components(features, usable, count), data, usable)
        seed = problem.settings.seed
        return _name(job), {
            region: similarity.similarity(
                _patterns(spikes[:, columns], data, usable), model, layout.blocks, seed
            )
            for region, columns in _regions(problem, data)
        }
    held = np.arange(fold, layout.blocks, layout.folds)
    return _name(job), {key: _digits(table[:, held]) for key, table in sums.items()}


def _regions(problem: Problem, data: Data) -> list[tuple[str, list[int]]]:
    """Regions, each with its columns among the units."""
    of_unit = [data.regions[u] for u in problem.units]
    return [
        (region, [i for i, r in enumerate(of_unit) if r == region])
        for region in sorted(set(of_unit))
    ]


def _patterns(activity: np.ndarray, data: Data, usable: np.ndarray) -> similarity.Patterns:
    """Patterns of the behaviours that occur often enough."""
    known = _behaviours(data, usable)
    rows = usable & np.isin(data.labels, known)
    label = np.searchsorted(known, data.labels[rows])
    return similarity.Patterns(
        activity[rows], label, data.layout.block_of[rows], data.layout.blocks
    )


@functools.lru_cache(maxsize=1)
def _data(problem: Problem) -> tuple[Data, np.ndarray]:
    data = Data(problem.session, problem.files, problem.settings)
    return data, data.common(problem.sets)


@functools.lru_cache(maxsize=1)
def _features(problem: Problem, number: int) -> np.ndarray:
    return binned(problem.sets[number], problem.session, problem.files, problem.settings.bin)


def _digits(table: np.ndarray) -> list[list[float]]:
    """Numbers for JSON with seven digits; further ones differ between machines."""
    return [[float(f"{value:.7g}") for value in row] for row in table.tolist()]


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[concurrent.futures.Executor]:
    """New processes of one thread each, even if there is only one worker."""
    with single_threaded(), quiet_processes(workers) as pool:
        yield pool


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Make processes that are started in this context use one thread."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _journalled(path: Path, key: str) -> dict[str, dict[str, Any]]:
    """Results of finished jobs; a journal of another problem is removed."""
    done: dict[str, dict[str, Any]] = {}
    if not path.exists():
        return done
    lines = path.read_text().splitlines()
    with contextlib.suppress(ValueError, KeyError, IndexError):
        if json.loads(lines[0])["key"] == key:
            for line in lines[1:]:
                entry = json.loads(line)
                done[entry["job"]] = entry["result"]
            return done
    if not done:
        path.unlink()
    return done


def _record(
    problem: Problem, data: Data, jobs: Sequence[Job], done: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The comparison as plain values for JSON."""
    layout, usable = data.layout, data.common(problem.sets)
    tables: list[dict[str, Any]] = [dict(s.plain()) for s in problem.sets]
    for job in jobs:
        kind, number, fold = job
        result = done[_name(job)]
        if kind == "similar":
            tables[number]["similarity"] = result
        elif kind != "ceiling":
            held = range(fold, layout.blocks, layout.folds)
            for key, rows in result.items():
                table = tables[number].setdefault(key, [[0.0] * layout.blocks for _ in rows])
                for row, values in zip(table, rows, strict=True):
                    for block, value in zip(held, values, strict=True):
                        row[block] = value
    spikes = data.spikes * usable[:, None]
    inside = layout.block_of >= 0
    counts = encoding.by_block(
        spikes[inside][:, problem.units], layout.block_of[inside], layout.blocks
    )
    with opened_session(problem.session) as found:
        text, ids, names = found.text, found.names["unit_ids"], found.names["label_names"]
    known = probes.classes(data.labels, layout, usable) if problem.settings.labels else []
    return {
        "format": FORMAT,
        "version": VERSION,
        "session": {key: text[key] for key in ("session", "subject", "identity", "body")},
        "settings": asdict(problem.settings) | {"components": problem.count},
        "bins": len(data.spikes),
        "usable": float(f"{usable.mean():.6g}"),
        "upright": float(f"{data.upright.mean():.6g}"),
        "blocks": layout.blocks,
        "units": [
            {"id": ids[u], "region": data.regions[u], "spikes": _digits(row[None])[0]}
            for u, row in zip(problem.units, counts, strict=True)
        ],
        "left_out": [ids[u] for u in range(len(ids)) if u not in problem.units],
        "classes": [names[label] for label in known],
        "behaviours": [names[label] for label in _behaviours(data, usable)],
        "ceiling": done.get("ceiling/-1/-1", {}),
        "sets": tables,
    }
