"""The identity of a task, stamped into checkpoints and scores."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import mujoco
import numpy as np

from vnl_envs.registry import get_row
from vnl_envs.tasks.task import Task

# What the physics of a model consists of. Colours, cameras and the like are not part of it.
_MODEL_FIELDS = (
    "body_parentid", "body_pos", "body_quat", "body_mass", "body_inertia", "body_ipos",
    "body_iquat", "jnt_type", "jnt_bodyid", "jnt_pos", "jnt_axis", "jnt_range", "jnt_stiffness",
    "jnt_solref", "jnt_solimp", "dof_damping", "dof_armature", "dof_frictionloss", "qpos_spring",
    "geom_type", "geom_bodyid", "geom_size", "geom_pos", "geom_quat", "geom_contype",
    "geom_conaffinity", "geom_condim", "geom_priority", "geom_friction", "geom_solref",
    "geom_solimp", "geom_margin", "actuator_trntype", "actuator_trnid", "actuator_dyntype",
    "actuator_gaintype", "actuator_biastype", "actuator_gainprm", "actuator_biasprm",
    "actuator_dynprm", "actuator_ctrlrange", "actuator_forcerange", "wrap_prm", "tendon_stiffness",
    "tendon_damping",
)  # fmt: skip
_OPTION_FIELDS = (
    "timestep", "integrator", "cone", "solver", "iterations", "ls_iterations", "tolerance",
    "jacobian", "impratio", "disableflags", "enableflags", "gravity",
)  # fmt: skip
# Names of settings that choose data or options rather than define the task's constants.
_DIGITS = 6


def env_hash(task_id: str, task: Task) -> str:
    """16 hexadecimal digits over the model, the observation layout, the constants and the version.

    It changes with anything that changes what a policy meets: `docs/versioning.md` says which of
    these changes bump the version in the id. Numbers count to 6 significant digits, so that the
    same task has the same hash on every machine.

    Args:
        task_id: a registered id, whose version counts.
        task: a task made from it, options included.
    """
    digest = hashlib.sha256(task_id.encode())
    digest.update(_model_digest(task.world.model, task.world.substeps))
    digest.update(json.dumps(_constants(task_id, task), sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def _model_digest(model: mujoco.MjModel, substeps: int) -> bytes:
    digest = hashlib.sha256(str(substeps).encode())
    for name in _MODEL_FIELDS:
        digest.update(_rounded(getattr(model, name)))
    for name in _OPTION_FIELDS:
        digest.update(_rounded(np.asarray(getattr(model.opt, name), float)))
    return digest.digest()


def _rounded(array: Any) -> bytes:
    """Numbers to 6 significant digits, as text that all platforms agree on."""
    flat = np.asarray(array, float).ravel() + 0.0
    return " ".join(f"{x:.{_DIGITS - 1}e}" if abs(x) > 1e-9 else "0" for x in flat).encode()


def _constants(task_id: str, task: Task) -> dict[str, Any]:
    """The task's settings as it uses them, and what it observes."""
    u = np.full((1, task.uniforms), 0.5, np.float32)
    episode = task.episode(u)
    row = get_row(task_id)
    settings = {name: getattr(task, name, value) for name, value in row.settings.items()}
    for name in type(task).options:
        settings[name] = getattr(task, name, None)
    return {
        "settings": {k: _plain(v) for k, v in settings.items()},
        "episode": {k: list(np.shape(v)[1:]) for k, v in episode.items()},
        "uniforms": task.uniforms,
        "terms": task.reward_terms,
        "metrics": [repr(metric) for metric in task.metrics],
        "standing": _rounded(task.body.standing_qpos).decode(),
        "standing_control": _rounded(task.body.standing_control).decode(),
        "fallen_height": task.body.body.fallen_height,
        "data": task.data_digest(),
    }


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
