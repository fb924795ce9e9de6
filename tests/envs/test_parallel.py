"""Races of several animals: PettingZoo's own tests, and what a race adds to goal reaching."""

from __future__ import annotations

import dataclasses
import functools
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from support import restored_registry

import vnl_envs
from vnl_envs.bodies.model import lowest_point
from vnl_envs.physics import Physics
from vnl_envs.registry import get_body, get_row, make_task, task_settings
from vnl_envs.rendering.renderer import following_camera
from vnl_envs.scenes.floor import Floor
from vnl_envs.scenes.world import build_world
from vnl_envs.tasks.goal_race import GoalRace
from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import rows, task_of
from vnl_envs.testing.simulations import (
    STATE,
    flat,
    moved,
    physics_at,
    physics_of,
    quat_mul,
    turned,
)

pytest.importorskip("pettingzoo")
from pettingzoo.test import parallel_api_test, parallel_seed_test
from pettingzoo.test.state_test import state_test
from pettingzoo.utils import parallel_to_aec

IDS = vnl_envs.parallel_ids()
RODENT = "vnl/RodentGoalRace-v0"
ROOT = Path(__file__).parents[2]


def solo_id(race_id: str) -> str:
    """The task of one animal whose goals a race is for."""
    return race_id.replace("GoalRace", "GoalReaching")


every_race = pytest.mark.parametrize("race_id", IDS)
every_number = pytest.mark.parametrize("num", [2, 3])


@functools.lru_cache(maxsize=8)
def shared(race_id: str, num: int = 2) -> Any:
    """An environment shared by all tests: reset it first."""
    return vnl_envs.parallel_env(race_id, num)


def actions_for(env: Any, rng: np.random.Generator, size: float = 1.0) -> dict[str, np.ndarray]:
    """A uniform action for each agent."""
    shape = env.task.body.nu
    return {a: rng.uniform(-size, size, shape).astype(np.float32) for a in env.agents}


def still(env: Any) -> dict[str, np.ndarray]:
    """The action 0 for each agent."""
    return {agent: np.zeros(env.task.body.nu, np.float32) for agent in env.agents}


def run(env: Any, steps: int, seed: int, size: float = 1.0) -> list[Any]:
    """The results of a reset and of steps with random actions, until the race is over."""
    rng, results = np.random.default_rng(seed), [env.reset(seed=seed)]
    for _ in range(steps):
        if not env.agents:
            break
        results.append(env.step(actions_for(env, rng, size)))
    return results


def edit(env: Any, change: Callable[[mujoco.MjData], None], **carry: Any) -> None:
    """Change the state of the simulation, and parts of the carry."""
    state = env.get_state()
    data, row = mujoco.MjData(env.model), np.array(state["physics"][0], float)
    mujoco.mj_setState(env.model, data, row, STATE)
    change(data)
    mujoco.mj_getState(env.model, data, row, STATE)
    state["physics"][0] = row
    state["carry"].update({k: np.array(v)[None] for k, v in carry.items()})
    env.set_state(state)


def put(env: Any, index: int, x: float, y: float, upset: bool = False) -> Callable[[Any], None]:
    """A change of state that stands an animal at (x, y) m, or throws it on its back there."""
    body = env.task.world.bodies[index]

    def change(data: mujoco.MjData) -> None:
        pose = data.qpos[body.qpos]
        pose[:] = body.standing_qpos
        pose[:2] = x, y
        if upset:
            pose[2] = 0.9 * body.body.fallen_height
            pose[3:7] = quat_mul(np.array([0.0, 1.0, 0.0, 0.0]), pose[None, 3:7])[0]
        data.qvel[body.qvel] = 0

    return change


def view(race: GoalRace, data: mujoco.MjData) -> Physics:
    """The view that a race has of one state, rows (1, N)."""
    views = []
    for body in race.world.bodies:
        one = dataclasses.replace(race.world, bodies=(body,))
        views.append(physics_of(type("Owner", (), {"body": one.body})(), data))
    names = [field.name for field in dataclasses.fields(Physics)]
    return Physics(*(np.stack([getattr(v, n) for v in views], axis=1) for n in names))


def owner(race: GoalRace, geom: int) -> int:
    """Index of the animal whose geom it is, -1 for the ground."""
    for i, body in enumerate(race.world.bodies):
        if body.geoms.start <= geom < body.geoms.stop:
            return i
    return -1


