"""A policy server that has been taken over, run in place of `policy_server.py` in the sandbox.

Its "policy" is a JSON file that names the attack and what it needs to know. An attack that succeeds
answers with the prize, an action that nothing else gives, so that a test sees it in the score; one
that is refused goes on as the honest policy does. Standard library only, as it runs inside.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PRIZE = 0.875
HONEST = 0.25

# What cannot be had, in many forms.
REFUSED = (OSError, RuntimeError, subprocess.SubprocessError)


class Server:
    """Speaks the protocol, more or less."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.sizes = plan["observation"], plan["action"]
        self.won = False
        self.steps = 0
        self.began = 0

    def hello(self, *sizes: int) -> None:
        """Say what a good one says, or other sizes."""
        os.write(1, struct.pack("<5sIII", b"VNLP1", *(sizes or (*self.sizes, 0))))

    def read(self) -> bytes:
        """The next frame; ends the program where there is none."""
        frame = b""
        while len(frame) < 1 + 4 * self.sizes[0]:
            more = os.read(0, 1 + 4 * self.sizes[0] - len(frame))
            if not more:
                sys.exit(0)
            frame += more
        self.steps += 1
        self.began += frame[0]
        return frame

    def answer(self, value: float | None = None, size: int | None = None) -> None:
        """An action of one value, honest or the prize unless given."""
        if value is None:
            value = PRIZE if self.won else HONEST
        size = self.sizes[1] if size is None else size
        os.write(1, struct.pack("<f", value) * size)

    def serve(self) -> None:
        """Go on as an honest one does."""
        while True:
            self.read()
            self.answer()


def attempt(attack: Callable[[Server], Any]) -> Callable[[Server], None]:
    """An attack tried at the start and again at every third step, honest between."""

    def run(server: Server) -> None:
        def once() -> None:
            with contextlib.suppress(*REFUSED):
                server.won = bool(attack(server)) or server.won

        once()
        server.hello()
        while True:
            server.read()
            if server.steps % 3 == 0:
                once()
            server.answer()

    return run


def call(number: int, *arguments: Any) -> bool:
    """Whether a system call (of x86-64 or aarch64, as told) succeeds."""
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.syscall(number, *arguments) >= 0


# --- processes ------------------------------------------------------------------------------------


def fork_bomb(server: Server) -> bool:
    for _ in range(3):
        if os.fork() == 0:
            while True:
                os.fork()
    return True


def thread_bomb(server: Server) -> bool:
    for _ in range(1000):
        threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
    return True


def spawn(server: Server) -> bool:
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return True


def execute(server: Server) -> bool:
    os.execv(sys.executable, [sys.executable, "-c", "import os; os.write(1, b'x' * 99)"])


def execute_others(server: Server) -> bool:
    for program in ("/bin/sh", "/usr/bin/env", "/bin/true"):
        with contextlib.suppress(OSError):
            os.execv(program, [program])
    return False


def kill_parent(server: Server) -> bool:
    for pid in {os.getppid(), server.plan["pid"], 1} - {os.getpid(), 0}:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    os.kill(-1, signal.SIGTERM)
    return server.plan["pid"] == os.getppid()


def trace_parent(server: Server) -> bool:
    attach, number = 16, 101
    if os.uname().machine == "aarch64":
        number = 117
    return any(call(number, attach, pid, 0, 0) for pid in (os.getppid(), server.plan["pid"]))


def raise_limits(server: Server) -> bool:
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):
        try:
            resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        except ValueError as error:
            raise OSError(str(error)) from None
    return True


def namespaces(server: Server) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    user, mount = 0x10000000, 0x00020000
    mounted = libc.mount(b"none", b"/files", b"tmpfs", 0, None) == 0
    return libc.unshare(user | mount) == 0 or mounted


def io_uring(server: Server) -> bool:
    return call(425, 8, ctypes.create_string_buffer(256))


def busy(server: Server) -> bool:
    """Spins before every answer: costs time, gains nothing."""
    end = time.monotonic() + 0.002
    while time.monotonic() < end:
        pass
    return False


# --- memory ---------------------------------------------------------------------------------------


def memory_bomb(server: Server) -> None:
    server.hello()
    server.read()
    try:
        hoard = bytes(8 << 30)
    except MemoryError:
        sys.exit(66)
    server.answer(PRIZE * bool(hoard))


