"""Recordings in, session files out: published layout, NWB, interruptions, bad input."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from vnl_envs.bodies.model import BodyModel
from vnl_envs.cli.main import app
from vnl_envs.motion.clip import read_clips
from vnl_envs.motion.fitting import keypoints as fitting
from vnl_envs.motion.fitting import marker_solver
from vnl_envs.motion.readers import read_motion
from vnl_envs.neural import importing
from vnl_envs.neural.session import TABLES, opened_session
from vnl_envs.neural.synthetic import marker_positions


def told(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["neural", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def same_tables(one: Path, other: Path) -> None:
    with opened_session(one) as a, opened_session(other) as b:
        for table in TABLES:
            np.testing.assert_array_equal(a.read(table), b.read(table), err_msg=table)
        assert a.names == b.names
        np.testing.assert_array_equal(a.clips, b.clips)


def test_what_arrives(published: Path, session_file: Path, body: BodyModel) -> None:
    """Counts and labels as they were; keypoints in metres, on the body that the poses are of."""
    with opened_session(session_file) as found, h5py.File(published) as file:
        np.testing.assert_array_equal(found.read("spikes"), file["ephys/spike_counts"][()])
        cluster = file["behavior/motion_mapper"][()]
        expected = np.where(cluster == 100, -1, cluster.astype(int))
        np.testing.assert_array_equal(found.read("labels"), expected)
        assert found.names["regions"] == ["DLS", "DLS", "MC", "MC"]
        keypoints = np.concatenate(list(marker_positions(found.read("qpos"), body)))
        np.testing.assert_allclose(found.read("keypoints"), keypoints, atol=1e-5)
        lengths = np.diff(found.clips, axis=1)
        assert lengths.sum() == found.frames
        assert lengths.max() == 250


def test_active_units_and_names_of_clusters(
    published: Path, tmp_path: Path, body: BodyModel
) -> None:
    """Only active units are kept; clusters of one name become one behaviour."""
    path = tmp_path / "a.h5"
    shutil.copy(published, path)
    with h5py.File(path, "r+") as file:
        del file["ephys/active_units"], file["behavior/label_names"]
        file["ephys/active_units"] = np.array([1, 3])
        file["behavior/label_names"] = ["move", "rise", "move"]
        whole = file["ephys/spike_counts"][()]
        cluster = file["behavior/motion_mapper"][()].astype(int)
    importing.import_session(path, tmp_path / "s.h5", body)
    with opened_session(tmp_path / "s.h5") as found:
        np.testing.assert_array_equal(found.read("spikes"), whole[:, [1, 3]])
        assert found.names["unit_ids"] == ["1", "3"]
        expected = np.array([0, 1, 0, *[-1] * 98])[cluster]
        np.testing.assert_array_equal(found.read("labels"), expected)


def test_a_part_of_a_recording(published: Path, session_file: Path, tmp_path: Path) -> None:
    """So that a network can be trained on one part and compared on another."""
    out = tmp_path / "part.h5"
    assert "350 frames" in told("import", published, "--out", out, "--start", 2, "--stop", 9)
    with opened_session(session_file) as whole, opened_session(out) as part:
        for table in TABLES:
            np.testing.assert_array_equal(part.read(table), whole.read(table, 100, 450))
        assert part.names == whole.names
        assert part.text["source"] == "rat.h5 from 2 s to 9 s"
    for span in (("--start", 12), ("--start", 3, "--stop", 2), ("--stop", 13)):
        result = CliRunner().invoke(
            app, ["neural", "import", str(published), "--out", str(tmp_path / "x.h5"),
                  *map(str, span)]
        )  # fmt: skip
        assert "there is no part from" in result.stderr
        assert result.exit_code == 2
    assert not (tmp_path / "x.h5").exists()


def test_clips_of_a_session(published: Path, tmp_path: Path, body: BodyModel) -> None:
    """They remember their frames, and are those that `data import` reads."""
    text = told("import", published, "--out", tmp_path / "s.h5", "--clips", tmp_path / "c.h5")
    assert "600 frames" in text
    clips = read_clips(tmp_path / "c.h5", body)
    assert [clip.name for clip in clips][:2] == ["rat_0000000", "rat_0000250"]
    read = list(read_motion(published, body))
    for clip, other in zip(clips, read, strict=True):
        np.testing.assert_array_equal(clip.qpos, other.qpos)
    assert "frames 250 to 499" in clips[1].source


def test_nwb_out_and_in(session_file: Path, tmp_path: Path) -> None:
    """The same session comes back, and other tools find the spikes."""
    pytest.importorskip("pynwb")
    nwb = tmp_path / "s.nwb"
    told("export", session_file, "--out", nwb)
    told("import", nwb, "--out", tmp_path / "s.h5")
    same_tables(session_file, tmp_path / "s.h5")
    pynapple = pytest.importorskip("pynapple")
    units = pynapple.load_file(str(nwb))["units"]
    with opened_session(session_file) as found:
        totals = found.read("spikes").sum(axis=0)
        counted = units.count(0.02, pynapple.IntervalSet(0, found.frames / 50))
    np.testing.assert_array_equal([len(units[i]) for i in range(4)], totals)
    np.testing.assert_array_equal(np.asarray(counted).sum(axis=0), totals)


def test_nwb_without_poses_is_fitted(
    session_file: Path, tmp_path: Path, body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Poses come from keypoints, part by part, and put the markers where they were."""
    monkeypatch.setattr(fitting, "SAMPLE", 20)
    monkeypatch.setattr(fitting, "SIZE_SAMPLE", 10)
    monkeypatch.setattr(marker_solver, "STEPS", 6)
    pytest.importorskip("pynwb")
    from vnl_envs.neural.nwb import write_nwb

    with opened_session(session_file) as found:
        # A few seconds do.
        found.frames, tables = 150, {name: found.read(name, 0, 150) for name in TABLES}
        monkeypatch.setattr(found, "_tables", tables)
        write_nwb(tmp_path / "s.nwb", found)
        points = found.read("keypoints")
    with h5py.File(tmp_path / "s.nwb", "r+") as file:
        del file["processing/behavior/qpos"]
    result = importing.import_session(tmp_path / "s.nwb", tmp_path / "s.h5", body)
    assert result.fitted
    with opened_session(tmp_path / "s.h5") as found:
        keypoints = np.concatenate(list(marker_positions(found.read("qpos"), body)))
    assert np.median(np.linalg.norm(keypoints - points, axis=2)) < 0.002


