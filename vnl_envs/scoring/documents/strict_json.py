"""Untrusted JSON. Ambiguous or very deep documents are refused."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from vnl_envs.problems import Code, problem
from vnl_envs.utils.texts import shown

MOST_DEPTH = 20
# A string, or a bracket outside strings. The closing quote is optional: otherwise every escaped
# quote would be tried as an opening one.
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|([\[{])|([\]}])', re.S)


def parse_json(data: bytes | str, where: str) -> Any:
    """Parse JSON without repeated keys, non-finite numbers and deep nesting.

    Args:
        data: text, or UTF-8 bytes.
        where: name of the document, for messages.

    Raises:
        ScoringError: (`Code.SCHEMA`) the data are not such JSON.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        if text.startswith("\ufeff"):
            raise ValueError("starts with a byte order mark")
        _check_depth(text)
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
    except UnicodeDecodeError:
        raise problem(Code.SCHEMA, where, "is not UTF-8 text") from None
    except ValueError as error:
        raise problem(Code.SCHEMA, where, f"is not proper JSON: {shown(str(error))}") from None


def _check_depth(text: str) -> None:
    depth = 0
    for found in _BRACKETS.finditer(text):
        depth += (found[1] is not None) - (found[2] is not None)
        if depth > MOST_DEPTH:
            raise ValueError(f"is nested deeper than {MOST_DEPTH}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"the number {text} is too large")
    return float(text)
