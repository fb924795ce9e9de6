"""Verdicts on policy files, from a confined process, `sandbox/inside/model_check.py`."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import struct
import subprocess
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Annotated

from pydantic import Field, ValidationError

from vnl_envs.problems import Code, problem
from vnl_envs.sandbox import launch
from vnl_envs.scoring.documents.schema.fields import Document

MEMORY = 576 * 2**20
"""Address space of the process, bytes; the libraries take 170 MiB of it."""
_WALL_SECONDS = 120.0
"""Wall time for one file on a busy machine, s; the actual limit is `model_check.SECONDS` of CPU
time."""
# Greatest size of a verdict, bytes: room for metadata with every character escaped.
_MOST_ANSWER = 2**19
_READY = b"ready\n"
_TOO_LONG = "takes too long to read"
_Count = Annotated[int, Field(ge=0, le=10**9)]


class Verdict(Document):
    """The verdict on a policy file.

    Attributes:
        problems: reasons why it may not be run; empty if it may.
        parameters: number of floating-point parameters.
        observation, state, action: sizes; 0 if there is none, or if it is unknown.
        metadata: metadata of the file: key -> text.
    """

    problems: list[str]
    parameters: _Count = 0
    observation: _Count = 0
    state: _Count = 0
    action: _Count = 0
    metadata: dict[str, str] = Field(default_factory=dict)


class Reader:
    """Checks policy files in a confined process, which is restarted if a file has ended it.

    Raises:
        ModuleNotFoundError: onnx or onnxruntime is not installed.
    """

    def __init__(self) -> None:
        for name in ("onnx", "onnxruntime"):
            if importlib.util.find_spec(name) is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def judge(self, data: bytes) -> Verdict:
        """The verdict on the bytes of a file.

        Raises:
            ScoringError: (`Code.SANDBOX`) the process does not start.
        """
        if self._process is None:
            self._process = _started()
        answer = _answer(self._process, struct.pack("<I", len(data)) + data)
        if answer.endswith(b"\n"):
            # The answer is checked too, as untrusted bytes may have taken over the process.
            with contextlib.suppress(ValidationError):
                return Verdict.model_validate_json(answer)
            self._process.kill()
        return Verdict(problems=[_end(self.close())])

    def close(self) -> int:
        """End the process, and return its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe and pipe.close()
        return process.wait()


def inspect(files: Iterable[bytes]) -> list[Verdict]:
    """Check the policy files of a bundle, up to the first one that takes too long.

    Raises:
        ModuleNotFoundError: onnx or onnxruntime is not installed.
        ScoringError: (`Code.SANDBOX`) the process that checks them does not start.
    """
    verdicts: list[Verdict] = []
    with Reader() as reader:
        for data in files:
            late = any(_TOO_LONG in verdict.problems for verdict in verdicts)
            unread = Verdict(problems=["is not read, as a policy before it takes too long to read"])
            verdicts.append(unread if late else reader.judge(data))
    return verdicts


def _started() -> subprocess.Popen[bytes]:
    """A process that is ready for files."""
    isolated = launch.unavailable_reason() is None
    command = launch.command(
        ["-m", "vnl_envs.sandbox.inside.model_check"], memory=MEMORY, isolated=isolated
    )
    process = subprocess.Popen(
        command,
        env=launch.environment(isolated),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    if _answer(process, b"") != _READY:
        process.kill()
        process.wait()
        raise problem(Code.SANDBOX, "policies", "the process that reads policies does not start")
    return process


def _answer(process: subprocess.Popen[bytes], request: bytes) -> bytes:
    """The line with which a process answers a request; incomplete if the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    timer = threading.Timer(_WALL_SECONDS, process.kill)
    timer.start()
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(request)
            process.stdin.flush()
        return process.stdout.readline(_MOST_ANSWER)
    finally:
        timer.cancel()


def _end(status: int) -> str:
    """The reason why a process ended without an answer; bwrap returns 128 + a signal's number."""
    number = -status if status < 0 else status - 128
    if number == signal.SIGPROF:
        return _TOO_LONG
    if number == signal.SIGKILL:
        return f"was not read within {_WALL_SECONDS:g} s, or takes too much memory to read"
    return f"made its reader fail (status {status})"
