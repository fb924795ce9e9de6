"""Training and test sets share no recording."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from motion_files import body_of, clips_of

from vnl_envs.motion.clip import Clip, ClipError, refuse_leakage, write_clips
from vnl_envs.motion.splits import split_by


def clip(name: str, session: str, frames: int = 10, split: str = "train") -> Clip:
    """A clip of no particular motion."""
    return Clip(name, np.zeros((frames, 8)), "walk", split, "", "", f"rat {session[:1]}", session)


sessions = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(2, 500), st.booleans()),
    min_size=2, max_size=30,
)  # fmt: skip


@given(sessions, st.sampled_from(["session", "subject"]), st.floats(0.05, 0.95), st.integers(0, 99))
def test_split(specs: Any, key: Any, test: float, seed: int) -> None:
    """Whole groups, both sides, the same for the same seed in any order, "extra" left alone."""
    clips = [clip(str(i), s, n, "extra" if e else "test") for i, (s, n, e) in enumerate(specs)]
    groups = {getattr(c, key) for c in clips if c.split != "extra"}
    if len(groups) < 2:
        with pytest.raises(ClipError, match="at least 2"):
            split_by(clips, key, test, seed)
        return
    out = split_by(clips, key, test, seed)
    assert [c.name for c in out] == [c.name for c in clips]
    sides = {s: {getattr(c, key) for c in out if c.split == s} for s in ("train", "test")}
    assert sides["train"] | sides["test"] == groups
    assert sides["train"]
    assert sides["test"]
    assert not sides["train"] & sides["test"]
    assert [c.split == "extra" for c in out] == [c.split == "extra" for c in clips]
    refuse_leakage(out)
    turned = split_by(clips[::-1], key, test, seed)[::-1]
    assert [c.split for c in turned] == [c.split for c in out]


def test_share_and_seed() -> None:
    """The share of frames is about what was asked for; another seed draws others."""
    clips = [clip(str(i), f"s{i}", 100) for i in range(50)]
    outcomes = set()
    for seed in range(5):
        out = split_by(clips, "session", 0.2, seed)
        assert sum(c.split == "test" for c in out) == 10
        outcomes.add(tuple(c.split for c in out))
    assert len(outcomes) == 5


def test_bad_splits() -> None:
    """Clips without the key are named, as are arguments."""
    clips = [clip("one", "a"), clip("two", "b"), dataclasses.replace(clip("three", ""))]
    with pytest.raises(ClipError, match=r"session.*'three'"):
        split_by(clips)
    for arguments in ({"key": "label"}, {"test": 0.0}, {"test": 1.0}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            split_by(clips[:2], **arguments)


def test_leakage(tmp_path: Path) -> None:
    """A recording on both sides is refused with its name and the clips', also when writing."""
    body = body_of("rodent")
    one, two = (dataclasses.replace(c, session="tuesday") for c in clips_of(body))
    for other in (dataclasses.replace(two, split="extra"), two):
        write_clips(tmp_path / "clips.h5", [one, other], body)
    leaking = [one, dataclasses.replace(two, split="test")]
    with pytest.raises(ClipError, match=r"'tuesday'.*'clip 0' in train.*'clip 1' in test"):
        write_clips(tmp_path / "leak.h5", leaking, body)
    assert not (tmp_path / "leak.h5").exists()
    # Who does not say cannot be judged.
    refuse_leakage(dataclasses.replace(c, session="") for c in leaking)
