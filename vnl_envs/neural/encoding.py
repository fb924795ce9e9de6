"""Encoding models of one fold: a Poisson GLM and ridge regression, both of scikit-learn.

Both choose the penalty of every neuron on blocks of the training set. Their gain over the training
set's mean rate is summed by held-out block, for intervals over blocks.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from vnl_envs.neural.design import Layout, components

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 30.0)
"""Penalties of the GLM, in units of a neuron's mean count. For features of variance 1, this is the
ratio of the penalty's pull on a weight to that of the data."""
ALPHAS = tuple(10.0**i for i in range(-1, 7))
"""Penalties of ridge regression, on sums of squares."""
TOLERANCE, STEPS = 1e-6, 100
"""Tolerance of the gradient, and greatest number of Newton steps."""

Sums = dict[str, np.ndarray]


def fold_sums(
    features: np.ndarray,
    spikes: np.ndarray,
    layout: Layout,
    usable: np.ndarray,
    fold: int,
    count: int,
) -> Sums:
    """The gains of a feature set in a fold's held-out blocks.

    Args:
        features: (B, D) features.
        spikes: (B, U) counts.
        layout: division of the session.
        usable: (B,) bool, bins that can be used.
        fold: held-out fold.
        count: number of principal components.

    Returns:
        The sums of `glm_sums` and of `ridge_sums`.
    """
    train, _ = layout.split(fold)
    design = layout.design(components(features, train & usable, count))
    return {
        **glm_sums(design, spikes, layout, usable, fold),
        **ridge_sums(design, spikes, layout, usable, fold),
    }


def glm_sums(
    design: np.ndarray, spikes: np.ndarray, layout: Layout, usable: np.ndarray, fold: int
) -> Sums:
    """Sums of the GLM by block, (U, blocks) each, 0 in blocks of other folds.

    `glm_gain` is the gain in log likelihood, nats; `glm_null` the deviance of the mean rate.
    """
    train, test = (rows & usable for rows in layout.split(fold))
    fit, choose = (rows & usable for rows in layout.inner(fold))
    mean = spikes[train].mean(axis=0)
    coef, intercept = poisson(design[train], spikes[train], _chosen(design, spikes, fit, choose))
    rate, y = predicted(design, coef, intercept, train, test), spikes[test]
    rows = {
        "glm_gain": y * np.log(rate / mean) - (rate - mean),
        "glm_null": 2 * (_entropy(y) - y * np.log(mean) + mean - y),
    }
    return {key: by_block(r, layout.block_of[test], layout.blocks) for key, r in rows.items()}


def ridge_sums(
    design: np.ndarray, spikes: np.ndarray, layout: Layout, usable: np.ndarray, fold: int
) -> Sums:
    """Sums of ridge regression by block: `ridge_gain` and `ridge_null`, squares; see `glm_sums`."""
    train, test = (rows & usable for rows in layout.split(fold))
    fit, choose = (rows & usable for rows in layout.inner(fold))
    error = (spikes - ridge(design, spikes, train, fit, choose))[test]
    squares = (spikes[test] - spikes[train].mean(axis=0)) ** 2
    rows = {"ridge_gain": squares - error**2, "ridge_null": squares}
    return {key: by_block(r, layout.block_of[test], layout.blocks) for key, r in rows.items()}


def by_block(values: np.ndarray, block: np.ndarray, blocks: int) -> np.ndarray:
    """Sums (U, blocks) of rows (n, U) over blocks; `block` (n,) is the block of each row."""
    return np.stack([np.bincount(block, column, blocks) for column in values.T])


def poisson(
    design: np.ndarray, spikes: np.ndarray, strength: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (P, U) and intercepts (U,) of Poisson regressions of a log rate.

    They minimise the mean negative log likelihood plus strength / 2 times the sum of squared
    weights.

    Args:
        design: (n, P) features.
        spikes: (n, U) counts.
        strength: (U,) penalty of each neuron.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import PoissonRegressor

    coef, intercept = np.empty((design.shape[1], len(strength))), np.empty(len(strength))
    with warnings.catch_warnings():
        # A fit that stopped early is evaluated on held-out blocks like any other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for unit, alpha in enumerate(strength):
            # With some fifty features, Newton's method is several times as fast as L-BFGS.
            model = PoissonRegressor(
                alpha=alpha, solver="newton-cholesky", tol=TOLERANCE, max_iter=STEPS
            )
            model.fit(design, spikes[:, unit])
            coef[:, unit], intercept[unit] = model.coef_, model.intercept_
    return coef, intercept


def predicted(
    design: np.ndarray,
    coef: np.ndarray,
    intercept: np.ndarray,
    train: np.ndarray,
    rows: np.ndarray,
) -> np.ndarray:
    """Rates (n, U) in rows, limited to the largest rate in training: exponentials grow fast."""
    most = (design[train] @ coef).max(axis=0)
    return np.exp(np.minimum(design[rows] @ coef, most) + intercept)


def _chosen(
    design: np.ndarray, spikes: np.ndarray, fit: np.ndarray, choose: np.ndarray
) -> np.ndarray:
    """The penalty (U,) with the highest held-out likelihood of each neuron."""
    inner, y = design[fit], spikes[choose]
    mean = np.maximum(spikes[fit].mean(axis=0), 1e-6)
    scores = []
    for penalty in PENALTIES:
        coef, intercept = poisson(inner, spikes[fit], penalty * mean)
        rate = predicted(design, coef, intercept, fit, choose)
        scores.append((y * np.log(rate) - rate).sum(axis=0))
    return np.array(PENALTIES)[np.argmax(scores, axis=0)] * mean


def ridge(
    design: np.ndarray,
    spikes: np.ndarray,
    train: np.ndarray,
    fit: np.ndarray,
    choose: np.ndarray,
) -> np.ndarray:
    """Predicted counts (B, U); each neuron has its own penalty."""
    from sklearn.linear_model import Ridge

    def predicted(alpha: Any, rows: np.ndarray) -> np.ndarray:
        model = Ridge(alpha=alpha, solver="cholesky").fit(design[rows], spikes[rows])
        return np.asarray(model.predict(design)).reshape(spikes.shape)

    errors = [((predicted(alpha, fit) - spikes)[choose] ** 2).sum(axis=0) for alpha in ALPHAS]
    return predicted(np.array(ALPHAS)[np.argmin(errors, axis=0)], train)


def _entropy(y: np.ndarray) -> np.ndarray:
    """The terms y log y of counts, 0 at 0."""
    return y * np.log(np.where(y > 0, y, 1.0))
