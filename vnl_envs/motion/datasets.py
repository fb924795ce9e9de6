"""Loading of clips for tasks: packaged clips, or a clip file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.clip import Clip, fingerprint, read_clips, select_clips
from vnl_envs.motion.kinematics import Reference, derive_reference
from vnl_envs.utils.resources import packaged


def load_clips(
    body: BodyModel, clips: str | Path | Sequence[str] | None = None, split: str = "all"
) -> tuple[Clip, ...]:
    """Load clips of a body.

    Args:
        body: body of the clips.
        clips: clip file (`str` ending in .h5, or `Path`), or names of embedded clips; None is all
            embedded clips.
        split: "train", "test" or "all".

    Raises:
        FileNotFoundError: there is no such file, or no clips are embedded for this body.
        ClipError: the file cannot be used.
        ValueError: a name or the split is unknown.
    """
    if isinstance(clips, Path) or (isinstance(clips, str) and clips.endswith((".h5", ".hdf5"))):
        return select_clips(read_clips(clips, body), None, split)
    names = [clips] if isinstance(clips, str) else clips
    if names is not None:
        texts = isinstance(names, Sequence) and all(isinstance(name, str) for name in names)
        if not texts or not names:
            raise ValueError(f"clips must be a clip file or names of clips, got {clips!r}")
    try:
        path = packaged("clips", f"{body.body.name}.h5")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no clips are embedded for the body {body.body.name!r}; give a file with clips="
        ) from None
    return select_clips(read_clips(path, body), names, split)


def load_reference(
    body: BodyModel, clips: str | Path | Sequence[str] | None = None, split: str = "all"
) -> Reference:
    """Load clips and their kinematics, computed once per process; see `load_clips`."""
    return _derive(_Key(load_clips(body, clips, split), body))


class _Key:
    """A cache key by the clips' content and the body's kinematic tree."""

    def __init__(self, clips: tuple[Clip, ...], body: BodyModel) -> None:
        self.clips, self.body = clips, body
        content = tuple((c.name, c.split, c.label, hash(c.qpos.tobytes())) for c in clips)
        self._identity = (body.body.name, fingerprint(body), body.servos, content)

    def __hash__(self) -> int:
        return hash(self._identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._identity == other._identity


@lru_cache(maxsize=8)
def _derive(key: _Key) -> Reference:
    return derive_reference(key.clips, key.body)
