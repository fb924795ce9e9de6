"""Trees of arrays as files: arrays and JSON, never code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vnl_envs.files import written_whole


def flatten(tree: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """The leaves of a tree, each under its path; `prefix` comes first."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {prefix + jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def restore(template: Any, arrays: Mapping[str, np.ndarray], prefix: str = "") -> Any:
    """The tree of a template's structure with its leaves from a flat mapping.

    Raises:
        ValueError: a leaf is missing or has another shape.
    """

    def leaf(path: Any, like: Any) -> Any:
        name = prefix + jax.tree_util.keystr(path)
        if name not in arrays:
            raise ValueError(f"no array {name!r}")
        found = arrays[name]
        if found.shape != np.shape(like):
            raise ValueError(f"array {name!r} must be {np.shape(like)}, got {found.shape}")
        return jax.numpy.asarray(found, dtype=like.dtype)

    return jax.tree_util.tree_map_with_path(leaf, template)


def save(path: str | Path, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
    """Write arrays and a JSON record to one safetensors file, whole or not at all."""
    contiguous = {name: np.array(array, order="C") for name, array in arrays.items()}
    with written_whole(path) as partial:
        save_file(contiguous, partial, metadata={"record": json.dumps(record)})


def load(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the record of a file that `save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    try:
        with safe_open(path, "numpy") as file:
            record = json.loads((file.metadata() or {})["record"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ValueError(f"{path}: not a readable file of arrays ({error})") from None
    return arrays, record
