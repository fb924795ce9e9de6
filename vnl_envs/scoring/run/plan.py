"""The plan of a run: whose policies are scored, on which episodes, and how."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Literal

from vnl_envs.problems import Code, ScoringError, problem
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.documents.schema.board import Anchors
from vnl_envs.scoring.documents.schema.result import Entrant
from vnl_envs.scoring.documents.schema.suite import Suite
from vnl_envs.scoring.documents.schema.text import key_digest
from vnl_envs.scoring.results.files import ENGINE_PACKAGES, NATIVE
from vnl_envs.scoring.run.pools import Actors, Pool, Processes
from vnl_envs.scoring.run.worker import Job
from vnl_envs.utils import checks

_REFERENCES = {
    "zero": "Holds the standing pose.",
    "random": "Uniform over the action space.",
    "track": "Asks the position servos for the next reference frame; elsewhere holds still.",
    "feedforward": "Asks the servos for the next frame and for what carries its load; elsewhere "
    "holds still.",
}
_REFERENCE_DATE = datetime.date(2026, 1, 1)
ENGINES = (NATIVE, *ENGINE_PACKAGES)
CROSS_CHECKED = 3
"""Default number of episodes of each task in a cross-check on another engine."""

Say = Callable[[str], None]
"""Function that shows a line to people."""


@dataclass(frozen=True)
class Candidate:
    """The policies to score.

    Attributes:
        entrant: entrant for the result.
        suite: name of the suite that they are made for; None for any.
        policies: task id -> bytes of the ONNX file; empty for a reference.
        reference: name of a reference, or None.
    """

    entrant: Entrant
    suite: str | None
    policies: Mapping[str, bytes]
    reference: str | None


@dataclass(frozen=True)
class Season:
    """The seeds of a run.

    Attributes:
        split: "dev" or "test".
        key: key of the seeds.
        season: SHA-256 of the key for "test"; None for "dev".
    """

    split: Literal["dev", "test"]
    key: bytes
    season: str | None


def season_of(suite: Suite, split: str, key_file: Path | None) -> Season:
    """The seeds of a split.

    Raises:
        ValueError: "test" is given without a file, "dev" with one, or the split is unknown.
        ScoringError: the file does not hold a key.
    """
    checks.choice("split", split, ("dev", "test"))
    if (split == "test") != (key_file is not None):
        raise ValueError("--season-key FILE belongs to --split test, and to it alone")
    if key_file is None:
        return Season("dev", suites.dev_key(suite), None)
    key = suites.read_season_key(key_file)
    return Season("test", key, key_digest(key))


def reference(name: str) -> Candidate:
    """The candidate for a reference, a policy that needs no training.

    Raises:
        ValueError: the name is unknown.
    """
    checks.choice("reference", name, tuple(_REFERENCES))
    entrant = Entrant(
        identity=f"reference:{name}",
        name=name,
        authors=["vnl_envs"],
        licence="Apache-2.0",
        date=_REFERENCE_DATE,
        description=_REFERENCES[name],
        policies={},
    )
    return Candidate(entrant, None, {}, name)


def entry(bundle: Path, split: str = "dev") -> Candidate:
    """The candidate for a bundle.

    Raises:
        ScoringError: the bundle has problems; or the split is "test" and policies cannot be
            isolated here, which is checked before any policy is parsed.
    """
    from vnl_envs.scoring.submission.bundles import check

    _exposed(split)
    checked = check(bundle)
    policies = {task: policy.data for task, policy in checked.policies.items()}
    return Candidate(checked.entrant, checked.submission.suite, policies, None)


@dataclass(frozen=True)
class Run:
    """The settings of a run.

    Attributes:
        candidate: policies to score.
        suite: suite.
        anchors: anchors of the suite.
        season: seeds.
        isolated: whether the policies run in the sandbox.
        workers: number of workers, each of which runs one episode at a time.
        address: address of a Ray cluster for the workers; None is this machine.
        engine: one of `ENGINES`; only results of the native one are ranked.
        part: part of the suite to run, see `part_of`; None is the whole suite.
        fresh: see `Job`.
    """

    candidate: Candidate
    suite: Suite
    anchors: Anchors
    season: Season
    isolated: bool
    workers: int
    address: str | None = None
    engine: str = NATIVE
    part: Suite | None = None
    fresh: bool = False

    @property
    def scope(self) -> Suite:
        """The suite or part of it that is run."""
        return self.part or self.suite

    @property
    def job(self) -> Job:
        """The job for the workers."""
        return Job(
            self.scope,
            self.season.key,
            self.candidate.reference,
            dict(self.candidate.policies),
            self.isolated,
            self.engine,
            self.fresh,
        )

    def pool(self) -> Pool:
        """New workers."""
        if self.address is None:
            return Processes(self.job, self.workers)
        return Actors(self.job, self.workers, self.address)

    def has_policy(self, task: str) -> bool:
        """Whether the candidate has a policy for a task."""
        return self.candidate.reference is not None or task in self.candidate.policies


def part_of(
    suite: Suite, engine: str, tasks: Sequence[str] = (), episodes: int | None = None
) -> Suite | None:
    """The requested part of a suite; None for the whole suite.

    Args:
        suite: whole suite.
        engine: one of `ENGINES`.
        tasks: task ids; all tasks if empty.
        episodes: number of episodes of each task, the first counted ones of the nominal tier. None
            is every episode of every tier on the native engine, and `CROSS_CHECKED` episodes on
            others, which are slow.

    Raises:
        ValueError: the engine is unknown, or the suite does not have a task.
    """
    checks.choice("engine", engine, ENGINES)
    known = tuple(task.id for task in suite.tasks)
    for task in tasks:
        checks.choice("task", task, known)
    if episodes is None and engine != NATIVE:
        episodes = CROSS_CHECKED
    if episodes is None and not tasks:
        return None
    specs = [s for s in suite.specs if not tasks or s.task in tasks]
    if episodes is not None:
        specs = [s for s in specs if s.tier == suites.NOMINAL and s.cell.counted]
        specs = [s for _, own in groupby(specs, lambda s: s.task) for s in islice(own, episodes)]
    return suite.restricted([spec.id for spec in specs])


def isolation(candidate: Candidate, season: Season, say: Say) -> bool:
    """Whether the policies of a run are isolated. References are trusted and are not.

    Raises:
        ScoringError: they must be isolated, and cannot.
    """
    if candidate.reference is not None:
        return False
    reason = _exposed(season.split)
    if reason is None:
        return True
    say(f"warning: the policies of this bundle run without a sandbox: {reason}")
    return False


def _exposed(split: str) -> str | None:
    """The reason why policies cannot be isolated here; None if they can.

    Raises:
        ScoringError: they cannot, and the split is "test".
    """
    from vnl_envs.sandbox import launch

    reason = launch.unavailable_reason()
    if reason is not None and split == "test":
        raise problem(Code.SANDBOX, "--split test", f"policies cannot be isolated here: {reason}")
    return reason


def check_versions(suite: Suite, season: Season, say: Say) -> None:
    """Check the versions of installed packages against the suite's pins, and warn otherwise.

    Raises:
        ScoringError: versions differ, and a season is scored.
    """
    problems = suites.version_problems(suite)
    if problems and season.split == "test":
        raise ScoringError(problems)
    for found in problems:
        say(f"warning: {found.where}: {found.message}")
