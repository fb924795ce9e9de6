"""Documents as text, the same every time, and digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from vnl_envs.scoring.documents.schema.fields import Document


def key_digest(key: bytes) -> str:
    """What is known of a season's key before it is published: its SHA-256."""
    return hashlib.sha256(key).hexdigest()


def canonical(value: Mapping[str, Any]) -> bytes:
    """JSON of which there is one text only: keys sorted, no spaces, ASCII, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def to_text(document: Document) -> str:
    """A document as it is written to files, for people and `git diff`: the same text every time."""
    return json.dumps(document.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
