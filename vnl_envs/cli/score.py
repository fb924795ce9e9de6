"""`vnl-envs score`: bundles of policies, their scores and the leaderboard."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vnl_envs.cli.problems import Group, print_json, reported_errors
from vnl_envs.cli.terminal import AsJson, console
from vnl_envs.problems import Code, ScoringError
from vnl_envs.utils.texts import shown

if TYPE_CHECKING:
    from vnl_envs.scoring.documents.schema.board import Anchors
    from vnl_envs.scoring.documents.schema.result import Result
    from vnl_envs.scoring.documents.schema.suite import Suite
    from vnl_envs.scoring.run.plan import Candidate, Run
    from vnl_envs.scoring.run.verification import Rerun
    from vnl_envs.scoring.submission.bundles import Bundle

app = typer.Typer(
    cls=Group,
    help="Score policies: pack and check bundles, run a suite, compare.",
    no_args_is_help=True,
)

BundleFile = Annotated[Path, typer.Argument(metavar="BUNDLE", help="a .zip from `score pack`")]
SuiteFile = Annotated[str | None, typer.Option(help="a .json file; default by its name")]


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

        first, of, anchors = _shown(a, suite)
        second, _, _ = _shown(b, suite or first.suite.name)
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

SeasonKey = Annotated[
    Path | None, typer.Option(help="file with the key of a season, for split test")
]
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

        candidate = _candidate(bundle, reference, split)
        plan = _run(candidate, suite or candidate.suite, split, season_key, workers, ray_address)
        part = part_of(plan.suite, engine, task or (), episodes)
        plan = dataclasses.replace(plan, engine=engine, part=part)
        try:
            result, problems = runner.run(plan, out, _note, progress=not as_json)
        except KeyboardInterrupt:
            _note(f"interrupted; the same command resumes from {out}")
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
            candidate = _candidate(bundle, name if bundle is None else None, claimed.split)
            problems = verification.entrant_problems(claimed, candidate)
            if problems:
                raise ScoringError(problems)
        if why_not is None:
            plan = _run(
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
        _note(f"{len(specs)} of {report['playable']} episodes, drawn with --seed {seed}")
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


def _candidate(bundle: Path | None, reference: str | None, split: str) -> Candidate:
    """The policies to score: those of a bundle, or a reference policy."""
    from vnl_envs.scoring.run import plan

    if (bundle is None) == (reference is None):
        raise ValueError("give either a bundle or --reference")
    return plan.entry(bundle, split) if bundle is not None else plan.reference(str(reference))


def _run(
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
    isolated = plan.isolation(candidate, season, _note)
    plan.check_versions(of, season, _note)
    anchors = suites.load_anchors(of, suite)
    return plan.Run(candidate, of, anchors, season, isolated, workers, ray_address)


def _note(line: str) -> None:
    typer.echo(shown(line, None), err=True)


# Showing

ResultFile = Annotated[Path, typer.Argument(metavar="RESULT", help="a result.json")]


@app.command()
def report(
    result: ResultFile,
    suite: SuiteFile = None,
    html: Annotated[Path | None, typer.Option(help="also write a page with plots")] = None,
    replays: Annotated[
        Path | None,
        typer.Option(help="folder of `score replays`; the page links the replays in it"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a result: scores with intervals, retention under perturbations, failures."""
    with reported_errors(as_json):
        from vnl_envs.scoring.board import report as reports

        if replays is not None and html is None:
            raise ValueError("--replays needs --html")
        loaded, of, _ = _shown(result, suite)
        if html is not None:
            _write_report(html, result.stem, loaded, of, replays)
        if as_json:
            print_json({"ok": True, "exit_code": int(Code.OK)} | reports.record(loaded, of))
        else:
            console.print(reports.summary(loaded, of))
        if html is not None:
            _note(f"wrote {html}")


def _write_report(html: Path, key: str, result: Result, suite: Suite, folder: Path | None) -> None:
    """Write the page of a result, and the pages of its replays into a folder beside it.

    Raises:
        ValueError: the given folder has no replays of the result.
    """
    from vnl_envs.scoring.board import replays, report
    from vnl_envs.utils.files import written_whole

    beside = html.with_name(f"{html.stem}_{replays.FOLDER}")
    shown = replays.read_replays(folder, key, result) if folder is not None else []
    if folder is not None:
        if not shown:
            raise ValueError(f"{folder / key} has no replays: `score replays` writes them")
        beside.mkdir(exist_ok=True)
        files = replays.pages(folder, key, shown, key, result.entrant.name, f"../{html.name}")
        for name, data in files:
            with written_whole(beside / name) as partial:
                partial.write_bytes(data)
    with written_whole(html) as partial:
        partial.write_text(report.page(result, suite, shown, beside.name, key), "utf-8")


