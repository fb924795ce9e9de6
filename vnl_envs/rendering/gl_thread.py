"""The one thread of a process in which OpenGL is used.

A context can be used and freed only in the thread where it is current: in others OSMesa crashes,
and EGL refuses or leaks. So every object that owns a context is a `Resident` of this thread. It is
made, used and freed there, whichever thread uses or drops it, and at the latest when Python ends.

A fork copies contexts without the threads that drivers need. A child never uses its parent's
contexts, but makes its own. If the driver does not allow that, drawing is an error.
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
"""Longest time that Python's exit waits for a picture in progress, s."""


class Resident(Generic[T]):
    """An object that owns a context and lives in the drawing thread.

    Args:
        make: function that makes the object, in the drawing thread. It is called at once, and again
            when the object is used after a fork or after `close`. It must not refer to the owner of
            this `Resident`, which would then never be freed.
        free: function that frees the object, in the drawing thread.

    Raises:
        RuntimeError: this is a forked child that the driver does not survive, or Python is ending.
    """

    def __init__(self, make: Callable[[], T], free: Callable[[T], None]) -> None:
        self._make, self._free = make, free
        self._key = 0
        call(self._find)

    def use(self, function: Callable[[T], R]) -> R:
        """The result of a function of the object."""
        return call(lambda: function(self._find()))

    def close(self) -> None:
        """Free the object soon, without waiting. Any thread and any destructor may call this."""
        self._finalizer()

    def _find(self) -> T:
        thread = _thread_of_process()
        if self._key not in thread.residents:
            _check_inheritance()
            self._key = thread.keep(self._make(), self._free)
            self._finalizer = weakref.finalize(self, thread.release, self._key)
            # `_end` frees the objects that remain when Python ends.
            self._finalizer.atexit = False
        return thread.residents[self._key][0]


def call(function: Callable[[], R]) -> R:
    """Run a function in the drawing thread; return its result or raise its exception."""
    return _thread_of_process().call(function)


class _Thread:
    """A thread that runs one job after the other.

    Attributes:
        pid: id of the process that has the thread.
        residents: key -> object that lives in the thread, and the function that frees it.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.residents: dict[int, tuple[Any, Callable[[Any], None]]] = {}
        self._ending = False
        # A reentrant queue: a destructor may call `put` during another `put`.
        self._jobs: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="vnl_envs drawing", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], R]) -> R:
        """See the function `call`. A job may itself call this."""
        if threading.get_ident() == self._thread.ident:
            return function()
        reply: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._jobs.put((function, reply))
        try:
            result, error = reply.get()
        except BaseException:
            # After an interruption: the state must not change before the picture is finished.
            reply.get()
            raise
        if error is None:
            return result
        try:
            raise error
        finally:
            # Its traceback refers to this frame, which refers to the error.
            del error

    def keep(self, resident: Any, free: Callable[[Any], None]) -> int:
        """Add a resident; return its key."""
        key = next(_keys)
        self.residents[key] = resident, free
        _now_drawing()
        return key

    def release(self, key: int) -> None:
        """Free a resident after the earlier jobs, unless it belongs to a parent process."""
        if os.getpid() == self.pid and not self._ending:
            self._jobs.put((lambda: self._free(key), None))

    def end(self) -> None:
        """Free all residents and refuse later jobs."""
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

    # A separate function, so that its variables are freed with this job and not with the next one.
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
    """Free the variables in an error's frames, such as a half-made context, in this thread."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


_thread: _Thread | None = None
_keys = itertools.count(1)
"""Keys are never used twice, not even by a child after its parent."""
_idle = threading.RLock()
"""Lock that is held while a job runs, while the thread is started, and during a fork."""
_drawn = False
"""Whether this process or one that it was forked from has made a context."""
_survives = False
"""Whether the driver works in a forked child."""
_forked = False
"""Whether this process is a forked child of one that had drawn."""


def _thread_of_process() -> _Thread:
    """The drawing thread, started at the first call; a forked child has its own."""
    global _thread
    if _thread is None or _thread.pid != os.getpid():
        with _idle:
            if _thread is None or _thread.pid != os.getpid():
                _thread = _Thread()
    return _thread


def _now_drawing() -> None:
    """Record that there is a context, for forks and for the end of Python."""
    global _drawn, _survives
    if not _drawn:
        _drawn, _survives = True, survives_fork()
    # Exit functions run in reverse order: this one must run before those of the OpenGL libraries.
    atexit.unregister(_end)
    atexit.register(_end)


def _check_inheritance() -> None:
    """Raise RuntimeError in a forked child that the driver does not survive."""
    if _forked and not _survives:
        raise RuntimeError(INHERITED)


def _end() -> None:
    """Free every context, before the OpenGL libraries are unloaded."""
    if _thread is not None and _thread.pid == os.getpid():
        _thread.end()


def _after_fork_in_child() -> None:
    """Make sure that this child never frees its parent's contexts."""
    global _idle, _forked
    _idle = threading.RLock()
    if not _drawn:
        return
    _forked = True
    # This reference keeps the parent's thread object from being freed, even when Python ends.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_thread))
    egl = sys.modules.get("mujoco.egl")
    if egl is not None:
        atexit.unregister(egl.EGL.eglTerminate)
    # At the end of a process the drivers' clean-up waits for threads that only the parent has.
    if hasattr(_LIBC, "on_exit"):
        _LIBC.on_exit(_LIBC._exit, None)


if hasattr(os, "register_at_fork"):
    _LIBC = ctypes.CDLL(None)
    # A fork during a job would copy locked locks of the driver.
    os.register_at_fork(
        before=lambda: _idle.acquire(),
        after_in_parent=lambda: _idle.release(),
        after_in_child=_after_fork_in_child,
    )
