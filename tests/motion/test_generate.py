"""Rat motion made by rule: what is drawn, how one motion leads to the next, and the files."""

from __future__ import annotations

import runpy
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import one_line, run, told
from hypothesis import given, settings
from hypothesis import strategies as st

from vnl_envs.motion.checking.check import check_clips
from vnl_envs.motion.clip import RATE, Clip, read_clips
from vnl_envs.motion.generate import draw as drawing
from vnl_envs.motion.generate.draw import BEHAVIOURS, SHARES, draw, repertoire
from vnl_envs.motion.generate.journey import Journey
from vnl_envs.motion.generate.motion import LEGS, SWING, Motion
from vnl_envs.testing.environments import task_of

ASSETS = Path(__file__).parents[2] / "assets"
BODY = task_of("vnl/RodentImitation-v0").body
WALK = Motion("", "walk", "train", speed=0.25, turn=0.6, start=0.3, spine=0.1, seconds=2.0)
PAUSE = Motion("", "stand", "train", seconds=1.5, gaze=0.2)
REAR = Motion("", "rear", "train", seconds=3.6, rear=0.6)


def drawn(seed: int, number: int) -> Motion | Journey:
    return draw(np.random.default_rng([seed, number]), str(number))


# What is drawn ------------------------------------------------------------------------------------


def test_draws_depend_on_the_seed_alone() -> None:
    """The same for the same seed, others for another; and all behaviours come up."""
    once, again = ([drawn(0, i) for i in range(200)] for _ in range(2))
    assert once == again
    assert {c.label for c in once} == set(SHARES) == {*BEHAVIOURS, "journey"}
    assert not set(once) & {drawn(1, i) for i in range(200)}
    counts = Counter(c.label for c in once)
    for label, share in SHARES.items():
        assert abs(counts[label] / 200 - share / 100) < 0.1, label


def test_nothing_drawn_is_an_embedded_motion() -> None:
    """All are for training, and none has the posture or speed of an embedded clip to the digit."""
    table = runpy.run_path(str(ASSETS / "make_rodent_clips.py"))["MOTIONS"]
    for course in (drawn(2, i) for i in range(300)):
        assert course.split == "train"
        parts = course.parts if isinstance(course, Journey) else (course,)
        for part in parts:
            assert not any(part == replace(m, name=part.name, split=part.split) for m in table)
            assert not part.moves or part.speed not in {m.speed for m in table}


# Journeys -----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    speed=st.floats(0.1, 0.4),
    turn=st.floats(-1.0, 1.0),
    start=st.floats(0, 1),
    time=st.floats(0.0, 5.0),
    leg=st.sampled_from(LEGS),
)
def test_a_journey_of_one_motion_is_that_motion(
    speed: float, turn: float, start: float, time: float, leg: str
) -> None:
    """Numerical integrals and touch-downs against the closed forms of a steady gait."""
    motion = Motion("m", "walk", "train", speed=speed, turn=turn, start=start)
    journey = Journey("m", "walk", "train", (motion,))
    assert journey.seconds == motion.seconds
    assert journey.phase(time) == pytest.approx(motion.phase(time), abs=1e-6)
    assert journey.distance(time) == pytest.approx(motion.distance(time), abs=1e-6)
    assert journey.curvature(time) == pytest.approx(motion.curvature(time))
    ways = motion.distance(time) + np.array([-0.05, 0.0, 0.05])
    for way in ways:
        np.testing.assert_allclose(journey.path(way), motion.path(way), atol=1e-5)
    step, u = motion.stride(leg, time)
    if min(abs(u), abs(u - 1)) > 1e-3 and abs(step + 1 - u) > 1e-3:
        here, there = journey.stride(leg, time)
        assert (here, there) == (step, pytest.approx(u, abs=1e-3))
        assert journey.foothold(leg, step) == pytest.approx(motion.foothold(leg, step), abs=1e-5)
        assert journey.carries(leg, time) == motion.carries(leg, time)


JOURNEY = Journey("j", "journey", "train", (WALK, PAUSE, REAR, replace(WALK, turn=-0.8)))


