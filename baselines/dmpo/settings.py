"""Hyperparameters as plain values, for files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from baselines.dmpo.losses import Bounds
from baselines.dmpo.state import Hyperparameters


def to_record(hyperparameters: Hyperparameters) -> dict[str, Any]:
    """As JSON or YAML can hold them."""
    record = {f.name: getattr(hyperparameters, f.name) for f in fields(hyperparameters)}
    record["bounds"] = hyperparameters.bounds._asdict()
    return {k: list(v) if isinstance(v, tuple) else v for k, v in record.items()}


def from_record(record: Mapping[str, Any]) -> Hyperparameters:
    """The inverse of `to_record`; what is not named keeps its default.

    Raises:
        ValueError: an unknown name, or a value of another type than the default's.
    """
    defaults = asdict(Hyperparameters())
    unknown = sorted(set(record) - set(defaults))
    if unknown:
        raise ValueError(f"no hyperparameters named {unknown}; there are {sorted(defaults)}")
    values: dict[str, Any] = {}
    for name, value in record.items():
        if name == "bounds":
            values[name] = _bounds(value)
        else:
            values[name] = _like(name, value, defaults[name])
    return Hyperparameters(**values)


def _bounds(value: Any) -> Bounds:
    if not isinstance(value, Mapping) or set(value) - set(Bounds._fields):
        raise ValueError(f"bounds must map names of {Bounds._fields} to nats, got {value!r}")
    return Bounds(**{k: _like(f"bounds.{k}", v, 0.1) for k, v in value.items()})


def _like(name: str, value: Any, default: Any) -> Any:
    """A value checked against the type of its default."""
    if isinstance(default, bool):
        fits = isinstance(value, bool)
    elif isinstance(default, tuple):
        fits = isinstance(value, list | tuple) and all(type(v) is int and v > 0 for v in value)
        fits = fits and len(value) > 0
        value = tuple(value) if fits else value
    elif isinstance(default, int):
        fits = type(value) is int and value > 0
    else:
        fits = type(value) in (int, float)
        value = float(value) if fits else value
    if not fits:
        raise ValueError(f"{name} must be like {default!r}, got {value!r}")
    return value
