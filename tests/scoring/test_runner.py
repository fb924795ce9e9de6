"""Runs of a suite: the same result whatever happens to them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tiny_suite import GOALS, KILLS, cached_cell, make_inline, packed, score, silent

from vnl_envs.problems import Code
from vnl_envs.sandbox import launch
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.documents.schema.board import Anchors
from vnl_envs.scoring.documents.schema.result import Result
from vnl_envs.scoring.documents.schema.suite import Suite, SuiteTask
from vnl_envs.scoring.results.files import read_result
from vnl_envs.scoring.run import plan, runner, verification, worker
from vnl_envs.scoring.run.journal import NAME
from vnl_envs.scoring.run.pools import Processes, answers
from vnl_envs.scoring.run.worker import Worker

pytest_plugins = ["tiny_suite"]


def started_run(what: plan.Run, out: Path) -> Any:
    """A run in a process of its own."""
    process = multiprocessing.get_context("fork").Process(
        target=runner.run, args=(what, out, silent, False)
    )
    process.start()
    return process


def killed_runs(what: plan.Run, out: Path) -> list[int]:
    """Start a run, go on with it, and kill it each time; the sizes of its journal then.

    In a process of its own that forks: a fork of this one could hang on a lock that a thread of
    JAX or Ray holds.
    """
    clean = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=clean) as executor:
        return executor.submit(_kill_at_random, what, out).result()


def _kill_at_random(what: plan.Run, out: Path) -> list[int]:
    rng = random.Random(0)
    with pytest.MonkeyPatch.context() as patched:
        make_inline(patched)
        # Compiled before the forks.
        for spec in what.suite.specs:
            suites.make_cell(spec.task, spec.cell)
        return [killed_run(what, out, rng) for _ in range(KILLS)]


def killed_run(what: plan.Run, out: Path, rng: random.Random) -> int:
    """Start a run, or go on with it, and kill it before long; the size of its journal then.

    A run that finishes before is done once more from the start.
    """
    journal = out / NAME
    before = journal.stat().st_size if journal.exists() else 0
    process = started_run(what, out)
    if rng.random() < 0.7:
        while process.is_alive() and not (journal.exists() and journal.stat().st_size > before):
            time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.1))
    process.kill()
    process.join()
    if process.exitcode == -signal.SIGKILL:
        return journal.stat().st_size if journal.exists() else 0
    for file in out.iterdir():
        file.unlink()
    return killed_run(what, out, rng)


def test_two_workers_give_the_same_bytes(what: plan.Run, finished: Path, tmp_path: Path) -> None:
    """Which of them runs what is left to chance."""
    runner.run(dataclasses.replace(what, workers=2), tmp_path, silent, progress=False)
    expected = (finished / runner.RESULT).read_bytes()
    assert (tmp_path / runner.RESULT).read_bytes() == expected


def test_the_order_of_episodes_does_not_matter(what: plan.Run, result: Result) -> None:
    """Each comes out the same after other episodes of other cells."""
    shuffled = random.Random(0).sample(result.episodes, len(result.episodes))
    with contextlib.closing(Worker(what.job)) as worker:
        for episode in shuffled:
            record = worker.run(episode.id)
            assert record.episode == episode


@pytest.mark.usefixtures("inline")
def test_a_run_killed_at_random_gives_the_same_bytes(
    what: plan.Run, finished: Path, tmp_path: Path
) -> None:
    """By SIGKILL, 20 times, wherever it is."""
    reached = killed_runs(what, tmp_path)
    assert len(set(reached)) > KILLS // 4
    runner.run(what, tmp_path, silent, progress=False)
    expected = (finished / runner.RESULT).read_bytes()
    assert (tmp_path / runner.RESULT).read_bytes() == expected


def remembering_policy(task: SuiteTask) -> bytes:
    """An ONNX policy with a memory of all that it has seen in an episode."""
    onnx = pytest.importorskip("onnx")
    helper, rng, memory = onnx.helper, np.random.default_rng(0), 4

    def weights(name: str, *shape: int) -> Any:
        values = rng.normal(size=shape).astype(np.float32) / shape[0] ** 0.5
        return onnx.numpy_helper.from_array(values, name)

    def row(name: str, size: int) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size])

    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["obs", "in"], ["seen"]),
            helper.make_node("Add", ["seen", "state_in"], ["all"]),
            helper.make_node("Tanh", ["all"], ["state_out"]),
            helper.make_node("MatMul", ["state_out", "out"], ["action"]),
        ],
        "policy",
        [row("obs", task.observation), row("state_in", memory)],
        [row("action", task.action), row("state_out", memory)],
        [weights("in", task.observation, memory), weights("out", memory, task.action)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def what_remembers(
    what: plan.Run, suite: Suite, tmp_path_factory: pytest.TempPathFactory
) -> plan.Run:
    """Policies with a memory, in their sandboxes."""
    if (reason := launch.unavailable_reason()) is not None:
        pytest.skip(f"no sandbox: {reason}")
    bundle = packed(tmp_path_factory.mktemp("remembering"), suite, remembering_policy)
    return dataclasses.replace(what, candidate=plan.entry(bundle), isolated=True)


@pytest.fixture(scope="module")
def remembered(what_remembers: plan.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of their run. Not to be changed."""
    out = tmp_path_factory.mktemp("remembered")
    _, problems = runner.run(what_remembers, out, silent, progress=False)
    assert problems == []
    return out


