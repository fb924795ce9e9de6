"""CMU recordings: strictly parsed, and fitted so that the humanoid could have moved like that."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from dm_control.suite.utils import parse_amc
from hypothesis import given, settings
from hypothesis import strategies as st
from malformed import AMC_FRAME, AMC_HEADER, amc_lines
from motion_files import amc_text, amc_values, body_of
from scipy.spatial.transform import Rotation
from support import recording

from vnl_envs.motion.checking.check import check_clips
from vnl_envs.motion.checking.dynamics import root_wrench, unsupported_wrench
from vnl_envs.motion.checking.ground import soles, stance
from vnl_envs.motion.clip import RATE, Clip, ClipError, check_clip
from vnl_envs.motion.datasets import load_clips
from vnl_envs.motion.errors import MotionWarning
from vnl_envs.motion.fitting.refit import Fit, refit
from vnl_envs.motion.kinematics import derive_reference, forward_kinematics
from vnl_envs.motion.readers import amc, format_of, read_motion
from vnl_envs.motion.resample import resample

WALKS = ("02_01", "07_01", "07_03", "08_01", "08_02", "08_05")
RUNS = {"09_01": 120.0, "16_35": 120.0, "16_46": 120.0, "141_01": 60.0}
"""With their frame rates: at 120 Hz 141_01 would fall with four times the earth's acceleration."""


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# Parsing


numbers = st.floats(-360, 360, width=32).map(lambda x: float(f"{x:.6g}"))


@settings(max_examples=25)
@given(st.data(), st.integers(2, 4))
def test_what_was_written_is_read(tmp_path: Path, data: st.DataObject, frames: int) -> None:
    row = st.lists(numbers, min_size=62, max_size=62)
    values = np.array([data.draw(row) for _ in range(frames)])
    read = amc.parse(written(tmp_path / "a.amc", amc_text(values)))
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize(
    "change",
    {
        "line ends of Windows": lambda t: t.replace("\n", "\r\n"),
        "comments in front": lambda t: "# one\n#two\n" + t,
        "comments between frames": lambda t: t.replace("\n2\n", "\n# pause\n2\n"),
        "comments within frames": lambda t: t.replace("\nlowerback", "\n#\n # x\nlowerback"),
        "no end of the last line": lambda t: t.rstrip("\n"),
        "byte order mark": lambda t: "\ufeff" + t,
        "all of Windows": lambda t: "\ufeff" + t.rstrip("\n").replace("\n", "\r\n"),
        "blank lines": lambda t: t.replace("\n", "\n\n"),
        "indented": lambda t: "".join(f"  {line}\t\n" for line in t.splitlines()),
        "signs and exponents": lambda t: t.replace(" 0.", " +0.").replace(" 1.", " 01."),
    }.items(),
    ids=lambda c: c[0],
)
def test_spellings(tmp_path: Path, change) -> None:
    text = "\n".join(amc_lines()) + "\n"
    a, b = written(tmp_path / "a.amc", text), written(tmp_path / "b.amc", change[1](text))
    np.testing.assert_array_equal(amc.parse(a), amc.parse(b))


