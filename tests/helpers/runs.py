"""What tests of the baselines share: small runs, what they leave, and Gaussians."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from baselines import hyperparameters
from baselines.checkpoint import read_tree
from baselines.run import CHECKPOINT, LOG

if TYPE_CHECKING:
    from baselines.dmpo.networks import Gaussian


def write_hyperparams(folder: Path, changes: Mapping[str, Any]) -> Path:
    """A file in a folder, of changes for all tasks."""
    path = folder / "hyperparams.yml"
    path.write_text(yaml.safe_dump({"default": dict(changes)}))
    return path


def log_of(run: Path) -> list[dict[str, str]]:
    """The rows of a run's log, without what differs each time."""
    with (run / LOG).open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def state_of(run: Path) -> dict[str, Any]:
    """A run's newest checkpoint, without what differs each time."""
    return {k: v for k, v in read_tree(run / CHECKPOINT).items() if k != "seconds"}


@contextlib.contextmanager
def sharing_programs() -> Iterator[None]:
    """Runs of PPO that are alike use what was compiled for the first of them."""
    from baselines.ppo import training

    programs: dict[str, Any] = {}
    make = training.PPO

    def shared(env: Any, h: Any, network: Any, teacher: Any = None, neurons: Any = None) -> Any:
        about = env.unwrapped._arguments, h, network.name, dict(network.identity)
        # The tracking policy is the same for all; experts are not.
        key = repr((*about, getattr(teacher, "__qualname__", None)))
        if "experts" in key or neurons or key not in programs:
            programs[key] = make(env, h, network, teacher, neurons)
        return programs[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "PPO", shared)
        yield


def dmpo_settings(task_id: str, **changes: Any) -> Any:
    """Those of a run of DMPO, small but for changes."""
    from baselines.dmpo.settings import Network, Settings

    small = {
        "policy_layers": [16, 16], "critic_layers": [16, 16], "batch_size": 16, "num_envs": 4,
        "unroll": 4, "warmup": 32, "capacity": 400, "log_every": 2, "evaluate_every": 4,
        "evaluation_episodes": 2, "samples_per_insert": 4.0,
    }  # fmt: skip
    loaded = hyperparameters.load(Settings, Network.files, task_id)
    return dataclasses.replace(loaded, **{**small, **changes})


def gaussian(mean: Any, std: Any) -> Gaussian:
    """A policy's distribution, (..., nu) each, without a penalty."""
    import jax.numpy as jnp

    from baselines.dmpo.networks import Gaussian

    mean = jnp.asarray(mean, jnp.float32)
    return Gaussian(mean, jnp.asarray(std, jnp.float32), jnp.zeros(mean.shape[:-1]))
