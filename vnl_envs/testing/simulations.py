"""States of simulations: making, changing, moving and viewing them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mujoco
import numpy as np

from vnl_envs.physics import Physics
from vnl_envs.tasks.task import Task

STATE = mujoco.mjtState.mjSTATE_INTEGRATION.value


def forward(
    task: Task, qpos: Any, qvel: Any = None, act: Any = None, mocap_pos: Any = None
) -> mujoco.MjData:
    """A new `MjData` with the task's body in a given state, after `mj_forward`."""
    body, data = task.body, mujoco.MjData(task.world.model)
    data.qpos[body.qpos] = qpos
    if qvel is not None:
        data.qvel[body.qvel] = qvel
    if act is not None:
        data.act[body.act] = act
    if mocap_pos is not None:
        data.mocap_pos[:] = mocap_pos
    mujoco.mj_forward(task.world.model, data)
    return data


def physics_of(task: Task, *datas: mujoco.MjData) -> Physics:
    """The view of n states that a task reads, (n, ...)."""
    return task.body.physics(*datas)


def physics_at(task: Task, qpos: Any, qvel: Any = None, act: Any = None) -> Physics:
    """The view of states (n, nq), (n, nv), (n, na); zeros if not given."""
    body = task.body
    qpos = np.atleast_2d(qpos)
    qvel = np.zeros((len(qpos), body.nv)) if qvel is None else np.atleast_2d(qvel)
    act = np.zeros((len(qpos), body.na)) if act is None else np.atleast_2d(act)
    states = zip(qpos, qvel, act, strict=True)
    return physics_of(task, *(forward(task, *state) for state in states))


def flat(observation: Mapping[str, Mapping[str, np.ndarray]]) -> np.ndarray:
    """The flat observation of both groups, (n, D)."""
    parts = [v for group in ("proprioception", "task") for v in observation[group].values()]
    return np.concatenate(parts, axis=-1)


def quat_mul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products of a quaternion (4,) with quaternions (n, 4), (n, 4)."""
    out = np.empty_like(b)
    for i, q in enumerate(b):
        mujoco.mju_mulQuat(out[i], a, q)
    return out


def moved(qpos: np.ndarray, shift: np.ndarray, yaw: float) -> np.ndarray:
    """Poses (n, nq) turned by yaw, rad, about the world's z axis, then shifted by (x, y), m."""
    out = np.array(qpos, float)
    out[:, :2] = turned(out[:, :2], yaw) + shift
    turn = np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)])
    out[:, 3:7] = quat_mul(turn, np.ascontiguousarray(out[:, 3:7]))
    return out


def turned(vectors: np.ndarray, yaw: float) -> np.ndarray:
    """Horizontal vectors (..., 2) turned by yaw, rad."""
    c, s = np.cos(yaw), np.sin(yaw)
    return vectors @ np.array([[c, s], [-s, c]])


def edit_physics(env: Any, edit: Callable[[mujoco.MjData], None], index: int = 0) -> None:
    """Change the state of one simulation of an environment through `set_state`."""
    env = env.unwrapped
    state = env.get_state()
    data = mujoco.MjData(env.model)
    row = np.array(state["physics"][index], float)
    assert mujoco.mj_stateSize(env.model, STATE) == row.size
    mujoco.mj_setState(env.model, data, row, STATE)
    edit(data)
    mujoco.mj_getState(env.model, data, row, STATE)
    state["physics"][index] = row
    env.set_state(state)
