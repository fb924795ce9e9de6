"""Shared parts of benchmarks: contenders that take turns, and the file of results."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from vnl_envs.benchmarking.throughput import machine
from vnl_envs.utils.files import written_whole

RESULTS = Path(__file__).parent / "results"


def in_turns(
    contenders: Mapping[str, Callable[[], object]], rounds: int, uncounted: int = 1
) -> dict[str, np.ndarray]:
    """Seconds and CPU seconds of this process for each call of each contender, (rounds, 2).

    Contenders take turns, in reverse order in every other round, so that drift of the machine
    affects them equally.

    Args:
        contenders: functions by name.
        rounds: number of counted rounds, with one call of each contender.
        uncounted: number of earlier rounds for warming up.
    """
    names = list(contenders)
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(uncounted + rounds):
        for name in names if number % 2 else reversed(names):
            start, busy = perf_counter(), process_time()
            contenders[name]()
            spent[name].append((perf_counter() - start, process_time() - busy))
    return {name: np.array(rows[uncounted:]) for name, rows in spent.items()}


def rates(spent: Mapping[str, np.ndarray], amount: float, what: str) -> dict[str, dict[str, float]]:
    """Medians of `amount` over the seconds and the CPU seconds of `in_turns`, by contender.

    Args:
        spent: result of `in_turns`.
        amount: amount of work in a call, in units of `what`.
        what: name of the unit: "steps" gives "steps_per_s" and "steps_per_cpu_s".
    """
    medians = {name: amount / np.median(rows, axis=0) for name, rows in spent.items()}
    return {
        name: {f"{what}_per_s": float(wall), f"{what}_per_cpu_s": float(cpu)}
        for name, (wall, cpu) in medians.items()
    }


def write_results(name: str, content: Mapping[str, Any], *packages: str) -> None:
    """Write `results/NAME.json`: the machine, its load, versions of further packages, content."""
    stamps = {**machine(), **{package: version(package) for package in packages}}
    record = {"machine": stamps, "load": os.getloadavg()[0], **content}
    with written_whole(RESULTS / f"{name}.json") as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n")
