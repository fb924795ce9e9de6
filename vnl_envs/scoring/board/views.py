"""Views of a result for display: by task, tier, stratum and cell, and as short texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vnl_envs.scoring.documents.schema.result import (
    EpisodeResult,
    Estimate,
    Result,
    TaskScore,
    TierScore,
)
from vnl_envs.scoring.documents.schema.suite import Cell, Primary, Suite, SuiteTask
from vnl_envs.scoring.documents.suites import NOMINAL
from vnl_envs.scoring.results.aggregates import SHARE, Aggregate
from vnl_envs.scoring.results.table import NOTHING

NONE = "–"


@dataclass(frozen=True)
class CellFigures:
    """The nominal episodes of a cell.

    Attributes:
        cell: cell of the suite.
        mean: mean of the primary metric; None without episodes.
        ends: end or reason -> number of episodes.
    """

    cell: Cell
    mean: float | None
    ends: dict[str, int]


@dataclass(frozen=True)
class TaskFigures:
    """A task of a result, with its suite's description.

    Attributes:
        task: task of the suite.
        score: scores; None if the result has none.
        episodes: episodes of the task, in the suite's order.
    """

    task: SuiteTask
    score: TaskScore | None
    episodes: tuple[EpisodeResult, ...]

    def tier(self, name: str) -> TierScore | None:
        """The score in a tier; None if there is none."""
        return self.score.tiers.get(name) if self.score else None

    def aggregate(self, name: str, tier: str = NOMINAL) -> Estimate | None:
        """The estimate of one of `AGGREGATES` in a tier; None if there is none."""
        score = self.tier(tier)
        return score.aggregates.get(name) if score else None

    @property
    def primary(self) -> Estimate:
        """Primary metric in the nominal tier, natural units."""
        tier = self.tier(NOMINAL)
        return tier.primary if tier else NOTHING

    @property
    def normalised(self) -> Estimate:
        """Normalised primary metric in the nominal tier."""
        tier = self.tier(NOMINAL)
        return tier.normalised if tier else NOTHING

    @property
    def strata(self) -> dict[str, Estimate]:
        """Primary metric in the nominal tier by stratum, in the suite's order."""
        tier = self.tier(NOMINAL)
        return tier.strata if tier else {}

    @property
    def widths(self) -> list[tuple[float, Estimate]] | None:
        """`strata` of a ladder, sorted by width, m; None if strata are not widths."""
        ladder = widths(self.strata)
        return None if ladder is None else [(w, self.strata[text]) for w, text in ladder]

    @cached_property
    def cells(self) -> list[CellFigures]:
        """Cells of the nominal tier."""
        by_cell: dict[str, list[EpisodeResult]] = {}
        for episode in self.episodes:
            tier, cell = episode_place(episode.id)
            if tier == NOMINAL:
                by_cell.setdefault(cell, []).append(episode)
        return [
            _cell_figures(cell, by_cell.get(cell.id, []))
            for cell in self.task.tiers.get(NOMINAL, [])
        ]

    @property
    def failures(self) -> list[tuple[str, str, int, list[str]]]:
        """Tier, reason, number of episodes that count 0 for it, and their ids."""
        found: dict[tuple[str, str], list[str]] = {}
        for episode in self.episodes:
            if episode.reason is not None:
                key = episode_place(episode.id)[0], episode.reason
                found.setdefault(key, []).append(episode.id)
        return [(tier, reason, len(ids), ids) for (tier, reason), ids in found.items()]


def by_task(result: Result, suite: Suite) -> list[TaskFigures]:
    """The tasks of a suite with a result's scores and episodes."""
    episodes: dict[str, list[EpisodeResult]] = {}
    for episode in result.episodes:
        episodes.setdefault(episode_task(episode.id), []).append(episode)
    return [
        TaskFigures(task, result.tasks.get(task.id), tuple(episodes.get(task.id, ())))
        for task in suite.tasks
    ]


def episode_task(id: str) -> str:
    """The task of an episode "task/tier/cell/number"."""
    return id.rsplit("/", 3)[0]


def episode_place(id: str) -> tuple[str, str]:
    """The tier and cell of an episode "task/tier/cell/number"."""
    _, tier, cell, _ = id.rsplit("/", 3)
    return tier, cell


def _cell_figures(cell: Cell, episodes: list[EpisodeResult]) -> CellFigures:
    scores = [episode.score for episode in episodes]
    ends = Counter(episode.reason or episode.end for episode in episodes)
    return CellFigures(cell, float(np.mean(scores)) if scores else None, dict(ends))


