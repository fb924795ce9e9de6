"""The campaign's table and command: what is missing is run, what is there is left."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from runs import sharing_programs, write_hyperparams
from support import invoke, one_line

import vnl_envs
from baselines import hyperparameters, ppo, reproduce
from baselines.checkpoint import read_tree
from baselines.export import OnnxPolicy
from baselines.ppo.__main__ import main as ppo_main
from baselines.registered import DECODER, INTENTION, MLP, network_class
from baselines.run import CHECKPOINT, LOG, rows_of
from baselines.transfer.__main__ import main as transfer_main
from vnl_envs.testing.comparison import assert_same

TASK = "vnl/RodentGoalReaching-v0"
ROOT = Path(__file__).parents[2]
SMALL = {"num_envs": 2, "num_steps": 8, "epochs": 1, "minibatch_size": 16, "layers": [8],
         "critic_layers": [8], "log_every": 1, "evaluate_every": 2, "evaluation_episodes": 1,
         "cloning_steps": 0}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def compiled_once() -> Iterator[None]:
    with sharing_programs():
        yield


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of two rows, the second with the first one's decoder, whose files go elsewhere."""
    for name in ("RESULTS", "CHECKPOINTS", "KEPT"):
        monkeypatch.setattr(reproduce, name, tmp_path / name.lower())
    monkeypatch.setattr(reproduce, "EPISODES", 1)
    file = write_hyperparams(tmp_path, SMALL)
    table = tmp_path / "campaign.yml"
    rows = {
        "rat-imitation": {
            "command": "ppo --network intention --task vnl/RodentImitation-v0 "
            f"-o 'clips=[\"walk\"]' --hyperparams {file}",
            "steps": 32, "seeds": [0], "hours": {"cpu": 0.1, "gpu": None}, "bundle": True,
        },
        "rat-goals-reused": {
            "command": f"transfer --task {TASK} --hyperparams {file} "
            "--decoder {rat-imitation.decoder}",
            "steps": 32, "seeds": [0, 1], "hours": {"cpu": 0.1, "gpu": None},
        },
    }  # fmt: skip
    table.write_text(yaml.safe_dump(rows, sort_keys=False))
    return table


def inside(arguments: list[str]) -> int:
    """A command of a row in this process, as its imports take longer than it does."""
    module, *rest = arguments[2:]
    main: Any = {"baselines.ppo": ppo_main, "baselines.transfer": transfer_main}[module]
    return invoke(main, *rest).exit_code


