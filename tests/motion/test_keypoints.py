"""Keypoints to poses: known poses are found again, real recordings fit, damage is one line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from malformed_keypoints import body, wrong_keypoints
from support import recording

from vnl_envs.bodies.model import lowest_point
from vnl_envs.motion.clip import Clip, ClipError, check_clip
from vnl_envs.motion.datasets import load_clips
from vnl_envs.motion.errors import MotionWarning
from vnl_envs.motion.fitting.keypoints import Fit, fit_keypoints
from vnl_envs.motion.fitting.markers import MARKER_SETS, marker_set
from vnl_envs.motion.fitting.rig import Kinematics, Rig
from vnl_envs.motion.kinematics import forward_kinematics
from vnl_envs.motion.readers import keypoints as reader

RATE = 50.0
MM = 1e-3


class Animal(NamedTuple):
    """A made recording: poses, places of its markers, keypoints (T, K, 3) m, true positions."""

    qpos: np.ndarray
    offsets: np.ndarray
    keypoints: np.ndarray
    xpos: np.ndarray


@functools.cache
def animal(scale: float = 1.0, off: float = 1.5 * MM, noise: float = 1.0 * MM) -> Animal:
    """An embedded walk seen by cameras whose floor is at z = 0.5 m."""
    rng = np.random.default_rng(0)
    [clip] = load_clips(body(), ["walk"])
    qpos = clip.qpos[:100].astype(float)
    first = np.array([m.offset for m in marker_set(body())])
    offsets = first + rng.normal(0, off, first.shape)
    found = forward_kinematics(body(), qpos)
    rows = body().body_index(*(m.body for m in marker_set(body())))
    turn = found["xmat"][:, rows].reshape(len(qpos), -1, 3, 3)
    points = found["xpos"][:, rows] + np.einsum("fkij,kj->fki", turn, offsets)
    seen = np.add(points, [0, 0, 0.5]) / scale + rng.normal(0, noise, points.shape)
    return Animal(qpos, offsets, seen, found["xpos"])


@functools.cache
def fit(scale: float = 1.0) -> Fit:
    """The fit of that recording."""
    return fit_keypoints(animal(scale).keypoints, body(), RATE)


def tracked_error(qpos: np.ndarray, xpos: np.ndarray) -> np.ndarray:
    """Distances of the tracked bodies from where they are, (T, B), m."""
    rows = body().body_index(*body().body.tracked_bodies)
    return np.linalg.norm((forward_kinematics(body(), qpos)["xpos"] - xpos)[:, rows], axis=-1)


def read(path: Path, rate: float | None = RATE, unit: str | None = None) -> Clip:
    """The one clip of a file."""
    [clip] = reader.read(path, body(), rate, unit)
    return clip


# The rig


def test_derivatives() -> None:
    """Of markers and of geoms' lowest points, against finite differences."""
    rig = Rig(body(), marker_set(body()), body().body.contact_geoms)
    kinematics = Kinematics(body().model, 1)
    offsets = np.array([m.offset for m in marker_set(body())])
    middle = body().standing_qpos.copy()
    middle[7 + rig.joints] = 0.5 * (rig.low + rig.high)

    def points(step: np.ndarray) -> np.ndarray:
        rig.forward(kinematics, rig.moved(middle[None], step[None]))
        return np.concatenate([rig.markers(kinematics, offsets), rig.ends(kinematics)], axis=1)[0]

    at = points(np.zeros(rig.unknowns))
    number = len(offsets)
    slope = np.concatenate(
        [
            rig.jacobian(kinematics, at[None, :number], rig.moves_markers),
            rig.jacobian(kinematics, at[None, number:], rig.moves_ends),
        ],
        axis=1,
    )[0]
    for i, unit in enumerate(1e-6 * np.eye(rig.unknowns)):
        change = (points(unit) - points(-unit)) / 2e-6
        np.testing.assert_allclose(slope[:number, :, i], change[:number], atol=1e-6)
        # A lowest point wanders over its geom, its height does not.
        np.testing.assert_allclose(slope[number:, 2, i], change[number:, 2], atol=1e-6)


def test_marker_set() -> None:
    """Left and right markers mirror each other; a body without a set says what there is."""
    by_name = {m.name: m for m in MARKER_SETS["rodent"]}
    for name, marker in by_name.items():
        if name.endswith("L") and name[:-1] + "R" in by_name:
            mirror = by_name[name[:-1] + "R"]
            assert np.array_equal(np.multiply(marker.offset, [1, -1, 1]), mirror.offset)
            assert marker.body.replace("_L", "_R") == mirror.body
    assert len(by_name) == len(marker_set(body())) == 23


# Made recordings


