"""What several test files share: states, rollouts and comparisons."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click.testing
import gymnasium
import mujoco
import numpy as np
import pytest
import typer
import typer.testing

import vnl_envs
from vnl_envs import registry
from vnl_envs.physics import Physics
from vnl_envs.tasks.task import Task

STATE = mujoco.mjtState.mjSTATE_INTEGRATION.value


def recording(name: str) -> Path:
    """A recording for tests, or a skip where there is none."""
    path = Path(__file__).parents[3] / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"no recording {name} beside the checkout")
    return path


@functools.lru_cache(maxsize=16)
def task_of(task_id: str) -> Task:
    """A task with its default options, shared by all tests: never change it."""
    return vnl_envs.make_task(task_id)


@functools.lru_cache(maxsize=16)
def single(task_id: str) -> gymnasium.Env[Any, Any]:
    """A single environment shared by all tests: reset it first."""
    return gymnasium.make(task_id)


def vector(task_id: str, num_envs: int, **arguments: Any) -> Any:
    """A new vector environment."""
    return gymnasium.make_vec(task_id, num_envs=num_envs, **arguments)


def episode_of(task: Task, num: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Episodes from a seeded generator, (num, ...) each."""
    u = np.random.default_rng(seed).random((num, task.uniforms), np.float32)
    return {k: np.asarray(v) for k, v in task.episode(u).items()}


def actions_of(task: Task, steps: int, num: int, seed: int = 0, size: float = 1.0) -> np.ndarray:
    """Uniform actions, (steps, num, nu) float32."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-size, size, (steps, num, task.body.nu)).astype(np.float32)


def rows(parts: Mapping[str, np.ndarray], index: Any) -> dict[str, np.ndarray]:
    """A selection of the rows of an episode or carry."""
    return {k: v[index] for k, v in parts.items()}


def forward(
    task: Task, qpos: Any, qvel: Any = None, act: Any = None, mocap_pos: Any = None
) -> mujoco.MjData:
    """A new `MjData` with the task's body in a state, after `mj_forward`."""
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
    """The view that a task has of these states, one row each."""
    return task.body.physics(*datas)


def physics_at(task: Task, qpos: Any, qvel: Any = None, act: Any = None) -> Physics:
    """The view of states (n, nq), (n, nv), (n, na); zeros where not given."""
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
    """Product of quaternions (4,), (n, 4)."""
    out = np.empty_like(b)
    for i, q in enumerate(b):
        mujoco.mju_mulQuat(out[i], a, q)
    return out


def moved(qpos: np.ndarray, shift: np.ndarray, yaw: float) -> np.ndarray:
    """Poses (n, nq) turned by yaw about the world's z axis, then shifted by (x, y)."""
    out = np.array(qpos, float)
    out[:, :2] = turned(out[:, :2], yaw) + shift
    turn = np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)])
    out[:, 3:7] = quat_mul(turn, np.ascontiguousarray(out[:, 3:7]))
    return out


def turned(vectors: np.ndarray, yaw: float) -> np.ndarray:
    """Horizontal vectors (..., 2) turned by yaw."""
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


def run_vector(env: Any, actions: np.ndarray, seed: Any = 0) -> list[tuple[Any, ...]]:
    """The results of reset and of every step."""
    return [env.reset(seed=seed), *(env.step(a) for a in actions)]


def run_single(env: Any, actions: np.ndarray, seed: int) -> list[tuple[Any, ...]]:
    """Like `run_vector`, resetting where an episode ends; then with the final step as 6th entry."""
    results: list[tuple[Any, ...]] = [env.reset(seed=seed)]
    for action in actions:
        result = env.step(action)
        if result[2] or result[3]:
            first, info = env.reset()
            results.append((first, *result[1:4], info, (result[0], result[4])))
        else:
            results.append(result)
    return results


def row_of(infos: Mapping[str, Any], index: int) -> dict[str, Any]:
    """One environment's info among the infos of a vector, by the masks."""
    out: dict[str, Any] = {}
    for key, value in infos.items():
        if key.startswith("_") or not infos["_" + key][index]:
            continue
        out[key] = row_of(value, index) if isinstance(value, dict) else value[index]
    return out


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Nested dictionaries, sequences and arrays are equal bit for bit (NaN equals NaN)."""
    if isinstance(a, Mapping):
        assert isinstance(b, Mapping), where
        assert set(a) == set(b), f"{where}: {sorted(set(a) ^ set(b))}"
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, np.ndarray) and a.dtype == object:
        assert_same(list(a), list(b), where)
    elif a is None or b is None:
        assert a is b, where
    else:
        assert np.asarray(a).dtype.kind == np.asarray(b).dtype.kind, where
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=where)


def in_fork(function: Callable[[], Any], timeout: float = 60.0) -> Any:
    """The result of a function in a forked child, which must not hang."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=lambda: send.send_bytes(pickle.dumps(function())), daemon=True)
    child.start()
    try:
        if not receive.poll(timeout):
            pytest.fail(f"the forked child hung for {timeout:.0f} s")
        return pickle.loads(receive.recv_bytes())
    finally:
        child.kill()
        child.join()


@contextlib.contextmanager
def switched(*, wide: bool = False, debug: bool = False) -> Iterator[None]:
    """JAX with strict promotion for a while, with 64-bit numbers or checks of keys and numbers."""
    import jax

    with (
        jax.numpy_dtype_promotion("strict"),
        jax.enable_x64(wide),
        jax.debug_key_reuse(debug),
        jax.debug_nans(debug),
    ):
        yield


@contextlib.contextmanager
def restored_registry() -> Iterator[None]:
    """Forget what a test registered."""
    tables = (registry._ROWS, registry._BODIES, gymnasium.registry)
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        for table, content in zip(tables, before, strict=True):
            table.clear()
            table.update(content)


def invoke(main: Callable[..., None], *arguments: object) -> click.testing.Result:
    """What a command does with arguments."""
    app = typer.Typer()
    app.command()(main)
    return typer.testing.CliRunner().invoke(app, [str(a) for a in arguments])


def one_line(result: click.testing.Result) -> str:
    """The message of a command that was refused."""
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit), result.exception
    message = str(result.exception.code)
    if "\n" in message or not message.startswith("error: "):
        pytest.fail(f"not one line: {message!r}")
    return message
