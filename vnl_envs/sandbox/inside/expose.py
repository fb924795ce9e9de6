"""Rewrite a policy to output its units' activity: `python -m vnl_envs.sandbox.inside.expose`.

Standard input: the length of a JSON text (uint32, little-endian), the text {"units": [patterns],
"untrained": seed or null}, and the ONNX file. Standard output: the length of a JSON text, the text,
and the policy whose action is followed by the units' activity. The text has "problems", or else
"action", "observation" (sizes) and "layers" (name and size of each, in order).

Tensors are named by their role in the network, as exporters only number them. If a computed latent
is joined with a part of the observation: `encoder/0`, …, `prior/0`, …, `latent`, `decoder/0`, ….
Otherwise: `layer/0`, …. The last is `action`. Other tensors have their names in the file.
"""

from __future__ import annotations

import fnmatch
import json
import math
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from vnl_envs.sandbox.inside.model_check import ACTION, OBSERVATION, judge

_OWN = "action_of_the_policy"
_ACTIVATIONS = frozenset(
    """
    Celu Elu Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Relu Selu Sigmoid Softplus Softsign
    Tanh ThresholdedRelu
    """.split()  # noqa: SIM905
)
_LINEAR = ("Gemm", "MatMul")
_RECURRENT = ("GRU", "LSTM", "RNN")
_PARTS = ("Slice", "Split", "Gather")
_LISTED = 40


def layers_of(model: ModelProto) -> dict[str, str]:
    """Name of each layer -> its tensor, in the order of the graph."""
    return _Walk(model).layers()


class _Walk:
    """Follows the observation through a network.

    A tensor's history consists of two flags: whether a dense layer precedes it, and whether it
    comes from only a part of the observation.
    """

    def __init__(self, model: ModelProto) -> None:
        self._graph = model.graph
        self._constants = {tensor.name: tensor for tensor in self._graph.initializer}
        self._history: dict[str, tuple[bool, bool]] = {OBSERVATION: (False, False)}
        self._found: list[str] = []
        self.latent: str | None = None

    def layers(self) -> dict[str, str]:
        """See `layers_of`."""
        for node in self._graph.node:
            self._follow(node)
        # The last dense layer computes the action.
        dense = [n for n in self._graph.node if n.op_type in _LINEAR]
        last = self._with_bias(dense[-1].output[0]) if dense else None
        end = self._position(last) if last else len(self._graph.node)
        found = [n for n in self._found if self._position(n) < end and n != self.latent]
        named: dict[str, str] = {}
        counts: dict[str, int] = {}
        at = self._position(self.latent) if self.latent else -1
        for tensor in found:
            group = "layer"
            if self.latent:
                if self._position(tensor) > at:
                    group = "decoder"
                    named.setdefault("latent", self.latent)
                else:
                    group = "prior" if self._history[tensor][1] else "encoder"
            named[f"{group}/{counts.get(group, 0)}"] = tensor
            counts[group] = counts.get(group, 0) + 1
        if self.latent:
            named.setdefault("latent", self.latent)
        return {**named, ACTION: ACTION}

    def _follow(self, node: NodeProto) -> None:
        inputs = [name for name in node.input if name in self._history]
        if not inputs:
            return
        flags = [self._history[name] for name in inputs]
        computed, part = any(f[0] for f in flags), any(f[1] for f in flags)
        if node.op_type in (*_LINEAR, *_RECURRENT):
            computed = True
        elif node.op_type in _PARTS and not computed:
            part = True
        elif node.op_type == "Concat":
            own = [name for name, f in zip(inputs, flags, strict=True) if not f[0]]
            made = [name for name, f in zip(inputs, flags, strict=True) if f[0]]
            if own and made and self.latent is None:
                self.latent = made[0]
            # After a concatenation it is no longer a part.
            part = False
        for name in node.output:
            self._history[name] = (computed, part)
        if node.op_type in _ACTIVATIONS or node.op_type in _RECURRENT:
            self._add(node.output[0])
        elif node.op_type in _LINEAR and not self._structural(node):
            end = self._with_bias(node.output[0])
            users = [n.op_type for n in self._graph.node if end in n.input]
            if not set(users) & _ACTIVATIONS:
                self._add(end)

    def _add(self, tensor: str) -> None:
        if self._history.get(tensor, (True, False))[0] and tensor not in self._found:
            self._history.setdefault(tensor, (True, False))
            self._found.append(tensor)

    def _with_bias(self, tensor: str) -> str:
        """The tensor after the addition of a constant to a product, or the product itself."""
        users = [n for n in self._graph.node if tensor in n.input]
        added = len(users) == 1 and users[0].op_type == "Add"
        if added and any(name in self._constants for name in users[0].input):
            return str(users[0].output[0])
        return tensor

    def _structural(self, node: NodeProto) -> bool:
        """Whether a dense layer only adds or copies: its weights are zeros and ones."""
        given = [self._constants[name] for name in node.input if name in self._constants]
        return bool(given) and bool(np.isin(numpy_helper.to_array(given[0]), (0, 1)).all())

    def _position(self, tensor: str | None) -> int:
        for i, node in enumerate(self._graph.node):
            if tensor in node.output:
                return i
        return -1


