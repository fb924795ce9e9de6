"""The built wheel, away from the checkout."""

import email
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

import vnl_envs

ROOT = Path(__file__).parents[2]
PYTHONS = SpecifierSet(
    tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
)
every_python = pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])

STEP_EVERY_ID = """
import gymnasium as gym, numpy as np, sys
import vnl_envs
assert vnl_envs.__file__.startswith(sys.argv[1]), vnl_envs.__file__
for task_id in vnl_envs.task_ids():
    env = gym.make(task_id)
    env.reset(seed=0)
    assert np.isfinite(env.step(env.action_space.sample())[0]).all()
    print(task_id)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_wheel_has_one_import_package_and_the_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"vnl_envs"}
    assert "vnl_envs/py.typed" in names
    for body in ("rodent", "humanoid"):
        assert f"vnl_envs/data/clips/{body}.h5" in names
        assert f"vnl_envs/data/standing/{body}.json" in names
    for suite in ("core-v2", "quick-v2"):
        assert f"vnl_envs/data/suites/{suite}.json" in names
        assert f"vnl_envs/data/anchors/{suite}.json" in names
    for path in (ROOT / "vnl_envs/scoring/board/templates").iterdir():
        assert f"vnl_envs/scoring/board/templates/{path.name}" in names


def test_wheel_has_the_version_of_the_package_and_extras_of_what_it_has(wheel):
    """Needs of a checkout are dependency groups: the baselines, the tests, the tools."""
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_string(archive.read(name).decode())
    assert metadata["Version"] == vnl_envs.__version__
    assert {*metadata.get_all("Provides-Extra")} == {
        "sb3", "jax", "warp", "parallel", "motion", "score", "ray", "neural"
    }  # fmt: skip


@pytest.mark.slow
def test_wheel_makes_and_steps_every_id_outside_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    run = subprocess.run(
        [sys.executable, "-c", STEP_EVERY_ID, str(site)],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.split()) >= 6


def interpreter(version: str) -> str:
    """A Python of a version, or a skip where there is none."""
    siblings = Path(sys.base_prefix).parent.glob(f"{version}.*/bin/python")
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    for python in filter(None, [shutil.which(f"python{version}"), *map(str, siblings)]):
        answer = subprocess.run([python, "-c", ask], capture_output=True, text=True)
        if answer.stdout.strip() == version:
            return python
    pytest.skip(f"no Python {version} here")


@every_python
def test_pip_takes_the_wheel_where_it_can_work(wheel, version, tmp_path):
    """And refuses it elsewhere, in one line that says where."""
    pip = [interpreter(version), "-m", "pip", "install", "--no-index", "--no-deps", "--target"]
    run = subprocess.run([*pip, str(tmp_path), str(wheel)], capture_output=True, text=True)
    if version in PYTHONS:
        assert run.returncode == 0, run.stderr
        compiled = [pip[0], "-m", "compileall", "-q", str(tmp_path)]
        assert subprocess.run(compiled, capture_output=True).returncode == 0
    else:
        assert run.returncode != 0
        assert "requires a different Python" in run.stderr


@every_python
def test_make_knows_the_versions(version):
    """Its condition is that of the package."""
    fits = re.search(r"^FITS := (.*)$", (ROOT / "Makefile").read_text(), re.M)[1]
    assumed = f"import sys; sys.version_info = {(*map(int, version.split('.')), 0)}; {fits}"
    run = subprocess.run([sys.executable, "-c", assumed], capture_output=True)
    assert (run.returncode == 0) == (version in PYTHONS)


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (("python3.12", "python3.11", "python3"), "python3.12"),
        (("python3.11", "python3"), "python3.11"),
        (("python3",), "python3"),
        ((), None),
    ],
)
def test_make_takes_the_first_python_that_works(there, taken, tmp_path):
    """One that is not there, or only says where it could be had, is passed over."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("python3.12", "python3.11", "python3"):
        command = tmp_path / name
        works = f'if [ "$1" = -m ]; then echo {name} "$@"; else exec {sys.executable} "$@"; fi'
        command.write_text("#!/bin/sh\n" + (works if name in there else "exit 127") + "\n")
        command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    # What an outer make says of itself is not for this one.
    for name in ("PYTHON", "MAKEFLAGS", "MAKELEVEL"):
        environment.pop(name, None)
    run = subprocess.run(["make", ".venv/bin/python"], cwd=tmp_path, env=environment,
                         capture_output=True, text=True)  # fmt: skip
    if taken:
        assert (run.returncode, run.stdout.strip()) == (0, f"{taken} -m venv .venv")
    else:
        assert run.returncode != 0
        errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert "Python 3.11 or 3.12" in errors[0]
