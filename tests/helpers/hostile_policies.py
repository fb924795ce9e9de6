"""ONNX files that mean no good, for the real server. Many would not pass the check of a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
OPSET = 17


def model(
    nodes: list[Any],
    sizes: tuple[int, int],
    constants: dict[str, np.ndarray] | None = None,
    state: int = 0,
    rows: int | str = 1,
    functions: list[Any] | None = None,
) -> bytes:
    """An ONNX file from `obs` to `action`; with a state where it has a length."""
    info = helper.make_tensor_value_info
    inputs, outputs = (
        [info("obs", FLOAT, [rows, sizes[0]])],
        [info("action", FLOAT, [rows, sizes[1]])],
    )
    if state:
        inputs.append(info("state_in", FLOAT, [1, state]))
        outputs.append(info("state_out", FLOAT, [1, state]))
    arrays = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "policy", inputs, outputs, initializer=arrays)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("own", 1)]
    made = helper.make_model(
        graph, opset_imports=opsets, ir_version=8, functions=list(functions or [])
    )
    return made.SerializeToString()


def constant(value: float, sizes: tuple[int, int], rows: int | str = 1) -> bytes:
    """The same action always; what is observed counts for nothing."""
    nodes = [
        helper.make_node("MatMul", ["obs", "none"], ["zero"]),
        helper.make_node("Add", ["zero", "value"], ["action"]),
    ]
    constants = {
        "none": np.zeros(sizes, np.float32),
        "value": np.full((1, sizes[1]), value, np.float32),
    }
    return model(nodes, sizes, constants, rows=rows)


def _summed(nodes: list[Any], last: str, sizes: tuple[int, int], **more: Any) -> bytes:
    """A model whose action is the mean of something, so that it must be computed."""
    constants = {
        **more.pop("constants", {}),
        "shape": np.array([1, 1], np.int64),
        "wide": np.array([1, sizes[1]], np.int64),
    }
    nodes = [
        *nodes,
        helper.make_node("ReduceMean", [last], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "shape"], ["one"]),
        helper.make_node("Expand", ["one", "wide"], ["action"]),
    ]
    return model(nodes, sizes, constants, **more)


def folding_bomb(sizes: tuple[int, int]) -> bytes:
    """Constants of a few bytes that unfold to 64 GB while the graph is optimised."""
    nodes = [helper.make_node("Expand", ["seed", "size"], ["big"])]
    constants = {"seed": np.ones(1, np.float32), "size": np.array([1 << 17, 1 << 17], np.int64)}
    return _summed(nodes, "big", sizes, constants=constants)


def folding_chain(sizes: tuple[int, int]) -> bytes:
    """Each concatenation doubles a constant, forty times."""
    nodes, last = [], "seed"
    for i in range(40):
        nodes.append(helper.make_node("Concat", [last, last], [f"c{i}"], axis=0))
        last = f"c{i}"
    return _summed(nodes, last, sizes, constants={"seed": np.ones(16, np.float32)})


def huge_intermediate(sizes: tuple[int, int]) -> bytes:
    """8 GB that depend on the observation, at every step."""
    nodes = [
        helper.make_node("ReduceMean", ["obs"], ["x"], keepdims=1),
        helper.make_node("Expand", ["x", "size"], ["big"]),
        helper.make_node("Exp", ["big"], ["bigger"]),
    ]
    return _summed(
        nodes, "bigger", sizes, constants={"size": np.array([1 << 15, 1 << 16], np.int64)}
    )


def slow(sizes: tuple[int, int]) -> bytes:
    """Products of 256 x 256 matrices, a thousand at every step."""
    nodes = [
        helper.make_node("ReduceMean", ["obs"], ["x"], keepdims=1),
        helper.make_node("Mul", ["square", "x"], ["m0"]),
    ]
    nodes += [helper.make_node("MatMul", [f"m{i}", "square"], [f"m{i + 1}"]) for i in range(1000)]
    square = np.eye(256, dtype=np.float32)
    return _summed(nodes, "m1000", sizes, constants={"square": square})


def endless(sizes: tuple[int, int]) -> bytes:
    """A loop of 2^62 rounds."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Sin", ["x"], ["y"]),
        ],
        "body",
        [
            info("i", TensorProto.INT64, []),
            info("go", TensorProto.BOOL, []),
            info("x", FLOAT, None),
        ],
        [info("on", TensorProto.BOOL, []), info("y", FLOAT, None)],
    )
    nodes = [
        helper.make_node("ReduceMean", ["obs"], ["x0"], keepdims=1),
        helper.make_node("Loop", ["rounds", "", "x0"], ["last"], body=body),
    ]
    return _summed(nodes, "last", sizes, constants={"rounds": np.array(1 << 62, np.int64)})