def meetings(race: GoalRace, data: mujoco.MjData) -> list[tuple[int, int]]:
    """Owners of the two geoms of each contact."""
    return [(owner(race, c.geom[0]), owner(race, c.geom[1])) for c in data.contact]


# PettingZoo


@every_race
@every_number
@pytest.mark.filterwarnings("error::UserWarning")
def test_pettingzoo_api(race_id: str, num: int) -> None:
    """PettingZoo's own test passes without a remark."""
    parallel_api_test(vnl_envs.parallel_env(race_id, num), 200)


@every_race
@every_number
def test_pettingzoo_seeds(race_id: str, num: int) -> None:
    """So does that of seeds."""
    parallel_seed_test(lambda: vnl_envs.parallel_env(race_id, num), 100)


def test_pettingzoo_state() -> None:
    """And that of the state; only infinite bounds may be remarked on."""
    env = vnl_envs.parallel_env(RODENT)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        state_test(parallel_to_aec(vnl_envs.parallel_env(RODENT)), env)
    assert [str(w.message) for w in caught if "infinity" not in str(w.message)] == []


def test_supersuit_skips_frames() -> None:
    """By a number drawn from the race's own generator, the one that draws the episodes."""
    supersuit = pytest.importorskip("supersuit")
    env = supersuit.frame_skip_v0(vnl_envs.parallel_env(RODENT), (2, 4))
    env.reset(seed=0)
    before = env.unwrapped.np_random.bit_generator.state
    infos = env.step(still(env.unwrapped))[-1]
    assert env.unwrapped.np_random.bit_generator.state != before
    assert infos[env.agents[0]]["metrics"]["length"] in (2, 3, 4)
    alone = gymnasium.utils.seeding.np_random(0)[0]
    env.reset(seed=0)
    alone.random(env.unwrapped.task.uniforms, np.float32)
    assert env.unwrapped.np_random.bit_generator.state == alone.bit_generator.state


def test_supersuit_skips_frames_over_a_fall() -> None:
    """It repeats the actions of an animal that has fallen meanwhile."""
    supersuit = pytest.importorskip("supersuit")
    env = supersuit.frame_skip_v0(vnl_envs.parallel_env(RODENT), 10)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    fallen = 0
    while env.agents:
        racing = [*env.agents]
        terminations = env.step(actions_for(env.unwrapped, rng))[2]
        assert set(terminations) == set(racing)
        fallen += len(racing) == 2 and sum(terminations.values()) == 1
    assert fallen == 1


@every_race
@every_number
def test_spaces(race_id: str, num: int) -> None:
    """The same for every agent, with a complete layout, and observations that lie in them."""
    env = shared(race_id, num)
    assert len(env.possible_agents) == env.num_agents or not env.agents
    observations, infos = env.reset(seed=0)
    assert list(observations) == list(infos) == env.agents == env.possible_agents
    body = get_body(get_row(race_id).body).name
    assert env.agents == [f"{body}_{i}" for i in range(num)]
    for agent in env.agents:
        space = env.observation_space(agent)
        assert space.contains(observations[agent])
        assert space.shape == (max(s.stop for s in env.layout.values()),)
        assert env.action_space(agent) == gymnasium.spaces.Box(
            -1, 1, (env.task.body.nu,), np.float32
        )
    assert_same(env.state(), np.concatenate(list(observations.values())))
    assert env.state() in env.state_space


@every_race
def test_steps_are_the_single_environments(race_id: str) -> None:
    """Rewards in [0, 1] that are the sum of their terms; infos as a single environment's."""
    env = vnl_envs.parallel_env(race_id, 2)
    alone = gymnasium.make(solo_id(race_id))
    alone.reset(seed=0)
    info = alone.step(np.zeros(alone.action_space.shape, np.float32))[4]
    for result in run(env, 150, seed=3)[1:]:
        for agent, reward in result[1].items():
            ours = result[4][agent]
            assert 0 <= reward <= 1
            assert reward == pytest.approx(sum(ours["reward_terms"].values()))
            assert set(ours) == set(info)
            assert set(ours["metrics"]) == set(info["metrics"])
            assert not (result[2][agent] and result[3][agent])


