"""Forward kinematics of clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from mujoco.batch import Batch

from vnl_envs.bodies.model import BodyModel, lowest_point, servo_control
from vnl_envs.motion.clip import RATE, Clip

_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Reference:
    """C concatenated clips with F frames in total, and their kinematics.

    Attributes:
        clips: clips, in order.
        first: (C,) index of each clip's first frame.
        length: (C,) number of frames of each clip.
        qpos: (F, nq) positions, with normalised quaternions.
        qvel: (F, nv) velocities by central differences.
        xpos: (F, nbody, 3) body positions, m.
        xquat: (F, nbody, 4) body orientations.
        xmat: (F, nbody, 9) body orientations as row-major rotation matrices.
        com: (F, 3) centre of mass, m.
        servo: (F, nu) controls that make the pose the target of position servos, within limits.
        clearance: (F,) height of the lowest contact geom above z = 0, m.
    """

    clips: tuple[Clip, ...]
    first: np.ndarray
    length: np.ndarray
    qpos: np.ndarray
    qvel: np.ndarray
    xpos: np.ndarray
    xquat: np.ndarray
    xmat: np.ndarray
    com: np.ndarray
    servo: np.ndarray
    clearance: np.ndarray


def derive_reference(clips: Sequence[Clip], body: BodyModel) -> Reference:
    """Forward kinematics of clips on a body. Velocities are computed within each clip."""
    length = np.array([len(clip) for clip in clips])
    qpos = np.concatenate([clip.qpos for clip in clips]).astype(np.float64)
    qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    first = np.concatenate([[0], np.cumsum(length)[:-1]])
    spans = [slice(f, f + n) for f, n in zip(first, length, strict=True)]
    qvel = np.concatenate([velocities(qpos[span]) for span in spans])
    kinematics = forward_kinematics(body, qpos)
    mass = body.mass / body.mass.sum()
    return Reference(
        clips=tuple(clips),
        first=first,
        length=length,
        qpos=qpos,
        qvel=qvel,
        xpos=kinematics["xpos"],
        xquat=kinematics["xquat"],
        xmat=kinematics["xmat"],
        com=np.einsum("b,fbi->fi", mass, kinematics["xipos"]),
        servo=servo_control(body, kinematics["actuator_length"]),
        clearance=lowest_point(body, kinematics["geom_xpos"], kinematics["geom_xmat"]),
    )


def velocities(qpos: np.ndarray, rate: float = RATE) -> np.ndarray:
    """Velocities of a pose sequence at `rate` Hz, (T, nq) -> (T, nq - 1), by central differences.

    The ends use one-sided differences. The root's linear velocity is in the world frame and its
    angular velocity in the root's frame, as for a free joint of MuJoCo.
    """
    before = np.concatenate([qpos[:1], qpos[:-1]])
    after = np.concatenate([qpos[1:], qpos[-1:]])
    interval = np.full((len(qpos), 1), 2 / rate)
    interval[[0, -1]] = 1 / rate
    turn = _relative_rotation(before[:, 3:7], after[:, 3:7])
    change = np.concatenate([after[:, :3] - before[:, :3], turn, after[:, 7:] - before[:, 7:]], 1)
    return change / interval


def _relative_rotation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rotation vectors from quaternions a to b, in a's frame, (T, 4) -> (T, 3)."""
    w = np.sum(a * b, axis=1, keepdims=True)
    v = a[:, :1] * b[:, 1:] - b[:, :1] * a[:, 1:] - np.cross(a[:, 1:], b[:, 1:])
    flip = np.where(w < 0, -1.0, 1.0)
    w, v = w * flip, v * flip
    sine = np.linalg.norm(v, axis=1, keepdims=True)
    angle = 2 * np.arctan2(sine, w)
    return v * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0)


class ForwardKinematics:
    """Forward kinematics of one body, for many calls from one thread.

    It keeps its simulations between calls: making new ones for each of many clips costs time and
    fragments memory.

    Args:
        body: body of the poses.
        simulations: number of poses that are computed at once.
    """

    def __init__(self, body: BodyModel, simulations: int = _CHUNK) -> None:
        self._qpos = body.qpos
        self._rows = {
            **dict.fromkeys(("xpos", "xquat", "xmat", "xipos"), body.bodies),
            **dict.fromkeys(("geom_xpos", "geom_xmat"), body.geoms),
            "actuator_length": body.ctrl,
        }
        self._simulations = simulations
        self._batch = Batch(body.model, nsim=simulations)
        self._fields = {name: self._batch.bind(name) for name in ("qpos", *self._rows)}

    def __call__(self, qpos: np.ndarray) -> dict[str, np.ndarray]:
        """Kinematics of poses (F, nq), see `forward_kinematics`."""
        chunks = []
        for start in range(0, len(qpos), self._simulations):
            part = qpos[start : start + self._simulations]
            self._fields["qpos"][: len(part), self._qpos] = part
            self._batch.forward(ids=np.arange(len(part)), stage=mujoco.mjtStage.mjSTAGE_POS.value)
            chunks.append(
                {k: self._fields[k][: len(part), rows].copy() for k, rows in self._rows.items()}
            )
        return {k: np.concatenate([c[k] for c in chunks]) for k in self._rows}


def forward_kinematics(body: BodyModel, qpos: np.ndarray) -> dict[str, np.ndarray]:
    """Kinematics of poses (F, nq): xpos, xquat, xmat, xipos, geom_xpos, geom_xmat,
    actuator_length, each with leading axis F and the body's own rows.
    """
    return ForwardKinematics(body, min(_CHUNK, len(qpos)))(qpos)
