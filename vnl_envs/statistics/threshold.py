"""The gap width at which the score is 1/2."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from vnl_envs.statistics.intervals import percentiles
from vnl_envs.statistics.resampling import resamples

# Ridge penalty on the curve. It makes the estimate unique where one rung is always cleared and the
# next never, and is too weak to matter elsewhere.
_RIDGE = 1e-3
_NEWTON_STEPS = 60


def width_at_half(
    score: np.ndarray, width: np.ndarray, unit: np.ndarray
) -> tuple[float, tuple[float, float]] | None:
    """The width, m, at which a logistic curve through the rungs' mean scores passes 1/2.

    Args:
        score: (N,) scores of the episodes, in [0, 1].
        width: (N,) str, rung of each episode, m.
        unit: (N,) independent unit of each episode.

    Returns:
        The width and its 95 % interval; None if the width is outside the ladder, or if there are
        fewer than two rungs.
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
    """Mean score of each rung in each resample (R, W), and whether it has episodes (R, W) bool.

    `counts` (R, N) are the episodes' counts. Rungs of a single unit are resampled together, so
    that some resamples lack a rung.
    """
    drawn = counts @ of_rung.T
    known = drawn > 0
    return (counts * score) @ of_rung.T / np.where(known, drawn, 1), known


def _crossing(rungs: np.ndarray, fractions: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Widths (R,) at which logistic curves through fractions (R, W) at widths (W,) pass 1/2.

    The curves are quasi-likelihood fits (Papke and Wooldridge 1996) of the fractions marked by
    `known` (R, W), by damped Newton steps. A curve that does not fall crosses at +inf if its mean
    is at least 1/2, else at -inf.
    """
    middle, half = (rungs[0] + rungs[-1]) / 2, (rungs[-1] - rungs[0]) / 2
    design = np.stack([np.ones_like(rungs), (rungs - middle) / half], axis=1)
    beta = np.zeros((len(fractions), 2))
    for _ in range(_NEWTON_STEPS):
        p = expit(beta @ design.T)
        gradient = (known * (fractions - p)) @ design - _RIDGE * beta
        information = np.einsum("rw,wi,wj->rij", known * p * (1 - p), design, design)
        curvature = information + _RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        decrement = np.sqrt(np.maximum((step * gradient).sum(axis=1, keepdims=True), 0))
        beta += step / (1 + decrement)
    falls = beta[:, 1] < 0
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = middle - half * beta[:, 0] / beta[:, 1]
    mean = fractions.mean(axis=1, where=known)
    beyond = np.where(mean >= 0.5, np.inf, -np.inf)
    return np.where(falls, crossing, beyond)