def memory_creep(server: Server) -> None:
    server.hello()
    hoard = []
    try:
        while True:
            server.read()
            hoard.append(b"x" * (1 << 27))
            server.answer()
    except MemoryError:
        sys.exit(66)


def memory_crash(server: Server) -> None:
    """Ends as the kernel ends what takes too much."""
    server.hello()
    server.read()
    os.kill(os.getpid(), signal.SIGKILL)


def hidden_memory(server: Server) -> bool:
    """Memory that no address space limit counts."""
    libc = ctypes.CDLL(None, use_errno=True)
    segment = libc.shmget(0, ctypes.c_size_t(1 << 30), 0o1600)
    if segment >= 0:
        return True
    file = os.memfd_create("hoard")
    os.truncate(file, 1 << 30)
    return True


def anonymous_file(server: Server) -> bool:
    file = os.open("/", os.O_TMPFILE | os.O_RDWR)
    return os.write(file, bytes(1 << 20)) > 0


# --- reading and writing --------------------------------------------------------------------------


def read_secrets(server: Server) -> bool:
    """Whether any file can be read that it was not given."""
    found = False
    for path in server.plan["secrets"]:
        with contextlib.suppress(OSError):
            found = bool(Path(path).read_bytes()) or found
    return found


def list_folders(server: Server) -> bool:
    """Whether anything but libraries and packages can be seen."""
    usual = {"lib", "lib64", "usr", "etc", "python", "packages", "files"}
    seen = set(os.listdir("/")) - usual
    return bool(seen or set(os.listdir("/etc")) - {"ld.so.cache"} or len(os.listdir("/files")) > 2)


def read_environment(server: Server) -> bool:
    return any(name in os.environ for name in ("PATH", "USER", "VNL_SECRET"))


def read_processes(server: Server) -> bool:
    return bool(os.listdir("/proc") or os.listdir("/sys"))


def inherited_files(server: Server) -> bool:
    """Whether it has more open files than three."""
    found = False
    for number in range(3, 64):
        with contextlib.suppress(OSError):
            found = bool(os.fstat(number)) or found
    return found


def write_files(server: Server) -> bool:
    won = False
    places = ["/", "/tmp", "/dev/shm", "/packages", "/files", "/run", "/var/tmp"]
    for place in [*places, *server.plan["writable"]]:
        with contextlib.suppress(OSError):
            os.makedirs(place, exist_ok=True)
            Path(place, "vnl-hostile").write_bytes(b"x")
            won = True
        with contextlib.suppress(OSError):
            os.mkfifo(f"{place}/vnl-hostile-fifo")
            won = True
    return won


def write_policy(server: Server) -> bool:
    won = False
    for path in (sys.argv[1], __file__):
        with contextlib.suppress(OSError):
            os.chmod(path, 0o777)
            won = True
        with contextlib.suppress(OSError), open(path, "ab") as file:
            won = file.write(b"x") > 0
    return won


def note_between_episodes(server: Server) -> bool:
    """A file left in one episode, to be found in the next."""
    for place in ("/tmp", "/", "/dev/shm", "/files"):
        note = Path(place, "vnl-hostile-note")
        if note.exists():
            return True
        with contextlib.suppress(OSError):
            note.touch()
    return False


def devices(server: Server) -> bool:
    return bool(os.listdir("/dev"))


# --- network --------------------------------------------------------------------------------------


def connect(server: Server) -> bool:
    with socket.create_connection(("127.0.0.1", server.plan["port"]), timeout=1) as line:
        return line.send(b"x") > 0


def resolve(server: Server) -> bool:
    return bool(socket.getaddrinfo("example.org", 80))


def abstract_socket(server: Server) -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect("\0" + server.plan["abstract"])
        return line.send(b"x") > 0


def type_into_terminal(server: Server) -> bool:
    """Characters pushed into the terminal that the harness was started from (CVE-2017-5226)."""
    pushed = 0
    for file in range(3):
        with contextlib.suppress(OSError):
            fcntl.ioctl(file, 0x5412, b"\n")
            pushed += 1
    return pushed > 0


# --- protocol -------------------------------------------------------------------------------------


def silent(server: Server) -> None:
    time.sleep(1000)


def hang(server: Server) -> None:
    server.hello()
    server.read()
    server.answer()
    server.read()
    time.sleep(1000)


def drip(server: Server) -> None:
    """Each step within its limit, all together not."""
    server.hello()
    while True:
        server.read()
        time.sleep(0.1)
        server.answer()


