"""What stands around the code: the board's files, pages for people, and what a host reads."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from leaderboard import make_readme
from vnl_envs.scoring.documents.schema.board import Board
from vnl_envs.scoring.documents.schema.reading import read

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "leaderboard"
FORMS = ROOT / ".github/ISSUE_TEMPLATE"
MOST_BYTES = 200_000
"""Of an entry of the board: everything in `results/` that bears its name."""


def keys() -> list[str]:
    """The names of the board's entries."""
    rows = read(Board, BOARD / "board.json").entries
    return [row.result.removesuffix(".json") for row in rows]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """`pyproject.toml`."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def load(path: str) -> Any:
    """A YAML file of the repository."""
    return yaml.safe_load((ROOT / path).read_text())


# The board


@pytest.mark.parametrize("key", keys())
def test_an_entry_stays_within_its_size(key):
    files = [*(BOARD / "results").glob(f"{key}.*")]
    assert f"{key}.episodes.json.xz" in {path.name for path in files}
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES


def test_every_result_is_of_an_entry():
    names = {path.name.split(".")[0] for path in (BOARD / "results").iterdir()}
    assert names == {*keys()}


@pytest.mark.parametrize("name", make_readme.PARTS)
def test_the_readme_has_the_tasks_and_the_top_of_the_board(name):
    """As `python -m leaderboard.make_readme` writes them; the board contradicts itself nowhere."""
    readme = make_readme.README.read_text()
    assert make_readme.with_part(readme, name, make_readme.PARTS[name]()) == readme


def test_a_name_in_the_readme_is_no_markdown():
    assert make_readme.plain("a|b [c](d) <e>") == r"a\|b \[c\]\(d\) \<e\>"


def attribute(name: str, path: str) -> str:
    """What `.gitattributes` says of a file."""
    command = ["git", "check-attr", name, "--", path]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if told.returncode:
        pytest.skip(f"git: {told.stderr}")
    return told.stdout.split()[-1]


def test_what_commands_write_is_marked_as_generated():
    written = [
        *(str(path.relative_to(ROOT)) for path in (BOARD / "results").iterdir()),
        *(str(path.relative_to(ROOT)) for path in (BOARD / "schemas").iterdir()),
        "vnl_envs/data/suites/core-v2.json", "tests/tasks/golden/vnl_RodentJumpGap-v0.json",
    ]  # fmt: skip
    assert {attribute("linguist-generated", path) for path in written} == {"set"}
    assert attribute("linguist-generated", "leaderboard/make_board.py") == "unspecified"
    assert attribute("text", "leaderboard/results/ppo.episodes.json.xz") == "unset"


# Pages


def test_no_page_installs_from_an_index():
    """Nothing has been released."""
    places = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.py"),
              *(ROOT / "vnl_envs/data").rglob("*.md")]  # fmt: skip
    for path in places:
        assert not re.search(r"pip install [^\n`]*vnl[_-]envs", path.read_text()), path


def test_pages_install_extras_and_groups_that_there_are(project):
    extras, groups = project["project"]["optional-dependencies"], project["dependency-groups"]
    text = "\n".join(p.read_text() for p in [ROOT / "Makefile", *ROOT.rglob("docs/**/*.md"),
                                             *ROOT.glob("*.md")])  # fmt: skip
    named = {name for found in re.findall(r"-e \.\[([\w,]+)\]", text) for name in found.split(",")}
    assert named <= {*extras}
    assert named >= {"sb3", "jax", "warp", "parallel", "score", "motion", "ray"}
    assert (
        {"baselines", "test", "lint", "docs"} <= {*re.findall(r"--group (\w+)", text)} <= {*groups}
    )


def test_how_to_cite():
    citation = load("CITATION.cff")
    assert citation["license"] == "Apache-2.0"
    title = citation["title"].replace("_", r"\_")
    assert f"title = {{{title}}}" in (ROOT / "README.md").read_text()


# A host


def test_the_workflow_runs_make_on_every_version_of_python(project):
    (job,) = load(".github/workflows/ci.yml")["jobs"].values()
    name = "Programming Language :: Python :: "
    versions = [c.removeprefix(name) for c in project["project"]["classifiers"]
                if re.fullmatch(rf"{name}3\.\d+", c)]  # fmt: skip
    assert job["strategy"]["matrix"]["python"] == versions
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert runs[-2:] == ["make lint", "make test"]


def test_hooks_before_a_commit_are_those_of_make_lint():
    """With its tools, whose versions `constraints.txt` alone has."""
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    commands = [line.strip().replace("$(BIN)/", "") for line in lint.splitlines()]
    (repository,) = load(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    hooks = [hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    assert [h.replace(" --force-exclude", "") for h in hooks] == [
        c.replace(" --check", "").removesuffix(" .") for c in commands
    ]
    pinned = (ROOT / "constraints.txt").read_text()
    assert all(re.search(rf"^{hook.split()[0]}==", pinned, re.M) for hook in hooks)


def test_issue_forms_can_be_shown():
    forms = [path for path in FORMS.glob("*.yml") if path.name != "config.yml"]
    assert {path.stem for path in forms} >= {"bug_report", "leaderboard_submission"}
    for path in forms:
        form = load(path)
        assert form["name"]
        assert form["description"]
        inputs = [item for item in form["body"] if item["type"] != "markdown"]
        ids = [item["id"] for item in inputs]
        assert len(ids) == len({*ids}) > 0
        assert all(item["attributes"]["label"] for item in inputs)


def test_submissions_are_for_the_suites_that_there_are():
    form = load(FORMS / "leaderboard_submission.yml")
    (suite,) = [item for item in form["body"] if item.get("id") == "suite"]
    there = {path.stem for path in (ROOT / "vnl_envs/data/suites").glob("*.json")}
    assert {*suite["attributes"]["options"]} <= there


@pytest.mark.parametrize("script", sorted((ROOT / "assets").glob("*.py")), ids=lambda p: p.stem)
def test_scripts_write_where_packaged_data_are(script: Path) -> None:
    """Each folder that a script of `assets/` names is one of the package's."""
    if "humanoid" in script.stem:
        pytest.importorskip("pybullet_data")
    code = (
        "import importlib, sys; sys.path.insert(0, sys.argv[1]);"
        "made = vars(importlib.import_module(sys.argv[2]));"
        "print(*(made[n] for n in ('FOLDER', 'CLIPS', 'STANDING') if n in made), sep='\\n')"
    )
    arguments = [sys.executable, "-c", code, str(script.parent), script.stem]
    shown = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split()
    assert shown
    assert all(Path(folder).parent == ROOT / "vnl_envs/data" for folder in shown)


def test_modules_of_tests_have_unique_names() -> None:
    """Two modules of one name cannot be imported by pytest."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(set(names)) == len(names), sorted(names)
