"""The leaderboard: its entries, anchors, seasons, videos and verifications."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from vnl_envs.scoring.documents.schema.fields import (
    Count,
    Date,
    Document,
    Number,
    Seed,
    Sha256,
    Slug,
    TaskId,
    Version,
)
from vnl_envs.scoring.documents.schema.result import EpisodeId, Estimate, Stamps
from vnl_envs.scoring.documents.schema.suite import SuiteStamp
from vnl_envs.scoring.documents.schema.text import key_digest


class Video(Document):
    """A video of an episode, in `videos.json` beside it.

    Attributes:
        task: its id.
        which: of the task's nominal episodes that count.
        episode: its id.
        score: its primary metric.
        file: address on the board.
    """

    task: TaskId
    which: Literal["best", "median", "worst"]
    episode: EpisodeId
    score: Number
    file: Annotated[
        str, StringConstraints(pattern=r"^videos/[A-Za-z0-9_.-]{1,120}/[A-Za-z0-9_.-]{1,120}\.mp4$")
    ]


class Anchor(Document):
    """The random policy on a task: normalised 0. Written by `leaderboard/make_anchors.py`."""

    primary: Estimate
    tiers: dict[Slug, Estimate]


class Anchors(Document):
    """`vnl_envs/data/anchors/<suite>.json`."""

    schema_version: Version
    suite: SuiteStamp
    policy: Literal["random"]
    tasks: dict[TaskId, Anchor]


class Verified(Document):
    """`<result>.verified.json` beside a result: what `verify --record` did with it.

    Attributes:
        schema_version: of this document.
        result: `Result.sha256`.
        episodes: of the result, for whose task there is a policy.
        run_again: how many of these were; all of them, or as many as `seed` draws.
        seed: of the choice; None where every one was run.
        same_to_the_bit: how many came out so; the others within the tolerance.
        stamps: what ran them.
    """

    schema_version: Version
    result: Sha256
    episodes: Count
    run_again: Count
    seed: Seed | None
    same_to_the_bit: Count
    stamps: Stamps

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not self.same_to_the_bit <= self.run_again <= self.episodes:
            raise ValueError("must be same_to_the_bit <= run_again <= episodes")
        return self


class BoardEntry(Document):
    """A row of `leaderboard/board.json`.

    Attributes:
        result: file in `leaderboard/results`.
        pinned: shown on top of the board's table whatever it is sorted by.
        cross_checks: further results of the same entrant on other engines.
    """

    result: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,120}\.json$")]
    pinned: bool = False
    cross_checks: list[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,120}\.json$")]
    ] = []  # noqa: RUF012  (pydantic copies it)


class Board(Document):
    """`leaderboard/board.json`: what is shown, in any order."""

    schema_version: Version
    entries: Annotated[list[BoardEntry], Field(max_length=10_000)]


class OpenedSeason(Document):
    """A season, known to everybody from the day that it opens.

    Attributes:
        name: for people, e.g. "2027-spring".
        sha256: of its key.
        opened: when.
        closed: when; None while it is open.
        key: hexadecimal, from when it is closed on: its episodes can be run by everybody.
    """

    name: Slug
    sha256: Sha256
    opened: Date
    closed: Date | None = None
    key: Sha256 | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.closed is None) != (self.key is None):
            raise ValueError("closed and key belong together")
        if self.closed is not None and self.closed < self.opened:
            raise ValueError("closed must not be before opened")
        if self.key is not None and key_digest(bytes.fromhex(self.key)) != self.sha256:
            raise ValueError("key must be the one whose SHA-256 is sha256")
        return self


class Seasons(Document):
    """`leaderboard/seasons.json`: every season that was opened, the oldest first."""

    schema_version: Version
    seasons: list[OpenedSeason]
