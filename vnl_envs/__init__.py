"""Benchmark suite for embodied motor control: a rodent and a humanoid on Gymnasium and MuJoCo.

Importing it registers the tasks: `gymnasium.make("vnl/RodentGoalReaching-v0")`.
"""

from __future__ import annotations

import importlib
from typing import Any

import vnl_envs.builtin_tasks  # noqa: F401 - It registers them.
from vnl_envs.registry import (
    make_task,
    parallel_ids,
    register_body,
    register_task,
    task_ids,
    task_options,
)

__version__ = "0.1.0"

# Imported when first used, so that `import vnl_envs` stays fast.
_LAZY = {
    "Body": "vnl_envs.bodies.body",
    "Clip": "vnl_envs.motion.clip",
    "FunctionalEnv": "vnl_envs.envs.functional",
    "JaxVectorEnv": "vnl_envs.envs.jax_vector",
    "Perturbations": "vnl_envs.perturbations",
    "PhysicsOptions": "vnl_envs.bodies.body",
    "SB3VecEnv": "vnl_envs.envs.sb3",
    "SingleEnv": "vnl_envs.envs.single",
    "Standing": "vnl_envs.bodies.body",
    "Task": "vnl_envs.tasks.task",
    "VectorEnv": "vnl_envs.envs.vector",
    "env_hash": "vnl_envs.identity",
    "evaluate": "vnl_envs.evaluation.evaluate",
    "load_clips": "vnl_envs.motion.datasets",
    "make_functional": "vnl_envs.envs.functional",
    "wrap_for_training": "vnl_envs.envs.autoreset",
    "parallel_env": "vnl_envs.envs.parallel",
}

__all__ = [
    "make_task",
    "parallel_ids",
    "register_body",
    "register_task",
    "task_ids",
    "task_options",
    *_LAZY,
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'vnl_envs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
