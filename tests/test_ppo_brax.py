"""Brax's PPO on functional environments: what a run leaves, how it goes on, what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from runs import log_of, state_of, write_hyperparams
from support import assert_same, invoke, one_line

pytest.importorskip("brax")

import jax
from brax.training.acme import running_statistics
from brax.training.agents.ppo import networks

import vnl_envs
from baselines import hyperparameters, ppo_brax
from baselines.export import OnnxPolicy, export_run
from baselines.ppo.__main__ import main
from baselines.run import POLICY, RECORD
from baselines.score import score

TASK = "vnl/RodentGoalReaching-v0"
FILE = hyperparameters.FOLDER / ppo_brax.FILE
TINY = {"num_envs": 4, "rollout": 4, "epochs": 2, "minibatches": 2, "layers": [8, 8],
        "log_every": 2, "evaluate_every": 4, "evaluation_episodes": 1}  # fmt: skip
UPDATE = TINY["num_envs"] * TINY["rollout"]  # type: ignore[operator]
UPDATES = 8


def hyperparams(folder: Path, **changes: Any) -> Path:
    """A file of small hyperparameters."""
    return write_hyperparams(folder, FILE, {**TINY, **changes})


def run(folder: Path, updates: int, *more: str, impl: str = "native", **changes: Any) -> Any:
    """The command line's result; the run's folder is `folder` / "run"."""
    path = hyperparams(folder, **changes)
    arguments = ["--steps", str(updates * UPDATE), "--out", str(folder / "run"), "--impl", impl]
    if "--task" not in more:
        arguments += ["--task", TASK]
    return invoke(main, *arguments, "--hyperparams", path, *more)


@pytest.fixture(scope="module", autouse=True)
def compiled_once() -> Iterator[None]:
    """All runs here are alike: later ones use the epoch that was compiled for the first."""
    epoch_of, first = ppo_brax.epoch_of, []

    def shared(train: Any) -> Any:
        epoch, *state = epoch_of(train)
        first.append(epoch)
        return first[0], *state

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ppo_brax, "epoch_of", shared)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    result = run(folder, UPDATES)
    assert result.exit_code == 0, result.output
    return folder


def test_a_run_leaves_log_checkpoint_and_policy(whole: Path) -> None:
    rows = log_of(whole / "run")
    assert [int(row["step"]) for row in rows] == [2 * UPDATE * i for i in range(1, 5)]
    assert [row["return"] != "" for row in rows] == [False, True, False, True]
    record = json.loads((whole / "run" / RECORD).read_text())
    assert (record["algorithm"], record["impl"]) == ("ppo_brax", "native")
    assert OnnxPolicy.load(whole / "run" / POLICY).metadata["env_hash"] == record["env_hash"]
    assert list((whole / "run").glob("events.*"))


def test_an_interrupted_run_goes_on_to_the_same_bits(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adam, normaliser, simulations, keys and log; Ctrl-C comes in the midst of an update."""
    advance = ppo_brax.Training.advance

    def interrupted(self: Any) -> None:
        if self.iteration == 2:
            os.kill(os.getpid(), signal.SIGINT)
        advance(self)

    with monkeypatch.context() as patched:
        patched.setattr(ppo_brax.Training, "advance", interrupted)
        result = run(tmp_path, UPDATES)
    assert isinstance(result.exception, SystemExit)
    assert "interrupted" in str(result.exception.code)
    assert state_of(tmp_path / "run")["model"]["steps"] == 3 * UPDATE
    assert run(tmp_path, UPDATES, "--resume").exit_code == 0
    assert_same(state_of(tmp_path / "run"), state_of(whole / "run"))
    assert log_of(tmp_path / "run") == log_of(whole / "run")
    assert (tmp_path / "run" / POLICY).read_bytes() == (whole / "run" / POLICY).read_bytes()


def test_a_finished_run_is_left_as_it_is(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "run", tmp_path / "run")
    assert run(tmp_path, UPDATES, "--resume").exit_code == 0
    assert_same(state_of(tmp_path / "run"), state_of(whole / "run"))


def test_the_exported_policy_is_brax_s_own(whole: Path, tmp_path: Path) -> None:
    """Against Brax's deterministic policy, where the normaliser's bound is met and where not."""
    export_run(whole / "run", tmp_path / "p.onnx")
    state = state_of(whole / "run")["model"]
    h = hyperparameters.load(ppo_brax.Hyperparameters, ppo_brax.FILE, TASK, hyperparams(tmp_path))
    sizes = len(state["mean"]), 38
    network = h.networks(*sizes, running_statistics.normalize)
    seen = running_statistics.NestedMeanStd(state["mean"], state["deviation"])
    act = networks.make_inference_fn(network)((seen, state["policy"]), deterministic=True)
    noise = np.random.default_rng(0).normal(size=(16, sizes[0]), scale=8)
    observations = (state["mean"] + state["deviation"] * noise).astype(np.float32)
    assert np.abs(noise).max() > h.clip_observation
    expected = np.clip(act(observations, jax.random.PRNGKey(0))[0], -1, 1)
    assert np.abs(expected).max() > 1e-3
    policy = OnnxPolicy.load(tmp_path / "p.onnx")
    np.testing.assert_allclose(policy(observations), expected, atol=1e-5)


