"""Commands of `vnl-envs score` that show results: reports, pages, videos, replays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vnl_envs.cli.problems import print_json, reported_errors
from vnl_envs.cli.score_files import (
    ResultFile,
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
    from vnl_envs.scoring.documents.schema.suite import Suite
    from vnl_envs.scoring.run.plan import Run


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
        from vnl_envs.utils.files import check_writable

        if replays is not None and html is None:
            raise ValueError("--replays needs --html")
        if html is not None:
            check_writable(html, result)
        loaded, of, _ = read_believed(result, suite)
        if html is not None:
            _write_report(html, result.stem, loaded, of, replays)
        if as_json:
            print_json({"ok": True, "exit_code": int(Code.OK)} | reports.record(loaded, of))
        else:
            console.print(reports.summary(loaded, of))
        if html is not None:
            note(f"wrote {html}")


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

    loaded, of, _ = read_believed(result, suite)
    kind, _, name = loaded.entrant.identity.partition(":")
    if bundle is None and kind != "reference":
        raise ValueError("give the bundle of the result")
    candidate = candidate_of(bundle, name if bundle is None else None, loaded.split)
    plan = run_of(candidate, suite or of.name, loaded.split, season_key, 1, None)
    problems = verification.run_problems(loaded, plan)
    if problems:
        raise ScoringError(problems)
    return loaded, plan
