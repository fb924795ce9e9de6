"""The rows of the built-in tasks. Lengths in metres, speeds in m/s, angles in radians."""

from __future__ import annotations

from typing import Any

from vnl_envs.registry import register_task, task_settings

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
