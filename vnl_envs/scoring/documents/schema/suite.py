"""A suite: a frozen list of episodes."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vnl_envs.scoring.documents.schema.fields import (
    MOST_EPISODES,
    Document,
    Key,
    Line,
    Plain,
    Sha256,
    Slug,
    TaskId,
    Version,
)
from vnl_envs.scoring.documents.schema.text import canonical


class Primary(Document):
    """How an episode becomes the number that counts, at least 0 and at most `ceiling` if it is
    nature's.

    Attributes:
        metric: of the task.
        form: "capped": the metric, at most `cap`, over `cap` (gaps or goals of a number of them);
            "per_step": the metric over the steps that the episode could have had (return).
        cap: of "capped", else None.
        name, unit, formula: for people.
        ceiling: normalised 1.
    """

    metric: Key
    form: Literal["capped", "per_step"]
    cap: Annotated[float, Field(gt=0, le=1e6)] | None
    name: Line
    unit: Line
    formula: Line
    ceiling: Annotated[float, Field(gt=0, le=1e6)]


class Cell(Document):
    """Episodes that share a task, a tier and options.

    Attributes:
        id: unique within task and tier, e.g. "width-0.04" or "clip-walk".
        options: of the task, as for `vnl_envs.make_task`, those of the tier included.
        env_hash: of the task with these options.
        episodes: how many; numbered from 0.
        counted: whether they are part of the primary metric (clips of the training split are not).
        stratum: the group that the cell belongs to in the bootstrap and in tables: a width in m as
            text, or a behaviour label; "" where there is one only.
        unit: the independent unit that all of its episodes are of, such as a clip; None where each
            episode is one of its own (corridors, goal sequences).
    """

    id: Key
    options: dict[str, Any]
    env_hash: Plain
    episodes: Annotated[int, Field(ge=1, le=10_000)]
    counted: bool
    stratum: Plain
    unit: Plain | None


class SuiteTask(Document):
    """A task of a suite.

    Attributes:
        id: registered.
        observation, action: numbers in each.
        primary: what counts.
        tiers: tier name -> its cells; "nominal" is there always.
    """

    id: TaskId
    observation: Annotated[int, Field(ge=1, le=10**6)]
    action: Annotated[int, Field(ge=1, le=10**6)]
    primary: Primary
    tiers: Annotated[
        dict[Slug, Annotated[list[Cell], Field(max_length=1000)]], Field(max_length=20)
    ]


class Suite(Document):
    """A frozen list of episodes: `vnl_envs/data/suites/<name>.json`.

    Attributes:
        schema_version, name: of it.
        description: what it is for.
        pins: package -> version with which its numbers were measured.
        dev_key: the key of the seeds of the split "dev", hexadecimal.
        tiers: name -> what it is, in order; "nominal" first.
        tasks: in order.
    """

    schema_version: Version
    name: Slug
    description: Line
    pins: dict[Key, Plain]
    dev_key: Sha256
    tiers: dict[Slug, Line]
    tasks: Annotated[list[SuiteTask], Field(max_length=50)]

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        cells = (cell for task in self.tasks for own in task.tiers.values() for cell in own)
        if sum(cell.episodes for cell in cells) > MOST_EPISODES:
            raise ValueError(f"must have at most {MOST_EPISODES} episodes")
        return self

    @property
    def sha256(self) -> str:
        """Of its canonical text."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()


class SuiteStamp(Document):
    """Which suite."""

    name: Slug
    sha256: Sha256