def test_joints_in_any_order(tmp_path: Path) -> None:
    """Lines have names."""
    lines = amc_lines()
    first = slice(AMC_HEADER + 1, AMC_HEADER + AMC_FRAME)
    a = amc.parse(written(tmp_path / "a.amc", "\n".join(lines) + "\n"))
    lines[first] = lines[first][::-1]
    b = amc.parse(written(tmp_path / "b.amc", "\n".join(lines) + "\n"))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("line", "new", "message"),
    [
        (3, ":RADIANS", r"line 3: expected :FULLY-SPECIFIED and :DEGREES, .*got ':RADIANS'"),
        (4, "0", r"line 4: expected frame number 1, got '0'"),
        (5, "root 1 2 3 4 5", r"line 5: expected root and 6 numbers, got 'root 1 2 3 4 5'"),
        (14, "rradius nan", r"line 14: expected rradius and 1 number, got 'rradius nan'"),
        (14, "rradius 1e30", r"line 14: expected rx of rradius in \[-3600, 3600\], got"),
        (14, "relbow 5", r"line 14: expected a line of joint rradius or .*, got 'relbow 5'"),
        (34, "3", r"line 34: expected frame number 2, got '3'"),
        (15, "rradius 5", r"line 15: expected a line of joint rwrist or .*, got 'rradius 5'"),
        (63, "", r"line 64: expected a line of joint ltoes, got '3'"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, line: int, new: str, message: str) -> None:
    lines = amc_lines()
    lines[line - 1] = new
    path = written(tmp_path / "a.amc", "\n".join(lines) + "\n")
    with pytest.raises(ClipError, match=f"^{path}: {message}") as error:
        amc.parse(path)
    assert "\n" not in str(error.value)


@settings(max_examples=200)
@given(st.data())
def test_cut_or_changed_anywhere(tmp_path: Path, data: st.DataObject) -> None:
    """Numbers of whole frames come of it, or one line of error."""
    content = ("\n".join(amc_lines()) + "\n").encode()
    cut = data.draw(st.integers(0, len(content)))
    where = data.draw(st.integers(0, len(content)))
    put = data.draw(st.binary(max_size=6))
    path = written(tmp_path / "a.amc", (content[:where] + put + content[where:])[:cut])
    try:
        values = amc.parse(path)
    except ClipError as error:
        complaint = str(error)
    else:
        assert values.shape[1] == 62
        assert np.isfinite(values).all()
        return
    assert complaint.startswith(f"{path}: line ")
    assert "\n" not in complaint


def test_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.amc", "\n".join(amc_lines()) + "\n")
    monkeypatch.setattr(amc, "MOST_BYTES", path.stat().st_size - 1)
    with pytest.raises(ClipError, match="must have at most"):
        amc.parse(path)


def test_is_recognised(tmp_path: Path) -> None:
    text = "\n".join(amc_lines()) + "\n"
    for name in ("a.amc", "a.AMC", "a.txt"):
        assert amc.recognises(written(tmp_path / name, text))
    assert not amc.recognises(written(tmp_path / "b.txt", "not motion\n"))
    assert not amc.recognises(tmp_path / "nothing")
    assert not amc.recognises(tmp_path)


# The plain copy


def test_plain_copy_against_dm_control(tmp_path: Path) -> None:
    """Parsed and converted by dm_control's own code."""
    body = body_of("humanoid")
    rng = np.random.default_rng(0)
    path = written(tmp_path / "a.amc", amc_text(rng.uniform(-400, 400, (5, 62))))
    names = ["root"] * 7 + list(body.joint_names)
    convert = parse_amc.Amcvals2qpos(dict(enumerate(names)), parse_amc._CMU_MOCAP_JOINT_ORDER)
    theirs = np.array([convert(frame) for frame in parse_amc.parse(path)])
    ours = amc.plain_copy(amc.parse(path), body)
    np.testing.assert_allclose(ours[:, :3], theirs[:, :3], atol=1e-9)
    cosine = np.einsum("ti,ti->t", ours[:, 3:7], theirs[:, 3:7])
    np.testing.assert_allclose(np.abs(cosine), 1, atol=1e-9)
    turns = (ours[:, 7:] - theirs[:, 7:]) / (2 * np.pi)
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-9)
    middle = body.joint_range.mean(axis=1)
    assert (np.abs(ours[:, 7:] - middle) <= np.pi + 1e-9).all()


# The fit


class Figures(NamedTuple):
    """Of a motion whose stance is known; `docs/motion_amc.md` says what they are."""

    height: float
    depth: float
    sliding: float
    excess: float
    wrench: float
    beyond_weight: float
    beyond_weight_rms: float
    unsupported: float
    unsupported_rms: float
    acceleration: float


def figures(qpos: np.ndarray, standing: np.ndarray) -> Figures:
    """Of poses (T, nq) and whether the right and the left foot stand, (T, 2)."""
    body = body_of("humanoid")
    reference = derive_reference([Clip("a", qpos.astype(np.float32), "", "train", "", "")], body)
    points = soles(reference, body)
    height = np.stack(
        [points.height[:, points.foot(f"sole_{s}")].min(axis=1) for s in "RL"], axis=1
    )
    way = np.linalg.norm(np.diff(reference.com[:, :2], axis=0), axis=1).sum()
    low, high = body.joint_range.T
    wrench = root_wrench(reference, body)
    size = np.linalg.norm(wrench, axis=1)
    beyond = np.linalg.norm(wrench - [0, 0, 1, 0, 0, 0], axis=1)
    lacking = unsupported_wrench(reference, body)
    acceleration = np.diff(reference.qpos[:, 7:], 2, axis=0) * RATE**2
    return Figures(
        height=float(np.median(np.abs(height[standing]))),
        depth=float(-reference.clearance.min()),
        sliding=float(stance(reference, body).slide.mean(axis=1).sum() / way),
        excess=float(np.maximum(low - qpos[:, 7:], qpos[:, 7:] - high).max()),
        wrench=float(np.sqrt(np.mean(size**2))),
        beyond_weight=float(np.median(beyond)),
        beyond_weight_rms=float(np.sqrt(np.mean(beyond**2))),
        unsupported=float(np.median(lacking)),
        unsupported_rms=float(np.sqrt(np.mean(lacking**2))),
        acceleration=float(np.sqrt(np.mean(acceleration**2))),
    )


