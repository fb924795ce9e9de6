"""Types of fields in documents, checked strictly.

Unknown keys, wrong types, numbers out of bounds and texts with other characters than stated are
refused.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from vnl_envs.utils.texts import is_visible, normalised


class Document(BaseModel):
    """Base class of all parts of documents: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )


_NAME = "[!-~]([ -~]{0,118}[!-~])?"


def _line(text: str) -> str:
    if not is_visible(text):
        raise ValueError("must be printable text of one line, of visible characters")
    return unicodedata.normalize("NFC", text)


def _lines(text: str) -> str:
    return "\n".join(map(_line, text.split("\n")))


def _name(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    name = normalised(value)
    if not re.fullmatch(_NAME, name):
        raise ValueError("must be 1 to 120 printable ASCII characters")
    return name


def _whole(value: Any) -> Any:
    # True would pass for 1.
    if type(value) is not int:
        raise ValueError("must be a whole number")
    return value


def _calendar(value: Any) -> Any:
    # pydantic itself would also accept seconds since 1970 and times at midnight.
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return datetime.date.fromisoformat(value)
    if type(value) is not datetime.date:
        raise ValueError("must be a date, YYYY-MM-DD")
    return value


MOST_EPISODES = 100_000
"""Greatest number of episodes of a suite."""
MOST_BYTES = 16 * 2**20
"""Greatest size of a document's file, bytes."""
Version = Annotated[Literal[1], BeforeValidator(_whole)]
"""Version of a document's form."""
Line = Annotated[
    str,
    StringConstraints(min_length=1, max_length=120, strip_whitespace=True),
    AfterValidator(_line),
]
"""Visible characters of any script, in one line."""
Name = Annotated[str, BeforeValidator(_name), StringConstraints(pattern=f"^{_NAME}$")]
"""Name that identifies an entry or an algorithm: ASCII only, as other scripts have letters that
look like ASCII ones. Compatibility forms and repeated spaces are normalised."""
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,80}$")]
"""Key of a metric or a stamp."""
Plain = Annotated[str, StringConstraints(pattern=r"^[ -~]{0,200}$")]
"""One line of ASCII."""
Number = Annotated[float, Field(ge=-1e15, le=1e15)]
"""Value of a score or a metric."""
Count = Annotated[int, Field(ge=0, le=10**15)]
Date = Annotated[datetime.date, BeforeValidator(_calendar)]
"""YYYY-MM-DD."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
TaskId = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_:.-]+/[A-Za-z0-9_:.-]+-v[0-9]+$", max_length=100)
]
PolicyPath = Annotated[str, StringConstraints(pattern=r"^policies/[A-Za-z0-9_.-]{1,80}\.onnx$")]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Authors = Annotated[list[Line], Field(min_length=1, max_length=50)]
Description = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_lines)]


def one_of(*words: str) -> StringConstraints:
    return StringConstraints(pattern=f"^({'|'.join(words)})$")
