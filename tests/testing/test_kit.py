"""The conformance kit: as a lab uses it, what it finds, and that nothing else needs pytest."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import restored_registry

import vnl_envs
from vnl_envs import registry
from vnl_envs.tasks.goal_reaching import GoalReaching
from vnl_envs.tasks.metrics import Metric
from vnl_envs.testing import BodyContract, TaskContract
from vnl_envs.testing.simulations import turned

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
RAT = "vnl/RodentGoalReaching-v0"


def block(page: str) -> str:
    """The first code of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)[0]


def test_a_lab_tests_its_own_animal(tmp_path: Path) -> None:
    """In its own folder, with the code of the pages."""
    (tmp_path / "mylab.py").write_text(block("own_body.md"))
    (tmp_path / "test_mylab.py").write_text(block("testing.md"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mylab.py"]
    run = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    passed = re.search(r"(\d+) passed in", run.stdout)
    assert passed
    assert int(passed[1]) >= 30


def python(code: str) -> str:
    """What code prints."""
    run = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True,
                         text=True)  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_only_the_kit_imports_pytest() -> None:
    """Environments work without it, and the kit says in one line what it needs."""
    printed = python(f"""
import sys
sys.modules["pytest"] = None
import gymnasium, vnl_envs
gymnasium.make({RAT!r}).reset()
try:
    import vnl_envs.testing
except ImportError as error:
    print(error)
""")
    assert printed == "vnl_envs.testing needs pytest: pip install pytest"


# What it finds


class Doubled(GoalReaching):
    """Its reward exceeds 1."""

    def evaluate(self, *arguments: Any) -> Any:
        carry, outcome = super().evaluate(*arguments)
        return carry, outcome._replace(reward=2 + outcome.reward)


class Drawn(GoalReaching):
    """It draws numbers that no episode holds."""

    def observe_task(self, *arguments: Any) -> dict[str, Any]:
        seen = super().observe_task(*arguments)
        return {**seen, "goal_lag": seen["goal_lag"] + np.random.random()}  # noqa: NPY002


class Compass(GoalReaching):
    """It observes the goal in the world's frame."""

    def observe_task(self, physics: Any, own: Any, episode: Any, carry: Any) -> dict[str, Any]:
        seen = super().observe_task(physics, own, episode, carry)
        return {**seen, "goal_position": carry["target"] - physics.qpos[..., :2]}


class Misdeclared(GoalReaching):
    """A metric leaves the range that is declared."""

    metrics = (Metric("fallen", "1", "last", "lower", (2.0, 3.0)),)


class Endless(GoalReaching):
    """Time never truncates."""

    def evaluate(self, *arguments: Any) -> Any:
        carry, outcome = super().evaluate(*arguments)
        return carry, outcome._replace(truncated=outcome.truncated & False)


class Fallen(GoalReaching):
    """Its starts are terminated."""

    def evaluate(self, *arguments: Any) -> Any:
        carry, outcome = super().evaluate(*arguments)
        return carry, outcome._replace(terminated=outcome.terminated | True)


class Checks(TaskContract):
    """The contract, where goals move with the world."""

    def move_world(self, task: Any, episode: Any, carry: Any, shift: Any, yaw: float) -> Any:
        there = {**carry, "target": turned(carry["target"], yaw) + shift}
        return task, {**episode, "goals": turned(episode["goals"], yaw) + shift}, there


FOUND: dict[type[GoalReaching], Callable[[Checks, str], None]] = {
    Doubled: Checks.test_ranges,
    Drawn: Checks.test_set_state_continues_bit_for_bit,
    Compass: Checks.test_nothing_observed_depends_on_the_world_frame,
    Misdeclared: Checks.test_metrics_are_declared,
    Endless: Checks.test_horizon_truncates,
    Fallen: Checks.test_starts_are_sound,
}


@pytest.fixture
def _restored() -> Iterator[None]:
    with restored_registry():
        yield


@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize("task", FOUND, ids=lambda task: task.__name__)
def test_a_faulty_task_fails(task: type[GoalReaching]) -> None:
    """In the test of what is wrong with it; the sound one passes that."""
    task_id = f"test/{task.__name__}-v0"
    vnl_envs.register_task(task_id, "rodent", task, **registry.task_settings(RAT))
    FOUND[task](Checks(), RAT)
    with pytest.raises(AssertionError):
        FOUND[task](Checks(), task_id)


@pytest.mark.usefixtures("_restored")
def test_a_body_that_reaches_too_far_fails() -> None:
    """Its geoms are named."""
    body = dataclasses.replace(registry.get_body("rodent"), name="short", reach=0.05)
    vnl_envs.register_body(body)
    settings = registry.task_settings(RAT)
    vnl_envs.register_task("test/Short-v0", "short", GoalReaching, **settings)
    with pytest.raises(AssertionError, match="short/"):
        BodyContract().test_reach_covers_every_colliding_geom("short", "fast")