def deep_chain(sizes: tuple[int, int]) -> bytes:
    """Twenty thousand sines, one after the other."""
    nodes = [helper.make_node("ReduceMean", ["obs"], ["s0"], keepdims=1)]
    nodes += [helper.make_node("Sin", [f"s{i}"], [f"s{i + 1}"]) for i in range(20_000)]
    return _summed(nodes, "s20000", sizes)


def nested(sizes: tuple[int, int]) -> bytes:
    """Graphs in attributes of nodes of graphs, two thousand deep: deeper than one may parse."""
    graph = b""
    for _ in range(2000):
        # GraphProto.node is field 1, NodeProto.attribute 5, AttributeProto.g 6; of a model 7.
        graph = _field(1, _field(5, _field(6, graph)))
    return _field(7, graph)


def _field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that holds another message."""
    head, size = [number << 3 | 2], len(content)
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes([*head, size]) + content


def recursive(sizes: tuple[int, int]) -> bytes:
    """A function that calls itself."""
    itself = helper.make_function(
        "own",
        "Again",
        ["x"],
        ["y"],
        [helper.make_node("Again", ["x"], ["y"], domain="own")],
        [helper.make_opsetid("", OPSET), helper.make_opsetid("own", 1)],
    )
    nodes = [helper.make_node("Again", ["obs"], ["y"], domain="own")]
    return _summed(nodes, "y", sizes, functions=[itself])


def external(sizes: tuple[int, int]) -> bytes:
    """Weights that are to be read from a file of the host's."""
    made = onnx.load_from_string(constant(0.25, sizes))
    weights = made.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../../etc/passwd"), ("offset", "0"), ("length", "64")):
        weights.external_data.add(key=key, value=value)
    return made.SerializeToString()


def negative_logarithm(sizes: tuple[int, int]) -> bytes:
    """NaN."""
    nodes = [
        helper.make_node("Abs", ["obs"], ["positive"]),
        helper.make_node("Sub", ["minus", "positive"], ["negative"]),
        helper.make_node("Log", ["negative"], ["nan"]),
    ]
    return _summed(nodes, "nan", sizes, constants={"minus": np.float32([-1])})


def overflow(sizes: tuple[int, int]) -> bytes:
    """Infinity."""
    nodes = [
        helper.make_node("Abs", ["obs"], ["positive"]),
        helper.make_node("Add", ["positive", "many"], ["more"]),
        helper.make_node("Exp", ["more"], ["inf"]),
    ]
    return _summed(nodes, "inf", sizes, constants={"many": np.float32([1000])})


def state_counter(sizes: tuple[int, int]) -> bytes:
    """Acts by how many steps it has seen, in the hope that resets leave that."""
    nodes = [
        helper.make_node("Add", ["state_in", "step"], ["state_out"]),
        helper.make_node("MatMul", ["obs", "none"], ["zero"]),
        helper.make_node("Add", ["zero", "state_out"], ["action"]),
    ]
    constants = {"step": np.full((1, 1), 1 / 64, np.float32), "none": np.zeros(sizes, np.float32)}
    return model(nodes, sizes, constants, state=1)


def two_rows(sizes: tuple[int, int]) -> bytes:
    """Declares one row, computes two."""
    nodes = [
        helper.make_node("MatMul", ["obs", "none"], ["zero"]),
        helper.make_node("Concat", ["zero", "zero"], ["action"], axis=0),
    ]
    return model(nodes, sizes, {"none": np.zeros(sizes, np.float32)}, rows="n")


def growing_output(sizes: tuple[int, int]) -> bytes:
    """As many rows as the observation says, up to a few gigabytes."""
    nodes = [
        helper.make_node("MatMul", ["obs", "none"], ["zero"]),
        helper.make_node("Expand", ["zero", "size"], ["action"]),
    ]
    constants = {
        "none": np.zeros(sizes, np.float32),
        "size": np.array([1 << 24, sizes[1]], np.int64),
    }
    return model(nodes, sizes, constants, rows="n")


def unknown_operator(sizes: tuple[int, int]) -> bytes:
    """An operator of a library that would have to be loaded."""
    nodes = [helper.make_node("Shell", ["obs"], ["y"], domain="own", command=b"touch vnl-hostile")]
    return _summed(nodes, "y", sizes)


def other_observation(sizes: tuple[int, int]) -> bytes:
    """For another task."""
    return constant(0.25, (sizes[0] + 1, sizes[1]))


def other_action(sizes: tuple[int, int]) -> bytes:
    """For another body."""
    return constant(0.25, (sizes[0], sizes[1] - 1))


def garbage(sizes: tuple[int, int]) -> bytes:
    """No ONNX at all."""
    return bytes(range(256)) * 64


def truncated(sizes: tuple[int, int]) -> bytes:
    """The first half of one."""
    whole = constant(0.25, sizes)
    return whole[: len(whole) // 2]


def empty(sizes: tuple[int, int]) -> bytes:
    """Nothing."""
    return b""


Maker = Callable[[tuple[int, int]], bytes]
