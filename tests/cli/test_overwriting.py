"""No command writes over what it reads, or twice to one file."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from vnl_envs.cli.main import app

# The place of the file is marked by *.
COMMANDS = (
    "neural import * --out *",
    "neural import other.h5 --out * --clips *",
    "neural record * --policy p.onnx --out *",
    "neural record s.h5 --policy p=* --out *",
    "neural compare s.h5 * --out *",
    "neural compare * a.h5 --out *",
    "neural report * --html *",
    "data import * --body rodent --out *",
    "data import other.amc * --body humanoid --out *",
    "data check * --html *",
    "rollout vnl/RodentGoalReaching-v0 --policy * --out *",
    "score pack * --out *",
    "score report * --html *",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_is_no_input(command: str, tmp_path: Path) -> None:
    file = tmp_path / ("mine.onnx" if "rollout" in command else "mine.h5")
    file.write_bytes(b"precious")
    # The same file under two names.
    again = tmp_path / "." / ".." / tmp_path.name / file.name
    head, _, tail = command.rpartition("*")
    arguments = f"{head.replace('*', str(file))}{again}{tail}".split()
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code not in (0, 70), result.output
    shown = " ".join(result.stderr.split())
    assert "has two uses: give the output a name of its own" in shown
    assert file.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [file]