class Versions(NamedTuple):
    """A recording as copied; with its standing feet put on the ground by one shift; as fitted."""

    copied: Figures
    lowered: Figures
    fitted: Figures


def versions(values: np.ndarray, rate: float) -> Versions:
    """All three of a recording's numbers (T, 62); stance is what the fit decided on."""
    body = body_of("humanoid")
    copy = amc.plain_copy(values, body)
    fit = refit(copy, rate)
    standing = np.stack([fit.contact[side].any(axis=1) for side in "rl"], axis=1)
    copied = resample(copy, rate)
    # Times were stretched.
    then = np.round(np.arange(len(copied)) * fit.stretch).astype(int)
    before = standing[np.minimum(then, len(standing) - 1)]
    reference = derive_reference([Clip("a", copied.astype(np.float32), "", "train", "", "")], body)
    points = soles(reference, body)
    height = np.stack(
        [points.height[:, points.foot(f"sole_{s}")].min(axis=1) for s in "RL"], axis=1
    )
    lowered = copied.copy()
    lowered[:, 2] -= np.median(height[before])
    return Versions(figures(copied, before), figures(lowered, before), figures(fit.qpos, standing))


def assert_better(name: str, found: Versions) -> None:
    """What is demanded of a walk."""
    copied, lowered, fitted = found
    print()
    for version, row in zip(("copied", "lowered", "fitted"), found, strict=True):
        print(name, version, *(f"{key} {value:.4g}" for key, value in row._asdict().items()))
    assert fitted.height < 0.01
    assert fitted.depth < 0.005
    assert fitted.excess <= 0
    assert fitted.sliding < min(0.05, copied.sliding, lowered.sliding)
    assert fitted.beyond_weight < copied.beyond_weight
    assert fitted.beyond_weight_rms < copied.beyond_weight_rms
    # Points under the ground can push too, so that a copy that wades in it has much support.
    assert fitted.unsupported < lowered.unsupported
    assert fitted.unsupported_rms < lowered.unsupported_rms
    assert fitted.acceleration < copied.acceleration


@pytest.mark.parametrize("name", WALKS)
def test_walks(name: str) -> None:
    assert_better(name, versions(amc.parse(recording(f"cmu_amc/{name}.amc")), amc.RATE))


@pytest.mark.parametrize("name", RUNS)
def test_runs(name: str) -> None:
    """As walks, but the ground is met hard, and a stance is a few frames."""
    found = versions(amc.parse(recording(f"cmu_amc/{name}.amc")), RUNS[name])
    assert_better(name, found)


@pytest.mark.parametrize("name", ["08_02", "16_55"])
def test_nothing_sinks_where_feet_cannot_be_as_planned(name: str) -> None:
    """Ankles at their limits under bent knees; a first pose that led to a straight leg."""
    fit = refit(amc.plain_copy(amc.parse(recording(f"cmu_amc/{name}.amc")), body_of("humanoid")),
                amc.RATE)  # fmt: skip
    clip = Clip(name, fit.qpos.astype(np.float32), "", "train", "", "")
    (report,) = check_clips([clip], body_of("humanoid"))
    assert report.figures["depth"] < 1
    assert report.figures["limit_excess"] == 0
    assert report.verdict != "bad"
    # A lift of the whole body would need more than the ground gives.
    assert report.figures["residual"] < 0.15


def test_frames_of_zeros_at_the_ends_are_left_out(tmp_path: Path) -> None:
    """And told of; those between others are refused."""
    body, path = body_of("humanoid"), tmp_path / "01_01.amc"
    values = amc_values(body, shipped())
    zeros = np.zeros((5, 62))
    written(path, amc_text(np.concatenate([zeros, values, zeros[:3]])))
    with pytest.warns(MotionWarning, match=r"01_01.amc: 8 frames of nothing but zeros"):
        (clip,) = read_motion(path, body, rate=RATE)
    assert "without 8 frames of zeros" in clip.source
    (expected,) = read_motion(written(path, amc_text(values)), body, rate=RATE)
    np.testing.assert_array_equal(clip.qpos, expected.qpos)
    written(path, amc_text(np.concatenate([values[:9], zeros, values[9:]])))
    with pytest.raises(ClipError, match=r"01_01.amc: frame 10 holds nothing but zeros"):
        list(read_motion(path, body))
    with pytest.raises(ClipError, match="all frames"):
        list(read_motion(written(path, amc_text(zeros)), body))


