"""The PPO baseline: what a run leaves behind, how it goes on, and what it refuses."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import gymnasium
import imageio.v2 as imageio
import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
import stable_baselines3
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.console import Console
from runs import log_of, sharing_programs, state_of, write_hyperparams
from support import invoke, one_line

import vnl_envs
from baselines import hyperparameters, ppo, ppo_sb3
from baselines.checkpoint import read_tree, write_tree
from baselines.export import Layer, OnnxPolicy, clip, dense, export_run, normaliser, write_onnx
from baselines.loop import Interrupt
from baselines.plot import draw
from baselines.ppo.__main__ import main
from baselines.ppo.algorithm import LEARNING_RATES, PPO, Rollout, adapted, generalized_advantage
from baselines.ppo.base import Track
from baselines.ppo.networks import Gaussian, Network
from baselines.ppo.starts import BINS, FailureStarts, preferred
from baselines.ppo.variants import variant
from baselines.run import CHECKPOINT, LOG, POLICY, RECORD
from baselines.score import lines, score, tables
from baselines.score import main as score_main
from vnl_envs import registry
from vnl_envs.testing.comparison import assert_same

TASK = "vnl/RodentGoalReaching-v0"
TINY = {"num_envs": 2, "num_steps": 8, "epochs": 2, "minibatch_size": 8, "layers": [8, 8],
        "critic_layers": [8, 8], "log_every": 2, "evaluate_every": 4,
        "evaluation_episodes": 1}  # fmt: skip
UPDATE = TINY["num_envs"] * TINY["num_steps"]  # type: ignore[operator]


def hyperparams(folder: Path, **changes: Any) -> Path:
    """A file of small hyperparameters."""
    return write_hyperparams(folder, {**TINY, **changes})


def run(folder: Path, steps: int, *more: str, task: str = TASK, **changes: Any) -> Any:
    """The command line's result; the run's folder is `folder` / "run"."""
    path = hyperparams(folder, **changes)
    arguments = ["--task", task, "--steps", str(steps), "--out", str(folder / "run")]
    return invoke(main, *arguments, "--hyperparams", path, *more)


@pytest.fixture(scope="module", autouse=True)
def compiled_once() -> Iterator[None]:
    with sharing_programs():
        yield


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight updates."""
    folder = tmp_path_factory.mktemp("short")
    result = run(folder, 8 * UPDATE)
    assert result.exit_code == 0, result.output
    return folder


def test_a_run_leaves_log_checkpoint_and_policy(short: Path) -> None:
    rows = log_of(short / "run")
    assert [int(row["step"]) for row in rows] == [2 * UPDATE * i for i in range(1, 5)]
    assert [row["return"] != "" for row in rows] == [False, True, False, True]
    assert rows[-1]["goals_reached"] != ""
    record = json.loads((short / "run" / "run.json").read_text())
    assert (record["task"], record["seed"]) == (TASK, 0)
    assert record["env_hash"] == gymnasium.make(TASK).unwrapped.env_hash
    assert OnnxPolicy.load(short / "run" / POLICY).metadata["env_hash"] == record["env_hash"]
    assert list((short / "run").glob("events.*"))


@pytest.mark.parametrize("updates", [4, 5])
def test_a_resumed_run_reaches_the_same_bits(short: Path, tmp_path: Path, updates: int) -> None:
    """Whether it stopped where the log has a row or between two."""
    assert run(tmp_path, updates * UPDATE).exit_code == 0
    before = log_of(tmp_path / "run")
    assert run(tmp_path, 8 * UPDATE, "--resume").exit_code == 0
    assert_same(state_of(tmp_path / "run")["model"], state_of(short / "run")["model"])
    if updates == 4:
        assert log_of(tmp_path / "run") == log_of(short / "run")
        assert (tmp_path / "run" / POLICY).read_bytes() == (short / "run" / POLICY).read_bytes()
    else:
        assert log_of(tmp_path / "run")[: len(before)] == before


