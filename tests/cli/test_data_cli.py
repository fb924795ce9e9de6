"""`vnl-envs data`: from files of others to scores by behaviour, and one line for every mistake."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import imageio.v2 as imageio
import numpy as np
import pytest
import scipy.io
from commands import one_line, run, told
from typer.testing import CliRunner

import vnl_envs
from vnl_envs.cli.main import app
from vnl_envs.motion import downloads
from vnl_envs.motion.clip import Clip, body_of, read_clips, write_clips
from vnl_envs.motion.datasets import load_clips
from vnl_envs.motion.downloads import DATASETS, DownloadError, Fetched
from vnl_envs.motion.fitting.keypoints import standing_markers
from vnl_envs.motion.fitting.markers import marker_set
from vnl_envs.testing.environments import task_of

IMITATION = "vnl/RodentImitation-v0"
BODY = task_of(IMITATION).body


def write_recording(path: Path, clips: Sequence[Clip]) -> None:
    """Clips as dm_control writes them."""
    with h5py.File(path, "w", track_order=True) as file:
        for clip in clips:
            group = file.create_group(clip.name, track_order=True)
            group.attrs.update(dt=0.02, num_steps=len(clip))
            walker = group.create_group("walkers/walker_0")
            for name, columns in (
                ("position", slice(0, 3)), ("quaternion", slice(3, 7)), ("joints", slice(7, None)),
            ):  # fmt: skip
                walker[name] = clip.qpos[:, columns].T


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A recording of two clips."""
    path = tmp_path / "rec.h5"
    write_recording(path, load_clips(BODY, ["walk", "rear"]))
    return path


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    """A clip file of two short clips."""
    path = tmp_path / "clips.h5"
    short = [
        Clip(c.name, c.qpos[:40], c.label, "train", c.source, c.licence)
        for c in load_clips(BODY, ["walk", "stand"])
    ]
    write_clips(path, short, BODY)
    return path


# list


def test_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets with licence and page, embedded clips with labels; also as JSON."""
    monkeypatch.setenv("VNL_ENVS_DATA", str(tmp_path))
    (tmp_path / "cmu-2020.h5").write_bytes(b"")
    listed = json.loads(told(run("list", "--json")))
    assert listed["folder"] == str(tmp_path)
    sets = {row["name"]: row for row in listed["data_sets"]}
    assert list(sets) == list(DATASETS)
    assert sets["cmu-2020"]["path"] == str(tmp_path / "cmu-2020.h5")
    assert sets["mimic-mjx-rodent"]["path"] is None
    assert {row["body"] for row in listed["clips"]} == {"rodent", "humanoid"}
    rat = [row for row in listed["clips"] if row["body"] == "rodent"]
    expected = [(c.name, c.label, c.split, len(c) / 50, c.licence) for c in load_clips(BODY)]
    assert [tuple(list(row.values())[1:]) for row in rat] == expected
    table = told(run("list"))
    assert all(len(line) <= 110 for line in table.splitlines())
    for row in sets.values():
        assert row["name"] in table
        assert row["home"] in table
    assert all(row["name"] in table for row in listed["clips"])


# fetch (the downloads themselves: test_downloads.py)


def test_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file is, its licence, and what to do next."""
    path = tmp_path / "cmu-2020.h5"
    path.write_bytes(b"12345")

    def fetch(name: str, **_: Any) -> Fetched:
        return Fetched(path, "abc", "first")

    monkeypatch.setattr(downloads, "fetch", fetch)
    text = told(run("fetch", "cmu-2020"))
    assert str(path) in text
    assert "abc" in text
    assert DATASETS["cmu-2020"].licence in text
    assert f"vnl-envs data import {path} --body humanoid" in text


def test_fetch_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that says how to go on, and the shell's exit code for it."""

    def fetch(name: str, **_: Any) -> Fetched:
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "fetch", fetch)
    result = run("fetch", "cmu-2020")
    assert result.exit_code == 130
    assert result.stderr == "interrupted; the same command resumes\n"