@every_race
def test_seed_and_stream(race_id: str) -> None:
    """A seed decides the episodes after it too; without one, races differ."""
    env, other = vnl_envs.parallel_env(race_id), shared(race_id)
    assert_same(run(env, 40, seed=5), run(other, 40, seed=5))
    assert_same(env.reset()[0], other.reset()[0])
    assert_same(env.episode, other.episode)
    before = env.episode["goals"]
    env.reset()
    assert (env.episode["goals"] != before).any()


@every_race
def test_replay(race_id: str) -> None:
    """`reset(options={"episode": …})` gives the same race."""
    env = shared(race_id, 3)
    first = env.reset(seed=8)[0]
    episode = env.episode
    env.reset(seed=9)
    assert_same(env.reset(options={"episode": episode})[0], first)


@every_race
def test_state_and_pickle(race_id: str) -> None:
    """A restored or unpickled environment goes on with the same bits."""
    env = vnl_envs.parallel_env(race_id, 2)
    run(env, 10, seed=1, size=0.2)
    state, copy = env.get_state(), pickle.loads(pickle.dumps(env))
    rng = np.random.default_rng(0)
    actions = [actions_for(env, rng, 0.2) for _ in range(5)]
    ours = [env.step(a) for a in actions]
    assert_same([copy.step(a) for a in actions], ours)
    env.set_state(state)
    assert_same([env.step(a) for a in actions], ours)
    assert_same(env.reset()[0], copy.reset()[0])


def test_many_races_are_one() -> None:
    """Races in one batch on threads give the bits of races alone."""
    from vnl_envs.envs.parallel import RaceCore

    alone = shared(RODENT)
    core = RaceCore(make_task(RODENT, 2), 3, 2)
    generators = [gymnasium.utils.seeding.np_random(i)[0] for i in range(3)]
    core.reset(np.arange(3), core.draw(generators))
    action = np.random.default_rng(0).uniform(-1, 1, (20, 2, core.task.body.nu))
    for a in action.astype(np.float32):
        core.step(np.repeat(a[None], 3, axis=0))
    alone.reset(seed=2)
    for a in action.astype(np.float32):
        alone.step(dict(zip(alone.agents, a, strict=True)))
    assert_same(core.observation[2].ravel(), alone.state())


def test_hash_depends_on_the_number_and_the_race() -> None:
    """Different races have different hashes; a race has always the same."""
    hashes = {shared(i, n).env_hash for i in IDS for n in (2, 3)}
    assert len(hashes) == 4
    assert vnl_envs.parallel_env(RODENT).env_hash == shared(RODENT).env_hash
    assert vnl_envs.parallel_env(RODENT, reward="sparse").env_hash not in hashes


# The single animal's task, reused


@every_race
def test_one_animal_equivalence(race_id: str) -> None:
    """Observations, rewards and ends are the single task's on each animal's own state."""
    env, solo = shared(race_id, 3), task_of(solo_id(race_id))
    env.reset(seed=4)
    core, race, rng = env.core, env.task, np.random.default_rng(4)
    goals = np.repeat(core.episode["goals"], 3, axis=0)
    for _ in range(25):
        before = {k: v[0] for k, v in core.carry.items() if k != "racing"}
        observed, rewards, terminated, *_ = env.step(actions_for(env, rng, 0.3))
        if not env.agents:
            break
        state = core.physics[0]
        physics = physics_at(solo, state.qpos, state.qvel, state.act)
        carry, outcome = solo.evaluate(physics, None, {"goals": goals, "yaw": None}, before)
        assert not core.carry["reached"].any()
        theirs = flat(outcome.observation)
        for i, agent in enumerate(env.possible_agents):
            if agent not in rewards:
                continue
            n = env.layout["task/rival_position"].start
            np.testing.assert_allclose(observed[agent][:n], theirs[i], rtol=1e-5, atol=1e-5)
            assert rewards[agent] == pytest.approx(outcome.reward[i], abs=1e-6)
            assert terminated[agent] == outcome.terminated[i]
        np.testing.assert_allclose(core.carry["closest"][0], carry["closest"], atol=1e-9)
    assert list(race.metrics) == list(solo.metrics)
    assert race.reward_terms == solo.reward_terms


@every_race
def test_layout_begins_like_the_single_tasks(race_id: str) -> None:
    """What a policy for one animal observes comes first, in the same order."""
    layout = shared(race_id).layout
    alone = vnl_envs.SingleEnv(solo_id(race_id)).layout
    assert list(layout.items())[: len(alone)] == list(alone.items())
    assert [n for n in layout if n not in alone] == [
        "task/rival_position", "task/rival_heading", "task/rival_velocity",
    ]  # fmt: skip