def test_a_signal_ends_a_run_with_its_state(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = ppo.Training.advance

    def interrupted(self: ppo.Training) -> None:
        if self.steps == 4 * UPDATE:
            os.kill(os.getpid(), signal.SIGINT)
        advance(self)

    with monkeypatch.context() as patched:
        patched.setattr(ppo.Training, "advance", interrupted)
        result = run(tmp_path, 8 * UPDATE)
    assert result.exit_code != 0
    assert state_of(tmp_path / "run")["model"]["steps"] == 5 * UPDATE
    assert run(tmp_path, 8 * UPDATE, "--resume").exit_code == 0
    assert_same(state_of(tmp_path / "run"), state_of(short / "run"))
    assert log_of(tmp_path / "run") == log_of(short / "run")


@pytest.mark.parametrize("written", ["log", "checkpoint"])
def test_a_full_disk_loses_nothing(short: Path, tmp_path: Path, written: str) -> None:
    """Whichever file is the first without room; the run goes on when there is room again."""
    assert run(tmp_path, 4 * UPDATE).exit_code == 0
    files = {p: p.read_bytes() for p in (tmp_path / "run").iterdir() if "events" not in p.name}
    size = len(files[tmp_path / "run" / (LOG if written == "log" else CHECKPOINT)])
    command = ("--task", TASK, "--steps", 8 * UPDATE, "--out", tmp_path / "run", "--resume",
               "--hyperparams", hyperparams(tmp_path))  # fmt: skip
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel refuses to write beyond a size, as on a full disk. A later checkpoint may be a
    # little smaller: equal arrays are written once.
    room = size - 1 if written == "log" else size // 2
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        result = invoke(main, *command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    message = one_line(result)
    assert ("progress.csv" if written == "log" else "checkpoint.safetensors") in message
    assert {p for p in (tmp_path / "run").iterdir() if "events" not in p.name} == set(files)
    for path, content in files.items():
        kept = path.read_bytes()
        if path.name == LOG:
            assert kept.startswith(content)
        elif path.name != POLICY:
            assert kept == content
    if written == "checkpoint":
        assert message.endswith("go on with --resume")
    assert run(tmp_path, 8 * UPDATE, "--resume").exit_code == 0
    assert_same(state_of(tmp_path / "run"), state_of(short / "run"))
    assert log_of(tmp_path / "run") == log_of(short / "run")


def test_a_run_that_ended_before_its_first_state_begins_again(tmp_path: Path) -> None:
    """With --resume and without."""
    assert run(tmp_path, 4 * UPDATE).exit_code == 0
    rows = log_of(tmp_path / "run")
    for more in ((), ("--resume",)):
        (tmp_path / "run" / CHECKPOINT).unlink()
        assert run(tmp_path, 4 * UPDATE, *more).exit_code == 0
        assert log_of(tmp_path / "run") == rows


def test_an_interrupt_gives_the_signals_back() -> None:
    # Not Python's own in every process: Ray sets one for SIGTERM and leaves it.
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.getsignal(number) for number in numbers]
    with Interrupt() as interrupt:
        assert all(signal.getsignal(n) not in before for n in numbers)
        assert not interrupt.asked
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked
        assert [signal.getsignal(number) for number in numbers] == before
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning": 1}, "unknown hyperparameters ['learning']"),
        ({"gamma": "much"}, "gamma must be of type float"),
        ({"layers": 3}, "layers must be of type list[int]"),
        ({"epochs": 1.5}, "epochs must be of type int"),
        ({"minibatch_size": 3}, "num_envs * num_steps = 16 does not divide into minibatches of 3"),
        ({"evaluate_every": 0}, "evaluate_every must be an integer of at least 1"),
        ({"minibatch_size": 0}, "minibatch_size must be an integer of at least 1"),
        ({"base": "stand"}, "base must be 'none' or 'track', got 'stand'"),
        ({"base": "track"}, "only an imitation task with servos"),
        ({"starts": "failures"}, "needs an imitation task whose starts are drawn"),
        ({"cloning_steps": 8}, "only an imitation task with servos"),
        ({"constants": {"speed": 1}}, "vnl/RodentGoalReaching-v0 has no constants ['speed']"),
    ],
)
def test_wrong_hyperparameters_are_refused(
    tmp_path: Path, changes: Mapping[str, Any], words: str
) -> None:
    assert words in one_line(run(tmp_path, UPDATE, **changes))
    assert not (tmp_path / "run").exists()


def test_experts_that_are_not_cloned_are_refused(tmp_path: Path) -> None:
    message = one_line(run(tmp_path, UPDATE, "--expert", str(tmp_path / "expert")))
    assert message == "error: experts are cloned for `cloning_steps`, which is 0"


