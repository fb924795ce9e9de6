"""Teachers that an actor can clone: the tracking policy, or experts for one or more clips each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from baselines import run
from baselines.checkpoint import read_tree
from baselines.ppo.algorithm import Teacher
from baselines.ppo.base import Track
from baselines.ppo.networks import Actor
from baselines.registered import MLP
from baselines.statistics import MOST_DEVIATIONS
from vnl_envs.registry import get_row


def tracking(env: Any) -> Teacher:
    """The tracking policy of an imitation task.

    Raises:
        ValueError: the task has no tracking policy.
    """
    track = Track.of(env.task, env.layout)
    return lambda envs: track(envs.obs)


def experts(env: Any, folders: Sequence[Path]) -> Teacher:
    """The policies of PPO runs, each for the clips that it was trained on.

    Args:
        env: environment of an imitation task.
        folders: folders of the runs.

    Raises:
        ValueError: the task follows no clips, a clip has no expert, or a run is of another task or
            network.
        FileNotFoundError: there is no run in a folder.
    """
    if not hasattr(env.task, "reference"):
        raise ValueError("experts teach an imitation task, which this is not")
    records = [_record(folder, env.task.body.body.name) for folder in folders]
    names = [clip.name for clip in env.task.reference.clips]
    owner = {name: i for i, record in enumerate(records) for name in _clips(record)}
    if missing := [name for name in names if name not in owner]:
        raise ValueError(
            f"no expert is a run of the clips {missing}; the experts' own (clips=) are "
            f"{sorted(owner)}"
        )
    actors = [_actor(read_tree(folder / run.CHECKPOINT)["model"]) for folder in folders]
    chosen = np.array([owner[name] for name in names])

    def teacher(envs: Any) -> jax.Array:
        actions = jnp.stack([actor(envs.obs) for actor in actors])
        expert = jnp.asarray(chosen)[envs.data.episode["clip"]]
        return jnp.take_along_axis(actions, expert[None, :, None], axis=0)[0]

    return teacher


def _record(folder: Path, body: str) -> dict[str, Any]:
    """The record of an expert's run."""
    record = run.read_record(folder)
    found = {name: record.get(name) for name in ("algorithm", "network")}
    found["body"] = get_row(record.get("task", "")).body
    for name, value in {"algorithm": "ppo", "network": MLP, "body": body}.items():
        if found[name] != value:
            raise ValueError(
                f"{str(folder)!r} is no expert here: its {name} is {found[name]!r}, not {value!r}"
            )
    return record


def _clips(record: dict[str, Any]) -> list[str]:
    clips = record.get("options", {}).get("clips", [])
    return clips.split(",") if isinstance(clips, str) else list(clips)


def _actor(acting: dict[str, Any]) -> Any:
    """The mean action of a checkpoint's "model" as a function (B, D) -> (B, nu), in [-1, 1]."""
    torso = acting["actor"]["params"]["torso"]
    sizes = tuple(len(torso[f"Dense_{i}"]["bias"]) for i in range(len(torso)))
    base = Track(**acting["base"]) if "base" in acting else None
    size = len(acting["actor"]["params"]["mean"]["bias"])
    module: Any = Actor(size, sizes, 1.0, base)

    def act(raw: jax.Array) -> jax.Array:
        scaled = (raw - acting["mean"]) / acting["deviation"]
        scaled = jnp.clip(scaled, -MOST_DEVIATIONS, MOST_DEVIATIONS)
        mean = module.apply(acting["actor"], raw, scaled, raw[..., :0]).mean
        return jnp.clip(mean, -1.0, 1.0)

    return act
