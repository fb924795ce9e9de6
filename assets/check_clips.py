"""Check the embedded clips against physics and write the tables of `assets/clips/CHECK.md`.

    python assets/check_clips.py

Survival is how many frames the position servos follow a clip from its start under the policy
`track`. The root wrench is what inverse dynamics without contacts needs at the root: a clip whose
ground could carry it needs a vertical force near the weight and a small horizontal one.
"""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np

import vnl_envs
from vnl_envs.files import written_whole
from vnl_envs.motion.clip import RATE
from vnl_envs.motion.kinematics import Reference, derive_reference
from vnl_envs.tasks.imitation import Imitation

TASKS = ("vnl/RodentImitation-v0", "vnl/HumanoidImitation-v0")
HEADER = (
    "| clip | label | split | frames | deepest, mm | followed | horizontal force | vertical force |"
)


def root_force(model: mujoco.MjModel, reference: Reference) -> np.ndarray:
    """Force at the root that inverse dynamics needs, in body weights, (F, 3), world frame.

    Contacts are off; accelerations are central differences of the velocities.
    """
    data = mujoco.MjData(model)
    disabled = model.opt.disableflags
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    qacc = np.gradient(reference.qvel, 1 / RATE, axis=0)
    forces = np.empty((len(reference.qpos), 3))
    for i, (qpos, qvel) in enumerate(zip(reference.qpos, reference.qvel, strict=True)):
        data.qpos[:], data.qvel[:], data.qacc[:] = qpos, qvel, qacc[i]
        mujoco.mj_inverse(model, data)
        forces[i] = data.qfrc_inverse[:3]
    model.opt.disableflags = disabled
    return forces / (model.body_mass.sum() * -model.opt.gravity[2])


def rows(task_id: str) -> list[str]:
    """A table row for each clip of a task."""
    task = vnl_envs.make_task(task_id, split="all")
    assert isinstance(task, Imitation)
    lines = []
    for clip in task.reference.clips:
        alone = derive_reference([clip], task.body)
        force = root_force(task.world.model, alone)
        horizontal = np.median(np.linalg.norm(force[:, :2], axis=1))
        vertical = np.median(force[:, 2])
        result = vnl_envs.evaluate(task_id, "track", 1, clips=[clip.name], split="all", start=0)
        available = len(clip) - 1
        followed = round(float(result.values["survived"][0]) * available)
        deepest = max(0.0, -1e3 * alone.clearance.min())
        lines.append(
            f"| `{clip.name}` | {clip.label} | {clip.split} | {len(clip)} | {deepest:.1f} | "
            f"{followed} of {available} | {horizontal:.2f} | {vertical:.2f} |"
        )
    return lines


def main() -> None:
    """Write the tables."""
    text = [
        "# Embedded clips: checks",
        "",
        "Written by `python assets/check_clips.py`. *Deepest*: lowest point of any contact geom",
        "below the ground. *Followed*: frames that position servos alone keep up, from the first",
        "(`--policy track`). *Forces*: medians over the clip of what inverse dynamics without",
        "contacts needs at the root, in body weights; 0 and 1 is standing.",
    ]
    for task_id in TASKS:
        rule = "|---" * (HEADER.count("|") - 1) + "|"
        text += ["", f"## {task_id}", "", HEADER, rule, *rows(task_id)]
    with written_whole(Path(__file__).parent / "clips" / "CHECK.md") as partial:
        partial.write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
