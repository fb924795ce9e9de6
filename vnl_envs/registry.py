"""The one table of tasks: id -> body, task and settings."""

from __future__ import annotations

import copy
import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import gymnasium

from vnl_envs.utils import checks

if TYPE_CHECKING:
    from vnl_envs.bodies.body import Body
    from vnl_envs.tasks.task import Task

_ID = re.compile(r"[\w:.-]+/[\w:.-]+-v\d+")

WORLD_OPTIONS = {
    "actuation": '"position" (default) servos or "torque" motors',
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


def get_row(id: str) -> Row:
    """The row of an id.

    Raises:
        ValueError: the id is not registered; the message lists the registered ones.
    """
    if id not in _ROWS:
        raise ValueError(f"no task with id {id!r}; there are {', '.join(_ROWS)}")
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
        num_agents: number of animals, for tasks with several; they are named "body_0", "body_1",
            ...
        options: options among `task_options(id)`.

    Raises:
        TypeError: an option is unknown; the message lists the known ones.
        ValueError: the id is unknown, or the task refuses a value or the number of animals.
    """
    from vnl_envs.perturbations import perturbed

    row = get_row(id)
    bodies = _bodies(row, num_agents)
    _check_options(id, options)
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


def _check_options(id: str, options: Mapping[str, Any]) -> None:
    known = task_options(id)
    if unknown := sorted(set(options) - set(known)):
        # Python's own wording, which TorchRL, for one, looks for.
        raise UnknownArgumentError(
            f"{id} got an unexpected keyword argument {', '.join(map(repr, unknown))}; "
            f"beside the environment's own there are {sorted(known)}"
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


# The built-in table. Lengths in metres, speeds in m/s, angles in radians.
_IMITATION = "vnl_envs.tasks.imitation:Imitation"
_JUMP_GAP = "vnl_envs.tasks.jump_gap:JumpGap"
_GOAL_REACHING = "vnl_envs.tasks.goal_reaching:GoalReaching"
_GOAL_RACE = "vnl_envs.tasks.goal_race:GoalRace"
_ESCAPE = "vnl_envs.tasks.escape:Escape"
_OBSTACLES = "vnl_envs.tasks.obstacles:Obstacles"
_FORAGE = "vnl_envs.tasks.forage:Forage"
_TWO_TOUCH = "vnl_envs.tasks.two_touch:TwoTouch"
_VELOCITY = "vnl_envs.tasks.velocity:Velocity"
_HORIZON = 1000
_40_DEGREES, _90_DEGREES = 0.6981317007977318, 1.5707963267948966

register_task(
    "vnl/RodentImitation-v0",
    body="rodent",
    task=_IMITATION,
    horizon=_HORIZON,
    sigma={
        "root_position": 0.035,
        "root_orientation": _40_DEGREES,
        "joints": 1.4,
        "joint_velocity": 1.0,
        "bodies": 0.25,
        "limbs": 0.032,
    },
    limit={"root_position": 0.1, "root_orientation": _90_DEGREES, "joints": 4.0},
    reference_frames=(1, 2, 3, 4, 5),
)
register_task(
    "vnl/RodentJumpGap-v0",
    body="rodent",
    task=_JUMP_GAP,
    ladder=(0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2),
    horizon=_HORIZON,
    target_speed=0.75,
    gap_width=(0.04, 0.16),
    platform_length=0.5,
    half_width=0.5,
    start_front=0.6,
    start_back=0.4,
    depth=0.2,
)
register_task(
    "vnl/RodentGoalReaching-v0",
    body="rodent",
    task=_GOAL_REACHING,
    horizon=_HORIZON,
    target_speed=0.75,
    radius=0.1,
    distance=(0.4, 1.2),
)
register_task(
    "vnl/HumanoidImitation-v0",
    body="humanoid",
    task=_IMITATION,
    horizon=_HORIZON,
    # Lengths are about 9 times the rat's (1.8 m, and 0.2 m from nose to tail base). "bodies" also
    # grows with the square root of their number (31, and 18 for the rat).
    sigma={
        "root_position": 0.3,
        "root_orientation": _40_DEGREES,
        "joints": 1.4,
        "joint_velocity": 1.0,
        "bodies": 3.0,
        "limbs": 0.3,
    },
    limit={"root_position": 0.5, "root_orientation": _90_DEGREES, "joints": 4.0},
    reference_frames=(1, 2, 3, 5, 8),
)
register_task(
    "vnl/HumanoidJumpGap-v0",
    body="humanoid",
    task=_JUMP_GAP,
    ladder=(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2),
    horizon=_HORIZON,
    target_speed=2.0,
    gap_width=(0.3, 1.0),
    platform_length=1.5,
    half_width=1.5,
    start_front=3.0,
    start_back=2.0,
    depth=1.0,
)
register_task(
    "vnl/HumanoidGoalReaching-v0",
    body="humanoid",
    task=_GOAL_REACHING,
    horizon=_HORIZON,
    target_speed=2.0,
    radius=0.5,
    distance=(2.0, 5.0),
)

register_task(
    "vnl/RodentVelocity-v0",
    body="rodent",
    task=_VELOCITY,
    horizon=_HORIZON,
    forward=0.6,
    sideways=0.1,
    turning=1.5,
    standing=0.05,
    duration=(2.0, 6.0),
    averaging=1.0,
)
register_task(
    "vnl/HumanoidVelocity-v0",
    body="humanoid",
    task=_VELOCITY,
    horizon=_HORIZON,
    forward=2.0,
    sideways=0.3,
    turning=1.0,
    standing=0.05,
    duration=(2.0, 6.0),
    averaging=1.0,
)

# Touches and times are dm_control's (`locomotion.tasks.reach.TwoTouch` with the settings of
# `examples.basic_rodent_2020`); the humanoid's lengths are an arm's.
_TIMING: dict[str, Any] = {"interval": 0.8, "tolerance": 0.1, "debounce": 0.2, "rest": 1.2}
register_task(
    "vnl/RodentTwoTouch-v0",
    body="rodent",
    task=_TWO_TOUCH,
    horizon=_HORIZON,
    radius=0.025,
    height=0.14,
    distance=(0.3, 1.5),
    falloff=3.0,
    **_TIMING,
)
register_task(
    "vnl/HumanoidTwoTouch-v0",
    body="humanoid",
    task=_TWO_TOUCH,
    horizon=_HORIZON,
    radius=0.1,
    height=1.3,
    distance=(1.0, 4.0),
    falloff=1.0,
    **_TIMING,
)

# The rat's bowl is that of vnl-playground, the humanoid's dm_control's.
register_task(
    "vnl/RodentEscape-v0",
    body="rodent",
    task=_ESCAPE,
    horizon=_HORIZON,
    radius=2.0,
    height=0.2,
    spacing=0.6,
    curvature=0.75,
    seen=(0.15, 0.3),
)
register_task(
    "vnl/HumanoidEscape-v0",
    body="humanoid",
    task=_ESCAPE,
    horizon=_HORIZON,
    radius=6.0,
    height=0.5,
    spacing=2.5,
    curvature=3.8,
    seen=(0.75, 1.5),
)

# The humanoid's corridor and widest wall are those of dm_control's `WallsCorridor`. The rat's
# lengths are a quarter of the humanoid's, its heights an eighth.
_LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
register_task(
    "vnl/RodentObstacles-v0",
    body="rodent",
    task=_OBSTACLES,
    ladder=_LEVELS,
    horizon=_HORIZON,
    target_speed=0.75,
    spacing=(0.8, 1.2),
    start_front=0.8,
    hurdle=(0.02, 0.035),
    rise=(0.01, 0.015),
    wall=(0.375, 0.625),
    half_width=0.5,
    thickness=0.02,
    tread=0.075,
    landing=0.15,
    depth=0.2,
    wall_height=0.2,
)
register_task(
    "vnl/HumanoidObstacles-v0",
    body="humanoid",
    task=_OBSTACLES,
    ladder=_LEVELS,
    horizon=_HORIZON,
    target_speed=2.0,
    spacing=(3.0, 4.0),
    start_front=3.0,
    hurdle=(0.15, 0.25),
    rise=(0.08, 0.12),
    wall=(1.5, 2.5),
    half_width=2.0,
    thickness=0.1,
    tread=0.3,
    landing=0.6,
    depth=1.0,
    wall_height=2.0,
)

# Lengths are those of dm_control's examples, `basic_rodent_2020` and `basic_cmu_2019`. Only the
# humanoid's walls are half as high, so that pictures show the humanoid.
register_task(
    "vnl/RodentForage-v0",
    body="rodent",
    task=_FORAGE,
    horizon=_HORIZON,
    cell=0.5,
    wall_height=0.3,
    radius=0.1,
    treat_height=0.125,
)
register_task(
    "vnl/HumanoidForage-v0",
    body="humanoid",
    task=_FORAGE,
    horizon=_HORIZON,
    cell=3.0,
    wall_height=1.0,
    radius=0.5,
    treat_height=1.0,
)

register_task(
    "vnl/RodentGoalRace-v0",
    body="rodent",
    task=_GOAL_RACE,
    num_agents=2,
    spacing=0.15,
    **task_settings("vnl/RodentGoalReaching-v0"),
)
register_task(
    "vnl/HumanoidGoalRace-v0",
    body="humanoid",
    task=_GOAL_RACE,
    num_agents=2,
    spacing=1.0,
    **task_settings("vnl/HumanoidGoalReaching-v0"),
)