@every_race
def test_rivals_are_observed_from_oneself(race_id: str) -> None:
    """One stands 1 m ahead and 2 m left of the other, turned to the left, and walks away."""
    race = make_task(race_id, 2)
    data, (a, b) = mujoco.MjData(race.world.model), race.world.bodies
    shift, yaw = np.array([3.0, -7.0]), 0.8
    for body, at, turn, speed in ((a, (0, 0), 0.0, (0, 0)), (b, (1, 2), np.pi / 2, (0.25, 0.5))):
        pose = moved(body.standing_qpos[None], np.array(at), turn)
        # Turning about the world's origin moves nobody who stands on it.
        data.qpos[body.qpos] = moved(pose, shift, yaw)[0]
        data.qvel[body.qvel][:2] = turned(np.array(speed), yaw)
    mujoco.mj_forward(race.world.model, data)
    episode = {k: np.asarray(v)[None] for k, v in race.episode(np.zeros(race.uniforms)).items()}
    task = race.observe(view(race, data), episode, race.begin(episode)[1])["task"]
    np.testing.assert_allclose(task["rival_position"][0], [[1, 2, 0], [-2, 1, 0]], atol=1e-6)
    np.testing.assert_allclose(task["rival_heading"][0], [[0, 1], [0, -1]], atol=1e-6)
    np.testing.assert_allclose(task["rival_velocity"][0], [[0.25, 0.5], [0, 0]], atol=1e-6)


# One sequence of goals


@every_race
def test_the_first_gets_the_goal_and_it_moves_on_for_all(race_id: str) -> None:
    """The winner is paid 1, the other one its progress; both then have the second goal."""
    env = vnl_envs.parallel_env(race_id, 2)
    env.reset(seed=0)
    first, second = env.episode["goals"][:2]
    winner, loser = env.agents
    edit(env, put(env, 0, *first))
    _, reward, _, _, info = env.step(still(env))
    assert reward[winner] == 1.0
    assert info[winner]["reward_terms"]["reached"] == 1.0
    assert info[loser]["reward_terms"]["reached"] == 0.0
    assert [info[a]["metrics"]["goals_reached"] for a in (winner, loser)] == [1, 0]
    assert [info[a]["is_success"] for a in (winner, loser)] == [True, False]
    np.testing.assert_allclose(env.core.carry["target"][0], [second, second])
    here = env.core.physics.qpos[0, :, :2]
    np.testing.assert_allclose(
        env.core.carry["closest"][0], np.linalg.norm(second - here, axis=1), rtol=1e-6
    )
    # The loser wins the second: the third is next for both.
    edit(env, put(env, 1, *second))
    _, reward, _, _, info = env.step(still(env))
    assert reward[loser] == 1.0
    assert info[winner]["reward_terms"]["reached"] == 0.0
    np.testing.assert_allclose(env.core.carry["target"][0], [env.episode["goals"][2]] * 2)


def test_ties_go_to_the_nearest() -> None:
    """Of several within the radius, the nearest racing one; of equals, the first."""
    race = make_task(RODENT, 3)
    r = race.radius
    distance = r * np.array([[0.9, 0.5, 0.7], [0.5, 0.5, 2], [2, 3, 4], [0.1, 0.9, 0.2]])
    racing = np.array([[1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 1, 1]], bool)
    reached = np.array([[1, 2, 3]] * 4)
    arrival = race.arrival(distance, {"racing": racing, "reached": reached})
    assert arrival.paid.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert arrival.passed.tolist() == [[1] * 3, [1] * 3, [0] * 3, [1] * 3]
    assert arrival.count.tolist() == [[7] * 3, [7] * 3, [6] * 3, [7] * 3]


def test_goals_never_end() -> None:
    """After the last goal the sequence repeats, moved on, as in the single task."""
    race, solo = make_task(RODENT, 2), task_of(solo_id(RODENT))
    u = np.random.default_rng(0).random(race.uniforms, np.float32)
    episode = race.episode(u)
    index = np.array([205, 205])
    expected = solo.goal({"goals": episode["goals"]}, np.array(205))
    assert_same(race.goal(episode, index), np.array([expected, expected]))


