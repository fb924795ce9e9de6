"""The common parts of the commands: console, options and errors."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from vnl_envs.registry import check_options
from vnl_envs.utils.texts import shown

# Without a terminal tables are 110 columns wide.
console = Console(width=None if sys.stdout.isatty() else 110)

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
TaskOptions = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", metavar="NAME=VALUE", help="a task option, see `vnl-envs info`"),
]


def parse_options(task_id: str, options: list[str] | None) -> dict[str, Any]:
    """Parse NAME=VALUE pairs of a task's options. Values are JSON if they parse as such, else text.

    Raises:
        ValueError: a pair has another form, or the option or the task id is unknown.
    """
    parsed: dict[str, Any] = {}
    for option in options or []:
        name, separator, value = option.partition("=")
        if not separator:
            raise ValueError(f"an option has the form NAME=VALUE, got {option!r}")
        try:
            parsed[name] = json.loads(value)
        except json.JSONDecodeError:
            parsed[name] = value
    check_options(task_id, parsed)
    return parsed


def check_asked(video: Path | None, html: Path | None) -> None:
    """Raise ValueError if neither a video nor a page is to be written."""
    if video is None and html is None:
        raise ValueError("nothing to write: give --video FILE.mp4, --html FILE.html or both")


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Print errors as one line, without a traceback, and exit with code 2."""
    try:
        yield
    except BrokenPipeError:
        # The reader of the output has closed it; `main` handles this.
        raise
    except ModuleNotFoundError as error:
        typer.echo(
            f"error: the package {error.name!r} is required and not installed: see "
            "Install in the README",
            err=True,
        )
        raise typer.Exit(2) from None
    except (ValueError, RuntimeError, OSError) as error:
        # The message can quote an untrusted file.
        lines = [shown(line, None) for line in str(error).splitlines()]
        typer.echo("\n".join([f"error: {lines[0] if lines else ''}", *lines[1:]]), err=True)
        raise typer.Exit(2) from None
