"""Fits of STAC-MJX, HDF5.

Data sets `qpos` (F, nq) and `names_qpos` (nq,), usually `xpos` (F, B, 3) with `names_xpos` (B,),
`kp_data`, `offsets`, later also `qvel` and `xquat`; `config` has the settings as YAML or JSON text.
Source: `stac_mjx/io.py` (save_data_to_h5) of talmolab/stac-mjx, and how talmolab/vnl-playground
cuts published rat files into clips (`tasks/rodent/reference_clips.py`).

The free joint belongs to the model's frame, see `fits.Rooted`. Joints are matched by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import h5py
import numpy as np

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion import hdf5
from vnl_envs.motion.clip import Clip, ClipError
from vnl_envs.motion.readers.fits import BodyPositions, Fits
from vnl_envs.motion.resample import checked_rate
from vnl_envs.utils import checks

_FREE = 7


def recognises(path: Path) -> bool:
    """Whether the file has poses with names."""
    return hdf5.holds(path, lambda file: {"qpos", "names_qpos"} <= set(file))


def read(path: Path, body: BodyModel, rate: float | None) -> Iterator[Clip]:
    """Read the clips that the settings define; see `vnl_envs.motion.readers.Reader`.

    `rate` has precedence over the settings' `RENDER_FPS`, which is meant for videos.
    """
    with hdf5.opened(path) as file:
        settings = Settings.of(hdf5.text(file, "config"))
        frame_rate = settings.rate if rate is None else checked_rate(rate)
        if frame_rate is None:
            raise ClipError("its config has no RENDER_FPS; give the frame rate")
        qpos = _poses(file, body)
        seen = _body_positions(file, body, len(qpos))
        fits = Fits(body, "frame")
        for name, label, span in _cuts(settings, len(qpos), path.stem):
            clip = Clip(
                name,
                qpos[span],
                label,
                "train",
                f"{path.name} (STAC-MJX fit)",
                "unknown",
                session="" if settings.snippets else path.stem,
            )
            part = None if seen is None else BodyPositions(seen.names, seen.xpos[span])
            yield fits.clip(clip, frame_rate, part)


@dataclass(frozen=True)
class Settings:
    """The entries of a fit's `config` on its frames.

    Attributes:
        rate: frames per second.
        frames_per_clip: number of frames that were fitted together; poses may jump in between.
        snippets: one name for each clip in the file.
    """

    rate: float | None
    frames_per_clip: int | None
    snippets: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Settings:
        """Parse YAML or JSON. Three entries are searched for, and nothing is evaluated."""
        rate = re.search(r"\bRENDER_FPS\"?[ \t]*:[ \t]*([-+.\w]+)", text)
        frames = re.search(r"\bn_frames_per_clip\"?[ \t]*:[ \t]*(\d{1,9})\b", text, re.IGNORECASE)
        block = re.search(r"\bsnips_order\"?[ \t]*:[ \t]*(\[[^\]]*\]|(?:\n[ \t]*-[^\n]*)+)", text)
        entries = re.findall(r"[^\s\[\],\"'-][^\[\],\"'\n]*", block[1]) if block else []
        return cls(
            _positive(rate[1]) if rate else None,
            int(frames[1]) if frames else None,
            tuple(PurePosixPath(entry.strip()).name.removesuffix(".p") for entry in entries),
        )


def _positive(text: str) -> float:
    try:
        return checked_rate(float(text))
    except ValueError:
        raise ClipError(f"its config has RENDER_FPS {text!r}, which is not a frame rate") from None


def _poses(file: h5py.File, body: BodyModel) -> np.ndarray:
    """The file's numbers (F, nq), joints in the order of the body's model."""
    names = [name.rsplit("/", 1)[-1] for name in hdf5.names(file, "names_qpos")]
    qpos = hdf5.array(file, "qpos", (None, len(names)))
    joints = names[_FREE:]
    differing = set(joints) ^ set(body.joint_names)
    if differing or len(set(joints)) < len(joints):
        fault = f"differ in {checks.listed(sorted(differing))}" if differing else "occur twice"
        raise ClipError(f"is not a fit of {body.body.name!r}: its joint names {fault}")
    if qpos.dtype.kind != "f":
        raise ClipError(f"'qpos' must be floating point, got {qpos.dtype}")
    if tuple(joints) == body.joint_names:
        return qpos
    order = [_FREE + joints.index(name) for name in body.joint_names]
    return qpos[:, [*range(_FREE), *order]]


def _body_positions(file: h5py.File, body: BodyModel, frames: int) -> BodyPositions | None:
    """Body positions to check the fit against, or None if the file has none."""
    if hdf5.member(file, "xpos") is None:
        return None
    names = [name.rsplit("/", 1)[-1] for name in hdf5.names(file, "names_xpos")]
    xpos = hdf5.array(file, "xpos", (frames, len(names), 3))
    if not set(names) & set(body.body_names):
        raise ClipError(f"names_xpos has none of the bodies of {body.body.name!r}")
    return BodyPositions(names, xpos)


def _cuts(settings: Settings, frames: int, stem: str) -> Iterator[tuple[str, str, slice]]:
    """Name, label and frames of every clip in a file.

    Published files have snippets of equal length, named like "Walk_12". Otherwise clips are cut at
    the boundaries of the fits, because separate fits may not join.
    """
    count = len(settings.snippets)
    if count:
        if frames % count:
            raise ClipError(f"{frames} frames are not {count} snippets of equal length")
        length = frames // count
    else:
        length = settings.frames_per_clip or frames
        count = frames // length if length and frames % length == 0 else 1
    if count <= 1:
        yield stem, "unlabelled", slice(0, frames)
        return
    for i in range(count):
        span = slice(i * length, (i + 1) * length)
        if settings.snippets:
            name = settings.snippets[i]
            twice = settings.snippets.count(name) > 1
            yield f"{name} {i}" if twice else name, re.sub(r"_\d+$", "", name), span
        else:
            yield f"{stem} {i}", "unlabelled", span
