"""What several test files share: recordings, JAX's switches, the registry, commands."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import click.testing
import gymnasium
import pytest
import typer
import typer.testing

from vnl_envs import registry


def recording(name: str) -> Path:
    """A recording for tests, or a skip where there is none."""
    path = Path(__file__).parents[3] / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"no recording {name} beside the checkout")
    return path


@contextlib.contextmanager
def switched(*, wide: bool = False, debug: bool = False) -> Iterator[None]:
    """JAX with strict promotion for a while, with 64-bit numbers or checks of keys and numbers."""
    import jax

    with (
        jax.numpy_dtype_promotion("strict"),
        jax.enable_x64(wide),
        jax.debug_key_reuse(debug),
        jax.debug_nans(debug),
    ):
        yield


@contextlib.contextmanager
def restored_registry() -> Iterator[None]:
    """Forget what a test registered."""
    tables = (registry._ROWS, registry._BODIES, gymnasium.registry)
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        for table, content in zip(tables, before, strict=True):
            table.clear()
            table.update(content)


def invoke(main: Callable[..., None], *arguments: object) -> click.testing.Result:
    """What a command does with arguments."""
    app = typer.Typer()
    app.command()(main)
    return typer.testing.CliRunner().invoke(app, [str(a) for a in arguments])


def one_line(result: click.testing.Result) -> str:
    """The message of a command that was refused."""
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit), result.exception
    message = str(result.exception.code)
    if "\n" in message or not message.startswith("error: "):
        pytest.fail(f"not one line: {message!r}")
    return message
