"""Running mean and standard deviation of observations."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

MOST_DEVIATIONS = 10.0
"""Bound on normalised observations, standard deviations."""


class Statistics(NamedTuple):
    """Running mean and variance of observations (Chan et al. 1979, pairwise).

    Attributes:
        number: () number of observations.
        mean: (D,) mean.
        squares: (D,) sums of squared deviations from the mean.
    """

    number: jax.Array
    mean: jax.Array
    squares: jax.Array

    @classmethod
    def empty(cls, size: int) -> Statistics:
        """Statistics without observations."""
        return cls(jnp.zeros(()), jnp.zeros(size), jnp.zeros(size))

    def including(self, observations: jax.Array) -> Statistics:
        """Statistics that include more observations (n, D)."""
        n = observations.shape[0]
        count = self.number + n
        mean = observations.mean(axis=0)
        apart = mean - self.mean
        squares = jnp.sum((observations - mean) ** 2, axis=0)
        return Statistics(
            count,
            self.mean + apart * (n / count),
            self.squares + squares + apart**2 * (self.number * n / count),
        )

    def normalise(self, observations: jax.Array) -> jax.Array:
        """Observations (..., D) in standard deviations from the mean, within ±`MOST_DEVIATIONS`."""
        apart = (observations - self.mean) / self.deviation
        return jnp.clip(apart, -MOST_DEVIATIONS, MOST_DEVIATIONS)

    @property
    def deviation(self) -> jax.Array:
        """Standard deviations (D,); 1 where values have not varied yet."""
        std = jnp.sqrt(self.squares / jnp.maximum(self.number, 1.0))
        return jnp.where(std > 1e-4, std, 1.0)
