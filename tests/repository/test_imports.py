"""Imports go downwards, as `pyproject.toml` lists the layers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Import-linter on the package of a folder."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--no-cache", "--config", "pyproject.toml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the package and its settings."""
    shutil.copytree(ROOT / "vnl_envs", tmp_path / "vnl_envs", ignore=shutil.ignore_patterns("*.h5"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_go_downwards(copied: Path) -> None:
    """They do, and one upwards is found."""
    assert (found := lint(copied)).returncode == 0, found.stdout
    task = copied / "vnl_envs/tasks/task.py"
    task.write_text(task.read_text() + "\nfrom vnl_envs.envs import core\n")
    found = lint(copied)
    assert found.returncode == 1
    assert "vnl_envs.tasks is not allowed to import vnl_envs.envs" in found.stdout
