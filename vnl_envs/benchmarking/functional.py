"""Throughput and compilation times of functional environments, by engine and batch size."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from vnl_envs.benchmarking.throughput import Contender, actions_for, compare, machine, vector_env
from vnl_envs.envs.autoreset import wrap_for_training
from vnl_envs.envs.functional import make_functional

IMPLS = ("native", "warp", "jax")
BATCHES = (1, 64, 1024)
# Duration of a round, s, which decides the number of control steps.
_ROUND = 2.0
_MOST_STEPS = 200


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        task, impl, batch: task id, implementation and batch size.
        trace_s, compile_s: times to trace and to compile a step of the batch without a cache, s.
        steps_per_s: control steps per second of all simulations together; None if left out.
        of_vector: `steps_per_s` divided by that of the Gymnasium vector environment in the same
            run; native engine only.
        note: reason why the measurement was left out.
    """

    task: str
    impl: str
    batch: int
    trace_s: float | None = None
    compile_s: float | None = None
    steps_per_s: float | None = None
    of_vector: float | None = None
    note: str = ""


def measure_all(
    task_ids: Sequence[str],
    impls: Sequence[str] = IMPLS,
    batches: Sequence[int] = BATCHES,
    budget: float = 60.0,
    rounds: int = 3,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure every task on every engine with every batch size.

    Args:
        task_ids, impls, batches: task ids, implementations and batch sizes.
        budget: greatest time for one control step of a batch, s, estimated from the batch before.
        rounds: number of counted rounds, whose median is reported.
        progress: function that is called with a description of the next measurement.

    Returns:
        "machine": stamps; "rows": the fields of each `Row`.
    """
    rows = []
    for task_id in task_ids:
        for impl in impls:
            each = None
            for batch in batches:
                progress(f"{task_id} {impl} {batch}")
                if each is not None and impl != "native" and each * batch > budget:
                    note = f"left out: about {each * batch:.0f} s per step"
                    rows.append(Row(task_id, impl, batch, note=note))
                    continue
                row = measure(task_id, impl, batch, rounds)
                rows.append(row)
                if row.steps_per_s is None:
                    break
                each = 1 / row.steps_per_s
    versions = {**machine(), "jax": jax.__version__, "device": jax.devices()[0].device_kind}
    return {"machine": versions, "rows": [dataclasses.asdict(row) for row in rows]}


def measure(task_id: str, impl: str, batch: int, rounds: int = 3) -> Row:
    """Measure one row. What cannot run here is left out with its reason."""
    try:
        env = wrap_for_training(make_functional(task_id, impl, max_batch=batch))
    except (RuntimeError, ImportError) as error:
        return Row(task_id, impl, batch, note=str(error))
    # With the cache, results of another run would be loaded instead of compiled.
    enabled = "jax_enable_compilation_cache"
    before = getattr(jax.config, enabled)
    jax.config.update(enabled, False)
    try:
        return _measure(env, task_id, impl, batch, rounds)
    finally:
        jax.config.update(enabled, before)


def _measure(env: Any, task_id: str, impl: str, batch: int, rounds: int) -> Row:
    keys = jax.random.split(jax.random.PRNGKey(0), batch)
    first = jax.jit(env.reset)(keys)
    task = env.unwrapped.task
    begin = time.perf_counter()
    lowered = jax.jit(env.step).lower(first, actions_for(task, batch, 1)[0])
    traced = time.perf_counter()
    step = lowered.compile()
    compiled = time.perf_counter()
    state = [first]

    def run(actions: np.ndarray) -> None:
        for action in actions:
            state[0] = step(state[0], action)
        jax.block_until_ready(state[0])

    def prepare() -> None:
        state[0] = first

    steps = _steps_per_round(run, actions_for(task, batch, 1))
    contenders = [Contender("functional", run, batch, task.dt, prepare)]
    if impl == "native":
        contenders.append(vector_env(task_id, batch))
    rates = compare(contenders, task, steps, rounds)
    ratio = None
    if impl == "native":
        ratio = float(np.median(np.array(rates["functional"]) / np.array(rates["vector"])))
    return Row(
        task_id,
        impl,
        batch,
        round(traced - begin, 2),
        round(compiled - traced, 2),
        float(np.median(rates["functional"])),
        ratio,
    )


def _steps_per_round(run: Callable[[np.ndarray], None], action: np.ndarray) -> int:
    """The number of control steps in a round, from the time of the second step."""
    run(action)
    begin = time.perf_counter()
    run(action)
    return int(np.clip(_ROUND / (time.perf_counter() - begin), 1, _MOST_STEPS))
