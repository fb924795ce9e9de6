"""The built wheel, away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

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
        assert f"vnl_envs/assets/clips/{body}.h5" in names
        assert f"vnl_envs/assets/standing/{body}.json" in names
    for suite in ("core-v1", "quick-v1"):
        assert f"vnl_envs/leaderboard/suites/{suite}.json" in names
        assert f"vnl_envs/leaderboard/anchors/{suite}.json" in names
    for path in (ROOT / "vnl_envs/scoring/templates").iterdir():
        assert f"vnl_envs/scoring/templates/{path.name}" in names


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