def test_known_poses_are_found() -> None:
    """Markers 2 mm off their places and 1 mm of noise: bodies and places within millimetres."""
    error = tracked_error(fit().qpos, animal().xpos)
    assert np.median(error) < 3 * MM
    assert np.percentile(error, 95) < 6 * MM
    first = np.array([m.offset for m in marker_set(body())])
    before = np.linalg.norm(first - animal().offsets, axis=1)
    after = np.linalg.norm(fit().offsets - animal().offsets, axis=1)
    assert np.median(after) < 2 * MM
    assert after.mean() < before.mean()
    assert np.median(fit().error) < 2 * MM
    assert not len(fit().outlying)


def test_exact_keypoints() -> None:
    """Without noise, and markers where the table has them, little is left."""
    made = animal(off=0.0, noise=0.0)
    found = fit_keypoints(made.keypoints, body(), RATE)
    assert np.median(found.error) < 0.7 * MM
    assert np.median(tracked_error(found.qpos, made.xpos)) < 2 * MM


@pytest.mark.parametrize("scale", [0.85, 1.0, 1.2])
def test_size_and_ground_are_found(scale: float) -> None:
    """Of animals larger and smaller than the body."""
    assert fit(scale).scale == pytest.approx(scale, rel=0.02)
    assert fit(scale).ground == pytest.approx(0.5 / scale, abs=4 * MM)


def test_fit_is_a_possible_pose() -> None:
    """Joints inside their limits, paws on the ground and not in it, no jumps at windows' seams."""
    low, high = body().joint_range.T
    joints = fit().qpos[:, 7:]
    assert (joints >= low - 1e-9).all()
    assert (joints <= high + 1e-9).all()
    found = forward_kinematics(body(), fit().qpos)
    lowest = lowest_point(body(), found["geom_xpos"], found["geom_xmat"])
    assert lowest.min() > -0.5 * MM
    assert np.median(lowest) < 2 * MM
    longer = np.tile(np.concatenate([animal().keypoints, animal().keypoints[::-1]]), (2, 1, 1))
    bend = np.diff(fit_keypoints(longer, body(), RATE).qpos[:, 7:], n=2, axis=0)
    seams = np.abs(bend[254:256]).max()
    assert seams < 2 * np.percentile(np.abs(bend).max(axis=1), 95)


def test_offsets_settle() -> None:
    """The places of the markers stop moving."""
    assert fit().settled[-1] < 0.1 * MM
    assert fit().settled[-1] < fit().settled[0] / 20


def test_missing_keypoints() -> None:
    """Single ones are ignored, short gaps bridged, glitches outvoted; long gaps are named."""
    rng = np.random.default_rng(1)
    keypoints = animal().keypoints.copy()
    keypoints[rng.random(keypoints.shape[:2]) < 0.1] = np.nan
    keypoints[40:46] = np.nan
    keypoints[70, 3] += 0.1
    found = fit_keypoints(keypoints, body(), RATE)
    error = tracked_error(found.qpos, animal().xpos)
    assert np.isnan(found.error[40:46]).all()
    assert np.percentile(error, 95) < 7 * MM
    assert np.median(error[40:46]) < 6 * MM
    keypoints[40:60] = np.nan
    with pytest.raises(ClipError, match="frames 40 to 59 have less than 33% of the keypoints"):
        fit_keypoints(keypoints, body(), RATE)


def test_bad_frames_are_named() -> None:
    """Frames where the animal comes apart."""
    keypoints = animal().keypoints.copy()
    keypoints[50:53] += np.random.default_rng(2).normal(0, 0.05, keypoints[50:53].shape)
    assert fit_keypoints(keypoints, body(), RATE).outlying.tolist() == [50, 51, 52]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda k: k * [1, 1, -1] * [1, -1, 1], "z must point up"),
        (lambda k: k[:, ::-1], "in the order of its marker set"),
        (lambda k: k[:, :20], r"must be \(T, 23, 3\)"),
        (lambda k: k[:1], "at least 2 frames"),
    ],
)
def test_other_animals(change: Callable[[np.ndarray], np.ndarray], message: str) -> None:
    """What is not this animal is said to be so."""
    with pytest.raises(ClipError, match=message):
        fit_keypoints(change(animal().keypoints), body(), RATE)


# Files

LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "T, 3, K": lambda k: k.transpose(0, 2, 1),
    "T, K, 3": lambda k: k,
    "T, 3K": lambda k: k.reshape(len(k), -1),
    "T, 1, 3, K": lambda k: k.transpose(0, 2, 1)[:, None],
}


