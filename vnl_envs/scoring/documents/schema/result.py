"""A result: who was scored, how each episode went, the scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from vnl_envs.problems import Code
from vnl_envs.scoring.documents.schema.fields import (
    MOST_EPISODES,
    Authors,
    Count,
    Date,
    Description,
    Document,
    Key,
    Line,
    Name,
    Number,
    Plain,
    Sha256,
    Slug,
    TaskId,
    Version,
    one_of,
)
from vnl_envs.scoring.documents.schema.submission import Training
from vnl_envs.scoring.documents.schema.suite import SuiteStamp
from vnl_envs.scoring.documents.schema.text import canonical

Reason = Annotated[str, one_of(*(c.slug for c in Code if Code.CRASH <= c <= Code.INCOMPLETE))]
"""Why an episode counts 0."""
EpisodeId = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_:.-]+(/[A-Za-z0-9_:.-]+){3,}$", max_length=300)
]
"""As in `Spec.id`."""


class EpisodeResult(Document):
    """How one episode went.

    Attributes:
        id: "task/tier/cell/number".
        end: "terminated", "truncated", "diverged", or "failed" where the policy did.
        reason: of an episode that counts 0, else None.
        score: the primary metric in natural units, 0 where there is a reason.
        steps: control steps.
        clipped: numbers of its actions that lay outside [-1, 1].
        metrics: the task's, by name; None where not finite.
    """

    id: EpisodeId
    end: Literal["terminated", "truncated", "diverged", "failed"]
    reason: Reason | None
    score: Number
    steps: Count
    clipped: Count
    metrics: Annotated[dict[Key, Number | None], Field(max_length=100)]


Episodes = Annotated[list[EpisodeResult], Field(max_length=MOST_EPISODES)]
"""The per-episode records of a result, in the suite's order."""


class Estimate(Document):
    """A mean with its 95 % interval over `units` independent units; None where there are none.
    One unit shows no spread: the interval takes two.
    """

    value: Number | None
    low: Number | None
    high: Number | None
    units: Count


class TierScore(Document):
    """A task in one tier.

    Attributes:
        primary: in natural units, counted cells only.
        normalised: 0 is the random policy in the nominal tier, 1 the ceiling; not clipped.
        aggregates: further figures by name, where there are any: "retention", the primary over
            that of the nominal tier on as many units; "half_width" of gaps, the width at which half
            of them are cleared, m, by a logistic curve over the ladder.
        metrics: every metric of the task, counted cells only.
        strata: the primary by stratum, all cells, those that do not count included.
        episodes: how many there are.
        failed: reason -> how many.
    """

    primary: Estimate
    normalised: Estimate
    aggregates: dict[Key, Estimate]
    metrics: dict[Key, Estimate]
    strata: dict[Plain, Estimate]
    episodes: Count
    failed: dict[Reason, Count]


class TaskScore(Document):
    """A task of a result.

    Attributes:
        tiers: by name.
        uncounted: the primary over nominal cells that do not count (clips of the training split).
    """

    tiers: dict[Slug, TierScore]
    uncounted: Estimate | None


class Policy(Document):
    """What is known of a policy file, and what its authors say of it."""

    sha256: Sha256
    parameters: Annotated[int, Field(ge=0, le=10**9)]
    training: Training


class Entrant(Document):
    """Who was scored.

    Attributes:
        identity: SHA-256 of the canonical manifest; "reference:<name>" of a policy that needs no
            training.
        name, authors, licence, date, description: from the submission.
        policies: task id -> policy.
    """

    identity: Annotated[
        str,
        StringConstraints(pattern=r"^([0-9a-f]{64}|reference:(zero|random|track|feedforward))$"),
    ]
    name: Name
    authors: Authors
    licence: Line
    date: Date
    description: Description
    policies: Annotated[dict[TaskId, Policy], Field(max_length=50)]


Stamps = Annotated[dict[Key, Plain], Field(max_length=50)]


class Records(Document):
    """The per-episode records of a result, in a file of their own beside it.

    Attributes:
        episodes: how many there are.
        sha256: of the uncompressed file.
    """

    episodes: Annotated[int, Field(ge=0, le=MOST_EPISODES)]
    sha256: Sha256


class _Scores(Document):
    """What a result and its summary share.

    Attributes:
        schema_version: of this document.
        suite: which, and its hash.
        split: whose seeds. season: SHA-256 of the season's key ("test"), else None.
        entrant: who.
        engine: "native", or an implementation of MJX in a cross-check.
        stamps: what computed it: versions, processor and its flags.
        isolated: whether the policy ran in the sandbox.
        complete: whether every episode was run; else it is not ranked.
        overall: mean over the suite's tasks of the normalised nominal score.
        tasks: task id -> score.
    """

    schema_version: Version
    suite: SuiteStamp
    split: Literal["dev", "test"]
    season: Sha256 | None
    entrant: Entrant
    engine: Annotated[str, one_of("native", "jax", "warp")]
    stamps: Stamps
    isolated: bool
    complete: bool
    overall: Estimate
    tasks: dict[TaskId, TaskScore]


class Summary(_Scores):
    """`result.json`: a result but for its episodes.

    Attributes:
        records: of the file that has these.
    """

    records: Records

    @property
    def sha256(self) -> str:
        """Of its canonical text."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()


class Result(_Scores):
    """What a run gave; the same bundle gives the same bytes on the same machine.

    Attributes:
        episodes: all, in the suite's order.
    """

    episodes: Episodes

    @property
    def summary(self) -> Summary:
        """All but the episodes, and the digest of these."""
        digest = hashlib.sha256(episodes_text(self.episodes).encode()).hexdigest()
        shared = {name: getattr(self, name) for name in _Scores.model_fields}
        return Summary(**shared, records=Records(episodes=len(self.episodes), sha256=digest))

    @property
    def sha256(self) -> str:
        """Of the summary, which has the digest of the episodes."""
        return self.summary.sha256


Amount = Annotated[float, Field(ge=0, le=1e15)]


class Rates(Document):
    """How fast some episodes were.

    Attributes:
        episodes, steps: how many.
        seconds: of all workers together; policy_seconds: waiting for the policy,
            simulation_seconds: on the rest of the episodes themselves.
        steps_per_second: of a worker's time.
        overhead: the share of the seconds that went into neither of these.
    """

    episodes: Count
    steps: Count
    seconds: Amount
    policy_seconds: Amount
    simulation_seconds: Amount
    steps_per_second: Amount
    overhead: Number


class Speed(Document):
    """`speed.json`: how fast a run was. No part of its result, as it never is the same twice."""

    workers: Annotated[int, Field(ge=1, le=10**6)]
    all: Rates
    tasks: dict[TaskId, Rates]


def episodes_text(episodes: Sequence[EpisodeResult]) -> str:
    """A list of episodes as JSON, one a line: the same text every time."""
    rows = (json.dumps(e.model_dump(mode="json"), allow_nan=False) for e in episodes)
    return "[\n" + ",\n".join(rows) + "\n]\n"
