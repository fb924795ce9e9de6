"""Workers in processes of their own: on this machine, or on a Ray cluster.

Requests and answers are JSON. A pool has one request under way at each worker.
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
"""Workers that may die of the same request before it is given up."""

_CAN_BIND = hasattr(os, "sched_getaffinity")


class Pool(Protocol):
    """Workers, numbered from 0 to `size` - 1."""

    size: int

    def ask(self, index: int, request: Plain) -> None:
        """Give a request to a worker that has none."""

    def take(self) -> tuple[int, Plain | None]:
        """Wait for the first answer: whose, and what; None if the worker died.

        There is a new one in its place then.

        Raises:
            ScoringError: what went wrong in it.
        """
        ...

    def close(self) -> None:
        """End the workers."""


class Processes:
    """Worker processes on this machine. They end when this process does, however it ends.

    Args:
        job: of the workers.
        size: how many.
    """

    def __init__(self, job: Job, size: int) -> None:
        self._job, self.size = job, size
        self._context = multiprocessing.get_context("spawn")
        # With fewer workers than CPUs another program, or another run, may have bound itself too.
        self._bound = size >= len(os.sched_getaffinity(0)) if _CAN_BIND else False
        self._workers = [self._start(index) for index in range(size)]

    def _start(self, index: int) -> tuple[Any, Connection]:
        ours, theirs = self._context.Pipe()
        cpu = index if self._bound else None
        process = self._context.Process(target=_serve, args=(self._job, theirs, cpu), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def ask(self, index: int, request: Plain) -> None:
        """See `Pool`."""
        # One that died idle has a closed pipe, which `take` meets.
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
        """See `Pool`. A worker leaves nothing behind, wherever it is: its policy ends with it."""
        for process, pipe in self._workers:
            pipe.close()
            process.terminate()
        for process, _ in self._workers:
            process.join()


class Actors:
    """Workers as actors on a Ray cluster, one CPU each.

    Args:
        job: of the workers.
        size: how many; those that find no free CPU wait for one.
        address: of the cluster, as for `ray.init`.

    Raises:
        ValueError: Ray is not installed.
        ConnectionError: there is no cluster at that address.
    """

    def __init__(self, job: Job, size: int, address: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise ValueError('--ray-address needs Ray: pip install "vnl_envs[ray]"') from None
        # Any: its own types know neither remote calls nor the level by name.
        self._ray: Any = ray
        self.size = size
        self._ray.init(address, log_to_driver=False, logging_level="error")
        self._kind = self._ray.remote(num_cpus=1, max_restarts=0)(Worker)
        # Once through the object store, not once for each actor.
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
            # It may be out of reach only.
            self._ray.kill(self._actors[index])
            self._actors[index] = self._kind.remote(self._job)
            return index, None

    def close(self) -> None:
        """See `Pool`; and leave the cluster."""
        # Those that are idle leave nothing behind.
        self._ray.wait([a.close.remote() for a in self._actors], num_returns=self.size, timeout=5)
        for actor in self._actors:
            self._ray.kill(actor)
        self._ray.shutdown()


def _serve(job: Job, pipe: Connection, cpu: int | None) -> None:
    """Answer requests until the other end of the pipe is closed, or the one who asks has ended.

    Args:
        job: of the run.
        pipe: of requests and answers.
        cpu: number of the CPU to stay on with the policy; None for any.
    """
    # Ctrl-C reaches every process of the terminal; who asks decides what it means.
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
    """End this process when the one that started it ends, however that does."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _answer(message: bytes) -> Plain:
    answer: Plain = json.loads(message)
    if "problems" in answer:
        raise ScoringError([Problem(Code(c), where, what) for c, where, what in answer["problems"]])
    return answer


def answers(pool: Pool, following: Callable[[int], Plain | None]) -> Iterator[tuple[Plain, Plain]]:
    """Requests and their answers as they come, until there are none.

    A request at which a worker dies is made again, `LIVES` times in all.

    Args:
        pool: at rest.
        following: the next request for a worker, given its number; None for no more.

    Raises:
        ScoringError: what went wrong in a worker; or workers die of a request.
    """
    asked: dict[int, tuple[Plain, int]] = {}

    def ask(index: int, request: Plain | None, life: int = 1) -> None:
        if request is not None:
            asked[index] = request, life
            pool.ask(index, request)

    for index in range(pool.size):
        ask(index, following(index))
    while asked:
        index, answer = pool.take()
        if index not in asked:
            continue
        request, life = asked.pop(index)
        if answer is not None:
            # First: the worker goes on while its answer is being looked at.
            ask(index, following(index))
            yield request, answer
        elif life < LIVES:
            ask(index, request, life + 1)
        else:
            raise problem(Code.INTERNAL, json.dumps(request), f"{LIVES} workers ended during it")
