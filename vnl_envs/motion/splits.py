"""Training and test sets that have no recording, or no subject, in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from vnl_envs.motion.clip import Clip
from vnl_envs.motion.errors import ClipError
from vnl_envs.utils import checks


def split_by(
    clips: Sequence[Clip],
    key: Literal["session", "subject"] = "session",
    test: float = 0.2,
    seed: int = 0,
) -> tuple[Clip, ...]:
    """Clips with `split` set so that whole sessions or subjects are on one side.

    Groups go to the test set in an order drawn from the seed, as long as that brings its share of
    the frames nearer to what is asked for; each side gets at least one. The order of the clips does
    not matter. "extra" clips stay what they are.

    Args:
        clips: of any splits; not changed.
        key: what stays together.
        test: share of all frames, "extra" clips not counted, in (0, 1).
        seed: of the draw.

    Raises:
        ClipError: clips do not say their session or subject, or there is only one of them.
        ValueError: an argument is out of range.
    """
    checks.choice("key", key, ("session", "subject"))
    checks.number("test", test, np.nextafter(0, 1), np.nextafter(1, 0))
    checks.integer("seed", seed, 0)
    frames: dict[str, int] = {}
    chosen = [clip for clip in clips if clip.split != "extra"]
    unknown = [clip.name for clip in chosen if not getattr(clip, key)]
    if unknown:
        raise ClipError(f"clips without a {key} cannot be split by it: {checks.listed(unknown)}")
    for clip in chosen:
        frames[getattr(clip, key)] = frames.get(getattr(clip, key), 0) + len(clip)
    if len(frames) < 2:
        raise ClipError(f"splitting by {key} needs at least 2 of them, got {sorted(frames)}")
    held_out = _held_out(frames, test * sum(frames.values()), seed)
    return tuple(
        clip
        if clip.split == "extra"
        else dataclasses.replace(clip, split="test" if getattr(clip, key) in held_out else "train")
        for clip in clips
    )


def _held_out(frames: dict[str, int], wanted: float, seed: int) -> set[str]:
    """The groups of a test set of about so many frames, at least one and not all."""
    # Sorted, so that only the groups and the seed matter.
    order = np.random.default_rng(seed).permutation(sorted(frames)).tolist()
    held_out: set[str] = set()
    have = 0
    for group in order:
        more = have + frames[group]
        if len(held_out) < len(order) - 1 and abs(more - wanted) < abs(have - wanted):
            held_out.add(group)
            have = more
    # Where any group is more than twice what is asked for, the smallest is nearest.
    return held_out or {min(order, key=frames.__getitem__)}
