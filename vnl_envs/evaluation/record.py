"""Recordings of episodes as HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm.auto import tqdm

from vnl_envs.envs.core import Core
from vnl_envs.evaluation.evaluate import begin_episodes, episode_seed
from vnl_envs.evaluation.policies import make_policy
from vnl_envs.identity import env_hash
from vnl_envs.registry import make_task
from vnl_envs.utils import checks
from vnl_envs.utils.files import check_writable, written_whole

_ONLY = np.array([0])


def record(
    task_id: str,
    policy: Any,
    path: str | Path,
    episodes: int,
    seed: int = 0,
    progress: bool = False,
    **options: Any,
) -> int:
    """Write episodes to a file, whole or not at all; return the number of steps.

    Root attributes: the task, its hash, the policy, the seed, the layout of observations and the
    names of joints and actuators. Group `episode_<i>` has for T steps: `qpos` (T + 1, nq), `qvel`
    (T + 1, nv), `act` (T + 1, na), `observation` (T + 1, D), `action` (T, nu), `reward` (T,) and
    `terms/<name>` (T,); for all C contacts after each step `contact_step` (C,), `contact_geoms`
    (C, 2), names, and `contact_distance` (C,), m; and the attributes `label`, `end` and `success`.

    Args:
        task_id, policy, seed, options: as for `evaluate`, with the same episodes.
        path: the .h5 file to write.
        episodes: number of episodes.
        progress: whether to show a bar.
    """
    episodes = checks.integer("episodes", episodes, 1)
    seed = checks.integer("seed", seed, 0)
    check_writable(Path(path), policy if isinstance(policy, str | Path) else None)
    core = Core(make_task(task_id, **options), 1, 1)
    actor = make_policy(policy, core)
    steps = 0
    with written_whole(path) as partial, h5py.File(partial, "w") as file:
        _write_header(file, task_id, core, policy, seed)
        for index in tqdm(
            range(episodes), desc=task_id, unit="episode", disable=None if progress else True
        ):
            (label,) = begin_episodes(core, actor, _ONLY, [episode_seed(seed, index)])
            group = file.create_group(f"episode_{index}")
            steps += _write_episode(group, core, actor, label)
    return steps


def _write_header(file: h5py.File, task_id: str, core: Core, policy: Any, seed: int) -> None:
    body = core.task.body
    file.attrs.update(
        task=task_id,
        env_hash=env_hash(task_id, core.task),
        policy=str(policy),
        seed=seed,
        dt=core.task.dt,
        joints=list(body.joint_names),
        actuators=list(body.actuator_names),
        observation_names=list(core.layout),
        observation_slices=[[s.start, s.stop] for s in core.layout.values()],
    )


def _write_episode(group: h5py.Group, core: Core, actor: Any, label: str) -> int:
    states = {name: [getattr(core.physics, name)[0].copy()] for name in ("qpos", "qvel", "act")}
    observations, actions, rewards = [core.observation[0]], [], []
    terms: dict[str, list[float]] = {}
    contacts: list[tuple[int, str, str, float]] = []
    while True:
        action = actor.act(core.observation)
        result = core.step(action)
        actions.append(action[0])
        rewards.append(result.reward[0])
        observations.append(core.observation[0])
        for name, series in states.items():
            series.append(getattr(core.physics, name)[0].copy())
        for name, value in result.terms.items():
            terms.setdefault(name, []).append(value[0])
        contacts += _contacts(core, len(actions) - 1)
        if result.terminated[0] or result.truncated[0]:
            break
    recorded = {**states, "observation": observations, "action": actions, "reward": rewards}
    recorded |= {f"terms/{name}": values for name, values in terms.items()}
    for name, values in recorded.items():
        group.create_dataset(name, data=np.array(values), compression="gzip")
    _write_contacts(group, contacts)
    group.attrs.update(label=label, end=result.end(0), success=bool(result.success[0]))
    return len(actions)


def _write_contacts(group: h5py.Group, contacts: list[tuple[int, str, str, float]]) -> None:
    steps = np.array([c[0] for c in contacts], np.int32)
    names = np.array([c[1:3] for c in contacts], dtype=object).reshape(-1, 2)
    group.create_dataset("contact_step", data=steps)
    group.create_dataset("contact_geoms", data=names, dtype=h5py.string_dtype())
    group.create_dataset("contact_distance", data=np.array([c[3] for c in contacts], float))


def _contacts(core: Core, step: int) -> list[tuple[int, str, str, float]]:
    data, model = core.engine.data(0), core.engine.model
    return [
        (step, model.geom(c.geom1).name, model.geom(c.geom2).name, float(c.dist))
        for c in data.contact
    ]
