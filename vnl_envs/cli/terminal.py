"""What the commands share: where they print, and how errors look."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from vnl_envs.registry import task_options
from vnl_envs.utils.texts import shown

# A wide table is better cut by the terminal than wrapped where there is none.
console = Console(width=None if sys.stdout.isatty() else 110)

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
TaskOptions = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", metavar="NAME=VALUE", help="a task option, see `vnl-envs info`"),
]


def parse_options(task_id: str, options: list[str] | None) -> dict[str, Any]:
    """NAME=VALUE pairs of a task's options; values are JSON where they parse as such, else text.

    Raises:
        ValueError: one has another form, or the task has none of that name; an unknown id.
    """
    known = task_options(task_id)
    parsed: dict[str, Any] = {}
    for option in options or []:
        name, separator, value = option.partition("=")
        if not separator:
            raise ValueError(f"an option has the form NAME=VALUE, got {option!r}")
        if name not in known:
            raise ValueError(f"{task_id} has no option {name!r}; there are {sorted(known)}")
        try:
            parsed[name] = json.loads(value)
        except json.JSONDecodeError:
            parsed[name] = value
    return parsed


def check_asked(video: Path | None, html: Path | None) -> None:
    """Raise ValueError unless something is to be written."""
    if video is None and html is None:
        raise ValueError("nothing to write: give --video FILE.mp4, --html FILE.html or both")


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """A wrong argument is one clear line and exit code 2, never a traceback."""
    try:
        yield
    except BrokenPipeError:
        # Not ours: the reader of our output went away.
        raise
    except ModuleNotFoundError as error:
        typer.echo(
            f"error: this needs the package {error.name!r}, which is not installed: see "
            "Install in the README",
            err=True,
        )
        raise typer.Exit(2) from None
    except (ValueError, RuntimeError, OSError) as error:
        # It may quote a file of others.
        lines = [shown(line, None) for line in str(error).splitlines()]
        typer.echo("\n".join([f"error: {lines[0] if lines else ''}", *lines[1:]]), err=True)
        raise typer.Exit(2) from None
