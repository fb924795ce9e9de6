"""The first program in a sandbox: gives up rights that a policy does not need, then runs another.

It runs before any untrusted byte is read, as `python confine.py MEMORY CPU [-m MODULE | SCRIPT]
ARGUMENT ...`, and needs only the standard library. It replaces `vnl_envs` by a package without
`__init__`, so that modules inside are imported without the dependencies of the whole package.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import runpy
import struct
import sys
import types
from pathlib import Path

# Distance of the hard limit to the soft one: at equal limits the kill would give no reason.
_GRACE = {"RLIMIT_CPU": 5}
# Number of descriptors: three pipes, and files that are open during an import.
FILES = 64

# System calls that a policy does not need: numbers for (x86_64, aarch64), None if there is none.
# Linux 6.12, arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    # Other processes and threads; programs.
    "fork": (57, None),
    "vfork": (58, None),
    "clone": (56, 220),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    # Sockets, and access to files without a path.
    "socket": (41, 198),
    "socketpair": (53, 199),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # Namespaces and mounts.
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "mount": (165, 40),
    "umount2": (166, 39),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    # Memory that outlives its mapping and so escapes RLIMIT_AS.
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    # Large attack surfaces of the kernel.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "personality": (135, 92),
    "syslog": (103, 116),
    "quotactl": (179, 60),
}
# Answered with "no such call", so that the C library falls back to `clone`.
_CLONE3 = 435
# AUDIT_ARCH_* of include/uapi/linux/audit.h, and the column of `_DENIED`.
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
# First number of the x32 calls, which have other numbers.
_X32 = 0x40000000

# Instructions of include/uapi/linux/bpf_common.h and actions of include/uapi/linux/seccomp.h.
_LOAD, _EQUAL, _ABOVE, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
# <sys/prctl.h>
_PDEATHSIG, _DUMPABLE, _SECCOMP, _NO_NEW_PRIVILEGES = 1, 4, 22, 38
_FILTER = 2


def refusal() -> str | None:
    """The reason why system calls cannot be filtered here; None if they can."""
    if sys.platform != "linux":
        return f"system calls are filtered on Linux only, not on {sys.platform}"
    if platform.machine() not in _MACHINES or struct.calcsize("P") != 8:
        return f"there is no list of system calls for {platform.machine()}"
    return None


def limit(memory: int, cpu: int) -> None:
    """Set the resource limits of this process, as far as the system has them.

    Args:
        memory: address space, bytes.
        cpu: CPU time, s.
    """
    limits = {
        "RLIMIT_AS": memory,
        "RLIMIT_CPU": cpu,
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NOFILE": FILES,
        "RLIMIT_NPROC": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
    }
    for name, value in limits.items():
        if not hasattr(resource, name):
            continue
        try:
            resource.setrlimit(getattr(resource, name), (value, value + _GRACE.get(name, 0)))
        except (ValueError, OSError):
            if sys.platform == "linux":
                raise


def filter_calls() -> None:
    """Make the kernel refuse the system calls of `_DENIED`, irrevocably.

    Raises:
        OSError: the kernel cannot filter system calls.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    program = _program()
    count = len(program) // 8
    address = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(struct.pack("@HP", count, ctypes.addressof(address)))
    for arguments in (
        (_PDEATHSIG, 9, 0, 0, 0),
        (_DUMPABLE, 0, 0, 0, 0),
        (_NO_NEW_PRIVILEGES, 1, 0, 0, 0),
        (_SECCOMP, _FILTER, ctypes.addressof(header), 0, 0),
    ):
        if libc.prctl(*(ctypes.c_ulong(a) for a in arguments)):
            number = ctypes.get_errno()
            raise OSError(number, f"prctl {arguments[0]}: {os.strerror(number)}")


def _program() -> bytes:
    """The instructions of the filter for seccomp(2)."""
    machine, column = _MACHINES[platform.machine()]
    numbers = [row[column] for row in _DENIED.values()]
    denied = [number for number in numbers if number is not None]
    rest = len(denied)
    code = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, machine),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        (_ABOVE, rest + 2, 0, _X32),
        (_EQUAL, rest + 2, 0, _CLONE3),
        *((_EQUAL, rest - i + 2, 0, number) for i, number in enumerate(denied)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _KILL),
        (_RETURN, 0, 0, _ERROR | _ENOSYS),
        (_RETURN, 0, 0, _ERROR | _EPERM),
    ]
    return b"".join(struct.pack("@HBBI", *instruction) for instruction in code)


def main(arguments: list[str]) -> None:
    """Confine this process, then run the program that the arguments name."""
    memory, cpu, *arguments = arguments
    bare = types.ModuleType("vnl_envs")
    bare.__path__ = [str(Path(__file__).parents[2])]
    sys.modules["vnl_envs"] = bare
    limit(int(memory), int(cpu))
    if refusal() is None:
        filter_calls()
    if not arguments:
        return
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