def test_fetch_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown names list those there are; what is had by hand says where."""
    assert all(name in one_line(run("fetch", "rabbits")) for name in DATASETS)
    assert "https://doi.org/10.7910/DVN/FB0MZT" in one_line(run("fetch", "aldarondo-2024"))

    def fetch(name: str, **_: Any) -> Fetched:
        raise DownloadError("cmu-2020: cannot reach the server")

    monkeypatch.setattr(downloads, "fetch", fetch)
    assert "cannot reach" in one_line(run("fetch", "cmu-2020"))


# import


def test_import_to_scores_by_label(recording: Path, tmp_path: Path) -> None:
    """Motion in, table by behaviour out: poses, labels and licence arrive."""
    out, labels = tmp_path / "mine.h5", tmp_path / "labels.csv"
    labels.write_text("clip,label\nwalk,amble\nrear,look around\n")
    text = told(run("import", recording, "--body", "rodent", "--labels", labels,
                    "--licence", "CC0-1.0", "--out", out))  # fmt: skip
    assert re.search(r"wrote .*mine.h5: 2 clips \(2 train\), 10.0 s of motion, \d+ frames/s; check",
                     text)  # fmt: skip
    assert f"vnl-envs data check {out}" in text
    clips = read_clips(out, BODY)
    for clip, source in zip(clips, load_clips(BODY, ["walk", "rear"]), strict=True):
        np.testing.assert_allclose(clip.qpos, source.qpos, atol=1e-6)
        assert clip.licence == "CC0-1.0"
    scores = CliRunner().invoke(
        app,
        ["evaluate", IMITATION, "-o", f"clips={out}", "--policy", "track", "--episodes", "8",
         "--by-label"],
    )  # fmt: skip
    assert scores.exit_code == 0, scores.output
    counts = {k: int(n) for k, n in re.findall(r"^(amble|look around), (\d+) ep", scores.stdout,
                                               re.M)}  # fmt: skip
    assert set(counts) == {"amble", "look around"}
    assert sum(counts.values()) == 8


def test_import_of_several_files_with_a_split(tmp_path: Path) -> None:
    """Names that occur twice are told apart, and whole recordings are held out."""
    walk, rear = (load_clips(BODY, [name])[0] for name in ("walk", "rear"))
    paths = [tmp_path / f"{name}.h5" for name in ("monday", "tuesday")]
    for path, clip in zip(paths, (walk, rear), strict=True):
        write_clips(path, [Clip("c", clip.qpos, "a", "train", "s", "MIT", session=path.stem)], BODY)
    out = tmp_path / "both.h5"
    text = told(run("import", *paths, "--body", "rodent", "--split-by", "session",
                    "--test", "0.5", "--out", out))  # fmt: skip
    assert "2 clips (1 train, 1 test)" in text
    clips = {clip.name: clip for clip in read_clips(out, BODY)}
    assert set(clips) == {"monday_c", "tuesday_c"}
    assert {clip.split for clip in clips.values()} == {"train", "test"}
    np.testing.assert_array_equal(clips["tuesday_c"].qpos, rear.qpos)


def test_import_warns_of_unknown_licences(recording: Path, tmp_path: Path) -> None:
    """One line on the error output."""
    out = tmp_path / "out.h5"
    result = run("import", recording, "--body", "rodent", "--label", "x", "--out", out)
    told(result)
    assert [x for x in result.stderr.splitlines() if "|" not in x][-1].startswith("warning: lic")
    assert {(clip.licence, clip.label) for clip in read_clips(out, BODY)} == {("unknown", "x")}


def test_labels_table_also_names_subjects(recording: Path, tmp_path: Path) -> None:
    """So that clips can be split by them; empty cells leave what the file knew."""
    out, labels = tmp_path / "out.h5", tmp_path / "labels.csv"
    labels.write_text("\ufeffclip,subject,label,session\nwalk,ann,,1\nrear,bob,rear,2\n", "utf-8")
    told(run("import", recording, "--body", "rodent", "--labels", labels, "--out", out,
             "--split-by", "subject"))  # fmt: skip
    clips = read_clips(out, BODY)
    assert [(c.subject, c.label, c.session) for c in clips] == [
        ("ann", "unlabelled", "1"), ("bob", "rear", "2"),
    ]  # fmt: skip
    assert {c.split for c in clips} == {"train", "test"}


def bad_recording(tmp_path: Path) -> Path:
    """A clip that is fine, and one that is under the ground."""
    walk, rear = (load_clips(BODY, [name])[0] for name in ("walk", "rear"))
    sunk = rear.qpos.copy()
    sunk[:, 2] -= 0.05
    path = tmp_path / "half.h5"
    write_recording(path, [walk, dataclasses.replace(rear, qpos=sunk)])
    return path


def test_bad_clips_are_left_out(tmp_path: Path) -> None:
    """The last line and the exit code say so; `--keep-bad` keeps them."""
    path, out = bad_recording(tmp_path), tmp_path / "out.h5"
    command = ("import", path, "--body", "rodent", "--licence", "MIT", "--out", out)
    result = run(*command)
    assert result.exit_code == 1
    assert "1 clip (1 train)" in result.stdout
    assert "check: 1 ok, 1 bad" in result.stdout
    last = result.stdout.splitlines()[-1]
    assert last.startswith("bad: 1 left out (--keep-bad keeps them): 'rear': depth over")
    assert [clip.name for clip in read_clips(out, BODY)] == ["walk"]
    result = run(*command, "--keep-bad")
    assert told(result).splitlines()[-1].startswith("bad: 1 kept: 'rear': depth over")
    assert [clip.name for clip in read_clips(out, BODY)] == ["walk", "rear"]


def test_nothing_is_written_where_all_clips_are_bad(tmp_path: Path) -> None:
    path, out = bad_recording(tmp_path), tmp_path / "out.h5"
    with h5py.File(path, "r+") as file:
        del file["walk"]
    result = run("import", path, "--body", "rodent", "--out", out)
    assert result.exit_code == 1
    assert "bad: 1 left out, nothing was written" in result.stdout.splitlines()[-1]
    assert not out.exists()


def test_what_readers_warn_of_is_a_line(tmp_path: Path) -> None:
    """Without Python's own dress."""
    path, names = tmp_path / "a.mat", [m.name for m in marker_set(BODY)]
    points = np.repeat(standing_markers(BODY)[None], 12, axis=0)
    points += 1e-3 * np.random.default_rng(0).normal(size=points.shape)
    scipy.io.savemat(path, {"pred": points[:, :-1], "kp_names": np.array(names[:-1], object)})
    result = run("import", path, "--body", "rodent", "--rate", 50, "--licence", "MIT",
                 "--keep-bad", "--out", tmp_path / "out.h5")  # fmt: skip
    told(result)
    lines = [line for line in result.stderr.splitlines() if "|" not in line]
    assert lines == [f"warning: {path}: has no keypoints named '{names[-1]}'"]