def test_reads_a_clip() -> None:
    body = body_of("humanoid")
    path = recording("cmu_amc/16_35.amc")
    assert format_of(path) == "amc"
    (clip,) = read_motion(path, body, label="run")
    check_clip(clip, body)
    assert (clip.name, clip.label, clip.subject, clip.session) == (
        "16_35",
        "run",
        "CMU 16",
        "16_35",
    )
    assert "without permission" in clip.licence
    assert clip.source.startswith("16_35.amc (CMU Graphics Lab, lengths x 1.1")


# What a fit finds again: a walk that ships, written as a recording of someone smaller


SMALLER, LEAN = 0.85, 0.015


@functools.cache
def shipped() -> np.ndarray:
    """Poses of the embedded walk, 1.6 s."""
    return load_clips(body_of("humanoid"), ["walk"])[0].qpos[20:100].astype(float)


@functools.cache
def found_again() -> Fit:
    """The fit of the same motion by someone smaller on a floor that leans."""
    qpos = shipped().copy()
    lean = Rotation.from_rotvec([0, LEAN, 0])
    qpos[:, :3] = lean.apply(qpos[:, :3] * SMALLER)
    root = lean * Rotation.from_quat(qpos[:, 3:7], scalar_first=True)
    qpos[:, 3:7] = root.as_quat(scalar_first=True)
    body = body_of("humanoid")
    return refit(amc.plain_copy(amc_values(body, qpos), body), RATE)


def test_size_and_floor_are_found() -> None:
    fit = found_again()
    assert fit.scale == pytest.approx(1 / SMALLER, rel=0.02)
    assert fit.stretch == pytest.approx(np.sqrt(fit.scale))
    assert fit.slope == pytest.approx(LEAN, abs=0.004)
    assert len(fit.qpos) == pytest.approx(len(shipped()) * fit.stretch, abs=2)


def test_pose_and_contacts_are_found() -> None:
    fit, body = found_again(), body_of("humanoid")
    then = np.minimum(np.round(np.arange(len(shipped())) * fit.stretch), len(fit.qpos) - 1)
    fitted = fit.qpos[then.astype(int)]
    bodies = body.body_index(*body.body.tracked_bodies)
    places = [forward_kinematics(body, q)["xpos"][:, bodies] for q in (fitted, shipped())]
    # Relative to the root, since the fit may start elsewhere.
    a, b = (p - q[:, None, :3] for p, q in zip(places, (fitted, shipped()), strict=True))
    assert np.median(np.linalg.norm(a - b, axis=2)) < 0.02
    height = np.stack([places[1][:, body.body_index(f"{s}foot")[0], 2] for s in "rl"], axis=1)
    standing = np.stack([fit.contact[s].any(axis=1)[then.astype(int)] for s in "rl"], axis=1)
    assert standing.any(axis=1).mean() > 0.9
    assert height[standing].mean() < height[~standing].mean()


def test_what_is_fitted_stays_fit() -> None:
    fit = found_again()
    standing = np.stack([fit.contact[s].any(axis=1) for s in "rl"], axis=1)
    got = figures(fit.qpos, standing)
    assert got.height < 0.003
    assert got.depth < 0.003
    assert got.excess <= 0
    assert got.sliding < 0.03


def test_standing_still() -> None:
    """No steps to tell size or floor from, nothing to move."""
    body = body_of("humanoid")
    fit = refit(np.repeat(body.standing_qpos[None], 20, axis=0), RATE)
    assert np.abs(np.diff(fit.qpos, axis=0)).max() < 1e-3
    assert fit.contact["r"].any(axis=1).all()
    assert fit.scale == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda q: q[:4], "needs at least 0.1 s"), (lambda q: q * [1, 1, -1, *[1] * 60], "feet are")],
    ids=["short", "under the floor"],
)
def test_what_cannot_be_fitted(change, message: str) -> None:
    with pytest.raises(ClipError, match=message):
        refit(change(shipped()), RATE)


def test_other_bodies_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.amc", "\n".join(amc_lines()) + "\n")
    with pytest.raises(ClipError, match=r"a\.amc: a recording of 'humanoid', not of 'rodent'"):
        list(read_motion(path, body_of("rodent"), format="amc"))
