"""`vnl-envs data`: public motion and own motion, imported, generated, checked and viewed."""

from __future__ import annotations

import collections
import contextlib
import csv
import dataclasses
import json
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.table import Table
from rich.text import Text
from tqdm.auto import tqdm

from vnl_envs.cli.terminal import AsJson, check_asked, console, one_line_errors
from vnl_envs.utils import checks

if TYPE_CHECKING:
    from vnl_envs.motion.checking.check import ClipReport
    from vnl_envs.motion.clip import Clip
    from vnl_envs.scenes.world import World

app = typer.Typer(
    help="Motion: list, fetch, import, generate, check and view it.", no_args_is_help=True
)

EMBEDDED = ("rodent", "humanoid")
"""Bodies with embedded clips."""
GENERATED = ("rodent",)
"""Bodies whose motion can be generated."""
SUFFIXES = (".h5", ".hdf5")
"""Suffixes of clip files, by which `gym.make(..., clips=...)` recognises them."""
UNKNOWN = "unknown"
VERDICTS = ("ok", "suspicious", "bad")

ClipFile = Annotated[
    str, typer.Argument(metavar="FILE", help="a clip file; or rodent, humanoid: the embedded clips")
]


class SplitKey(StrEnum):
    """Groups of clips that stay together in a training or test set."""

    SESSION = "session"
    SUBJECT = "subject"


@app.command("list")
def list_data(as_json: AsJson = False) -> None:
    """List public data sets and the embedded clips."""
    from vnl_envs.motion.downloads import DATASETS, FOLDER_VARIABLE, data_folder, fetched

    sets = [
        {**dataclasses.asdict(data_set), "path": path and str(path)}
        for name, data_set in DATASETS.items()
        for path in [fetched(name)]
    ]
    clips = [
        {
            "body": body,
            "name": clip.name,
            "label": clip.label,
            "split": clip.split,
            "seconds": _seconds([clip]),
            "licence": clip.licence,
        }
        for body in EMBEDDED
        for clip in _clips(body)[1]
    ]
    if as_json:
        typer.echo(
            json.dumps({"folder": str(data_folder()), "data_sets": sets, "clips": clips}, indent=2)
        )
        return
    table = Table(
        "name",
        "body",
        "size",
        "content",
        "here",
        title="Public data sets",
        title_justify="left",
        show_lines=True,
    )
    for row in sets:
        about = Text(f"{row['content']}\nlicence: {row['licence']}\n{row['home']}", overflow="fold")
        here = "yes" if row["path"] else "no" if row["url"] else "by hand"
        table.add_row(row["name"], row["body"], _size(row["size"]), about, here)
    console.print(table)
    typer.echo(f"cache folder: {data_folder()} ({FOLDER_VARIABLE} names another one)\n")
    table = Table(
        "body", "clip", "label", "split", "seconds", title="Embedded clips", title_justify="left"
    )
    for row in clips:
        texts = (row["body"], row["name"], row["label"], row["split"], f"{row['seconds']:.1f}")
        table.add_row(*(Text(str(text)) for text in texts))
    console.print(table)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a data set, see `data list`")],
) -> None:
    """Download a public data set into the cache folder; an interrupted download resumes."""
    from vnl_envs.motion import downloads

    try:
        with one_line_errors():
            download = downloads.fetch(
                name, progress=True, say=lambda text: typer.echo(text, err=True)
            )
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command resumes", err=True)
        raise typer.Exit(130) from None
    data_set = downloads.DATASETS[name]
    typer.echo(f"{download.path} ({_size(download.path.stat().st_size)})")
    if download.trust == "first":
        typer.echo(f"no checksum was known; this one holds from now on: {download.sha256}")
    typer.echo(f"licence: {data_set.licence}; see {data_set.home}")
    typer.echo(f"next: vnl-envs data import {download.path} --body {data_set.body} --out clips.h5")


