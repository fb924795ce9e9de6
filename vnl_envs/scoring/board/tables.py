"""The tables of a leaderboard: which results are compared with which, and all figures of each.

Results are comparable within one suite and one set of seeds only: each such group has a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from vnl_envs.scoring.board import charts, views
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
    """An entry on another engine.

    Attributes:
        engine: its name.
        gap: how much higher the normalised score is there, in the mean over tasks of the episodes
            that both have; None where there are none.
        episodes: how many these are.
    """

    engine: str
    gap: float | None
    episodes: int


class Beside(NamedTuple):
    """What a board has beside a result.

    Attributes:
        verified: the record of running episodes again.
        speed: of its run.
        has_bundle: whether its policies are there.
        videos: of its episodes.
    """

    verified: Verified | None
    speed: Speed | None
    has_bundle: bool
    videos: list[Video]


@dataclass(frozen=True)
class Row:
    """An entry of a table.

    Attributes:
        published: its row in `board.json`.
        result: its result.
        tasks: the suite's tasks, in order.
        crosses: what other engines make of it.
        rank: of its group; None where it is not ranked.
        beside: what else the board has of it.
    """

    published: BoardEntry
    result: Result
    tasks: list[TaskFigures]
    crosses: list[Cross]
    rank: int | None
    beside: Beside

    @property
    def key(self) -> str:
        """Unique on the board."""
        return self.published.result.removesuffix(".json")

    @property
    def page(self) -> str:
        """Address of its page."""
        return f"entry-{self.key}.html"

    @property
    def download(self) -> str:
        """Address of its result."""
        return f"results/{self.published.result}"

    @property
    def records(self) -> str:
        """Address of its episodes."""
        return records_name(self.download)

    @property
    def name(self) -> str:
        """Of the entrant."""
        return self.result.entrant.name

    @property
    def authors(self) -> str:
        """In one line."""
        return ", ".join(self.result.entrant.authors)

    @property
    def status(self) -> str:
        """Reference; verified, if the board's keepers ran every episode again; or self-reported."""
        if self.result.entrant.identity.startswith("reference:"):
            return "reference"
        found = self.beside.verified
        whole = found is not None and 0 < found.run_again == found.episodes
        return "verified" if whole else "self-reported"

    @property
    def verification(self) -> str:
        """How it was verified, for people."""
        found = self.beside.verified
        if found is None:
            return "not run again"
        whole = found.run_again == found.episodes
        count = f"all {found.episodes}" if whole else f"{found.run_again} of {found.episodes}"
        return f"{count} episodes run again, {found.same_to_the_bit} the same to the bit"

    @property
    def speed(self) -> Speed | None:
        """How fast its run was, if that is known."""
        return self.beside.speed

    @property
    def bundle(self) -> str | None:
        """Address of its policies, if the board has them."""
        return bundle_path(self.published) if self.beside.has_bundle else None

    @property
    def algorithms(self) -> str:
        """See `views.algorithms`."""
        return views.algorithms(self.result)

    @property
    def ranked(self) -> bool:
        """Whether it has a rank."""
        return self.rank is not None

    def aggregate(self, name: str) -> float | None:
        """The mean of an aggregate over tasks and tiers."""
        return views.mean_aggregate(name, self.tasks)

    @property
    def gap(self) -> float | None:
        """The overall's largest change on another engine."""
        gaps = [cross.gap for cross in self.crosses if cross.gap is not None]
        return max(gaps, key=abs) if gaps else None

    @property
    def steps(self) -> int:
        """Of training."""
        return views.environment_steps(self.result)

    @property
    def parameters(self) -> int:
        """Of all policies."""
        return views.parameters(self.result)


@dataclass(frozen=True)
class Table:
    """The entries of one suite and one set of seeds.

    Attributes:
        suite: theirs.
        split, season: whose seeds.
        anchors: the suite's.
        rows: pinned ones first, then by rank and score.
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
        """Address of its page."""
        return "index.html" if self.front else f"board-{self.slug}.html"

    @property
    def slug(self) -> str:
        """For addresses."""
        season = f"-{self.season[:8]}" if self.season else ""
        return f"{self.suite.name}-{self.split}{season}"

    @property
    def title(self) -> str:
        """For people."""
        season = f" {self.season[:8]}" if self.season else ""
        return f"{self.suite.name} · {self.split}{season}"

    @property
    def data(self) -> str:
        """Address of the whole table, without suffix."""
        return f"data/{self.slug}"

    @property
    def pinned(self) -> list[Row]:
        """What stays on top."""
        return [row for row in self.rows if row.published.pinned]

    @property
    def others(self) -> list[Row]:
        """What is sorted."""
        return [row for row in self.rows if not row.published.pinned]

    @property
    def episodes(self) -> int:
        """Of the suite."""
        cells = (c for task in self.suite.tasks for tier in task.tiers.values() for c in tier)
        return sum(cell.episodes for cell in cells)

    @cached_property
    def domain(self) -> charts.Domain:
        """Of all bars of normalised scores."""
        overall = [row.result.overall for row in self.rows]
        return charts.domain(overall + [t.normalised for row in self.rows for t in row.tasks])

    def random(self, task: SuiteTask) -> Estimate:
        """What the random policy gets in a task."""
        return self.anchors.tasks[task.id].primary

    def task_page(self, task: SuiteTask) -> str:
        """Address of a task's page."""
        return f"task-{self.slug}-{views.slug(task.id)}.html"

    @property
    def trained(self) -> list[tuple[Row, TaskFigures, Policy]]:
        """Every policy with training behind it, with the entry and task it is of."""
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
    """Address of an entry's policies, which a board need not have."""
    return f"submissions/{entry.result.removesuffix('.json')}.zip"
