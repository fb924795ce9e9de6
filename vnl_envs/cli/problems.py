"""Problems of commands that programs read too: lines of text or one JSON object, and exit codes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import typer
from typer.core import TyperGroup

from vnl_envs.problems import Code, Problem, ScoringError
from vnl_envs.utils.texts import shown

DEBUG = "VNL_ENVS_DEBUG"
"""Environment variable that makes internal errors print their traceback."""
_ARGUMENT = 2
_MOST_LINES = 50
# `UsageError`, which Typer does not export.
_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
_JSON = "--json"


class Group(TyperGroup):
    """Commands that with --json also report wrong arguments as JSON."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `TyperGroup`."""
        ctx.meta[_JSON] = _JSON in args
        with _reported_usage(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """See `TyperGroup`."""
        with _reported_usage(ctx):
            return super().invoke(ctx)


@contextlib.contextmanager
def _reported_usage(ctx: Any) -> Iterator[None]:
    """With --json, report wrong arguments like other problems."""
    try:
        yield
    except _USAGE_ERROR as error:
        if not ctx.meta[_JSON]:
            raise
        message = _one_line(error.format_message())
        raise _reported([("argument", "", message)], _ARGUMENT, as_json=True) from None


@contextlib.contextmanager
def reported_errors(as_json: bool = False) -> Iterator[dict[str, Any]]:
    """Report problems as lines on the standard error, or as one JSON object, and exit.

    The exit code is 2 for a wrong argument, and `Code.INTERNAL` for an internal error.

    Yields:
        A dictionary for further values in the JSON object of a `ScoringError`.
    """
    known: dict[str, Any] = {}
    try:
        yield known
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except ScoringError as error:
        rows = [(p.code.slug, p.where, p.message) for p in error.problems]
        raise _reported(rows, error.code, as_json, known) from None
    except ModuleNotFoundError as error:
        message = f"the package {error.name!r} is required and not installed: see the README"
        raise _reported([("argument", "install", message)], _ARGUMENT, as_json) from None
    except OSError as error:
        raise _reported([("argument", *_of_file(error))], _ARGUMENT, as_json) from None
    except ValueError as error:
        raise _reported([("argument", "", _one_line(error))], _ARGUMENT, as_json) from None
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        message = f"{type(error).__name__}: {_one_line(error)} ({DEBUG}=1 prints the traceback)"
        raise _reported([(Code.INTERNAL.slug, "", message)], Code.INTERNAL, as_json) from None


def _reported(
    rows: list[tuple[str, str, str]], exit_code: int, as_json: bool, known: Mapping[str, Any] = {}
) -> typer.Exit:
    """Print problems (code, where, message); return the exit to raise."""
    if as_json:
        problems = [dict(zip(Problem._fields, row, strict=True)) for row in rows]
        print_json({"ok": False, "exit_code": int(exit_code), "problems": problems, **known})
    else:
        for code, where, message in rows[:_MOST_LINES]:
            where, message = shown(where, 300), shown(message, 500)
            typer.echo(f"error[{code}] {where}{': ' if where else ''}{message}", err=True)
        if len(rows) > _MOST_LINES:
            typer.echo(f"and {len(rows) - _MOST_LINES} more; --json prints all", err=True)
    return typer.Exit(int(exit_code))


def _one_line(error: Exception | str) -> str:
    return " ".join(str(error).split())[:500]


def _of_file(error: OSError) -> tuple[str, str]:
    """The file of an error, "" if unknown, and the message."""
    if error.filename is None or error.strerror is None:
        return "", _one_line(error)
    return str(error.filename), error.strerror[:1].lower() + error.strerror[1:]


def print_json(value: dict[str, Any]) -> None:
    """Print an object for programs."""
    typer.echo(json.dumps(value, indent=2))
