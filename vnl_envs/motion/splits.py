"""Training and test sets without common recordings or subjects."""

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
    """Set the `split` of clips so that each session or subject is on one side.

    Groups are added to the test set in random order as long as its share of the frames gets nearer
    to the requested one. Each side gets at least one group. The result does not depend on the order
    of the clips. "extra" clips are not changed.

    Args:
        clips: clips of any splits; they are copied.
        key: attribute that defines a group.
        test: share of the test set in all frames, without "extra" clips, in (0, 1).
        seed: seed of the order.

    Raises:
        ClipError: a clip has no session or subject, or there is only one group.
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
    """The groups of a test set of about `wanted` frames, at least one and not all."""
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