BAD_LABELS = {
    "clip;label\nwalk;a\n": "columns clip",
    "name,label\nwalk,a\n": "columns clip",
    "clip\nwalk\n": "columns clip",
    "clip,colour\nwalk,red\n": "columns clip",
    "": "columns clip",
    "clip,label\nwalk,a\nwalk,b\n": "line 3 repeats the clip 'walk'",
    "clip,label\nwalk\n": "line 2 must have 2 columns",
    "clip,label\nwalk,a,b\n": "line 2 must have 2 columns",
    'clip,label\n"walk,a\n': "end of data",
    "clip,label\nrun,a\n": "no clips named 'run'; there are 'walk', 'rear'",
}


@pytest.mark.parametrize("text", BAD_LABELS)
def test_bad_labels(recording: Path, tmp_path: Path, text: str) -> None:
    """File and line are named, and nothing is written."""
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    out = tmp_path / "out.h5"
    line = one_line(run("import", recording, "--body", "rodent", "--labels", labels, "--out", out))
    assert str(labels) in line
    assert BAD_LABELS[text] in line
    assert not out.exists()


REC = ("import", "OUT/rec.h5", "--body", "rodent", "--out", "OUT/out.h5")
BAD_IMPORTS: list[tuple[tuple[str, ...], str]] = [
    (("import", "OUT/nowhere.h5", *REC[2:]), "nowhere.h5"),
    (("import", "OUT", *REC[2:]), "not a file"),
    (("import", "OUT/rec.h5", "OUT/other.txt", *REC[2:]), r"other.txt: .*stac"),
    (("import", "OUT/rec.h5", "OUT/cut.h5", *REC[2:]), "cut.h5"),
    ((*REC[:2], "--body", "rabbit", *REC[4:]), "rabbit.*rodent"),
    ((*REC[:2], "--body", "humanoid", *REC[4:]), "rec.h5"),
    ((*REC[:4], "--out", "OUT/out.txt"), "out.txt"),
    ((*REC[:4], "--out", "OUT/nowhere/out.h5"), "nowhere"),
    ((*REC, "--format", "bvh"), "dm_control.*bvh"),
    ((*REC, "--format", "stac"), "rec.h5"),
    ((*REC, "--rate", "25"), "rec.h5.*50 Hz"),
    ((*REC, "--test", "0.5"), "--split-by"),
    ((*REC, "--split-by", "session"), "session"),
    ((*REC, "--split-by", "subject"), "subject"),
    ((*REC, "--labels", "OUT/no.csv"), "no.csv"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_IMPORTS)
def test_bad_imports(
    recording: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """One line that names the file or the argument; a file that was there before still is."""
    (tmp_path / "other.txt").write_text("not motion")
    (tmp_path / "cut.h5").write_bytes(recording.read_bytes()[:-9000])
    (tmp_path / "out.h5").write_bytes(b"before")
    before = sorted(tmp_path.iterdir())
    line = one_line(run(*(a.replace("OUT", str(tmp_path)) for a in arguments)))
    assert re.search(words, line)
    assert (tmp_path / "out.h5").read_bytes() == b"before"
    assert sorted(tmp_path.iterdir()) == before


def test_folder_that_cannot_be_written_to(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before anything is read."""
    # Administrators may write everywhere.
    monkeypatch.setattr("os.access", lambda _, mode: mode != os.W_OK)
    line = one_line(run("import", recording, "--body", "rodent", "--out", tmp_path / "a.h5"))
    assert "permission" in line
    assert str(tmp_path) in line


# check


def test_check(clip_file: Path, tmp_path: Path) -> None:
    """Good clips: exit code 0, in text, JSON and as a page."""
    page = tmp_path / "page.html"
    text = told(run("check", clip_file, "--html", page))
    assert "walk" in text
    assert "stand" in text
    assert str(page) in text
    assert all(len(line) <= 110 for line in text.splitlines() if str(tmp_path) not in line)
    assert page.read_text().lstrip().lower().startswith("<!doctype html")
    found = json.loads(told(run("check", clip_file, "--json", "--html", page)))
    assert [clip["name"] for clip in found["clips"]] == ["stand", "walk"]


def test_check_of_bad_clips(tmp_path: Path) -> None:
    """Exit code 1, and the clip is called bad."""
    path = tmp_path / "bad.h5"
    clip = load_clips(BODY, ["walk"])[0]
    sunk = clip.qpos.copy()
    sunk[:, 2] -= 0.05
    write_clips(path, [Clip("sunk", sunk, "a", "train", "s", "MIT")], BODY)
    result = run("check", path)
    assert result.exit_code == 1
    assert re.search(r"sunk +bad", result.stdout)
    result = run("check", path, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["clips"][0]["verdict"] == "bad"


@pytest.mark.parametrize("body", ["rodent", "humanoid"])
def test_check_of_embedded_clips(body: str) -> None:
    """By the body's name; the exit code is 1 if one is bad."""
    result = run("check", body, "--json")
    clips = json.loads(result.stdout)["clips"]
    assert {clip["body"] for clip in clips} == {body}
    assert result.exit_code == any(clip["verdict"] == "bad" for clip in clips)


# view


@pytest.mark.usefixtures("gl")
def test_view(clip_file: Path, tmp_path: Path) -> None:
    """A video of the clips' length at most, in which the body moves."""
    out = tmp_path / "out.mp4"
    size = ("--width", 64, "--height", 48)
    text = told(run("view", clip_file, "--video", out, *size))
    assert re.search(r"0\.0 s +stand\n +0\.8 s +walk\n", text)
    assert len(imageio.mimread(out, memtest=False)) == 40
    told(run("view", clip_file, "--video", out, "--clip", "walk", "--seconds", 0.4, *size))
    frames = np.stack(imageio.mimread(out, memtest=False))
    assert len(frames) == 10
    assert frames.std(axis=0).max() > 5
    assert sorted(tmp_path.iterdir()) == [clip_file, out]


BAD_FILES: list[tuple[tuple[str, ...], str]] = [
    (("check", "OUT/nowhere.h5"), "nowhere.h5"),
    (("check", "OUT/rec.h5"), "rec.h5.*data import"),
    (("check", "OUT/other.txt"), "other.txt"),
    (("check", "rabbit"), "rabbit"),
    (("check", "OUT/clips.h5", "--html", "OUT/nowhere/a.html"), "nowhere"),
    (("view", "OUT/nowhere.h5", "--video", "OUT/a.mp4"), "nowhere.h5"),
    (("view", "OUT/rec.h5", "--video", "OUT/a.mp4"), "data import"),
    (("view", "OUT/clips.h5", "--video", "OUT/a.txt"), "mp4"),
    (("view", "OUT/clips.h5", "--video", "OUT/nowhere/a.mp4"), "nowhere"),
    (("view", "OUT/clips.h5", "--video", "OUT/a.mp4", "--clip", "trot"), "trot.*walk"),
    (("view", "OUT/clips.h5", "--video", "OUT/a.mp4", "--seconds", "0"), "seconds"),
    (("view", "OUT/clips.h5", "--video", "OUT/a.mp4", "--seconds", "nan"), "seconds"),
]


@pytest.mark.usefixtures("recording", "clip_file")
@pytest.mark.parametrize(("arguments", "words"), BAD_FILES)
def test_bad_files(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    """One line that names what is wrong, and no file left."""
    (tmp_path / "other.txt").write_text("not motion")
    before = sorted(tmp_path.iterdir())
    line = one_line(run(*(a.replace("OUT", str(tmp_path)) for a in arguments)))
    assert re.search(words, line)
    assert sorted(tmp_path.iterdir()) == before


def test_body_of(clip_file: Path) -> None:
    """What the file says."""
    assert body_of(clip_file) == "rodent"


# As users run it


def shell(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, without a terminal."""
    command = [sys.executable, "-m", "vnl_envs", "data", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_processes(recording: Path, tmp_path: Path) -> None:
    """JSON alone on the output, results on one channel and errors on the other."""
    out = tmp_path / "out.h5"
    done = shell("import", recording, "--body", "rodent", "--licence", "MIT", "--out", out)
    assert done.returncode == 0
    assert done.stdout.startswith(f"wrote {out}")
    assert done.stderr == ""
    assert vnl_envs.make_task(IMITATION, clips=str(out)).reference.length.tolist() == [250, 250]
    done = shell("check", out, "--json")
    assert len(json.loads(done.stdout)["clips"]) == 2
    done = shell("check", "nowhere.h5")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