def test_a_campaign_runs_from_start_to_table(
    campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []

    def call(arguments: list[str]) -> int:
        called.append(arguments)
        return inside(arguments)

    monkeypatch.setattr(reproduce, "call", call)
    command = ("--table", campaign, "--runs", tmp_path / "runs")
    before = invoke(reproduce.main, *command, "--list")
    assert before.output.count("missing") == 3
    assert not called
    result = invoke(reproduce.main, *command)
    assert result.exit_code == 0, result.output
    assert len(called) == 3
    for stem in ("rat-imitation-0", "rat-goals-reused-0", "rat-goals-reused-1"):
        record = json.loads((tmp_path / "results" / f"{stem}.json").read_text())
        assert record["steps"] == 32
        assert (tmp_path / "results" / f"{stem}.csv").is_file()
        policy = OnnxPolicy.load(tmp_path / "checkpoints" / f"{stem}.onnx")
        assert policy.metadata["task"] in vnl_envs.task_ids()
    after = invoke(reproduce.main, *command, "--list")
    assert after.output.count("published") == 3
    # What is there is not run again; what was interrupted goes on.
    (tmp_path / "results" / "rat-goals-reused-1.json").unlink()
    assert invoke(reproduce.main, *command).exit_code == 0
    assert len(called) == 4
    assert called[-1][-1] == "--resume"


def test_another_machine_goes_on_from_what_is_kept(
    campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log, the counts and what was learnt; without the environments, a smaller file."""
    monkeypatch.setattr(reproduce, "call", inside)
    rows = reproduce.read_table(campaign)
    whole = rows["rat-imitation"]
    half = dataclasses.replace(whole, steps=16)
    reproduce.train(half, 0, tmp_path / "here", rows)
    reproduce.keep(half, 0, tmp_path / "here")
    other = dataclasses.replace(half, command=half.command.replace("Rodent", "Humanoid"))
    with pytest.raises(ValueError, match="has a run of vnl/RodentImitation-v0, rat-imitation is"):
        reproduce.keep(other, 0, tmp_path / "here")
    there, kept = whole.folder(tmp_path / "there", 0), tmp_path / "kept" / whole.stem(0)
    begun = half.folder(tmp_path / "here", 0) / CHECKPOINT
    assert (kept / CHECKPOINT).stat().st_size < begun.stat().st_size
    before = read_tree(begun)["state"]
    assert set(read_tree(kept / CHECKPOINT)["state"]) == set(before) - {"adam", "envs"}
    reproduce.train(whole, 0, tmp_path / "there", rows)
    assert reproduce.steps_of(there) == 32
    assert [row["step"] for row in rows_of(there / LOG)] == ["16", "32"]
    after = read_tree(there / CHECKPOINT)["state"]
    assert after["observed"][0] > before["observed"][0]
    reproduce.publish(whole, 0, tmp_path / "there", rows)
    assert not kept.exists()


def test_what_others_begin_with_is_kept(
    campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine, which has none of the runs, clones it or goes on from it."""
    monkeypatch.setattr(reproduce, "call", inside)
    rows = reproduce.read_table(campaign)
    first = rows["rat-imitation"]
    other = dataclasses.replace(first, command=f"{first.command} --init-from {{rat-imitation}}")
    rows["rat-further"] = dataclasses.replace(other, name="rat-further")
    reproduce.train(first, 0, tmp_path / "here", rows)
    reproduce.publish(first, 0, tmp_path / "here", rows)
    checkpoint = first.folder(tmp_path / "here", 0) / CHECKPOINT
    kept = tmp_path / "kept" / first.stem(0)
    assert_same(read_tree(kept / CHECKPOINT)["model"], read_tree(checkpoint)["model"])
    assert (kept / CHECKPOINT).stat().st_size < checkpoint.stat().st_size
    reproduce.train(rows["rat-further"], 0, tmp_path / "there", rows)
    assert reproduce.steps_of(tmp_path / "there" / "rat-further-0") == 32


def test_what_fails_ends_the_campaign(
    campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce, "call", lambda arguments: 3)
    result = invoke(reproduce.main, "--table", campaign, "--runs", tmp_path / "runs")
    assert result.exit_code == 3


SLOW_TO_SAVE = """
import pathlib, signal, sys, time
def save(*_):
    time.sleep(1)
    pathlib.Path("saved").touch()
    sys.exit(5)
signal.signal(signal.SIGTERM, save)
pathlib.Path("started").touch()
time.sleep(60)
"""


def test_a_run_that_is_stopped_may_save_first(tmp_path: Path) -> None:
    """SIGTERM reaches the run, and the campaign ends with it."""
    code = (
        "import sys\nfrom baselines.reproduce import call\n"
        f"sys.exit(call([sys.executable, '-c', {SLOW_TO_SAVE!r}]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as campaign:
        while not (tmp_path / "started").is_file():
            time.sleep(0.05)
        campaign.terminate()
        assert campaign.wait(30) == 5
    assert (tmp_path / "saved").is_file()


def test_unknown_rows_and_parts_are_named(campaign: Path, tmp_path: Path) -> None:
    message = one_line(invoke(reproduce.main, "mouse", "--table", campaign))
    assert message == ("error: no rows ['mouse']; there are ['rat-imitation', 'rat-goals-reused']")
    message = one_line(invoke(reproduce.main, "rat-goals-reused", "--table", campaign))
    assert message.endswith("takes the decoder of rat-imitation: run that row first")
    campaign.write_text("ppo")
    assert "must hold rows by name" in one_line(invoke(reproduce.main, "--table", campaign))
    campaign.write_text("a: {command: ppo, steps: 1, seeds: [0], speed: 1}")
    assert "campaign.yml: a: " in one_line(invoke(reproduce.main, "--table", campaign))
    campaign.write_text(
        "a: {command: 'ppo --decoder {b}', steps: 1, seeds: [0], hours: {cpu: 1, gpu: null}}"
    )
    assert "names {b}" in one_line(invoke(reproduce.main, "--table", campaign))


def test_every_row_of_the_campaign_can_be_run() -> None:
    """Its command is one of a module here; its file of hyperparameters knows its task."""
    rows = reproduce.read_table()
    for row in rows.values():
        arguments = row.arguments(Path("runs"), row.seeds[0], rows)
        assert (reproduce.HERE / arguments[2].removeprefix("baselines.")).exists()
        task = row.task
        assert task in vnl_envs.task_ids()
        assert set(row.hours) == {"cpu", "gpu"}
        algorithm = "dmpo" if "baselines.dmpo" in arguments else "ppo"
        names = {"--network": INTENTION, "--decoder": DECODER}
        network = network_class(algorithm, next((names[a] for a in arguments if a in names), MLP))
        hyperparameters.load(getattr(network, "kind", ppo.Hyperparameters), network.files, task)
