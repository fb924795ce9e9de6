"""The documents of the leaderboard: submissions, suites and results.

Unknown keys, wrong types, numbers out of bounds and texts of other characters than stated are
refused. `python -m
vnl_envs.scoring.documents.schema FOLDER` writes them as JSON Schema.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from vnl_envs.problems import Code, Problem, ScoringError
from vnl_envs.scoring.documents.strict_json import parse_json
from vnl_envs.utils.files import read_regular, written_whole
from vnl_envs.utils.texts import is_visible, normalised, shown


class Document(BaseModel):
    """What every part of a document has: strict types, no unknown keys, no change afterwards."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )


_NAME = "[!-~]([ -~]{0,118}[!-~])?"


def _line(text: str) -> str:
    if not is_visible(text):
        raise ValueError("must be printable text of one line, of visible characters")
    return unicodedata.normalize("NFC", text)


def _lines(text: str) -> str:
    return "\n".join(map(_line, text.split("\n")))


def _name(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    name = normalised(value)
    if not re.fullmatch(_NAME, name):
        raise ValueError("must be 1 to 120 printable ASCII characters")
    return name


def _whole(value: Any) -> Any:
    # True would pass for 1.
    if type(value) is not int:
        raise ValueError("must be a whole number")
    return value


def _calendar(value: Any) -> Any:
    # Left to itself pydantic would take seconds since 1970 and times at midnight, too.
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return datetime.date.fromisoformat(value)
    if type(value) is not datetime.date:
        raise ValueError("must be a date, YYYY-MM-DD")
    return value


MOST_EPISODES = 100_000
"""Of a suite."""
MOST_BYTES = 16 * 2**20
"""Of a document's file."""

Version = Annotated[Literal[1], BeforeValidator(_whole)]
"""Of a document's form."""
Line = Annotated[
    str,
    StringConstraints(min_length=1, max_length=120, strip_whitespace=True),
    AfterValidator(_line),
]
"""Visible characters of any script, in one line."""
Name = Annotated[str, BeforeValidator(_name), StringConstraints(pattern=f"^{_NAME}$")]
"""What entries and algorithms are told apart by: ASCII alone, as other scripts have letters that
look like its own. Compatibility forms and repeated spaces are normalised."""
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,80}$")]
"""Of a metric or a stamp."""
Plain = Annotated[str, StringConstraints(pattern=r"^[ -~]{0,200}$")]
"""ASCII, in one line."""
Number = Annotated[float, Field(ge=-1e15, le=1e15)]
"""Any that a score or a metric can be."""
Count = Annotated[int, Field(ge=0, le=10**15)]
Date = Annotated[datetime.date, BeforeValidator(_calendar)]
"""YYYY-MM-DD."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
TaskId = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_:.-]+/[A-Za-z0-9_:.-]+-v[0-9]+$", max_length=100)
]
PolicyPath = Annotated[str, StringConstraints(pattern=r"^policies/[A-Za-z0-9_.-]{1,80}\.onnx$")]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]


Seed = Annotated[int, Field(ge=0, lt=2**64)]
Authors = Annotated[list[Line], Field(min_length=1, max_length=50)]
Description = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_lines)]


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


def _one_of(*words: str) -> StringConstraints:
    return StringConstraints(pattern=f"^({'|'.join(words)})$")


Reason = Annotated[str, _one_of(*(c.slug for c in Code if Code.CRASH <= c <= Code.INCOMPLETE))]
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
        identity: SHA-256 of the canonical manifest; "reference:<name>" of zero, random and track.
        name, authors, licence, date, description: from the submission.
        policies: task id -> policy.
    """

    identity: Annotated[
        str, StringConstraints(pattern=r"^([0-9a-f]{64}|reference:(zero|random|track))$")
    ]
    name: Name
    authors: Authors
    licence: Line
    date: Date
    description: Description
    policies: Annotated[dict[TaskId, Policy], Field(max_length=50)]


class SuiteStamp(Document):
    """Which suite."""

    name: Slug
    sha256: Sha256


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
    engine: Annotated[str, _one_of("native", "jax", "warp")]
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
    ] = []


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


def key_digest(key: bytes) -> str:
    """What is known of a season's key before it is published: its SHA-256."""
    return hashlib.sha256(key).hexdigest()


def canonical(value: Mapping[str, Any]) -> bytes:
    """JSON of which there is one text only: keys sorted, no spaces, ASCII, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def to_text(document: Document) -> str:
    """A document as it is written to files, for people and `git diff`: the same text every time."""
    return json.dumps(document.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"


def episodes_text(episodes: Sequence[EpisodeResult]) -> str:
    """A list of episodes as JSON, one a line: the same text every time."""
    rows = (json.dumps(e.model_dump(mode="json"), allow_nan=False) for e in episodes)
    return "[\n" + ",\n".join(rows) + "\n]\n"


SCHEMAS: dict[str, Any] = {
    "submission": Submission,
    "suite": Suite,
    "result": Summary,
    "episodes": Episodes,
    "anchors": Anchors,
    "board": Board,
    "seasons": Seasons,
    "verified": Verified,
}
"""Name of the exported file -> the document."""
_VERSION_KEY = "schema_version"
_MOST_PROBLEMS = 20

_Kind = TypeVar("_Kind")


def parse(kind: type[_Kind], text: bytes | str, where: str) -> _Kind:
    """A document from its JSON, which may be anybody's.

    Args:
        kind: of document, or another type that pydantic knows.
        text: what a file holds; bytes are UTF-8.
        where: its name, for messages.

    Raises:
        ScoringError: (`Code.SCHEMA`) it is not one, every fault is a problem of its own;
            (`Code.VERSION`) it is of another schema version.
    """
    value = parse_json(text, where)
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ScoringError(_problems(error, where)) from None


def read(kind: type[_Kind], path: Path) -> _Kind:
    """A document from its file.

    Raises:
        OSError: it cannot be read, is no regular file, or larger than `MOST_BYTES`.
        ScoringError: see `parse`.
    """
    return parse(kind, read_regular(path, MOST_BYTES), path.name)


def _problems(error: ValidationError, where: str) -> list[Problem]:
    """One for each thing that is wrong, with its place in the document."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    problems = []
    for detail in details[:_MOST_PROBLEMS]:
        path = ".".join(str(part) for part in detail["loc"])
        other_version = path == _VERSION_KEY and detail["type"] == "literal_error"
        code = Code.VERSION if other_version else Code.SCHEMA
        message = detail["msg"].removeprefix("Value error, ")
        message = f"{path}: {message}" if path else message
        problems.append(Problem(code, where, shown(message, 300)))
    if len(details) > _MOST_PROBLEMS:
        more = len(details) - _MOST_PROBLEMS
        problems.append(Problem(Code.SCHEMA, where, f"and {more} more faults"))
    return problems


def write_schemas(folder: str | Path) -> list[Path]:
    """Write every document's form as `<name>.schema.json`, and return the files.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    written = []
    for name, document in SCHEMAS.items():
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
        schema |= TypeAdapter(document).json_schema()
        path = Path(folder, f"{name}.schema.json")
        with written_whole(path) as partial:
            partial.write_text(json.dumps(schema, indent=1) + "\n")
        written.append(path)
    return written


if __name__ == "__main__":
    write_schemas(sys.argv[1])
