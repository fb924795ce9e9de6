"""One's own ONNX policy as a policy: of `evaluate`, and of the commands that take one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import vnl_envs
from vnl_envs.cli.main import app
from vnl_envs.envs.core import Core
from vnl_envs.motion.clip import Clip, write_clips
from vnl_envs.motion.datasets import load_clips
from vnl_envs.testing.environments import task_of

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

IMITATION = "vnl/RodentImitation-v0"
CORE = Core(task_of(IMITATION), 1, 1)
WEIGHTS = (0.05 * np.random.default_rng(0).normal(size=(CORE.size, CORE.task.body.nu))).astype("f4")


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """A lab's clips: two behaviours, 0.6 s each."""
    body = task_of(IMITATION).body
    clips = [
        Clip(clip.name, clip.qpos[:30], label, "test", "s", "MIT")
        for clip, label in zip(load_clips(body, ["walk", "rear"]), ("amble", "look"), strict=True)
    ]
    write_clips(tmp_path / "mine.h5", clips, body)
    return str(tmp_path / "mine.h5")


def write_policy(
    path: Path, weights: np.ndarray, *, batch: int | str = 1, state: bool = False
) -> Path:
    """An ONNX policy whose actions are observations @ weights (D, A).

    With `state` they grow with the number of actions that were taken in the episode.
    """
    size, actions = weights.shape

    def row(name: str, number: int) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, number])

    constants = {"w": weights.astype(np.float32), "one": np.ones((1, 1), np.float32)}
    nodes = [helper.make_node("MatMul", ["obs", "w"], ["action" if not state else "now"])]
    inputs, outputs = [row("obs", size)], [row("action", actions)]
    if state:
        nodes += [
            helper.make_node("Add", ["state_in", "one"], ["state_out"]),
            helper.make_node("Mul", ["now", "state_out"], ["action"]),
        ]
        inputs.append(row("state_in", 1))
        outputs.append(row("state_out", 1))
    initializers = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, "policy", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("batch", [1, "batch"], ids=str)
def test_a_file_acts_as_its_function_does(mine: str, tmp_path: Path, batch: int | str) -> None:
    """Whichever number of simulations there are, given as text or as a path."""
    path = write_policy(tmp_path / "policy.onnx", WEIGHTS, batch=batch)
    few = {"episodes": 3, "clips": mine, "split": "all"}
    own = vnl_envs.evaluate(IMITATION, path, num_envs=2, **few)
    one = vnl_envs.evaluate(IMITATION, str(path), num_envs=1, **few)
    same = vnl_envs.evaluate(IMITATION, lambda obs: np.stack([o @ WEIGHTS for o in obs]), **few)
    for name, values in own.values.items():
        np.testing.assert_array_equal(values, one.values[name])
        np.testing.assert_allclose(values, same.values[name], rtol=1e-3)


def test_memory_starts_anew_with_each_episode(mine: str, tmp_path: Path) -> None:
    path = write_policy(tmp_path / "policy.onnx", 0.1 * WEIGHTS, state=True)
    few = {"episodes": 3, "clips": mine, "split": "all"}
    own = vnl_envs.evaluate(IMITATION, path, num_envs=3, **few)
    one = vnl_envs.evaluate(IMITATION, path, num_envs=1, **few)
    for name, values in own.values.items():
        np.testing.assert_array_equal(values, one.values[name])


def one_line(*arguments: Any) -> str:
    """The one line of error that a command ends in."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if "|" not in line]
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("command", ["evaluate", "play", "rollout"])
def test_what_cannot_act_is_one_line(tmp_path: Path, command: str) -> None:
    out = {"play": ("--video", tmp_path / "a.mp4"), "rollout": ("--out", tmp_path / "a.h5")}
    short = write_policy(tmp_path / "short.onnx", WEIGHTS[:-1])
    words = tmp_path / "words.onnx"
    words.write_text("not a model")
    nan = write_policy(tmp_path / "nan.onnx", np.nan * WEIGHTS)
    for path, message in {
        tmp_path / "nowhere.onnx": "no policy",
        words: "words.onnx: not a policy that can be run",
        short: "maps 850 numbers to 38, the task has observations of 851 and actions of 38",
        nan: "not finite",
    }.items():
        line = one_line(command, IMITATION, "--policy", path, *out.get(command, ()))
        assert message in line
        assert path.name in line
    assert not list(tmp_path.glob("a.*"))


def test_without_onnxruntime(mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those who give a file need it."""
    path = write_policy(tmp_path / "policy.onnx", WEIGHTS)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "package 'onnxruntime'" in one_line("evaluate", IMITATION, "--policy", path)
    vnl_envs.evaluate(IMITATION, "zero", episodes=1, clips=mine, split="all")


def test_scores_on_own_clips_by_behaviour(mine: str, tmp_path: Path) -> None:
    """A lab's clips, a lab's policy: every label has its table, and JSON its episodes."""
    path = write_policy(tmp_path / "policy.onnx", WEIGHTS)
    command = ["evaluate", IMITATION, "--policy", str(path), "-o", f"clips={mine}",
               "-o", "split=test", "--episodes", "6"]  # fmt: skip
    table = CliRunner().invoke(app, [*command, "--by-label"])
    assert table.exit_code == 0, table.output
    assert "amble, " in table.stdout
    assert "look, " in table.stdout
    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert {episode["label"] for episode in found["episodes"]} == {"amble", "look"}