def test_a_run_begins_with_the_networks_of_another(short: Path, tmp_path: Path) -> None:
    """Its first action is the other's last one; episodes and steps are its own."""
    first = str(short / "run")
    path = hyperparams(tmp_path)
    h = hyperparameters.load(ppo.Hyperparameters, ppo.Network.files, TASK, path)
    new, begun = tmp_path / "new", short / "run"
    training = ppo.Training(TASK, 1, "native", new, False, h, init_from=begun)
    other = read_tree(short / "run" / CHECKPOINT)["state"]
    state = training.get_state()["state"]
    for name in ("params", "observed", "returns"):
        assert_same(state[name], other[name])
    # Without the other's moments, Adam takes its first steps at a rate that keeps what was learnt.
    assert training.state.learning_rate == np.float32(LEARNING_RATES[0])
    assert training.steps == 0
    assert training.run.identity["init_from"] == "run"
    # It goes on with its own.
    assert run(tmp_path, UPDATE, "--init-from", first).exit_code == 0
    result = run(tmp_path, 3 * UPDATE, "--init-from", first, "--resume")
    assert result.exit_code == 0, result.output
    assert log_of(tmp_path / "run")[-1]["step"] == str(3 * UPDATE)


def test_a_run_to_begin_with_must_fit(short: Path, tmp_path: Path) -> None:
    first = str(short / "run")
    message = one_line(run(tmp_path, UPDATE, "--init-from", str(tmp_path / "none")))
    assert message.startswith("error: no checkpoint ")
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob("run/policy*"))
    message = one_line(run(tmp_path, UPDATE, "--init-from", first, layers=[4]))
    assert message.endswith("run' have layers of other sizes")
    write_tree(tmp_path / CHECKPOINT, {"state": {"learner": []}})
    message = one_line(run(tmp_path, UPDATE, "--init-from", str(tmp_path)))
    assert message.endswith("holds no run of baselines.ppo to begin with")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1", r"h\.yml must have sections"),
        ("a: {", r"h\.yml is not YAML"),
        (
            "default: {gama: 0.9}",
            r"h\.yml: unknown hyperparameters \['gama'\]; there are .*'gamma'",
        ),
        ("default: {layers: 3}", r"h\.yml: layers must be of type .*, got 3"),
        (f"{{default: {{}}, {TASK}: 3}}", rf"h\.yml: {TASK} must be a mapping, got 3"),
        (f"{{default: {{}}, {TASK}x: {{}}}}", rf"{TASK}x.*{TASK}"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "h.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        hyperparameters.load(ppo.Hyperparameters, ppo.Network.files, TASK, path)


def test_what_a_later_file_says_goes_before(tmp_path: Path) -> None:
    """Of all tasks before what an earlier one says of this task; what neither says is kept."""
    path = tmp_path / "h.yml"

    def load(task_id: str, text: str) -> ppo.Hyperparameters:
        path.write_text(text)
        return hyperparameters.load(ppo.Hyperparameters, ppo.Network.files, task_id, path)

    own = hyperparameters.load(ppo.Hyperparameters, ppo.Network.files, IMITATION)
    assert own.base == "track"
    assert load(IMITATION, f"{TASK}: {{sigma: 0.5}}") == own
    assert load(TASK, f"{{default: {{sigma: 0.4}}, {TASK}: {{sigma: 0.5}}}}").sigma == 0.5
    changed = load(IMITATION, "default: {base: none}")
    assert changed == dataclasses.replace(own, base="none")


def test_every_task_has_valid_hyperparameters() -> None:
    import vnl_envs

    for task_id in vnl_envs.task_ids():
        h = hyperparameters.load(ppo.Hyperparameters, ppo.Network.files, task_id)
        assert h.update_steps % h.minibatch_size == 0


def test_unknown_tasks_and_foreign_folders_are_refused(short: Path, tmp_path: Path) -> None:
    assert "vnl/RodentJumpGap-v0" in one_line(run(tmp_path, UPDATE, task="vnl/Nothing-v0"))
    assert "is not empty" in one_line(run(short, 9 * UPDATE))
    assert "no run in" in one_line(run(tmp_path, UPDATE, "--resume"))
    other = run(short, 9 * UPDATE, "--resume", task="vnl/RodentJumpGap-v0")
    assert "its task is" in one_line(other)
    assert "its seed is" in one_line(run(short, 9 * UPDATE, "--resume", "--seed", "1"))
    changed = one_line(run(short, 9 * UPDATE, "--resume", gamma=0.5))
    assert "its hyperparameters: gamma is 0.99, not 0.5" in changed


def test_a_checkpoint_of_another_body_is_refused(short: Path, tmp_path: Path) -> None:
    """Under the record of a run that is not its own."""
    other = run(tmp_path, UPDATE, task="vnl/HumanoidGoalReaching-v0")
    assert other.exit_code == 0
    shutil.copy(short / "run" / CHECKPOINT, tmp_path / "run" / CHECKPOINT)
    message = one_line(run(tmp_path, 2 * UPDATE, "--resume", task="vnl/HumanoidGoalReaching-v0"))
    assert f"{CHECKPOINT}' has another run in it: its task is '{TASK}'" in message
    (tmp_path / "run" / CHECKPOINT).write_bytes(b"x")
    message = one_line(run(tmp_path, 2 * UPDATE, "--resume", task="vnl/HumanoidGoalReaching-v0"))
    assert "is not a checkpoint" in message


@pytest.mark.parametrize("path", [("best",), ("updates",), ("level",)])
def test_a_checkpoint_that_lacks_something_is_refused(
    short: Path, tmp_path: Path, path: tuple[str, ...]
) -> None:
    """As one of another version of the code does."""
    shutil.copytree(short / "run", tmp_path / "run")
    state = read_tree(tmp_path / "run" / CHECKPOINT)
    *parts, last = path
    del functools.reduce(lambda part, name: part[name], parts, state)[last]
    write_tree(tmp_path / "run" / CHECKPOINT, state)
    files = {p: p.read_bytes() for p in (tmp_path / "run").iterdir() if "events" not in p.name}
    message = one_line(run(tmp_path, 9 * UPDATE, "--resume"))
    assert f"{CHECKPOINT}' is of another version of the baselines, it has no '{last}'" in message
    assert all(p.read_bytes() == content for p, content in files.items())


def test_a_tree_comes_back_with_its_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tree = {
        "a/b": rng.random((3, 2)), "a": {"b": rng.random(2).astype(np.float32)},
        "scalar": np.array(3.0), "bool": np.array([True]), "turned": np.arange(6).reshape(2, 3).T,
        "list": [1, 2.5, "text", None, True], "big": rng.bit_generator.state["state"]["state"],
        "empty": np.zeros((0, 3)),
    }  # fmt: skip
    write_tree(tmp_path / "tree.safetensors", tree)
    (tmp_path / "other").touch()
    assert (tmp_path / "tree.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert_same(read_tree(tmp_path / "tree.safetensors"), tree)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(FileNotFoundError):
        read_tree(path)
    path.write_bytes(b"pickle?")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        read_tree(path)
    with pytest.raises(TypeError, match="set"):
        write_tree(path, {"a": {1}})


def test_the_exported_policy_has_the_agreed_ends(short: Path) -> None:
    session = onnxruntime.InferenceSession(short / "run" / POLICY)
    (start,), (end,) = session.get_inputs(), session.get_outputs()
    assert (start.name, start.shape, start.type) == ("obs", [1, 204], "tensor(float)")
    assert (end.name, end.shape, end.type) == ("action", [1, 38], "tensor(float)")


def test_onnx_runtime_is_told_to_send_nothing(tmp_path: Path) -> None:
    """Before it is imported, which is when it begins."""
    (tmp_path / "onnxruntime.py").write_text(
        "import os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    clean = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    there = {**clean, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-c", "import baselines.export"]
    assert subprocess.check_output(command, env=there, text=True) == "1\n"


def test_survival_is_rewarded_in_training_alone(short: Path, tmp_path: Path) -> None:
    """The critic learns another value; the log's returns stay those of the task."""
    assert run(tmp_path, 4 * UPDATE, survival=10.0).exit_code == 0
    mine, other = (returns_of(f / "run") for f in (tmp_path, short))
    assert mine > 10 > other
    assert all(float(row["return"]) < 10 for row in log_of(tmp_path / "run") if row["return"])


def returns_of(folder: Path) -> float:
    """Mean of the critic's targets in a run's last state."""
    training = ppo.Training(TASK, 0, "native", folder, True, loaded(folder))
    return float(training.state.returns.mean[0])


def loaded(folder: Path) -> ppo.Hyperparameters:
    """The hyperparameters of a run."""
    return ppo.Hyperparameters(**json.loads((folder / RECORD).read_text())["hyperparameters"])


def test_the_newest_policy_is_exported_from_a_run(short: Path, tmp_path: Path) -> None:
    """From arrays alone, it acts as the network of that state does."""
    export_run(short / "run", tmp_path / "p.onnx")
    training = ppo.Training(TASK, 0, "native", short / "run", True, loaded(short / "run"))
    policy = OnnxPolicy.load(tmp_path / "p.onnx")
    observations = np.asarray(training.state.envs.obs)
    expected = training.mean_action(observations)
    np.testing.assert_allclose(policy(observations), expected, atol=1e-5)
    assert np.abs(policy(observations)).max() > 0
    with pytest.raises(FileNotFoundError, match="no run in"):
        export_run(tmp_path, tmp_path / "p.onnx")


def test_layers_are_what_they_say(tmp_path: Path) -> None:
    """Normalisation, dense layers, activations and clipping, against NumPy."""
    rng = np.random.default_rng(0)
    mean, deviation = rng.normal(size=5), rng.uniform(0.1, 2, 5)
    w1, b1, w2, b2 = (rng.normal(size=s) for s in ((7, 5), 7, (3, 7), 3))
    scale, offset = rng.normal(size=(2, 7)).astype(np.float32)
    layers = [
        *normaliser(mean, deviation, 2.0), dense(w1, b1),
        Layer("LayerNormalization", (scale, offset), {"epsilon": 1e-6}), Layer("Tanh"),
        Layer("Elu"), dense(w2, b2), clip(-5, 5),
    ]  # fmt: skip
    write_onnx(tmp_path / "p.onnx", layers, (5, 3), {"task": "x"})
    obs = rng.normal(size=(9, 5), scale=3).astype(np.float32)
    x = np.clip((obs - mean) / deviation, -2, 2) @ w1.T + b1
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6) * scale + offset
    x = np.tanh(x)
    x = np.where(x > 0, x, np.expm1(x)) @ w2.T + b2
    policy = OnnxPolicy.load(tmp_path / "p.onnx")
    np.testing.assert_allclose(policy(obs), np.clip(x, -1, 1), atol=1e-5)
    assert policy.metadata == {"task": "x"}
    assert np.abs(policy(obs)).max() == 1


def test_a_score_has_the_untrained_and_the_shorter_step_beside_it(short: Path) -> None:
    record = score(short / "run" / POLICY, episodes=1)
    entrants = record["scores"][""]
    assert list(entrants) == ["zero", "random", "trained", "half step"]
    returns = {name: summary["return"]["mean"] for name, summary in entrants.items()}
    assert record["kept"] == returns["half step"] / returns["trained"]
    # The same episode and the same policy: what differs is the physics.
    assert returns["half step"] != returns["trained"]


def test_clips_are_followed_from_random_frames_and_from_the_first(tmp_path: Path) -> None:
    """The share of all steps, and of the episodes that reach the end: of `track`, too."""
    task_id, options = "vnl/RodentImitation-v0", {"clips": ["stand_alert"], "split": "all"}
    task = vnl_envs.make_task(task_id, **options)
    size = vnl_envs.SingleEnv(task_id, **options).observation_space.shape[0]
    metadata = {"task": task_id, "options": json.dumps(options), "steps": "0", "seed": "0",
                "env_hash": vnl_envs.env_hash(task_id, task)}  # fmt: skip
    layers = [dense(np.zeros((task.body.nu, size)), np.zeros(task.body.nu))]
    write_onnx(tmp_path / "p.onnx", layers, (size, task.body.nu), metadata)
    record = score(tmp_path / "p.onnx", episodes=2)
    (followed,) = record["followed"].values()
    assert set(followed) == {"track", "feedforward", "trained"}
    assert followed["track"]["first frame"] == {"steps": 1.0, "to the end": 1.0}
    assert 0 < followed["trained"]["random frames"]["steps"] <= 1
    assert "track" in lines(record)[1]
    for table in tables(record):
        out = StringIO()
        Console(file=out, width=80).print(table)
        assert {"orientation_error", "feedforward"} <= set(out.getvalue().split())


def test_what_cannot_be_written_or_read_is_said_at_once(short: Path, tmp_path: Path) -> None:
    out = tmp_path / "none" / "scores.json"
    assert "no folder" in one_line(invoke(score_main, short / "run" / POLICY, "--out", out))
    for text, words in (("{}", "is not the record of a run"), ("{", "is damaged")):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(ValueError, match=words):
            export_run(tmp_path, tmp_path / "p.onnx")


def test_a_policy_of_another_task_is_not_scored(tmp_path: Path) -> None:
    path = tmp_path / "p.onnx"
    layers = [dense(np.zeros((38, 204)), np.zeros(38))]
    write_onnx(path, layers, (204, 38), {})
    with pytest.raises(ValueError, match="does not say which task"):
        score(path, episodes=1)
    write_onnx(path, layers, (204, 38), {"task": TASK, "env_hash": "0"})
    with pytest.raises(ValueError, match="trained on another"):
        score(path, episodes=1)
    path.write_text("x")
    with pytest.raises(ValueError, match="is not an ONNX model"):
        score(path, episodes=1)


def test_curves_are_drawn_from_a_log(short: Path, tmp_path: Path) -> None:
    shutil.copy(short / "run" / LOG, tmp_path / "RodentGoalReaching-v0.csv")
    draw(tmp_path, tmp_path / "curves.png")
    assert imageio.imread(tmp_path / "curves.png").std() > 0


class Step(NamedTuple):
    """A state of `Opposite`."""

    key: jax.Array
    obs: jax.Array
    reward: jax.Array
    done: jax.Array
    info: dict[str, Any]
    metrics: dict[str, Any]


class Opposite:
    """A batch of episodes of one step each, whose best action is minus the observation."""

    unwrapped = None

    def reset(self, keys: jax.Array) -> Step:
        zero = jnp.zeros(len(keys))
        return self._drawn(keys[0], zero, zero)

    def step(self, state: Step, action: jax.Array) -> Step:
        reward = 1.0 - jnp.sum((action + state.obs) ** 2, axis=-1)
        return self._drawn(state.key, reward, jnp.ones_like(reward))

    def _drawn(self, key: jax.Array, reward: jax.Array, done: jax.Array) -> Step:
        key, own = jax.random.split(key)
        obs = jax.random.uniform(own, (len(done), 2), minval=-1.0)
        totals = {"sum_reward": reward, "length": done}
        info = {"truncation": 0 * done, "final_obs": obs, "episode_metrics": totals}
        return Step(key, obs, reward, done, info, {})


def test_it_learns(tmp_path: Path) -> None:
    """The squared distance from the best action falls to a tenth of the 0.67 of no action."""
    small = {"num_envs": 64, "num_steps": 8, "minibatch_size": 128, "layers": [32, 32]}
    path = write_hyperparams(tmp_path, {**small, "critic_layers": [32, 32]})
    h = hyperparameters.load(ppo.Hyperparameters, ppo.Network.files, TASK, path)
    task = SimpleNamespace(body=SimpleNamespace(nu=2))
    algorithm = PPO(Opposite(), h, Network(task, {}, h))
    state = algorithm.init(jnp.asarray(0, jnp.uint32))
    for _ in range(40):
        state, _ = algorithm.iterate(state)
    observations = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)
    error = algorithm.mean_action(state, observations) + observations
    assert float((error**2).sum(axis=-1).mean()) < 0.07