def test_the_exported_policy_is_scored(whole: Path) -> None:
    record = score(whole / "run" / POLICY, episodes=1)
    assert (record["algorithm"], record["task"]) == ("ppo_brax", TASK)
    assert list(record["scores"][""]) == ["zero", "random", "trained", "half step"]


def test_exploration_starts_about_the_standing_pose(tmp_path: Path) -> None:
    h = hyperparameters.load(ppo_brax.Hyperparameters, ppo_brax.FILE, TASK)
    network = h.networks(204, 38, running_statistics.normalize)
    params = network.policy_network.init(jax.random.PRNGKey(0))
    seen = running_statistics.NestedMeanStd(np.zeros(204), np.ones(204))
    observations = np.random.default_rng(0).normal(size=(64, 204))
    mean, deviation = network.policy_network.apply(seen, params, observations)
    np.testing.assert_allclose(deviation, 0.18, rtol=1e-6)
    assert np.abs(mean).max() < 0.18


def test_ended_episodes_are_added_up() -> None:
    env = vnl_envs.wrap_for_training(vnl_envs.make_functional(TASK, "native"), episode_length=3)
    counted = ppo_brax.Ended(env)
    step = jax.jit(counted.step)
    state = jax.jit(counted.reset)(jax.random.split(jax.random.PRNGKey(0), 2))
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (8, 2, 38)).astype(np.float32)
    rewards = []
    for action in actions:
        state = step(state, action)
        rewards.append(np.asarray(state.reward))
    ended = state.info["ended"]
    np.testing.assert_array_equal(ended["episodes"], [2, 2])
    np.testing.assert_array_equal(ended["length"], [6, 6])
    np.testing.assert_allclose(ended["return"], np.sum(rewards[:6], axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("more", "changes", "words"),
    [
        ((), {"learning": 1}, "unknown hyperparameters ['learning']"),
        ((), {"minibatches": 3}, "num_envs=4 does not divide over 3 minibatches"),
        ((), {"impl": "torch"}, "impl must be one of"),
        (("--network", "intention"), {}, "needs --impl gymnasium"),
        (("--task", "vnl/Nothing-v0"), {}, "vnl/RodentJumpGap-v0"),
        (("--resume",), {}, "no run to go on with"),
    ],
)
def test_what_cannot_be_run_is_refused(
    tmp_path: Path, more: tuple[str, ...], changes: dict[str, Any], words: str
) -> None:
    assert words in one_line(run(tmp_path, 1, *more, **changes))
    assert not (tmp_path / "run").exists()


def test_another_run_s_folder_is_refused(whole: Path, tmp_path: Path) -> None:
    assert "is not empty" in one_line(run(whole, UPDATES + 1))
    for more, changes, words in (
        (("--task", "vnl/RodentJumpGap-v0"), {}, "its task is"),
        (("--seed", "1"), {}, "its seed is"),
        ((), {"gamma": 0.5}, "its hyperparameters is"),
    ):
        assert words in one_line(run(whole, UPDATES + 1, "--resume", *more, **changes))
    shutil.copytree(whole / "run", tmp_path / "run")
    record = json.loads((tmp_path / "run" / RECORD).read_text())
    (tmp_path / "run" / RECORD).write_text(json.dumps({**record, "algorithm": "ppo"}))
    assert "its algorithm is 'ppo'" in one_line(run(tmp_path, UPDATES + 1, "--resume"))


def test_every_section_of_the_file_is_a_task_with_valid_values() -> None:
    assert set(yaml.safe_load(FILE.read_text())) - {"default"} <= set(vnl_envs.task_ids())
    for task_id in vnl_envs.task_ids():
        h = hyperparameters.load(ppo_brax.Hyperparameters, ppo_brax.FILE, task_id)
        assert h.num_envs % h.minibatches == 0


def test_a_trainer_without_epochs_is_told() -> None:
    with pytest.raises(RuntimeError, match="training_epoch"):
        ppo_brax.epoch_of(lambda: jax.pmap(lambda x: x))
    assert "epoch_of" not in jax.pmap.__qualname__
