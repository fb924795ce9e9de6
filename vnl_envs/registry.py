"""The one table of tasks: id -> body, task and settings. `builtin_tasks` fills it."""

from __future__ import annotations

import copy
import difflib
import importlib
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import gymnasium

from vnl_envs.utils import checks

if TYPE_CHECKING:
    from vnl_envs.bodies.body import Body
    from vnl_envs.tasks.task import Task

_ID = re.compile(r"[\w:.-]+/[\w:.-]+-v\d+")

WORLD_OPTIONS = {
    "actuation": '"position" (default) servos, "torque" motors or "muscle" pairs',
    "physics": '"fast" (default) whitelisted ground contacts or "full" with self-collisions',
    "timestep_divisor": "divisor of the physics time step, to test a policy on; default 1",
    "solver": '"newton" or "cg", the constraint solver to test a policy with; default the body\'s',
}
"""Options of every task, given to `build_world`."""

PERTURBATIONS = "perturbations"


@dataclass(frozen=True)
class Row:
    """One registered task.

    Attributes:
        id: Gymnasium id, "namespace/Name-vN".
        body: name of a registered body.
        task: task class, or "module:Class" to import when first used.
        settings: constants of the task for this body.
        num_agents: number of animals in one world; tasks with more than one are for
            `parallel_env`.
        ladder: values of an option for suites, see `vnl_envs.tasks.cells.Ladder`.
    """

    id: str
    body: str
    task: str | type[Task]
    settings: Mapping[str, Any] = field(default_factory=dict)
    num_agents: int = 1
    ladder: tuple[float, ...] = ()


_BODIES: dict[str, str | Body] = {
    "rodent": "vnl_envs.bodies.rodent:RODENT",
    "humanoid": "vnl_envs.bodies.humanoid:HUMANOID",
}
_ROWS: dict[str, Row] = {}


class UnknownArgumentError(TypeError, ValueError):
    """A keyword argument that a task does not have.

    It is a `TypeError`, as for any function, and also a `ValueError`, for callers that read
    options from a file or a command line.
    """


def register_body(body: Body) -> None:
    """Make a body available to `register_task` under its name.

    Raises:
        ValueError: the name is taken.
    """
    if body.name in _BODIES:
        raise ValueError(f"a body named {body.name!r} is already registered")
    _BODIES[body.name] = body


def register_task(
    id: str,
    body: str,
    task: str | type[Task],
    *,
    num_agents: int = 1,
    ladder: Sequence[float] = (),
    **settings: Any,
) -> None:
    """Register a task on a body. A task for one animal is registered with Gymnasium too.

    Args:
        id: task id, "namespace/Name-vN".
        body: name of a registered body.
        task: `Task` subclass, or "module:Class" to import when first used.
        num_agents: number of copies of the body in one world. A task with more than one needs an
            axis of animals, as `GoalRace` has; `parallel_env` makes it, with another number on
            request.
        ladder: rising values of an option for suites, see `vnl_envs.tasks.cells.Ladder`.
        settings: keyword arguments of the task's constructor, which are its constants for this
            body, and default `perturbations`, if any. `horizon` becomes Gymnasium's
            `max_episode_steps`.

    Raises:
        ValueError: the id is taken or malformed, the body is unknown, or the horizon is not a
            number of steps.
    """
    _check_new(id)
    num_agents = checks.integer("num_agents", num_agents, 1)
    if body not in _BODIES:
        raise ValueError(f"no body named {body!r}; there are {sorted(_BODIES)}")
    horizon = settings.get("horizon")
    if horizon is not None:
        horizon = checks.integer("horizon", horizon, 1)
    if num_agents == 1:
        gymnasium.register(
            id,
            entry_point="vnl_envs.envs.single:SingleEnv",
            vector_entry_point="vnl_envs.envs.vector:VectorEnv",
            max_episode_steps=horizon,
            kwargs={"task_id": id},
        )
    _ROWS[id] = Row(id, body, task, copy.deepcopy(settings), num_agents, tuple(ladder))


def _check_new(id: str) -> None:
    if id in _ROWS or id in gymnasium.registry:
        raise ValueError(f"a task with id {id!r} is already registered")
    if not _ID.fullmatch(id):
        raise ValueError(f"a task id has the form 'namespace/Name-v0', got {id!r}")


def task_ids() -> tuple[str, ...]:
    """The registered ids of tasks for one animal, in the order of registration."""
    return tuple(id for id, row in _ROWS.items() if row.num_agents == 1)


