"""Reproducible texts of documents, and digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from vnl_envs.scoring.documents.schema.fields import Document


def key_digest(key: bytes) -> str:
    """The SHA-256 of a season's key, which is public before the key is."""
    return hashlib.sha256(key).hexdigest()


def canonical(value: Mapping[str, Any]) -> bytes:
    """The canonical JSON of a value: keys sorted, no spaces, ASCII, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def to_text(document: Document) -> str:
    """The text of a document in files, for people and `git diff`, always the same."""
    return json.dumps(document.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
