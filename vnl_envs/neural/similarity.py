"""Representational similarity over behaviours, by rsatoolbox.

Distances between behaviours are crossnobis (Walther et al. 2016, doi
10.1016/j.neuroimage.2015.12.012), cross-validated over groups of blocks, so noise does not increase
them. Their matrices are compared by the whitened cosine (Diedrichsen et al. 2021, arXiv
2007.02789). Behaviours repeat, trials do not: the ceiling comes from split halves of the blocks.
"""

from __future__ import annotations

import warnings

import numpy as np

from vnl_envs.statistics.intervals import percentiles

GROUPS = 4
"""Number of groups of blocks, for cross-validation."""
LEAST = 10
"""Least number of bins of a behaviour in every half of every group."""
RESAMPLES, HALVES = 200, 50
"""Numbers of resamples of the interval, and of random halves of the ceiling."""


class Patterns:
    """Mean activity of behaviours in each block.

    Args:
        activity: (n, C) activity of channels.
        label: (n,) index of each row's behaviour.
        block: (n,) block of each row.
        blocks: number of blocks.
    """

    def __init__(
        self, activity: np.ndarray, label: np.ndarray, block: np.ndarray, blocks: int
    ) -> None:
        count = int(label.max()) + 1
        key = block * count + label
        size = blocks * count
        self._sums = np.stack([np.bincount(key, column, size) for column in activity.T], axis=-1)
        self._sums = self._sums.reshape(blocks, count, -1)
        self._counts = np.bincount(key, minlength=size).reshape(blocks, count)
        mean = self._sums.sum(axis=0) / np.maximum(self._counts.sum(axis=0), 1)[:, None]
        residuals = activity - mean[label]
        covariance = residuals.T @ residuals / len(residuals)
        # Shrunk towards its diagonal, as few rows determine the other entries badly.
        shrunk = 0.9 * covariance + 0.1 * np.diag(np.diag(covariance))
        level = 1e-6 * max(np.trace(shrunk) / len(shrunk), 1e-12)
        self._precision = np.linalg.inv(shrunk + level * np.eye(len(shrunk)))

    def distances(self, weight: np.ndarray) -> np.ndarray:
        """Crossnobis distances (pairs of behaviours,) with weights (blocks,) of the blocks."""
        from rsatoolbox.data import Dataset
        from rsatoolbox.rdm import calc_rdm

        behaviours = self._counts.shape[1]
        rows: list[np.ndarray] = []
        conditions: list[int] = []
        groups: list[int] = []
        for group in range(GROUPS):
            share = weight * (np.arange(len(weight)) % GROUPS == group)
            counts = share @ self._counts
            sums = np.einsum("b,blc->lc", share, self._sums)
            rows.append(sums / np.maximum(counts, 1)[:, None])
            conditions += range(behaviours)
            groups += [group] * behaviours
        data = Dataset(
            np.concatenate(rows), obs_descriptors={"behaviour": conditions, "group": groups}
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rdm = calc_rdm(
                data,
                method="crossnobis",
                descriptor="behaviour",
                cv_descriptor="group",
                noise=self._precision,
            )
        return np.asarray(rdm.dissimilarities[0])  # type: ignore[union-attr]


def enough(label: np.ndarray, block: np.ndarray, blocks: int) -> list[int]:
    """The labels with at least `LEAST` rows in every half of every group."""
    part = block % (2 * GROUPS)
    return [
        int(value)
        for value in np.unique(label[label >= 0])
        if np.bincount(part[label == value], minlength=2 * GROUPS).min() >= LEAST
    ]


def whitened_cosine(one: np.ndarray, other: np.ndarray) -> float:
    """The whitened cosine of two vectors of distances."""
    from rsatoolbox.rdm import RDMs, compare

    return float(compare(RDMs(one[None]), RDMs(other[None]), method="cosine_cov")[0, 0])


def similarity(neurons: Patterns, model: Patterns, blocks: int, seed: int) -> dict[str, float]:
    """Whitened cosine of distances, with a 95 % bootstrap interval over blocks within groups."""
    rng = np.random.default_rng(seed)
    draws = [_resampled(blocks, rng) for _ in range(RESAMPLES)]
    values = [whitened_cosine(neurons.distances(w), model.distances(w)) for w in draws]
    whole = np.ones(blocks)
    low, high = percentiles(np.array(values))
    return {
        "value": whitened_cosine(neurons.distances(whole), model.distances(whole)),
        "low": low,
        "high": high,
    }


def ceiling(neurons: Patterns, blocks: int, seed: int) -> dict[str, float]:
    """Mean whitened cosine of split halves of the blocks, and the ceiling that follows from it.

    The ceiling is the highest value that a model can reach on all blocks: the square root of the
    Spearman-Brown correction.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(HALVES):
        half = np.zeros(blocks)
        for group in range(GROUPS):
            members = rng.permutation(np.arange(group, blocks, GROUPS))
            half[members[: len(members) // 2]] = 1.0
        found.append(whitened_cosine(neurons.distances(half), neurons.distances(1 - half)))
    mean = float(np.mean(found))
    return {"split_half": mean, "ceiling": float(np.sqrt(max(2 * mean / (1 + mean), 0.0)))}


def _resampled(blocks: int, rng: np.random.Generator) -> np.ndarray:
    """Number of times that a resample contains each block."""
    weight = np.zeros(blocks)
    for group in range(GROUPS):
        members = np.arange(group, blocks, GROUPS)
        np.add.at(weight, rng.choice(members, len(members)), 1.0)
    return weight
