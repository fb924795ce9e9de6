"""The check of policy files. Untrusted ONNX is parsed only here, in a separate process.

`python -m vnl_envs.sandbox.inside.model_check` reads files from the standard input, each as its
length (uint32, little-endian) and its bytes. It writes "ready", and then for each file one line of
JSON, a verdict. A file that takes too much time or memory ends the process. The other side is
`scoring/submission/inspection.py`.

A policy must be a finite function of fixed shapes. Its operators are from a list without loops,
branches, random numbers and custom code. The size of every intermediate array is known and bounded
before anything runs.
"""

from __future__ import annotations

import json
import math
import signal
import struct
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

OBSERVATION, ACTION, STATE_IN, STATE_OUT = "obs", "action", "state_in", "state_out"

MOST_BYTES = 20 * 2**20
MOST_PARAMETERS = 5_000_000
MOST_NODES = 2_000
MOST_ELEMENTS, MOST_ELEMENTS_TOGETHER = 5_000_000, 20_000_000
"""Numbers in one intermediate array, and in all of them."""
MOST_STATE = 65_536
MOST_METADATA = 64 * 1024
"""Characters of all metadata of the model."""
MOST_BESIDES = 256 * 1024
"""Bytes of everything except the numbers of constants: operators, names, metadata, comments."""
IR_VERSIONS, OPSETS = range(4, 15), range(11, 29)
"""IR version 3 requires initialisers among the inputs. The pinned runtime sets the upper ends."""

SECONDS = 1.0
"""CPU time for one file, s."""

OPERATORS = frozenset(
    """
    Abs Add Ceil Celu Clip Cos Div Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu Log Max
    Mean Min Mish Mul Neg PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign
    Sqrt Sub Sum Tanh ThresholdedRelu
    And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Where Xor
    BatchNormalization Gemm LayerNormalization LogSoftmax MatMul RMSNormalization Softmax
    ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare
    GRU LSTM RNN
    Cast CastLike Concat Constant ConstantOfShape Expand Flatten Gather Identity Reshape Shape
    Slice Split Squeeze Transpose Unsqueeze
    """.split()  # noqa: SIM905
)
"""Operators of feed-forward and recurrent policies of torch, Flax and Stable-Baselines3.

The number of repetitions of GRU, LSTM and RNN is the length of an input axis, which is known
beforehand. `MOST_ELEMENTS` bounds ConstantOfShape and Expand. Conv, Einsum and Pad are left out:
their buffers are larger than their results, and control policies do not need them.
"""
_TYPES: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.DOUBLE: 8,
    TensorProto.FLOAT16: 2,
    TensorProto.INT64: 8,
    TensorProto.INT32: 4,
    TensorProto.BOOL: 1,
}
"""Element type -> size in bytes."""
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
_NUMBERS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.FLOAT16: "int32_data",
    TensorProto.INT32: "int32_data",
    TensorProto.BOOL: "int32_data",
}
"""Element type -> field with the numbers of a constant, if they are not in `raw_data`."""
_GRAPHS = (
    AttributeProto.GRAPH,
    AttributeProto.GRAPHS,
    AttributeProto.SPARSE_TENSOR,
    AttributeProto.SPARSE_TENSORS,
    AttributeProto.TYPE_PROTO,
    AttributeProto.TYPE_PROTOS,
)
_MOST_PROBLEMS = 10


class RefusedError(Exception):
    """The model is refused, and cannot be checked any further."""


