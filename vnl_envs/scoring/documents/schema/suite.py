"""A suite: a frozen list of episodes, the seed of each, and parts of the list."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
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
    """The primary metric, the score of an episode: from 0 to `ceiling`.

    Attributes:
        metric: name of the task metric.
        form: "capped" is min(metric, cap) / cap (for gaps or goals); "per_step" is the metric
            divided by the number of steps that the episode could have had (for the return).
        cap: cap for "capped", else None.
        name, unit, formula: texts for people.
        ceiling: score that is normalised to 1.
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
        id: id, unique within task and tier, e.g. "width-0.04" or "clip-walk".
        options: options for `vnl_envs.make_task`, including those of the tier.
        env_hash: hash of the task with these options.
        episodes: number of episodes; they are numbered from 0.
        counted: whether the episodes count in the primary metric (clips of the training split do
            not).
        stratum: stratum of the cell in the bootstrap and in tables: a width in m as text, or a
            behaviour label; "" if there is only one.
        unit: independent unit of all its episodes, such as a clip; None if each episode is its own
            unit (corridors, goal sequences).
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
        id: registered task id.
        observation, action: sizes of observation and action.
        primary: primary metric.
        tiers: tier name -> cells; there is always "nominal".
    """

    id: TaskId
    observation: Annotated[int, Field(ge=1, le=10**6)]
    action: Annotated[int, Field(ge=1, le=10**6)]
    primary: Primary
    tiers: Annotated[
        dict[Slug, Annotated[list[Cell], Field(max_length=1000)]], Field(max_length=20)
    ]


@dataclass(frozen=True)
class Spec:
    """One episode of a suite.

    Attributes:
        task: id of a registered task.
        tier: name of the tier.
        cell: cell, whose options the episode has.
        number: number of the episode in its cell, from 0.
        primary: primary metric of the task.
    """

    task: str
    tier: str
    cell: Cell
    number: int
    primary: Primary

    @property
    def id(self) -> str:
        """The unique id in the suite, "task/tier/cell/number"."""
        return f"{self.task}/{self.tier}/{self.cell.id}/{self.number}"

    def seed(self, key: bytes) -> np.random.SeedSequence:
        """The seed of the episode and of the policy's own generator.

        Its entropy is HMAC-SHA256(key, "task|tier|cell/number"), read big-endian. Without the key
        the episodes are secret. With it anybody can recompute them.
        """
        name = f"{self.task}|{self.tier}|{self.cell.id}/{self.number}"
        digest = hmac.digest(key, name.encode(), "sha256")
        return np.random.SeedSequence(int.from_bytes(digest, "big"))


class Suite(Document):
    """A frozen list of episodes: `vnl_envs/data/suites/<name>.json`.

    Attributes:
        schema_version: version of this document.
        name: name of the suite.
        description: purpose of the suite.
        pins: package -> version with which its numbers were measured.
        dev_key: key of the seeds of the split "dev", hexadecimal.
        tiers: tier name -> description, in order; "nominal" first.
        tasks: tasks, in order.
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
        """SHA-256 of its canonical text."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Every episode, in order. Episodes of a cell are contiguous."""
        return tuple(
            Spec(task.id, tier, cell, number, task.primary)
            for task in self.tasks
            for tier, cells in task.tiers.items()
            for cell in cells
            for number in range(cell.episodes)
        )

    def restricted(self, ids: Iterable[str]) -> Suite:
        """The part that has as many episodes of each cell as are given, the first ones."""
        counts = Counter(id.rpartition("/")[0] for id in {*ids})

        def cells(task: str, tier: str, given: Sequence[Cell]) -> list[Cell]:
            kept = [(cell, counts[f"{task}/{tier}/{cell.id}"]) for cell in given]
            return [cell.model_copy(update={"episodes": n}) for cell, n in kept if n]

        tasks = []
        for task in self.tasks:
            tiers = {tier: cells(task.id, tier, given) for tier, given in task.tiers.items()}
            tiers = {tier: kept for tier, kept in tiers.items() if kept}
            if tiers:
                tasks.append(task.model_copy(update={"tiers": tiers}))
        return self.model_copy(update={"tasks": tasks})


class SuiteStamp(Document):
    """The name and the SHA-256 of a suite."""

    name: Slug
    sha256: Sha256
