"""Behaviour probes: accuracy of labels read from features, in held-out blocks of time."""

from __future__ import annotations

import numpy as np

from vnl_envs.neural.design import Layout, components
from vnl_envs.neural.encoding import Sums, by_block

LEAST = 20
"""Least number of bins of a behaviour in every training set."""


def classes(labels: np.ndarray, layout: Layout, usable: np.ndarray) -> list[int]:
    """The labels that occur often enough in every training set; [] if there are fewer than two."""
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
    """Labels of bins (B,) from those of their frames (B, width); -1 if frames differ."""
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
    """Results of a logistic regression with balanced weights in a fold's held-out blocks.

    Returns:
        `probe_right` and `probe_all`, (classes, blocks) each: numbers of bins of each class that
        were classified correctly, and of all its bins.
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