def test_isolated_policies_with_a_memory_give_the_same_bytes(
    what_remembers: plan.Run, remembered: Path, tmp_path: Path
) -> None:
    """On two workers; and, on one, each episode in any order."""
    two = dataclasses.replace(what_remembers, workers=2)
    runner.run(two, tmp_path, silent, progress=False)
    expected = (remembered / runner.RESULT).read_bytes()
    assert (tmp_path / runner.RESULT).read_bytes() == expected
    test_the_order_of_episodes_does_not_matter(
        what_remembers, read_result(remembered / runner.RESULT)
    )


@pytest.mark.usefixtures("inline")
def test_isolated_policies_with_a_memory_survive_kills(
    what_remembers: plan.Run, remembered: Path, tmp_path: Path
) -> None:
    """The same bytes."""
    test_a_run_killed_at_random_gives_the_same_bytes(what_remembers, remembered, tmp_path)


@pytest.mark.usefixtures("inline")
def test_a_cell_is_compiled_once(
    what: plan.Run, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose speed was measured first; the result does not tell."""
    made = []

    def make(task_id: str, cell: Any) -> Any:
        made.append((task_id, json.dumps(cell.options)))
        return cached_cell(task_id, cell)

    monkeypatch.setattr(suites, "make_cell", make)
    runner.run(what, tmp_path, silent, progress=False)
    assert len(made) == len(set(made)) == len({*map(worker.cell_of, what.suite.specs)})
    expected = (finished / runner.RESULT).read_bytes()
    assert (tmp_path / runner.RESULT).read_bytes() == expected


class Slow:
    """Does nothing; takes a second for an action, and a hundred more for the first."""

    def __init__(self, nu: int, clock: Clock) -> None:
        self._action, self._clock, self._first = np.zeros((1, nu), np.float32), clock, 100.0

    def begin(self, ids: np.ndarray, generators: Any) -> None:
        """Nothing to remember."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        self._clock.now += self._first + 1
        self._first = 0.0
        return self._action


class Clock:
    """Stands still unless it is set."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_the_start_of_a_policy_is_not_taken_for_its_speed(
    what: plan.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a compilation; or a run of a minute would be said to take ten."""
    clock = Clock()
    monkeypatch.setattr(worker, "time", clock)
    monkeypatch.setattr(
        Worker, "_make_policy", lambda self, task, core: Slow(core.task.body.nu, clock)
    )
    with contextlib.closing(Worker(what.job)) as measuring:
        measured = measuring.measure(what.suite.specs[0].id)
    assert (measured["build"], measured["step"]) == (101, 1)


def spoil_a_digit(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[3].replace(b"1", b"7", 1), *lines[4:]]


def spoil_a_line(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], b"\x00\xff\n", *lines[4:]]


def tear_the_last(lines: list[bytes]) -> list[bytes]:
    return [*lines[:-1], lines[-1][:40]]


def repeat_a_line(lines: list[bytes]) -> list[bytes]:
    return [*lines, lines[2]]


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize("spoil", [spoil_a_digit, spoil_a_line, tear_the_last, repeat_a_line])
def test_a_spoilt_journal_gives_the_same_bytes(
    spoil: Callable[[list[bytes]], list[bytes]],
    what: plan.Run, finished: Path, tmp_path: Path,
) -> None:  # fmt: skip
    """What cannot be read is run again."""
    lines = (finished / NAME).read_bytes().splitlines(keepends=True)
    (tmp_path / NAME).write_bytes(b"".join(spoil(lines)))
    runner.run(what, tmp_path, silent, progress=False)
    expected = (finished / runner.RESULT).read_bytes()
    assert (tmp_path / runner.RESULT).read_bytes() == expected


