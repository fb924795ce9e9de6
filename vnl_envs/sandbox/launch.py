"""Runs programs that read untrusted bytes in a sandbox.

The program sees the interpreter, the few packages that it needs, the folder `inside` and the given
files, all read-only. It has no network, no other processes, none of the harness's environment
variables and no place to write to. `bubblewrap` makes this view. `confine.py` sets limits and
filters system calls before the program starts. `docs/scoring_isolation.md` says what this protects
against, and what it does not.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from vnl_envs.sandbox import inside
from vnl_envs.sandbox.inside import confine

MEMORY = 1 << 30
"""Address space of a policy, bytes; interpreter, NumPy and ONNX Runtime take 0.15 GB of it."""
CPU = 24 * 3600
"""CPU time of a program, s. It is a backstop: the harness's clock decides."""

# Packages that the server and the check of models import.
_PACKAGES = (
    "numpy",
    "onnxruntime",
    "onnx",
    "google",
    "ml_dtypes",
    "flatbuffers",
    "packaging",
    "typing_extensions",
)
# One thread, for the same bits each time. Since 1.29 ONNX Runtime sends telemetry unless this is
# disabled (its docs/Privacy.md).
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}
_INSIDE = Path(inside.__file__).parent
_TRIAL_SECONDS = 20


@functools.cache
def unavailable_reason() -> str | None:
    """The reason why programs cannot be isolated here, one line; None if they can."""
    if (reason := confine.refusal()) is not None:
        return reason
    if shutil.which("bwrap") is None:
        return "bwrap is not installed (Debian: apt-get install bubblewrap)"
    try:
        done = subprocess.run(
            command([]),
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"bwrap did not start a program within {_TRIAL_SECONDS} s"
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return f"bwrap does not work here: {lines[-1] if lines else f'exit {done.returncode}'}"
    return None


def command(
    argv: Sequence[str | os.PathLike[str] | BinaryIO],
    *,
    memory: int = MEMORY,
    cpu: int = CPU,
    isolated: bool = True,
) -> list[str]:
    """The command line of a confined Python program. Start it with `environment(isolated)`.

    Args:
        argv: either `-m`, a module of `vnl_envs.sandbox.inside` and its arguments, or a script and
            its arguments. Beyond the packages, the program may read only the script and arguments
            that are open files. These arguments become paths inside the sandbox. Such a file may be
            unnamed. It must be at its start, and its descriptor must be passed on (`pass_fds` of
            `subprocess`).
        memory: address space, bytes.
        cpu: CPU time, s.
        isolated: whether to use bwrap; False sets limits only.
    """
    limits = [str(memory), str(cpu)]
    options = ["-S", "-s", "-P", "-B"]
    if not isolated:
        arguments = [_outside(argument) for argument in argv]
        return [sys.executable, *options, confine.__file__, *limits, *arguments]
    binds, arguments = _files(argv)
    return [
        shutil.which("bwrap") or "bwrap",
        *_namespaces(),
        *_view(),
        *binds,
        "--remount-ro",
        "/",
        *_variables(),
        "--",
        f"{_home()}/bin/{_interpreter().name}",
        *options,
        "/packages/vnl_envs/sandbox/inside/confine.py",
        *limits,
        *arguments,
    ]


def environment(isolated: bool = True) -> dict[str, str]:
    """The environment variables for `command`, without any of the harness."""
    if isolated:
        return {}
    return _ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(_folders()))}


def _outside(argument: str | os.PathLike[str] | BinaryIO) -> str:
    """An argument of a program outside the sandbox."""
    if isinstance(argument, str | os.PathLike):
        return os.fspath(argument)
    return f"/dev/fd/{argument.fileno()}"


def _files(
    argv: Sequence[str | os.PathLike[str] | BinaryIO],
) -> tuple[list[str], list[str]]:
    """The options that bind a script and open files, and the arguments with their inside paths."""
    binds: list[str] = []
    arguments: list[str] = []
    for i, argument in enumerate(argv):
        if not isinstance(argument, str | os.PathLike):
            path = f"/files/{i}/{Path(str(argument.name)).name}"
            binds += ["--ro-bind-data", str(argument.fileno()), path]
        elif i == 0 and argument != "-m":
            path = f"/files/{i}/{Path(argument).name}"
            binds += ["--ro-bind", os.fspath(argument), path]
        else:
            path = os.fspath(argument)
        arguments.append(path)
    return binds, arguments


def _namespaces() -> list[str]:
    """Options that share no network, processes, users, host name or IPC with the harness."""
    return [
        "--unshare-all",
        "--unshare-user",
        *("--uid", "65534", "--gid", "65534", "--hostname", "policy"),
        *("--cap-drop", "ALL"),
        "--die-with-parent",
        "--new-session",
    ]


def _view() -> list[str]:
    """Options for the file system of a program: libraries, interpreter and packages, read-only."""
    options: list[str] = []

    def bind(source: Path, path: str) -> None:
        options.extend(("--ro-bind", str(source), path))

    for folder in map(Path, ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")):
        if folder.is_symlink():
            options.extend(("--symlink", os.readlink(folder), str(folder)))
        elif folder.exists():
            bind(folder, str(folder))
    base, home = Path(sys.base_prefix), _home()
    bind(_interpreter(), f"{home}/bin/{_interpreter().name}")
    if home != sys.base_prefix:
        bind(base / "lib", f"{home}/lib")
    installed = Path(sysconfig.get_path("stdlib")) / "site-packages"
    if installed.is_dir() and installed.is_relative_to(base):
        hidden = f"{home}/{installed.relative_to(base)}"
        options.extend(("--tmpfs", hidden, "--remount-ro", hidden))
    for source in _packages():
        bind(source, f"/packages/{source.name}")
    bind(_INSIDE, "/packages/vnl_envs/sandbox/inside")
    return [*options, "--chdir", "/"]


def _variables() -> list[str]:
    inside = _ENVIRONMENT | {
        "PYTHONPATH": "/packages",
        "LD_LIBRARY_PATH": f"{_home()}/lib",
        "HOME": "/",
    }
    options = (("--setenv", name, value) for name, value in inside.items())
    return ["--clearenv", *(word for triple in options for word in triple)]


def _interpreter() -> Path:
    """The interpreter itself, not the link to it in a virtual environment."""
    return Path(sys.executable).resolve()


def _home() -> str:
    """Prefix of the interpreter inside: "/usr" for the system's, "/python" for another one."""
    return "/usr" if sys.base_prefix == "/usr" else "/python"


@functools.cache
def _packages() -> tuple[Path, ...]:
    """Folders and modules of `_PACKAGES` that are installed, and their shared libraries."""
    return tuple(dict.fromkeys(_installed()))


def _installed() -> Iterator[Path]:
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue
        if spec.submodule_search_locations is None:
            assert spec.origin is not None
            yield Path(spec.origin)
            continue
        folder = Path(next(iter(spec.submodule_search_locations)))
        yield folder
        # Folder of the shared libraries that auditwheel adds to a wheel.
        if (libraries := folder.with_name(f"{name}.libs")).is_dir():
            yield libraries


def _folders() -> Iterator[str]:
    """Folders of the packages without a sandbox."""
    yield from (str(source.parent) for source in _packages())
