"""Problems of a policy, a submission or a run, and their exit codes.

`docs/scoring.md` has the table for entrants.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple


class Code(enum.IntEnum):
    """Exit codes of `vnl-envs score`. As for every command, 2 is a wrong argument."""

    OK = 0
    ARCHIVE = 10
    """The zip cannot be read safely."""
    SCHEMA = 11
    """A JSON document does not follow the schema."""
    DIGEST = 12
    """A file differs from the one that the manifest lists."""
    MODEL = 13
    """A policy file may not be run."""
    VERSION = 14
    """A file was made for another suite, task or version."""
    CRASH = 20
    """The policy's process ended."""
    TIMEOUT = 21
    """The policy exceeded its time limit."""
    MEMORY = 22
    """The policy exceeded its memory limit."""
    NON_FINITE = 23
    """An action was not finite."""
    DIVERGED = 24
    """The simulation's state became infinite, too large or not a number."""
    INCOMPLETE = 25
    """Episodes are missing."""
    CLAIM = 30
    """A result differs from what its episodes, or their re-run, give."""
    SANDBOX = 40
    """The policy cannot be isolated here."""
    INTERNAL = 70
    """A fault of the harness."""

    @property
    def slug(self) -> str:
        """The name in results and JSON, such as "non-finite"."""
        return self.name.lower().replace("_", "-")


class Problem(NamedTuple):
    """One problem.

    Attributes:
        code: kind of the problem.
        where: file, task or episode that has the problem.
        message: one line that says what is wrong and what was expected.
    """

    code: Code
    where: str
    message: str


# Problems in an error's message: a wrong result has one for each of its thousands of episodes.
_SHOWN = 20


class ScoringError(Exception):
    """Problems found in one pass; the first one decides the exit code.

    Args:
        problems: one or more problems.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [f"{p.where}: {p.message}" for p in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"and {len(self.problems) - _SHOWN} more")
        super().__init__("; ".join(lines))

    @property
    def code(self) -> Code:
        """Code of the first problem."""
        return self.problems[0].code


class PolicyError(Exception):
    """A policy failed in an episode, which ends there.

    Args:
        code: kind of the failure.
        message: one line that describes it.
        simulation: index of the simulation that runs the episode.
    """

    def __init__(self, code: Code, message: str, simulation: int = 0) -> None:
        super().__init__(message)
        self.code, self.message, self.simulation = code, message, simulation


def problem(code: Code, where: str, message: str) -> ScoringError:
    """A `ScoringError` with a single problem."""
    return ScoringError([Problem(code, where, message)])
