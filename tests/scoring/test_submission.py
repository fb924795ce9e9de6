"""Bundles: sound ones pack, check and are the same every time; others are refused, safely."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import malformed_bundles as made
import numpy as np
import onnx
import onnxruntime
import pytest
from jsonschema import Draft202012Validator
from malformed_bundles import Case, cases
from onnx import helper

from vnl_envs.envs.core import Core
from vnl_envs.evaluation.evaluate import run_episodes
from vnl_envs.problems import Code, ScoringError
from vnl_envs.sandbox import launch
from vnl_envs.sandbox.inside import model_check
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.documents.schema.reading import parse
from vnl_envs.scoring.documents.schema.submission import Submission
from vnl_envs.scoring.documents.schema.text import canonical
from vnl_envs.scoring.results.episodes import episode_result
from vnl_envs.scoring.results.files import read_result
from vnl_envs.scoring.run import plan, runner
from vnl_envs.scoring.submission import archive, bundles, inspection
from vnl_envs.utils.texts import is_visible

ROOT = Path(__file__).parents[2]
FEWEST, FEWEST_CLASSES = 1000, 40
IMITATION = "vnl/RodentImitation-v0"
HANGS, KIB = 60, 512 * 1024
REFUSED = (Code.ARCHIVE, Code.SCHEMA, Code.DIGEST, Code.MODEL, Code.VERSION)
ENTRY = """
name = "Two small ones"
authors = ["A. Rat"]
licence = "MIT"
suite = "quick-v2"
date = 2026-01-31

[training]
algorithm = "by hand"
env_steps = 0
backend = "none"
hardware = "none"
seeds = [0]

