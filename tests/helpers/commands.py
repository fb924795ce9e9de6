"""`vnl-envs data` in this process, and what it printed."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner

from vnl_envs.cli.main import app


def run(*arguments: Any) -> Any:
    """The command line in this process."""
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def told(result: Any) -> str:
    """What a command said, of which none may be a traceback."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def one_line(result: Any) -> str:
    """The one line that an error is."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if "|" not in line]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]
