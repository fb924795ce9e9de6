"""Inputs of the fits: blocks and folds in time, lags, principal components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vnl_envs.neural.errors import NeuralError

MOST, LEAST = 5.0, 1e-4
"""Limits of standardised values and of variances, see `components`."""
INNER = 3
"""Every `INNER`-th block of a training set is held out to choose the penalty."""


@dataclass(frozen=True)
class Layout:
    """Division of a session for cross-validation. Lengths are in bins.

    Blocks are contiguous and have equal lengths. Block b belongs to fold b mod `folds`. A gap
    around every held-out block is left out of training, as neighbouring bins are alike.

    Attributes:
        bins: length of the session.
        block, gap: lengths of a block and of a gap.
        folds: number of folds.
        lags: times of the features relative to the neurons; negative is before.
    """

    bins: int
    block: int
    gap: int
    folds: int
    lags: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.blocks < 2 * self.folds:
            raise NeuralError(
                f"{self.folds} folds need at least {2 * self.folds} blocks, the session has "
                f"{self.blocks}: give shorter blocks (--block) or fewer folds (--folds)"
            )
        if 2 * self.gap >= self.block:
            raise NeuralError("the gap (--gap) must be shorter than half a block (--block)")
        if self.gap < max(map(abs, self.lags)):
            raise NeuralError("the gap (--gap) must be as long as the longest lag (--lag)")

    @property
    def blocks(self) -> int:
        """Number of complete blocks in the session."""
        return self.bins // self.block

    @property
    def block_of(self) -> np.ndarray:
        """(B,) block of each bin, -1 after the last complete block."""
        block = np.arange(self.bins) // self.block
        return np.where(block < self.blocks, block, -1)

    def lagged(self, usable: np.ndarray) -> np.ndarray:
        """(B,) bool, bins in blocks whose lagged neighbours are all usable."""
        out = self.block_of >= 0
        for lag in self.lags:
            out &= _moved(usable, lag)
        return out

    def design(self, components: np.ndarray) -> np.ndarray:
        """Components (B, K) at all lags, (B, K * lags), with zeros outside the session."""
        return np.concatenate([_moved(components, lag) for lag in self.lags], axis=1)

    def split(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """(B,) bool each, bins for training and held-out bins of a fold."""
        return self._apart(np.arange(self.blocks) % self.folds == fold, self.block_of >= 0)

    def inner(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """(B,) bool each, a fold's training bins for the fit and for the choice of the penalty."""
        train, _ = self.split(fold)
        blocks = np.flatnonzero(np.arange(self.blocks) % self.folds != fold)
        held = np.zeros(self.blocks, bool)
        held[blocks[::INNER]] = True
        fit, choose = self._apart(held, train)
        return fit, choose

    def _apart(self, held: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bins of `among` at least a gap away from held-out blocks, and those within them."""
        block = self.block_of
        inside = (block >= 0) & held[np.maximum(block, 0)]
        near = inside.copy()
        for lag in range(1, self.gap + 1):
            near |= _moved(inside, lag) | _moved(inside, -lag)
        return among & ~near, among & inside


def _moved(values: np.ndarray, lag: int) -> np.ndarray:
    """Values (B, ...) from `lag` bins later, with zeros or False outside the session."""
    out = np.zeros_like(values)
    if lag > 0:
        out[:-lag] = values[lag:]
    elif lag < 0:
        out[-lag:] = values[:lag]
    else:
        out[:] = values
    return out


def components(features: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Principal components (B, count) of standardised features (B, D).

    They are computed from the rows with `rows` (B,) bool, and have variance 1 there. Features and
    components are clipped at `MOST` standard deviations: a joint at rest in training moves by many
    of them elsewhere. Components with less than `LEAST` of the first one's variance are 0.
    """
    seen = features[rows].astype(float)
    mean, scale = seen.mean(axis=0), seen.std(axis=0)
    scale[scale < 1e-6 * max(scale.max(), 1e-12)] = np.inf
    z = np.clip((seen - mean) / scale, -MOST, MOST)
    centre = z.mean(axis=0)
    z -= centre
    variance, axes = np.linalg.eigh(z.T @ z / len(z))
    variance, axes = variance[::-1][:count], axes[:, ::-1][:, :count]
    # The sign of an axis is arbitrary. This one does not depend on the library.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    kept = variance > LEAST * variance[0]
    axes = axes * kept / np.sqrt(np.where(kept, variance, 1.0))
    scores = (np.clip((features - mean) / scale, -MOST, MOST) - centre) @ axes
    return np.asarray(np.clip(scores, -MOST, MOST))