[tasks."vnl/RodentGoalReaching-v0"]
policy = "rat.onnx"
"""


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A `vnl-envs score` command."""
    return subprocess.run(
        [sys.executable, "-m", "vnl_envs", "score", *map(str, arguments)], text=True, check=False,
        capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        timeout=300,
    )  # fmt: skip


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A sound bundle of a card, a curve and a policy."""
    (tmp_path / "rat.onnx").write_bytes(made.sound_policy())
    (tmp_path / "card.md").write_text("# How it was made\n")
    (tmp_path / "rat.csv").write_text("step,return\n0,1\n")
    (tmp_path / "entry.toml").write_text('card = "card.md"\ncurves = ["rat.csv"]\n' + ENTRY)
    bundles.pack(tmp_path / "entry.toml", tmp_path / "bundle.zip")
    return tmp_path / "bundle.zip"


# Sound bundles


def test_a_packed_bundle_is_what_its_entry_file_says(packed: Path) -> None:
    """Also for other readers of zip files; its identity is the hash of its manifest."""
    checked = bundles.check(packed)
    policy = checked.policies[made.TASK]
    assert (policy.observation, policy.state, policy.action) == (made.OBSERVATION, 0, made.ACTION)
    assert policy.parameters == made.ACTION
    assert policy.data == made.sound_policy()
    assert checked.entrant.policies[made.TASK].sha256 == archive.sha256(policy.data)
    files = {
        name: zipfile.ZipFile(packed).read(name) for name in zipfile.ZipFile(packed).namelist()
    }
    assert files == checked.files
    assert files["card.md"] == b"# How it was made\n"
    assert set(files) == {"submission.json", "MANIFEST.json", "card.md", "curves/rat.csv",
                          policy.path}  # fmt: skip
    manifest = json.loads(files["MANIFEST.json"])
    assert archive.sha256(canonical(manifest)) == checked.identity


def test_packing_again_gives_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    """Whenever and wherever."""
    for name in ("entry.toml", "rat.onnx"):
        os.utime(tmp_path / name, (0, 0))
    bundles.pack(tmp_path / "entry.toml", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


@pytest.mark.parametrize("level", [0, 6, 9])
def test_bundles_of_other_zip_writers_are_read(packed: Path, level: int) -> None:
    """Compression changes nothing of the identity."""
    files = bundles.check(packed).files
    other = packed.with_name("other.zip")
    with zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as file:
        for name, data in reversed(files.items()):
            file.writestr(name, data)
    assert bundles.check(other).identity == bundles.check(packed).identity


def test_baselines_are_accepted(tmp_path: Path) -> None:
    """Every checkpoint there is, with what its file says of its training."""
    for path in sorted((ROOT / "baselines/checkpoints").glob("*/*.onnx")):
        task = f"vnl/{path.stem}"
        shared = tomllib.loads(ENTRY)["training"]
        entry = ENTRY[: ENTRY.index("[training]")] + "[training]\n" + "".join(
            f'{key} = "{shared[key]}"\n' for key in ("backend", "hardware")
        ) + f'[tasks."{task}"]\npolicy = "{path}"\n'  # fmt: skip
        (tmp_path / "entry.toml").write_text(entry)
        checked = bundles.pack(tmp_path / "entry.toml", tmp_path / "bundle.zip")
        training = checked.submission.tasks[task].training
        assert training.env_steps == int(checked.policies[task].metadata["steps"])
        assert training.algorithm.startswith(path.parent.name.split("_")[0].upper())


def test_a_policy_with_memory_is_accepted() -> None:
    """An LSTM whose two states are the halves of `state_in`."""
    size = 16
    rng = np.random.default_rng(0)
    shapes = {"w": (1, 4 * size, made.OBSERVATION), "r": (1, 4 * size, size),
              "out": (size, made.ACTION)}  # fmt: skip
    constants = [made.weights(k, rng.normal(size=s).astype(np.float32)) for k, s in shapes.items()]
    constants += [made.weights("half", np.array([size, size])),
                  made.weights("row", np.array([1, size]))]  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Unsqueeze", ["obs", "zero"], ["sequence"]),
        node("Split", ["state_in", "half"], ["h", "c"], axis=1),
        node("Unsqueeze", ["h", "zero"], ["h1"]), node("Unsqueeze", ["c", "zero"], ["c1"]),
        node("LSTM", ["sequence", "w", "r", "", "", "h1", "c1"], ["", "h2", "c2"],
             hidden_size=size),
        node("Reshape", ["h2", "row"], ["h3"]), node("Reshape", ["c2", "row"], ["c3"]),
        node("Concat", ["h3", "c3"], ["state_out"], axis=1),
        node("MatMul", ["h3", "out"], ["action"]),
    ]  # fmt: skip
    model = made.policy(
        nodes, constants,
        [made.values("obs", shape=("batch", made.OBSERVATION)),
         made.values("state_in", shape=("batch", 2 * size))],
        [made.values("action", shape=("batch", made.ACTION)),
         made.values("state_out", shape=("batch", 2 * size))],
    )  # fmt: skip
    (verdict,) = inspection.inspect([model.SerializeToString()])
    assert verdict.problems == []
    assert (verdict.observation, verdict.state, verdict.action) == (made.OBSERVATION, 2 * size,
                                                                    made.ACTION)  # fmt: skip


class Own:
    """A model of Stable-Baselines3 as a policy of one simulation, by its own `predict`."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def begin(self, ids: np.ndarray, generators: Any) -> None:
        """Nothing to clear."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The mean action."""
        action: np.ndarray = self.model.predict(observation, deterministic=True)[0]
        return action


