"""Metrics of an episode beside its reward, and the accumulator that computes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from vnl_envs.physics import Array, Physics, columns, namespace


@dataclass(frozen=True)
class Metric:
    """One metric of an episode.

    Attributes:
        name: name, unique within a task.
        unit: SI unit, or "1" for a pure number.
        reduce: function that reduces the values of an episode's steps to one: their mean, sum,
            maximum or last value.
        direction: whether higher or lower is better.
        range: least and greatest possible value; intervals of scores stay within. It is not in the
            `repr`, which enters `env_hash`, as it changes no value.
    """

    name: str
    unit: str
    reduce: Literal["mean", "sum", "max", "last"]
    direction: Literal["higher", "lower"]
    range: tuple[float, float] = field(default=(-math.inf, math.inf), repr=False)


@dataclass(frozen=True)
class PrimaryMetric:
    """The score of an episode on a leaderboard, from 0 to `ceiling`.

    Attributes:
        metric: name of the task metric.
        form: "per_step" is the metric divided by the number of steps that the episode could have
            had; "capped" is min(metric, cap) / cap.
        name, formula, unit: texts for people.
        cap: cap for "capped", else None.
        ceiling: score that is normalised to 1.
    """

    metric: str
    form: Literal["per_step", "capped"]
    name: str
    formula: str
    unit: str = "1"
    cap: float | None = None
    ceiling: float = 1.0


def fraction_of_reachable(metric: str, counted: str, reachable: float) -> PrimaryMetric:
    """The score of a task that counts what an animal passes on its way.

    Args:
        metric: name of the count.
        counted: noun and participle, such as "gaps cleared".
        reachable: how many there are on the way that the target speed covers within the horizon;
            rounded down.
    """
    cap = float(math.floor(reachable))
    noun, participle = counted.split()
    return PrimaryMetric(
        metric=metric,
        form="capped",
        cap=cap,
        name=f"fraction of {cap:g} {noun} {participle}",
        formula=f"min({counted}, {cap:g}) / {cap:g}; the target speed reaches {cap:g}",
    )


POSITIVE = (0.0, math.inf)
"""Range of distances, counts and times."""

RETURN = Metric("return", "1", "sum", "higher")
LENGTH = Metric("length", "steps", "sum", "higher", POSITIVE)
POWER = Metric("power", "W/kg", "mean", "lower", POSITIVE)

STANDARD = (RETURN, LENGTH, POWER)
"""Metrics of every task: the sum of rewards, the number of steps and the mechanical power."""


def mechanical_power(physics: Physics, mass: float) -> Array:
    """Power of the actuators, (...,), W/kg: the sum of |torque times velocity| over all joints.

    Braking counts like driving, as muscles store no energy. This is the power in the last physics
    step of a control step.

    Args:
        physics: state after the step.
        mass: mass of the body, kg.
    """
    work = physics.qfrc_actuator * physics.qvel
    return namespace(work).abs(work).sum(axis=-1) / mass


class Accumulator:
    """Reduces per-step values to M metrics of an episode. Its state is one array, (..., M).

    Args:
        metrics: metrics beside the standard ones, which come first.

    Attributes:
        metrics: all M metrics.
        names: names of the metrics, in order.
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

    def add(self, state: Array, reward: Array, power: Array, values: Mapping[str, Array]) -> Array:
        """The state after one more step with this reward, power and values, each (...,)."""
        xp = namespace(reward)
        ones = xp.ones_like(reward)
        own = (values[metric.name] for metric in self.metrics[len(STANDARD) :])
        row = columns(reward, ones, power, *own)
        kept = xp.where(self._max, xp.maximum(state, row), row) if self._any_max else row
        return xp.where(self._add, state + row, kept)

    def count(self, state: Array) -> Array:
        """The state after one more step of which only the number counts."""
        return state + self._one_step

    def result(self, state: Array) -> Array:
        """Metrics of the episode so far, (..., M), in the order of `names`."""
        xp = namespace(state)
        steps = xp.maximum(state[..., 1:2], 1.0)
        return xp.where(self._mean, state / steps, state)

    def increments(self, before: Array, after: Array) -> Array:
        """The change of the metrics in one step, (..., M). Its sum over an episode is the metric.

        Metrics count as 0 before the first step and while they are not finite.

        Args:
            before, after: (..., M) states before and after the step.
        """
        xp = namespace(after)

        def known(state: Array) -> Array:
            values = self.result(state)
            return xp.where((state[..., 1:2] > 0) & xp.isfinite(values), values, 0.0)

        return known(after) - known(before)
