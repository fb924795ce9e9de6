"""Motion, and files of it in the layouts of other programs, for tests."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.spatial.transform import Rotation

import vnl_envs
from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.clip import Clip
from vnl_envs.motion.kinematics import forward_kinematics
from vnl_envs.motion.readers import amc

TEXTS = {"label": "walk", "split": "train", "source": "test", "licence": "CC0-1.0"}


@functools.cache
def body_of(name: str) -> BodyModel:
    """The rodent or the humanoid in its own world, without any clips."""
    return vnl_envs.make_task(f"vnl/{name.capitalize()}GoalReaching-v0").body


def motion(body: BodyModel, frames: int, seed: int = 0) -> np.ndarray:
    """Smooth poses (T, nq) inside the joint limits that turn and travel."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / 50
    low, high = body.joint_range.T
    joints = len(body.joint_names)
    waves = np.sin(time * rng.uniform(1, 6, joints) + rng.uniform(0, 6, joints))
    qpos = np.empty((frames, body.nq))
    qpos[:, :3] = rng.normal(size=3) + time * rng.normal(size=3)
    turn = Rotation.from_rotvec(rng.normal(size=3) + time * rng.normal(size=3))
    qpos[:, 3:7] = turn.as_quat(scalar_first=True)
    qpos[:, 7:] = (low + high) / 2 + 0.4 * (high - low) * waves
    return qpos


def clips_of(body: BodyModel, count: int = 2, frames: int = 12) -> list[Clip]:
    """Some clips that differ."""
    return [
        Clip(f"clip {i}", motion(body, frames, i).astype(np.float32), **TEXTS) for i in range(count)
    ]


def write_dm_control(
    path: Path,
    body: BodyModel,
    clips: Mapping[str, np.ndarray],
    dt: float = 0.02,
    bodies: Sequence[str] | None = None,
) -> None:
    """A file in dm_control's layout, bodies inputs by our own kinematics."""
    names = body.body.tracked_bodies if bodies is None else bodies
    with h5py.File(path, "w") as file:
        for name, qpos in clips.items():
            xpos = forward_kinematics(body, qpos)["xpos"][:, body.body_index(*names)]
            fields = {
                "position": qpos[:, :3], "quaternion": qpos[:, 3:7], "joints": qpos[:, 7:],
                "body_positions": xpos.reshape(len(qpos), -1),
            }  # fmt: skip
            put_walker(file, name, fields, dt)


def put_walker(file: h5py.File, name: str, fields: Mapping[str, np.ndarray], dt: float) -> None:
    """A clip of one walker, `fields` with time as their first axis."""
    group = file.create_group(name)
    group.attrs.update(dt=dt, num_steps=len(fields["joints"]), year=2020, month=1, day=1)
    group.create_group("props")
    walker = group.create_group("walkers/walker_0")
    walker.attrs.update(name=np.bytes_("walker"), mass=0.0, model=4)
    walker.create_group("scaling")
    walker.create_group("markers")
    for key, values in fields.items():
        walker[key] = np.ascontiguousarray(values.T)


def write_stac(path: Path, body: BodyModel, qpos: np.ndarray, config: str, **more: Any) -> None:
    """A file in STAC-MJX's layout: the free joint is the model frame's."""
    xpos = forward_kinematics(body, qpos)["xpos"]
    offset = body.model.body_pos[body.bodies.start]
    framed = np.array(qpos)
    framed[:, :3] -= Rotation.from_quat(qpos[:, 3:7], scalar_first=True).apply(offset)
    with h5py.File(path, "w") as file:
        file["config"] = np.bytes_(config)
        file["names_qpos"] = np.array(["root"] * 7 + list(body.joint_names), "S")
        file["names_xpos"] = np.array(["world", *body.body_names], "S")
        xpos = np.concatenate([np.zeros((len(qpos), 1, 3)), xpos], axis=1)
        for key, values in {"qpos": framed, "xpos": xpos, **more}.items():
            file.create_dataset(key, data=np.asarray(values, np.float32), compression="gzip")


def amc_text(values: np.ndarray) -> str:
    """A CMU recording of the numbers (T, 62) that `amc.COLUMNS` names."""
    lines = ["#!OML:ASF made.ASF", ":FULLY-SPECIFIED", ":DEGREES"]
    for number, frame in enumerate(values, 1):
        lines.append(str(number))
        left = iter(frame)
        for joint, axes in amc.DEGREES_OF_FREEDOM.items():
            lines.append(" ".join([joint, *(f"{next(left):.9g}" for _ in axes)]))
    return "\n".join(lines) + "\n"


def amc_values(body: BodyModel, qpos: np.ndarray) -> np.ndarray:
    """The numbers (T, 62) of which poses (T, nq) of the humanoid are a plain copy."""
    upright = Rotation.from_euler("x", 90, degrees=True)
    turn = upright.inv() * Rotation.from_quat(qpos[:, 3:7], scalar_first=True)
    joints = np.rad2deg(qpos[:, 7:])
    angles = [joints[:, body.joint_names.index(name)] for name in amc.COLUMNS[6:]]
    place = upright.inv().apply(qpos[:, :3]) / amc.UNIT
    return np.column_stack([place, turn.as_euler("xyz", degrees=True), *angles])