def judge(data: bytes) -> dict[str, Any]:
    """The verdict on the bytes of a file, for JSON.

    Returns:
        `problems` (list of texts, empty if the file may be run), `parameters` (number),
        `observation`, `state` and `action` (sizes; 0 if there is none, or if it is unknown),
        `metadata` (key -> text).
    """
    verdict: dict[str, Any] = {
        "problems": [],
        "parameters": 0,
        "observation": 0,
        "state": 0,
        "action": 0,
        "metadata": {},
    }
    problems: list[str] = []
    try:
        model = _parsed(data)
        verdict["metadata"] = _metadata(model)
        verdict["parameters"] = sum(
            math.prod(t.dims) for t in _tensors(model.graph) if t.data_type in _FLOATS
        )
        problems += _form_problems(model)
        problems += _node_problems(model.graph)
        problems += _tensor_problems(model.graph)
        sizes, wrong = _interface(model.graph)
        problems += wrong
        if not problems:
            onnx.checker.check_model(model)
            _check_shapes(model, sizes)
            _check_runs(data, sizes)
        verdict |= sizes
    except RefusedError as error:
        problems.append(str(error))
    except MemoryError:
        problems.append("takes too much memory to read")
    # The libraries' errors have no common base class, and any error is a refusal.
    except Exception as error:
        problems.append(f"is refused by the ONNX tools: {error}")
    verdict["problems"] = [_line(text) for text in problems[:_MOST_PROBLEMS]]
    return verdict


def _parsed(data: bytes) -> ModelProto:
    if len(data) > MOST_BYTES:
        raise RefusedError(f"has {len(data)} bytes, at most {MOST_BYTES} are allowed")
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        raise RefusedError("is not an ONNX model") from None
    size = model.ByteSize()
    model.DiscardUnknownFields()
    if model.ByteSize() != size:
        raise RefusedError("has fields that are not ONNX's")
    if not model.HasField("graph") or not model.graph.node:
        raise RefusedError("is not an ONNX model with a graph")
    besides = _besides(model)
    if besides > MOST_BESIDES:
        raise RefusedError(
            f"has {besides} bytes beside its weights, at most {MOST_BESIDES} are allowed"
        )
    return model


def _besides(model: ModelProto) -> int:
    """Size of a model in bytes, without the numbers of its constants."""
    bare = ModelProto()
    bare.CopyFrom(model)
    for tensor in _tensors(bare.graph):
        tensor.ClearField("raw_data" if tensor.raw_data else _NUMBERS.get(tensor.data_type, "dims"))
    return bare.ByteSize()


def _metadata(model: ModelProto) -> dict[str, str]:
    if sum(len(p.key) + len(p.value) for p in model.metadata_props) > MOST_METADATA:
        raise RefusedError(f"has more than {MOST_METADATA} characters of metadata")
    return {p.key: p.value for p in model.metadata_props}


def _form_problems(model: ModelProto) -> Iterator[str]:
    """Problems of the model outside its operators and constants."""
    if model.ir_version not in IR_VERSIONS:
        yield f"has IR version {model.ir_version}, allowed are {_ends(IR_VERSIONS)}"
    domains = [opset.domain for opset in model.opset_import]
    if domains not in ([""], ["ai.onnx"]):
        yield f"uses the operator sets {domains}, allowed is ONNX's own alone"
    elif model.opset_import[0].version not in OPSETS:
        version = model.opset_import[0].version
        yield f"uses opset {version}, allowed are {_ends(OPSETS)}"
    for part in ("functions", "training_info", "configuration"):
        if len(getattr(model, part, ())):
            yield f"has {part}"
    for part in ("sparse_initializer", "quantization_annotation"):
        if len(getattr(model.graph, part)):
            yield f"has {part}"
    if len(model.graph.node) > MOST_NODES:
        raise RefusedError(
            f"has {len(model.graph.node)} operators, at most {MOST_NODES} are allowed"
        )


def _node_problems(graph: GraphProto) -> Iterator[str]:
    """Problems of operators and their attributes, each kind once."""
    wrong: dict[str, None] = {}
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            wrong[f"uses {node.domain}.{node.op_type}, an operator that is not ONNX's own"] = None
        elif node.op_type not in OPERATORS:
            wrong[f"uses the operator {node.op_type}, which is not allowed"] = None
        for attribute in node.attribute:
            found = _attribute_problem(node, attribute)
            if found:
                wrong[f"{node.op_type}.{attribute.name} {found}"] = None
    return iter(wrong)


