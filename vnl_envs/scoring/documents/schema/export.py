"""The documents as JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from vnl_envs.scoring.documents.schema.board import Anchors, Board, Seasons, Verified
from vnl_envs.scoring.documents.schema.result import Episodes, Summary
from vnl_envs.scoring.documents.schema.submission import Submission
from vnl_envs.scoring.documents.schema.suite import Suite
from vnl_envs.utils.files import written_whole

SCHEMAS: dict[str, Any] = {
    "submission": Submission,
    "suite": Suite,
    "result": Summary,
    "episodes": Episodes,
    "anchors": Anchors,
    "board": Board,
    "seasons": Seasons,
    "verified": Verified,
}
"""Name of the exported file -> document class."""


def write_schemas(folder: str | Path) -> list[Path]:
    """Write the JSON Schema of every document as `<name>.schema.json`, and return the files.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    written = []
    for name, document in SCHEMAS.items():
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
        schema |= TypeAdapter(document).json_schema()
        path = Path(folder, f"{name}.schema.json")
        with written_whole(path) as partial:
            partial.write_text(json.dumps(schema, indent=1) + "\n")
        written.append(path)
    return written
