"""What stands around the code: files of the board, versions, and what a host reads."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vnl_envs.scoring.documents.schema import Board, read

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "leaderboard"
MOST_BYTES = 200_000
"""Of an entry of the board: everything in `results/` that bears its name."""


def keys() -> list[str]:
    """The names of the board's entries."""
    rows = read(Board, BOARD / "board.json").entries
    return [row.result.removesuffix(".json") for row in rows]


@pytest.mark.parametrize("key", keys())
def test_an_entry_stays_within_its_size(key):
    files = [*(BOARD / "results").glob(f"{key}.*")]
    assert f"{key}.episodes.json.xz" in {path.name for path in files}
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES


def test_every_result_is_of_an_entry():
    names = {path.name.split(".")[0] for path in (BOARD / "results").iterdir()}
    assert names == {*keys()}


def attribute(name: str, path: str) -> str:
    """What `.gitattributes` says of a file."""
    command = ["git", "check-attr", name, "--", path]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if told.returncode:
        pytest.skip(f"git: {told.stderr}")
    return told.stdout.split()[-1]


def test_what_commands_write_is_marked_as_generated():
    written = [
        *(path.relative_to(ROOT) for path in (BOARD / "results").iterdir()),
        *(path.relative_to(ROOT) for path in (BOARD / "schemas").iterdir()),
        "vnl_envs/data/suites/core-v1.json", "tests/tasks/golden/vnl_RodentJumpGap-v0.json",
    ]  # fmt: skip
    assert {attribute("linguist-generated", str(path)) for path in written} == {"set"}
    assert attribute("linguist-generated", "leaderboard/make_board.py") == "unspecified"
    assert attribute("text", "leaderboard/results/ppo.episodes.json.xz") == "unset"