@every_race
def test_a_fallen_animal_is_out(race_id: str) -> None:
    """It is terminated and wins nothing any more; the others race on, and it lies in the way."""
    env = vnl_envs.parallel_env(race_id, 2)
    env.reset(seed=0)
    fallen, other = env.agents
    goal = env.episode["goals"][0]
    edit(env, put(env, 0, 5.0, 5.0, upset=True))
    _, _, terminated, truncated, _ = env.step(still(env))
    assert terminated == {fallen: True, other: False}
    assert not any(truncated.values())
    assert env.agents == [other]
    edit(env, put(env, 0, *goal))
    observed, rewards, *_ = env.step(still(env))
    assert list(observed) == list(rewards) == [other]
    assert env.core.carry["reached"].sum() == 0
    np.testing.assert_allclose(env.core.carry["target"][0, 1], goal)
    # What it is asked to do changes nothing, and is asked by wrappers that repeat actions.
    state = env.get_state()
    expected = env.step(still(env))
    env.set_state(state)
    wild = np.ones(env.task.body.nu, np.float32)
    assert_same(env.step({fallen: wild, **still(env)}), expected)
    with pytest.raises(ValueError, match="for each of"):
        env.step({"nobody": wild, **still(env)})
    edit(env, put(env, 1, -5.0, -5.0, upset=True))
    assert env.step(still(env))[2] == {other: True}
    assert env.agents == []
    assert env.step({}) == ({}, {}, {}, {}, {})


@every_race
def test_time_ends_it_for_all(race_id: str) -> None:
    """At the horizon, those still standing are truncated."""
    env = vnl_envs.parallel_env(race_id, 2)
    env.reset(seed=0)
    edit(env, lambda data: None, step=[env.task.horizon - 1] * 2)
    _, _, terminated, truncated, _ = env.step(still(env))
    assert (list(terminated.values()), list(truncated.values())) == ([False] * 2, [True] * 2)
    assert env.agents == []


@every_race
def test_divergence_ends_it_for_all(race_id: str) -> None:
    """No reward, the last finite observations, and the next race is as any."""
    env = vnl_envs.parallel_env(race_id, 2)
    env.reset(seed=0)
    last = env.step(still(env))[0]
    speed = env.task.world.bodies[1].qvel
    edit(env, lambda data: data.qvel.__setitem__(speed, 1e12))
    observed, reward, terminated, truncated, info = env.step(still(env))
    assert_same(observed, last)
    assert set(reward.values()) == {0.0}
    assert all(terminated.values())
    assert not any(truncated.values())
    for agent in terminated:
        assert info[agent]["diverged"]
        assert not info[agent]["is_success"]
        assert set(info[agent]["reward_terms"].values()) == {0.0}
    assert env.agents == []
    assert_same(env.reset(seed=0)[0], shared(race_id).reset(seed=0)[0])


# Starts


@every_race
@every_number
def test_starts(race_id: str, num: int) -> None:
    """Equally far from the first goal and facing it; nobody touches, sinks or has fallen."""
    race = make_task(race_id, num)
    u = np.random.default_rng(0).random((40, race.uniforms), np.float32)
    episode = race.episode(u)
    start, carry = race.begin(episode)
    assert start.qpos.shape == (40, num, race.body.nq)
    data = mujoco.MjData(race.world.model)
    for i in range(40):
        for n, body in enumerate(race.world.bodies):
            data.qpos[body.qpos], data.act[body.act] = start.qpos[i, n], start.act[i, n]
        mujoco.mj_forward(race.world.model, data)
        assert all(-1 in pair for pair in meetings(race, data))
        physics = view(race, data)
        offset = carry["target"][i] - physics.qpos[0, :, :2]
        distance = np.linalg.norm(offset, axis=-1)
        np.testing.assert_allclose(distance, carry["closest"][i], rtol=1e-5)
        np.testing.assert_allclose(distance, distance[0], rtol=1e-5)
        assert distance[0] > race.radius
        goal = race.observe(physics, rows(episode, [i]), rows(carry, [i]))["task"]["goal_position"]
        np.testing.assert_allclose(goal[0, :, 1], 0, atol=1e-3 * distance[0])
        assert (goal[0, :, 0] > 0).all()
        assert not race.fallen(physics, carry).any()
        assert (lowest_point(race.body, physics.geom_xpos, physics.geom_xmat) > -0.005).all()
    # Every order comes up.
    assert len(np.unique(episode["place"], axis=0)) == (2 if num == 2 else 6)