@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    frames=st.integers(2, 80),
    number=st.integers(2, 30),
    reverse=st.booleans(),
)
def test_layouts(layout: str, frames: int, number: int, reverse: bool) -> None:
    """Every layout comes back as (T, K, 3), also with MATLAB's axes the other way round."""
    made = np.random.default_rng(frames).normal(size=(frames, number, 3))
    array = LAYOUTS[layout](made)
    if {3, 3 * number} & {frames, number} or frames in (number, 3 * number):
        return
    found = reader._arranged(array.T if reverse else array, number)
    np.testing.assert_array_equal(found, made)


@pytest.fixture(scope="module")
def few() -> np.ndarray:
    """Some frames of the made recording, (T, K, 3) m."""
    return animal().keypoints[:10]


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1e3), ("cm", 1e2), ("m", 1.0)])
def test_files_and_units(few: np.ndarray, tmp_path: Path, unit: str, factor: float) -> None:
    """MATLAB and HDF5, any unit: the same clip, which says where it comes from."""
    matlab, matlab73 = tmp_path / "a.mat", tmp_path / "b.mat"
    scipy.io.savemat(matlab, {"pred": factor * few.transpose(0, 2, 1), "rate": 50})
    with h5py.File(matlab73, "w", userblock_size=512) as file:
        file["pred"] = factor * few.transpose(0, 2, 1).T
    clips = [read(path) for path in (matlab, matlab73)]
    for path, clip in zip((matlab, matlab73), clips, strict=True):
        assert reader.recognises(path)
        check_clip(clip, body())
        np.testing.assert_allclose(clip.qpos, clips[0].qpos, atol=1e-4)
        assert clip.name == clip.session == path.stem
        assert clip.source.startswith(f"{path.name}: 23 keypoints in {unit} at 50 Hz")
        assert clip.source.endswith("in the marker set's order")
    np.testing.assert_array_equal(read(matlab, unit=unit).qpos, clips[0].qpos)


def write_named(path: Path, kind: str, names: list[str], points: np.ndarray) -> None:
    """Keypoints (T, K, 3) with their names, as programs keep them."""
    if kind.startswith("MATLAB 5"):
        array = np.array(names, object if kind.endswith("cells") else str)
        scipy.io.savemat(path, {"pred": points, "kp_names": array}, do_compression=True)
        return
    with h5py.File(path, "w") as file:
        file["pred"] = points
        if kind == "HDF5 strings":
            file["node_names"] = names
        elif kind == "HDF5 bytes, a column":
            file["joint_names"] = np.array(names, "S")[:, None]
        elif kind == "MATLAB 7.3 cells":
            cells = file.create_dataset("kp_names", (1, len(names)), h5py.ref_dtype)
            for i, name in enumerate(names):
                cells[0, i] = put_characters(file, f"#refs#/{i}", [name]).ref
            cells.attrs["MATLAB_class"] = np.bytes_("cell")
        else:
            put_characters(file, "kp_names", names)


def put_characters(file: h5py.File, where: str, rows: list[str]) -> h5py.Dataset:
    """A matrix of characters as MATLAB 7.3 has it: codes, axes the other way round."""
    width = max(map(len, rows))
    codes = [[ord(c) for c in row.ljust(width)] for row in rows]
    file[where] = np.array(codes, np.uint16).T
    file[where].attrs["MATLAB_class"] = np.bytes_("char")
    return file[where]


NAMED = ("MATLAB 5 cells", "MATLAB 5 characters", "MATLAB 7.3 cells", "MATLAB 7.3 characters",
         "HDF5 strings", "HDF5 bytes, a column")  # fmt: skip


@pytest.mark.parametrize("kind", NAMED)
def test_keypoints_are_found_by_their_names(few: np.ndarray, tmp_path: Path, kind: str) -> None:
    """In any order, with one that the body does not know."""
    names = [marker.name for marker in marker_set(body())]
    path = tmp_path / "named.mat"
    mixed = np.concatenate([few[:, ::-1], few[:, :1]], axis=1)
    write_named(path, kind, [*names[::-1], "Whisker"], mixed)
    load = reader._load_hdf5 if h5py.is_hdf5(path) else reader._load_matlab
    found = load(path, len(names))
    np.testing.assert_array_equal(reader._ordered(found, marker_set(body())), few)


def test_a_name_too_many_or_too_few_is_told_of(few: np.ndarray, tmp_path: Path) -> None:
    names, path = [marker.name for marker in marker_set(body())], tmp_path / "named.mat"
    mixed = np.concatenate([few[:, ::-1], few[:, :1]], axis=1)
    write_named(path, "HDF5 strings", [*names[::-1], "Whisker"], mixed)
    with pytest.warns(MotionWarning, match=r"named.mat: .* not used: 'Whisker'"):
        clip = read(path)
    assert clip.source.endswith("found by their names")
    write_named(path, "HDF5 strings", names[:-1], few[:, :-1])
    with pytest.warns(MotionWarning, match=f"no keypoints named '{names[-1]}'"):
        read(path)


