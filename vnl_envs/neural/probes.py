"""Behaviour probes: how well labels are read out of features, held out in time."""

from __future__ import annotations

import numpy as np

from vnl_envs.neural.design import Layout, components
from vnl_envs.neural.encoding import Sums, by_block

LEAST = 20
"""Bins that a behaviour needs in a training fold to be among the classes."""


def classes(labels: np.ndarray, layout: Layout, usable: np.ndarray) -> list[int]:
    """The labels that every training set has often enough and some held-out block has."""
    found = [
        label
        for label in np.unique(labels[usable & (labels >= 0)]).tolist()
        if all(
            ((labels == label) & usable & layout.split(f)[0]).sum() >= LEAST
            for f in range(layout.folds)
        )
    ]
    return found if len(found) > 1 else []


def binned_labels(labels: np.ndarray) -> np.ndarray:
    """(B, width) labels of frames -> (B,) the label of bins that have one only, else -1."""
    alike = (labels == labels[:, :1]).all(axis=1)
    return np.where(alike, labels[:, 0], -1)


def fold_sums(
    features: np.ndarray,
    labels: np.ndarray,
    known: list[int],
    layout: Layout,
    usable: np.ndarray,
    fold: int,
    count: int,
) -> Sums:
    """Bins of each class that a logistic regression of balanced weights names rightly, and all.

    Returns:
        `probe_right` and `probe_all` (classes, blocks).
    """
    from sklearn.linear_model import LogisticRegression

    chosen = usable & np.isin(labels, known)
    train, test = (rows & chosen for rows in layout.split(fold))
    x = components(features, train, count)
    model = LogisticRegression(class_weight="balanced", max_iter=500).fit(x[train], labels[train])
    truth = labels[test]
    right = model.predict(x[test]) == truth
    block = layout.block_of[test]
    is_class = truth[:, None] == np.array(known)
    return {
        "probe_right": by_block((is_class & right[:, None]).astype(float), block, layout.blocks),
        "probe_all": by_block(is_class.astype(float), block, layout.blocks),
    }