def widths(strata: Iterable[str]) -> list[tuple[float, str]] | None:
    """Strata that are widths, sorted by width, m; None if they are not widths."""
    try:
        found = sorted((float(text), text) for text in strata)
    except ValueError:
        return None
    return found if len(found) > 1 else None


def mean_aggregate(
    name: str, tasks: Iterable[TaskFigures], tier: str | None = None
) -> float | None:
    """Mean of an aggregate over tasks, in one tier or in all; None if there are no values."""
    values = [
        figure.value
        for task in tasks
        if task.score
        for of, score in task.score.tiers.items()
        if tier in (None, of) and (figure := score.aggregates.get(name)) is not None
        if figure.value is not None
    ]
    return float(np.mean(values)) if values else None


def environment_steps(result: Result) -> int:
    """Number of training steps of all policies of a result together."""
    return sum(policy.training.env_steps for policy in result.entrant.policies.values())


def parameters(result: Result) -> int:
    """Number of parameters of all policies of a result together."""
    return sum(policy.parameters for policy in result.entrant.policies.values())


def algorithms(result: Result) -> str:
    """Names of the algorithms of a result's policies, each once."""
    found = dict.fromkeys(policy.training.algorithm for policy in result.entrant.policies.values())
    return ", ".join(found)


# Texts --------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """A text in which invisible characters, such as those that change direction, are replaced."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def title(task_id: str) -> str:
    """A task's name for people: "vnl/RodentJumpGap-v0" is "Rodent jump gap"."""
    name = re.sub(r"-v\d+$", "", task_id.rsplit("/", 1)[-1])
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).split(" ")
    return " ".join([words[0], *(word.lower() for word in words[1:])])


def slug(task_id: str) -> str:
    """A task's name in addresses: "vnl/RodentJumpGap-v0" is "vnl-RodentJumpGap-v0"."""
    return re.sub(r"[^\w.-]", "-", task_id)


def metric(primary: Primary) -> str:
    """Name of the primary metric, with its unit if it has one."""
    return primary.name if primary.unit == "1" else f"{primary.name}, {primary.unit}"


def number(value: float | None, digits: int = 3) -> str:
    """A number with three decimals by default, and a minus sign as wide as a digit."""
    return NONE if value is None else f"{value:.{digits}f}".replace("-", "−")


def significant(value: float | None) -> str:
    """A number with three digits, for metrics of any size."""
    return NONE if value is None else f"{value:.3g}".replace("-", "−")


def percent(value: float | None) -> str:
    """A fraction in percent."""
    return NONE if value is None else f"{100 * value:.0f} %".replace("-", "−")


def raw(value: float | None) -> str:
    """A number for programs; "" if there is none."""
    return "" if value is None else repr(value)


def interval(estimate: Estimate) -> str:
    """An interval such as "[0.120, 0.310]"; "" if there is none."""
    return _brackets(estimate, number)


def significants(estimate: Estimate) -> str:
    """`interval` with three digits."""
    return _brackets(estimate, significant)


def percents(estimate: Estimate) -> str:
    """`interval` in percent."""
    return _brackets(estimate, percent)


def valued(aggregate: Aggregate, value: float | None) -> str:
    """The value of an aggregate with its unit."""
    if aggregate.unit == SHARE:
        return percent(value)
    return number(value) if value is None else f"{number(value)} {aggregate.unit}"


def ranged(aggregate: Aggregate, estimate: Estimate) -> str:
    """The interval of an aggregate."""
    return percents(estimate) if aggregate.unit == SHARE else interval(estimate)


def ends(estimate: Estimate) -> tuple[float, float] | None:
    """The ends of an interval; None if they are unknown or equal."""
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return None
    return estimate.low, estimate.high


def _brackets(estimate: Estimate, text: Callable[[float | None], str]) -> str:
    found = ends(estimate)
    return f"[{text(found[0])}, {text(found[1])}]" if found else ""


def count(value: int) -> str:
    """A count with three digits, such as "20 M"."""
    for size, suffix in ((10**12, " T"), (10**9, " G"), (10**6, " M"), (10**3, " k")):
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return str(value) if value else NONE


def stratum(text: str) -> str:
    """A stratum for people: widths with their unit."""
    try:
        return f"{float(text):.2f} m"
    except ValueError:
        return text or "all"
