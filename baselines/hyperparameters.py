"""Hyperparameters by task from YAML files, checked against a dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from vnl_envs.registry import get_row

T = TypeVar("T")

FOLDER = Path(__file__).parent / "hyperparams"
DEFAULT = "default"


def load(kind: type[T], names: Sequence[str], task_id: str, file: Path | None = None) -> T:
    """The hyperparameters of a task.

    A file has sections: "default", and ids of tasks. A later file only has what differs from the
    earlier ones; what it says of all tasks goes before what they say of this one.

    Args:
        kind: dataclass of numbers, texts, lists of integers and mappings, whose fields are the
            keys.
        names: names of YAML files in `FOLDER`; the first one has all keys.
        task_id: task id; a task that no file lists has the defaults.
        file: YAML file of further differences.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is not such YAML, a section is of no registered task, a key is unknown,
            or a value has a wrong type.
    """
    fields = {f.name: str(f.type) for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    chosen: dict[str, Any] = {}
    for path in (*(FOLDER / name for name in names), *([file] if file else [])):
        sections = _sections(path)
        own = {**sections.get(DEFAULT, {}), **sections.get(task_id, {})}
        if unknown := sorted(set(own) - set(fields)):
            raise ValueError(
                f"{path.name}: unknown hyperparameters {unknown}; there are {sorted(fields)}"
            )
        chosen |= {name: _checked(path, name, fields[name], value) for name, value in own.items()}
    return kind(**chosen)


def _sections(path: Path) -> dict[str, dict[str, Any]]:
    """The sections of a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such YAML, or a section is of no registered task.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no hyperparameter file {str(path)!r}")
    try:
        sections = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(sections, dict):
        raise ValueError(f"{path.name} must have sections: {DEFAULT!r}, or ids of tasks")
    for section, values in sections.items():
        if section != DEFAULT:
            get_row(section)
        if not isinstance(values, dict):
            raise ValueError(f"{path.name}: {section} must be a mapping, got {values!r}")
    return sections


def _checked(path: Path, name: str, kind: Any, value: Any) -> Any:
    """A value converted to the type of its field."""
    if kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind == "int" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "dict[str, Any]" and isinstance(value, dict):
        return value
    if kind == "list[dict[str, Any]]" and isinstance(value, list):
        return [_checked(path, name, "dict[str, Any]", v) for v in value]
    if (
        kind in ("list[int]", "Sequence[int]")
        and isinstance(value, list)
        and all(isinstance(v, int) for v in value)
    ):
        return list(value)
    raise ValueError(f"{path.name}: {name} must be of type {kind}, got {value!r}")
