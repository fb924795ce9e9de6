"""From a session and its activity to the report: by the documented commands."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from vnl_envs.bodies.model import BodyModel
from vnl_envs.cli.main import app
from vnl_envs.motion.datasets import load_clips
from vnl_envs.neural import activity, compare
from vnl_envs.neural.importing import import_session
from vnl_envs.neural.session import opened_session
from vnl_envs.neural.synthetic import planted_spikes, projections, tiled_motion, write_published

for needed in ("sklearn", "rsatoolbox"):
    pytest.importorskip(needed)

FRAMES = 4000
SETTINGS = ("--block", 4, "--gap", 0.6, "--folds", 2, "--components", 5, "--bin", 5)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, body: BodyModel) -> tuple[Path, Path]:
    """A session whose neurons follow one layer of a network, and the network's activity."""
    folder = tmp_path_factory.mktemp("compare")
    clips = load_clips(body, ["walk", "rear", "stand"])
    qpos, cluster = tiled_motion(clips, FRAMES, 0)
    rng = np.random.default_rng(0)
    # Slow, as behaviour is, and with nothing of the movement.
    slow = np.stack(
        [np.convolve(rng.normal(size=FRAMES + 99), np.ones(100) / 10, "valid") for _ in range(5)], 1
    )
    spikes = planted_spikes(projections(slow, 4, rng), rng)
    labels = [clip.label for clip in clips]
    write_published(
        folder / "raw.h5", body, qpos, cluster, spikes, labels, ["DLS", "DLS", "MC", "MC"]
    )
    import_session(folder / "raw.h5", folder / "s.h5", body)
    with opened_session(folder / "s.h5") as found, h5py.File(folder / "a.h5", "w") as file:
        activity.create(file, found.text["identity"])
        layers = (("latent", 5),)
        for name, seed in (("p", -1), ("p-untrained", 0)):
            about = {"digest": "", "env_hash": "", "untrained": seed}
            activity.add_policy(file, name, FRAMES, layers, about)
            file[name]["usable"][:] = np.arange(FRAMES) % 1000 > 20
            table = slow if seed < 0 else rng.normal(size=(FRAMES, 5))
            file[name]["layers/latent"][:] = table
    return folder / "s.h5", folder / "a.h5"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["neural", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_compare_and_report(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted layer wins over its shifted self and all others; the bytes are the same for any
    number of workers and after an interruption.
    """
    out, page = tmp_path / "c.json", tmp_path / "r.html"
    command = ("compare", *files, *SETTINGS, "--labels", "--out")
    run(*command, out, "--workers", 2)
    whole = out.read_bytes()
    # Half of the jobs done by another call.
    problem, data = compare._problem(files[0], (files[1],), settings_of(whole))
    journal = tmp_path / ".d.comparing.jsonl"
    jobs = compare._jobs(problem, data)
    done = [compare._job(problem, job) for job in jobs if job[0] == "probe"]
    lines = [{"key": problem.key}, *({"job": n, "result": r} for n, r in done)]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run(*command, tmp_path / "d.json", "--workers", 1)
    assert (tmp_path / "d.json").read_bytes() == whole
    assert not journal.exists()
    text = run("report", out, "--html", page)
    assert "DLS, 2 units" in text
    found = json.loads(run("report", out, "--json"))
    for region in ("DLS", "MC"):
        best, *others = found["regions"][region]["bits"]
        assert best["set"] == "p/latent"
        assert best["low"] > 0
        assert all(row["behind"]["low"] > 0 for row in others)
        (beyond,) = found["regions"][region]["beyond_shifted"]
        assert beyond["low"] > 0
    kinematics = ("keypoints", "joint angles", "joint velocities")
    probes = {row["set"]: row["value"] for row in found["probes"]}
    assert min(probes[name] for name in kinematics) > max(
        probes["p/latent"], probes["p-untrained/latent"]
    )
    assert "<svg" in page.read_text()
    assert "<script" not in page.read_text()


def settings_of(record: bytes) -> compare.Settings:
    found = json.loads(record)["settings"]
    return compare.Settings(**{**found, "lags": tuple(found["lags"])})


BAD: list[tuple[tuple[object, ...], str]] = [
    (("--block", 60), "need at least"),
    (("--gap", 0.1), "as long as the longest lag"),
    (("--block", 0.5), "shorter than half a block"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD)
def test_bad_settings(
    files: tuple[Path, Path], tmp_path: Path, arguments: tuple[object, ...], words: str
) -> None:
    """One line, nothing half-written."""
    refused([*files, *SETTINGS, *arguments], tmp_path, words)


def test_bad_files(files: tuple[Path, Path], session_file: Path, tmp_path: Path) -> None:
    """Files of another kind, or of another session, are named."""
    refused([session_file, files[1], *SETTINGS], tmp_path, "another session")
    refused([files[1], files[1], *SETTINGS], tmp_path, "not a vnl_envs-session")
    refused([files[0], files[0], *SETTINGS], tmp_path, "not a vnl_envs-activity")
    result = CliRunner().invoke(app, ["neural", "report", str(files[0])])
    assert result.exit_code == 2
    assert "not a vnl_envs-comparison" in result.stderr


def refused(arguments: list[object], folder: Path, words: str) -> None:
    out = folder / "c.json"
    result = CliRunner().invoke(app, ["neural", "compare", *map(str, arguments), "--out", str(out)])
    assert result.exit_code == 2, result.output
    (line,) = [x for x in result.stderr.splitlines() if x.startswith("error:")]
    assert words in line
    assert not list(folder.iterdir())