@pytest.mark.parametrize(("algorithm", "more"), [("PPO", {}), ("SAC", {"buffer_size": 100})])
def test_a_policy_exported_as_stable_baselines3_documents_packs_and_scores(
    algorithm: str, more: dict[str, Any], tmp_path: Path
) -> None:
    """By the commands of the page for entrants; its scores are those of the model itself."""
    import gymnasium
    import stable_baselines3
    import torch

    class Onnxable(torch.nn.Module):
        """`OnnxableSB3Policy` and, for SAC, `OnnxablePolicy` of the page "Exporting models"."""

        def __init__(self, policy: Any) -> None:
            super().__init__()
            self.policy = policy

        def forward(self, observation: torch.Tensor) -> Any:
            return self.policy(observation, deterministic=True)

    env = gymnasium.make(IMITATION)
    model = getattr(stable_baselines3, algorithm)("MlpPolicy", env, device="cpu", seed=0, **more)
    onnxable = Onnxable(model.policy if algorithm == "PPO" else model.policy.actor)
    torch.onnx.export(
        onnxable,
        torch.randn(1, *env.observation_space.shape), str(tmp_path / "rat.onnx"),
        opset_version=17, input_names=["input"], dynamo=False,
    )  # fmt: skip
    (tmp_path / "entry.toml").write_text(ENTRY.replace(made.TASK, IMITATION))
    bundle, out = tmp_path / "mine.zip", tmp_path / "mine"
    for command in (
        ("pack", tmp_path / "entry.toml", "--out", bundle),
        ("check", bundle),
        ("run", bundle, "--split", "dev", "--task", IMITATION, "--episodes", "3", "--out", out),
    ):
        done = run(*command)
        assert done.returncode == Code.OK, done.stderr

    observation = np.random.default_rng(0).normal(size=(1, *env.observation_space.shape))
    session = onnxruntime.InferenceSession(bundles.check(bundle).policies[IMITATION].data)
    (action,) = session.run(["action"], {"obs": observation.astype(np.float32)})
    theirs = model.policy.predict(observation.astype(np.float32), deterministic=True)[0]
    np.testing.assert_allclose(np.clip(action, -1, 1), theirs, atol=1e-5)

    suite = suites.load_suite("quick-v2")
    result = read_result(out / runner.RESULT)
    specs = plan.part_of(suite, "native", [IMITATION], 3).specs
    assert [episode.id for episode in result.episodes] == [spec.id for spec in specs]
    for spec, episode in zip(specs, result.episodes, strict=True):
        core = Core(suites.make_cell(spec.task, spec.cell), 1, 1)
        (finished,) = run_episodes(core, Own(model), [spec.seed(suites.dev_key(suite))])
        expected = episode_result(spec, finished)
        assert (episode.end, episode.steps) == (expected.end, expected.steps)
        assert episode.score == pytest.approx(expected.score, abs=1e-4)
        assert episode.score > 0


@pytest.mark.parametrize("memory", [False, True])
def test_the_example_for_ones_own_network_is_packed(memory: bool, tmp_path: Path) -> None:
    """As it stands in `examples`."""
    command = [sys.executable, "-W", "ignore", str(ROOT / "examples/export_own_network.py"),
               "--task", made.TASK, "--out", "rat.onnx"]  # fmt: skip
    command += ["--memory"] if memory else []
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert float(done.stdout.split()[-1]) < 1e-5
    (tmp_path / "entry.toml").write_text(ENTRY)
    checked = bundles.pack(tmp_path / "entry.toml", tmp_path / "bundle.zip")
    assert (checked.policies[made.TASK].state > 0) == memory


def test_weights_beside_the_file_are_taken_in(tmp_path: Path) -> None:
    """As the newer exporter of torch writes them."""
    array = made.weights("far", np.full((1, 2000), 0.5, np.float32))
    model = made.before(
        helper.make_node("ReduceMean", ["far"], ["mean"], axes=[1]),
        helper.make_node("Add", ["obs", "mean"], ["changed"]), constants=[array],
    )  # fmt: skip
    onnx.save(model, tmp_path / "rat.onnx", save_as_external_data=True, location="rat.onnx.data")
    assert (tmp_path / "rat.onnx.data").stat().st_size >= 8000
    (tmp_path / "entry.toml").write_text(ENTRY)
    checked = bundles.pack(tmp_path / "entry.toml", tmp_path / "bundle.zip")
    assert checked.policies[made.TASK].parameters == 2000
    (tmp_path / "rat.onnx.data").unlink()
    with pytest.raises(ValueError, match=r"rat\.onnx"):
        bundles.pack(tmp_path / "entry.toml", tmp_path / "bundle.zip")


def test_nothing_is_written_if_a_policy_is_refused(tmp_path: Path) -> None:
    """The problems of a bundle are found before there is one."""
    (tmp_path / "rat.onnx").write_bytes(made.before(
        helper.make_node("NonZero", ["obs"], ["changed"])).SerializeToString())  # fmt: skip
    (tmp_path / "entry.toml").write_text(ENTRY)
    with pytest.raises(ScoringError, match="NonZero") as caught:
        bundles.pack(tmp_path / "entry.toml", tmp_path / "bundle.zip")
    assert caught.value.code == Code.MODEL
    assert not (tmp_path / "bundle.zip").exists()