def test_the_learning_rate_follows_the_divergence() -> None:
    """It grows below half of the target, falls above twice of it, and stays within bounds."""
    kl = jnp.asarray([0.04, 0.1, 0.21])
    np.testing.assert_allclose(adapted(jnp.asarray(1e-4), kl, 0.1), [1.2e-4, 1e-4, 1e-4 / 1.2])
    assert adapted(jnp.asarray(1e-5), jnp.asarray(1.0), 0.1) == np.float32(1e-5)
    assert adapted(jnp.asarray(2e-3), jnp.asarray(0.0), 0.1) == np.float32(2e-3)


def test_advantages_are_the_sums_that_define_them() -> None:
    """Against the definition, with a failure, a time limit and episodes that go on."""
    rng, steps = np.random.default_rng(0), 6
    reward, value, following = rng.random((3, steps, 3))
    done, terminated = np.zeros((2, steps, 3))
    done[2, 0] = terminated[2, 0] = done[3, 1] = 1
    blank = jnp.zeros(())
    rollout = Rollout(*[blank] * 6, reward, terminated, done, blank)
    h = SimpleNamespace(gamma=0.9, gae_lambda=0.8)
    expected = np.zeros((steps, 3))
    for t, i in np.ndindex(steps, 3):
        for k in range(t, steps):
            error = reward[k, i] + 0.9 * (1 - terminated[k, i]) * following[k, i] - value[k, i]
            expected[t, i] += (0.9 * 0.8) ** (k - t) * error
            if done[k, i]:
                break
    got = generalized_advantage(rollout, value, following, h)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_the_divergence_and_the_likelihood_are_a_gaussians() -> None:
    rng = np.random.default_rng(0)
    means, deviations = rng.normal(size=(2, 4, 3)), rng.uniform(0.5, 2, (2, 4, 3))
    one, other = (
        Gaussian(jnp.asarray(m), jnp.asarray(d), 0.0, None)
        for m, d in zip(means, deviations, strict=True)
    )
    normals = [
        torch.distributions.Normal(*map(torch.as_tensor, p))
        for p in zip(means, deviations, strict=True)
    ]
    expected = torch.distributions.kl_divergence(*normals).sum(-1)
    np.testing.assert_allclose(one.divergence(other), expected, rtol=1e-5)
    actions = rng.normal(size=(2, 4, 3))
    likelihoods = [normals[0].log_prob(torch.as_tensor(a)).sum(-1).numpy() for a in actions]
    mine = [one.log_prob(jnp.asarray(a)) for a in actions]
    np.testing.assert_allclose(mine[0] - mine[1], likelihoods[0] - likelihoods[1], rtol=1e-4)


