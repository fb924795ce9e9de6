"""A process of a vector environment: it steps its block and writes into memory that all see.

Started by `workers.py`. It ends with the process that started it, however that ends: its pipe is
closed then.
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
"""Number of an exchange, what is asked or how it went, and a value. Pipes take it as a whole, so
that no interruption leaves half of one behind."""

PING, BEGIN, STEP, OBSERVE, CALL = range(5)
"""What is asked. Nothing; to begin, with the size of a `Plan` in the mailbox; a step and then, or
only, the observations, into a slot; a method of the block, with the size of its name and arguments
in the mailbox."""

FORWARDED = (PING, STEP, OBSERVE)
"""What is asked of all: each process asks two others before it does it itself."""

DONE, FAILED = range(2)
"""How it went, with the size of the result or of the error in the mailbox."""

ACTION, OVER, NUMBERS, FLAGS, ENDED = "action", "over", "numbers", "flags", "ended"
FINAL = "final/"
"""Names in the fixed layout; the last one before those of the parts of observations."""


@dataclass(frozen=True)
class Plan:
    """What a worker is to do.

    Attributes:
        task: where the task lies in its memory, see `Parcel`.
        rows: first and last of its simulations.
        threads, vision, mode, limit: of its core and block.
        fixed: what goes to and fro at every step, rows of all simulations.
        slot: observations of all simulations; there are `slots` of them, after `fixed`.
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
    """Does what is asked.

    Args:
        mailbox: what does not come with every step lies in it.
        memory: of the arrays.
        task: the task's memory.
    """

    _gym: GymCore
    _block: Block

    def __init__(self, mailbox: Memory, memory: Memory, task: Memory) -> None:
        self._mailbox, self._memory, self._task = mailbox, memory, task

    def answer(self, kind: int, value: int) -> tuple[int, int]:
        """Do what is asked; return how it went and the size of what is in the mailbox."""
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
        """Free the pictures' memory."""
        if hasattr(self, "_block"):
            self._block.close()


def serve(requests: int, replies: int, mailbox: int, memory: int, task: int, *others: int) -> None:
    """Answer until there is nobody who asks.

    Args:
        requests, replies: open ends of pipes.
        mailbox, memory, task: open files.
        others: the open ends of pipes to those that are asked from here.
    """
    # Ctrl-C is the business of the process that waits.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = Worker(Memory(mailbox), Memory(memory), Memory(task))
    with contextlib.suppress(BrokenPipeError):
        while message := os.read(requests, MESSAGE.size):
            number, kind, value = MESSAGE.unpack(message)
            for other in others if kind in FORWARDED else ():
                # Of one that has ended, who asks will hear.
                with contextlib.suppress(BrokenPipeError):
                    os.write(other, message)
            os.write(replies, MESSAGE.pack(number, *worker.answer(kind, value)))


def _described(error: Exception) -> tuple[Exception, str]:
    """An error that can be sent, and where it came from."""
    where = traceback.format_exc()
    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return error, where