@app.command("import")
def import_motion(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="motion files, see docs/motion.md")
    ],
    body: Annotated[str, typer.Option(help="body of the motion: rodent or humanoid")],
    out: Annotated[Path, typer.Option(help="the .h5 clip file to write")],
    format: Annotated[
        str | None,
        typer.Option(
            help="clips, dm_control, stac, amc, session or keypoints [default: by content]"
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="frames per second, if the file has no rate")
    ] = None,
    label: Annotated[str | None, typer.Option(help="behaviour of all clips")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV with the columns clip and label; also subject, session"),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="licence of all clips, such as CC-BY-4.0")
    ] = None,
    split_by: Annotated[
        SplitKey | None, typer.Option(help="hold out whole sessions or subjects for testing")
    ] = None,
    test: Annotated[
        float | None, typer.Option(help="with --split-by: share of the frames [default: 0.2]")
    ] = None,
    seed: Annotated[int, typer.Option(help="with --split-by: seed of the draw")] = 0,
    keep_bad: Annotated[
        bool, typer.Option("--keep-bad", help="also write the clips that the check calls bad")
    ] = False,
) -> None:
    """Write a clip file from motion files, checked and at 50 Hz, for `clips=` of the tasks.

    Clips that the check calls bad are left out, and the exit code is then 1.
    """
    from vnl_envs.motion.checking.check import check_clips
    from vnl_envs.motion.clip import SPLITS, write_clips
    from vnl_envs.motion.readers import read_motion
    from vnl_envs.motion.splits import split_by as split
    from vnl_envs.utils.files import check_writable

    with one_line_errors():
        _clip_file(out)
        if test is not None and split_by is None:
            raise ValueError("--test needs --split-by session or --split-by subject")
        check_writable(out, labels, *files)
        labels_of = _read_labels(labels) if labels else {}
        model = _world(body).body
        start = time.monotonic()
        clips: Sequence[Clip] = []
        with _warnings_in_lines():
            for path in files:
                found = read_motion(
                    path, model, format=format, rate=rate, label=label, licence=licence
                )
                clips = [*clips, *_progress(found, path.name)]
        took = time.monotonic() - start
        read = sum(map(len, clips))
        clips = _labelled(_distinct(clips), labels_of, labels)
        reports = check_clips(clips, model, progress=sys.stderr.isatty())
        bad = [report for report in reports if report.verdict == "bad"]
        if not keep_bad:
            clips = [c for c, report in zip(clips, reports, strict=True) if report not in bad]
        if clips and split_by is not None:
            clips = split(clips, split_by.value, 0.2 if test is None else test, seed)
        if clips:
            write_clips(out, clips, model)
    if any(clip.licence == UNKNOWN for clip in clips):
        typer.echo("warning: licence unknown; give the terms of use with --licence", err=True)
    if clips:
        number = f"{len(clips)} clip{'s' if len(clips) > 1 else ''}"
        typer.echo(
            f"wrote {out}: {number} ({_counts((clip.split for clip in clips), SPLITS)}), "
            f"{_seconds(clips):.1f} s of motion, {read / took:.0f} frames/s; "
            f"check: {_counts((report.verdict for report in reports), VERDICTS)}"
        )
        typer.echo(f"details of the check: vnl-envs data check {out}")
    if bad:
        typer.echo(_about_bad(bad, keep_bad, written=bool(clips)))
        if not keep_bad:
            raise typer.Exit(1)


def _about_bad(bad: Sequence[ClipReport], kept: bool, written: bool) -> str:
    """The last line of an import with clips that the check calls bad."""
    named = "; ".join(f"{report.name!r}: {report.reasons[0]}" for report in bad[:3])
    more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    if kept:
        done = "kept"
    else:
        done = f"left out{'' if written else ', nothing was written'} (--keep-bad keeps them)"
    return f"bad: {len(bad)} {done}: {named}{more}"


