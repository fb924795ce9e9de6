"""Find how hard pairs of muscles pull to stand, and write it into `vnl_envs/data/standing`.

    python assets/make_cocontraction.py rodent

A pair that pulls harder is stiffer, and costs more. Of the tried values the least is taken with
which the body stands longest. The file has the fields of `vnl_envs.bodies.body.Standing`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import mujoco
import numpy as np

from vnl_envs.bodies import HUMANOID, RODENT, Body
from vnl_envs.scenes.floor import Floor
from vnl_envs.scenes.world import build_world
from vnl_envs.utils.resources import packaged

FOLDER = packaged("standing")

TRIED = np.arange(0.05, 0.75, 0.05).round(2).tolist()

LONGEST = 500
"""Control steps after which a body is said to stand."""

BODIES = {body.name: body for body in (RODENT, HUMANOID)}


def steps_standing(body: Body, cocontraction: float) -> int:
    """Control steps until a body falls under constant activations, at most `LONGEST`."""
    assert body.standing is not None
    standing = replace(body.standing, cocontraction=cocontraction)
    world = build_world(Floor(), [replace(body, standing=standing)], "muscle")
    data = mujoco.MjData(world.model)
    data.qpos[:] = world.body.standing_qpos
    data.ctrl[:] = data.act[:] = world.body.standing_control
    steps = 0
    while steps < LONGEST and data.qpos[2] >= body.fallen_height:
        mujoco.mj_step(world.model, data, world.substeps)
        steps += 1
    return steps


def main() -> None:
    """Write the value of the body named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("body", choices=sorted(BODIES))
    body = BODIES[parser.parse_args().body]
    steps = {value: steps_standing(body, value) for value in TRIED}
    for value, count in steps.items():
        print(f"{value:.2f}: {count} steps")
    path = FOLDER / f"{body.name}.json"
    values = json.loads(path.read_text())
    values["cocontraction"] = max(TRIED, key=lambda value: (steps[value], -value))
    path.write_text(json.dumps(values, indent=2) + "\n")
    print(f"wrote {path.name}: {values['cocontraction']}")


if __name__ == "__main__":
    main()
