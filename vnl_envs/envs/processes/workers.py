"""The simulations of a vector environment in several processes, each of which steps a block.

A step sends a message of a few bytes to each process and back. Actions and results are in shared
memory. Processes are spawned, not forked: a fork would copy locks of threads, and contexts of
OpenGL, CUDA and JAX. They run a program of their own instead of the user's, so that scripts need no
`if __name__ == "__main__"`. The task is sent to them, so that they need no registration.
"""

from __future__ import annotations

import itertools
import os
import pickle
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cloudpickle
import gymnasium
import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode

from vnl_envs.envs import block
from vnl_envs.envs.block import Results
from vnl_envs.envs.core import Rows
from vnl_envs.envs.gym_core import GymCore
from vnl_envs.envs.processes.process import LocalWorker, WorkerProcess, end
from vnl_envs.envs.processes.shared_memory import Field, Layout, Memory, Parcel
from vnl_envs.envs.processes.worker import (
    ACTION,
    BEGIN,
    CALL,
    ENDED,
    FAILED,
    FINAL,
    FLAGS,
    FORWARDED,
    NUMBERS,
    OBSERVE,
    OVER,
    PING,
    STEP,
    Plan,
)
from vnl_envs.utils import checks

SLOTS = 3
"""Number of slots for observations. A step writes into a slot whose arrays nobody holds any more,
and these are handed out without a copy: users hold those of a step or two. The last slot is never
handed out, but copied."""

# Least number of simulations per process: with fewer, threads are faster, see docs/speed.md.
_LEAST = 64


