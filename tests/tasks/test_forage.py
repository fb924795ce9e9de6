"""Forage: mazes that are connected, walls that stand where they are drawn, and what is seen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from test_tasks import drive, slid

import vnl_envs
from vnl_envs.registry import task_settings
from vnl_envs.tasks import Forage, mazes
from vnl_envs.testing.environments import episode_of, task_of
from vnl_envs.testing.simulations import forward

IDS = [i for i in vnl_envs.task_ids() if "Forage" in i]
RAT = "vnl/RodentForage-v0"


def grid(episode: dict[str, np.ndarray], row: int = 0) -> np.ndarray:
    """Where walls are, (CELLS, CELLS) bool."""
    return episode["walls"][row].reshape(mazes.CELLS, mazes.CELLS) > 0


def cell_of(task: Forage, place: np.ndarray) -> tuple[int, ...]:
    """The cell in which a place is."""
    return tuple(np.floor(place / task.cell + mazes.CELLS / 2).astype(int))


def test_mazes_are_sound() -> None:
    """Closed, connected, each another one, with rooms, dead ends and some loops."""
    u = np.random.default_rng(0).random((200, mazes.UNIFORMS)).astype(np.float32)
    walls, rooms = mazes.maze(u)
    walls = walls.reshape(-1, mazes.CELLS, mazes.CELLS)
    assert walls[:, [0, -1]].all()
    assert walls[:, :, [0, -1]].all()
    assert len(np.unique(walls.reshape(200, -1), axis=0)) == 200
    dead_ends = 0
    for maze, posts in zip(walls, rooms, strict=True):
        _, parts = ndimage.label(~maze)
        assert parts == 1
        assert not maze[1::2, 1::2].any()
        assert len(set(posts.tolist())) == mazes.ROOMS
        for x, y in mazes.post_cells(posts):
            assert not maze[x - 1 : x + 2, y - 1 : y + 2].any()
        open_ = ~maze
        around = ndimage.convolve(open_.astype(int), [[0, 1, 0], [1, 0, 1], [0, 1, 0]])
        dead_ends += (open_ & (around == 1)).sum()
    assert 1 < dead_ends / 200 < 8
    # A tree of 25 nodes has 24 edges; rooms and loops add some.
    edges = (~walls[:, 1::2, 2:-1:2]).sum((1, 2)) + (~walls[:, 2:-1:2, 1::2]).sum((1, 2))
    assert edges.min() >= 24
    assert 26 < edges.mean() < 36


def test_constants_are_those_of_dm_control() -> None:
    """Of its examples: cells, walls, rooms and treats in them."""
    import inspect

    from dm_control.locomotion.examples import basic_cmu_2019, basic_rodent_2020

    rat = inspect.getsource(basic_rodent_2020.rodent_maze_forage)
    human = inspect.getsource(basic_cmu_2019.cmu_humanoid_maze_forage)
    for source, task_id in ((rat, RAT), (human, IDS[1])):
        settings = task_settings(task_id)
        assert f"x_cells={mazes.CELLS}" in source
        assert f"max_rooms={mazes.ROOMS}" in source
        assert "targets_per_room=3" in source
        assert f"xy_scale={settings['cell']:g}".replace("0.5", ".5") in source
    assert f"z_height={task_settings(RAT)['wall_height']:g}".replace("0.3", ".3") in rat


@pytest.mark.parametrize("task_id", IDS)
def test_starts_and_treats_are_in_the_open(task_id: str) -> None:
    """And treats of one room apart from each other."""
    task = task_of(task_id)
    episode = episode_of(task, 100)
    treats = episode["treats"].reshape(100, -1, 2)
    assert treats.shape[1] == 12
    for i in range(100):
        walls = grid(episode, i)
        for place in (*treats[i], episode["start"][i]):
            assert not walls[cell_of(task, place)]
        rooms = treats[i].reshape(-1, 3, 2)
        apart = np.linalg.norm(rooms - np.roll(rooms, 1, axis=1), axis=-1)
        assert apart.min() > 0.8 * task.cell


@pytest.mark.parametrize("task_id", IDS)
def test_walls_near_the_body_are_the_mazes(task_id: str) -> None:
    """Within reach every point of a wall, and no other, is in one of the blocks that stand."""
    task, rng = task_of(task_id), np.random.default_rng(0)
    episode = episode_of(task, 1, seed=2)
    # Beyond the outer walls there is nothing.
    walls = np.pad(grid(episode), 2)
    for _ in range(100):
        here = rng.uniform(-5, 5, 2) * task.cell
        ((carry, _),) = drive(task, [slid(task_id, *here)], episode)
        blocks = task.external_inputs(episode, carry).mocap_pos[0]
        points = here + rng.uniform(-1, 1, (30, 2)) * task.body.body.reach
        inside = (np.abs(points[:, None] - blocks[:, :2]) < task._half[:2]).all(-1)
        standing = (inside & (blocks[:, 2] > 0)).any(-1)
        cells = [cell_of(task, p + 2 * task.cell) for p in points]
        assert standing.tolist() == [bool(walls[c]) for c in cells]


@pytest.mark.parametrize("task_id", IDS)
def test_no_block_moves_near_the_body(task_id: str) -> None:
    """At up to five times a walker's speed, what moves is out of reach."""
    task, rng = task_of(task_id), np.random.default_rng(3)
    episode = episode_of(task, 1, seed=2)
    here = episode["start"][0].astype(float)
    idle = np.zeros((1, task.body.nu), np.float32)
    _, carry = task.begin(episode)
    moved = 0
    for _ in range(300):
        before = carry["blocks"][0]
        step = rng.uniform(-1, 1, 2) * 0.15 * task.cell
        here = np.clip(here + step, -5 * task.cell, 5 * task.cell)
        carry, _ = task.evaluate(slid(task_id, *here), idle, episode, carry)
        after = carry["blocks"][0]
        changed = (np.abs(before - after) > 1e-5).any(-1)
        moved += changed.sum()
        for block in (*before[changed], *after[changed]):
            if block[2] > 0:
                away = np.maximum(np.abs(block[:2] - here) - task._half[:2], 0)
                assert np.linalg.norm(away) > task.body.body.reach
    assert moved > 20


