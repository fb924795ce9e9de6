"""Training states as arrays and JSON in one safetensors file, which executes no code when read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vnl_envs.utils.files import written_whole

# Key in the JSON whose value is the name of an array.
_ARRAY = "array"


def write_tree(path: str | Path, tree: Any) -> None:
    """Write nested mappings and sequences of arrays, numbers, texts and None atomically.

    Keys of mappings become texts, sequences become lists, and arrays keep their bits. Equal arrays
    are written once.

    Raises:
        TypeError: the tree contains something else.
        OSError: the file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    record = json.dumps(_outline(tree, "", arrays, {}))
    with written_whole(path) as partial:
        # safetensors' own writer makes files that no other user may read.
        partial.write_bytes(save(arrays, {"tree": record}))


def read_tree(path: str | Path) -> Any:
    """Read a tree that `write_tree` has written.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: `write_tree` did not write the file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint {str(path)!r}")
    try:
        with safe_open(path, "numpy") as file:
            record = json.loads((file.metadata() or {})["tree"])
            return _filled(record, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{str(path)!r} is not a checkpoint of the baselines ({error})") from None


def _outline(
    tree: Any, name: str, arrays: dict[str, np.ndarray], written: dict[Hashable, str]
) -> Any:
    """The tree with arrays replaced by their names; `written` has the names by the contents."""
    if isinstance(tree, np.ndarray):
        array = np.asarray(tree, order="C")
        content = array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest()
        # Keys may contain slashes themselves: a number makes names unique.
        key = written.setdefault(content, f"{len(arrays)}{name}")
        arrays[key] = array
        return {_ARRAY: key}
    if isinstance(tree, Mapping):
        return {str(k): _outline(v, f"{name}/{k}", arrays, written) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [_outline(v, f"{name}/{i}", arrays, written) for i, v in enumerate(tree)]
    if isinstance(tree, np.generic):
        return tree.item()
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"a checkpoint holds no {type(tree).__name__}, found at {name or '/'}")


def _filled(outline: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(outline, dict):
        if set(outline) == {_ARRAY} and outline[_ARRAY] in arrays:
            return arrays[outline[_ARRAY]]
        return {k: _filled(v, arrays) for k, v in outline.items()}
    if isinstance(outline, list):
        return [_filled(v, arrays) for v in outline]
    return outline
