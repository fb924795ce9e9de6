"""Documents from untrusted JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from vnl_envs.problems import Code, Problem, ScoringError
from vnl_envs.scoring.documents.schema.fields import MOST_BYTES
from vnl_envs.scoring.documents.strict_json import parse_json
from vnl_envs.utils.files import read_regular
from vnl_envs.utils.texts import shown

_VERSION_KEY = "schema_version"
_MOST_PROBLEMS = 20
_Kind = TypeVar("_Kind")


def parse(kind: type[_Kind], text: bytes | str, where: str) -> _Kind:
    """Parse a document from untrusted JSON.

    Args:
        kind: class of the document, or another type that pydantic knows.
        text: content of a file; bytes are UTF-8.
        where: name of the file, for messages.

    Raises:
        ScoringError: (`Code.SCHEMA`) it is invalid, with one problem per fault; (`Code.VERSION`)
            it has another schema version.
    """
    value = parse_json(text, where)
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ScoringError(_problems(error, where)) from None


def read(kind: type[_Kind], path: Path) -> _Kind:
    """Read a document from its file.

    Raises:
        OSError: the file cannot be read, is not a regular one, or is larger than `MOST_BYTES`.
        ScoringError: see `parse`.
    """
    return parse(kind, read_regular(path, MOST_BYTES), path.name)


def _problems(error: ValidationError, where: str) -> list[Problem]:
    """One problem per fault, with its place in the document."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    problems = []
    for detail in details[:_MOST_PROBLEMS]:
        path = ".".join(str(part) for part in detail["loc"])
        other_version = path == _VERSION_KEY and detail["type"] == "literal_error"
        code = Code.VERSION if other_version else Code.SCHEMA
        message = detail["msg"].removeprefix("Value error, ")
        message = f"{path}: {message}" if path else message
        problems.append(Problem(code, where, shown(message, 300)))
    if len(details) > _MOST_PROBLEMS:
        more = len(details) - _MOST_PROBLEMS
        problems.append(Problem(Code.SCHEMA, where, f"and {more} more faults"))
    return problems
