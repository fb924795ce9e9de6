"""To come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vnl_envs.bodies.body import BodyModel
from vnl_envs.motion.clip import Clip, ClipError


def recognises(path: Path) -> bool:
    """Nothing yet."""
    return False


def read(path: Path, body: BodyModel, rate: float | None) -> Iterator[Clip]:
    """Nothing yet."""
    raise ClipError(f"{path}: cannot be read yet")
