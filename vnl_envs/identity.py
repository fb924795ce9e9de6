"""The identity of a task, stamped into checkpoints and scores."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from typing import Any

import mujoco
import numpy as np

from vnl_envs.registry import PERTURBATIONS, task_settings
from vnl_envs.tasks.task import Task

# Model fields outside the hash: looks, and values that the compiler derives from other fields.
_LOOKS = re.compile(
    r"(cam|light|mat|tex|skin|mesh|hfield|site|text|tuple|numeric|key|bvh|oct|name|vis)_?.*"
    r"|.*_(rgba|matid|group|user|sameframe|dataid|camlight|bvhadr|bvhnum|plugin|pathadr)"
)
_DERIVED = re.compile(
    r".*_(invweight0|M0|length0|acc0|cranklength|lengthrange|lengthspring|subtreemass|rbound|aabb)"
    r"|.*[nd]adr|.*_num|qpos0|(B|M|D|J|map)[A-Z_].*|mapM2.*|flex.*|efm.*|dof_Madr|.*simplenum"
)
_OPTION_FIELDS = (
    "timestep",
    "integrator",
    "cone",
    "solver",
    "iterations",
    "ls_iterations",
    "tolerance",
    "ls_tolerance",
    "jacobian",
    "impratio",
    "disableflags",
    "enableflags",
    "gravity",
)
# Attributes of a body that affect no policy, or that reach the hash through the model and the
# standing pose.
_NOT_MET = {"make_spec", "egocentric_camera", "physics", "standing", "skin_scale"}
_DIGITS = 6


def env_hash(task_id: str, task: Task) -> str:
    """Hash of a task's model, constants, data and version: 16 hexadecimal digits.

    The hash changes with everything that affects a policy but the code of observations and
    rewards, which golden rollouts guard. `docs/versioning.md` says which of
    these changes bump the version in the id. Numbers are rounded to 6 significant digits, so that
    the same task has the same hash on every machine.

    Args:
        task_id: registered id of a task or race, with its version.
        task: task made from this id, options included.
    """
    digest = hashlib.sha256(task_id.encode())
    digest.update(_model_digest(task.world.model, task.world.substeps))
    digest.update(json.dumps(_constants(task_id, task), sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def _model_digest(model: mujoco.MjModel, substeps: int) -> bytes:
    digest = hashlib.sha256(str(substeps).encode())
    for name in _model_fields(model):
        digest.update(name.encode() + _rounded(getattr(model, name)))
    for name in _OPTION_FIELDS:
        digest.update(name.encode() + _rounded(np.asarray(getattr(model.opt, name), float)))
    return digest.digest()


def _model_fields(model: mujoco.MjModel) -> list[str]:
    """Names of the model's arrays that determine its physics."""
    names = [name for name in dir(model) if not name.startswith("_")]
    names = [n for n in names if not _LOOKS.fullmatch(n) and not _DERIVED.fullmatch(n)]
    values = {name: getattr(model, name, None) for name in names}
    return [n for n, v in values.items() if isinstance(v, np.ndarray) and v.dtype.kind in "fiub"]


def _rounded(array: Any) -> bytes:
    """Numbers to 6 significant digits, as text that all platforms agree on."""
    flat = np.asarray(array, float).ravel() + 0.0
    return " ".join(f"{x:.{_DIGITS - 1}e}" if abs(x) > 1e-9 else "0" for x in flat).encode()


def _constants(task_id: str, task: Task) -> dict[str, Any]:
    """Settings, body, data and layouts of a task, by name."""
    u = np.full((1, task.uniforms), 0.5, np.float32)
    episode = task.episode(u)
    body = dataclasses.asdict(task.body.body)
    bare = task.unwrapped
    settings = {k: getattr(bare, k, value) for k, value in task_settings(task_id).items()}
    settings.pop(PERTURBATIONS, None)
    for name in type(bare).options:
        settings[name] = getattr(bare, name, None)
    perturbations = getattr(task, PERTURBATIONS, None)
    # The key is absent without perturbations: unperturbed tasks keep their hashes.
    perturbed = {PERTURBATIONS: perturbations.constants()} if perturbations else {}
    return {
        **perturbed,
        "settings": {k: _plain(v) for k, v in settings.items()},
        "episode": {k: list(np.shape(v)[1:]) for k, v in episode.items()},
        "uniforms": task.uniforms,
        "terms": task.reward_terms,
        "metrics": [repr(metric) for metric in task.metrics],
        "standing": _rounded(task.body.standing_qpos).decode(),
        "standing_control": _rounded(task.body.standing_control).decode(),
        "control_per_action": _rounded(task.body.span).decode(),
        "body": {k: v for k, v in body.items() if k not in _NOT_MET},
        "joints": task.body.joint_names,
        "actuators": task.body.actuator_names,
        "data": task.data_digest(),
    }


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
