"""A result: the entrant, the episodes and the scores."""

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
"""Reason why an episode counts 0."""
EpisodeId = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_:.-]+(/[A-Za-z0-9_:.-]+){3,}$", max_length=300)
]
"""Id of an episode, see `Spec.id`."""


class EpisodeResult(Document):
    """The record of one episode.

    Attributes:
        id: "task/tier/cell/number".
        end: "terminated", "truncated", "diverged", or "failed" if the policy failed.
        reason: reason why the episode counts 0, else None.
        score: primary metric in natural units; 0 if there is a reason.
        steps: number of control steps.
        clipped: number of action components outside [-1, 1].
        metrics: metrics of the task by name; None for values that are not finite.
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
    """A mean and its 95 % interval.

    Attributes:
        value: mean; None without episodes.
        low, high: ends of the interval; None with fewer than two units, which show no spread.
        units: number of independent units.
    """

    value: Number | None
    low: Number | None
    high: Number | None
    units: Count


class TierScore(Document):
    """The scores of a task in one tier.

    Attributes:
        primary: primary metric in natural units, counted cells only.
        normalised: primary metric, normalised: 0 is the random policy in the nominal tier, 1 the
            ceiling; not clipped.
        aggregates: further aggregates by name: "retention" is the primary metric divided by that of
            the nominal episodes on the same clips or widths; "threshold_width" is the gap width at
            which a logistic curve over the ladder passes 1/2, m.
        metrics: metrics of the task by name, counted cells only.
        strata: primary metric by stratum, including cells that are not counted.
        episodes: number of episodes.
        failed: reason -> number of episodes.
    """

    primary: Estimate
    normalised: Estimate
    aggregates: dict[Key, Estimate]
    metrics: dict[Key, Estimate]
    strata: dict[Plain, Estimate]
    episodes: Count
    failed: dict[Reason, Count]


class TaskScore(Document):
    """The scores of a task.

    Attributes:
        tiers: scores by tier.
        uncounted: primary metric over nominal cells that are not counted (clips of the training
            split); None without such cells.
    """

    tiers: dict[Slug, TierScore]
    uncounted: Estimate | None


class Policy(Document):
    """Facts about a policy file.

    Attributes:
        sha256: SHA-256 of the file.
        parameters: number of parameters.
        training: facts about its training, as its authors state them.
    """

    sha256: Sha256
    parameters: Annotated[int, Field(ge=0, le=10**9)]
    training: Training


class Entrant(Document):
    """The entrant of a result.

    Attributes:
        identity: SHA-256 of the canonical manifest; "reference:<name>" for a policy that needs no
            training.
        name, authors, licence, date, description: as in the submission.
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
    """The file of per-episode records beside a result.

    Attributes:
        episodes: number of episodes.
        sha256: SHA-256 of the uncompressed file.
    """

    episodes: Annotated[int, Field(ge=0, le=MOST_EPISODES)]
    sha256: Sha256


class _Scores(Document):
    """The common part of a result and its summary.

    Attributes:
        schema_version: version of this document.
        suite: name and hash of the suite.
        split: split of the seeds, "dev" or "test".
        season: SHA-256 of the season's key for "test", else None.
        entrant: entrant.
        engine: "native", or an implementation of MJX in a cross-check.
        stamps: versions, processor and its flags that computed the result.
        isolated: whether the policy ran in the sandbox.
        complete: whether every episode was run on the native engine; else it is not ranked.
        overall: mean over the suite's tasks of the normalised nominal score.
        tasks: task id -> scores.
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
    """`result.json`: a result without its episodes.

    Attributes:
        records: file of the episodes.
    """

    records: Records

    @property
    def sha256(self) -> str:
        """SHA-256 of its canonical text."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()


class Result(_Scores):
    """The result of a run. The same bundle gives the same bytes on the same machine.

    Attributes:
        episodes: all episodes, in the suite's order.
    """

    episodes: Episodes

    @property
    def summary(self) -> Summary:
        """The result without episodes, but with their digest."""
        digest = hashlib.sha256(episodes_text(self.episodes).encode()).hexdigest()
        shared = {name: getattr(self, name) for name in _Scores.model_fields}
        return Summary(**shared, records=Records(episodes=len(self.episodes), sha256=digest))

    @property
    def sha256(self) -> str:
        """SHA-256 of the summary, which covers the episodes by their digest."""
        return self.summary.sha256


Amount = Annotated[float, Field(ge=0, le=1e15)]


class Rates(Document):
    """The speed of some episodes.

    Attributes:
        episodes, steps: numbers of episodes and control steps.
        seconds: time of all workers together, s.
        policy_seconds: part of it that was spent waiting for the policy, s.
        simulation_seconds: part of it that the rest of the episodes took, s.
        steps_per_second: control steps per second of a worker's time.
        overhead: fraction of the time outside policy and simulation.
    """

    episodes: Count
    steps: Count
    seconds: Amount
    policy_seconds: Amount
    simulation_seconds: Amount
    steps_per_second: Amount
    overhead: Number


class Speed(Document):
    """`speed.json`: the speed of a run. It is not part of the result, as it always varies.

    Attributes:
        workers: number of workers.
        all: speed of all episodes.
        tasks: task id -> speed.
    """

    workers: Annotated[int, Field(ge=1, le=10**6)]
    all: Rates
    tasks: dict[TaskId, Rates]


def episodes_text(episodes: Sequence[EpisodeResult]) -> str:
    """A list of episodes as JSON, one episode per line, always the same text."""
    rows = (json.dumps(e.model_dump(mode="json"), allow_nan=False) for e in episodes)
    return "[\n" + ",\n".join(rows) + "\n]\n"
