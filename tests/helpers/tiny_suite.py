"""A small suite, a run of it and a bundle for it: what tests of scoring share."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from vnl_envs.cli.score import app
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.documents.schema.board import Anchor, Anchors
from vnl_envs.scoring.documents.schema.result import EpisodeResult, Estimate, Result
from vnl_envs.scoring.documents.schema.suite import Suite, SuiteStamp, SuiteTask
from vnl_envs.scoring.results.files import read_result
from vnl_envs.scoring.results.scores import aggregate
from vnl_envs.scoring.run import plan, runner, worker
from vnl_envs.scoring.run.worker import Worker
from vnl_envs.scoring.submission.bundles import pack

GOALS, IMITATION = "vnl/HumanoidGoalReaching-v0", "vnl/RodentImitation-v0"
KILLS = 20
"""How often a run is killed, where one is."""


@pytest.fixture(scope="session")
def suite() -> Suite:
    """Two tasks of two tiers, with five short episodes each."""
    quick = suites.load_suite("quick-v2")
    tasks = [
        task.model_copy(update={
            "tiers": {
                name: [
                    cell.model_copy(update={"episodes": 5})
                    for cell in cells if cell.counted
                ][:1]
                for name, cells in task.tiers.items()
            }
        })
        for task in quick.tasks if task.id in (GOALS, IMITATION)
    ]  # fmt: skip
    return quick.model_copy(update={"name": "tiny-v1", "tasks": tasks})


@pytest.fixture(scope="session")
def anchors(suite: Suite) -> Anchors:
    """Random is worth nothing in them."""
    nothing = Estimate(value=0.0, low=0.0, high=0.0, units=1)
    return Anchors(
        schema_version=1, suite=SuiteStamp(name=suite.name, sha256=suite.sha256), policy="random",
        tasks={
            task.id: Anchor(primary=nothing, tiers=dict.fromkeys(task.tiers, nothing))
            for task in suite.tasks
        },
    )  # fmt: skip


@pytest.fixture
def only_tiny(suite: Suite, anchors: Anchors, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find the small suite, whatever they are asked for."""
    monkeypatch.setattr(suites, "load_suite", lambda name: suite)
    monkeypatch.setattr(suites, "load_anchors", lambda of, source: anchors)


@pytest.fixture(scope="session")
def what(suite: Suite, anchors: Anchors) -> plan.Run:
    """The random policy on it."""
    season = plan.season_of(suite, "dev", None)
    return plan.Run(plan.reference("random"), suite, anchors, season, False, 1)


@pytest.fixture(scope="session")
def finished(what: plan.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed. Not to be changed."""
    out = tmp_path_factory.mktemp("finished")
    runner.run(what, out, print, progress=False)
    return out


@pytest.fixture(scope="session")
def result(finished: Path) -> Result:
    return read_result(finished / runner.RESULT)


class Inline:
    """A pool of one worker in this process."""

    size = 1

    def __init__(self, job: Any) -> None:
        self._worker = Worker(job)

    def ask(self, index: int, request: dict[str, Any]) -> None:
        self._request = json.dumps(request).encode()

    def take(self) -> tuple[int, dict[str, Any]]:
        return 0, json.loads(self._worker.answer(self._request))

    def close(self) -> None:
        self._worker.close()


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without processes of their own, with cells that are compiled once."""
    make_inline(monkeypatch)


def make_inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """See `inline`."""
    monkeypatch.setattr(plan.Run, "pool", lambda self: Inline(self.job))
    monkeypatch.setattr(suites, "make_cell", cached_cell)
    monkeypatch.setattr(worker, "MEASURED_STEPS", 1)


def cached_cell(task_id: str, cell: Any) -> Any:
    """A cell's task, compiled once in a process."""
    return _cell(task_id, json.dumps(cell.options))


@functools.cache
def _cell(task_id: str, options: str) -> Any:
    from vnl_envs.registry import make_task

    return make_task(task_id, **json.loads(options))


def policy_file(observation: int, action: int, *, finite: bool) -> bytes:
    """An ONNX policy that does nothing, or whose every action is 0 / 0."""
    onnx = pytest.importorskip("onnx")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    nothing = helper.make_tensor("w", number, [observation, action], np.zeros(observation * action))
    nodes = [helper.make_node("MatMul", ["obs", "w"], ["action" if finite else "y"])]
    if not finite:
        nodes.append(helper.make_node("Div", ["y", "y"], ["action"]))
    graph = helper.make_graph(
        nodes, "policy",
        [helper.make_tensor_value_info("obs", number, [1, observation])],
        [helper.make_tensor_value_info("action", number, [1, action])],
        [nothing],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def packed(folder: Path, suite: Suite, policy: Callable[[SuiteTask], bytes]) -> Path:
    """A bundle of a policy for each task."""
    entries = []
    for task in suite.tasks:
        name = task.id.replace("/", "-") + ".onnx"
        (folder / name).write_bytes(policy(task))
        entries.append(f'[tasks."{task.id}"]\npolicy = "{name}"\n')
    training = (
        '[training]\nalgorithm = "none"\nenv_steps = 0\nbackend = "none"\nhardware = "none"\n'
        "seeds = [0]\n"
    )
    (folder / "entry.toml").write_text(
        'name = "Half"\nauthors = ["Nobody"]\nlicence = "Apache-2.0"\ndate = 2026-01-01\n'
        f'suite = "quick-v2"\n{training}{"".join(entries)}'
    )
    pack(folder / "entry.toml", folder / "half.zip")
    return folder / "half.zip"


@pytest.fixture(scope="session")
def bundle(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that does nothing in a task, and fails in the other."""

    def policy(task: SuiteTask) -> bytes:
        return policy_file(task.observation, task.action, finite=task.id == GOALS)

    return packed(tmp_path_factory.mktemp("bundle"), suite, policy)


def forged(what: plan.Run, result: Result, ids: Collection[str]) -> Result:
    """A result with some episodes at their ceiling, their metrics and all sums with them."""
    episodes = [_raised(e) if e.id in ids else e for e in result.episodes]
    tasks, overall = aggregate(what.suite, what.anchors, episodes)
    return result.model_copy(update={"episodes": episodes, "tasks": tasks, "overall": overall})


def _raised(episode: EpisodeResult) -> EpisodeResult:
    value = {"goals_reached": 11.0} if GOALS in episode.id else {"return": float(episode.steps)}
    changes = {"end": "truncated", "score": 1.0, "metrics": episode.metrics | value}
    return episode.model_copy(update=changes)


def score(*arguments: Any) -> Any:
    """`vnl-envs score`."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


def silent(line: str) -> None:
    """Say nothing."""
