"""`vnl-envs neural`: a policy's network compared with neurons of the animal that it imitates."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vnl_envs.cli.terminal import AsJson, console, one_line_errors

if TYPE_CHECKING:
    from vnl_envs.bodies.model import BodyModel

app = typer.Typer(
    help="Neurons: import a session, record a network along it, compare, report.",
    no_args_is_help=True,
)

SessionFile = Annotated[
    Path, typer.Argument(metavar="SESSION", help="a session, see `vnl-envs neural import`")
]


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Print errors as one line, and after an interruption how to resume."""
    try:
        with one_line_errors():
            yield
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command resumes", err=True)
        raise typer.Exit(130) from None


@app.command("import")
def import_recording(
    recording: Annotated[
        Path, typer.Argument(metavar="RECORDING", help="a session of Aldarondo et al., or NWB")
    ],
    out: Annotated[Path, typer.Option(help="the .h5 session file to write")],
    body: Annotated[str, typer.Option(help="body of the motion")] = "rodent",
    region: Annotated[
        str, typer.Option(help="region of units for which the recording has none")
    ] = "",
    subject: Annotated[str, typer.Option(help="name of the animal")] = "",
    licence: Annotated[str, typer.Option(help="licence, such as ODC-By-1.0")] = "unknown",
    start: Annotated[float, typer.Option(min=0, help="where the imported part begins, s")] = 0.0,
    stop: Annotated[float | None, typer.Option(help="where it ends, s [default: the end]")] = None,
    clips: Annotated[
        Path | None, typer.Option(help="also write the motion as a clip file, for training")
    ] = None,
) -> None:
    """Write a session file from a recording: spikes, poses, keypoints, labels, clips, at 50 Hz."""
    from vnl_envs.neural.importing import import_session, write_session_clips
    from vnl_envs.utils.files import check_writable

    with _one_line():
        model = _body(body)
        if clips is not None:
            check_writable(clips, recording, out)
        found = import_session(
            recording,
            out,
            model,
            region=region,
            subject=subject,
            licence=licence,
            start=start,
            stop=stop,
            progress=True,
        )
        if clips is not None:
            write_session_clips(out, clips, model)
    if found.resumed:
        typer.echo(f"resumed at frame {found.resumed}")
    typer.echo(
        f"wrote {out}: {found.frames} frames ({found.frames / 50 / 60:.1f} min), {found.units} "
        f"units, {found.spikes} spikes, {found.clips} clips"
        + (", poses fitted to keypoints" if found.fitted else "")
        + (f"; {found.without_pose} frames without a pose" if found.without_pose else "")
    )
    if clips is not None:
        typer.echo(f"wrote {clips}")
    typer.echo(f"next: vnl-envs neural record {out} --policy policy.onnx --out activity.h5")


@app.command()
def record(
    session: SessionFile,
    policy: Annotated[
        list[str], typer.Option(metavar="[NAME=]FILE", help="an .onnx policy; may be repeated")
    ],
    out: Annotated[Path, typer.Option(help="the .h5 activity file to write")],
    units: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="layers, such as 'encoder/*' [default: all]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="seed of the untrained network's weights")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 1,
) -> None:
    """Run policies along the session's clips and write their units' activity at every frame."""
    from vnl_envs.neural.record import record as run

    with _one_line():
        named = _named(policy)
        shares = run(session, named, out, units or ("*",), seed, workers, progress=True)
    for name, share in shares.items():
        typer.echo(f"{name}: upright in {share:.1%} of the frames")
    typer.echo(f"wrote {out}")
    typer.echo(f"next: vnl-envs neural compare {session} {out} --out comparison.json")


