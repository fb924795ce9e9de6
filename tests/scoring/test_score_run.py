"""`vnl-envs score run`: policies that fail, seasons, and what ends it or carries it on."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tiny_suite import GOALS, IMITATION, score, silent

from leaderboard import make_anchors
from vnl_envs.problems import Code, Problem
from vnl_envs.sandbox import launch
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.documents.schema.result import Result
from vnl_envs.scoring.documents.schema.suite import Suite
from vnl_envs.scoring.documents.schema.text import to_text
from vnl_envs.scoring.results.files import read_result
from vnl_envs.scoring.results.scores import aggregate
from vnl_envs.scoring.run import plan, runner, verification
from vnl_envs.scoring.run.journal import NAME
from vnl_envs.scoring.submission import bundles

pytest_plugins = ["tiny_suite"]


@pytest.mark.usefixtures("inline")
def test_a_suite_file_of_ones_own_has_anchors_beside_it(
    suite: Suite, finished: Path, tmp_path: Path
) -> None:
    """Which a script makes; then it can be run, verified and compared."""
    file, out = tmp_path / "suites" / "tiny-v1.json", tmp_path / "out"
    file.parent.mkdir()
    file.write_text(to_text(suite))
    run = ("run", "--reference", "random", "--suite", file, "--out", out)
    none = score(*run)
    assert none.exit_code == Code.VERSION
    assert f"leaderboard.make_anchors {file}` writes {tmp_path}/anchors/tiny-v1" in none.stderr
    make_anchors.main([str(file)])
    done = score(*run)
    assert done.exit_code == Code.OK, done.output
    result = read_result(out / runner.RESULT)
    assert result.episodes == read_result(finished / runner.RESULT).episodes
    assert result.overall.value == pytest.approx(0, abs=1e-12)
    assert score("verify", out / runner.RESULT, "--suite", file).exit_code == Code.OK
    pair = ("compare", out / runner.RESULT, out / runner.RESULT)
    assert score(*pair, "--suite", file).exit_code == Code.OK
    assert score(*pair).exit_code == Code.VERSION


@pytest.mark.slow
@pytest.mark.usefixtures("only_tiny")
def test_another_engine_runs_the_same_episodes(result: Result, tmp_path: Path) -> None:
    """On MJX-Warp, which takes 20 s to compile; random actions fell the humanoid as soon."""
    pytest.importorskip("warp")
    done = score(
        "run", "--reference", "random", "--suite", "any", "--engine", "warp", "--task", GOALS,
        "--episodes", 2, "--out", tmp_path,
    )  # fmt: skip
    assert done.exit_code == Code.OK, done.output
    cross = read_result(tmp_path / runner.RESULT)
    assert cross.engine == "warp"
    assert "warp-lang" in cross.stamps
    assert not cross.complete
    native = [e for e in result.episodes if f"{GOALS}/nominal" in e.id]
    for there, here in zip(cross.episodes, native[:2], strict=True):
        assert there.id == here.id
        assert abs(there.steps - here.steps) <= 2


@pytest.mark.usefixtures("inline", "only_tiny")
def test_episodes_of_a_policy_that_fails_count_0(bundle: Path, tmp_path: Path) -> None:
    """With the reason, which is the exit code; and the others count."""
    done = score("run", bundle, "--out", tmp_path / "a")
    assert done.exit_code == Code.NON_FINITE, done.output
    assert "error[non-finite] vnl/RodentImitation-v0/nominal" in done.stderr
    assert "10 episodes count 0; of the first: the policy's action is not finite" in done.stderr
    told = json.loads(score("run", bundle, "--out", tmp_path / "a", "--json").stdout)
    assert told["exit_code"] == Code.NON_FINITE
    assert [p["code"] for p in told["problems"]] == ["non-finite"]
    assert told["result"] == str(tmp_path / "a" / runner.RESULT)
    result = read_result(tmp_path / "a" / runner.RESULT)
    assert told["overall"] == result.overall.model_dump(mode="json")
    assert result.complete
    for episode in result.episodes:
        failed = episode.id.startswith(IMITATION)
        assert episode.reason == ("non-finite" if failed else None)
        assert episode.end != "failed" or (episode.score, episode.steps) == (0, 0)
    assert result.tasks[IMITATION].tiers["nominal"].failed == {"non-finite": 5}
    # The same again, by the reference that holds still.
    still = score("run", "--reference", "zero", "--suite", "any", "--out", tmp_path / "b")
    assert still.exit_code == Code.OK, still.output
    others = read_result(tmp_path / "b" / runner.RESULT).episodes
    ours = [e for e in result.episodes if e.id.startswith(GOALS)]
    assert ours == [e for e in others if e.id.startswith(GOALS)]


@pytest.mark.usefixtures("inline", "only_tiny")
def test_tasks_without_a_policy_count_0_and_are_not_ranked(
    what: plan.Run, bundle: Path, tmp_path: Path
) -> None:
    """An incomplete result, in which everything is nevertheless."""
    half = plan.entry(bundle)
    told = half.entrant.model_copy(update={"policies": {GOALS: half.entrant.policies[GOALS]}})
    only = dataclasses.replace(half, entrant=told, policies={GOALS: half.policies[GOALS]})
    isolated = launch.unavailable_reason() is None
    partial = dataclasses.replace(what, candidate=only, isolated=isolated)
    result, problems = runner.run(partial, tmp_path, silent, progress=False)
    assert [p.code for p in problems] == [Code.INCOMPLETE]
    assert not result.complete
    assert result.tasks[IMITATION].tiers["nominal"].failed == {"incomplete": 5}
    assert verification.claims(result, what.suite, what.anchors) == []
    # Such an episode is never run again: what it claims to have earned has to be seen without.
    for invented in ({"reason": None, "end": "truncated", "score": 0.5}, {"reason": "crash"}):
        episodes = [
            e.model_copy(update=invented) if e.id.startswith(IMITATION) else e
            for e in result.episodes
        ]
        tasks, overall = aggregate(what.suite, what.anchors, episodes)
        update = {"episodes": episodes, "tasks": tasks, "overall": overall, "complete": True}
        forged = result.model_copy(update=update)
        problems = verification.claims(forged, what.suite, what.anchors)
        assert {p.code for p in problems} == {Code.CLAIM}
        assert all(p.where.startswith(IMITATION) for p in problems)
        assert len(problems) == 10


@pytest.mark.usefixtures("inline", "only_tiny")
def test_a_season_needs_a_sandbox_and_the_pinned_versions(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them it is refused, and the split dev warns."""
    key = tmp_path / "key"
    key.write_text("0" * 64)
    season = ("--split", "test", "--season-key", key, "--out", tmp_path / "out")
    assert score("run", bundle, "--split", "test").exit_code == 2
    with monkeypatch.context() as patch:
        patch.setattr(launch, "unavailable_reason", lambda: "no bwrap here")
        with patch.context() as unread:
            # Nothing in a bundle is parsed.
            unread.setattr(bundles, "check", pytest.fail)
            refused = score("run", bundle, *season)
        assert refused.exit_code == Code.SANDBOX
        assert "no bwrap here" in refused.stderr
        warned = score("run", bundle, "--out", tmp_path / "dev")
        assert warned.stderr.count("without a sandbox: no bwrap here") == 1
        assert not read_result(tmp_path / "dev" / runner.RESULT).isolated
    with monkeypatch.context() as patch:
        odd = [Problem(Code.VERSION, "numpy", "is old")]
        patch.setattr(suites, "version_problems", lambda suite: odd)
        assert score("run", "--reference", "zero", "--suite", "a", *season).exit_code == 14
    done = score("run", "--reference", "random", "--suite", "any", *season)
    assert done.exit_code == Code.OK, done.output
    result = read_result(tmp_path / "out" / runner.RESULT)
    assert result.season == hashlib.sha256(bytes(32)).hexdigest()
    # Without the key the sums can be checked, and whose they are.
    path = tmp_path / "out" / runner.RESULT
    keyless = score("verify", path)
    assert keyless.exit_code == Code.OK, keyless.output
    assert "no episode was run again: give --season-key FILE" in keyless.stdout
    assert score("verify", path, bundle).exit_code == Code.CLAIM
    assert score("verify", path, "--season-key", key, "--sample", 1).exit_code == Code.OK
    key.write_text("1" * 64)
    assert score("verify", path, "--season-key", key).exit_code == Code.CLAIM


