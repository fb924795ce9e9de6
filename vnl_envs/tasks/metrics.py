"""What a task reports beside its reward, and the one accumulator that sums it up by episode."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from vnl_envs.physics import Array, columns, namespace


@dataclass(frozen=True)
class Metric:
    """One figure of an episode.

    Attributes:
        name: unique within a task.
        unit: SI unit, or "1" for a pure number.
        reduce: how the values of an episode's steps become one: their mean, sum, maximum or the
            last one.
        direction: whether higher or lower is better.
        range: least and greatest figure that there can be; scores' intervals stay within. Not in
            the `repr`, of which identities are made: it changes no figure.
    """

    name: str
    unit: str
    reduce: Literal["mean", "sum", "max", "last"]
    direction: Literal["higher", "lower"]
    range: tuple[float, float] = field(default=(-math.inf, math.inf), repr=False)


@dataclass(frozen=True)
class PrimaryMetric:
    """The number of an episode that counts on a leaderboard, from 0 to `ceiling`.

    Attributes:
        metric: name of a metric of the task.
        form: "per_step": the metric over the steps that the episode could have had; "capped": the
            metric, at most `cap`, over `cap`.
        name, formula, unit: for people.
        cap: of "capped", else None.
        ceiling: what is normalised to 1.
    """

    metric: str
    form: Literal["per_step", "capped"]
    name: str
    formula: str
    unit: str = "1"
    cap: float | None = None
    ceiling: float = 1.0


POSITIVE = (0.0, math.inf)
"""The range of distances, counts and times."""

STANDARD = (
    Metric("return", "1", "sum", "higher"),
    Metric("length", "steps", "sum", "higher", POSITIVE),
)
"""Metrics of every task: the sum of rewards and the number of steps."""


class Accumulator:
    """Reduces per-step values to per-episode figures; its state is one array, (..., M).

    Args:
        metrics: what is reduced beside the standard metrics, which come first.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.metrics = STANDARD + tuple(metrics)
        self.names = tuple(metric.name for metric in self.metrics)
        kinds = [metric.reduce for metric in self.metrics]
        self._add = np.array([kind in ("mean", "sum") for kind in kinds])
        self._max = np.array([kind == "max" for kind in kinds])
        self._any_max = bool(self._max.any())
        self._mean = np.array([kind == "mean" for kind in kinds])
        self._one_step = np.array([name == "length" for name in self.names], float)

    def begin(self, shape: tuple[int, ...]) -> np.ndarray:
        """The state before an episode's first step, (*shape, M)."""
        state = np.zeros((*shape, len(self.metrics)))
        state[..., self._max] = -np.inf
        return state

    def add(self, state: Array, reward: Array, values: Mapping[str, Array]) -> Array:
        """The state after one more step with these rewards and values, each (...,)."""
        xp = namespace(reward)
        ones = xp.ones_like(reward)
        row = columns(reward, ones, *(values[m.name] for m in self.metrics[2:]))
        kept = xp.where(self._max, xp.maximum(state, row), row) if self._any_max else row
        return xp.where(self._add, state + row, kept)

    def count(self, state: Array) -> Array:
        """The state after one more step that says nothing but its own number."""
        return state + self._one_step

    def result(self, state: Array) -> Array:
        """Figures of the episode so far, (..., M), in the order of `names`."""
        xp = namespace(state)
        steps = xp.maximum(state[..., 1:2], 1.0)
        return xp.where(self._mean, state / steps, state)

    def increments(self, before: Array, after: Array) -> Array:
        """What a step added to the figures, (..., M): their sum over an episode is its figure.

        What is not finite yet counts as 0, and so do figures before the first step.
        """
        xp = namespace(after)

        def known(state: Array) -> Array:
            figures = self.result(state)
            return xp.where((state[..., 1:2] > 0) & xp.isfinite(figures), figures, 0.0)

        return known(after) - known(before)
