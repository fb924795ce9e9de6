"""Checks of arguments. Errors are one line with the argument's name and the expected value."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np


def integer(name: str, value: Any, low: int) -> int:
    """Return `value` as an integer of at least `low`. NumPy integers are accepted.

    Raises:
        ValueError: it is no such integer.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < low:
        raise ValueError(f"{name} must be an integer of at least {low}, got {value!r}")
    return int(value)


def number(name: str, value: Any, low: float, high: float, unit: str = "") -> float:
    """Return `value` as a number in [low, high].

    Raises:
        ValueError: it is no such number.
    """
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not low <= float(value) <= high or math.isnan(value):
        bounds = f"[{low:.6g}, {high:.6g}]{unit and ' ' + unit}"
        raise ValueError(f"{name} must be a number in {bounds}, got {value!r}")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """Return `value` as a bool. NumPy bools are accepted.

    Raises:
        ValueError: it is not a bool.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, str) or value not in choices:
        allowed = " or ".join(repr(c) for c in choices)
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return value


def listed(names: Iterable[Any], most: int = 5) -> str:
    """Names for an error message: the first `most`, and the number of others."""
    names = list(names)
    more = len(names) - most
    return ", ".join(repr(n) for n in names[:most]) + (f" and {more} more" if more > 0 else "")