def command(out: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """`vnl-envs score run` of the random policy on the quick suite, in a group of its own.

    It hears Ctrl-C, as it does from a terminal, also where these tests run in the background.
    """
    line = [sys.executable, "-m", "vnl_envs", "score", "run", "--reference", "random"]
    return subprocess.Popen(
        [*line, "--suite", "quick-v2", "--out", str(out), *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for_episodes(journal: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        if journal.exists() and len(journal.read_bytes().splitlines()) > count:
            return
        time.sleep(0.01)


def alive(group: int) -> list[str]:
    """Names of the processes of a group."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.name())
    return found


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    """It reaches all processes, as from a terminal; none is left, nor a word too many."""
    process = command(tmp_path, "--workers", "2")
    wait_for_episodes(tmp_path / NAME, 1, process)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.decode().splitlines()[-1].startswith("interrupted; the same command resumes")
    assert "Traceback" not in said.decode()
    until = time.monotonic() + 10
    while alive(process.pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert alive(process.pid) == []
    assert not (tmp_path / runner.RESULT).exists()


@pytest.mark.slow
def test_the_command_killed_at_random_gives_the_same_bytes(tmp_path: Path) -> None:
    """`vnl-envs score run` by SIGKILL, twice; another run is not disturbed, on one worker.

    A run that finishes before it is killed is done once more from the start.
    """
    out, calm = tmp_path / "killed", tmp_path / "calm"
    rng = random.Random(0)
    kills = 0
    while kills < 2:
        before = len((out / NAME).read_bytes().splitlines()) if (out / NAME).exists() else 0
        process = command(out, "--workers", "2")
        wait_for_episodes(out / NAME, before + rng.randrange(10), process)
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.communicate()
        if process.returncode == Code.OK:
            shutil.rmtree(out)
            continue
        assert process.returncode == -signal.SIGKILL
        kills += 1
    for folder, workers in ((out, "2"), (calm, "1")):
        process = command(folder, "--workers", workers)
        process.communicate()
        assert process.returncode == Code.OK
    assert (out / runner.RESULT).read_bytes() == (calm / runner.RESULT).read_bytes()
