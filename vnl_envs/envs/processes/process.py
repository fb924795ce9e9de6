"""One worker in a process of its own, and one in this process, behind the same interface."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from vnl_envs.envs.processes.shared_memory import Memory
from vnl_envs.envs.processes.worker import MESSAGE, PING, Worker

_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from vnl_envs.envs.processes.worker import serve
serve(*map(int, sys.argv[2:]))
"""
# Task code needs no threads of its own.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_END_TIMEOUT = 10.0


class WorkerProcess:
    """Another process: its program, pipes and mailbox.

    Args:
        memory: memory of the arrays.
        task: memory of the pickled task.
        asked: processes to which it forwards requests.
    """

    def __init__(self, memory: Memory, task: Memory, asked: Sequence[WorkerProcess]) -> None:
        self.mailbox = Memory()
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        others = (process._requests for process in asked)
        files = (requests, replies, self.mailbox.fd, memory.fd, task.fd, *others)
        try:
            self._program = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), *map(str, files)],
                stdin=subprocess.DEVNULL,
                pass_fds=files,
                env={**_ONE_THREAD, **os.environ},
            )
        finally:
            os.close(requests)
            os.close(replies)

    def post(self, number: int, kind: int, value: int) -> None:
        """Send a request, see `worker.PING`.

        Raises:
            EOFError: the process has ended.
        """
        try:
            os.write(self._requests, MESSAGE.pack(number, kind, value))
        except BrokenPipeError:
            raise EOFError from None

    def wait(self, number: int) -> tuple[int, int]:
        """Wait for the status, and the size of the data in the mailbox.

        Raises:
            EOFError: the process has ended.
        """
        while True:
            message = os.read(self._replies, MESSAGE.size)
            if not message:
                raise EOFError
            answered, status, value = MESSAGE.unpack(message)
            # Other numbers are answers to interrupted requests.
            if answered == number:
                return status, value

    def end(self) -> None:
        """Kill the process, whose state is not needed any more."""
        self._program.kill()
        self._program.wait()
        self.forget()

    def forget(self) -> None:
        """Close this process's ends of pipes and the mailbox."""
        for file in (self._requests, self._replies, self.mailbox.fd):
            os.close(file)

    def fate(self) -> str:
        """How the process ended, after it has closed its pipes."""
        try:
            code = self._program.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


class LocalWorker:
    """The interface of `WorkerProcess` in this process, which steps a block while the others do.

    This process would otherwise only wait, and one process less has to be woken.

    Args:
        memory, task: see `WorkerProcess`.
    """

    def __init__(self, memory: Memory, task: Memory) -> None:
        self.mailbox = Memory()
        self._worker = Worker(self.mailbox, memory, task)
        self._asked = PING, 0

    def post(self, number: int, kind: int, value: int) -> None:
        """Keep a request for `wait`."""
        self._asked = kind, value

    def wait(self, number: int) -> tuple[int, int]:
        """Handle the request; see `WorkerProcess`."""
        return self._worker.answer(*self._asked)

    def end(self) -> None:
        """Free the block and the mailbox."""
        self._worker.close()
        self.forget()

    def forget(self) -> None:
        """Close the mailbox."""
        self.mailbox.close()

    def fate(self) -> str:
        """Description of this process for errors."""
        return "is this one"


def end(processes: list[LocalWorker | WorkerProcess], task: Memory, pid: int) -> None:
    """End processes and close their task's memory, only in the process that started them."""
    if os.getpid() == pid:
        while processes:
            processes.pop().end()
        task.close()
