"""Obstacles: what stands near the body is the corridor's, and passing it is what counts."""

from __future__ import annotations

import functools
from typing import Any

import mujoco
import numpy as np
import pytest
from test_tasks import drive, slid

import vnl_envs
from vnl_envs.tasks import Obstacles
from vnl_envs.testing.environments import episode_of, task_of
from vnl_envs.testing.simulations import forward, physics_of

IDS = [i for i in vnl_envs.task_ids() if "Obstacles" in i]
KINDS = ("hurdles", "stairs", "walls")
BOX = mujoco.mjtGeom.mjGEOM_BOX.value


@functools.lru_cache
def made(task_id: str, **options: Any) -> Obstacles:
    """A task with options."""
    return vnl_envs.make_task(task_id, **options) if options else task_of(task_id)


def top(task: Obstacles, episode: dict[str, np.ndarray], points: np.ndarray) -> np.ndarray:
    """Height of the highest thing at points (n, 2) of an endless corridor, by brute force."""
    places = episode["places"][0].astype(float)
    kinds, sizes, sides = (episode[n][0] for n in ("kinds", "sizes", "sides"))
    best = np.zeros(len(points))
    for cycle in range(3):
        for place, kind, size, side in zip(places, kinds, sizes, sides, strict=True):
            away = np.abs(points[:, 0] - place - cycle * float(episode["period"][0]))
            height = np.zeros(len(points))
            if KINDS[kind] == "hurdles":
                height[away <= task.thickness / 2] = size
            elif KINDS[kind] == "stairs":
                for step in range(3):
                    height[away <= task.landing / 2 + (2 - step) * task.tread] = (step + 1) * size
            else:
                end = side * (task.half_width - size)
                inside = (points[:, 1] - end) * side >= 0
                height[(away <= task.thickness / 2) & inside] = task.wall_height
            best = np.maximum(best, height)
    return best


def test_walls_are_those_of_dm_control() -> None:
    """The humanoid's corridor and its widest wall."""
    import inspect

    from dm_control.locomotion.arenas import corridors

    task = task_of("vnl/HumanoidObstacles-v0")
    theirs = inspect.signature(corridors.WallsCorridor._build).parameters
    assert 2 * task.half_width == theirs["corridor_width"].default
    assert task.wall[1] == theirs["wall_width"].default
    assert task.wall_height == theirs["wall_height"].default


