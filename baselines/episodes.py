"""Figures of the episodes of a batch of functional environments, for logs."""

from __future__ import annotations

from typing import Any

import jax

TERM = "reward/"
"""Prefix of the names of reward terms in a functional environment's metrics."""


def episode_sums(after: Any) -> dict[str, jax.Array]:
    """Contributions of a control step to a log, summed over environments.

    `episodes` counts the episodes that ended, `episode_return` and `episode_length` are sums over
    these episodes, and each reward term is summed under its name with the prefix `TERM`.

    Args:
        after: state after the step, from `wrap_for_training`.
    """
    totals = after.info["episode_metrics"]
    return {
        "episodes": after.done.sum(),
        "episode_return": (totals["sum_reward"] * after.done).sum(),
        "episode_length": (totals["length"] * after.done).sum(),
        **{k: v.sum() for k, v in after.metrics.items() if k.startswith(TERM)},
    }
