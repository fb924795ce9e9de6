"""The code on the pages runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/own_body.md",
    "docs/engines.md",
    "docs/perturbations.md",
    "docs/tasks/goal_race.md",
)


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)


@pytest.mark.parametrize(
    ("page", "index"), [(page, i) for page in PAGES for i in range(len(blocks(page)))]
)
def test_code_block_runs(page, index):
    # Long training is shortened; everything else is run as it stands.
    code = blocks(page)[index].replace("learn(100_000)", "learn(2_048)")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_every_relative_link_leads_somewhere():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "assets").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page}: {target}"


def test_readme_names_every_task_with_its_sizes():
    import gymnasium as gym

    import vnl_envs

    text = (ROOT / "README.md").read_text()
    for task_id in vnl_envs.task_ids():
        if not task_id.startswith("vnl/"):
            continue
        env = gym.make(task_id)
        sizes = f"| {env.observation_space.shape[0]} | {env.action_space.shape[0]} |"
        row = next(line for line in text.splitlines() if line.startswith(f"| `{task_id}`"))
        assert row.endswith(sizes), f"{row} should end in {sizes}"
