"""Export of a policy as ONNX, from observations to actions, including its normaliser.

`python -m baselines.export RUN FILE.onnx` writes the newest policy of a run. Training itself
writes the best.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import onnx
import typer
from onnx import TensorProto, helper, numpy_helper

from baselines.checkpoint import read_tree
from baselines.run import CHECKPOINT, read_record
from vnl_envs.utils.files import written_whole

# Since 1.29 it sends telemetry, unless disabled before the import (its docs/Privacy.md).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

INPUT, OUTPUT = "obs", "action"
EXPORT_TOLERANCE = 1e-5
"""Greatest difference between actions of the exported and of the trained policy."""
# LayerNormalization needs opset 17.
_OPSET, _IR_VERSION = 17, 8


class Layer(NamedTuple):
    """One ONNX operator on the output of the layer before.

    Attributes:
        op: name of the operator.
        arrays: further inputs.
        attributes: attributes of the operator.
    """

    op: str
    arrays: tuple[np.ndarray, ...] = ()
    attributes: Mapping[str, Any] = {}


class Branches(NamedTuple):
    """Chains on the output of the layer before, whose results are concatenated.

    Attributes:
        chains: chains, in order; one without layers is the identity.
    """

    chains: tuple[Sequence[Layer | Branches], ...]


Chain = Sequence["Layer | Branches"]


def dense(weight: np.ndarray, bias: np.ndarray) -> Layer:
    """A dense layer with weights (outputs, inputs) and biases (outputs,)."""
    return Layer("Gemm", (weight.astype(np.float32), bias.astype(np.float32)), {"transB": 1})


def layer_of(module: Mapping[str, Any]) -> Layer:
    """A dense layer from Flax parameters "kernel" (inputs, outputs) and "bias" (outputs,)."""
    return dense(np.asarray(module["kernel"]).T, np.asarray(module["bias"]))


def perceptron(layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Layer]:
    """Dense layers, given by weights and biases, with tanh between them."""
    pairs = ((dense(*layer), Layer("Tanh")) for layer in layers)
    return [layer for pair in pairs for layer in pair][:-1]


def added(one: Chain, other: Chain, size: int) -> list[Layer | Branches]:
    """The sum of the results of two chains on the same input, of `size` numbers each."""
    eye = np.eye(size)
    return [Branches((one, other)), dense(np.hstack([eye, eye]), np.zeros(size))]


def part(span: slice) -> Layer:
    """A slice of the input."""
    bounds = (np.array([at], np.int64) for at in (span.start, span.stop, -1))
    return Layer("Slice", tuple(bounds))


def clip(low: float, high: float, kind: Any = np.float32) -> Layer:
    """The input clipped to [low, high]."""
    return Layer("Clip", (np.array(low, kind), np.array(high, kind)))


def normaliser(mean: np.ndarray, deviation: np.ndarray, most: float) -> list[Layer]:
    """(x - mean) / deviation within ±most, in double precision, as deviations may be small."""
    return [
        Layer("Cast", (), {"to": TensorProto.DOUBLE}),
        Layer("Sub", (mean.astype(np.float64),)),
        Layer("Div", (deviation.astype(np.float64),)),
        clip(-most, most, np.float64),
        Layer("Cast", (), {"to": TensorProto.FLOAT}),
    ]


def write_onnx(
    path: str | Path, layers: Chain, sizes: tuple[int, int], metadata: Mapping[str, Any]
) -> None:
    """Write a policy `obs` float32 (1, D) -> `action` float32 (1, A) in [-1, 1] atomically.

    Args:
        path: file that ends in .onnx.
        layers: layers from an observation to an action, which is clipped after them.
        sizes: sizes D and A.
        metadata: facts about the policy, stored as texts; other types are stored as JSON.
    """
    nodes: list[Any] = []
    arrays: list[Any] = []
    _connect([*layers, clip(-1, 1)], INPUT, nodes, arrays)
    nodes[-1].output[0] = OUTPUT
    first, last = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name, size in zip((INPUT, OUTPUT), sizes, strict=True)
    )
    graph = helper.make_graph(nodes, "policy", [first], [last], initializer=arrays)
    opset = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION)
    helper.set_model_props(
        model, {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    )
    onnx.checker.check_model(model, full_check=True)
    with written_whole(path) as partial:
        onnx.save(model, partial)


def write_acting(
    path: str | Path, layers: Chain, acting: Mapping[str, Any], identity: Mapping[str, Any]
) -> None:
    """Write the policy of a checkpoint's "model".

    Args:
        path: file that ends in .onnx.
        layers: layers of the policy; the last is dense.
        acting: the "model", with the mean of its observations and its number of steps.
        identity: record of the run, stored in the file.
    """
    last = layers[-1]
    # Weights (outputs, inputs) come first.
    assert isinstance(last, Layer)
    sizes = len(acting["mean"]), len(last.arrays[0])
    write_onnx(path, layers, sizes, {**identity, "steps": acting["steps"]})


def _connect(layers: Chain, before: str, nodes: list[Any], arrays: list[Any]) -> str:
    """Add operators and arrays for layers with input `before`, and return the result's name."""
    for layer in layers:
        if isinstance(layer, Branches):
            names = [_connect(chain, before, nodes, arrays) for chain in layer.chains]
            after = f"{len(nodes)}"
            nodes.append(helper.make_node("Concat", names, [after], axis=-1))
        else:
            after = f"{len(nodes)}"
            names = [f"{after}_{j}" for j in range(len(layer.arrays))]
            arrays += map(numpy_helper.from_array, layer.arrays, names)
            node = helper.make_node(layer.op, [before, *names], [after], **layer.attributes)
            nodes.append(node)
        before = after
    return before