def test_in_a_pause_all_paws_stand_and_nothing_moves() -> None:
    """From 0.4 s after a walk's end to 0.4 s before the next one begins."""
    times = np.arange(2.4, 6.7, 1 / RATE)
    assert np.ptp([JOURNEY.distance(t) for t in times]) < 1e-9
    assert np.ptp([JOURNEY.phase(t) for t in times]) < 1e-9
    for leg in ("hind_L", "hind_R"):
        assert all(JOURNEY.carries(leg, t) for t in times)
    down = [t for t in times if JOURNEY.rearing(t) == 0]
    assert 0 < len(down) < len(times)
    assert all(JOURNEY.carries(leg, t) for leg in LEGS for t in down)
    assert not any(JOURNEY.carries("fore_L", t) for t in set(times) - set(down))


def test_speed_and_path_change_smoothly_from_part_to_part() -> None:
    """Accelerations stay below a seventh of gravity, swings last as long as in a steady gait."""
    times = np.arange(0, JOURNEY.seconds, 1 / RATE)
    place = np.array([JOURNEY.path(JOURNEY.distance(t))[:2] for t in times])
    assert np.linalg.norm(np.diff(place, 2, axis=0) * RATE**2, axis=1).max() < 1.4
    # Without the rear, in which fore paws are off the ground too.
    on_foot = replace(JOURNEY, parts=(WALK, PAUSE, replace(WALK, turn=-0.8)))
    for leg in LEGS:
        swings = [not on_foot.carries(leg, t) for t in np.arange(0, on_foot.seconds, 1 / RATE)]
        edges = np.flatnonzero(np.diff(np.array([False, *swings, False], int)))
        inner = np.diff(edges)[::2][1:-1] / RATE
        assert len(inner) > 4
        assert (np.abs(inner - SWING) <= 1 / RATE).all()


# Files --------------------------------------------------------------------------------------------


def test_a_generated_file_is_one_of_clips_that_are_ok(tmp_path: Path) -> None:
    """Whole, labelled, said under which terms, and the same once more."""
    path = tmp_path / "rats.h5"
    text = told(run("generate", "--body", "rodent", "--count", 2, "--seed", SEED, "--out", path))
    assert "2 clips (1 head_scan, 1 stand)" in text
    assert "the check dropped 0" in text
    clips = read_clips(path, BODY)
    assert [report.verdict for report in check_clips(clips, BODY)] == ["ok", "ok"]
    assert {clip.licence for clip in clips} == {"Apache-2.0"}
    assert all(f"seed {SEED}" in clip.source for clip in clips)
    again = next(repertoire(BODY, 5, SEED))
    np.testing.assert_array_equal(again.qpos, clips[0].qpos)


SEED = 110
"""Whose first two draws are quick to make."""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--body", "humanoid", "--count", 1, "--out", "x.h5"), "body must be 'rodent'"),
        (("--body", "rodent", "--count", 0, "--out", "x.h5"), "count must be"),
        (("--body", "rodent", "--count", 1, "--seed", -1, "--out", "x.h5"), "seed must be"),
        (("--body", "rodent", "--count", 1, "--out", "x.txt"), "ends in one of"),
        (("--body", "rodent", "--count", 1, "--out", "no/x.h5"), "no folder"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: tuple[Any, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in one_line(run("generate", *arguments))
    assert not list(tmp_path.iterdir())


def unsound(course: Any, body: Any, source: str) -> Clip:
    """A clip under the ground, made without inverse kinematics."""
    qpos = np.tile(BODY.standing_qpos, (30, 1))
    qpos[:, 2] -= 0.02
    return Clip(course.name, qpos.astype(np.float32), course.label, "train", source, "CC0-1.0")


def test_clips_that_are_not_ok_are_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where hardly any is, the generator says so and leaves no file."""
    monkeypatch.setattr(drawing, "make_clip", unsound)
    path = tmp_path / "rats.h5"
    result = run("generate", "--body", "rodent", "--count", 2, "--out", path)
    assert f"only 0 of {drawing.PATIENCE} generated clips are ok" in one_line(result)
    assert not list(tmp_path.iterdir())
    dropped: Counter[str] = Counter()
    with pytest.raises(RuntimeError):
        list(repertoire(BODY, 1, 0, dropped))
    assert dropped.total() == drawing.PATIENCE