@pytest.mark.parametrize("task_id", ["vnl/RodentImitation-v0", "vnl/HumanoidImitation-v0"])
def test_the_base_is_the_tracking_policy(task_id: str, tmp_path: Path) -> None:
    """Of the observation alone, in JAX and in ONNX, as the file of a residual policy has it."""
    env = gymnasium.make_vec(task_id, num_envs=16).unwrapped
    observations, _ = env.reset(seed=0)
    for _ in range(3):
        observations = env.step(env.action_space.sample())[0]
    expected = np.clip(env.task.reference_action(env.episodes, env.carries, "track"), -1, 1)
    base = Track.of(env.task, env.layout)
    np.testing.assert_allclose(base(observations), expected, atol=1e-5)
    size = observations.shape[1]
    write_onnx(tmp_path / "p.onnx", base.layers(), (size, env.task.body.nu), {})
    np.testing.assert_allclose(
        OnnxPolicy.load(tmp_path / "p.onnx")(observations), expected, atol=1e-5
    )


IMITATION, WALK = "vnl/RodentImitation-v0", {"clips": ["walk"]}


def imitating(folder: Path, updates: int, resume: bool = False, **changes: Any) -> ppo.Training:
    """A run of imitation that adds to the tracking policy and starts where it failed."""
    changes = {"base": "track", "starts": "failures", "evaluate_every": 100, **changes}
    h = hyperparameters.load(
        ppo.Hyperparameters, ppo.Network.files, TASK, hyperparams(folder, **changes)
    )
    training = ppo.Training(IMITATION, 0, "native", folder / "run", resume, h, options=WALK)
    assert training(updates * UPDATE)
    return training