@pytest.mark.usefixtures("inline")
def test_a_folder_of_another_run_is_refused(what: plan.Run, finished: Path, tmp_path: Path) -> None:
    """Another policy, other seeds, or no run at all; and it is left as it was."""
    before = (finished / NAME).read_bytes()
    other = dataclasses.replace(what, candidate=plan.reference("zero"))
    with pytest.raises(ValueError, match="another run: its entrant is reference:random"):
        runner.run(other, finished, silent, progress=False)
    key = tmp_path / "key"
    key.write_text("0" * 64)
    other = dataclasses.replace(what, season=plan.season_of(what.suite, "test", key))
    with pytest.raises(ValueError, match="another run: its season is None"):
        runner.run(other, finished, silent, progress=False)
    assert (finished / NAME).read_bytes() == before
    (tmp_path / NAME).write_text("shopping list\n")
    with pytest.raises(ValueError, match="none of a run"):
        runner.run(what, tmp_path, silent, progress=False)


@pytest.mark.usefixtures("inline")
def test_two_runs_in_one_folder_are_refused(what: plan.Run, tmp_path: Path) -> None:
    """The second, while the first is at work."""
    refused = []

    def say(line: str) -> None:
        with pytest.raises(ValueError, match="under way"):
            runner.run(what, tmp_path, silent, progress=False)
        refused.append(line)

    runner.run(what, tmp_path, say, progress=False)
    assert refused


def test_a_worker_that_dies_is_replaced(what: plan.Run, result: Result) -> None:
    """Its episode is run by another; a request that always ends workers is given up."""
    requests = iter([{"run": episode.id} for episode in result.episodes[:3]])
    with contextlib.closing(Processes(what.job, 1)) as pool:
        found = []
        for _, answer in answers(pool, lambda _: next(requests, None)):
            found.append(answer["episode"])
            if len(found) == 1:
                os.kill(pool._workers[0][0].pid, signal.SIGKILL)
        assert found == [episode.model_dump(mode="json") for episode in result.episodes[:3]]


@pytest.mark.parametrize("isolated", [True, False])
def test_a_worker_that_is_killed_leaves_no_file(
    isolated: bool, what: plan.Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one at work, to the eye; its policy's process ends with it."""
    if isolated and (reason := launch.unavailable_reason()) is not None:
        pytest.skip(reason)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    what = dataclasses.replace(what, candidate=plan.entry(bundle), isolated=isolated)
    episode = next(spec.id for spec in what.suite.specs if spec.task == GOALS)
    context = multiprocessing.get_context("spawn")
    done = context.Event()
    process = context.Process(target=_run_and_wait, args=(what.job, episode, done))
    process.start()
    assert done.wait(60)
    policies = psutil.Process(process.pid).children(recursive=True)
    assert policies
    process.kill()
    process.join()
    assert psutil.wait_procs(policies, 10)[1] == []
    assert list(tmp_path.iterdir()) == []


def _run_and_wait(job: worker.Job, episode: str, done: Any) -> None:
    assert Worker(job).run(episode).episode.reason is None
    done.set()
    time.sleep(60)


def test_episodes_are_handed_out_once_each(suite: Suite) -> None:
    """Whichever worker asks when; and one that is alone stays in a cell."""
    specs = suite.specs
    rng = random.Random(0)
    for workers in (1, 2, 3, 7):
        queue = runner.Queue(specs)
        given = [queue.following(rng.randrange(workers)) for _ in range(len(specs) + 1)]
        assert given.pop() is None
        assert sorted(spec.id for spec in given if spec) == sorted(spec.id for spec in specs)
        if workers == 1:
            assert given == list(specs)


@pytest.mark.usefixtures("inline", "only_tiny")
def test_a_part_of_a_suite_is_not_ranked(
    result: Result, suite: Suite, anchors: Anchors, tmp_path: Path
) -> None:
    """But its episodes are those of the whole, and it can be verified."""
    arguments = ("--reference", "random", "--suite", "any", "--out", tmp_path)
    assert score("run", *arguments, "--task", "vnl/Nothing-v0").exit_code == 2
    done = score("run", *arguments, "--task", GOALS, "--episodes", 3)
    assert done.exit_code == Code.OK, done.output
    part = read_result(tmp_path / runner.RESULT)
    assert part.episodes == [e for e in result.episodes if f"{GOALS}/nominal" in e.id][:3]
    assert part.suite == result.suite
    assert not part.complete
    assert score("verify", tmp_path / runner.RESULT).exit_code == Code.OK
    boast = part.model_copy(update={"complete": True})
    assert verification.claims(boast, suite, anchors)[0].code == Code.INCOMPLETE
    # The folder is the part's.
    refused = score("run", *arguments)
    assert refused.exit_code == 2
    assert "another run: one with other --task, --episodes" in refused.stderr