def test_an_entry_and_its_policies_are_judged_in_one_pass(tmp_path: Path) -> None:
    """What an entry leaves to the policy's own words is not all that is told of a broken one."""
    (tmp_path / "rat.onnx").write_bytes(b"no policy")
    (tmp_path / "entry.toml").write_text(ENTRY.replace('algorithm = "by hand"\n', ""))
    with pytest.raises(ScoringError) as caught:
        bundles.pack(tmp_path / "entry.toml", tmp_path / "bundle.zip")
    assert {p.code for p in caught.value.problems} == {Code.SCHEMA, Code.MODEL}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("name =", "name ="), None),
        (("name =", "title ="), "title"),
        (("rat.onnx", "none.onnx"), "none.onnx"),
        (("env_steps = 0", "env_steps = -1"), "env_steps"),
        (("[training]", "[training"), "TOML"),
        (("policy =", "file ="), "policy"),
        (("suite =", "card = 3\nsuite ="), "card"),
        (("suite =", 'card = "none.md"\nsuite ='), "none.md"),
        (("suite =", 'curves = ["a/x.csv", "x.csv"]\nsuite ='), "same file name"),
        (("suite =", 'curves = ["x y.csv"]\nsuite ='), "names are of up to 80 letters"),
        (("env_steps = 0", "env_steps = 10:00:00"), "time"),
        (("[training]", "[[training]]"), r"\[training\]"),
    ],
)
def test_what_is_wrong_with_an_entry_file_is_said(
    change: tuple[str, str], message: str | None, tmp_path: Path
) -> None:
    """In a line that names the key or the file."""
    (tmp_path / "rat.onnx").write_bytes(made.sound_policy())
    (tmp_path / "entry.toml").write_text(ENTRY.replace(*change))
    if message is None:
        bundles.pack(tmp_path / "entry.toml", tmp_path / "bundle.zip")
    else:
        with pytest.raises((ScoringError, ValueError, OSError), match=message):
            bundles.pack(tmp_path / "entry.toml", tmp_path / "bundle.zip")


@pytest.mark.parametrize("kind", ["pipe", "device", "large"])
@pytest.mark.parametrize("what", ["entry.toml", "card.md", "rat.csv", "rat.onnx", "weights"])
def test_only_regular_files_of_a_stated_size_are_packed(
    tmp_path: Path, packed: Path, what: str, kind: str
) -> None:
    """A pipe would be waited for, a device has no end. In a process that may be given up."""
    if what == "weights":
        model = onnx.load(tmp_path / "rat.onnx")
        onnx.save(model, tmp_path / "rat.onnx", save_as_external_data=True, location=what,
                  size_threshold=0)  # fmt: skip
    packed.unlink()
    path = tmp_path / what
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(100 * 2**20)
    done = run("pack", tmp_path / "entry.toml", "--out", packed)
    assert done.returncode == 2, done.stderr
    assert what in done.stderr
    assert done.stderr.count("\n") == 1
    assert not packed.exists()


@pytest.mark.parametrize("command", ["check", "verify", "report", "run"])
def test_no_command_waits_for_a_pipe(tmp_path: Path, command: str) -> None:
    """In place of whatever it reads first."""
    os.mkfifo(tmp_path / "pipe.json")
    options = ("--out", tmp_path / "run") if command == "run" else ()
    done = run(command, tmp_path / "pipe.json", *options)
    assert done.returncode == 2
    assert "pipe.json: not a regular file" in done.stderr


def test_a_policy_in_place_of_the_entry_file_is_a_wrong_argument(tmp_path: Path) -> None:
    """Told which file would be right."""
    (tmp_path / "rat.onnx").write_bytes(made.sound_policy())
    with pytest.raises(ValueError, match=r"rat\.onnx' is not the TOML file that names .*UTF-8"):
        bundles.pack(tmp_path / "rat.onnx", tmp_path / "bundle.zip")