# One body stands for all: of the rat there is room for so many that they take half a minute.
@pytest.mark.parametrize("race_id", IDS[1:])
def test_room_at_the_start(race_id: str) -> None:
    """The most animals that a race takes stand apart; one more is refused with the number."""
    with pytest.raises(ValueError, match=r"2 to \d+ animals") as caught:
        make_task(race_id, 20)
    most = int(str(caught.value).split(" to ")[1].split()[0])
    env = vnl_envs.parallel_env(race_id, most)
    # Angle 0 and the least distance to the first goal.
    goals = env.task.episode(np.zeros(env.task.uniforms, np.float32))["goals"]
    env.reset(options={"episode": {"goals": goals, "place": np.arange(most)}})
    assert all(-1 in pair for pair in meetings(env.task, env.data))


# Bodies meet


@pytest.mark.parametrize("name", ["rodent", "humanoid"])
def test_bits(name: str) -> None:
    """Geoms of two bodies meet, of one never do, and the ground meets what it does alone."""
    body = get_body(name)
    alone = build_world(Floor(), [body]).model
    many = build_world(Floor(), [dataclasses.replace(body, name=f"x{i}") for i in range(3)])
    model = many.model
    solid = [g.name for g in body.make_spec().geoms if g.contype or g.conaffinity]

    def meet(a: int, b: int) -> bool:
        bits = model.geom_contype, model.geom_conaffinity
        return bool(bits[0][a] & bits[1][b] or bits[0][b] & bits[1][a])

    for i, one in enumerate(many.bodies):
        ids = [model.geom(one.body.prefix + n).id for n in solid]
        assert not any(meet(a, b) for a in ids for b in ids)
        grounded = {n for n in solid if meet(model.geom("floor").id, model.geom(f"x{i}/{n}").id)}
        assert grounded == set(body.contact_geoms)
        for other in many.bodies[i + 1 :]:
            theirs = [model.geom(other.body.prefix + n).id for n in solid]
            assert all(meet(a, b) for a in ids for b in theirs)
    # A body alone has the ground's bit and no other.
    assert set(alone.geom_contype) <= {0, 1}
    assert set(alone.geom_conaffinity) <= {0, 1}
    if alone.nskin:
        n, bones = alone.nskinvert, alone.nskinbone
        for i in range(3):
            assert_same(model.skin_vert[i * n : (i + 1) * n], alone.skin_vert)
            own = model.skin_bonebindpos[i * bones : (i + 1) * bones]
            assert_same(own, alone.skin_bonebindpos)


def test_too_many_bodies() -> None:
    """There are as many bodies as bits."""
    with pytest.raises(ValueError, match="at most 30"):
        make_task(RODENT, 31)


@pytest.mark.parametrize("physics", ["fast", "full"])
@pytest.mark.parametrize(
    ("race_id", "apart", "speed", "push"), [(IDS[0], 0.18, 1.0, 2.0), (IDS[1], 0.6, 3.0, 200.0)]
)
def test_they_get_in_each_others_way(
    race_id: str, apart: float, speed: float, push: float, physics: str
) -> None:
    """Driven into each other head on, they touch and do not pass through; apart, they would."""
    race = make_task(race_id, 2, physics=physics)
    model, (a, b) = race.world.model, race.world.bodies
    ghosts = make_task(race_id, 2, physics=physics).world.model
    ghosts.geom_contype[1:] = ghosts.geom_conaffinity[1:] = 0
    paths, touched, deepest, selves = [], 0, 0.0, 0
    for world in (model, ghosts):
        data = mujoco.MjData(world)
        for body, x, yaw in ((a, -apart, 0.0), (b, apart, np.pi)):
            data.qpos[body.qpos] = moved(body.standing_qpos[None], np.zeros(2), yaw)[0]
            data.qpos[body.qpos][0] = x
            data.qvel[body.qvel][0] = -speed * np.sign(x)
            data.act[body.act] = body.activation(body.standing_control)
            data.ctrl[body.ctrl] = body.standing_control
        path = []
        for _ in range(round(0.6 / world.opt.timestep)):
            data.xfrc_applied[a.bodies.start, 0] = push
            data.xfrc_applied[b.bodies.start, 0] = -push
            mujoco.mj_step(world, data)
            path.append(data.qpos[b.qpos][:2] - data.qpos[a.qpos][:2])
            pairs = meetings(race, data)
            touched += pairs.count((0, 1)) + pairs.count((1, 0))
            selves += pairs.count((0, 0)) + pairs.count((1, 1))
            depths = [c.dist for c, p in zip(data.contact, pairs, strict=True) if -1 not in p]
            deepest = min(deepest, *depths, 0.0)
        paths.append(np.array(path))
    real, through = paths
    assert touched > 20
    assert physics == "full" or selves == 0
    trunk = 0.02 if push < 10 else 0.1
    assert deepest > -trunk
    # Ghosts walk through one another's middle; bodies stop, or slide past beside each other.
    assert through[-1, 0] < -trunk
    assert np.linalg.norm(real, axis=1).min() > 1.5 * trunk
    assert np.linalg.norm(through, axis=1).min() < 0.5 * trunk


