"""Escape: the reward is dm_control's, the hills near the body are those of the episode."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import mujoco
import numpy as np
import pytest
from test_tasks import drive, slid, standing_at

import vnl_envs
from vnl_envs.envs.core import Core
from vnl_envs.tasks import Escape
from vnl_envs.tasks.escape import bowl
from vnl_envs.testing.environments import episode_of, task_of
from vnl_envs.testing.simulations import forward, physics_at, physics_of

IDS = [i for i in vnl_envs.task_ids() if "Escape" in i]


def ground(task: Escape, heights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Height of the ground at points (n, 2), by all hills of an episode."""
    half = round((len(heights) ** 0.5 - 1) / 2)
    tops = heights.reshape(2 * half + 1, -1).astype(float)
    best = np.zeros(len(points))
    for i, j in np.argwhere(tops > 0):
        away = points - task.spacing * (np.array([i, j]) - half)
        square = task.curvature**2 - (away**2).sum(axis=-1)
        top = tops[i, j] - task.curvature + np.sqrt(np.maximum(square, 0))
        best = np.maximum(best, np.where(square > 0, top, 0))
    return best


def test_the_bowl_is_that_of_dm_control(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its shape, without bumps, and the height that a bump takes off."""
    from dm_control.locomotion.arenas import bowl as theirs

    from vnl_envs.tasks.escape import LOWEST

    assert theirs._TERRAIN_SMOOTHNESS == LOWEST
    monkeypatch.setattr(theirs, "_TERRAIN_SMOOTHNESS", 1.0)
    data = np.zeros(201**2)
    hfield = SimpleNamespace(nrow=201, ncol=201, size=(6, 6, 0.5, 0.1), adr=0)
    physics = SimpleNamespace(
        bind=lambda _: hfield, model=SimpleNamespace(hfield_data=data), contexts=None
    )
    arena = theirs.Bowl()
    arena.initialize_episode(physics, np.random.RandomState(0))
    row = np.linspace(-1, 1, 201)
    shape = bowl(np.hypot(*np.meshgrid(row, row)))
    np.testing.assert_allclose(data.reshape(201, 201), shape, atol=1e-6)


@pytest.mark.parametrize("task_id", IDS)
def test_reward_is_that_of_dm_control(task_id: str) -> None:
    """On the floor: distance within the radius times uprightness within 30 degrees."""
    from dm_control.locomotion.tasks import escape as theirs

    task, rng = task_of(task_id), np.random.default_rng(0)
    episode = episode_of(task, 1)
    for _ in range(30):
        quat = task.body.standing_qpos[3:7] + rng.normal(0, 0.6, 4)
        qpos = task.body.standing_qpos.copy()
        qpos[3:7] = quat / np.linalg.norm(quat)
        qpos[:2] = rng.uniform(-1, 1, 2) * task.radius
        state = physics_at(task, qpos)
        ((_, outcome),) = drive(task, [state], episode)
        up = state.xmat[0, 0].reshape(3, 3) @ task.body.ego[:, 2]
        # The distance is the horizontal one here; there it is that of a site, its height included.
        place = np.array([*qpos[:2], 0.0])
        physics = SimpleNamespace(
            model=SimpleNamespace(hfield_size=np.array([[task.radius]])),
            named=SimpleNamespace(data=SimpleNamespace(site_xpos={"root": place})),
            bind=lambda _, up=up: SimpleNamespace(xmat=np.array([0, up[2]])),
        )
        other = object.__new__(theirs.Escape)
        other._reward_body, other._walker = "root", SimpleNamespace(root_body=None)
        assert outcome.reward[0] == pytest.approx(other.get_reward(physics), abs=1e-9)


@pytest.mark.parametrize("task_id", IDS)
def test_hills_near_the_body_are_the_episodes(task_id: str) -> None:
    """Wherever the body is: MuJoCo's own ray meets the ground where all hills together have it."""
    task = task_of(task_id)
    model, rng = task.world.model, np.random.default_rng(0)
    episode = episode_of(task, 1, seed=2)
    reach = task.body.body.reach
    heights = episode["heights"][0]
    assert (heights >= 0).all()
    assert 0.4 * task.height < heights.max() < task.height
    for _ in range(40):
        here = rng.uniform(-1.2, 1.2, 2) * task.radius
        state = slid(task_id, *here)
        ((carry, outcome),) = drive(task, [state], episode)
        hills = task.external_inputs(episode, carry).mocap_pos[0]
        data = forward(task, state.qpos[0], mocap_pos=hills)
        points = here + rng.uniform(-reach, reach, (20, 2))
        expected = ground(task, heights, points)
        for point, top in zip(points, expected, strict=True):
            geom = np.zeros(1, np.int32)
            group = np.array([1, 0, 0, 0, 0, 0], np.uint8)
            # Rays begin above the body, which is left out.
            body = task.body.bodies.start
            down = _ray(model, data, [*point, 20.0], group, body, geom)
            assert 20.0 - down == pytest.approx(top, abs=1e-4)
        under = ground(task, heights, here[None])[0]
        np.testing.assert_allclose(task.elevation(state, carry), under, atol=1e-5)
        seen = outcome.observation["task"]
        own = state.xmat[0, 0].reshape(3, 3) @ task.body.ego
        ahead = own[:2, 0] / np.linalg.norm(own[:2, 0])
        np.testing.assert_allclose(
            seen["ground"][0, 0],
            ground(task, heights, (here + task.seen[0] * ahead)[None])[0] - under,
            atol=1e-5,
        )
        height = outcome.observation["proprioception"]["root_height"]
        np.testing.assert_allclose(height, state.qpos[:, 2:3] - under, atol=1e-5)


def _ray(
    model: mujoco.MjModel, data: mujoco.MjData, start: Any, group: Any, body: int, geom: Any
) -> float:
    """Distance straight down to the scenery."""
    best = np.inf
    down = np.array([0.0, 0.0, -1.0])
    scenery = [g for g in range(model.ngeom) if model.geom_bodyid[g] < body
               or model.body_mocapid[model.geom_bodyid[g]] >= 0]  # fmt: skip
    for g in scenery:
        if model.geom_type[g] == mujoco.mjtGeom.mjGEOM_PLANE:
            best = min(best, start[2])
            continue
        one = mujoco.mju_rayGeom(
            data.geom_xpos[g], data.geom_xmat[g], model.geom_size[g], np.array(start), down,
            int(model.geom_type[g]),
        )  # fmt: skip
        best = min(best, one) if one >= 0 else best
    return best


@pytest.mark.parametrize("task_id", IDS)
def test_no_hill_moves_near_the_body(task_id: str) -> None:
    """Over a random walk at several times a body's speed, what moves is out of reach."""
    task, rng = task_of(task_id), np.random.default_rng(1)
    episode = episode_of(task, 1, seed=3)
    _, carry = task.begin(episode)
    reach, here, moved = task.body.body.reach, np.zeros(2), 0
    idle = np.zeros((1, task.body.nu), np.float32)
    for _ in range(400):
        before = carry["hills"][0]
        here = here + rng.normal(0, 0.25 * reach / 2, 2)
        carry, _ = task.evaluate(slid(task_id, *here), idle, episode, carry)
        after = carry["hills"][0]
        # An episode is float32, a state float64.
        changed = (np.abs(before - after) > 1e-6).any(axis=-1)
        moved += changed.sum()
        for hill in (*before[changed], *after[changed]):
            top = hill[2] + task.curvature
            width = np.sqrt(max(task.curvature**2 - hill[2] ** 2, 0)) if top > 0 else -np.inf
            assert np.linalg.norm(hill[:2] - here) - width > reach
    assert moved > 20


@pytest.mark.parametrize("task_id", IDS)
def test_clearance_is_the_distance_to_floor_and_hills(task_id: str) -> None:
    """Touch is contact, on hills too."""
    task, rng = task_of(task_id), np.random.default_rng(0)
    core = Core(task, 8, 1)
    core.reset(np.arange(8), core.draw([np.random.default_rng(i) for i in range(8)]))
    felt = 0
    for step in range(60):
        core.step(rng.uniform(-0.3, 0.3, (8, task.body.nu)).astype(np.float32))
        if step % 10:
            continue
        for i in range(8):
            data = core.engine.data(i)
            # Contacts of the state as it is now.
            mujoco.mj_forward(task.world.model, data)
            row = {k: v[i : i + 1] for k, v in core.carry.items()}
            episode = {k: v[i : i + 1] for k, v in core.episode.items()}
            seen = task.observe(physics_of(task, data), episode, row)
            for touch, names in zip(
                seen["proprioception"]["touch"][0], task.body.body.touch.values(), strict=True
            ):
                ids = {task.world.model.geom(task.body.body.prefix + n).id for n in names}
                depth = [c.dist for c in data.contact if ids & set(c.geom.tolist())]
                if 0 > min(depth, default=0.0) > -1e-5:
                    continue
                felt += bool(touch)
                # Between its ends a capsule may touch a hill that the ends do not.
                assert bool(touch) == (min(depth, default=0.0) < 0) or min(depth) > -0.002
    assert felt


@pytest.mark.parametrize("task_id", IDS)
def test_escaping(task_id: str) -> None:
    """Distance pays, staying does not; on top of a hill nobody has fallen, and in it everybody."""
    task = task_of(task_id)
    episode = episode_of(task, 1)
    path = [0.0, 0.5, 1.0, 2.0]
    outcomes = drive(task, [slid(task_id, f * task.radius) for f in path], episode)
    upright = outcomes[-1][1].reward[0]
    rewards = [o.reward[0] / upright for _, o in outcomes]
    np.testing.assert_allclose(rewards, np.minimum(path, 1), atol=1e-6)
    assert upright > 0.95
    assert [bool(o.success[0]) for _, o in outcomes] == [False, False, True, True]
    assert outcomes[-1][1].metrics["time_to_escape"][0] == pytest.approx(3 * task.dt)
    hill = task.spacing * np.array([1.0, 0.0])
    top = ground(task, episode["heights"][0], hill[None])[0]
    into = standing_at(task, *hill)
    above = physics_at(task, into.qpos + top * (np.arange(task.body.nq) == 2))
    assert not drive(task, [above], episode)[-1][1].terminated[0]
    low = task.body.standing_qpos[2] - task.body.body.fallen_height < top
    assert bool(drive(task, [into], episode)[-1][1].terminated[0]) == low