def test_every_allowed_operator_exists_and_draws_no_random_numbers() -> None:
    """In an opset that is allowed; none takes a graph."""
    for name in model_check.OPERATORS:
        definition = onnx.defs.get_schema(name, model_check.OPSETS.stop - 1)
        assert definition.since_version < model_check.OPSETS.stop
        types = {attribute.type for attribute in definition.attributes.values()}
        assert onnx.defs.OpSchema.AttrType.GRAPH not in types
        assert "seed" not in definition.attributes


def loads(ir_version: int, opset: int) -> bool:
    """Whether the runtime takes a model that says to be of these."""
    model = made.policy(opset=opset, ir=ir_version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options)
    except Exception:
        return False
    return True


def test_versions_of_onnx_are_limited_by_the_runtime_alone() -> None:
    """So that what the pinned `onnx.helper` writes by itself is accepted if the runtime has it."""
    last_ir, last_opset = model_check.IR_VERSIONS[-1], model_check.OPSETS[-1]
    assert loads(last_ir, last_opset)
    assert not loads(last_ir + 1, last_opset)
    assert not loads(last_ir, last_opset + 1)
    judged = made.policy()
    default = helper.make_model(judged.graph)
    refused = model_check.judge(default.SerializeToString())["problems"]
    assert bool(refused) != loads(default.ir_version, default.opset_import[0].version), refused


def test_the_page_for_entrants_is_current(tmp_path: Path) -> None:
    """Its operators are those that are allowed, and its entry file packs."""
    page = (ROOT / "docs/submitting.md").read_text()
    listed = re.search(r"Operators: ([^.]*)\.", page)
    assert listed is not None
    assert set(re.split(r",\s+", listed[1])) == model_check.OPERATORS
    entry = re.search(r"```toml\n(.*?)```", page, re.S)
    assert entry is not None
    (tmp_path / "entry.toml").write_text(entry[1])
    (tmp_path / "card.md").write_text("How.\n")
    (tmp_path / "rodent_goal.csv").write_text("step,return\n")
    (tmp_path / "rodent_goal.onnx").write_bytes(made.sound_policy())
    human = made.policy(
        [*made.first(56), helper.make_node("Tanh", ["cut"], ["action"])], made.bounds(56)[2:],
        [made.values("obs", shape=(1, 198))], [made.values("action", shape=(1, 56))],
    )  # fmt: skip
    (tmp_path / "humanoid_goal.onnx").write_bytes(human.SerializeToString())
    checked = bundles.pack(tmp_path / "entry.toml", tmp_path / "bundle.zip")
    steps = [entry.training.env_steps for entry in checked.submission.tasks.values()]
    assert sorted(steps) == [100_000_000, 200_000_000]


@pytest.mark.parametrize(
    "date", [86400, "86400", "2026-01-31T00:00:00", "2026-1-31", "20260131", "2026-02-30"]
)
def test_a_date_is_a_day_of_the_calendar(date: Any) -> None:
    """Written in one way only."""
    text = json.dumps(made.document() | {"date": date})
    with pytest.raises(ScoringError, match="date: "):
        parse(Submission, text, "submission.json")


def test_exported_schemas_are_current(tmp_path: Path) -> None:
    """`leaderboard/schemas` is what `vnl-envs score schema` writes, and accepts a submission."""
    from typer.testing import CliRunner

    from vnl_envs.cli.score import app

    told = json.loads(CliRunner().invoke(app, ["schema", str(tmp_path), "--json"]).stdout)
    assert told["ok"]
    for path in map(Path, told["schemas"]):
        assert path.read_text() == (ROOT / "leaderboard/schemas" / path.name).read_text()
        Draft202012Validator.check_schema(json.loads(path.read_text()))
    validator = Draft202012Validator(json.loads((tmp_path / "submission.schema.json").read_text()))
    validator.validate(made.document())
    assert not validator.is_valid(made.document() | {"extra": 1})


# Malformed bundles


@pytest.fixture(scope="module")
def reader() -> Iterator[inspection.Reader]:
    """One process that reads policies for all of them; a new one where a policy has ended it."""
    with inspection.Reader() as opened:
        yield opened


