"""A process of a vector environment, which steps a block and writes into shared memory.

`workers.py` starts it. It ends with the process that started it, which closes its pipe in any case.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import struct
import traceback
from dataclasses import dataclass
from typing import Any

import cloudpickle
from gymnasium.vector import AutoresetMode

from vnl_envs.envs.block import Block
from vnl_envs.envs.core import Rows
from vnl_envs.envs.gym_core import GymCore
from vnl_envs.envs.processes.shared_memory import Layout, Memory, Parcel

MESSAGE = struct.Struct("<qqq")
"""A message: number of the exchange, request or status, and a value. Pipes write it atomically, so
that an interruption never leaves half a message."""

PING, BEGIN, STEP, OBSERVE, CALL = range(5)
"""Requests. PING does nothing. BEGIN starts, with the size of a `Plan` in the mailbox. STEP steps
and writes observations into a slot, OBSERVE only writes them. CALL calls a method of the block,
with the size of its name and arguments in the mailbox."""

FORWARDED = (PING, STEP, OBSERVE)
"""Requests to all processes: each process forwards them to two others before it handles them."""

DONE, FAILED = range(2)
"""Status of an exchange, with the size of the result or of the error in the mailbox."""

ACTION, OVER, NUMBERS, FLAGS, ENDED = "action", "over", "numbers", "flags", "ended"
FINAL = "final/"
"""Names in the fixed layout. FINAL is the prefix for parts of observations."""


@dataclass(frozen=True)
class Plan:
    """The settings of a worker.

    Attributes:
        task: places of the pickled task in its memory, see `Parcel`.
        rows: first of the worker's simulations, and the one after its last.
        threads, vision, mode, limit: arguments of its core and block.
        fixed: layout of the data exchanged at every step, rows of all simulations.
        slot: layout of the observations of all simulations in a slot.
        slots: number of slots, which follow `fixed` in memory.
    """

    task: list[tuple[int, int]]
    rows: tuple[int, int]
    threads: int
    vision: bool
    mode: AutoresetMode
    limit: int | None
    fixed: Layout
    slot: Layout
    slots: int


class Worker:
    """Handles requests.

    Args:
        mailbox: memory for data that is not exchanged at every step.
        memory: memory of the arrays.
        task: memory of the pickled task.
    """

    _gym: GymCore
    _block: Block

    def __init__(self, mailbox: Memory, memory: Memory, task: Memory) -> None:
        self._mailbox, self._memory, self._task = mailbox, memory, task

    def answer(self, kind: int, value: int) -> tuple[int, int]:
        """Handle a request, and return the status and the size of the data in the mailbox."""
        try:
            result = self._answer(kind, value)
        except Exception as error:
            return FAILED, self._mailbox.write(cloudpickle.dumps(_described(error)))
        if kind != CALL:
            return DONE, 0
        return DONE, self._mailbox.write(cloudpickle.dumps(result))

    def _answer(self, kind: int, value: int) -> Any:
        if kind == PING:
            return None
        if kind == BEGIN:
            return self._begin(pickle.loads(self._mailbox.read(value)))
        if kind == CALL:
            name, arguments = pickle.loads(self._mailbox.read(value))
            return getattr(self._block, name)(*arguments)
        if kind == STEP:
            self._step()
        for name, part in self._gym.parts().items():
            self._slots[value][name][:] = part
        return None

    def _begin(self, plan: Plan) -> None:
        task = Parcel.open(self._task, plan.task)
        first, last = plan.rows
        gym = GymCore(task, last - first, plan.threads, plan.vision)
        self._gym, self._block = gym, Block(gym, plan.mode, plan.limit)
        mapped = self._memory.mapped(plan.fixed.nbytes + plan.slots * plan.slot.nbytes)

        def own(layout: Layout, start: int) -> Rows:
            return {name: rows[first:last] for name, rows in layout.arrays(mapped, start).items()}

        self._fixed = own(plan.fixed, 0)
        starts = (plan.fixed.nbytes + i * plan.slot.nbytes for i in range(plan.slots))
        self._slots = [own(plan.slot, start) for start in starts]

    def _step(self) -> None:
        fixed = self._fixed
        results = self._block.step(fixed[ACTION].copy(), fixed[OVER].copy())
        fixed[NUMBERS][:], fixed[FLAGS][:] = results.numbers, results.flags
        fixed[ENDED][:] = False
        fixed[ENDED][results.ended] = True
        for name, part in results.final.items():
            fixed[FINAL + name][results.ended] = part

    def close(self) -> None:
        """Free the renderers."""
        if hasattr(self, "_block"):
            self._block.close()


def serve(requests: int, replies: int, mailbox: int, memory: int, task: int, *others: int) -> None:
    """Handle requests until their pipe is closed.

    Args:
        requests, replies: descriptors of pipes.
        mailbox, memory, task: descriptors of files.
        others: descriptors of pipes to the processes to which requests are forwarded.
    """
    # The process that started this one handles Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = Worker(Memory(mailbox), Memory(memory), Memory(task))
    with contextlib.suppress(BrokenPipeError):
        while message := os.read(requests, MESSAGE.size):
            number, kind, value = MESSAGE.unpack(message)
            for other in others if kind in FORWARDED else ():
                # The process that waits for the answers notices if another one has ended.
                with contextlib.suppress(BrokenPipeError):
                    os.write(other, message)
            os.write(replies, MESSAGE.pack(number, *worker.answer(kind, value)))


def _described(error: Exception) -> tuple[Exception, str]:
    """An error that can be pickled, and its traceback."""
    text = traceback.format_exc()
    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return error, text