@pytest.mark.parametrize("task_id", IDS)
def test_obstacles_are_as_declared(task_id: str) -> None:
    """Of all kinds, in their ranges, more than anybody passes; options choose among them."""
    task = made(task_id)
    episode = episode_of(task, 50)
    gaps = np.diff(episode["places"], axis=1)
    assert gaps.min() > task.spacing[0] - 1e-4
    assert gaps.max() < task.spacing[1] + 1e-4
    assert episode["places"][:, -1].min() > task.target_speed * 20
    assert set(np.unique(episode["sides"])) == {-1, 1}
    for kind, (low, high) in enumerate((task.hurdle, task.rise, task.wall)):
        sizes = episode["sizes"][episode["kinds"] == kind]
        assert 0.25 < len(sizes) / episode["sizes"].size < 0.42
        np.testing.assert_allclose([sizes.min(), sizes.max()], [low, high], rtol=0.02)
        for level in (0.0, 1.0):
            alone = episode_of(made(task_id, obstacles=KINDS[kind], level=level), 2)
            assert (alone["kinds"] == kind).all()
            np.testing.assert_allclose(alone["sizes"], (low, high)[int(level)], rtol=1e-6)
    for wrong in ({"obstacles": "lava"}, {"level": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            vnl_envs.make_task(task_id, **wrong)


@pytest.mark.parametrize("task_id", IDS)
@pytest.mark.parametrize("obstacles", ["mixed", "walls"])
def test_what_stands_near_the_body(task_id: str, obstacles: str) -> None:
    """Wherever the body is, past the period too: MuJoCo's rays meet what the episode says."""
    task = made(task_id, obstacles=obstacles)
    model, rng = task.world.model, np.random.default_rng(0)
    episode = episode_of(task, 1, seed=3)
    reach = task.body.body.reach
    scenery = np.flatnonzero(model.body_mocapid[model.geom_bodyid] >= 0)
    for x in rng.uniform(0, 1.2, 25) * float(episode["period"][0]):
        ((carry, _),) = drive(task, [slid(task_id, x)], episode)
        boxes = task.external_inputs(episode, carry).mocap_pos[0]
        data = forward(task, task.body.standing_qpos, mocap_pos=boxes)
        points = rng.uniform(-1, 1, (40, 2)) * [reach, task.half_width] + [x, 0]
        expected = top(task, episode, points)
        for point, height in zip(points, expected, strict=True):
            # What is at an edge is a matter of rounding.
            beside = point + 1e-3 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
            if (top(task, episode, beside) != height).any():
                continue
            start, down = np.array([*point, 10.0]), np.array([0, 0, -1.0])
            poses = ((data.geom_xpos[g], data.geom_xmat[g], model.geom_size[g]) for g in scenery)
            hits = [mujoco.mju_rayGeom(*pose, start, down, BOX) for pose in poses]
            found = 10.0 - min([h for h in hits if h >= 0], default=10.0)
            assert max(found, 0.0) == pytest.approx(height, abs=1e-4)


@pytest.mark.parametrize("task_id", IDS)
def test_no_box_moves_near_the_body(task_id: str) -> None:
    """Over a random walk at up to four times the target speed."""
    task, rng = made(task_id), np.random.default_rng(1)
    episode = episode_of(task, 1, seed=3)
    x, moved = 0.0, 0
    idle = np.zeros((1, task.body.nu), np.float32)
    _, carry = task.begin(episode)
    for _ in range(600):
        before = carry["boxes"][0]
        x = max(x + rng.uniform(-0.5, 1) * 4 * task.target_speed * task.dt, 0.0)
        carry, _ = task.evaluate(slid(task_id, x), idle, episode, carry)
        after = carry["boxes"][0]
        changed = (np.abs(before - after) > 1e-4).any(axis=-1)
        moved += changed.sum()
        for boxes in (before, after):
            near = np.abs(boxes[changed, 0] - x) - task._half[changed, 0]
            shown = boxes[changed, 2] > task._sunk
            assert (near[shown] > task.body.body.reach).all()
    assert moved > 20


@pytest.mark.parametrize("task_id", IDS)
def test_clearance_is_the_distance_to_the_boxes(task_id: str) -> None:
    """A small sphere there touches exactly what MuJoCo says."""
    task, rng = made(task_id), np.random.default_rng(0)
    episode = episode_of(task, 1, seed=2)
    place = float(episode["places"][0, 0])
    ((carry, _),) = drive(task, [slid(task_id, place)], episode)
    points = rng.uniform(-1, 1, (300, 3)) * task.spacing[0] * np.array([1, 0.5, 0.1]) + [
        place,
        0,
        0,
    ]
    ours = task.clearance(points[None], carry)[0]
    boxes = carry["boxes"][0]
    for point, distance in zip(points, ours, strict=True):
        q = np.abs(point - boxes) - task._half
        signed = [np.linalg.norm(np.maximum(row, 0)) + min(row.max(), 0) for row in q]
        assert distance == pytest.approx(min([point[2], *signed]), abs=1e-9)
    assert (ours < points[:, 2] - 1e-6).any()


@pytest.mark.parametrize("task_id", IDS)
def test_obstacles_are_observed_and_counted(task_id: str) -> None:
    """The next two as they are; passed once they are behind, and not by whoever falls."""
    task = made(task_id)
    episode = episode_of(task, 1, seed=6)
    places = episode["places"][0].astype(float)
    kinds, sizes = episode["kinds"][0], episode["sizes"][0]
    on = [0.0, (places[0] + places[1]) / 2, (places[2] + places[3]) / 2]
    outcomes = [o for _, o in drive(task, [slid(task_id, x) for x in on], episode)]
    assert [int(o.metrics["obstacles_passed"][0]) for o in outcomes] == [0, 1, 3]
    for x, outcome, k in zip(on, outcomes, (0, 1, 3), strict=True):
        seen = outcome.observation["task"]
        np.testing.assert_allclose(seen["obstacle_position"][0], places[k : k + 2] - x, atol=1e-4)
        np.testing.assert_allclose(seen["obstacle_size"][0], sizes[k : k + 2], rtol=1e-5)
        flags = seen["obstacle_kind"][0].reshape(2, 3)
        assert flags.argmax(axis=1).tolist() == kinds[k : k + 2].tolist()
        for opening, i in zip(seen["opening"][0].reshape(2, 2), (k, k + 1), strict=True):
            side = episode["sides"][0, i] if KINDS[kinds[i]] == "walls" else 0
            end = side * (task.half_width - sizes[i])
            np.testing.assert_allclose(opening, [side, end], atol=1e-5)
    fall = task.body.standing_qpos[2] - task.body.body.fallen_height + 1e-3
    failed = drive(task, [slid(task_id, on[1], fall=fall)], episode)[-1][1]
    assert failed.terminated[0]
    assert failed.metrics["obstacles_passed"][0] == 0
    beside = drive(task, [slid(task_id, 0.0, 1.02 * task.half_width)], episode)[-1][1]
    assert beside.terminated[0]


@pytest.mark.parametrize("task_id", IDS)
def test_height_is_that_above_the_stairs(task_id: str) -> None:
    """On the landing a standing body stands; in a wall it has fallen; over a hurdle it has not."""
    over = {}
    for kind in KINDS:
        task = made(task_id, obstacles=kind, level=0.5)
        episode = episode_of(task, 1)
        episode["sides"][:] = 1
        place = float(episode["places"][0, 0])
        y = task.half_width - 0.1 * task.wall[0]
        height = 3 * float(episode["sizes"][0, 0]) if kind == "stairs" else 0.0
        outcome = drive(task, [slid(task_id, place, y, fall=-height)], episode)[-1][1]
        over[kind] = bool(outcome.terminated[0])
        if kind != "walls":
            root = outcome.observation["proprioception"]["root_height"][0, 0]
            assert root == pytest.approx(task.body.standing_qpos[2], abs=1e-5)
    assert over == {"hurdles": False, "stairs": False, "walls": True}


@pytest.mark.parametrize("task_id", IDS)
def test_feet_stand_on_stairs_and_touch(task_id: str) -> None:
    """Touch is contact on stairs too."""
    task = made(task_id, obstacles="stairs", level=0.5)
    episode = episode_of(task, 1)
    place = float(episode["places"][0, 0])
    qpos = task.body.standing_qpos.copy()
    qpos[0] = place
    qpos[2] += 3 * float(episode["sizes"][0, 0]) - 1e-3
    ((carry, _),) = drive(task, [slid(task_id, place)], episode)
    data = forward(task, qpos, mocap_pos=carry["boxes"][0])
    seen = task.observe(physics_of(task, data), episode, carry)["proprioception"]
    assert data.ncon > 0
    assert seen["touch"].any()
