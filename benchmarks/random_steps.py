"""A million control steps of random actions for every task and actuation: does physics diverge?

python -m benchmarks.random_steps

Actions are uniform over their whole range. The rat diverges under full random torques, see
`docs/physics.md`. Adds to `results/random_steps.json` beside this file,
row by row; rows that are there are not run again.
"""

from __future__ import annotations

import json
import logging
from typing import Annotated, Any, get_args

import numpy as np
import typer

from benchmarks.measuring import RESULTS, write_results
from vnl_envs.bodies.body import Actuation
from vnl_envs.envs.core import Core
from vnl_envs.registry import make_task, task_ids

NUM = 64
NAME = "random_steps"


def measure(task_id: str, actuation: str, steps: int) -> dict[str, Any]:
    """Numbers of steps, episodes and divergences, and the greatest joint speed, rad/s."""
    core = Core(make_task(task_id, actuation=actuation), NUM)
    rng = np.random.default_rng(0)
    draws = [np.random.default_rng([1, i]) for i in range(NUM)]
    everyone = np.arange(NUM)
    core.reset(everyone, core.draw(draws))
    episodes = diverged = 0
    fastest = 0.0
    for _ in range(-(-steps // NUM)):
        result = core.step(rng.uniform(-1, 1, (NUM, core.task.body.nu)).astype(np.float32))
        fastest = max(fastest, float(np.abs(core.physics.qvel[:, 6:]).max()))
        ended = np.flatnonzero(result.terminated | result.truncated)
        diverged += int(result.diverged.sum())
        episodes += len(ended)
        if len(ended):
            core.reset(ended, core.draw([draws[i] for i in ended]))
    return {
        "steps": -(-steps // NUM) * NUM,
        "episodes": episodes,
        "diverged": diverged,
        "fastest_joint": round(fastest, 1),
    }


def main(
    task: Annotated[list[str] | None, typer.Option(help="only these")] = None,
    steps: Annotated[int, typer.Option(min=1)] = 1_000_000,
) -> None:
    """See the module."""
    # MuJoCo's warnings of divergence; they are counted.
    logging.getLogger("absl").setLevel(logging.ERROR)
    path = RESULTS / f"{NAME}.json"
    rows: dict[str, Any] = json.loads(path.read_text())["rows"] if path.exists() else {}
    for task_id in task or task_ids():
        for actuation in get_args(Actuation):
            key = f"{task_id} {actuation}"
            if key not in rows:
                rows[key] = measure(task_id, actuation, steps)
                write_results(NAME, {"rows": rows})
                typer.echo(f"{key} {rows[key]}")


if __name__ == "__main__":
    typer.run(main)
