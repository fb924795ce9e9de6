"""Write suites: `python -m leaderboard.make_suites [NAME ...]`, by default all published ones.

NAME is a family and a version: "core-v2". A published suite does not change; a change needs a new
version. An existing suite keeps its tasks. A new one has its family's tasks; a new task belongs to
"wide". The task itself defines what is scored: `Task.primary`, `Task.cells`.

The test suite compares the files with the output of this script and with the registered tasks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from vnl_envs.envs.core import Core
from vnl_envs.identity import env_hash
from vnl_envs.motion.datasets import load_clips
from vnl_envs.registry import get_row, make_task, task_class, task_ids
from vnl_envs.scoring.documents.schema.suite import Cell, Primary, Suite, SuiteTask
from vnl_envs.scoring.documents.schema.text import to_text
from vnl_envs.scoring.documents.suites import NOMINAL, load_suite, suite_names
from vnl_envs.tasks.cells import Drawn, Ladder
from vnl_envs.tasks.task import Task
from vnl_envs.utils.files import written_whole
from vnl_envs.utils.resources import packaged

FOLDER = packaged("suites")
PINS = ("mujoco", "dm-control", "numpy", "onnxruntime")
"""Packages on which numbers depend, besides the task itself, whose hash is in the cell."""
FEW_CLIPS = 8
FEWEST_RUNGS = 4
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = dict(enumerate(_WORDS))


@dataclass(frozen=True)
class Tier:
    """Conditions under which the episodes of every task are run.

    Attributes:
        description: text for people.
        variants: suffix of a cell's name -> options added to the cell's own.
        off_ladder: whether values are half a rung off the ladder.
    """

    description: str
    variants: Mapping[str, dict[str, Any]]
    off_ladder: bool = False


PUSH = {"force": 0.5, "duration": 0.2, "interval": 2.0}
NOISE = {"joint_position": 0.01, "joint_velocity": 0.1, "world_up": 0.01, "angular_velocity": 0.1}
SCALES = (0.1, 0.3, 0.5)


def _limbs(most: float) -> dict[str, Any]:
    """Bodies of the morphology space of DMAP (Chiappa et al. 2022)."""
    sizes = ("limb_length", "limb_size", "torso_size")
    return {**dict.fromkeys(sizes, most), "per_limb": True}


# Sizes: docs/scoring.md, "Tiers".
TIERS = {
    NOMINAL: Tier("as trained on", {"": {}}),
    "sensors": Tier(
        "noise on the body's own senses, every tenth command repeated",
        {"": {"perturbations": {"observation_noise": NOISE, "action_repeat": 0.1}}},
    ),
    "dynamics": Tier(
        "mass, friction and actuator gain drawn within 20 %",
        {"": {"perturbations": {"mass": 0.2, "friction": 0.2, "gain": 0.2}}},
    ),
    "pushes": Tier(
        "a push every 2 s; gaps half a rung off the ladder",
        {"": {"perturbations": {"push": PUSH}}},
        off_ladder=True,
    ),
    "simulator": Tier(
        "half the physics time step; another constraint solver",
        {"-finer": {"timestep_divisor": 2}, "-cg": {"solver": "cg"}},
    ),
    **{
        f"limbs-{100 * most:.0f}": Tier(
            f"another body in every episode: lengths and thicknesses of each limb, and the trunk, "
            f"times factors within {most:.0%}".replace("%", " %"),
            {"": {"perturbations": _limbs(most)}},
        )
        for most in SCALES
    },
}


@dataclass(frozen=True)
class Size:
    """Numbers of episodes in a cell.

    Attributes:
        clip: episodes of a clip of the test split; twice as many if there are few test clips.
        training_clip: episodes of a clip of the training split.
        rung: episodes of a value on a ladder.
        drawn: episodes of a task with a single cell.
    """

    clip: int
    training_clip: int
    rung: int
    drawn: int


@dataclass(frozen=True)
class Family:
    """Properties that the versions of a suite share.

    Attributes:
        description: text for people; "{tasks}" stands for the number of tasks.
        tasks: names of the classes of its tasks; None stands for all that are not in `CORE`.
        nominal, others: sizes in the nominal tier and in the others.
        tiers: names of the tiers.
    """

    description: str
    tasks: tuple[str, ...] | None
    nominal: Size
    others: Size
    tiers: Sequence[str]


CORE = "Imitation", "JumpGap", "GoalReaching"
FULL = Size(clip=8, training_clip=4, rung=15, drawn=100)
SMALLER = Size(clip=8, training_clip=0, rung=15, drawn=60)
"""Without training clips."""
FAMILIES = {
    "core": Family(
        "The leaderboard's suite: {tasks} tasks, five tiers",
        CORE,
        nominal=FULL,
        others=SMALLER,
        tiers=(NOMINAL, "sensors", "dynamics", "pushes", "simulator"),
    ),
    "quick": Family(
        "For trying out: {tasks} tasks, one tier beside the nominal one, within five minutes",
        CORE,
        nominal=Size(clip=4, training_clip=1, rung=3, drawn=30),
        others=Size(clip=2, training_clip=0, rung=3, drawn=15),
        tiers=(NOMINAL, "dynamics"),
    ),
    "wide": Family(
        "More of an animal's day: {tasks} tasks, one tier beside the nominal one",
        None,
        nominal=FULL,
        others=SMALLER,
        tiers=(NOMINAL, "dynamics"),
    ),
    "bodies": Family(
        "Bodies that differ: {tasks} tasks, a hundred other bodies in each of three tiers",
        ("GoalReaching", "Velocity"),
        nominal=FULL,
        others=FULL,
        tiers=(NOMINAL, *(name for name in TIERS if name.startswith("limbs"))),
    ),
}


def family_of(name: str) -> str:
    """The name of a suite's family.

    Raises:
        ValueError: there is no such family.
    """
    family = name.rpartition("-v")[0]
    if family not in FAMILIES:
        raise ValueError(f"a suite is a version of {', '.join(FAMILIES)}, got {name!r}")
    return family


def make_suite(name: str, tasks: Sequence[str], known: Suite | None = None) -> Suite:
    """Make a suite.

    Args:
        name: family and version, such as "core-v2".
        tasks: ids of registered tasks that declare a primary metric.
        known: suite whose hashes are reused for the same cells; other hashes are computed.

    Raises:
        ValueError: there is no such family.
    """
    kind = family_of(name)
    family = FAMILIES[kind]
    hashes = _hashes(known) if known else {}
    return Suite(
        schema_version=1,
        name=name,
        description=family.description.format(tasks=NUMBERS.get(len(tasks), len(tasks))),
        pins={package: metadata.version(package) for package in PINS},
        # The same for all versions, so that their episodes agree where their cells do.
        dev_key=hashlib.sha256(f"vnl_envs {kind}-v1 dev".encode()).hexdigest(),
        tiers={tier: TIERS[tier].description for tier in family.tiers},
        tasks=[_suite_task(task_id, family, hashes) for task_id in tasks],
    )


def tasks_of(family: Family) -> list[str]:
    """Ids of the family's tasks in the package, not of variants; each has a primary metric."""
    ids = [id for id in task_ids() if id.startswith("vnl/")]
    names = {id: task_class(get_row(id)).__name__ for id in ids}
    if family.tasks is not None:
        return [id for id, name in names.items() if name in family.tasks]
    others = [id for id, name in names.items() if name not in CORE]
    return [id for id in others if make_task(id).unwrapped.primary is not None]