# Wrong input


def test_unknown_race() -> None:
    """The message lists what there is; a task for one animal is none."""
    for wrong, words in (("RodentGoalRace-v9", "no task with id"), ("RodentJumpGap-v0", "for one")):
        with pytest.raises(ValueError, match=rf"{words}.*{RODENT}"):
            vnl_envs.parallel_env(f"vnl/{wrong}")
    for wanted in (vnl_envs.make_task, vnl_envs.SingleEnv):
        with pytest.raises(ValueError, match="parallel_env"):
            wanted(RODENT)
    with pytest.raises(gymnasium.error.NameNotFound):
        gymnasium.make(RODENT)
    assert not set(IDS) & set(vnl_envs.task_ids())


@pytest.mark.parametrize("number", [1, 0, -2, 2.0, "2", None, True])
def test_wrong_numbers_of_animals(number: Any) -> None:
    """Two or more, as an integer."""
    with pytest.raises(ValueError, match="num_agents"):
        vnl_envs.parallel_env(RODENT, number)


def test_wrong_options() -> None:
    """Options are those of the task."""
    with pytest.raises(ValueError, match="colour"):
        vnl_envs.parallel_env(RODENT, colour="red")
    with pytest.raises(ValueError, match="reward"):
        vnl_envs.parallel_env(RODENT, reward="much")
    with pytest.raises(ValueError, match="render_mode"):
        vnl_envs.parallel_env(RODENT, render_mode="human")
    env = vnl_envs.parallel_env(RODENT, reward="sparse", actuation="torque")
    env.reset(seed=0)
    assert set(env.step(still(env))[4]["rodent_0"]["reward_terms"]) == {"reached"}


BAD_ACTIONS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "nan": (lambda a: {**a, "rodent_1": np.full(38, np.nan, np.float32)}, "rodent_1.*finite"),
    "short": (lambda a: {**a, "rodent_1": np.zeros(37, np.float32)}, "rodent_1.*shape"),
    "integers": (lambda a: {**a, "rodent_0": np.zeros(38, int)}, "rodent_0.*float"),
    "missing": (lambda a: {"rodent_0": a["rodent_0"]}, "rodent_1"),
    "unknown": (lambda a: {**a, "cat": a["rodent_0"]}, "cat"),
    "none": (lambda a: None, "NoneType"),
    "array": (lambda a: np.zeros((2, 38), np.float32), "ndarray"),
}


@pytest.mark.parametrize("name", BAD_ACTIONS)
def test_bad_actions(name: str) -> None:
    """One clear line, before anything moves."""
    env = shared(RODENT)
    env.reset(seed=0)
    before = env.get_state()
    make, words = BAD_ACTIONS[name]
    with pytest.raises(ValueError, match=words) as caught:
        env.step(make(still(env)))
    assert "\n" not in str(caught.value)
    assert_same(env.get_state(), before)
    env.step(still(env))


def test_step_before_reset_and_after_the_end() -> None:
    """Is refused with Gymnasium's own error."""
    env = vnl_envs.parallel_env(RODENT)
    action = {agent: np.zeros(38, np.float32) for agent in env.possible_agents}
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(action)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step({})
    env.reset(seed=0)
    edit(env, lambda data: None, step=[env.task.horizon - 1] * 2)
    env.step(action)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(action)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"place": np.array([0, 0])}, "order"),
        ({"place": np.array([1, 2])}, "order"),
        ({"place": np.arange(3)}, "shape"),
        ({"goals": np.zeros((80, 2))}, "first goal"),
        ({"goals": np.full((80, 2), np.nan)}, "finite"),
    ],
)
def test_bad_episodes(change: dict[str, Any], words: str) -> None:
    """Episodes that a race cannot start from."""
    env = shared(RODENT)
    env.reset(seed=0)
    episode = env.episode
    with pytest.raises(ValueError, match=words):
        env.reset(options={"episode": {**episode, **change}})
    assert_same(env.episode, episode)