@app.command()
def compare(
    session: SessionFile,
    activity: Annotated[
        list[Path], typer.Argument(metavar="ACTIVITY...", help="see `vnl-envs neural record`")
    ],
    out: Annotated[Path, typer.Option(help="the .json file to write")],
    labels: Annotated[
        bool, typer.Option("--labels", help="also predict the recorded behaviours")
    ] = False,
    bin: Annotated[int, typer.Option(min=1, help="width of a bin, frames")] = 5,
    block: Annotated[float, typer.Option(help="length of a block, s")] = 60.0,
    gap: Annotated[float, typer.Option(help="length of the gap around held-out blocks, s")] = 2.0,
    folds: Annotated[int, typer.Option(min=2, help="folds of the cross-validation")] = 5,
    lag: Annotated[
        list[int] | None,
        typer.Option(help="bins from the neurons to the features [default: -2, 0, 2]"),
    ] = None,
    components: Annotated[
        int, typer.Option(min=1, help="principal components of every feature set")
    ] = 16,
    seed: Annotated[int, typer.Option(help="seed of time shifts and resamples")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 1,
) -> None:
    """Predict the neurons from every feature set, in held-out blocks; also compare geometries."""
    from vnl_envs.neural.compare import Settings
    from vnl_envs.neural.compare import compare as run

    with _one_line():
        lags = tuple(sorted(set(lag))) if lag else Settings.lags
        settings = Settings(bin, block, gap, folds, lags, components, labels, seed)
        found = run(session, activity, out, settings, workers, progress=True)
    typer.echo(
        f"wrote {out}: {len(found['units'])} units, {len(found['sets'])} feature sets, "
        f"{found['usable']:.1%} of the session used"
    )
    typer.echo(f"next: vnl-envs neural report {out} --html report.html")


@app.command()
def report(
    comparisons: Annotated[
        list[Path],
        typer.Argument(metavar="COMPARISON...", help="one for each session, see `neural compare`"),
    ],
    html: Annotated[Path | None, typer.Option(help="also write a page with charts")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how well each feature set predicts each region, with intervals."""
    from vnl_envs.neural.report import page, read, summarise, tables
    from vnl_envs.utils.files import check_writable, written_whole

    with _one_line():
        if html is not None:
            check_writable(html, *comparisons)
        summary = summarise(read(comparisons))
        if html is not None:
            title = ", ".join(s["session"]["session"] for s in summary["sessions"])
            with written_whole(html) as partial:
                partial.write_text(page(summary, f"Neurons and networks: {title}"), "utf-8")
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        console.print(tables(summary))
    if html is not None:
        typer.echo(f"wrote {html}", err=as_json)


def _named(given: list[str]) -> dict[str, Path]:
    """Policies by name, from texts [NAME=]FILE. The default name is the file's.

    Raises:
        ValueError: a name occurs twice, is empty or has a "/".
    """
    found: dict[str, Path] = {}
    for text in given:
        name, separator, file = text.partition("=")
        path = Path(file if separator else text)
        name = name if separator else path.stem
        if name in found or not name or "/" in name:
            raise ValueError(
                f"--policy needs names that differ and have no '/', got {name!r} again"
            )
        found[name] = path
    return found


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a session or an activity file")],
    out: Annotated[Path, typer.Option(help="the .nwb file to write")],
) -> None:
    """Write a session or an activity file as NWB."""
    from vnl_envs.neural import activity
    from vnl_envs.neural.nwb import write_activity_nwb, write_nwb
    from vnl_envs.neural.session import opened_session
    from vnl_envs.utils.files import check_writable

    with _one_line():
        if out.suffix != ".nwb":
            raise ValueError(f"an NWB file's name ends in .nwb, got {out.name!r}")
        check_writable(out, file)
        if activity.is_activity(file):
            with activity.opened_activity(file) as found:
                write_activity_nwb(out, file.stem, found.tables())
        else:
            with opened_session(file) as session:
                write_nwb(out, session)
    typer.echo(f"wrote {out}")


def _body(name: str) -> BodyModel:
    from vnl_envs.registry import get_body
    from vnl_envs.scenes.floor import Floor
    from vnl_envs.scenes.world import build_world

    return build_world(Floor(), [get_body(name)]).body