def test_a_residual_with_failure_starts_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    # With limits at which every episode fails at once.
    constants = {"limit": {"joints": 1e-3}}
    whole = imitating(tmp_path / "whole", 4, constants=constants)
    imitating(tmp_path / "parts", 2, constants=constants)
    parts = imitating(tmp_path / "parts", 4, resume=True, constants=constants)
    assert_same(whole.get_state()["state"], parts.get_state()["state"])
    assert float(whole.state.failures.sum()) > UPDATE
    export_run(tmp_path / "whole" / "run", tmp_path / "p.onnx")
    observations = np.asarray(whole.state.envs.obs)
    actions = OnnxPolicy.load(tmp_path / "p.onnx")(observations)
    np.testing.assert_allclose(actions, whole.mean_action(observations), atol=1e-5)
    # What was trained on had other limits; what is recorded and scored is the task itself.
    assert whole.run.identity["env_hash"] == gymnasium.make(IMITATION, **WALK).unwrapped.env_hash
    assert score(tmp_path / "whole" / "run" / POLICY, episodes=1)["task"] == IMITATION


@given(
    arrays(np.float32, BINS, elements=st.floats(0, 100, width=32)),
    st.integers(0, 2**24 - 1),
)
def test_a_preferred_start_is_a_uniform_number(failures: np.ndarray, bits: int) -> None:
    u = float(preferred(jnp.float32(bits * 2.0**-24), jnp.asarray(failures)))
    assert 0 <= u < 1
    assert u * 2**24 == int(u * 2**24)