def verdict_on(path: Path) -> tuple[Code | None, str]:
    """The exit code of checking a bundle and all problems; no code if it is sound."""
    try:
        bundles.check(path)
    except ScoringError as error:
        return error.code, str(error)
    return None, ""


def test_malformed_bundles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: inspection.Reader
) -> None:
    """At least 1 000 of at least 40 classes: the right code, printable, nothing written."""
    monkeypatch.setattr(bundles, "inspect", lambda files: [reader.judge(f) for f in files])
    path = tmp_path / "bundle.zip"
    wrong, names, kinds = [], set(), set()
    for case in cases():
        names.add(case.name)
        kinds.add(case.kind)
        path.write_bytes(case.make())
        code, text = verdict_on(path)
        allowed = (None, *REFUSED) if case.harmless else (case.code,)
        if code not in allowed or not is_visible(text):
            wrong.append(f"{case.name}: {code} {text[:200]!r}")
    assert not wrong, "\n".join(wrong)
    assert len(names) >= FEWEST
    assert len(kinds) >= FEWEST_CLASSES
    assert os.listdir(tmp_path) == ["bundle.zip"]


GREEDY = ("bomb", "bomb in disguise", "too large", "control characters", "depth", "ballast",
          "slow", "memory", "loop", "size on the way")  # fmt: skip
"""Classes that want much memory or time, or that bring what a terminal would obey."""


def some_of_each_code() -> list[Case]:
    """The first case of each greedy class, and the first and last of every exit code."""
    certain = [case for case in cases() if not case.harmless]
    first = {case.kind: case for case in reversed(certain) if case.kind in GREEDY}
    ends = {case.code: case for case in certain}, {case.code: case for case in reversed(certain)}
    return list({case.name: case for found in (first, *ends) for case in found.values()}.values())


MEASURE = """
import os, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
os.write(1, f"{used.ru_utime + used.ru_stime} {used.ru_maxrss} {done.returncode}\\n".encode())
os.write(1, done.stdout + b"\\f" + done.stderr)
"""
"""Runs a command; says its seconds of CPU, its largest process in KiB, its exit code and output."""


def command_problem(case: Case, folder: Path) -> str | None:
    """What is wrong with how the real command takes a case, in a folder of its own."""
    folder.mkdir()
    temporary = folder / "tmp"
    temporary.mkdir()
    (folder / "bundle.zip").write_bytes(case.make())
    # Without bwrap on the path, whose children the kernel does not count as ours.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": str(temporary), "OMP_NUM_THREADS":
                   "1", "TMPDIR": str(temporary), "HOME": str(temporary)}  # fmt: skip
    command = [sys.executable, "-m", "vnl_envs", "score", "check", "bundle.zip"]
    ran = subprocess.run([sys.executable, "-c", MEASURE, *command], cwd=folder, env=environment,
                         capture_output=True, text=True, check=True, timeout=HANGS)  # fmt: skip
    figures, _, output = ran.stdout.partition("\n")
    _, kib, code = figures.split()
    (folder / "figures.txt").write_text(figures)
    out, _, err = output.partition("\f")
    if int(kib) >= KIB:
        return f"took {kib} KiB"
    if "Traceback" in output or (int(code) and not all(map(is_visible, output.splitlines()))):
        return f"printed {output[-500:]!r}"
    if int(code) not in ((0, *REFUSED) if case.harmless else (case.code,)):
        return f"ended with {code}: {output[-500:]}"
    if int(code) and (out or not all(line.startswith("error[") for line in err.splitlines())):
        return f"printed {output[-500:]!r}"
    left = {str(p.relative_to(folder)) for p in folder.rglob("*")}
    if left != {"bundle.zip", "tmp", "figures.txt"}:
        return f"left {left}"
    return None


