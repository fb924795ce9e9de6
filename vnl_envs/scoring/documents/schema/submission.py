"""A submission."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vnl_envs.scoring.documents.schema.fields import (
    Authors,
    Count,
    Date,
    Description,
    Document,
    Line,
    Name,
    PolicyPath,
    Seed,
    Slug,
    TaskId,
    Version,
)


class Training(Document):
    """The training of a policy, as its authors state it.

    Attributes:
        algorithm: name of the algorithm.
        env_steps: number of control steps of all environments together.
        backend: name of the simulator, e.g. "MuJoCo C" or "MJX-Warp".
        hardware: description of the hardware, e.g. "2 cores, no GPU".
        seeds: seeds of the training runs; the policy itself is from the first.
    """

    algorithm: Name
    env_steps: Count
    backend: Line
    hardware: Line
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1000)]


class Entry(Document):
    """The policy of a submission for one task.

    Attributes:
        policy: path of the policy in the bundle.
        training: facts about its training.
    """

    policy: PolicyPath
    training: Training


class Submission(Document):
    """`submission.json` of a bundle.

    Attributes:
        schema_version: version of this document.
        name, authors, licence, description, date: texts for the board; the licence is an SPDX
            expression.
        suite: name of the suite, e.g. "core-v2".
        tasks: task id -> policy; other tasks of the suite count 0.
    """

    schema_version: Version
    name: Name
    authors: Authors
    licence: Line
    date: Date
    description: Description = ""
    suite: Slug
    tasks: Annotated[dict[TaskId, Entry], Field(min_length=1, max_length=50)]
