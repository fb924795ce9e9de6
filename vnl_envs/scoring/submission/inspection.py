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
"""Address space of the process, B; the libraries take 170 MiB of it."""
_WALL_SECONDS = 120.0
"""For one file, however busy the machine; `models.SECONDS` of processor time is what counts."""
# Bytes of a verdict: metadata with every character escaped, and more.
_MOST_ANSWER = 2**19
_READY = b"ready\n"
_TOO_LONG = "takes too long to read"
_Count = Annotated[int, Field(ge=0, le=10**9)]


class Verdict(Document):
    """What was found out about a policy file.

    Attributes:
        problems: why it may not be run; none if it may.
        parameters: floating-point numbers that it holds.
        observation, state, action: numbers in each; 0 where there is none, or it is unknown.
        metadata: key -> text, as its makers wrote it.
    """

    problems: list[str]
    parameters: _Count = 0
    observation: _Count = 0
    state: _Count = 0
    action: _Count = 0
    metadata: dict[str, str] = Field(default_factory=dict)


class Reader:
    """Judges policy files in one confined process, and in a new one after a file has ended it.

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
        """The verdict on a file's bytes.

        Raises:
            ScoringError: (`Code.SANDBOX`) the process does not start.
        """
        if self._process is None:
            self._process = _started()
        answer = _answer(self._process, struct.pack("<I", len(data)) + data)
        if answer.endswith(b"\n"):
            # Foreign bytes may have taken the process over: what it says is checked, too.
            with contextlib.suppress(ValidationError):
                return Verdict.model_validate_json(answer)
            self._process.kill()
        return Verdict(problems=[_end(self.close())])

    def close(self) -> int:
        """End the process; its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe and pipe.close()
        return process.wait()


def inspect(files: Iterable[bytes]) -> list[Verdict]:
    """Judge the policy files of a bundle; after one that takes too long, no more of them.

    Raises:
        ModuleNotFoundError: onnx or onnxruntime is not installed.
        ScoringError: (`Code.SANDBOX`) the process that judges them does not start.
    """
    verdicts: list[Verdict] = []
    with Reader() as reader:
        for data in files:
            late = any(_TOO_LONG in verdict.problems for verdict in verdicts)
            unread = Verdict(problems=["is not read, as a policy before it takes too long to read"])
            verdicts.append(unread if late else reader.judge(data))
    return verdicts


def _started() -> subprocess.Popen[bytes]:
    """A process that takes files."""
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
    """The line that a process answers to a request; without its end if it was killed or ended."""
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
    """Why a process ended instead of answering; bwrap passes a signal on as 128 + its number."""
    number = -status if status < 0 else status - 128
    if number == signal.SIGPROF:
        return _TOO_LONG
    if number == signal.SIGKILL:
        return f"was not read within {_WALL_SECONDS:g} s, or takes too much memory to read"
    return f"made its reader fail (status {status})"
