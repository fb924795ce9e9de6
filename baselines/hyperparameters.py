"""Hyperparameters by task from a YAML file, checked against a dataclass."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import yaml

from vnl_envs.registry import get_row

T = TypeVar("T")

FOLDER = Path(__file__).parent / "hyperparams"
DEFAULT = "default"


def load(kind: type[T], name: str, task_id: str, file: Path | None = None) -> T:
    """The hyperparameters of a task: those under "default", then those under its id.

    Args:
        kind: dataclass of numbers, texts, lists of integers and mappings, whose fields are the
            keys.
        name: name of the YAML file in `FOLDER`.
        task_id: task id; a task that the file does not list has the defaults.
        file: YAML file to use instead.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not such YAML, a section is of no registered task, a key is unknown
            or missing, or a value has a wrong type.
    """
    path = file or FOLDER / name
    sections = _sections(path)
    chosen = {**sections[DEFAULT], **sections.get(task_id, {})}
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for fault, names in (
        ("unknown", set(chosen) - set(fields)),
        ("missing", set(fields) - set(chosen)),
    ):
        if names:
            raise ValueError(
                f"{path.name}: {fault} hyperparameters {sorted(names)}; there are {sorted(fields)}"
            )
    return kind(
        **{name: _checked(path, name, field.type, chosen[name]) for name, field in fields.items()}
    )


def _sections(path: Path) -> dict[str, dict[str, Any]]:
    """The sections of a file, of which "default" is one.

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
    if not isinstance(sections, dict) or not isinstance(sections.get(DEFAULT), dict):
        raise ValueError(
            f"{path.name} must have a section {DEFAULT!r} of all hyperparameters, as the files in "
            f"{FOLDER.name!r} have"
        )
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
