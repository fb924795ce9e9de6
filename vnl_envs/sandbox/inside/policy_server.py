"""Runs a policy in its sandbox: `policy_server.py POLICY.onnx`.

It needs the standard library, NumPy and ONNX Runtime.

The protocol uses little-endian frames over pipes, whose lengths both sides know. The other side is
`sandbox/client.py`.

- Once, out: `VNLP1`, then the sizes D, A and S of observation, action and state, uint32.
- Each step, in: one byte, which is 1 for the first observation of an episode and clears the state,
  then D float32. Out: A float32.

The exit status is 0 when the input ends, and `MEMORY` when memory runs out.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = b"VNLP1"
HELLO = struct.Struct("<5sIII")
MEMORY = 66
"""The exit status of a policy that ran out of memory."""


def session(path: str) -> Any:
    """An ONNX Runtime session that gives the same bits each time, without memory pools."""
    # Since 1.29 it sends telemetry, unless disabled before the import (its docs/Privacy.md).
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    # Without this it would also accept its own flatbuffer format, which was not checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(Path(path).read_bytes(), options, providers=providers)


def sizes(session: Any) -> tuple[int, int, int]:
    """The sizes D, A and S of a policy's observation, action and state.

    Raises:
        ValueError: the inputs or outputs are not those of a policy.
    """
    inputs = {value.name: value.shape for value in session.get_inputs()}
    outputs = {value.name: value.shape for value in session.get_outputs()}
    ways = [({"obs"}, {"action"}), ({"obs", "state_in"}, {"action", "state_out"})]
    if (set(inputs), set(outputs)) not in ways:
        raise ValueError(f"the policy has inputs {sorted(inputs)} and outputs {sorted(outputs)}")
    state = _size("state_in", inputs)
    if state != _size("state_out", outputs):
        raise ValueError("the policy's state_in and state_out differ in length")
    return _size("obs", inputs), _size("action", outputs), state


class Server:
    """A policy bound to fixed buffers.

    Args:
        path: path of the ONNX file. Inputs are `obs` and optionally `state_in`, outputs `action`
            and optionally `state_out`.

    Raises:
        ValueError: the inputs or outputs are others.
    """

    def __init__(self, path: str) -> None:
        self._session = session(path)
        observation, action, state = sizes(self._session)
        # One flag byte, placed so that the numbers after it are aligned.
        self._frame = bytearray(4 + 4 * observation)
        self._in = memoryview(self._frame)[3:]
        self._obs = np.frombuffer(self._frame, np.float32, offset=4)[None]
        self._action = np.zeros((1, action), np.float32)
        self._state, self._next = np.zeros((2, 1, state), np.float32)
        self._bind()

    def _bind(self) -> None:
        binding = self._session.io_binding()
        rows_in = {"obs": self._obs, "state_in": self._state}
        rows_out = {"action": self._action, "state_out": self._next}
        for value in self._session.get_inputs():
            row = rows_in[value.name]
            binding.bind_input(value.name, "cpu", 0, np.float32, row.shape, row.ctypes.data)
        for value in self._session.get_outputs():
            row = rows_out[value.name]
            binding.bind_output(value.name, "cpu", 0, np.float32, row.shape, row.ctypes.data)
        self._binding = binding

    @property
    def hello(self) -> bytes:
        """The first frame."""
        return HELLO.pack(MAGIC, self._obs.size, self._action.size, self._state.size)

    def run(self) -> None:
        """Run one inference on the buffers."""
        self._session.run_with_iobinding(self._binding)

    def serve(self, source: int, sink: int) -> None:
        """Answer observations until the input ends."""
        length = len(self._in)
        action = self._action.data.cast("B")
        stateful = bool(self._state.size)
        while received := os.readv(source, [self._in]):
            while received < length:
                count = os.readv(source, [self._in[received:]])
                if not count:
                    return
                received += count
            if stateful and self._in[0]:
                self._state[:] = 0
            self.run()
            if stateful:
                self._state[:] = self._next
            os.write(sink, action)


def _size(name: str, shapes: dict[str, Any]) -> int:
    """The length of a row; 0 if there is no such value. The batch size may be symbolic."""
    if name not in shapes:
        return 0
    shape = shapes[name]
    if len(shape) != 2 or not isinstance(shape[1], int):
        raise ValueError(f"{name} must have a shape [1, n], got {shape}")
    return shape[1]


def main(path: str) -> None:
    """Serve a policy on standard input and output."""
    server = Server(path)
    # The first inference is the slowest one, and counts as part of the start.
    server.run()
    os.write(1, server.hello)
    server.serve(0, 1)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except MemoryError:
        sys.exit(MEMORY)
    except Exception as error:
        text = " ".join(str(error).split())
        markers = ("bad_alloc", "Failed to allocate", "bad allocation")
        out_of_memory = any(marker in text for marker in markers)
        print(f"{type(error).__name__}: {text}"[:500], file=sys.stderr)
        sys.exit(MEMORY if out_of_memory else 1)
