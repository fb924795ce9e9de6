"""Reads motion files under limits and says what came of each; `test_malformed` runs it.

The standard input has one JSON object per line: path, body, arguments. For each a line goes out:
`{"error": type or null, "text": message}`. A file may take 2 s of processor time, else this process
ends, and 512 MB more memory than reading sound files took.
"""

from __future__ import annotations

import importlib
import json
import resource
import signal
import sys
import tempfile
from pathlib import Path

from malformed import sound
from motion_files import body_of

from vnl_envs.motion.readers import read_motion

SECONDS, BYTES = 2.0, 512 * 2**20
FORMATS = ("clips", "dm_control", "stac")


def warm() -> None:
    """Import and allocate what reading needs."""
    with tempfile.TemporaryDirectory() as folder:
        for format in FORMATS:
            path = Path(folder) / f"{format}.h5"
            path.write_bytes(sound(format))
            assert len(list(read_motion(path, body_of("rodent")))) > 0
    body_of("humanoid")
    # What fits imports takes long, and is no part of any file.
    for part in ("keypoints", "refit"):
        importlib.import_module(f"vnl_envs.motion.fitting.{part}")


def limit_memory() -> None:
    """From here on, only so much more address space."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    """Read files until the input ends."""
    warm()
    limit_memory()
    for line in sys.stdin:
        job = json.loads(line)
        body = body_of(job["body"])
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            for _ in read_motion(job["path"], body, **job["arguments"]):
                pass
            error, text = None, ""
        except Exception as caught:
            error, text = type(caught).__name__, str(caught)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps({"error": error, "text": text}), flush=True)


if __name__ == "__main__":
    main()
