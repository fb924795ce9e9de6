"""What can go wrong with a policy, a submission or a run, and the exit code that says so.

`docs/scoring.md` has the table for entrants.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple


class Code(enum.IntEnum):
    """Exit codes of `vnl-envs score`; 2 is a wrong argument, as for every command."""

    OK = 0
    ARCHIVE = 10
    """The zip cannot be read safely."""
    SCHEMA = 11
    """A JSON document is not what the schema asks for."""
    DIGEST = 12
    """A file is not the one that the manifest lists."""
    MODEL = 13
    """A policy file is not one that may be run."""
    VERSION = 14
    """Made for another suite, task or version."""
    CRASH = 20
    """The policy's process ended."""
    TIMEOUT = 21
    """The policy took longer than it may."""
    MEMORY = 22
    """The policy took more memory than it may."""
    NON_FINITE = 23
    """An action was not finite."""
    DIVERGED = 24
    """The simulation left the finite numbers."""
    INCOMPLETE = 25
    """Episodes are missing."""
    CLAIM = 30
    """A result is not what its episodes, or their re-run, give."""
    SANDBOX = 40
    """The policy cannot be isolated here."""
    INTERNAL = 70
    """A fault of the harness."""

    @property
    def slug(self) -> str:
        """The name in results and JSON, such as "non-finite"."""
        return self.name.lower().replace("_", "-")


class Problem(NamedTuple):
    """One thing that is wrong.

    Attributes:
        code: which kind.
        where: the file, task or episode.
        message: one line: what is wrong and what was expected.
    """

    code: Code
    where: str
    message: str


class ScoringError(Exception):
    """Problems found in one pass; the exit code is the first one's.

    Args:
        problems: at least one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{p.where}: {p.message}" for p in self.problems))

    @property
    def code(self) -> Code:
        """Of the first problem."""
        return self.problems[0].code


class PolicyError(Exception):
    """A policy cannot go on with an episode, which ends with it.

    Args:
        code: what happened.
        message: one line on it.
        simulation: which one the episode runs in.
    """

    def __init__(self, code: Code, message: str, simulation: int = 0) -> None:
        super().__init__(message)
        self.code, self.message, self.simulation = code, message, simulation


def problem(code: Code, where: str, message: str) -> ScoringError:
    """The error of a single problem."""
    return ScoringError([Problem(code, where, message)])
