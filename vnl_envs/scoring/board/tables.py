"""The tables of a leaderboard, and all numbers of their rows.

Results are comparable only within one suite and one set of seeds: each such group has a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from vnl_envs.scoring.board import charts, views
from vnl_envs.scoring.board.replays import TaskReplays
from vnl_envs.scoring.board.views import TaskFigures
from vnl_envs.scoring.documents.schema.board import (
    Anchors,
    BoardEntry,
    Verified,
    Video,
)
from vnl_envs.scoring.documents.schema.result import Estimate, Policy, Result, Speed
from vnl_envs.scoring.documents.schema.suite import Suite, SuiteTask
from vnl_envs.scoring.results.files import records_name


class Cross(NamedTuple):
    """The cross-check of an entry on another engine.

    Attributes:
        engine: name of the engine.
        gap: normalised score there minus that of the entry, on common episodes, averaged over
            tasks; None without common episodes.
        episodes: number of common episodes.
    """

    engine: str
    gap: float | None
    episodes: int


class Beside(NamedTuple):
    """Further files of a board for a result.

    Attributes:
        verified: record of a verification; None without one.
        speed: speed of the run; None if unknown.
        has_bundle: whether the board has the bundle of policies.
        videos: videos of episodes.
        replays: replays of episodes, by task.
    """

    verified: Verified | None
    speed: Speed | None
    has_bundle: bool
    videos: list[Video]
    replays: list[TaskReplays]


@dataclass(frozen=True)
class Row:
    """An entry of a table.

    Attributes:
        published: row in `board.json`.
        result: result of the entry.
        tasks: scores of the suite's tasks, in order.
        crosses: cross-checks on other engines.
        rank: rank, shared within a group; None if it is not ranked.
        beside: further files of the board for the result.
    """

    published: BoardEntry
    result: Result
    tasks: list[TaskFigures]
    crosses: list[Cross]
    rank: int | None
    beside: Beside

    @property
    def key(self) -> str:
        """The key of the entry, unique on the board."""
        return self.published.result.removesuffix(".json")

    @property
    def page(self) -> str:
        """Address of the entry's page."""
        return f"entry-{self.key}.html"

    @property
    def download(self) -> str:
        """Address of the result."""
        return f"results/{self.published.result}"

    @property
    def records(self) -> str:
        """Address of the per-episode records."""
        return records_name(self.download)

    @property
    def name(self) -> str:
        """Name of the entrant."""
        return self.result.entrant.name

    @property
    def authors(self) -> str:
        """Names of the authors, in one line."""
        return ", ".join(self.result.entrant.authors)

    @property
    def status(self) -> str:
        """The status: reference, verified (every episode was run again) or self-reported."""
        if self.result.entrant.identity.startswith("reference:"):
            return "reference"
        found = self.beside.verified
        complete = found is not None and 0 < found.run_again == found.episodes
        return "verified" if complete else "self-reported"

    @property
    def verification(self) -> str:
        """Description of the verification for people."""
        found = self.beside.verified
        if found is None:
            return "not run again"
        complete = found.run_again == found.episodes
        count = f"all {found.episodes}" if complete else f"{found.run_again} of {found.episodes}"
        return f"{count} episodes run again, {found.same_to_the_bit} the same to the bit"

    @property
    def speed(self) -> Speed | None:
        """Speed of the run; None if unknown."""
        return self.beside.speed

    @property
    def bundle(self) -> str | None:
        """Address of the bundle of policies; None if the board does not have it."""
        return bundle_path(self.published) if self.beside.has_bundle else None

    @property
    def algorithms(self) -> str:
        """See `views.algorithms`."""
        return views.algorithms(self.result)

    @property
    def ranked(self) -> bool:
        """Whether the entry has a rank."""
        return self.rank is not None

    def aggregate(self, name: str) -> float | None:
        """Mean of an aggregate over tasks and tiers."""
        return views.mean_aggregate(name, self.tasks)

    @property
    def gap(self) -> float | None:
        """Largest gap on another engine by magnitude; None without cross-checks."""
        gaps = [cross.gap for cross in self.crosses if cross.gap is not None]
        return max(gaps, key=abs) if gaps else None

    @property
    def steps(self) -> int:
        """Number of training steps of all policies together."""
        return views.environment_steps(self.result)

    @property
    def parameters(self) -> int:
        """Number of parameters of all policies together."""
        return views.parameters(self.result)


@dataclass(frozen=True)
class Table:
    """The entries of one suite and one set of seeds.

    Attributes:
        suite: suite of the entries.
        split, season: split and season of the seeds.
        anchors: anchors of the suite.
        rows: rows: pinned ones first, then by rank and score.
        front: whether it is the board's front page.
    """

    suite: Suite
    split: str
    season: str | None
    anchors: Anchors
    rows: list[Row]
    front: bool

    @property
    def page(self) -> str:
        """Address of the table's page."""
        return "index.html" if self.front else f"board-{self.slug}.html"

    @property
    def slug(self) -> str:
        """Name of the table in addresses."""
        season = f"-{self.season[:8]}" if self.season else ""
        return f"{self.suite.name}-{self.split}{season}"

    @property
    def title(self) -> str:
        """Name of the table for people."""
        season = f" {self.season[:8]}" if self.season else ""
        return f"{self.suite.name} · {self.split}{season}"

    @property
    def data(self) -> str:
        """Address of the table's data files, without suffix."""
        return f"data/{self.slug}"

    @property
    def pinned(self) -> list[Row]:
        """Rows that stay on top."""
        return [row for row in self.rows if row.published.pinned]

    @property
    def others(self) -> list[Row]:
        """Rows that are sorted."""
        return [row for row in self.rows if not row.published.pinned]

    @property
    def episodes(self) -> int:
        """Number of episodes of the suite."""
        cells = (c for task in self.suite.tasks for tier in task.tiers.values() for c in tier)
        return sum(cell.episodes for cell in cells)

    @cached_property
    def domain(self) -> charts.Domain:
        """Common domain of all bars of normalised scores."""
        overall = [row.result.overall for row in self.rows]
        return charts.domain(overall + [t.normalised for row in self.rows for t in row.tasks])

    def random(self, task: SuiteTask) -> Estimate:
        """Score of the random policy in a task."""
        return self.anchors.tasks[task.id].primary

    def task_page(self, task: SuiteTask) -> str:
        """Address of a task's page."""
        return f"task-{self.slug}-{views.slug(task.id)}.html"

    @property
    def trained(self) -> list[tuple[Row, TaskFigures, Policy]]:
        """All trained policies, each with its entry and task."""
        return [
            (row, task, row.result.entrant.policies[task.task.id])
            for row in self.rows
            for task in row.tasks
            if task.task.id in row.result.entrant.policies
        ]

    @property
    def timed(self) -> list[Row]:
        """Entries whose run was timed."""
        return [row for row in self.rows if row.speed]


def bundle_path(entry: BoardEntry) -> str:
    """Address of an entry's bundle, which a board need not have."""
    return f"submissions/{entry.result.removesuffix('.json')}.zip"
