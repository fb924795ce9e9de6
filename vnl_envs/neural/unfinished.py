"""Files that are written in parts and can be resumed, and processes for that work."""

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
    """A file that becomes `out` at the end of the context. Its attribute "done" is the progress.

    After an interruption it stays beside `out`, and a later call with the same key opens it again.
    A `NeuralError` removes it.

    Args:
        out: file to write.
        doing: part of the unfinished file's name.
        key: identity of the work; a file with another key is not resumed.
        create: function that fills a new file.
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
    """The file of an interrupted call with the same key, or a new file."""
    try:
        file = h5py.File(partial, "r+")
        if file.attrs.get("key") == key and "done" in file.attrs:
            return file
        file.close()
    except OSError:
        # There is no file, or its process was killed while writing.
        pass
    partial.unlink(missing_ok=True)
    file = h5py.File(partial, "w")
    create(file)
    file.attrs.update(key=key, done=0)
    return file


def mark_done(file: h5py.File, done: int) -> None:
    """Store the progress of a file. An interruption loses later data."""
    # First the data, so that they are complete up to the stored progress.
    file.flush()
    file.attrs["done"] = done
    file.flush()


@contextlib.contextmanager
def quiet_processes(workers: int) -> Iterator[concurrent.futures.Executor]:
    """A pool of new processes. They ignore Ctrl-C, which only the calling process handles."""
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, context, signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
