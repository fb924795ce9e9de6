"""The one thread of a process in which OpenGL is used.

A context works, and may be freed, only in the thread where it is current: elsewhere OSMesa crashes
and EGL refuses or leaks. So whatever owns one is a `Resident` of this thread: made, used and freed
in it, whichever thread asks, wherever it is forgotten, and at the latest when Python ends.

A fork copies contexts without the threads that drivers count on. What a parent has drawn with is
never touched in its child, which makes its own; where the driver cannot, it is refused at once.
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import os
import queue
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from vnl_envs.utils.opengl import survives_fork

T = TypeVar("T")
R = TypeVar("R")

INHERITED = (
    "this process was forked from one that had drawn, which its OpenGL driver does not survive: "
    "start processes by 'spawn' or 'forkserver', or draw in the children only "
    "(Mesa's software driver survives it with LP_NUM_THREADS=0)"
)
_PATIENCE = 10.0
"""How long the end of Python waits for a picture under way, s."""


class Resident(Generic[T]):
    """Something that owns a context and lives in the drawing thread.

    Args:
        make: makes it, in the drawing thread; at once, and again where it is used after a fork or
            after `close`. It must know nothing of who holds this.
        free: frees it, in the drawing thread.

    Raises:
        RuntimeError: in a forked child that the driver does not survive, or as Python ends.
    """

    def __init__(self, make: Callable[[], T], free: Callable[[T], None]) -> None:
        self._make, self._free = make, free
        self._key = 0
        call(self._find)

    def use(self, function: Callable[[T], R]) -> R:
        """The result of a function of it."""
        return call(lambda: function(self._find()))

    def close(self) -> None:
        """Free it soon; from anywhere, a destructor included, and without waiting."""
        self._finalizer()

    def _find(self) -> T:
        thread = _thread_of_process()
        if self._key not in thread.residents:
            _check_inheritance()
            self._key = thread.keep(self._make(), self._free)
            self._finalizer = weakref.finalize(self, thread.release, self._key)
            # What is left when Python ends is freed by `_end`.
            self._finalizer.atexit = False
        return thread.residents[self._key][0]


def call(function: Callable[[], R]) -> R:
    """The result of a function that is run in the drawing thread, or its exception."""
    return _thread_of_process().call(function)


class _Thread:
    """A thread that runs one job after the other.

    Attributes:
        pid: of the process that has the thread.
        residents: key -> what lives in the thread, and what frees it.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.residents: dict[int, tuple[Any, Callable[[Any], None]]] = {}
        self._ending = False
        # Its `put` may be called in the midst of itself, as by a destructor.
        self._jobs: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="vnl_envs drawing", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], R]) -> R:
        """See `call`; a job may call for another."""
        if threading.get_ident() == self._thread.ident:
            return function()
        reply: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._jobs.put((function, reply))
        try:
            result, error = reply.get()
        except BaseException:
            # Interrupted: what is being drawn must not change before it is done.
            reply.get()
            raise
        if error is None:
            return result
        try:
            raise error
        finally:
            # Its traceback knows this frame.
            del error

    def keep(self, resident: Any, free: Callable[[Any], None]) -> int:
        """Its key among the residents."""
        key = next(_keys)
        self.residents[key] = resident, free
        _now_drawing()
        return key

    def release(self, key: int) -> None:
        """Free a resident, after the jobs before it; none of a parent's."""
        if os.getpid() == self.pid and not self._ending:
            self._jobs.put((lambda: self._free(key), None))

    def end(self) -> None:
        """Free all residents, and refuse every later job."""
        reply: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._jobs.put((self._free_all, reply))
        try:
            reply.get(timeout=_PATIENCE)
        except queue.Empty:
            self._ending = True

    def _free_all(self) -> None:
        self._ending = True
        while self.residents:
            self._free(next(iter(self.residents)))

    def _free(self, key: int) -> None:
        resident, free = self.residents.pop(key)
        free(resident)

    def _work(self) -> None:
        while True:
            self._run(*self._jobs.get())

    # A function of its own: its variables die with the job, here, and not with the next one.
    def _run(self, function: Callable[[], Any], reply: Any) -> None:
        result, failure = None, None
        with _idle:
            try:
                if self._ending:
                    raise RuntimeError("nothing can be drawn any more: Python is ending")
                result = function()
            except BaseException as error:
                _forget_frames(error)
                failure = error
        if reply is not None:
            reply.put((result, failure))
        elif failure is not None and not self._ending:
            sys.excepthook(type(failure), failure, failure.__traceback__)


def _forget_frames(error: BaseException | None) -> None:
    """Let go of what the frames behind an error hold, perhaps half a context, in this thread."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


_thread: _Thread | None = None
_keys = itertools.count(1)
"""Never used twice, by a child after its parent neither."""
_idle = threading.RLock()
"""Held while a job runs, and by who starts the thread or forks."""
_drawn = False
"""Whether this process, or one that it was forked from, has made a context."""
_survives = False
"""Whether its driver works in a forked child."""
_forked = False
"""Whether it is such a child."""


def _thread_of_process() -> _Thread:
    """The drawing thread, started when first asked for; a forked child has its own."""
    global _thread
    if _thread is None or _thread.pid != os.getpid():
        with _idle:
            if _thread is None or _thread.pid != os.getpid():
                _thread = _Thread()
    return _thread


def _now_drawing() -> None:
    """Note that there is a context: for forks, and for the end of Python."""
    global _drawn, _survives
    if not _drawn:
        _drawn, _survives = True, survives_fork()
    # The last to be registered is called first: before OpenGL's libraries take their leave.
    atexit.unregister(_end)
    atexit.register(_end)


def _check_inheritance() -> None:
    """Raise RuntimeError in a forked child that the driver does not survive."""
    if _forked and not _survives:
        raise RuntimeError(INHERITED)


def _end() -> None:
    """Free every context before OpenGL's libraries are."""
    if _thread is not None and _thread.pid == os.getpid():
        _thread.end()


def _after_fork_in_child() -> None:
    """Leave to the parent what is its own, for good."""
    global _idle, _forked
    _idle = threading.RLock()
    if not _drawn:
        return
    _forked = True
    # Never freed, not even when Python ends.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_thread))
    egl = sys.modules.get("mujoco.egl")
    if egl is not None:
        atexit.unregister(egl.EGL.eglTerminate)
    # Drivers' own clean-up at the end of a process waits for threads that only the parent has.
    if hasattr(_LIBC, "on_exit"):
        _LIBC.on_exit(_LIBC._exit, None)


if hasattr(os, "register_at_fork"):
    _LIBC = ctypes.CDLL(None)
    # A fork in the midst of a job would copy locks of the driver that are never opened.
    os.register_at_fork(
        before=lambda: _idle.acquire(),
        after_in_parent=lambda: _idle.release(),
        after_in_child=_after_fork_in_child,
    )
