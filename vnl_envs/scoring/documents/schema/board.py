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
    """A video of an episode, listed in `videos.json` beside it.

    Attributes:
        task: task id.
        which: rank of the episode among the task's counted nominal episodes.
        episode: episode id.
        score: primary metric of the episode.
        file: address of the video on the board.
    """

    task: TaskId
    which: Literal["best", "median", "worst"]
    episode: EpisodeId
    score: Number
    file: Annotated[
        str, StringConstraints(pattern=r"^videos/[A-Za-z0-9_.-]{1,120}/[A-Za-z0-9_.-]{1,120}\.mp4$")
    ]


class Anchor(Document):
    """The scores of the random policy on a task, which are normalised to 0.

    Attributes:
        primary: primary metric in the nominal tier.
        tiers: primary metric by tier.
    """

    primary: Estimate
    tiers: dict[Slug, Estimate]


class Anchors(Document):
    """`vnl_envs/data/anchors/<suite>.json`, written by `leaderboard/make_anchors.py`."""

    schema_version: Version
    suite: SuiteStamp
    policy: Literal["random"]
    tasks: dict[TaskId, Anchor]


class Verified(Document):
    """`<result>.verified.json` beside a result: the record of `verify --record`.

    Attributes:
        schema_version: version of this document.
        result: `Result.sha256` of the verified result.
        episodes: number of the result's episodes whose task has a policy.
        run_again: number of these that were run again: all, or a sample drawn with `seed`.
        seed: seed of the sample; None if all were run.
        same_to_the_bit: number of those that gave the same bits; the others are within the
            tolerance.
        stamps: versions and processor of the verification.
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
        result: name of a file in `leaderboard/results`.
        pinned: whether the row stays on top of the table for any sorting.
        cross_checks: names of further results of the same entrant on other engines.
    """

    result: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,120}\.json$")]
    pinned: bool = False
    cross_checks: list[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,120}\.json$")]
    ] = []  # noqa: RUF012  (pydantic copies it)


class Board(Document):
    """`leaderboard/board.json`: the rows of the board, in any order."""

    schema_version: Version
    entries: Annotated[list[BoardEntry], Field(max_length=10_000)]


class OpenedSeason(Document):
    """A season, published on the day that it opens.

    Attributes:
        name: name for people, e.g. "2027-spring".
        sha256: SHA-256 of its key.
        opened: day on which it opened.
        closed: day on which it closed; None while it is open.
        key: key, hexadecimal, published when it is closed, so that anybody can run its episodes;
            else None.
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
    """`leaderboard/seasons.json`: all opened seasons, the oldest first."""

    schema_version: Version
    seasons: list[OpenedSeason]
