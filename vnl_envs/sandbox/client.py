"""A policy in its own process: the harness's side. `inside/policy_server.py` is the other side."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import BinaryIO

import numpy as np

from vnl_envs.problems import Code, PolicyError
from vnl_envs.sandbox import launch
from vnl_envs.sandbox.inside import policy_server
from vnl_envs.sandbox.inside.policy_server import HELLO, MAGIC
from vnl_envs.sandbox.inside.policy_server import MEMORY as OUT_OF_MEMORY

START_SECONDS = 20.0
"""Time limit from the start of the process until the policy is ready, s."""
STEP_SECONDS = 1.0
"""Time limit for one action, s."""
EPISODE_SECONDS = 5.0
MEAN_STEP_SECONDS = 0.02
"""Time limit for all actions of n steps: `EPISODE_SECONDS` + n * `MEAN_STEP_SECONDS`, s."""

# Bytes of stderr that are read after a failure. A policy that writes more than its pipe holds
# blocks.
_STDERR = 1 << 16
_LINE = 200
_SIGKILL, _SIGXCPU = 9, 24
_SERVER = Path(policy_server.__file__)


class PolicyProcess:
    """An ONNX policy in its own process, which runs one episode at a time.

    A policy that fails is killed; `reset` starts it again. Use it only from the thread that made
    it: the process dies with this thread.

    Args:
        policy: ONNX file, which must stay open while the process may be started.
        observation_size, action_size: sizes D and A of the task.
        isolated: whether to use the sandbox; False sets limits only.
        server: program to run, see `inside/policy_server.py`.

    Attributes:
        waited: time waited for the policy's actions in this episode, s.
    """

    def __init__(
        self,
        policy: BinaryIO,
        observation_size: int,
        action_size: int,
        isolated: bool = True,
        server: str | os.PathLike[str] = _SERVER,
    ) -> None:
        self._policy = policy
        self._server = Path(server).resolve()
        self._isolated = isolated
        self._sizes = observation_size, action_size
        # One flag byte, placed so that the numbers after it are aligned.
        frame = np.zeros(1 + observation_size, np.float32)
        self._observation = frame[1:]
        self._out = frame.data.cast("B")[3:]
        # One byte more than an answer, to detect one that is too long.
        self._bytes = 4 * action_size
        answer = bytearray(self._bytes + 4)
        self._action = np.frombuffer(answer, np.float32, action_size)
        self._in = memoryview(answer)[: self._bytes + 1]
        self._process: subprocess.Popen[bytes] | None = None
        self._new()

    def _new(self) -> None:
        self._out[0] = 1
        self._steps = 0
        self.waited = 0.0

    def reset(self) -> None:
        """Start an episode: the next observation clears the policy's state.

        Raises:
            PolicyError: the process had to be started, and did not start.
        """
        self._new()
        if self._process is None:
            self._start()

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action (A,) float32 for an observation (D,): finite, not clipped.

        Raises:
            PolicyError: the policy gave no action, and has been stopped.
        """
        if self._process is None:
            raise PolicyError(Code.CRASH, "the policy is not running")
        try:
            return self._act(observation)
        except PolicyError:
            self.close()
            raise

    def _act(self, observation: np.ndarray) -> np.ndarray:
        self._observation[:] = observation
        if self._poll(0):
            raise self._ended("the policy answered before it was asked")
        try:
            sent = os.write(self._sink, self._out)
        except (BrokenPipeError, BlockingIOError):
            sent = 0
        if sent != len(self._out):
            raise self._ended("the policy does not read its observations")
        self._out[0] = 0
        self._steps += 1
        began = perf_counter()
        self._receive(self._in, self._bytes, began + min(STEP_SECONDS, self._left()))
        self.waited += perf_counter() - began
        if not isfinite(largest(self._action)):
            raise PolicyError(Code.NON_FINITE, "the policy's action is not finite")
        return self._action.copy()

    def _left(self) -> float:
        """Time left for this step, s, by the episode's limit."""
        return EPISODE_SECONDS + MEAN_STEP_SECONDS * self._steps - self.waited

    def _receive(self, into: memoryview, expected: int, deadline: float) -> None:
        """Read `expected` bytes. `into` may have room for more, to detect a longer answer."""
        received = 0
        while received < expected:
            left = deadline - perf_counter()
            # Rounded up: a wait of 0 ms would spin.
            if left <= 0 or not self._poll(int(1000 * left) + 1):
                raise self._late()
            count = os.readv(self._source, [into[received:]])
            if not count:
                raise self._ended("the policy's process closed its output")
            received += count
        if received > expected:
            raise PolicyError(Code.CRASH, "the policy answered more than its action")

    def _start(self) -> None:
        self._policy.seek(0)
        self._process = process = subprocess.Popen(
            launch.command([self._server, self._policy], isolated=self._isolated),
            env=launch.environment(self._isolated),
            pass_fds=[self._policy.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._sink, self._source = process.stdin.fileno(), process.stdout.fileno()
        # A policy that does not read must not stop the harness.
        os.set_blocking(self._sink, False)
        os.set_blocking(process.stderr.fileno(), False)
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        self._poll = poll.poll
        try:
            self._greet()
        except PolicyError:
            self.close()
            raise

    def _greet(self) -> None:
        """Read the hello and check it."""
        hello = bytearray(HELLO.size)
        self._receive(memoryview(hello), len(hello), perf_counter() + START_SECONDS)
        magic, observations, actions, _ = HELLO.unpack(hello)
        if magic != MAGIC:
            raise PolicyError(Code.CRASH, "the policy's process did not start as it should")
        if (observations, actions) != self._sizes:
            raise PolicyError(
                Code.MODEL,
                f"the policy maps {observations} numbers to {actions}, "
                f"the task has observations of {self._sizes[0]} and actions of {self._sizes[1]}",
            )

    def _late(self) -> PolicyError:
        if self._steps == 0:
            return PolicyError(Code.TIMEOUT, f"the policy did not start within {START_SECONDS:g} s")
        if self._left() < STEP_SECONDS:
            return PolicyError(
                Code.TIMEOUT,
                f"the policy took more than {EPISODE_SECONDS:g} s and "
                f"{1000 * MEAN_STEP_SECONDS:g} ms a step in {self._steps} steps",
            )
        return PolicyError(Code.TIMEOUT, f"the policy took more than {STEP_SECONDS:g} s for a step")

    def _ended(self, message: str) -> PolicyError:
        """The error for a process that does not respond: its exit status, and its last message."""
        assert self._process is not None
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return PolicyError(Code.CRASH, message)
        # The exit status of bwrap is 128 + the signal.
        signal = -status if status < 0 else status - 128
        if status == OUT_OF_MEMORY or signal == _SIGKILL:
            return PolicyError(Code.MEMORY, "the policy took more memory than it may")
        if signal == _SIGXCPU:
            return PolicyError(Code.TIMEOUT, "the policy took more CPU time than it may")
        line = self._last_words()
        reason = f"ended by signal {signal}" if signal > 0 else f"exited with {status}"
        return PolicyError(Code.CRASH, f"the policy's process {reason}{line and f': {line}'}")

    def _last_words(self) -> str:
        """The last line of stderr, printable and short."""
        assert self._process is not None
        assert self._process.stderr is not None
        try:
            text = os.read(self._process.stderr.fileno(), _STDERR).decode(errors="replace")
        except BlockingIOError:
            return ""
        lines = [line for line in text.splitlines() if line.strip()]
        last = lines[-1].strip() if lines else ""
        return "".join(c if c.isprintable() else "?" for c in last[:_LINE])

    def close(self) -> None:
        """Stop the policy and everything that it has started."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()

    def __enter__(self) -> PolicyProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def on_one_cpu(number: int) -> Iterator[None]:
    """Context that keeps this thread, and policies started in it, on CPU `number`.

    Harness and policy never work at the same time. On one CPU both find their data in the cache,
    and no other CPU has to be woken (`benchmarks/scoring_overhead.py`). It has no effect if threads
    cannot be bound.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[number % len(before)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def largest(numbers: np.ndarray) -> float:
    """The largest magnitude; NaN if any number is NaN. The ufunc takes half the time of `max`."""
    return float(np.maximum.reduce(np.abs(numbers)))