def exposed(
    data: bytes, patterns: Sequence[str], untrained: int | None
) -> tuple[dict[str, Any], bytes]:
    """Rewrite a policy to output its units' activity.

    Args:
        data: content of the policy's file.
        patterns: patterns of the tensors' names, as for file names.
        untrained: seed of random weights; None keeps the policy's.

    Returns:
        The JSON text's values, see the module; and the rewritten policy, empty after problems.
    """
    verdict = judge(data)
    if verdict["problems"]:
        return {"problems": verdict["problems"]}, b""
    model = onnx.load_from_string(data)
    named, sizes = layers_of(model), _rows(model)
    raw = {name: name for name in sizes if name not in named.values()}
    available = {**{k: v for k, v in named.items() if v in sizes}, **raw}
    chosen = [name for name in available if any(fnmatch.fnmatchcase(name, p) for p in patterns)]
    # The tensors' own names match `*` too. They are chosen only by an exact name.
    chosen = [name for name in chosen if name in named or name in patterns]
    if not chosen:
        known = ", ".join(f"{n} ({sizes[available[n]]})" for n in list(available)[:_LISTED])
        return {"problems": [f"has no units {' '.join(patterns)!r}; it has {known}"]}, b""
    chosen = [*(name for name in chosen if name != ACTION), ACTION]
    if untrained is not None:
        _redraw(model, np.random.default_rng(untrained))
    _append_to_action(model, [available[name] for name in chosen])
    header = {
        "problems": [],
        "action": verdict["action"],
        "observation": verdict["observation"],
        "layers": [[name, sizes[available[name]]] for name in chosen],
    }
    return header, model.SerializeToString()


def _rows(model: ModelProto) -> dict[str, int]:
    """Tensors that are one row of float32: name -> size."""
    typed = ModelProto()
    typed.CopyFrom(model)
    for value in typed.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(typed, data_prop=True).graph
    sizes = {}
    for value in (*graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        dims = [d.dim_value for d in tensor.shape.dim]
        if tensor.elem_type == TensorProto.FLOAT and len(dims) == 2 and dims[0] == 1:
            sizes[value.name] = dims[1]
    return sizes


def _redraw(model: ModelProto, rng: np.random.Generator) -> None:
    """Replace the weights of all dense and recurrent layers by random ones.

    Weights are normal with variance 1 / inputs (LeCun), biases 0. Matrices of zeros and ones are
    structure and stay.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    products: set[str] = set()
    for node in model.graph.node:
        biased = node.op_type == "Add" and bool(products & set(node.input))
        if node.op_type not in (*_LINEAR, *_RECURRENT) and not biased:
            continue
        products |= set(node.output)
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        for name in node.input:
            if name not in constants:
                continue
            array = numpy_helper.to_array(constants[name])
            if np.isin(array, (0, 1)).all() and array.ndim > 1:
                continue
            if array.ndim < 2 or biased:
                new = np.zeros_like(array)
            else:
                last = transposed or node.op_type in _RECURRENT
                inputs = array.shape[-1] if last else array.shape[-2]
                new = rng.normal(size=array.shape) / math.sqrt(inputs)
            constants[name].CopyFrom(numpy_helper.from_array(new.astype(array.dtype), name))


def _append_to_action(model: ModelProto, tensors: Sequence[str]) -> None:
    """Append tensors to the action."""
    graph = model.graph
    renamed = {ACTION: _OWN}
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = renamed.get(name, name)
    parts = [_OWN, *(renamed.get(name, name) for name in tensors)]
    graph.node.append(helper.make_node("Concat", parts, [ACTION], axis=-1))
    for value in graph.output:
        if value.name == ACTION:
            value.type.tensor_type.ClearField("shape")
    for value in graph.value_info:
        value.name = renamed.get(value.name, value.name)


def main() -> None:
    """Rewrite one policy, from standard input to standard output."""
    (length,) = struct.unpack("<I", sys.stdin.buffer.read(4))
    request: Mapping[str, Any] = json.loads(sys.stdin.buffer.read(length))
    header, data = exposed(sys.stdin.buffer.read(), request["units"], request["untrained"])
    text = json.dumps(header).encode()
    sys.stdout.buffer.write(struct.pack("<I", len(text)) + text + data)


if __name__ == "__main__":
    main()