def test_registering() -> None:
    """Races are registered as tasks are, under new ids; Gymnasium hears of one animal only."""
    race = {"body": "rodent", "task": GoalRace, "num_agents": 2, "spacing": 0.3}
    settings = task_settings("vnl/RodentGoalReaching-v0")
    with restored_registry():
        vnl_envs.register_task("lab/Race-v0", **race, **settings)
        assert vnl_envs.parallel_env("lab/Race-v0").task.spacing == 0.3
        assert "lab/Race-v0" in vnl_envs.parallel_ids()
        assert "lab/Race-v0" not in {*vnl_envs.task_ids(), *gymnasium.registry}
        with pytest.raises(ValueError, match="already"):
            vnl_envs.register_task("lab/Race-v0", **race, **settings)
        with pytest.raises(ValueError, match="several animals"):
            make_task("lab/Race-v0")
    with pytest.raises(ValueError, match="for one animal"):
        vnl_envs.parallel_env("vnl/RodentJumpGap-v0")
    with pytest.raises(ValueError, match="num_agents"):
        vnl_envs.register_task("lab/Nobody-v0", "rodent", GoalRace, num_agents=0)


def test_without_pettingzoo() -> None:
    """The package imports nothing of it, and a race says what to install."""
    code = (
        "import sys; sys.modules['pettingzoo'] = None\n"
        "import vnl_envs\n"
        "vnl_envs.parallel_ids(), vnl_envs.task_ids()\n"
        "try:\n    vnl_envs.parallel_env('vnl/RodentGoalRace-v0')\n"
        "except RuntimeError as error:\n    print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "vnl_envs[parallel]" in out.stdout


def test_listed() -> None:
    """The command line shows the races."""
    command = [sys.executable, "-m", "vnl_envs", "list"]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(race_id in out.stdout for race_id in IDS)


# Pictures


@every_race
@every_number
def test_pictures(race_id: str, num: int) -> None:
    """Of the size asked for, with every animal and the goal in view; none without a mode."""
    env = vnl_envs.parallel_env(race_id, num, render_mode="rgb_array", width=160, height=120)
    env.reset(seed=1)
    first = env.render()
    assert (first.shape, first.dtype) == ((120, 160, 3), np.uint8)
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 100
    edit(env, put(env, 0, 3.0, -2.0))
    assert (env.render() != first).any()
    overlays = env.core.overlays(0)
    camera = following_camera(env.task.world, env.data, overlays)
    sight = camera.lookat - camera_position(camera)
    roots = [env.data.xpos[body.bodies.start] for body in env.task.world.bodies]
    for point in (*roots, overlays[0].position):
        towards = point - camera_position(camera)
        cosine = towards @ sight / np.linalg.norm(towards) / np.linalg.norm(sight)
        assert np.degrees(np.arccos(cosine)) < env.model.vis.global_.fovy / 2
    env.close()
    assert vnl_envs.parallel_env(race_id, num).render() is None


def camera_position(camera: mujoco.MjvCamera) -> np.ndarray:
    """Where a free camera stands, m."""
    azimuth, elevation = np.radians([camera.azimuth, camera.elevation])
    forward = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth),
                        np.sin(elevation)])  # fmt: skip
    return camera.lookat - camera.distance * forward


def test_animals_differ_in_colour() -> None:
    """Skins and materials are tinted; the first animal's is its own."""
    skins = make_task(RODENT, 3).world.model.skin_rgba
    assert len(np.unique(skins, axis=0)) == 3
    assert_same(skins[0], task_of(solo_id(RODENT)).world.model.skin_rgba[0])
    assert len(np.unique(make_task(IDS[1], 3).world.model.mat_rgba[1:], axis=0)) == 3


# Training


def test_shared_policy_example(tmp_path: Path) -> None:
    """One policy for both animals is trained and races against itself."""
    pytest.importorskip("supersuit")
    out = tmp_path / "policy.zip"
    command = [sys.executable, "-W", "ignore", "examples/shared_policy.py", "--steps", "256",
               "--games", "2", "--out", str(out)]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "goals won: {'rodent_0'" in done.stdout
    assert out.exists()