@app.command()
def generate(
    body: Annotated[str, typer.Option(help="body of the motion: rodent")],
    count: Annotated[int, typer.Option(help="number of clips")],
    out: Annotated[Path, typer.Option(help="the .h5 clip file to write")],
    seed: Annotated[int, typer.Option(help="seed of the draws")] = 0,
) -> None:
    """Generate training clips with random parameters; all pass the check."""
    from vnl_envs.motion.clip import RATE, write_clips
    from vnl_envs.motion.generate.draw import repertoire
    from vnl_envs.utils.files import check_writable

    # Counts by label.
    made, frames, dropped = (collections.Counter[str]() for _ in range(3))
    with one_line_errors():
        checks.choice("body", body, GENERATED)
        _clip_file(out)
        check_writable(out)
        model = _world(body).body
        clips = repertoire(model, count, seed, dropped)
        start = time.monotonic()

        def counted() -> Iterator[Clip]:
            for clip in tqdm(clips, total=count, unit=" clips", disable=None):
                made[clip.label] += 1
                frames[clip.label] += len(clip)
                yield clip

        write_clips(out, counted(), model)
        took = time.monotonic() - start
    typer.echo(
        f"wrote {out}: {count} clip{'s' * (count > 1)} ({_counts(made.elements(), sorted(made))}), "
        f"{frames.total() / RATE:.1f} s of motion, {took / count:.1f} s per clip; "
        f"the check dropped {dropped.total()}"
    )


@app.command()
def check(
    file: ClipFile,
    html: Annotated[Path | None, typer.Option(help="also write a page with plots")] = None,
    as_json: AsJson = False,
) -> None:
    """Check clips: limits, spikes, ground, sliding, plausibility. Exit code 1 if one is bad."""
    from vnl_envs.motion.checking import report
    from vnl_envs.motion.checking.check import check_clips
    from vnl_envs.utils.files import check_writable, written_whole

    with one_line_errors():
        if html is not None:
            check_writable(html, file)
        world, clips = _clips(file)
        reports = check_clips(clips, world.body, progress=sys.stderr.isatty())
        if html is not None:
            with written_whole(html) as partial:
                partial.write_text(report.page(reports, f"Motion clips: {file}"), "utf-8")
    if as_json:
        typer.echo(json.dumps(report.record(reports), indent=2))
    else:
        console.print(report.summary(reports))
    if html is not None:
        typer.echo(f"wrote {html}", err=as_json)
    if any(r.verdict == "bad" for r in reports):
        raise typer.Exit(1)


@app.command()
def view(
    file: ClipFile,
    video: Annotated[Path | None, typer.Option(help="the .mp4 or .gif to write")] = None,
    html: Annotated[
        Path | None, typer.Option(help="the .html replay to write, for a browser")
    ] = None,
    clip: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="only these clips; may be repeated")
    ] = None,
    seconds: Annotated[float, typer.Option(help="greatest length of each clip, s")] = 5.0,
    width: Annotated[int, typer.Option(help="width of the video, pixels")] = 480,
    height: Annotated[int, typer.Option(help="height of the video, pixels")] = 368,
) -> None:
    """Write a video or a replay of clips, one after the other, without physics."""
    from vnl_envs.motion.clip import select_clips
    from vnl_envs.rendering.video import write_clips_video
    from vnl_envs.replays.clips import write_clips_page

    with one_line_errors():
        check_asked(video, html)
        world, clips = _clips(file)
        clips = select_clips(clips, clip, "all")
        if video:
            write_clips_video(world, clips, video, seconds, (width, height))
        if html:
            write_clips_page(world, clips, html, seconds, Path(file).name)
    start = 0.0
    for viewed in clips:
        typer.echo(f"{start:7.1f} s  {viewed.name}")
        start += min(_seconds([viewed]), seconds)
    for written in filter(None, (video, html)):
        typer.echo(f"wrote {written}")


