"""Write the suites: `python -m leaderboard.make_suites [NAME ...]`.

A published suite stays as it is; what would change it makes a new one, "core-v2". The test suite
compares the files with what this script makes and with the tasks as they are.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from typing import Any

from vnl_envs.envs.core import Core
from vnl_envs.identity import env_hash
from vnl_envs.motion.datasets import load_clips
from vnl_envs.registry import make_task
from vnl_envs.scoring.documents.schema import Cell, Primary, Suite, SuiteTask, to_text
from vnl_envs.scoring.documents.suites import NOMINAL
from vnl_envs.utils.files import written_whole
from vnl_envs.utils.resources import packaged

FOLDER = packaged("suites")
PINS = ("mujoco", "dm-control", "numpy", "onnxruntime")
"""What numbers depend on beside the task itself, whose hash a cell has."""

PUSH = {"force": 0.5, "duration": 0.2, "interval": 2.0}
NOISE = {"joint_position": 0.01, "joint_velocity": 0.1, "world_up": 0.01, "angular_velocity": 0.1}
# Sizes: docs/scoring.md, "Tiers".
_PERTURBED: dict[str, dict[str, dict[str, Any]]] = {
    NOMINAL: {"": {}},
    "sensors": {"": {"perturbations": {"observation_noise": NOISE, "action_repeat": 0.1}}},
    "dynamics": {"": {"perturbations": {"mass": 0.2, "friction": 0.2, "gain": 0.2}}},
    "pushes": {"": {"perturbations": {"push": PUSH}}},
    "simulator": {"-finer": {"finer": 2}, "-cg": {"solver": "cg"}},
}
"""Tier -> suffix of its cells -> options."""
TIERS = {
    NOMINAL: "as trained on",
    "sensors": "noise on the body's own senses, every tenth command repeated",
    "dynamics": "mass, friction and actuator gain drawn within 20 %",
    "pushes": "a push every 2 s; gaps half a rung off the ladder",
    "simulator": "half the physics time step; another constraint solver",
}


@dataclass(frozen=True)
class Ladder:
    """Gap widths: rungs in m from `low` on by `step`; the other tiers take some of them."""

    low: float
    step: float
    rungs: int
    few: tuple[int, ...]

    def width(self, rung: float) -> float:
        """Of a rung, or between two, m."""
        return round(self.low + rung * self.step, 6)


@dataclass(frozen=True)
class Size:
    """How many episodes per cell: of clips, gap widths and courses of goals.

    Attributes:
        clip, training_clip, width, course: see above; nominal.
        few_clip, few_width, few_course: in the other tiers.
        tiers: which there are.
    """

    clip: Mapping[str, int]
    training_clip: int
    width: int
    course: int
    few_clip: Mapping[str, int]
    few_width: int
    few_course: int
    tiers: Sequence[str] = field(default_factory=lambda: tuple(TIERS))


# An even number of `few`, so that half a rung up and half a rung down leave the mean as it is.
LADDERS = {
    "rodent": Ladder(0.04, 0.02, 9, (1, 3, 5, 7)),
    "humanoid": Ladder(0.3, 0.1, 10, (1, 3, 5, 7)),
}
SUITES = {
    "core-v1": (
        "The leaderboard's suite: six tasks, five tiers",
        Size(
            clip={"rodent": 8, "humanoid": 16}, training_clip=4, width=15, course=100,
            few_clip={"rodent": 8, "humanoid": 16}, few_width=15, few_course=60,
        ),
    ),
    "quick-v1": (
        "For trying out: six tasks, one tier beside the nominal one, within five minutes",
        Size(
            clip={"rodent": 4, "humanoid": 8}, training_clip=1, width=3, course=30,
            few_clip={"rodent": 2, "humanoid": 4}, few_width=3, few_course=15,
            tiers=(NOMINAL, "dynamics"),
        ),
    ),
}  # fmt: skip
BODIES = {"rodent": "Rodent", "humanoid": "Humanoid"}


def make_suite(name: str, known: Suite | None = None) -> Suite:
    """A suite, with the hashes of `known` where it has the same cell, else computed."""
    description, size = SUITES[name]
    hashes = {
        (task.id, tier, cell.id, repr(cell.options)): cell.env_hash
        for task in (known.tasks if known else ())
        for tier, cells in task.tiers.items()
        for cell in cells
    }
    tasks = []
    for body in BODIES:
        for kind, cells in (("Imitation", _clips), ("JumpGap", _gaps), ("GoalReaching", _goals)):
            task_id = f"vnl/{BODIES[body]}{kind}-v0"
            tiers = {
                tier: [
                    _hashed(task_id, tier, cell, hashes)
                    for suffix, options in _PERTURBED[tier].items()
                    for cell in cells(body, tier, suffix, options, size)
                ]
                for tier in size.tiers
            }
            core = Core(make_task(task_id), 1, 1)
            tasks.append(
                SuiteTask(
                    id=task_id, observation=core.size, action=core.task.body.nu,
                    primary=PRIMARIES[kind], tiers=tiers,
                )
            )  # fmt: skip
    return Suite(
        schema_version=1,
        name=name,
        description=description,
        pins={package: metadata.version(package) for package in PINS},
        dev_key=hashlib.sha256(f"vnl_envs {name} dev".encode()).hexdigest(),
        tiers={tier: TIERS[tier] for tier in size.tiers},
        tasks=tasks,
    )


PRIMARIES = {
    "Imitation": Primary(
        metric="return", form="per_step", cap=None, name="reward per step", unit="1",
        formula="sum of rewards / steps from the start frame to the clip's end", ceiling=1.0,
    ),
    "JumpGap": Primary(
        metric="gaps_cleared", form="capped", cap=5.0, name="fraction of 5 gaps cleared",
        unit="1", formula="min(gaps cleared, 5) / 5", ceiling=1.0,
    ),
    "GoalReaching": Primary(
        metric="goals_reached", form="capped", cap=5.0, name="fraction of 5 goals reached",
        unit="1", formula="min(goals reached, 5) / 5", ceiling=1.0,
    ),
}  # fmt: skip


def _hashed(
    task_id: str, tier: str, cell: Cell, hashes: Mapping[tuple[str, str, str, str], str]
) -> Cell:
    known = hashes.get((task_id, tier, cell.id, repr(cell.options)))
    value = known or env_hash(task_id, make_task(task_id, **cell.options))
    return cell.model_copy(update={"env_hash": value})


def _cell(id: str, options: dict[str, Any], episodes: int, **rest: Any) -> Cell:
    whole: dict[str, Any] = {"counted": True, "stratum": "", "unit": None} | rest
    return Cell(id=id, options=options, env_hash="", episodes=episodes, **whole)


def _clips(body: str, tier: str, suffix: str, options: dict[str, Any], size: Size) -> list[Cell]:
    """A cell per clip, starting anywhere in it: those of the test split, and in the nominal tier
    those of the training split, which do not count.
    """
    nominal, cells = tier == NOMINAL, []
    for name, label, split in _embedded(body):
        test = split == "test"
        if not test and not (nominal and split == "train"):
            continue
        count = (size.clip if nominal else size.few_clip)[body] if test else size.training_clip
        own = {"clips": [name], "split": "all", **options}
        cells.append(
            _cell(f"clip-{name}{suffix}", own, count, counted=test, stratum=label, unit=name)
        )
    return cells


def _gaps(body: str, tier: str, suffix: str, options: dict[str, Any], size: Size) -> list[Cell]:
    """A cell per rung of the ladder. Where there are pushes, the gaps are alternately half a rung
    wider and narrower than their stratum says, so that widths are none of the ladder's.
    """
    ladder, nominal = LADDERS[body], tier == NOMINAL
    rungs = range(ladder.rungs) if nominal else ladder.few
    count = size.width if nominal else size.few_width
    cells = []
    for i, rung in enumerate(rungs):
        shift = (0.5 if i % 2 == 0 else -0.5) if tier == "pushes" else 0.0
        width = ladder.width(rung + shift)
        stratum = f"{ladder.width(rung):g}"
        cells.append(
            _cell(f"width-{width:g}{suffix}", {"gaps": width, **options}, count, stratum=stratum)
        )
    return cells


def _goals(body: str, tier: str, suffix: str, options: dict[str, Any], size: Size) -> list[Cell]:
    """One cell: every episode draws a course of its own."""
    count = size.course if tier == NOMINAL else size.few_course
    return [_cell(f"course{suffix}", dict(options), count)]


@lru_cache
def _embedded(body: str) -> tuple[tuple[str, str, str], ...]:
    """Name, label and split of the embedded clips of a body."""
    task_id = f"vnl/{BODIES[body]}GoalReaching-v0"
    clips = load_clips(make_task(task_id).body)
    return tuple((clip.name, clip.label, clip.split) for clip in clips)


def main(names: Sequence[str]) -> None:
    """Write the suites of these names, all if there are none."""
    for name in names or SUITES:
        with written_whole(FOLDER / f"{name}.json") as path:
            path.write_text(to_text(make_suite(name)))


if __name__ == "__main__":
    main(sys.argv[1:])
