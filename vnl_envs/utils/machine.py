"""What machine this is."""

from __future__ import annotations

import platform


def cpu_name() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