def test_malformed_bundles_on_the_command_line(tmp_path: Path) -> None:
    """Some of each exit code: no traceback, no file left, little memory.

    Prints the CPU time as well; it hangs on the machine, most of it being Python's start.
    """
    chosen = some_of_each_code()
    folders = [tmp_path / str(i) for i in range(len(chosen))]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(command_problem, chosen, folders))
    figures = [(folder / "figures.txt").read_text().split() for folder in folders]
    print(f"{len(chosen)} bundles; at most {max(float(f[0]) for f in figures):.2f} s, "
          f"{max(int(f[1]) for f in figures) // 1024} MiB")  # fmt: skip
    wrong = [f"{c.name}: {text}" for c, text in zip(chosen, found, strict=True) if text]
    assert not wrong, "\n".join(wrong)


@pytest.mark.skipif(launch.unavailable_reason() is not None, reason="no sandbox here")
def test_policies_are_read_in_the_sandbox() -> None:
    """A file that takes too long, one that takes too much memory, then a sound one."""
    cruel = [c for c in cases() if c.kind in ("slow", "memory")]
    with inspection.Reader() as opened:
        for case in cruel:
            files = archive.unpack(case.make()).files
            assert opened.judge(files[made.POLICY]).problems
        assert not opened.judge(made.sound_policy()).problems


def test_problems_are_told_all_at_once_and_as_json(tmp_path: Path) -> None:
    """An unknown key, a digest that differs and a forbidden operator."""
    files = made.files_of(made.document() | {"extra": 1})
    forbidden = made.before(helper.make_node("NonZero", ["obs"], ["changed"]))
    path = tmp_path / "bundle.zip"
    path.write_bytes(archive.pack_bytes(files | {made.POLICY: forbidden.SerializeToString()}))
    told = run("check", path, "--json")
    answer = json.loads(told.stdout)
    assert told.returncode == answer["exit_code"] == Code.SCHEMA
    assert {p["code"] for p in answer["problems"]} == {"schema", "digest", "model"}
    assert told.stderr == ""
    lines = run("check", path).stderr.splitlines()
    assert lines == [f"error[{p['code']}] {p['where']}: {p['message']}" for p in answer["problems"]]


@pytest.mark.parametrize("command", ["check", "report"])
@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_what_is_no_file_is_a_wrong_argument(command: str, kind: str, tmp_path: Path) -> None:
    """A bundle or a result: exit code 2 and one line, without waiting for a writer."""
    path = tmp_path / "given"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    told = run(command, path)
    assert told.returncode == 2
    (line,) = told.stderr.splitlines()
    assert line.startswith(f"error[argument] {path}: ")
    assert "Errno" not in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check"], "BUNDLE"),
        (["check", "x.zip", "--nothing"], "--nothing"),
        (["run", "x.zip", "--workers", "0"], "workers"),
        (["run", "x.zip", "--workers", "two"], "workers"),
        (["nothing"], "nothing"),
        ([], "--json"),
    ],
)
def test_wrong_arguments_are_json_where_it_is_asked_for(arguments: list[str], said: str) -> None:
    """The same exit code as without, where they are Typer's to print."""
    from typer.testing import CliRunner

    from vnl_envs.cli.main import app

    runner = CliRunner()
    told = runner.invoke(app, ["score", *arguments, "--json"])
    answer = json.loads(told.stdout)
    assert told.exit_code == answer["exit_code"] == 2
    (only,) = answer["problems"]
    assert only["code"] == "argument"
    assert said in only["message"]
    assert told.stderr == ""
    if arguments:
        plain = runner.invoke(app, ["score", *arguments])
        assert (plain.exit_code, plain.stdout) == (2, "")


def test_a_fault_of_ours_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 70; the traceback only where it is asked for."""
    from typer.testing import CliRunner

    from vnl_envs.cli.problems import DEBUG
    from vnl_envs.cli.score import app

    def fail(path: Path) -> None:
        raise KeyError("broken\nin two")

    monkeypatch.setattr(bundles, "check", fail)
    done = CliRunner().invoke(app, ["check", "x.zip"])
    assert done.exit_code == Code.INTERNAL
    assert done.stderr.splitlines() == [
        f"error[internal] KeyError: 'broken\\nin two' ({DEBUG}=1 prints the traceback)"
    ]
    monkeypatch.setenv(DEBUG, "1")
    assert isinstance(CliRunner().invoke(app, ["check", "x.zip"]).exception, KeyError)