def test_an_interrupted_import_goes_on(
    published: Path,
    session_file: Path,
    tmp_path: Path,
    body: BodyModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C leaves no session; the same call reads the rest and gives the same tables."""
    monkeypatch.setattr(importing, "PART", 150)
    reads: list[int] = []

    def interrupted(self: object, start: int, stop: int, after: int) -> np.ndarray:
        reads.append(start)
        if start >= after:
            raise KeyboardInterrupt
        return original(self, start, stop)

    from vnl_envs.neural.sources import Published

    original = Published.spikes
    monkeypatch.setattr(Published, "spikes", lambda s, a, b: interrupted(s, a, b, 300))
    out = tmp_path / "s.h5"
    with pytest.raises(KeyboardInterrupt):
        importing.import_session(published, out, body)
    assert not out.exists()
    reads.clear()
    monkeypatch.setattr(Published, "spikes", lambda s, a, b: interrupted(s, a, b, 10**9))
    result = importing.import_session(published, out, body)
    assert result.resumed == 300
    assert reads[0] == 300
    same_tables(session_file, out)
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]


def _set(path: str, edit: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        values = edit(file[path][()])
        del file[path]
        file[path] = values

    return change


def _cell(at: tuple[int, ...], value: float) -> Callable[[np.ndarray], np.ndarray]:
    def edit(values: np.ndarray) -> np.ndarray:
        values = values.astype(float)
        values[at] = value
        return values

    return edit


def _without(path: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(path)


def _says(group: str, rate: float) -> Callable[[h5py.File], None]:
    return lambda file: file[group].attrs.update(rate=rate)


BAD: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "half a spike": (_set("ephys/spike_counts", _cell((7, 1), 0.5)), "frame 7 .* 0.5 spikes"),
    "negative": (_set("ephys/spike_counts", _cell((3, 0), -1)), "frame 3 .* -1"),
    "NaN spikes": (_set("ephys/spike_counts", _cell((3, 0), np.nan)), "frame 3 .* nan"),
    "NaN pose": (_set("pose/qpos", _cell((5, 9), np.nan)), "frame 5 of 'pose/qpos'"),
    "no quaternion": (_set("pose/qpos", _cell((5, 3), 3.0)), "frame 5 .* quaternion"),
    "frames": (_set("ephys/spike_counts", lambda x: x[:-3]), "597 frames, 'pose/qpos' has 600"),
    "more keypoints": (_set("pose/keypoints", lambda x: x[:-1]), "599 frames"),
    "rate": (_says("ephys", 30.0), "30 Hz"),
    "no spikes": (_without("ephys/spike_counts"), "ephys/spike_counts"),
    "no names": (_without("pose/joint_names"), "joint names"),
    "no units": (_set("ephys/active_units", lambda x: x & False), "no units"),
    "missing units": (_set("ephys/active_units", lambda x: np.array([0, 9])), "unit 9"),
    "behaviour": (_set("behavior/motion_mapper", lambda x: x.astype(int) + 90), "motion_mapper"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_recordings(published: Path, tmp_path: Path, name: str) -> None:
    """One line that names file and fault; nothing is left of the import."""
    change, words = BAD[name]
    path = tmp_path / "bad.h5"
    shutil.copy(published, path)
    with h5py.File(path, "r+") as file:
        change(file)
    refused(path, tmp_path, words)


def test_truncated(published: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.h5").write_bytes(published.read_bytes()[:-50_000])
    refused(tmp_path / "bad.h5", tmp_path, "bad.h5")


def refused(path: Path, folder: Path, words: str) -> None:
    result = CliRunner().invoke(app, ["neural", "import", str(path), "--out", str(folder / "s.h5")])
    assert result.exit_code == 2, result.output
    (line,) = [x for x in result.stderr.splitlines() if x.startswith("error:")]
    assert str(path) in line
    assert re.search(words, line), line
    assert [p.name for p in folder.iterdir()] == ["bad.h5"]
