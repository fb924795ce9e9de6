"""The PPO baseline: what a run leaves behind, how it goes on, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import imageio.v2 as imageio
import numpy as np
import onnxruntime
import pytest
import yaml
from support import assert_same
from typer import Typer
from typer.testing import CliRunner

from baselines import hyperparameters, ppo
from baselines.checkpoint import read_tree, write_tree
from baselines.export import Layer, OnnxPolicy, clip, dense, export_run, normaliser, write_onnx
from baselines.plot import draw
from baselines.run import CHECKPOINT, LOG, POLICY, Interrupt
from baselines.score import score

TASK = "vnl/RodentGoalReaching-v0"
FILE = hyperparameters.FOLDER / "ppo.yml"
TINY = {"num_envs": 2, "rollout": 8, "epochs": 2, "minibatch": 8, "layers": [8, 8], "log_every": 2,
        "evaluate_every": 4, "evaluation_episodes": 1}  # fmt: skip
UPDATE = TINY["num_envs"] * TINY["rollout"]  # type: ignore[operator]

app = Typer()
app.command()(ppo.main)


def hyperparams(folder: Path, **changes: Any) -> Path:
    """A file of small hyperparameters."""
    sections = yaml.safe_load(FILE.read_text())
    path = folder / "hyperparams.yml"
    path.write_text(yaml.safe_dump({"default": {**sections["default"], **TINY, **changes}}))
    return path


def run(folder: Path, steps: int, *more: str, task: str = TASK, **changes: Any) -> Any:
    """The command line's result; the run's folder is `folder` / "run"."""
    path = hyperparams(folder, **changes)
    arguments = ["--task", task, "--steps", str(steps), "--out", str(folder / "run")]
    return CliRunner().invoke(app, [*arguments, "--hyperparams", str(path), *more])


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "run" / LOG).open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def state_of(folder: Path) -> dict[str, Any]:
    return {k: v for k, v in read_tree(folder / "run" / CHECKPOINT).items() if k != "seconds"}


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight updates."""
    folder = tmp_path_factory.mktemp("short")
    result = run(folder, 8 * UPDATE)
    assert result.exit_code == 0, result.output
    return folder


def test_a_run_leaves_log_checkpoint_and_policy(short: Path) -> None:
    rows = log_of(short)
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
    before = log_of(tmp_path)
    assert run(tmp_path, 8 * UPDATE, "--resume").exit_code == 0
    assert_same(state_of(tmp_path)["model"], state_of(short)["model"])
    if updates == 4:
        assert log_of(tmp_path) == log_of(short)
        assert (tmp_path / "run" / POLICY).read_bytes() == (short / "run" / POLICY).read_bytes()
    else:
        assert log_of(tmp_path)[: len(before)] == before


def test_a_signal_ends_a_run_with_its_state(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = ppo.PPO.learn

    def interrupted(self: ppo.PPO, *args: Any, **kwargs: Any) -> Any:
        if self.num_timesteps == 4 * UPDATE:
            os.kill(os.getpid(), signal.SIGINT)
        return learn(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(ppo.PPO, "learn", interrupted)
        result = run(tmp_path, 8 * UPDATE)
    assert result.exit_code != 0
    assert state_of(tmp_path)["model"]["steps"] == 5 * UPDATE
    assert run(tmp_path, 8 * UPDATE, "--resume").exit_code == 0
    assert_same(state_of(tmp_path), state_of(short))
    assert log_of(tmp_path) == log_of(short)


def test_an_interrupt_gives_the_signals_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        assert not interrupt.asked
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked
        assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def one_line(result: Any) -> str:
    """The message of a command that was refused."""
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit), result.exception
    message = str(result.exception.code)
    if "\n" in message or not message.startswith("error: "):
        pytest.fail(f"not one line: {message!r}")
    return message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning": 1}, "unknown hyperparameters ['learning']"),
        ({"gamma": "much"}, "gamma must be of type float"),
        ({"layers": 3}, "layers must be of type list[int]"),
        ({"epochs": 1.5}, "epochs must be of type int"),
    ],
)
def test_wrong_hyperparameters_are_refused(
    tmp_path: Path, changes: Mapping[str, Any], words: str
) -> None:
    assert words in one_line(run(tmp_path, UPDATE, **changes))
    assert not (tmp_path / "run").exists()


def test_a_missing_hyperparameter_is_named(tmp_path: Path) -> None:
    path = tmp_path / "h.yml"
    path.write_text("default: {gamma: 0.9}")
    with pytest.raises(ValueError, match=r"missing hyperparameters .*'sigma'"):
        hyperparameters.load(ppo.Hyperparameters, path, TASK)


@pytest.mark.parametrize("text", ["- 1", "a: {", "tasks: {}"])
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "h.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"h\.yml"):
        hyperparameters.load(ppo.Hyperparameters, path, TASK)


