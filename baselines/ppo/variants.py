"""Tasks with modified constants and options for training. Scores use the original tasks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from vnl_envs import register_task, registry


def variant(task_id: str, constants: Mapping[str, Any]) -> str:
    """The id of a registered task with modified constants. It is registered on first use.

    Args:
        task_id: a registered id; returned unchanged if there are no constants.
        constants: settings and options by name; mappings are merged into the task's own.

    Raises:
        ValueError: the id or a constant is unknown.
    """
    if not constants:
        return task_id
    row, own = registry.get_row(task_id), registry.task_settings(task_id)
    options = dict.fromkeys(registry.task_class(row).options)
    _check(task_id, options | own, constants)
    settings = merged(own, constants)
    digest = hashlib.sha256(json.dumps(constants, sort_keys=True).encode()).hexdigest()[:8]
    name, version = task_id.split("/")[1].rsplit("-", 1)
    new = f"training/{name}-{digest}-{version}"
    if new not in registry.task_ids():
        register_task(new, row.body, row.task, **settings)
    return new


def merged(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The settings `own` updated by `other`; mappings are merged."""
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