def trickle(server: Server) -> None:
    """A byte at a time, to start the clock anew with each."""
    server.hello()
    server.read()
    for _ in range(4 * server.sizes[1] - 1):
        os.write(1, b"\0")
        time.sleep(0.05)
    time.sleep(1000)


def stop(server: Server) -> None:
    server.hello()
    server.read()
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1000)


def short_answer(server: Server) -> None:
    server.hello()
    server.read()
    server.answer(size=server.sizes[1] - 1)
    time.sleep(1000)


def long_answer(server: Server) -> None:
    server.hello()
    server.read()
    server.answer(size=server.sizes[1] + 1)
    server.serve()


def twice(server: Server) -> None:
    server.hello()
    while True:
        server.read()
        server.answer()
        server.answer()


def early(server: Server) -> None:
    server.hello()
    server.answer()
    server.serve()


def never_reads(server: Server) -> None:
    """Answers on and on, whatever is asked."""
    server.hello()
    while True:
        server.answer()


def flood(server: Server) -> None:
    server.hello()
    while True:
        os.write(1, bytes(1 << 20))


def flood_errors(server: Server) -> None:
    server.hello()
    while True:
        server.read()
        os.write(2, b"\033[2J" * (1 << 18))
        server.answer()


def not_a_number(server: Server) -> None:
    server.hello()
    server.read()
    server.answer()
    server.read()
    server.answer(float("nan"))
    server.serve()


def infinite(server: Server) -> None:
    server.hello()
    server.read()
    server.answer(float("-inf"))
    server.serve()


def enormous(server: Server) -> None:
    """Far out of range, to push the actuators beyond their limits."""
    server.hello()
    while True:
        server.read()
        server.answer(3e38)


def crash_later(server: Server) -> None:
    server.hello()
    for _ in range(3):
        server.read()
        server.answer()
    server.read()
    os.abort()


def segfault(server: Server) -> None:
    server.hello()
    server.read()
    ctypes.string_at(8)


def leave(server: Server) -> None:
    server.hello()
    server.read()
    server.answer()
    os._exit(0)


def leave_at_once(server: Server) -> None:
    os._exit(0)


def last_words(server: Server) -> None:
    """What it says last is printed: escapes and lines must not come along."""
    server.hello()
    server.read()
    os.write(2, b"first\n\033]0;title\007 last\r\xff" + b"y" * 1000)
    os._exit(7)


def close_output(server: Server) -> None:
    server.hello()
    server.read()
    os.close(1)
    time.sleep(1000)


def close_input(server: Server) -> None:
    server.hello()
    server.read()
    server.answer()
    os.close(0)
    time.sleep(1000)


def wrong_magic(server: Server) -> None:
    os.write(1, struct.pack("<5sIII", b"VNLP9", *server.sizes, 0))
    server.serve()


def wrong_sizes(server: Server) -> None:
    server.hello(server.sizes[0], server.sizes[1] + 1, 0)
    server.serve()


def giant_sizes(server: Server) -> None:
    server.hello(2**32 - 1, 2**32 - 1, 2**32 - 1)
    server.serve()


def small_pipes(server: Server) -> bool:
    """Pipes of one page, in the hope that the harness's write blocks or is torn."""
    set_size = 1031
    for file in range(2):
        fcntl.fcntl(file, set_size, 4096)
    return False


def other_ends(server: Server) -> bool:
    """Its own pipes' other ends, to speak for the harness."""
    return os.open("/proc/self/fd/0", os.O_WRONLY) > 0


def counts_episodes(server: Server) -> None:
    """Ignores resets: honest in its first episode, another one in those after."""
    server.hello()
    while True:
        server.read()
        server.answer(PRIZE if server.began > 1 else HONEST)


def honest(server: Server) -> None:
    server.hello()
    server.serve()


ATTEMPTS = (
    fork_bomb, thread_bomb, spawn, execute, execute_others, kill_parent, trace_parent, raise_limits,
    namespaces, io_uring, busy, hidden_memory, anonymous_file, read_secrets, list_folders,
    read_environment, read_processes, inherited_files, write_files, write_policy,
    note_between_episodes, devices, connect, resolve, abstract_socket, type_into_terminal,
    small_pipes, other_ends,
)  # fmt: skip
"""What must change nothing."""


def main(path: str) -> None:
    plan = json.loads(Path(path).read_text())
    attack = globals()[plan["attack"]]
    (attempt(attack) if attack in ATTEMPTS else attack)(Server(plan))


if __name__ == "__main__":
    main(sys.argv[1])
