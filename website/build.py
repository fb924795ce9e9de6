"""Build the site: `python -m website.build [OUT]`, by default into `site/`."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer
from sphinx.cmd.build import main as sphinx

from leaderboard import make_board, make_submissions
from vnl_envs.problems import ScoringError
from vnl_envs.replays.folder import write_shared
from vnl_envs.scoring.board import replays
from vnl_envs.scoring.board.site import build as build_board
from vnl_envs.scoring.results.files import read_result
from website import gallery, live
from website.checking import broken_links
from website.policy import confine

ROOT = Path(__file__).parents[1]
BOARD, HOME = "leaderboard", "../index.html"
PAGES = "*.md", "docs/**/*.md", "vnl_envs/data/clips/*.md"
# Modules of the API reference. `vnl_envs` is not among them: it imports its names when used.
MODULES = (Path(__file__).parent / "modules.txt").read_text().split()
LIVE_CARD = f"""<div>

<p><a href="{gallery.REPLAYS}/{live.NAME}.html"><strong>Live rat</strong></a></p>

Simulated in your browser: move its goal, push it.

</div>
"""
_TARGET = re.compile(r"\]\(([^)\s]+)\)")


def build(out: Path) -> None:
    """Build the whole site into a new folder that replaces `out`.

    Raises:
        ValueError: pages have problems, or links are broken; the message lists all.
    """
    with tempfile.TemporaryDirectory() as folder:
        sources, pages = Path(folder, "sources"), Path(folder, "site")
        write_shared(pages / gallery.REPLAYS)
        if live.MODULE.exists():
            live.write(pages / gallery.REPLAYS, (HOME, "vnl_envs"))
        policies = {id: gallery.write_replay(id, pages / gallery.REPLAYS) for id in gallery.ids()}
        copy_sources(sources)
        gallery.write_pages(sources / "gallery", policies)
        write_api(sources / "api")
        render(sources, pages)
        record_entries()
        problems = [
            str(problem) for problem in build_board(ROOT / BOARD, pages / BOARD, HOME).problems
        ]
        problems += broken_links(pages)
        if problems:
            raise ValueError("\n".join(problems))
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(pages, out)


def record_entries() -> None:
    """Record replays of the baselines on the board that have none, or those of another result.

    A result of another version cannot be run again; its entry is without, and that is said.
    """
    for name in make_submissions.BASELINES:
        if not _has_replays(name):
            folder = make_board.FOLDER / replays.FOLDER / name
            shutil.rmtree(folder, ignore_errors=True)
            try:
                make_board.replay(make_board.Row(name))
            except ScoringError as error:
                # The bundle is of the policies of now, too.
                (make_submissions.FOLDER / f"{name}.zip").unlink(missing_ok=True)
                print(f"no replays of {name}: {error}", file=sys.stderr)


def _has_replays(name: str) -> bool:
    """Whether the replays of a baseline are there and of its result."""
    try:
        result = read_result(make_board.RESULTS / f"{name}.json")
        return bool(replays.read_replays(make_board.FOLDER, f"{replays.FOLDER}/{name}", result))
    except ScoringError:
        return False


def copy_sources(sources: Path) -> None:
    """Copy the repository's pages and the files that they link to, with the same paths."""
    for pattern in PAGES:
        for page in sorted(ROOT.glob(pattern)):
            text = page.read_text("utf-8")
            _copy(page, sources)
            for target in _TARGET.findall(text):
                path = page.parent / unquote(urlsplit(target).path)
                if not urlsplit(target).scheme and path.is_file() and path.suffix != ".md":
                    _copy(path, sources)
    shutil.copy(ROOT / "website" / "leaderboard.md", sources)
    front = (ROOT / "website" / "index.md").read_text("utf-8")
    card = LIVE_CARD if live.MODULE.exists() else ""
    (sources / "index.md").write_text(front.replace("<!-- live -->\n", card), "utf-8")


def _copy(path: Path, sources: Path) -> None:
    place = sources / path.resolve().relative_to(ROOT)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, place)


def write_api(folder: Path) -> None:
    """Write a page for each module of the reference, and one that lists them."""
    folder.mkdir(parents=True, exist_ok=True)
    for module in MODULES:
        text = f"# {module}\n\n```{{eval-rst}}\n.. automodule:: vnl_envs.{module}\n```\n"
        (folder / f"{module}.md").write_text(text)
    names = "\n".join(MODULES)
    (folder / "index.md").write_text(
        "# API reference\n\nThe public names of each module of `vnl_envs`, from their docstrings. "
        "[The short list](../docs/api.md) has those that most users need.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{names}\n```\n"
    )


def render(sources: Path, pages: Path) -> None:
    """Render the sources as pages with a content security policy.

    Raises:
        ValueError: Sphinx has warnings.
    """
    flags = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(ROOT / "website")]
    with tempfile.TemporaryDirectory() as cache:
        if sphinx([*flags, "-d", cache, str(sources), str(pages)]):
            raise ValueError("the documentation has warnings, see above")
    for page in pages.rglob("*.html"):
        if page.parent != pages / gallery.REPLAYS:
            page.write_text(confine(page.read_text("utf-8")), "utf-8")


def main(out: Annotated[Path, typer.Argument(help="folder of the site")] = ROOT / "site") -> None:
    """Build the site: documentation, gallery and leaderboard."""
    try:
        build(out)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    typer.echo(f"wrote {size / 1e6:.1f} MB: open {out / 'index.html'}")


if __name__ == "__main__":
    typer.run(main)