@dataclass(frozen=True)
class OnnxPolicy:
    """A policy from a file, as a function from observations (n, D) to actions (n, A).

    Attributes:
        metadata: metadata that `write_onnx` stored.
    """

    _session: onnxruntime.InferenceSession
    metadata: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> OnnxPolicy:
        """Read a file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not an ONNX policy.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no policy {str(path)!r}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(str(path), options)
        except Exception as error:  # its exceptions have no common base
            raise ValueError(f"{str(path)!r} is not an ONNX model ({error})") from None
        return cls(session, dict(session.get_modelmeta().custom_metadata_map))

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Actions, computed row by row, so that rows do not influence each other."""
        rows = observations.astype(np.float32)[:, None]
        return np.concatenate([self._session.run([OUTPUT], {INPUT: row})[0] for row in rows])


def export_run(folder: Path, path: Path) -> None:
    """Write the policy of a run's newest checkpoint.

    Raises:
        FileNotFoundError: there is no run, or no checkpoint yet.
        ValueError: the record of the run is damaged.
    """
    identity = read_record(folder)
    algorithm = importlib.import_module(f"baselines.{identity['algorithm']}")
    algorithm.export_state(read_tree(folder / CHECKPOINT)["model"], path, identity)


def check_exported(
    path: str | Path,
    policy: Callable[[np.ndarray], np.ndarray],
    mean: np.ndarray,
    deviation: np.ndarray,
) -> None:
    """Compare the actions of a file with those of the original policy, on 64 observations.

    Args:
        path: ONNX file.
        policy: function from observations (n, D) float32 to actions (n, nu).
        mean, deviation: (D,) mean and standard deviation of the observations.

    Raises:
        RuntimeError: the actions differ by more than `EXPORT_TOLERANCE`.
    """
    noise = np.random.default_rng(0).normal(size=(64, len(mean)))
    observations = (mean + deviation * noise).astype(np.float32)
    difference = float(np.abs(OnnxPolicy.load(path)(observations) - policy(observations)).max())
    if difference > EXPORT_TOLERANCE:
        raise RuntimeError(f"the exported policy differs by {difference:.2g}")


def main(
    run: Annotated[Path, typer.Argument(help="folder of a run")],
    out: Annotated[Path, typer.Argument(help="the .onnx file to write")],
) -> None:
    """Write the newest policy of a run as ONNX."""
    try:
        export_run(run, out)
        print(f"wrote {str(out)!r}")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    typer.run(main)