def test_names_that_are_not_used_are_refused_or_told_of(few: np.ndarray, tmp_path: Path) -> None:
    """Never a wrong order in silence."""
    names, path = [marker.name for marker in marker_set(body())], tmp_path / "a.mat"
    for wrong, message in {
        ("x",) * 23: "keypoints are named 'x'",
        (names[0], *names[:-1]): f"more than one keypoint is named '{names[0]}'",
    }.items():
        scipy.io.savemat(path, {"pred": few, "kp_names": np.array(wrong, object)})
        with pytest.raises(ClipError, match=message):
            read(path)
    for kp_names in (np.arange(23), {"a": 1}, np.array(["a" * 2**20, "b"], object)):
        scipy.io.savemat(path, {"pred": few, "kp_names": kp_names})
        with pytest.raises(ClipError, match="variable 'kp_names'"):
            read(path)
    scipy.io.savemat(path, {"pred": few, "markers": np.array(names[::-1], object)})
    with pytest.warns(MotionWarning, match="'markers' may name the keypoints but was not read"):
        read(path)


def test_frames_of_zeros_are_missing(few: np.ndarray, tmp_path: Path) -> None:
    """Some programs write them where nothing was seen."""
    path, points = tmp_path / "a.mat", few.copy()
    points[4:6] = np.nan
    scipy.io.savemat(path, {"pred": points})
    missing = read(path).qpos
    points[4:6] = 0
    scipy.io.savemat(path, {"pred": points})
    np.testing.assert_array_equal(read(path).qpos, missing)


def test_rate(few: np.ndarray, tmp_path: Path) -> None:
    """It must be given; clips are at 50 Hz whatever it is."""
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"pred": few})
    assert len(read(path, 25.0).qpos) == 2 * len(few) - 1
    for rate, message in ((None, "--rate"), (-1.0, "frame rate"), (np.nan, "frame rate")):
        with pytest.raises(ClipError, match=message) as caught:
            read(path, rate)
        assert str(path) in str(caught.value)


def test_wrong_files(tmp_path: Path) -> None:
    """Each is one line that names the file, and none hinders looking at it."""
    cases = list(wrong_keypoints())
    assert len({case.name for case in cases}) == len(cases) >= 150
    for i, case in enumerate(case for case in cases if not case.harmless):
        path = tmp_path / f"{i}{case.suffix}"
        path.write_bytes(case.content)
        reader.recognises(path)
        with pytest.raises(ClipError) as caught:
            read(path)
        assert str(path) in str(caught.value), case.name
        assert "\n" not in str(caught.value), case.name


# Real recordings


def test_real_keypoints() -> None:
    """1000 frames of a rat: millimetres, on the ground, no frame odd; some of it read as a clip."""
    path = recording("rat_keypoints_1000_frames.mat")
    points = 1e-3 * scipy.io.loadmat(path)["pred"].transpose(0, 2, 1)
    found = fit_keypoints(points, body(), RATE)
    assert np.median(found.error) < 1.5 * MM
    assert np.percentile(found.error, 95) < 4 * MM
    assert found.scale == pytest.approx(1, abs=0.05)
    assert not len(found.outlying)
    kinematics = forward_kinematics(body(), found.qpos)
    lowest = lowest_point(body(), kinematics["geom_xpos"], kinematics["geom_xmat"])
    assert lowest.min() > -2 * MM
    assert np.median(lowest) < 1 * MM


def test_real_file() -> None:
    """Named keypoints in metres, as STAC-MJX keeps them."""
    clip = read(recording("rat_stac_fit_50_frames.h5"))
    check_clip(clip, body())
    assert len(clip) == 50
    assert "23 keypoints in m at 50 Hz" in clip.source


def test_stac_fit() -> None:
    """STAC's fit of the same frames: no worse markers, and the same pose within millimetres."""
    with h5py.File(recording("rat_stac_fit_50_frames.h5")) as file:
        names = [n.decode() for n in file["kp_names"]]
        order = [names.index(m.name) for m in marker_set(body())]
        keypoints = file["kp_data"][()].reshape(50, 23, 3)[:, order].astype(float)
        markers = file["marker_sites"][()][:, order]
        stac = [n.decode() for n in file["names_xpos"]]
        xpos = file["xpos"][()][:, [stac.index(n) for n in body().body_names]]
    found = fit_keypoints(keypoints, body(), RATE)
    theirs = np.linalg.norm(keypoints - markers, axis=-1)
    assert np.median(found.error) < np.median(theirs)
    assert found.error.mean() < theirs.mean()
    # In the same units and from the same ground.
    moved = found.scale * (xpos - [0, 0, found.ground])
    error = tracked_error(found.qpos, moved)
    assert np.median(error) < 5 * MM