@app.command()
def site(
    out: Annotated[Path, typer.Option(help="folder of the pages; made if it is missing")],
    board: Annotated[
        Path, typer.Option(help="folder with board.json, results, suites, anchors")
    ] = Path("leaderboard"),
    as_json: AsJson = False,
) -> None:
    """Build the leaderboard as static pages, from the results in its board.json.

    Results with problems are left out and reported, and set the exit code.
    """
    with reported_errors(as_json) as known:
        from vnl_envs.scoring.board.site import build

        pages, problems = build(board, out)
        known |= {"pages": pages, "out": str(out)}
        if not as_json:
            typer.echo(f"wrote {pages} pages: open {out / 'index.html'}")
        if problems:
            raise ScoringError(problems)
        if as_json:
            print_json({"ok": True, "exit_code": int(Code.OK), **known})


ResultBundle = Annotated[
    Path | None, typer.Argument(metavar="[BUNDLE]", help="bundle of the result; none for zero, ...")
]


@app.command()
def videos(
    result: ResultFile,
    bundle: ResultBundle = None,
    out: Annotated[Path, typer.Option(help="the board's folder of videos")] = Path(
        "leaderboard/videos"
    ),
    suite: SuiteFile = None,
    season_key: SeasonKey = None,
    as_json: AsJson = False,
) -> None:
    """Run the best, median and worst nominal episode of each task again, and write videos."""
    with reported_errors(as_json):
        from vnl_envs.scoring.board.videos import write_videos

        loaded, plan = _again(result, bundle, suite, season_key)
        made = write_videos(loaded, plan, out, result.stem)
        if as_json:
            rows = [video.model_dump(mode="json") for video in made]
            print_json({"ok": True, "exit_code": int(Code.OK), "videos": rows})
        else:
            typer.echo(f"wrote {len(made)} videos to {out / result.stem}")


@app.command()
def replays(
    result: ResultFile,
    bundle: ResultBundle = None,
    out: Annotated[Path, typer.Option(help="the board's folder of replays")] = Path(
        "leaderboard/replays"
    ),
    suite: SuiteFile = None,
    season_key: SeasonKey = None,
    as_json: AsJson = False,
) -> None:
    """Record the episodes of `videos` as interactive replays for the site."""
    with reported_errors(as_json):
        from vnl_envs.scoring.board.replays import write_replays

        loaded, plan = _again(result, bundle, suite, season_key)
        made = write_replays(loaded, plan, out, result.stem)
        if as_json:
            files = [str(path) for path in made]
            print_json({"ok": True, "exit_code": int(Code.OK), "replays": files})
        else:
            typer.echo(f"wrote replays of {len(made)} tasks to {out / result.stem}")


def _again(
    result: Path, bundle: Path | None, suite: str | None, season_key: Path | None
) -> tuple[Result, Run]:
    """A result, and the run that runs its episodes again.

    Raises:
        ValueError: there is no bundle, and the result is not that of a reference policy.
        ScoringError: the result is not of this bundle, suite or season.
    """
    from vnl_envs.scoring.run import verification

    loaded, of, _ = _shown(result, suite)
    kind, _, name = loaded.entrant.identity.partition(":")
    if bundle is None and kind != "reference":
        raise ValueError("give the bundle of the result")
    candidate = _candidate(bundle, name if bundle is None else None, loaded.split)
    plan = _run(candidate, suite or of.name, loaded.split, season_key, 1, None)
    problems = verification.run_problems(loaded, plan)
    if problems:
        raise ScoringError(problems)
    return loaded, plan


def _shown(path: Path, suite: str | None) -> tuple[Result, Suite, Anchors]:
    """A result without contradictions, with its suite and anchors."""
    from vnl_envs.scoring.documents import suites
    from vnl_envs.scoring.results.files import read_result
    from vnl_envs.scoring.run import verification

    result = read_result(path)
    of = suites.load_suite(suite or result.suite.name)
    anchors = suites.load_anchors(of, suite)
    return verification.believed(result, of, anchors), of, anchors