def _clip_file(path: Path) -> None:
    """Raise ValueError unless the name is that of a clip file."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"a clip file's name ends in one of {SUFFIXES}, got {path.name!r}")


def _world(body: str) -> World:
    from vnl_envs.registry import get_body
    from vnl_envs.scenes.floor import Floor
    from vnl_envs.scenes.world import build_world

    return build_world(Floor(), [get_body(body)])


def _clips(file: str) -> tuple[World, tuple[Clip, ...]]:
    """The clips of a file, or the embedded ones of a body, and a world with their body."""
    from vnl_envs.motion.clip import body_of
    from vnl_envs.motion.datasets import load_clips

    if file in EMBEDDED:
        world = _world(file)
        return world, load_clips(world.body)
    world = _world(body_of(file))
    return world, load_clips(world.body, Path(file))


@contextlib.contextmanager
def _warnings_in_lines() -> Iterator[None]:
    """Print the readers' warnings, one line each."""
    from vnl_envs.motion.errors import MotionWarning

    with warnings.catch_warnings():
        show_other = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, MotionWarning):
                typer.echo(f"warning: {message}", err=True)
            else:
                show_other(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        warnings.simplefilter("always", MotionWarning)
        yield


def _progress(clips: Iterator[Clip], name: str) -> Iterator[Clip]:
    yield from tqdm(clips, desc=name, unit=" clips", disable=None)


def _distinct(clips: Sequence[Clip]) -> list[Clip]:
    """Clips with distinct names: duplicate names get the session as a prefix."""
    counts = collections.Counter(clip.name for clip in clips)
    return [
        dataclasses.replace(clip, name=f"{clip.session}_{clip.name}")
        if counts[clip.name] > 1 and clip.session
        else clip
        for clip in clips
    ]


_COLUMNS = ("label", "subject", "session")


def _read_labels(path: Path) -> dict[str, dict[str, Any]]:
    """Read a table of labels: name of each clip -> its values by column.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the table is malformed; the message names file and line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file of labels {str(path)!r}")
    labels_of: dict[str, dict[str, Any]] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            columns = set(rows.fieldnames or ())
            unknown = columns - {"clip", *_COLUMNS}
            if "clip" not in columns or len(columns) < 2 or unknown:
                raise ValueError(
                    f"the first line must have the columns clip, and label, subject or session; "
                    f"got {rows.fieldnames}"
                )
            for row in rows:
                name = row.pop("clip")
                if None in row or None in row.values():
                    raise ValueError(f"line {rows.line_num} must have {len(columns)} columns")
                if name in labels_of:
                    raise ValueError(f"line {rows.line_num} repeats the clip {name!r}")
                labels_of[name] = {key: text.strip() for key, text in row.items() if text.strip()}
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}: {error}") from None
    return labels_of


def _labelled(
    clips: Sequence[Clip], labels_of: dict[str, dict[str, Any]], path: Path | None
) -> list[Clip]:
    """Clips with the values of a table of labels.

    Raises:
        ValueError: the table has clips that do not exist.
    """
    missing = sorted(set(labels_of) - {clip.name for clip in clips})
    if missing:
        raise ValueError(
            f"{path}: no clips named {checks.listed(missing)}; "
            f"there are {checks.listed(clip.name for clip in clips)}"
        )
    return [dataclasses.replace(clip, **labels_of.get(clip.name, {})) for clip in clips]


def _counts(values: Iterable[str], order: Sequence[str]) -> str:
    """Numbers of values as text, such as "3 ok, 1 bad"."""
    counts = collections.Counter(values)
    return ", ".join(f"{counts[value]} {value}" for value in order if counts[value])


def _seconds(clips: Sequence[Clip]) -> float:
    from vnl_envs.motion.clip import RATE

    return sum(map(len, clips)) / RATE


def _size(size: int | None) -> str:
    if size is None:
        return "?"
    return f"{size / 1e9:.0f} GB" if size >= 1e10 else f"{size / 1e6:.1f} MB"
