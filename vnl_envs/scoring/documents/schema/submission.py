"""A submission and the file that it is packed from."""

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
    """How a policy came about, as its authors say.

    Attributes:
        algorithm: its name.
        env_steps: control steps of all environments together.
        backend: what simulated, e.g. "MuJoCo C" or "MJX-Warp".
        hardware: e.g. "2 cores, no GPU".
        seeds: of the training runs behind it; the policy itself is of the first.
    """

    algorithm: Name
    env_steps: Count
    backend: Line
    hardware: Line
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1000)]


class Entry(Document):
    """A submission's policy for one task."""

    policy: PolicyPath
    training: Training


class Submission(Document):
    """`submission.json` of a bundle.

    Attributes:
        schema_version: of this document.
        name, authors, licence, description, date: for the board; the licence as SPDX expression.
        suite: which one it is for, e.g. "core-v1".
        tasks: task id -> its policy; tasks of the suite that are not here count 0.
    """

    schema_version: Version
    name: Name
    authors: Authors
    licence: Line
    date: Date
    description: Description = ""
    suite: Slug
    tasks: Annotated[dict[TaskId, Entry], Field(min_length=1, max_length=50)]
