"""Whether `neural compare` finds what was planted, and how often its intervals hold.

python -m benchmarks.neural_recovery s.h5 a.h5 --seeds 100 > benchmarks/results/neural_recovery.json

The features are those of a session and of a policy's activity along it, as `neural import` and
`neural record` make them. For each seed, neurons are drawn anew as Poisson functions of a feature
set's 16 principal components (in turn: every layer of the network, keypoints, joint angles, joint
velocities), of the latent, or of nothing. What comes out:

- `recovery`: how often the planted set has the most bits per spike of all sets; for kinematics, how
  often any kinematic set has.
- `shifted`: how often the 95 % interval of the difference of two shifts of the latent holds 0, with
  neurons that are planted on the latent. A shift by itself lies below 0: useless features overfit.
- `nothing`: how often that of the latent less a shift of it holds 0, with neurons of nothing.
"""

from __future__ import annotations

import json
import math
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from vnl_envs.neural import encoding
from vnl_envs.neural.compare import Data, Settings, single_threaded
from vnl_envs.neural.design import components
from vnl_envs.neural.estimates import Figure, ratio_mean
from vnl_envs.neural.features import FeatureSet, binned, sets_of
from vnl_envs.neural.session import opened_session
from vnl_envs.neural.synthetic import projections

SETTINGS = Settings(block=10.0, gap=1.0, folds=3)
UNITS, BITS_DEPTH = 10, 0.6
MEAN_COUNT = 0.8
"""Of a neuron in a bin of 0.1 s: 8 Hz."""


@lru_cache(maxsize=1)
def _loaded(session: str, activity: str) -> tuple[Data, list[FeatureSet], list[np.ndarray]]:
    files = [Path(activity)]
    data = Data(Path(session), files, SETTINGS)
    with opened_session(session) as found:
        sets = sets_of(found, files, len(data.spikes), np.random.default_rng(0))
    sets = [s for s in sets if s.kind != "shifted"]
    return data, sets, [binned(s, Path(session), files, SETTINGS.bin) for s in sets]


def _spikes(features: np.ndarray | None, bins: int, usable: np.ndarray, seed: int) -> np.ndarray:
    """Counts (B, UNITS) of neurons on features, or on nothing."""
    rng = np.random.default_rng(seed)
    log_rate = np.zeros((bins, UNITS))
    if features is not None:
        drive = projections(components(features, usable, SETTINGS.components), UNITS, rng)
        log_rate = np.clip(BITS_DEPTH * drive / drive.std(axis=0), -3, 2)
    return rng.poisson(MEAN_COUNT * np.exp(log_rate - BITS_DEPTH**2 / 2)).astype(float)


def _figure(features: np.ndarray, spikes: np.ndarray, data: Data, usable: np.ndarray) -> Figure:
    """Bits per spike of a feature set."""
    layout = data.layout
    gain = np.zeros((UNITS, layout.blocks))
    for fold in range(layout.folds):
        train = layout.split(fold)[0] & usable
        design = layout.design(components(features, train, SETTINGS.components))
        gain += encoding.glm_sums(design, spikes, layout, usable, fold)["glm_gain"]
    counts = encoding.by_block(spikes[usable], layout.block_of[usable], layout.blocks)
    return ratio_mean(gain / math.log(2), counts, "s", layout.folds)


def recovery(job: tuple[str, str, int]) -> dict[str, Any]:
    """Which set wins for one seed."""
    session, activity, seed = job
    data, sets, features = _loaded(session, activity)
    candidates = [i for i, s in enumerate(sets) if s.kind != "untrained"]
    planted = candidates[seed % len(candidates)]
    spikes = _spikes(features[planted], len(data.spikes), data.usable, seed)
    bits = {
        s.name: _figure(f, spikes, data, data.usable).value
        for s, f in zip(sets, features, strict=True)
    }
    best = max(bits, key=bits.__getitem__)
    kinds = {s.name: s.kind for s in sets}
    name = sets[planted].name
    kinematic = kinds[name] == kinds[best] == "kinematics"
    return {"planted": name, "best": best, "won": best == name or kinematic, "bits": bits}


def coverage(job: tuple[str, str, int]) -> dict[str, bool]:
    """Whether two intervals hold 0 for one seed."""
    session, activity, seed = job
    data, sets, features = _loaded(session, activity)
    bins = len(data.spikes)
    latent = next(
        f for s, f in zip(sets, features, strict=True) if s.source == "latent" and not s.shift
    )
    usable, moved = data.usable, []
    for shift in np.random.default_rng(seed).integers(bins // 4, 3 * bins // 4, size=2):
        usable = usable & data.layout.lagged(np.roll(data.upright, shift))
        moved.append(np.roll(latent, shift, axis=0))
    spikes = _spikes(latent, bins, usable, seed)
    nothing = _spikes(None, bins, usable, seed)
    control, other = (_figure(features, spikes, data, usable) for features in moved)
    useless = _figure(latent, nothing, data, usable), _figure(moved[0], nothing, data, usable)
    ends = {
        "shifted": control.less(other).interval(),
        "nothing": useless[0].less(useless[1]).interval(),
    }
    return {
        **{key: bool(low <= 0 <= high) for key, (low, high) in ends.items()},
        "value": control.value,
    }


def main(
    session: Path,
    activity: Path,
    seeds: Annotated[int, typer.Option(help="of recovery")] = 100,
    covered: Annotated[int, typer.Option(help="seeds of coverage")] = 200,
    workers: int = 2,
) -> None:
    """Print both studies as JSON."""
    files = str(session), str(activity)
    with single_threaded(), ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        found = list(pool.map(recovery, [(*files, seed) for seed in range(seeds)]))
        held = list(pool.map(coverage, [(*files, seed) for seed in range(covered)]))
    record = {
        "settings": vars(SETTINGS) | {"units": UNITS, "mean_count": MEAN_COUNT},
        "recovery": {
            "seeds": seeds,
            "won": sum(f["won"] for f in found),
            "lost": [{k: f[k] for k in ("planted", "best")} for f in found if not f["won"]],
        },
        **{
            key: {"seeds": covered, "holds_0": sum(h[key] for h in held)}
            for key in ("shifted", "nothing")
        },
        "shifted_bits": [float(f"{h['value']:.4g}") for h in held],
    }
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    typer.run(main)
