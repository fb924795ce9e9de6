"""Contacts and constraint rows that the tasks need, compared with the buffers for MJX-Warp.

    python -m benchmarks.contact_buffers [--steps 400] [--num 64]

Runs every task on the native engine, once with uniform actions and once with small ones around the
standing pose, and takes the largest numbers in any simulation after any step. Where MJX-Warp is
installed, it also counts the pairs from its broad phase, which share the buffer of the contacts.
Writes `results/contact_buffers.json` beside this file and prints a markdown table.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import jax
import numpy as np

import vnl_envs
from benchmarks.measuring import write_results
from vnl_envs.engines.mjx import MjxEngine, mjx_warp, room
from vnl_envs.engines.native import NativeEngine
from vnl_envs.envs.core import Core
from vnl_envs.tasks.task import Task

SIZES = {"uniform": 1.0, "standing": 0.18}
BETWEEN_PAIR_COUNTS = 20


def rollout(task: Task, num: int, steps: int, size: float) -> Iterator[NativeEngine]:
    """The engine after each control step with actions in [-size, size]; ended episodes restart."""
    rng = np.random.default_rng(0)
    core = Core(task, num)

    def begin(ids: np.ndarray) -> None:
        core.reset(ids, core.episodes(rng.random((len(ids), task.uniforms), np.float32)))

    begin(np.arange(num))
    for _ in range(steps):
        result = core.step(rng.uniform(-size, size, (num, task.body.nu)).astype(np.float32))
        yield core.engine
        over = np.flatnonzero(result.terminated | result.truncated)
        if over.size:
            begin(over)


def measure(task: Task, num: int, steps: int, size: float) -> dict[str, int | float | None]:
    """The largest and the 99.9th percentile of contacts and rows, the most broad phase pairs."""
    contacts, rows, pairs = [], [], []
    count = pair_counter(task) if mjx_warp.WARP_INSTALLED else None
    data = None
    for step, engine in enumerate(rollout(task, num, steps, size)):
        for index in range(num):
            data = engine.data(index, data)
            contacts.append(data.ncon)
            rows.append(data.nefc)
            if count and step % BETWEEN_PAIR_COUNTS == index % BETWEEN_PAIR_COUNTS:
                pairs.append(count(data.qpos, data.mocap_pos))
    return {
        "contacts": max(contacts),
        "contacts_999": float(np.percentile(contacts, 99.9)),
        "rows": max(rows),
        "rows_999": float(np.percentile(rows, 99.9)),
        "pairs": max(pairs) if pairs else None,
    }


def pair_counter(task: Task):  # type: ignore[no-untyped-def]
    """A function from (qpos, mocap_pos) to the number of pairs from Warp's broad phase."""
    body, contacts = task.body, 1024
    engine = MjxEngine(task.world.model, "warp", contacts)
    still = np.zeros(body.nv), np.zeros(body.na)
    begin = jax.jit(
        lambda qpos, mocap: engine.start(engine.model, body, qpos, *still, mocap)._impl.ncollision
    )
    return lambda qpos, mocap: int(begin(qpos[body.qpos], mocap if len(mocap) else None)[0])


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=64)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    results = {}
    print("| task | contacts | pairs | room | rows | room |\n|---|---|---|---|---|---|")
    for name in vnl_envs.task_ids():
        task = vnl_envs.make_task(name)
        runs = {
            label: measure(task, arguments.num, arguments.steps, size)
            for label, size in SIZES.items()
        }
        contacts, rows = room(task.world.model)
        results[name] = {"room_contacts": contacts, "room_rows": rows, **runs}
        most = {k: max(run[k] or 0 for run in runs.values()) for k in ("contacts", "pairs", "rows")}
        print(
            f"| {name} | {most['contacts']} | {most['pairs']} | {contacts} "
            f"| {most['rows']} | {rows} |",
            flush=True,
        )
    write_results("contact_buffers", {"tasks": results})


if __name__ == "__main__":
    main()
