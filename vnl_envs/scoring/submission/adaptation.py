"""Conversion of the user's own ONNX files, never of untrusted ones, to the form of bundles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, TensorProto, external_data_helper

from vnl_envs.utils.files import read_regular

OBSERVATION, ACTION = "obs", "action"
_KEPT = {"obs", "state_in"}, {"action", "state_out"}


def adapted(path: Path, most: int) -> bytes:
    """The bytes of a policy, converted to the form of bundles if necessary.

    A single input is renamed to `obs`, and the first output to `action`. Other outputs (values, log
    probabilities) and operators that only they need are removed, and so are unused operator sets.
    Weights in external files are embedded.

    Args:
        path: path of the ONNX file.
        most: greatest size of the file, and of each external file, bytes.

    Raises:
        OSError: the file does not exist, is not a regular one, or is larger.
        ValueError: an external file cannot be read.
    """
    data = read_regular(path, most)
    try:
        model = ModelProto.FromString(data)
        for name in {*_elsewhere(model.graph)}:
            # Refuses a pipe, on which the loader would block.
            read_regular(path.parent / name, most)
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except DecodeError:
        # The check of the bundle reports the problem.
        return data
    except (onnx.checker.ValidationError, OSError) as error:
        raise ValueError(f"{str(path)!r} keeps its weights elsewhere: {error}") from None
    before = model.SerializeToString(deterministic=True)
    if not model.graph.input or not model.graph.output:
        return data
    _name_ends(model.graph)
    _drop_unused(model)
    after = model.SerializeToString(deterministic=True)
    # The original bytes if nothing was changed.
    own = ModelProto.FromString(data).SerializeToString(deterministic=True)
    return data if after == before == own else after


def _elsewhere(graph: GraphProto) -> Iterator[str]:
    """Names of external files with constants of a graph."""
    constants = [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    for tensor in (*graph.initializer, *constants):
        if tensor.data_location == TensorProto.EXTERNAL:
            yield external_data_helper.ExternalDataInfo(tensor).location


def _name_ends(graph: GraphProto) -> None:
    """Rename the observation and the action if they are unambiguous."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    names = {value.name for value in graph.output}
    if len(inputs) != 1:
        return
    _rename(graph, inputs[0].name, OBSERVATION)
    if ACTION not in names:
        _rename(graph, graph.output[0].name, ACTION)


def _rename(graph: GraphProto, old: str, new: str) -> None:
    """Rename a value everywhere, unless the new name is already used."""
    used = {name for node in graph.node for name in (*node.input, *node.output)}
    if old == new or new in used:
        return
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.name == old:
            value.name = new


def _drop_unused(model: ModelProto) -> None:
    """Remove outputs that are not a policy's, and everything that only they need."""
    graph = model.graph
    inputs, outputs = _KEPT
    if ACTION not in {value.name for value in graph.output}:
        return
    _keep(graph.output, lambda value: value.name in outputs)
    needed = {value.name for value in graph.output}
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
    _keep(graph.node, lambda node: bool(needed & set(node.output)))
    _keep(graph.initializer, lambda tensor: tensor.name in needed)
    weights = {tensor.name for tensor in graph.initializer}
    _keep(graph.input, lambda value: value.name in inputs or value.name not in weights)
    _keep(graph.value_info, lambda value: value.name in needed)
    domains = {node.domain or "ai.onnx" for node in graph.node}
    _keep(model.opset_import, lambda opset: (opset.domain or "ai.onnx") in domains)


def _keep(repeated: Any, wanted: Callable[[Any], bool]) -> None:
    """Remove the elements of a repeated field that are not wanted."""
    for i in reversed(range(len(repeated))):
        if not wanted(repeated[i]):
            del repeated[i]