@pytest.mark.parametrize("task_id", IDS)
def test_what_is_seen(task_id: str) -> None:
    """Ways to the walls, by small steps through the maze; treats that no wall hides."""
    task, rng = task_of(task_id), np.random.default_rng(0)
    sights = []
    for seed in range(15):
        episode = episode_of(task, 1, seed)
        walls = grid(episode)
        treats = episode["treats"].reshape(-1, 2)
        free = np.argwhere(~walls)
        middle = (free[rng.integers(len(free))] - mazes.CELLS // 2) * task.cell
        here = middle + rng.uniform(-0.4, 0.4, 2) * task.cell
        state = slid(task_id, *here)
        ((carry, outcome),) = drive(task, [state], episode)
        own = state.xmat[0, 0].reshape(3, 3) @ task.body.ego
        yaw = np.arctan2(own[1, 0], own[0, 0])
        seen = outcome.observation["task"]
        steps = np.arange(0, 12 * task.cell, 2e-3 * task.cell)

        def way(angle: float, here=here, walls=walls, steps=steps) -> float:
            points = here + steps[:, None] * [np.cos(angle), np.sin(angle)]
            cells = np.floor(points / task.cell + mazes.CELLS / 2).astype(int)
            cells = np.clip(cells, 0, mazes.CELLS - 1)
            return float(steps[walls[cells[:, 0], cells[:, 1]].argmax()])

        expected = [way(yaw + 2 * np.pi * k / 12) for k in range(12)]
        np.testing.assert_allclose(seen["wall_distance"][0], expected, atol=5e-3 * task.cell)
        away = treats - here
        distance = np.linalg.norm(away, axis=-1)
        visible = [d < way(np.arctan2(a[1], a[0])) for a, d in zip(away, distance, strict=True)]
        visible &= carry["gone"][0] == 0
        sights.append(visible.any())
        assert seen["treat_in_sight"][0, 0] == visible.any()
        if visible.any():
            nearest = away[np.where(visible, distance, np.inf).argmin()]
            c, s = np.cos(yaw), np.sin(yaw)
            ahead = [c * nearest[0] + s * nearest[1], c * nearest[1] - s * nearest[0]]
            np.testing.assert_allclose(seen["treat_position"][0], ahead, atol=1e-5)
        else:
            assert not seen["treat_position"].any()
    assert 0 < sum(sights) < len(sights)


@pytest.mark.parametrize("task_id", IDS)
def test_each_treat_pays_once(task_id: str) -> None:
    """Going to all of them, twice; those at the start are gone."""
    task = task_of(task_id)
    episode = episode_of(task, 1, seed=4)
    treats = episode["treats"].reshape(-1, 2).astype(float)
    outcomes = [o for _, o in drive(task, [slid(task_id, *p) for p in (*treats, *treats)], episode)]
    rewards = np.array([o.reward[0] for o in outcomes])
    assert set(rewards) <= {0.0, 1.0}
    assert not rewards[12:].any()
    assert 8 <= rewards.sum() <= 12
    found = int(outcomes[-1].metrics["treats_found"][0])
    at_start = int(task.begin(episode)[1]["gone"].sum())
    assert found == 12 - at_start
    there = {**episode, "start": treats[:1].astype(np.float32)}
    assert drive(task, [slid(task_id, *treats[0])], there)[0][1].reward[0] == 0
    assert outcomes[-1].success[0]


@pytest.mark.parametrize("task_id", IDS)
def test_walls_stop_a_body(task_id: str) -> None:
    """MuJoCo has contacts of a body that stands at a wall with it, and `clearance` says so."""
    task = task_of(task_id)
    episode = episode_of(task, 1, seed=2)
    walls = grid(episode)
    x, y = next((i, j) for i, j in np.argwhere(~walls) if walls[i + 1, j])
    edge = (x + 1 - mazes.CELLS / 2) * task.cell
    place = np.array([edge - 0.01 * task.cell, (y - mazes.CELLS // 2) * task.cell])
    state = slid(task_id, *place)
    ((carry, _),) = drive(task, [state], episode)
    data = forward(task, state.qpos[0], mocap_pos=carry["blocks"][0])
    model = task.world.model
    touched = [model.geom(int(g)).name for c in data.contact for g in c.geom]
    assert any(name.startswith("wall") for name in touched)
    assert task.clearance(np.array([[[edge + 0.05, place[1], 0.1]]]), carry)[0, 0] < 0
