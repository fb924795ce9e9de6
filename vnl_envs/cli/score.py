"""`vnl-envs score`: bundles of policies, their scores and the leaderboard."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vnl_envs.cli import board
from vnl_envs.cli.problems import Group, print_json, reported_errors
from vnl_envs.cli.score_files import (
    SeasonKey,
    SuiteFile,
    candidate_of,
    note,
    read_believed,
    run_of,
)
from vnl_envs.cli.terminal import AsJson, console
from vnl_envs.problems import Code, ScoringError

if TYPE_CHECKING:
    from vnl_envs.scoring.documents.schema.result import Result
    from vnl_envs.scoring.run.plan import Run
    from vnl_envs.scoring.run.verification import Rerun
    from vnl_envs.scoring.submission.bundles import Bundle

app = typer.Typer(
    cls=Group,
    help="Score policies: pack and check bundles, run a suite, compare.",
    no_args_is_help=True,
)

BundleFile = Annotated[Path, typer.Argument(metavar="BUNDLE", help="a .zip from `score pack`")]


@app.command()
def pack(
    entry: Annotated[
        Path, typer.Argument(metavar="ENTRY", help="a TOML file, see docs/submitting.md")
    ],
    out: Annotated[Path, typer.Option(help="the .zip to write")],
    as_json: AsJson = False,
) -> None:
    """Write a bundle from ONNX policies, and check it."""
    with reported_errors(as_json):
        from vnl_envs.scoring.submission.bundles import pack as write
        from vnl_envs.utils.files import check_writable

        check_writable(out, entry)
        _print_bundle(write(entry, out), as_json)
        if not as_json:
            typer.echo(f"wrote {out}")


@app.command()
def check(bundle: BundleFile, as_json: AsJson = False) -> None:
    """Check a bundle without a simulation; print all of its problems, or its content."""
    with reported_errors(as_json):
        from vnl_envs.scoring.submission.bundles import check as judge

        _print_bundle(judge(bundle), as_json)


@app.command()
def schema(
    folder: Annotated[Path, typer.Argument(help="folder to write")],
    as_json: AsJson = False,
) -> None:
    """Write the JSON Schemas of the documents."""
    with reported_errors(as_json):
        from vnl_envs.scoring.documents.schema.export import write_schemas

        paths = [str(path) for path in write_schemas(folder)]
        if as_json:
            print_json({"ok": True, "exit_code": int(Code.OK), "schemas": paths})
            return
        for path in paths:
            typer.echo(f"wrote {path}")


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="a .json from `score run`")],
    b: Annotated[Path, typer.Argument(metavar="B", help="another one of the same suite")],
    suite: SuiteFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare two results episode by episode."""
    with reported_errors(as_json):
        from vnl_envs.scoring.board import printed
        from vnl_envs.scoring.results.compare import compare as differences

        first, of, anchors = read_believed(a, suite)
        second, _, _ = read_believed(b, suite or first.suite.name)
        found = differences(first, second, of, anchors)
        if as_json:
            print_json({"ok": True, "exit_code": int(Code.OK)} | found.record())
            return
        console.print(printed.differences(found, first.overall.value, second.overall.value))
        for table in printed.aggregates(found):
            console.print(table)
        typer.echo(printed.LEGEND)


def _print_bundle(checked: Bundle, as_json: bool) -> None:
    """Print the content of a sound bundle."""
    from vnl_envs.scoring.board import printed

    warning = (
        f"policies were read under limits, but not in a sandbox: {checked.unconfined}"
        if checked.unconfined
        else None
    )
    if as_json:
        warnings = [warning] if warning else []
        print_json(
            {
                "ok": True,
                "exit_code": int(Code.OK),
                **printed.bundle_record(checked),
                "warnings": warnings,
            }
        )
        return
    if warning:
        typer.echo(f"warning: {warning}", err=True)
    console.print(printed.bundle(checked))
    typer.echo(f"sound; identity {checked.identity}")


# Scoring

_INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as in shells."""

Workers = Annotated[
    int, typer.Option(min=1, help="number of processes, each with one episode at a time")
]
RayAddress = Annotated[
    str | None, typer.Option(help="address of a Ray cluster for the workers, e.g. auto")
]


@app.command()
def run(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="a .zip from `score pack`")
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="name, or a .json file [default: the suite of the bundle]"),
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the run; the same folder resumes it")] = Path(
        "score"
    ),
    split: Annotated[str, typer.Option(help="split of the seeds, dev or test")] = "dev",
    season_key: SeasonKey = None,
    workers: Workers = 1,
    ray_address: RayAddress = None,
    reference: Annotated[
        str | None, typer.Option(help="zero, random, track or feedforward, instead of a bundle")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="native; or jax, warp for a cross-check, which is not ranked")
    ] = "native",
    task: Annotated[
        list[str] | None, typer.Option(help="only this task; may be repeated; not ranked")
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(min=1, help="only this number per task, of the nominal tier; not ranked"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a bundle on a suite: write result.json and speed.json; resume an interrupted run."""
    with reported_errors(as_json) as known:
        from vnl_envs.scoring.board.report import summary
        from vnl_envs.scoring.run import runner
        from vnl_envs.scoring.run.plan import part_of

        candidate = candidate_of(bundle, reference, split)
        plan = run_of(candidate, suite or candidate.suite, split, season_key, workers, ray_address)
        part = part_of(plan.suite, engine, task or (), episodes)
        plan = dataclasses.replace(plan, engine=engine, part=part)
        try:
            result, problems = runner.run(plan, out, note, progress=not as_json)
        except KeyboardInterrupt:
            note(f"interrupted; the same command resumes from {out}")
            raise typer.Exit(_INTERRUPTED) from None
        if not as_json:
            console.print(summary(result, plan.suite))
            typer.echo(f"wrote {out / runner.RESULT}")
        # There is a result even if episodes count 0.
        known["result"] = str(out / runner.RESULT)
        known["overall"] = result.overall.model_dump(mode="json")
        if problems:
            raise ScoringError(problems)
        if as_json:
            print_json({"ok": True, "exit_code": int(Code.OK), **known})


@app.command()
def verify(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="a result.json")],
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="bundle of the result")
    ] = None,
    suite: SuiteFile = None,
    season_key: SeasonKey = None,
    sample: Annotated[int, typer.Option(min=0, help="number of episodes to run again")] = 10,
    every: Annotated[bool, typer.Option("--all", help="run all of them again")] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**64 - 1, help="seed of the sample [default: random]")
    ] = None,
    record: Annotated[
        bool,
        typer.Option("--record", help="write RESULT.verified.json beside the result, for a board"),
    ] = False,
    workers: Workers = 1,
    ray_address: RayAddress = None,
    as_json: AsJson = False,
) -> None:
    """Recompute a result from its episodes, and run a sample or all of them again."""
    with reported_errors(as_json) as report:
        from vnl_envs.scoring.board import printed
        from vnl_envs.scoring.documents import suites
        from vnl_envs.scoring.results.files import read_result
        from vnl_envs.scoring.run import verification

        if every and seed is not None:
            raise ValueError("--seed has no meaning with --all")
        claimed = read_result(result)
        of = suites.load_suite(suite or claimed.suite.name)
        problems = verification.claims(claimed, of, suites.load_anchors(of, suite))
        if problems:
            raise ScoringError(problems)
        kind, _, name = claimed.entrant.identity.partition(":")
        report |= {"aggregates": "recomputed", "episodes": len(claimed.episodes)}
        why_not = None
        if bundle is None and kind != "reference":
            why_not = "give the bundle"
        elif claimed.split == "test" and season_key is None:
            why_not = "give --season-key FILE"
        elif not (sample or every):
            why_not = "--sample is 0"
        if bundle is not None or kind == "reference":
            candidate = candidate_of(bundle, name if bundle is None else None, claimed.split)
            problems = verification.entrant_problems(claimed, candidate)
            if problems:
                raise ScoringError(problems)
        if why_not is None:
            plan = run_of(
                candidate, suite or of.name, claimed.split, season_key, workers, ray_address
            )
            part = verification.scope_of(claimed, of)
            plan = dataclasses.replace(plan, engine=claimed.engine, part=part)
            count = None if every else sample
            again, seed = _run_again(claimed, plan, count, seed, report, progress=not as_json)
            if record:
                path = verification.write_record(result, claimed, report["playable"], again, seed)
                report["record"] = str(path)
        elif record:
            raise ValueError(f"--record needs episodes that are run again: {why_not}")
        else:
            report["not_run_again"] = why_not
        if as_json:
            print_json({"ok": True, "exit_code": int(Code.OK), **report})
            return
        for line in printed.verified(report):
            typer.echo(line)


def _run_again(
    claimed: Result,
    plan: Run,
    count: int | None,
    seed: int | None,
    report: dict[str, Any],
    *,
    progress: bool,
) -> tuple[Rerun, int | None]:
    """Run a sample of `count` episodes, or all if None, again.

    Returns:
        The rerun, and the seed of the sample.

    Raises:
        ScoringError: the episodes contradict the result.
    """
    from vnl_envs.scoring.run import verification

    specs = verification.playable(claimed, plan.suite)
    report["playable"] = len(specs)
    if count is not None:
        seed = verification.drawn_seed() if seed is None else seed
        specs = verification.sample(specs, count, seed)
        note(f"{len(specs)} of {report['playable']} episodes, drawn with --seed {seed}")
    report["seed"] = seed
    again = verification.run_again(claimed, plan, specs, progress=progress)
    report |= {
        "run_again": again.episodes,
        "same_to_the_bit": again.same,
        "differing_stamps": list(again.differing_stamps),
    }
    if again.problems:
        raise ScoringError(again.problems)
    return again, seed


for command in (board.report, board.site, board.videos, board.replays):
    app.command()(command)
