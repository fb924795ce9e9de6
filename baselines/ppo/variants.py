"""Tasks with other constants than their own, to train on; scores are the tasks' own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from vnl_envs import register_task, registry


def variant(task_id: str, constants: Mapping[str, Any]) -> str:
    """The id of a task like a registered one but for some constants, registered when first asked.

    Args:
        task_id: a registered id; itself where there are no constants.
        constants: settings by name; what is a mapping is merged into the task's own.

    Raises:
        ValueError: an unknown id or constant.
    """
    if not constants:
        return task_id
    row, own = registry.get_row(task_id), registry.task_settings(task_id)
    _check(task_id, own, constants)
    settings = merged(own, constants)
    digest = hashlib.sha256(json.dumps(constants, sort_keys=True).encode()).hexdigest()[:8]
    name, version = task_id.split("/")[1].rsplit("-", 1)
    new = f"training/{name}-{digest}-{version}"
    if new not in registry.task_ids():
        register_task(new, row.body, row.task, **settings)
    return new


def merged(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others in their place; mappings are merged."""
    both = {**own, **other}
    for name in own.keys() & other.keys():
        if isinstance(own[name], Mapping):
            both[name] = {**own[name], **other[name]}
    return both


def _check(place: str, own: Mapping[str, Any], constants: Mapping[str, Any]) -> None:
    if unknown := sorted(set(constants) - set(own)):
        raise ValueError(f"{place} has no constants {unknown}; it has {sorted(own)}")
    for name, value in constants.items():
        if isinstance(own[name], Mapping):
            if not isinstance(value, Mapping):
                raise ValueError(f"{place}: {name} must be a mapping, got {value!r}")
            _check(f"{place}: {name}", own[name], value)