def _attribute_problem(node: NodeProto, attribute: AttributeProto) -> str | None:
    if attribute.ref_attr_name:
        return "refers to a function's attribute"
    if attribute.type in _GRAPHS:
        return f"is a {AttributeProto.AttributeType.Name(attribute.type).lower()}"
    if not all(map(math.isfinite, [attribute.f, *attribute.floats])):
        return "is not finite"
    if node.op_type == "BatchNormalization" and attribute.name == "training_mode" and attribute.i:
        return "is on"
    return None


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """All constants: initialisers, and attributes of operators."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _tensor_problems(graph: GraphProto) -> Iterator[str]:
    """Problems of constants: their storage, types, sizes and numbers."""
    tensors = list(_tensors(graph))
    for tensor in tensors:
        found = _form_problem(tensor)
        if found:
            yield f"constant {tensor.name!r} {found}"
            return
    parameters = sum(math.prod(t.dims) for t in tensors if t.data_type in _FLOATS)
    if parameters > MOST_PARAMETERS:
        yield f"has {parameters} parameters, at most {MOST_PARAMETERS} are allowed"
        return
    for tensor in tensors:
        try:
            array = onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError):
            yield f"constant {tensor.name!r} does not have the numbers that its shape asks for"
            continue
        if tensor.data_type in _FLOATS and not np.isfinite(array).all():
            yield f"constant {tensor.name!r} holds numbers that are not finite"


def _form_problem(tensor: TensorProto) -> str | None:
    """The problem of a constant that shows before its numbers are read; None if there is none."""
    if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
        return "is kept in another file"
    if tensor.HasField("segment"):
        return "is one of several parts"
    if tensor.data_type not in _TYPES:
        return "has an element type that is not allowed"
    if any(size < 0 for size in tensor.dims) or len(tensor.dims) > 8:
        return "has an impossible shape"
    count = math.prod(tensor.dims)
    if count > MOST_ELEMENTS:
        return f"has {count} numbers, at most {MOST_ELEMENTS} are allowed"
    if tensor.raw_data and len(tensor.raw_data) != count * _TYPES[tensor.data_type]:
        return "does not have the numbers that its shape asks for"
    return None


def _interface(graph: GraphProto) -> tuple[dict[str, int], list[str]]:
    """Sizes of observation and state (that of the action follows later), and their problems."""
    inputs = {value.name: value for value in graph.input}
    sizes = {"observation": 0, "state": 0, "action": 0}
    names = tuple(sorted(value.name for value in values) for values in (graph.input, graph.output))
    if names not in (([OBSERVATION], [ACTION]), ([OBSERVATION, STATE_IN], [ACTION, STATE_OUT])):
        return sizes, [
            f"must have the input {OBSERVATION!r} and the output {ACTION!r}, and besides "
            f"{STATE_IN!r} and {STATE_OUT!r} or neither; it has {names[0]} and {names[1]}"
        ]
    if set(inputs) & {tensor.name for tensor in graph.initializer}:
        return sizes, ["an input has a default value"]
    wrong = []
    for key, value in (("observation", inputs[OBSERVATION]), ("state", inputs.get(STATE_IN))):
        if value is None:
            continue
        found = _row_problem(value)
        if found:
            wrong.append(found)
        else:
            sizes[key] = value.type.tensor_type.shape.dim[1].dim_value
    if sizes["state"] > MOST_STATE:
        wrong.append(f"the state has {sizes['state']} numbers, at most {MOST_STATE} are allowed")
    return sizes, wrong


def _row_problem(value: ValueInfoProto) -> str | None:
    """The problem of an input that is not float32 of shape (1, N) or (batch, N); else None."""
    tensor = value.type.tensor_type
    dims = list(tensor.shape.dim)
    batch = len(dims) == 2 and (not dims[0].HasField("dim_value") or dims[0].dim_value == 1)
    if value.type.WhichOneof("value") != "tensor_type" or tensor.elem_type != TensorProto.FLOAT:
        return f"{value.name!r} must be float32"
    if not batch or dims[1].dim_value < 1:
        return f"{value.name!r} must be of shape (1, N), or (batch, N) with a batch of any size"
    return None


def _check_shapes(model: ModelProto, sizes: dict[str, int]) -> None:
    """Check that every intermediate array has a known type and size, and fill in output sizes.

    Raises:
        RefusedError: the type or size of an array is unknown, or the array is too large.
    """
    typed = ModelProto()
    typed.CopyFrom(model)
    # The file's own claims about shapes are dropped.
    del typed.graph.value_info[:]
    for value in typed.graph.output:
        value.type.tensor_type.ClearField("shape")
    for value in typed.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(
        typed, check_type=True, strict_mode=True, data_prop=True
    ).graph
    known = {value.name: value for value in (*graph.value_info, *graph.output)}
    together = 0
    for node in graph.node:
        for name in filter(None, node.output):
            count = _elements(known.get(name), f"{node.op_type} gives {name!r}")
            together += count
            if count > MOST_ELEMENTS:
                raise RefusedError(
                    f"{node.op_type} gives {name!r} of {count} numbers, "
                    f"at most {MOST_ELEMENTS} are allowed"
                )
    if together > MOST_ELEMENTS_TOGETHER:
        raise RefusedError(
            f"gives {together} numbers on the way, at most {MOST_ELEMENTS_TOGETHER} are allowed"
        )
    sizes["action"] = _row_size(known[ACTION])
    if sizes["state"] and _row_size(known[STATE_OUT]) != sizes["state"]:
        raise RefusedError(
            f"{STATE_OUT!r} must have the shape of {STATE_IN!r}, (1, {sizes['state']})"
        )


def _elements(value: ValueInfoProto | None, where: str) -> int:
    """The number of elements of an array."""
    if value is None or value.type.WhichOneof("value") != "tensor_type":
        raise RefusedError(f"{where}, whose type is not known beforehand")
    tensor = value.type.tensor_type
    if tensor.elem_type not in _TYPES:
        raise RefusedError(f"{where}, whose element type is not allowed")
    dims = tensor.shape.dim
    if not tensor.HasField("shape") or not all(d.HasField("dim_value") for d in dims):
        raise RefusedError(f"{where}, whose shape is not known beforehand")
    return math.prod(d.dim_value for d in dims)


def _row_size(value: ValueInfoProto) -> int:
    """The size N of an output of shape (1, N) float32."""
    tensor = value.type.tensor_type
    dims = [d.dim_value for d in tensor.shape.dim]
    if tensor.elem_type != TensorProto.FLOAT or len(dims) != 2 or dims[0] != 1 or dims[1] < 1:
        raise RefusedError(f"{value.name!r} must be float32 of shape (1, N), it has shape {dims}")
    return dims[1]


def _check_runs(data: bytes, sizes: dict[str, int]) -> None:
    """Check that the runtime loads the model and computes an action from zeros.

    Raises:
        RefusedError: the action does not have the inferred shape.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    feeds = {OBSERVATION: np.zeros((1, sizes["observation"]), np.float32)}
    if sizes["state"]:
        feeds[STATE_IN] = np.zeros((1, sizes["state"]), np.float32)
    (action,) = session.run([ACTION], feeds)
    if action.shape != (1, sizes["action"]):
        raise RefusedError(f"{ACTION!r} comes out with shape {action.shape}")


def _ends(span: range) -> str:
    return f"{span.start} to {span.stop - 1}"


def _line(text: str) -> str:
    """One printable line of at most 300 characters."""
    text = " ".join(text.split()).encode("ascii", "backslashreplace").decode()
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 300 else f"{text[:297]}..."


def _warm() -> None:
    """Load everything that a check needs, so that no file's limits pay for it."""
    ends = [
        onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1])
        for name in (OBSERVATION, ACTION)
    ]
    node = onnx.helper.make_node("Identity", [OBSERVATION], [ACTION])
    graph = onnx.helper.make_graph([node], "warm", ends[:1], ends[1:])
    opset = [onnx.helper.make_opsetid("", OPSETS.start)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSIONS.start)
    assert not judge(model.SerializeToString())["problems"]


def main() -> None:
    """Judge files from the standard input until it ends."""
    _warm()
    print("ready", flush=True)
    while header := sys.stdin.buffer.read(4):
        data = sys.stdin.buffer.read(struct.unpack("<I", header)[0])
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        verdict = judge(data)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    main()
