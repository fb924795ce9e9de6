"""Facts about this machine."""

from __future__ import annotations

import platform


def cpu_name() -> str:
    """The model name of the processor."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