def parallel_ids() -> tuple[str, ...]:
    """The ids that `vnl_envs.parallel_env` takes, in the order of registration."""
    return tuple(id for id, row in _ROWS.items() if row.num_agents > 1)


def _meant(name: str, known: Iterable[str]) -> str:
    """A question after a name that is not known, if a known one is like it."""
    close = difflib.get_close_matches(name, known, 1, cutoff=0.75)
    return f" (did you mean {close[0]!r}?)" if close else ""


def get_row(id: str) -> Row:
    """The row of an id.

    Raises:
        ValueError: the id is not registered; the message lists the registered ones.
    """
    if id not in _ROWS:
        raise ValueError(f"no task with id {id!r}{_meant(id, _ROWS)}; there are {', '.join(_ROWS)}")
    return _ROWS[id]


def get_body(name: str) -> Body:
    """The body registered under a name.

    Raises:
        ValueError: the name is not registered.
    """
    if name not in _BODIES:
        raise ValueError(f"no body named {name!r}; there are {sorted(_BODIES)}")
    return _load(_BODIES[name])


def task_class(row: Row) -> type[Task]:
    """The task class of a row, imported if necessary."""
    return _load(row.task)


def task_settings(id: str) -> dict[str, Any]:
    """A copy of a registered task's constants, by name."""
    return copy.deepcopy(dict(get_row(id).settings))


def task_options(id: str) -> dict[str, str]:
    """The options that users may give to a task: name -> description."""
    from vnl_envs.perturbations import option_text

    row = get_row(id)
    options = {**task_class(row).options, **WORLD_OPTIONS}
    return options if row.num_agents > 1 else {**options, PERTURBATIONS: option_text()}


def task_about(id: str) -> str:
    """The short description of a registered task; "" if it has none."""
    row = get_row(id)
    return task_class(row).about.format(**row.settings)


def make_task(id: str, num_agents: int | None = None, **options: Any) -> Task:
    """Make a registered task: compile its world and apply its perturbations.

    Args:
        id: registered id.
        num_agents: number of animals, for tasks with several; they are named after the body:
            "rodent_0", "rodent_1", ...
        options: options among `task_options(id)`.

    Raises:
        TypeError: an option is unknown; the message lists the known ones.
        ValueError: the id is unknown, or the task refuses a value or the number of animals.
    """
    from vnl_envs.perturbations import perturbed

    row = get_row(id)
    bodies = _bodies(row, num_agents)
    check_options(id, options)
    options = copy.deepcopy(options)
    world_options = {k: options.pop(k) for k in WORLD_OPTIONS if k in options}
    settings = {**task_settings(id), **options}
    perturbations = settings.pop(PERTURBATIONS, None)
    cls = task_class(row)
    inspect.signature(cls).bind(None, **settings)
    task = _in_world(cls, bodies, settings, world_options)
    return perturbed(task, perturbations)


def _bodies(row: Row, num_agents: int | None) -> list[Body]:
    """One body for each animal in the world, with different names."""
    body = get_body(row.body)
    if num_agents is None:
        if row.num_agents > 1:
            raise ValueError(f"{row.id!r} is for several animals: use vnl_envs.parallel_env")
        return [body]
    if row.num_agents == 1:
        raise ValueError(f"{row.id!r} is for one animal; for several: {', '.join(parallel_ids())}")
    num_agents = checks.integer("num_agents", num_agents, 2)
    return [replace(body, name=f"{body.name}_{i}") for i in range(num_agents)]


def check_options(id: str, options: Iterable[str]) -> None:
    """Check the names of options.

    Raises:
        UnknownArgumentError: the task has no option of that name; the message lists those it has.
    """
    known = task_options(id)
    if unknown := sorted(set(options) - set(known)):
        # Python's own wording, which TorchRL, for one, looks for.
        raise UnknownArgumentError(
            f"{id} got an unexpected keyword argument "
            f"{', '.join(repr(name) + _meant(name, known) for name in unknown)}; "
            f"the task has the options {sorted(known)}, besides the environment's arguments"
        )


def _in_world(
    cls: type[Any], bodies: list[Body], settings: dict[str, Any], world_options: dict[str, Any]
) -> Any:
    from vnl_envs.scenes.world import build_world

    world = build_world(cls.scene(**settings), bodies, **world_options)
    return cls(world, **settings)


def _load(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    module, _, name = value.partition(":")
    return getattr(importlib.import_module(module), name)