class Workers:
    """The interface of `Block` over several processes, including this one.

    Args:
        gym: core of the task with spaces; it is not stepped.
        num: number of simulations.
        processes: number of processes among which the simulations are divided.
        threads: number of threads of each process; 0 divides the CPUs among them.
        mode, limit: see `Block`.

    Raises:
        ValueError: there are more processes than simulations, or the system is not POSIX.
        TypeError: the task cannot be pickled.
    """

    def __init__(
        self,
        gym: GymCore,
        num: int,
        processes: int,
        threads: int,
        mode: AutoresetMode,
        limit: int | None = None,
    ) -> None:
        if os.name != "posix":
            raise ValueError("processes of a vector environment need Linux or macOS")
        if processes > num:
            raise ValueError(f"processes must be at most num_envs = {num}, got {processes}")
        edges = np.linspace(0, num, processes + 1).astype(int).tolist()
        self._rows = list(itertools.pairwise(edges))
        parcel = _parcel(gym)
        self._task = parcel.memory
        self._fixed_layout, self._slot_layout = _layouts(gym, num)
        threads = threads or max(1, cpus() // processes)
        self._plans = [
            Plan(
                parcel.places,
                rows,
                threads,
                gym.vision,
                mode,
                limit,
                self._fixed_layout,
                self._slot_layout,
                SLOTS,
            )
            for rows in self._rows
        ]
        # The workers' state during a fork, and in the child until it starts its own workers.
        self._kept: dict[str, Any] | None = None
        self._start()
        _ALL.add(self)

    def _start(self) -> None:
        """Start the processes, with new memory."""
        memory = Memory()
        first, size = self._fixed_layout.nbytes, self._slot_layout.nbytes
        self._slots = [first + i * size for i in range(SLOTS)]
        self._mapped = memory.mapped(first + SLOTS * size)
        self._fixed = self._fixed_layout.arrays(self._mapped)
        # References to the arrays handed out in each slot but the last; None if nobody holds them.
        self._held: list[Callable[[], Any]] = [_nothing] * (SLOTS - 1)
        # The slot of the current observations, if they have been written.
        self._current: int | None = None
        # The number of the last exchange, and whether all processes have answered in it.
        self._number, self._settled = 0, True
        self._gone = ""
        self._processes: list[LocalWorker | WorkerProcess] = []
        self._end = weakref.finalize(self, end, self._processes, self._task, os.getpid())
        try:
            self._add_processes(memory)
            self._ask(BEGIN, dict(enumerate(self._plans)))
        except BaseException:
            self.close()
            raise
        finally:
            memory.close()

    def _add_processes(self, memory: Memory) -> None:
        """Start the processes. Number i forwards to 2i + 1 and 2i + 2, so that none asks all."""
        others: dict[int, WorkerProcess] = {}
        self._processes.append(LocalWorker(memory, self._task))
        for i in range(len(self._rows) - 1, 0, -1):
            others[i] = WorkerProcess(
                memory, self._task, [others[k] for k in _asked_by(i) if k in others]
            )
            self._processes.insert(1, others[i])

    def reset(self, ids: np.ndarray, seeds: Sequence[int | None], episode: Rows | None) -> None:
        """See `Block.reset`."""
        asked = {}
        for i, (first, last) in enumerate(self._rows):
            of = slice(*np.searchsorted(ids, (first, last)))
            if len(ids[of]):
                asked[i] = ids[of] - first, seeds[of], _cut(episode, of)
        self._call("reset", asked)

    def step(self, actions: np.ndarray, over: np.ndarray) -> Results:
        """See `Block.step`."""
        self._prepare()
        fixed, slot = self._fixed, self._free_slot()
        fixed[ACTION][:], fixed[OVER][:] = actions, over
        self._exchange(STEP, dict.fromkeys(range(len(self._processes)), slot))
        self._current = slot
        ended = np.flatnonzero(fixed[ENDED])
        final = {part: fixed[FINAL + part][ended] for part in self._slot_layout.names}
        return Results(fixed[NUMBERS], fixed[FLAGS], final, ended)

    def observe(self) -> Rows:
        """See `Block.observe`. The arrays' memory is reused when nobody holds them."""
        if self._current is None:
            self._prepare()
            slot = self._free_slot()
            self._exchange(OBSERVE, dict.fromkeys(range(len(self._processes)), slot))
            self._current = slot
        slot, self._current = self._current, None
        memory = np.ndarray(self._slot_layout.nbytes, np.uint8, self._mapped, self._slots[slot])
        parts = self._slot_layout.arrays(memory)
        if slot == SLOTS - 1:
            return {name: part.copy() for name, part in parts.items()}
        self._held[slot] = weakref.ref(memory)
        return parts

    def _free_slot(self) -> int:
        return next((i for i, held in enumerate(self._held) if held() is None), SLOTS - 1)

    def episodes(self) -> Rows:
        """See `Block.episodes`."""
        return self._all("episodes")

    def carries(self) -> Rows:
        """See `Block.carries`."""
        return self._all("carries")

    def generators(self) -> list[tuple[np.random.Generator, int]]:
        """Copies of the generators; see `Block.generators`."""
        return self._all("generators")

    def data(self, index: int) -> mujoco.MjData:
        """See `Block.data`."""
        (i,) = (i for i, (first, last) in enumerate(self._rows) if first <= index < last)
        (data,) = self._call("data", {i: (index - self._rows[i][0],)})
        return data

    def draw(self, width: int, height: int) -> list[np.ndarray]:
        """See `Block.draw`."""
        return self._all("draw", width, height)

    def get_state(self) -> dict[str, Any]:
        """See `Block.get_state`."""
        return self._all("get_state")

    def set_state(self, state: dict[str, Any]) -> None:
        """See `Block.set_state`."""
        parts = {i: (_cut(state, slice(*rows)),) for i, rows in enumerate(self._rows)}
        self._call("set_state", parts)

    def check_open(self) -> None:
        """See `Block.check_open`.

        Raises:
            gymnasium.error.ClosedEnvironmentError: the processes have ended.
        """
        if self._gone:
            raise gymnasium.error.ClosedEnvironmentError(self._gone)

    def close(self) -> None:
        """End the processes."""
        self._gone = self._gone or "this environment was closed: make a new one"
        self._kept = None
        self._end()

    def _all(self, method: str, *arguments: Any) -> Any:
        """The concatenated results of a method of all blocks."""
        return _joined(self._call(method, dict.fromkeys(range(len(self._rows)), arguments)))

    def _call(self, method: str, arguments: Mapping[int, tuple[Any, ...]]) -> list[Any]:
        """The results of a method of some blocks; the keys are the blocks' numbers."""
        return self._ask(CALL, {i: (method, given) for i, given in arguments.items()})

    def _ask(self, kind: int, contents: Mapping[int, Any]) -> list[Any]:
        """Send requests with contents to some processes, and return their results."""
        self._prepare()
        self._current = None
        boxes = {i: self._processes[i].mailbox for i in contents}
        sizes = {i: boxes[i].write(cloudpickle.dumps(value)) for i, value in contents.items()}
        answers = self._exchange(kind, sizes)
        return [pickle.loads(boxes[i].read(size)) if size else None for i, size in answers.items()]

    def _prepare(self) -> None:
        """Make sure that the processes run and wait for requests."""
        if self._kept is not None:
            state, self._kept = self._kept, None
            self._start()
            self.set_state(state)
        self.check_open()
        if not self._settled:
            # An exchange was interrupted, as by Ctrl-C.
            self._exchange(PING, dict.fromkeys(range(len(self._processes)), 0))

    def _exchange(self, kind: int, values: Mapping[int, int]) -> dict[int, int]:
        """Send a request to some processes at the same time, and return their answers' sizes.

        Forwarded requests go to all processes, with one value.

        Raises:
            RuntimeError: a process has ended.
        """
        self._current, self._settled = None, False
        self._number += 1
        answers = {}
        i = 0
        try:
            for i in (0, *_asked_by(0)) if kind in FORWARDED else values:
                if i in values:
                    self._processes[i].post(self._number, kind, values[i])
            for i in values:
                answers[i] = self._processes[i].wait(self._number)
        except EOFError:
            raise self._lost(i) from None
        self._settled = True
        for i, (status, size) in answers.items():
            if status == FAILED:
                error, text = pickle.loads(self._processes[i].mailbox.read(size))
                error.add_note(f"In the process of {self._name(i)}:\n{text}")
                raise error
        return {i: size for i, (_, size) in answers.items()}

    def _lost(self, index: int) -> RuntimeError:
        """End all processes after one has ended, and return the error."""
        self._gone = (
            f"the process of {self._name(index)} {self._processes[index].fate()}; the others were "
            "ended, too: make a new environment"
        )
        self.close()
        return RuntimeError(self._gone)

    def _name(self, index: int) -> str:
        first, last = self._rows[index]
        return f"environments {first} to {last - 1}"

    def before_fork(self) -> None:
        """Keep the workers' state for the child, unless an exchange is under way."""
        if self._settled and not self._gone and self._kept is None:
            self._kept = self.get_state()

    def after_fork(self) -> None:
        """Block the held slots in the parent: the child may hold their arrays for ever."""
        if self._processes:
            self._kept = None
        self._held = [held if held() is None else _somebody for held in self._held]

    def in_child(self) -> None:
        """Drop the processes in the child, as they belong to the parent."""
        self._end.detach()
        for process in self._processes:
            process.forget()
        self._processes = []
        if self._kept is None and not self._gone:
            self._gone = "this process was forked while its environment was stepped: make a new one"


def count(processes: Any, num: int) -> int:
    """The number of processes for `num` simulations; "auto" chooses the fastest number.

    Raises:
        ValueError: `processes` is neither a number of processes nor "auto".
    """
    if processes == "auto":
        return max(1, min(cpus(), num // _LEAST))
    if isinstance(processes, str):
        raise ValueError(f"processes must be an integer of at least 1 or 'auto', got {processes!r}")
    return checks.integer("processes", processes, 1)


def cpus() -> int:
    """Number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _parcel(gym: GymCore) -> Parcel:
    task = gym.core.task
    try:
        return Parcel(task)
    except Exception as error:
        raise TypeError(
            f"processes need a task that can be pickled; {type(task).__name__} cannot: {error}"
        ) from error


def _layouts(gym: GymCore, num: int) -> tuple[Layout, Layout]:
    """The layouts of the data exchanged at every step, and of a slot."""
    core, parts = gym.core, gym.parts()
    numbers = 1 + len(core.task.reward_terms) + len(core.first_figures())
    observed = {name: Field((num, *part.shape[1:]), part.dtype) for name, part in parts.items()}
    fixed = {
        ACTION: Field((num, core.task.body.nu), np.dtype(np.float32)),
        OVER: Field((num,), np.dtype(bool)),
        NUMBERS: Field((num, numbers), np.dtype(np.float64)),
        FLAGS: Field((num, len(block.FLAGS)), np.dtype(bool)),
        ENDED: Field((num,), np.dtype(bool)),
        **{FINAL + name: field for name, field in observed.items()},
    }
    return Layout(fixed), Layout(observed)


def _joined(parts: list[Any]) -> Any:
    """Concatenate rows of several blocks, in nested dictionaries."""
    if isinstance(parts[0], dict):
        return {name: _joined([part[name] for part in parts]) for name in parts[0]}
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [row for part in parts for row in part]


def _cut(rows: Any, of: slice) -> Any:
    """A slice of the rows in nested dictionaries; None stays None."""
    if isinstance(rows, dict):
        return {name: _cut(part, of) for name, part in rows.items()}
    return None if rows is None else rows[of]


def _asked_by(index: int) -> tuple[int, int]:
    """Numbers of the processes to which process `index` forwards requests."""
    return 2 * index + 1, 2 * index + 2


def _nothing() -> None:
    """Reference for a slot whose arrays nobody holds."""


def _somebody() -> bool:
    """Reference for a slot whose arrays may be held for ever."""
    return True


_ALL: weakref.WeakSet[Workers] = weakref.WeakSet()


def _each(method: str) -> Callable[[], None]:
    def call() -> None:
        for workers in list(_ALL):
            getattr(workers, method)()

    return call


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_each("before_fork"),
        after_in_parent=_each("after_fork"),
        after_in_child=_each("in_child"),
    )
