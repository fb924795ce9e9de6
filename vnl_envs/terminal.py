"""What the commands share: where they print, and how errors look."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console

# A wide table is better cut by the terminal than wrapped where there is none.
console = Console(width=None if sys.stdout.isatty() else 110)

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


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
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
