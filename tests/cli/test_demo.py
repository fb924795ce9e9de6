"""What a newcomer sees first."""

import pytest
from typer.testing import CliRunner

from vnl_envs.cli import demo
from vnl_envs.cli.main import app

pytest.importorskip("onnxruntime")


def test_demo_shows_policies_that_have_learnt(tmp_path, monkeypatch, gl):
    for length in ("SECONDS", "VIDEO_SECONDS"):
        monkeypatch.setattr(demo, length, 0.2)
    monkeypatch.setattr(demo, "EPISODES", 2)
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    for shown in demo.POLICIES:
        assert (tmp_path / f"{shown.name}.mp4").stat().st_size
        assert any(str(tmp_path / f"{shown.name}.html") in line for line in lines[-2:])
        # Returns stand in the third column.
        rows = [line.split("│")[2:4] for line in lines if shown.task_id in line and "│" in line]
        returns = {name.strip(): float(text.split()[0]) for name, text in rows}
        assert returns["trained"] > 3 * returns[shown.untrained]
