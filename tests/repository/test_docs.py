"""The code on the pages runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import recording
from tiny_suite import policy_file

ROOT = Path(__file__).parents[2]
# The package may be imported from the checkout without being installed.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
PAGES = (
    "README.md",
    "docs/own_body.md",
    "docs/engines.md",
    "docs/motion.md",
    "docs/perturbations.md",
    "docs/tasks/goal_race.md",
)


OTHERS = "docs/other_libraries.md"


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)


def run_block(code: str, folder: Path) -> subprocess.CompletedProcess:
    # Long training is shortened; everything else is run as it stands.
    code = code.replace("100_000", "2_048")
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder,
                          env={**ENVIRONMENT, "MINARI_DATASETS_PATH": str(folder)})  # fmt: skip


@pytest.mark.parametrize(
    ("page", "index"), [(page, i) for page in PAGES for i in range(len(blocks(page)))]
)
def test_code_block_runs(page, index, tmp_path):
    run = run_block(blocks(page)[index], tmp_path)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("index", range(len(blocks(OTHERS))))
def test_code_block_with_another_library_runs(index, tmp_path):
    code = blocks(OTHERS)[index]
    run = run_block(code, tmp_path)
    # A library, or what it needs for this, is missing: not we.
    failed = re.search(r'File "<string>", line (\d+), in <module>', run.stderr)
    if failed and run.stderr.splitlines()[-1].startswith(("ImportError", "ModuleNotFoundError")):
        line = code.splitlines()[int(failed[1]) - 1]
        if line.startswith(("import ", "from ")) and "vnl_envs" not in line:
            pytest.skip(f"{line!r}: {run.stderr.splitlines()[-1]}")
    assert run.returncode == 0, run.stderr


def test_commands_for_own_motion(tmp_path):
    """In the order of the page, on two recordings and with the page's own table of labels."""
    text = (ROOT / "docs/motion.md").read_text()
    for name in ("monday.h5", "tuesday.h5"):
        shutil.copy(recording("rat_stac_fit_50_frames.h5"), tmp_path / name)
    (tmp_path / "policy.onnx").write_bytes(policy_file(851, 38, finite=True))
    (tmp_path / "labels.csv").write_text(re.search(r"```csv\n(.*?)```", text, re.S)[1])
    commands = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S)
                for line in block.splitlines()]  # fmt: skip
    assert len(commands) == 6
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "vnl-envs"
        run = subprocess.run([sys.executable, "-m", "vnl_envs", *arguments], capture_output=True,
                             text=True, cwd=tmp_path, env=ENVIRONMENT)  # fmt: skip
        assert run.returncode == 0, run.stderr
        assert "evaluate" not in arguments or "groom, 20 episodes" in run.stdout


def test_every_relative_link_leads_somewhere():
    folders = ROOT / "docs", ROOT / "vnl_envs"
    for page in [*ROOT.glob("*.md"), *(page for f in folders for page in f.rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page}: {target}"
