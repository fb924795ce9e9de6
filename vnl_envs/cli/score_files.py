"""What the commands of `vnl-envs score` share: arguments, and how files become runs and results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vnl_envs.utils.texts import shown

if TYPE_CHECKING:
    from vnl_envs.scoring.documents.schema.board import Anchors
    from vnl_envs.scoring.documents.schema.result import Result
    from vnl_envs.scoring.documents.schema.suite import Suite
    from vnl_envs.scoring.run.plan import Candidate, Run

SuiteFile = Annotated[str | None, typer.Option(help="a .json file; default by its name")]
ResultFile = Annotated[Path, typer.Argument(metavar="RESULT", help="a result.json")]
SeasonKey = Annotated[
    Path | None, typer.Option(help="file with the key of a season, for split test")
]


def candidate_of(bundle: Path | None, reference: str | None, split: str) -> Candidate:
    """The policies to score: those of a bundle, or a reference policy."""
    from vnl_envs.scoring.run import plan

    if (bundle is None) == (reference is None):
        raise ValueError("give either a bundle or --reference")
    return plan.entry(bundle, split) if bundle is not None else plan.reference(str(reference))


def run_of(
    candidate: Candidate,
    suite: str | None,
    split: str,
    season_key: Path | None,
    workers: int,
    ray_address: str | None,
) -> Run:
    """The run with its settings; prints warnings about it."""
    from vnl_envs.scoring.documents import suites
    from vnl_envs.scoring.run import plan

    if suite is None:
        raise ValueError(f"give --suite, one of {', '.join(suites.suite_names())}")
    of = suites.load_suite(suite)
    season = plan.season_of(of, split, season_key)
    isolated = plan.isolation(candidate, season, note)
    plan.check_versions(of, season, note)
    anchors = suites.load_anchors(of, suite)
    return plan.Run(candidate, of, anchors, season, isolated, workers, ray_address)


def note(line: str) -> None:
    typer.echo(shown(line, None), err=True)


def read_believed(path: Path, suite: str | None) -> tuple[Result, Suite, Anchors]:
    """A result without contradictions, with its suite and anchors."""
    from vnl_envs.scoring.documents import suites
    from vnl_envs.scoring.results.files import read_result
    from vnl_envs.scoring.run import verification

    result = read_result(path)
    of = suites.load_suite(suite or result.suite.name)
    anchors = suites.load_anchors(of, suite)
    return verification.believed(result, of, anchors), of, anchors
