"""The width of gaps at which half of them are cleared."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from vnl_envs.statistics.intervals import percentiles, resamples

# A curve that is steeper than its data can tell is drawn back to these: strong enough to make the
# estimate unique where one rung is always cleared and the next never, too weak to matter elsewhere.
_RIDGE = 1e-3
_NEWTON_STEPS = 60


def half_width(
    score: np.ndarray, width: np.ndarray, unit: np.ndarray
) -> tuple[float, tuple[float, float]] | None:
    """The width, m, at which a logistic curve through the rungs' mean scores passes 1/2, and its
    interval; None where that is not on the ladder, or there is no ladder.

    Args:
        score: (N,) of the episodes, in [0, 1].
        width: (N,) str, the rung of each, m.
        unit: (N,) the independent unit of each.
    """
    widths = np.array(sorted({*width}, key=float))
    if len(widths) < 2:
        return None
    rungs = widths.astype(float)
    of_rung = (width == widths[:, None]).astype(float)
    (value,) = _crossing(rungs, *_rung_means(np.ones((1, len(score))), score, of_rung))
    if not rungs[0] <= value <= rungs[-1]:
        return None
    crossings = _crossing(rungs, *_rung_means(resamples(unit, width), score, of_rung))
    return float(value), percentiles(np.clip(crossings, rungs[0], rungs[-1]))


def _rung_means(
    counts: np.ndarray, score: np.ndarray, of_rung: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The mean score (R, W) of each rung where episodes count so often (R, N), and which rungs have
    one (R, W): rungs of a single unit are drawn from together, and some resamples lack one.
    """
    drawn = counts @ of_rung.T
    there = drawn > 0
    return (counts * score) @ of_rung.T / np.where(there, drawn, 1), there


def _crossing(rungs: np.ndarray, fractions: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Where logistic curves through those fractions (R, W) that are `there` (R, W), at widths (W,),
    pass 1/2, (R,).

    Quasi-likelihood fits (Papke and Wooldridge 1996) by damped Newton steps, all at once. Curves
    that do not fall pass it at infinity, on the side that their mean says.
    """
    middle, half = (rungs[0] + rungs[-1]) / 2, (rungs[-1] - rungs[0]) / 2
    design = np.stack([np.ones_like(rungs), (rungs - middle) / half], axis=1)
    beta = np.zeros((len(fractions), 2))
    for _ in range(_NEWTON_STEPS):
        p = expit(beta @ design.T)
        gradient = (there * (fractions - p)) @ design - _RIDGE * beta
        information = np.einsum("rw,wi,wj->rij", there * p * (1 - p), design, design)
        curvature = information + _RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        decrement = np.sqrt(np.maximum((step * gradient).sum(axis=1, keepdims=True), 0))
        beta += step / (1 + decrement)
    falls = beta[:, 1] < 0
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = middle - half * beta[:, 0] / beta[:, 1]
    mean = fractions.mean(axis=1, where=there)
    beyond = np.where(mean >= 0.5, np.inf, -np.inf)
    return np.where(falls, crossing, beyond)