_Key = tuple[str, str, str, str]


def _hashes(suite: Suite) -> dict[_Key, str]:
    """The hash of each cell of a suite by task, tier, cell and options."""
    return {
        (task.id, tier, cell.id, repr(cell.options)): cell.env_hash
        for task in suite.tasks
        for tier, cells in task.tiers.items()
        for cell in cells
    }


def _suite_task(task_id: str, family: Family, hashes: Mapping[_Key, str]) -> SuiteTask:
    task = make_task(task_id)
    primary = task.unwrapped.primary
    assert primary is not None
    tiers: dict[str, list[Cell]] = {}
    for tier in family.tiers:
        size = family.nominal if tier == NOMINAL else family.others
        tiers[tier] = []
        for suffix, options in TIERS[tier].variants.items():
            for cell in _cells(task_id, task.unwrapped, tier, size):
                own = {"id": cell.id + suffix, "options": {**cell.options, **options}}
                cell = cell.model_copy(update=own)
                tiers[tier].append(_hashed(task_id, tier, cell, hashes))
    return SuiteTask(
        id=task_id,
        observation=Core(task, 1, 1).size,
        action=task.body.nu,
        primary=Primary(**dataclasses.asdict(primary)),
        tiers=tiers,
    )


def _hashed(task_id: str, tier: str, cell: Cell, hashes: Mapping[_Key, str]) -> Cell:
    known = hashes.get((task_id, tier, cell.id, repr(cell.options)))
    value = known or env_hash(task_id, make_task(task_id, **cell.options))
    return cell.model_copy(update={"env_hash": value})


