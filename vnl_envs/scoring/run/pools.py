"""Worker processes, on this machine or on a Ray cluster.

Requests and answers are JSON. Each worker handles one request at a time.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from vnl_envs.problems import Code, Problem, ScoringError, problem
from vnl_envs.sandbox.client import on_one_cpu
from vnl_envs.scoring.run.worker import Job, Worker

Plain = dict[str, Any]

LIVES = 3
"""Number of workers that may die during a request before it is given up."""

_CAN_BIND = hasattr(os, "sched_getaffinity")


class Pool(Protocol):
    """Workers, numbered from 0 to `size` - 1."""

    size: int

    def ask(self, index: int, request: Plain) -> None:
        """Send a request to an idle worker."""

    def take(self) -> tuple[int, Plain | None]:
        """Wait for the first answer, and return the worker's number and the answer.

        The answer is None if the worker died. Then a new worker replaces it.

        Raises:
            ScoringError: the worker reported problems.
        """
        ...

    def close(self) -> None:
        """End the workers."""


class Processes:
    """Worker processes on this machine. They end with this process in any case.

    Args:
        job: job of the workers.
        size: number of workers.
    """

    def __init__(self, job: Job, size: int) -> None:
        self._job, self.size = job, size
        self._context = multiprocessing.get_context("spawn")
        # With fewer workers than CPUs, another run might be bound to the same CPUs.
        self._bound = size >= len(os.sched_getaffinity(0)) if _CAN_BIND else False
        self._workers = [self._start(index) for index in range(size)]

    def _start(self, index: int) -> tuple[Any, Connection]:
        pipe, other_end = self._context.Pipe()
        cpu = index if self._bound else None
        arguments = (self._job, other_end, cpu)
        process = self._context.Process(target=_serve, args=arguments, daemon=True)
        process.start()
        other_end.close()
        return process, pipe

    def ask(self, index: int, request: Plain) -> None:
        """See `Pool`."""
        # A worker that died while idle has a closed pipe, which `take` detects.
        with contextlib.suppress(OSError):
            self._workers[index][1].send_bytes(json.dumps(request).encode())

    def take(self) -> tuple[int, Plain | None]:
        """See `Pool`."""
        pipes = [pipe for _, pipe in self._workers]
        index = pipes.index(next(p for p in wait(pipes) if isinstance(p, Connection)))
        process, pipe = self._workers[index]
        try:
            return index, _answer(pipe.recv_bytes())
        except (EOFError, OSError):
            process.join()
            pipe.close()
            self._workers[index] = self._start(index)
            return index, None

    def close(self) -> None:
        """See `Pool`. The policy of a worker ends with it."""
        for process, pipe in self._workers:
            pipe.close()
            process.terminate()
        for process, _ in self._workers:
            process.join()


class Actors:
    """Workers as actors on a Ray cluster, one CPU each.

    Args:
        job: job of the workers.
        size: number of workers; those without a free CPU wait for one.
        address: address of the cluster, as for `ray.init`.

    Raises:
        ValueError: Ray is not installed.
        ConnectionError: there is no cluster at this address.
    """

    def __init__(self, job: Job, size: int, address: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise ValueError('--ray-address needs Ray: pip install "vnl_envs[ray]"') from None
        # Any, as Ray's own types lack remote calls and the level's name.
        self._ray: Any = ray
        self.size = size
        self._ray.init(address, log_to_driver=False, logging_level="error")
        self._kind = self._ray.remote(num_cpus=1, max_restarts=0)(Worker)
        # Put into the object store once, instead of sent to each actor.
        self._job = self._ray.put(job)
        self._actors = [self._kind.remote(self._job) for _ in range(size)]
        self._calls: dict[Any, int] = {}

    def ask(self, index: int, request: Plain) -> None:
        """See `Pool`."""
        self._calls[self._actors[index].answer.remote(json.dumps(request).encode())] = index

    def take(self) -> tuple[int, Plain | None]:
        """See `Pool`."""
        errors = self._ray.exceptions
        (ready, *_), _ = self._ray.wait(list(self._calls))
        index = self._calls.pop(ready)
        try:
            return index, _answer(self._ray.get(ready))
        except (errors.RayActorError, errors.ObjectLostError):
            # The actor may still run, but out of reach.
            self._ray.kill(self._actors[index])
            self._actors[index] = self._kind.remote(self._job)
            return index, None

    def close(self) -> None:
        """See `Pool`. It also leaves the cluster."""
        # Idle workers end their policies.
        self._ray.wait([a.close.remote() for a in self._actors], num_returns=self.size, timeout=5)
        for actor in self._actors:
            self._ray.kill(actor)
        self._ray.shutdown()


def _serve(job: Job, pipe: Connection, cpu: int | None) -> None:
    """Answer requests until the other end of the pipe is closed, or the parent process has ended.

    Args:
        job: job of the run.
        pipe: pipe for requests and answers.
        cpu: number of the CPU to which worker and policy are bound; None does not bind them.
    """
    # Ctrl-C reaches every process of the terminal; the parent process handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with (
        contextlib.suppress(EOFError, OSError),
        on_one_cpu(cpu) if cpu is not None else contextlib.nullcontext(),
        contextlib.closing(Worker(job)) as worker,
    ):
        while True:
            pipe.send_bytes(worker.answer(pipe.recv_bytes()))


def _end_with_parent() -> None:
    """End this process when its parent process ends in any way."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _answer(message: bytes) -> Plain:
    answer: Plain = json.loads(message)
    if "problems" in answer:
        raise ScoringError(
            [Problem(Code(code), where, text) for code, where, text in answer["problems"]]
        )
    return answer


def answers(pool: Pool, following: Callable[[int], Plain | None]) -> Iterator[tuple[Plain, Plain]]:
    """Yield requests and their answers as they come, until there are no more requests.

    A request at which a worker dies is repeated, up to `LIVES` times in total.

    Args:
        pool: idle pool.
        following: function from a worker's number to its next request; None if there is none.

    Raises:
        ScoringError: a worker reported problems, or `LIVES` workers died during a request.
    """
    pending: dict[int, tuple[Plain, int]] = {}

    def ask(index: int, request: Plain | None, attempt: int = 1) -> None:
        if request is not None:
            pending[index] = request, attempt
            pool.ask(index, request)

    for index in range(pool.size):
        ask(index, following(index))
    while pending:
        index, answer = pool.take()
        if index not in pending:
            continue
        request, attempt = pending.pop(index)
        if answer is not None:
            # The next request comes first, so that the worker does not wait for the caller.
            ask(index, following(index))
            yield request, answer
        elif attempt < LIVES:
            ask(index, request, attempt + 1)
        else:
            raise problem(Code.INTERNAL, json.dumps(request), f"{LIVES} workers ended during it")