def test_starts_are_preferred_where_episodes_failed() -> None:
    """Four fifths in the bin that failed, the rest everywhere; evenly where none has."""
    u = jnp.arange(0, 1, 2.0**-12)
    failures = jnp.zeros(BINS).at[7].set(3.0)
    drawn = np.asarray(preferred(u, failures))
    counts = np.histogram(drawn, BINS, (0, 1))[0] / len(u)
    assert counts[7] == pytest.approx(0.8 + 0.2 / BINS, abs=2e-3)
    np.testing.assert_allclose(np.delete(counts, 7), 0.2 / BINS, atol=1e-3)
    even = np.histogram(preferred(u, jnp.zeros(BINS)), BINS, (0, 1))[0]
    assert np.ptp(even) <= 2
    # Within a bin as well.
    inside = drawn[(drawn >= 7 / BINS) & (drawn < 8 / BINS)] * BINS - 7
    np.testing.assert_allclose(np.quantile(inside, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.01)


def test_a_bin_holds_the_frame_half_a_second_before() -> None:
    env = FailureStarts(IMITATION, "native", clips=["walk", "trot"], split="all")
    first, second = env.task.reference.length
    count = len(env.task.starts)
    for number, start, step, at in (
        (0, 100, 20, 95), (0, 3, 4, 0), (1, 50, 5, first - 10 + 30),
        (1, 0, second - 1, first - 10 + second - 26),
    ):  # fmt: skip
        data = SimpleNamespace(
            episode={"clip": jnp.asarray(number), "start": jnp.asarray(start)},
            carry={"step": jnp.asarray(step)},
        )
        assert int(env._bin(data)) == at * BINS // count


def test_levels_go_up_and_down_by_the_evaluation(tmp_path: Path) -> None:
    """They change what is trained on, not what is recorded and evaluated; and they resume."""
    levels = [
        {"constants": {"distance": [0.1, 0.2]}},
        {"constants": {"distance": [0.3, 0.4]}, "survival": 0.5},
    ]
    changes = {"levels": levels, "level_metric": "length", "evaluate_every": 1, "log_every": 1}

    def run_on(folder: Path, updates: int, resume: bool = False, **more: Any) -> ppo.Training:
        folder.mkdir(exist_ok=True)
        path = hyperparams(folder, **{**changes, "promote": 1.0, "demote": 0.0, **more})
        h = hyperparameters.load(ppo.Hyperparameters, ppo.Network.files, TASK, path)
        training = ppo.Training(TASK, 0, "native", folder / "run", resume, h)
        assert training(updates * UPDATE)
        return training

    up = run_on(tmp_path / "up", 2)
    assert [row["level"] for row in log_of(tmp_path / "up" / "run")] == ["0", "1"]
    assert up.algorithm.env.task.distance == [0.3, 0.4]
    assert (up.h.survival, up.algorithm.h.survival) == (0.0, 0.5)
    run_on(tmp_path / "parts", 1)
    again = run_on(tmp_path / "parts", 2, resume=True)
    assert_same(up.get_state()["state"], again.get_state()["state"])
    # Below `demote`, back.
    up.h = dataclasses.replace(up.h, promote=1e9, demote=1e9)
    up.evaluated()
    assert up.level == 0


@pytest.mark.parametrize(
    ("level", "words"),
    [
        ("{distance: 1}", "change of a level must be 'constants' or 'survival', got 'distance'"),
        ("{survival: much}", r"survival of a level must be a number in \[0, inf\], got 'much'"),
        ("{constants: 3}", "constants of a level must be a mapping, got 3"),
    ],
)
def test_a_level_of_another_form_is_refused(tmp_path: Path, level: str, words: str) -> None:
    path = tmp_path / "h.yml"
    path.write_text(f"default: {{levels: [{level}]}}")
    with pytest.raises(ValueError, match=words):
        hyperparameters.load(ppo.Hyperparameters, ppo.Network.files, TASK, path)


def test_a_variant_differs_in_its_constants_alone() -> None:
    assert variant(TASK, {}) == TASK
    of_one_clip = vnl_envs.make_task(variant(IMITATION, {"clips": ["walk"]}))
    assert [clip.name for clip in of_one_clip.reference.clips] == ["walk"]
    name = variant(IMITATION, {"limit": {"joints": 1.0}})
    assert name == variant(IMITATION, {"limit": {"joints": 1.0}})
    assert name.startswith("training/RodentImitation-")
    one, other = (registry.task_settings(i) for i in (name, IMITATION))
    assert one == {**other, "limit": {**other["limit"], "joints": 1.0}}
    with pytest.raises(ValueError, match=r"limit has no constants \['x'\]"):
        variant(IMITATION, {"limit": {"x": 1}})
    with pytest.raises(ValueError, match="limit must be a mapping"):
        variant(IMITATION, {"limit": 1})


def test_stable_baselines3s_own_save_goes_on_and_is_scored(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ("--task", TASK, "--out", out)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ppo_sb3, "_NUM_ENVS", 2)
        assert invoke(ppo_sb3.main, *command, "--steps", 128).exit_code == 0
        assert "is there: go on with --resume" in one_line(invoke(ppo_sb3.main, *command))
        assert invoke(ppo_sb3.main, *command, "--steps", 256, "--resume").exit_code == 0
    assert stable_baselines3.PPO.load(out / "model.zip").num_timesteps == 256
    assert score(out / POLICY, episodes=1)["algorithm"] == "ppo_sb3"