def test_a_section_overrides_the_defaults(tmp_path: Path) -> None:
    sections = yaml.safe_load(FILE.read_text())
    path = tmp_path / "h.yml"
    path.write_text(yaml.safe_dump({"default": sections["default"], TASK: {"sigma": 0.5}}))
    assert hyperparameters.load(ppo.Hyperparameters, path, TASK).sigma == 0.5
    other = hyperparameters.load(ppo.Hyperparameters, path, "vnl/RodentJumpGap-v0")
    assert other.sigma == sections["default"]["sigma"]


def test_every_section_of_the_file_is_a_task_with_valid_values() -> None:
    import vnl_envs

    assert set(yaml.safe_load(FILE.read_text())) - {"default"} <= set(vnl_envs.task_ids())
    for task_id in vnl_envs.task_ids():
        h = hyperparameters.load(ppo.Hyperparameters, FILE, task_id)
        assert (h.num_envs * h.rollout) % h.minibatch == 0


def test_unknown_tasks_and_foreign_folders_are_refused(short: Path, tmp_path: Path) -> None:
    assert "vnl/RodentJumpGap-v0" in one_line(run(tmp_path, UPDATE, task="vnl/Nothing-v0"))
    assert "is not empty" in one_line(run(short, 9 * UPDATE))
    assert "no run to go on with" in one_line(run(tmp_path, UPDATE, "--resume"))
    other = run(short, 9 * UPDATE, "--resume", task="vnl/RodentJumpGap-v0")
    assert "its task is" in one_line(other)
    assert "its seed is" in one_line(run(short, 9 * UPDATE, "--resume", "--seed", "1"))
    assert "its hyperparameters is" in one_line(run(short, 9 * UPDATE, "--resume", gamma=0.5))


def test_a_tree_comes_back_with_its_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tree = {
        "a/b": rng.random((3, 2)), "a": {"b": rng.random(2).astype(np.float32)},
        "scalar": np.array(3.0), "bool": np.array([True]), "turned": np.arange(6).reshape(2, 3).T,
        "list": [1, 2.5, "text", None, True], "big": rng.bit_generator.state["state"]["state"],
        "empty": np.zeros((0, 3)),
    }  # fmt: skip
    write_tree(tmp_path / "tree.safetensors", tree)
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


def test_survival_is_rewarded_in_training_alone(short: Path, tmp_path: Path) -> None:
    """The critic learns another value; the log's returns stay those of the task."""
    assert run(tmp_path, 4 * UPDATE, survival=10.0).exit_code == 0
    mine, other = (state_of(f)["model"]["statistics"]["ret_rms"] for f in (tmp_path, short))
    assert mine["mean"] > 10 > other["mean"]
    assert all(float(row["return"]) < 10 for row in log_of(tmp_path) if row["return"])


def test_the_newest_policy_is_exported_from_a_run(short: Path, tmp_path: Path) -> None:
    """From arrays alone, it acts as the network of that state does."""
    export_run(short / "run", tmp_path / "p.onnx")
    state = read_tree(short / "run" / CHECKPOINT)["model"]
    h = hyperparameters.load(ppo.Hyperparameters, hyperparams(tmp_path), TASK)
    model = ppo.PPO(ppo.training_envs(TASK, h), h, seed=1)
    model.set_state(state)
    policy = OnnxPolicy.load(tmp_path / "p.onnx")
    observations = model.vector.core.observation
    np.testing.assert_allclose(policy(observations), model.mean_action(observations), atol=1e-5)
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


def test_a_score_has_the_untrained_and_the_finer_step_beside_it(short: Path) -> None:
    record = score(short / "run" / POLICY, episodes=1)
    entrants = record["scores"][""]
    assert list(entrants) == ["zero", "random", "trained", "half step"]
    returns = {name: summary["return"]["mean"] for name, summary in entrants.items()}
    assert record["kept"] == returns["half step"] / returns["trained"]
    # The same episode and the same policy: what differs is the physics.
    assert returns["half step"] != returns["trained"]


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


@pytest.mark.slow
def test_it_learns(tmp_path: Path) -> None:
    """A hundred updates earn several times what random actions do (4, and zero actions 0)."""
    out = tmp_path / "run"
    result = CliRunner().invoke(app, ["--task", TASK, "--steps", "204800", "--out", str(out)])
    assert result.exit_code == 0, result.output
    with (out / LOG).open(newline="") as file:
        assert float(list(csv.DictReader(file))[-1]["return"]) > 8


def test_the_step_size_follows_the_divergence(tmp_path: Path) -> None:
    """It grows where no update reaches the target, and falls where every one exceeds it."""
    sizes = {}
    for target in (1e-9, 1e9):
        folder = tmp_path / str(target)
        folder.mkdir()
        assert run(folder, 2 * UPDATE, target_kl=target).exit_code == 0
        actor, critic = state_of(folder)["model"]["step_sizes"]
        sizes[target], default = actor, yaml.safe_load(FILE.read_text())["default"]
        assert critic == default["critic_step_size"]
    assert sizes[1e-9] < default["step_size"] < sizes[1e9]