def _cells(task_id: str, task: Task, tier: str, size: Size) -> Iterator[Cell]:
    """The cells of a task in a tier, without the tier's options.

    Raises:
        ValueError: a row has no values for its ladder.
    """
    cells = task.cells
    if isinstance(cells, Drawn):
        yield _cell(cells.name, {}, size.drawn)
    elif isinstance(cells, Ladder):
        ladder = get_row(task_id).ladder
        if len(ladder) < FEWEST_RUNGS:
            raise ValueError(f"{task_id} needs a ladder of {FEWEST_RUNGS} values, has {ladder}")
        yield from _rungs(cells, ladder, tier, size)
    else:
        yield from _clips(task, tier == NOMINAL, size)


def _cell(id: str, options: dict[str, Any], episodes: int, **rest: Any) -> Cell:
    whole: dict[str, Any] = {"counted": True, "stratum": "", "unit": None} | rest
    return Cell(id=id, options=options, env_hash="", episodes=episodes, **whole)


def _clips(task: Task, nominal: bool, size: Size) -> Iterator[Cell]:
    """A cell per clip of the test split, and in the nominal tier also of the training split, whose
    cells do not count.
    """
    clips = load_clips(task.body)
    few = sum(clip.split == "test" for clip in clips) < FEW_CLIPS
    counts = {"test": 2 * size.clip if few else size.clip}
    if nominal:
        counts["train"] = size.training_clip
    for clip in clips:
        if clip.split in counts:
            own = {"counted": clip.split == "test", "stratum": clip.label, "unit": clip.name}
            options = {"clips": [clip.name], "split": "all"}
            yield _cell(f"clip-{clip.name}", options, counts[clip.split], **own)


def _rungs(cells: Ladder, ladder: Sequence[float], tier: str, size: Size) -> Iterator[Cell]:
    """A cell per rung: every rung in the nominal tier, every second rung in the others. Off the
    ladder, values are alternately half a rung above and below the value of their stratum.
    """
    rungs = range(len(ladder))
    if tier != NOMINAL:
        # An even number, so that half a rung up and half a rung down do not change the mean.
        rungs = rungs[1 : len(ladder) // 4 * 4 : 2]
    for i, rung in enumerate(rungs):
        beside = rung
        if TIERS[tier].off_ladder:
            beside += 1 if i % 2 == 0 else -1
        value = round((ladder[rung] + ladder[beside]) / 2, 6)
        options = {cells.option: value}
        yield _cell(f"{cells.name}-{value:g}", options, size.rung, stratum=f"{ladder[rung]:g}")


def main(names: Sequence[str]) -> None:
    """Write the suites of these names, by default all published ones."""
    published = suite_names()
    for name in names or published:
        there = name in published
        known = load_suite(name).tasks if there else ()
        tasks = [task.id for task in known] or tasks_of(FAMILIES[family_of(name)])
        with written_whole(FOLDER / f"{name}.json") as path:
            path.write_text(to_text(make_suite(name, tasks)))


if __name__ == "__main__":
    main(sys.argv[1:])
