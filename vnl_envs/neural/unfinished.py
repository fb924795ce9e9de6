"""Files that are written part by part, and go on where they were stopped; processes that do it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py

from vnl_envs.neural.errors import NeuralError


@contextlib.contextmanager
def unfinished(
    out: Path, doing: str, key: str, create: Callable[[h5py.File], None]
) -> Iterator[h5py.File]:
    """The file that becomes `out` at the end of the block, with the attribute "done".

    It stays beside `out` after an interruption, and is opened again under the same key. A
    `NeuralError` removes it.

    Args:
        out: file to write.
        doing: part of the unfinished file's name.
        key: what must be the same for it to go on.
        create: fills a new file.
    """
    partial = out.with_name(f".{out.stem}.{doing}{out.suffix}")
    try:
        with _begun(partial, key, create) as file:
            yield file
            for name in ("key", "done"):
                del file.attrs[name]
    except NeuralError:
        partial.unlink(missing_ok=True)
        raise
    os.replace(partial, out)


def _begun(partial: Path, key: str, create: Callable[[h5py.File], None]) -> h5py.File:
    """The file of an interrupted call of the same key, or a new one."""
    try:
        file = h5py.File(partial, "r+")
        if file.attrs.get("key") == key and "done" in file.attrs:
            return file
        file.close()
    except OSError:
        # None, or one that was killed while it was written.
        pass
    partial.unlink(missing_ok=True)
    file = h5py.File(partial, "w")
    create(file)
    file.attrs.update(key=key, done=0)
    return file


def mark_done(file: h5py.File, done: int) -> None:
    """Note how far a file is written. An interruption loses what comes after."""
    # What was written before is whole.
    file.flush()
    file.attrs["done"] = done
    file.flush()


@contextlib.contextmanager
def quiet_processes(workers: int) -> Iterator[concurrent.futures.Executor]:
    """Fresh processes; an interruption is for the one that hands out the work."""
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, context, signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
