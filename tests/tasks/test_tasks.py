"""The tasks as pure functions: driven with synthetic states, NumPy and JAX."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vnl_envs
from vnl_envs.envs.core import Core
from vnl_envs.motion.clip import RATE
from vnl_envs.physics import Physics
from vnl_envs.tasks import (
    Escape,
    Forage,
    GoalReaching,
    Imitation,
    JumpGap,
    Obstacles,
    TwoTouch,
    Velocity,
)
from vnl_envs.tasks.task import Task
from vnl_envs.testing.environments import episode_of, rows, task_of
from vnl_envs.testing.simulations import forward, physics_at, physics_of

IDS = vnl_envs.task_ids()
JUMPS = [i for i in IDS if "JumpGap" in i]
GOALS = [i for i in IDS if "GoalReaching" in i]
IMITATIONS = [i for i in IDS if "Imitation" in i]


@functools.lru_cache
def jump(task_id: str, **options: Any) -> JumpGap:
    """A JumpGap task."""
    return vnl_envs.make_task(task_id, **options) if options else task_of(task_id)


def standing_at(task: Task, x: Any, y: Any = 0.0) -> Physics:
    """The standing pose with its root at (x, y), n rows."""
    x, y = np.broadcast_arrays(np.atleast_1d(np.asarray(x, float)), y)
    qpos = np.tile(task.body.standing_qpos, (len(x), 1))
    qpos[:, 0], qpos[:, 1] = x, y
    return physics_at(task, qpos)


@functools.lru_cache
def _template(task_id: str) -> Physics:
    task = task_of(task_id)
    return physics_at(task, task.body.standing_qpos)


def slid(task_id: str, x: float, y: float = 0.0, fall: float = 0.0) -> Physics:
    """The standing pose slid to (x, y) without computing its kinematics anew, one row."""
    base, by = _template(task_id), np.array([x, y, -fall])
    moves = {n: getattr(base, n) + by for n in ("xpos", "xipos", "geom_xpos")}
    qpos = base.qpos.copy()
    qpos[:, :3] += by
    return dataclasses.replace(base, qpos=qpos, **moves)


def drive(task: Task, states: list[Physics], episode: dict[str, np.ndarray]) -> list[Any]:
    """Outcomes of an episode (one row) that passes through these states."""
    _, carry = task.begin(episode)
    idle = np.zeros((1, task.body.nu), np.float32)
    outcomes = []
    for physics in states:
        carry, outcome = task.evaluate(physics, idle, episode, carry)
        outcomes.append((carry, outcome))
    return outcomes


# JumpGap


@pytest.mark.parametrize("task_id", IDS)
def test_a_shorter_time_step_is_the_same_task(task_id: str) -> None:
    """Control step, observations and start stay; the physics step is divided."""
    task, divided = task_of(task_id), vnl_envs.make_task(task_id, timestep_divisor=2)
    assert divided.world.model.opt.timestep == task.world.model.opt.timestep / 2
    assert divided.dt == pytest.approx(task.dt)
    assert vnl_envs.env_hash(task_id, divided) != vnl_envs.env_hash(task_id, task)
    (start, _), (other, _) = (t.begin(episode_of(t, 3)) for t in (task, divided))
    np.testing.assert_allclose(start.qpos, other.qpos, atol=1e-12)
    for kept in ("nq", "nv", "nu"):
        assert getattr(divided.body, kept) == getattr(task.body, kept)


@pytest.mark.parametrize("task_id", IDS)
def test_another_solver_is_the_same_task(task_id: str) -> None:
    """The constraints' solver alone differs, and the hash; the one that is the body's changes
    nothing. Over the first steps both solve the same problem.
    """
    task, cg = task_of(task_id), vnl_envs.make_task(task_id, solver="cg")
    assert cg.world.model.opt.solver == mujoco.mjtSolver.mjSOL_CG
    assert cg.world.model.opt.timestep == task.world.model.opt.timestep
    digest = vnl_envs.env_hash(task_id, task)
    assert vnl_envs.env_hash(task_id, cg) != digest
    assert vnl_envs.env_hash(task_id, vnl_envs.make_task(task_id, solver="newton")) == digest
    positions = []
    for each in (task, cg):
        core = Core(each, 1, 1)
        core.reset(np.array([0]), core.draw([np.random.default_rng(3)]))
        for _ in range(5):
            core.step(np.zeros((1, each.body.nu), np.float32))
        positions.append(core.physics.qpos[0].copy())
    assert (positions[0] != positions[1]).any()
    np.testing.assert_allclose(positions[0], positions[1], atol=1e-3)


@pytest.mark.parametrize("task_id", JUMPS)
def test_corridor_is_laid_out_as_declared(task_id: str) -> None:
    """Gap widths in range, each platform a fixed length after a gap, and the period closes it."""
    task = jump(task_id)
    episode = episode_of(task, 20)
    gaps, platforms = episode["gaps"].astype(float), episode["platforms"].astype(float)
    low, high = task.gap_width
    assert (gaps >= low).all()
    assert (gaps <= high + 1e-6).all()
    assert gaps.std() > 0.2 * (high - low)
    np.testing.assert_allclose(platforms[:, 0], task.start_front + gaps[:, 0], atol=1e-5)
    np.testing.assert_allclose(
        np.diff(platforms, axis=1), task.platform_length + gaps[:, 1:], atol=1e-4
    )
    np.testing.assert_allclose(
        episode["period"],
        platforms[:, -1] + task.platform_length + gaps[:, 0] - platforms[:, 0],
        atol=1e-4,
    )


@pytest.mark.parametrize("task_id", JUMPS)
def test_corridor_outlasts_the_horizon(task_id: str) -> None:
    """At the target speed nobody reaches the repetition within an episode."""
    task = jump(task_id)
    assert episode_of(task, 50)["platforms"][:, -1].min() > task.target_speed * 20


@pytest.mark.parametrize("task_id", JUMPS)
def test_gap_options(task_id: str) -> None:
    """`gaps=` fixes every width and `difficulty=` scales the random ones."""
    low, high = jump(task_id).gap_width
    width = 0.5 * (low + high)
    assert (np.abs(episode_of(jump(task_id, gaps=width), 3)["gaps"] - width) < 1e-6).all()
    easy = episode_of(jump(task_id, difficulty=0.5), 3, seed=4)["gaps"]
    np.testing.assert_allclose(easy, 0.5 * episode_of(jump(task_id), 3, seed=4)["gaps"], rtol=1e-5)
    assert (episode_of(jump(task_id, gaps=0.0), 1)["gaps"] == 0).all()


def solid(task: JumpGap, episode: dict, x: np.ndarray, cycles: int = 3) -> np.ndarray:
    """Whether the ground is solid at x in an endless corridor, by brute force."""
    begin = np.concatenate(
        [episode["platforms"][0].astype(float) + c * float(episode["period"][0])
         for c in range(cycles)]
    )  # fmt: skip
    inside = (x[:, None] >= begin) & (x[:, None] <= begin + task.platform_length)
    return inside.any(1) | ((x >= -task.start_back) & (x <= task.start_front))


@pytest.mark.parametrize("task_id", JUMPS)
@pytest.mark.parametrize("where", [0.0, 0.13, 0.4, 0.99, 1.0, 1.01, 1.5, 2.02])
def test_ground_around_the_body(task_id: str, where: float) -> None:
    """Wherever the body is, the platforms that stand are the corridor's, past its period too."""
    task = jump(task_id)
    episode = episode_of(task, 1, seed=3)
    x = task.start_front + where * float(episode["period"][0])
    ((carry, _),) = drive(task, [slid(task_id, x)], episode)
    centres = task.external_inputs(episode, carry).mocap_pos[0, :, 0]
    near = np.linspace(x - task.body.body.reach, x + task.body.body.reach, 1001)
    edges = np.concatenate([centres - task.platform_length / 2, centres + task.platform_length / 2])
    clear = np.abs(near[:, None] - edges).min(1) > 1e-4
    ours = (np.abs(near[:, None] - centres) <= task.platform_length / 2).any(1)
    ours |= (near >= -task.start_back) & (near <= task.start_front)
    np.testing.assert_array_equal(ours[clear], solid(task, episode, near)[clear])


@pytest.mark.parametrize("task_id", JUMPS)
def test_gap_observations(task_id: str) -> None:
    """Observed edges and widths are those of the next two gaps, past the period too."""
    task = jump(task_id)
    episode = episode_of(task, 1, seed=5)
    gaps = np.tile(episode["gaps"][0].astype(float), 3)
    far = np.concatenate([episode["platforms"][0].astype(float) + c * float(episode["period"][0])
                          for c in range(3)])  # fmt: skip
    rng = np.random.default_rng(0)
    for x in rng.uniform(-0.2, far[100], 60):
        ((_, outcome),) = drive(task, [slid(task_id, x)], episode)
        seen = outcome.observation["task"]
        ahead = np.flatnonzero(far > x)[:2]
        expected = np.stack([far[ahead] - gaps[ahead] - x, far[ahead] - x], -1).ravel()
        np.testing.assert_allclose(seen["gap_edges"][0], expected, atol=2e-4)
        np.testing.assert_allclose(seen["gap_widths"][0], gaps[ahead], atol=1e-6)


@pytest.mark.parametrize("task_id", JUMPS)
@pytest.mark.parametrize("gaps", [None, 0.0])
def test_no_platform_moves_near_the_body(task_id: str, gaps: float | None) -> None:
    """Over random walks at up to four times the target speed, a platform that moves is out of the
    body's reach both where it was and where it goes.
    """
    task = jump(task_id) if gaps is None else jump(task_id, gaps=gaps)
    reach, half = task.body.body.reach, task.platform_length / 2
    fastest = 4 * task.target_speed * task.dt

    @settings(max_examples=40)
    @given(
        seed=st.integers(0, 10_000),
        steps=st.lists(st.floats(-1, 1), min_size=5, max_size=60),
        start=st.floats(0, 1.2),
    )
    def walk(seed: int, steps: list[float], start: float) -> None:
        episode = episode_of(task, 1, seed)
        x = start * float(episode["period"][0])
        ((carry, _),) = drive(task, [slid(task_id, x)], episode)
        idle = np.zeros((1, task.body.nu), np.float32)
        before = task.external_inputs(episode, carry).mocap_pos[0, :, 0]
        for step in steps:
            x += step * fastest
            physics = slid(task_id, x)
            carry, _ = task.evaluate(physics, idle, episode, carry)
            after = task.external_inputs(episode, carry).mocap_pos[0, :, 0]
            for centre in (before[before != after], after[before != after]):
                assert (np.abs(centre - x) > half + reach - 1e-4).all()
            before = after

    walk()


@pytest.mark.parametrize("task_id", JUMPS)
def test_clearance_is_the_distance_to_the_boxes(task_id: str) -> None:
    """Against the signed distance to deep boxes, by brute force over their sides."""
    task = jump(task_id)
    episode = episode_of(task, 1, seed=2)
    _, carry = task.begin(episode)
    rng = np.random.default_rng(0)
    scale = task.platform_length
    points = np.stack(
        [rng.uniform(-1, 4, 400) * scale, np.zeros(400), rng.uniform(-0.3, 0.5, 400) * scale], -1
    )
    ours = task.clearance(points[None], carry)[0]
    centres = task.external_inputs(episode, carry).mocap_pos[0, :, 0]
    begin = np.concatenate([[-task.start_back], centres - task.platform_length / 2])
    end = np.concatenate([[task.start_front], centres + task.platform_length / 2])
    signed = np.full(400, np.inf)
    for a, b in zip(begin, end, strict=True):
        # A box without a bottom.
        d = np.stack([np.maximum(a - points[:, 0], points[:, 0] - b), points[:, 2]], -1)
        box = np.linalg.norm(np.maximum(d, 0), axis=1) + np.minimum(d.max(1), 0)
        signed = np.minimum(signed, box)
    np.testing.assert_allclose(ours, signed, atol=1e-6)


@pytest.mark.parametrize("task_id", JUMPS)
def test_touch_is_contact(task_id: str) -> None:
    """The touch observation is whether MuJoCo has a contact of one of the sensor's geoms."""
    task = jump(task_id)
    body, model = task.body, task.world.model
    rng = np.random.default_rng(0)
    episode = episode_of(task, 1)
    start, carry = task.begin(episode)
    compared = 0
    for _ in range(40):
        qpos = body.standing_qpos.copy()
        qpos[7:] += rng.normal(0, 0.1, body.nq - 7)
        qpos[0] = task.start_front + rng.uniform(-1, 1) * 0.3 * task.platform_length
        qpos[2] += rng.normal(0, 0.02) * qpos[2]
        data = forward(task, qpos, mocap_pos=start.mocap_pos[0])
        touch = task.observe(physics_of(task, data), episode, carry)["proprioception"]["touch"][0]
        meeting = {
            model.geom(int(g)).name.removeprefix(body.body.prefix): float(c.dist)
            for c in data.contact
            for g in c.geom
        }
        for felt, names in zip(touch, body.body.touch.values(), strict=True):
            depths = [meeting.get(n, 0.0) for n in names]
            if 0 > min(depths) > -1e-6:
                continue
            compared += 1
            # A capsule between its ends may reach deeper into an edge than the ends do.
            assert felt == (min(depths) < 0) or abs(min(depths)) < 0.002
    assert compared


@pytest.mark.parametrize("task_id", JUMPS)
def test_gaps_are_counted(task_id: str) -> None:
    """Attempted beyond the near edge, cleared beyond the far one, and not while failing."""
    task = jump(task_id)
    episode = episode_of(task, 1, seed=6)
    far = episode["platforms"][0].astype(float)
    width = episode["gaps"][0].astype(float)
    path = [0.0, far[0] - width[0] - 1e-3, far[0] - width[0] / 2, far[0] + 1e-3,
            far[1] - 1e-3, far[1] + 1e-3, far[0] - width[0] / 2, far[2] - 1e-3]  # fmt: skip
    outcomes = drive(task, [slid(task_id, x) for x in path], episode)
    cleared = [int(o.metrics["gaps_cleared"][0]) for _, o in outcomes]
    success = [float(o.metrics["gap_success"][0]) for _, o in outcomes]
    widest = [float(o.metrics["widest_gap"][0]) for _, o in outcomes]
    assert cleared == [0, 0, 0, 1, 1, 2, 2, 2]
    np.testing.assert_allclose(success, [0, 0, 0, 1, 0.5, 1, 1, 2 / 3])
    np.testing.assert_allclose(widest[-1], width[:2].max(), rtol=1e-6)
    np.testing.assert_allclose(outcomes[-1][1].metrics["distance"][0], max(path), rtol=1e-6)
    fall = task.body.standing_qpos[2] - task.body.body.fallen_height + 1e-3
    states = [slid(task_id, path[2]), slid(task_id, far[0] + 1e-3, fall=fall)]
    _, failed = drive(task, states, episode)[-1]
    assert failed.terminated[0]
    assert failed.metrics["gaps_cleared"][0] == 0
    assert failed.metrics["gap_success"][0] == 0


@pytest.mark.parametrize("task_id", JUMPS)
def test_leaving_the_corridor_terminates(task_id: str) -> None:
    """Beyond the side, and not before."""
    task = jump(task_id)
    episode = episode_of(task, 1)
    for y, over in ((0.98, False), (1.02, True), (-0.98, False), (-1.02, True)):
        ((_, outcome),) = drive(task, [slid(task_id, 0.1, y * task.half_width)], episode)
        assert bool(outcome.terminated[0]) == over


@pytest.mark.parametrize("task_id", JUMPS)
def test_target_speed_earns_one(task_id: str) -> None:
    """Running upright at the target speed earns 1 a step, at half of it a half."""
    task = jump(task_id)
    episode = episode_of(task, 1)
    for factor, expected in ((1.0, 1.0), (0.5, 0.5), (2.0, 1.0)):
        step = factor * task.target_speed * task.dt
        path = [slid(task_id, step * i) for i in range(1, 6)]
        rewards = [o.reward[0] for _, o in drive(task, path, episode)]
        np.testing.assert_allclose(rewards, expected, atol=0.02)


# GoalReaching


@pytest.mark.parametrize("task_id", GOALS)
def test_goals_appear_at_declared_distances(task_id: str) -> None:
    """Each goal lies in the ring around the one before, the first around the start."""
    task = task_of(task_id)
    goals = episode_of(task, 20)["goals"].astype(float)
    steps = np.diff(goals, axis=1, prepend=np.zeros((20, 1, 2)))
    distance = np.linalg.norm(steps, axis=-1)
    low, high = task.distance
    assert (distance > low - 1e-4).all()
    assert (distance < high + 1e-4).all()


@pytest.mark.parametrize("task_id", GOALS)
def test_goal_sequence(task_id: str) -> None:
    """Reaching pays 1 and shows the next goal; past the last the sequence repeats from there."""
    task = task_of(task_id)
    episode = episode_of(task, 1, seed=1)
    goals = episode["goals"][0].astype(float)
    count = len(goals)
    path = [*goals, *(goals[:5] + goals[-1])]
    outcomes = drive(task, [slid(task_id, *p) for p in path], episode)
    for i, (_, outcome) in enumerate(outcomes[:-1]):
        assert outcome.reward[0] == 1.0
        assert outcome.terms["reached"][0] == 1.0
        assert outcome.metrics["goals_reached"][0] == i + 1
        ahead = np.linalg.norm(path[i + 1] - path[i])
        seen = outcome.observation["task"]
        np.testing.assert_allclose(np.linalg.norm(seen["goal_position"]), ahead, atol=1e-4)
        np.testing.assert_allclose(seen["goal_lag"], 0, atol=1e-5)
    assert count < len(outcomes)
    last = outcomes[-1][1].metrics
    np.testing.assert_allclose(last["time_to_first_goal"], task.dt, rtol=1e-5)
    np.testing.assert_allclose(
        last["goals_per_minute"], len(path) * 60 / (len(path) * task.dt), rtol=1e-5
    )


@pytest.mark.parametrize("task_id", GOALS)
def test_goal_reached_just_inside_the_radius(task_id: str) -> None:
    """The radius decides, on the horizontal."""
    task = task_of(task_id)
    episode = episode_of(task, 1, seed=1)
    x, y = episode["goals"][0, 0].astype(float)
    for factor, reached in ((0.99, True), (1.01, False)):
        ((_, outcome),) = drive(task, [slid(task_id, x + factor * task.radius, y)], episode)
        assert bool(outcome.success[0]) == reached
        assert (outcome.reward[0] == 1.0) or not reached


@pytest.mark.parametrize("task_id", GOALS)
def test_goal_direction_is_egocentric(task_id: str) -> None:
    """A goal ahead is (+, 0), one to the left (0, +), at any yaw."""
    task = task_of(task_id)
    episode = episode_of(task, 1)
    for yaw in (0.0, 1.0, -2.5):
        qpos = task.standing_start((1,), np.zeros(1), np.zeros(1), np.array([yaw])).qpos
        for bearing, expected in ((0.0, (1, 0)), (np.pi / 2, (0, 1))):
            goals = np.zeros_like(episode["goals"])
            goals[0, :] = np.cos(yaw + bearing), np.sin(yaw + bearing)
            toward = {**episode, "goals": goals}
            seen = task.observe(physics_at(task, qpos), toward, task.begin(toward)[1])
            np.testing.assert_allclose(seen["task"]["goal_position"][0], expected, atol=0.02)


@pytest.mark.parametrize("task_id", GOALS)
def test_sparse_reward(task_id: str) -> None:
    """`reward="sparse"` pays on reaching alone."""
    task = vnl_envs.make_task(task_id, reward="sparse")
    episode = episode_of(task, 1, seed=1)
    goal = episode["goals"][0, 0].astype(float)
    outcomes = drive(task, [slid(task_id, *(f * goal)) for f in (0.1, 0.2, 1.0)], episode)
    assert [o.reward[0] for _, o in outcomes] == [0, 0, 1]
    assert list(outcomes[0][1].terms) == ["reached"] == list(task.reward_terms)


# Imitation


def on_reference(task: Imitation, clip: int, frame: int) -> Physics:
    """The state of a reference frame."""
    now = int(task.reference.first[clip]) + frame
    return physics_at(task, task.reference.qpos[now], task.reference.qvel[now])


def starting(task: Imitation, clip: int, start: int) -> dict[str, np.ndarray]:
    """An episode from a frame of a clip, without noise."""
    noise = np.zeros((1, task.uniforms - 1), np.float32)
    return {"clip": np.array([clip], np.int32), "start": np.array([start], np.int32),
            "noise": noise}  # fmt: skip


@pytest.mark.parametrize("task_id", IMITATIONS)
def test_starts_cover_all_frames_that_leave_ten(task_id: str) -> None:
    """Every (clip, frame) with at least 10 frames after it is drawn about equally often."""
    task = task_of(task_id)
    lengths = [len(c) for c in task.reference.clips]
    possible = {(c, f) for c, n in enumerate(lengths) for f in range(n - 10)}
    u = np.zeros((4 * len(possible), task.uniforms), np.float32)
    u[:, 0] = np.linspace(0, 1, len(u), endpoint=False)
    episode = task.episode(u)
    drawn = list(zip(episode["clip"].tolist(), episode["start"].tolist(), strict=True))
    assert set(drawn) == possible
    counts = np.unique(drawn, axis=0, return_counts=True)[1]
    assert counts.min() >= 2
    assert counts.max() <= 6


@pytest.mark.parametrize("task_id", IMITATIONS)
def test_split_and_clips_choose(task_id: str) -> None:
    """`split=` and `clips=` select; the splits are disjoint and make up all but the extra clips."""
    every = vnl_envs.make_task(task_id, split="all").reference.clips
    names = {
        split: [c.name for c in vnl_envs.make_task(task_id, split=split).reference.clips]
        for split in ("train", "test", "all")
    }
    assert names["train"]
    assert names["test"]
    usual = sorted(clip.name for clip in every if clip.split != "extra")
    assert sorted(names["train"] + names["test"]) == usual
    assert [c.name for c in task_of(task_id).reference.clips] == names["train"]
    one = vnl_envs.make_task(task_id, clips=names["all"][0], split="all").reference.clips
    assert [c.name for c in one] == names["all"][:1]
    two = vnl_envs.make_task(task_id, clips=names["all"][1::-1], split="all").reference.clips
    assert {c.name for c in two} == set(names["all"][:2])


@pytest.mark.parametrize("task_id", IMITATIONS)
def test_start_option(task_id: str) -> None:
    """`start=` begins every clip there."""
    task = vnl_envs.make_task(task_id, start=3)
    episode = episode_of(task, 200)
    assert (episode["start"] == 3).all()
    assert set(episode["clip"].tolist()) == set(range(len(task.reference.clips)))


@pytest.mark.parametrize("task_id", IMITATIONS)
def test_start_is_the_reference(task_id: str) -> None:
    """Without noise an episode starts on the reference, lifted out of the ground at most."""
    task = task_of(task_id)
    start, _ = task.begin(episode_of(task, 50))
    episode = episode_of(task, 50)
    now = task.reference.first[episode["clip"]] + episode["start"]
    np.testing.assert_allclose(start.qpos[:, 3:], task.reference.qpos[now][:, 3:], atol=1e-6)
    np.testing.assert_allclose(start.qvel, task.reference.qvel[now], atol=1e-6)
    lift = start.qpos[:, 2] - task.reference.qpos[now][:, 2]
    assert (lift >= 0).all()
    assert (lift < 0.2 * task.limit["root_position"]).all()


@pytest.mark.parametrize("task_id", IMITATIONS)
@pytest.mark.parametrize("noise", [0.05, 0.2, 0.3])
def test_noisy_starts_are_sound(task_id: str, noise: float) -> None:
    """Noise stays within its bound and the joints' limits, and neither buries nor ends a start."""
    task = vnl_envs.make_task(task_id, noise=noise)
    episode = episode_of(task, 60)
    start, carry = task.begin(episode)
    now = task.reference.first[episode["clip"]] + episode["start"]
    change = start.qpos[:, 7:] - task.reference.qpos[now][:, 7:]
    assert np.abs(change).max() <= noise + 1e-6
    assert np.abs(change).mean() > 0.05 * noise
    datas = [forward(task, *state) for state in zip(*start[:3], strict=True)]
    depth = max(-min(d.contact.dist, default=0.0) for d in datas)
    assert depth < (0.001 if task.body.body.name == "rodent" else 0.005)
    # The first judgement is one step later, when a body that falls has moved on.
    start.qpos[:, :3] += start.qvel[:, :3] / RATE
    datas = [forward(task, *state) for state in zip(*start[:3], strict=True)]
    idle = np.zeros((60, task.body.nu), np.float32)
    _, outcome = task.evaluate(physics_of(task, *datas), idle, episode, carry)
    assert not outcome.terminated.any()


@pytest.mark.parametrize("task_id", IMITATIONS)
def test_on_the_reference_reward_is_one(task_id: str) -> None:
    """Where the state is the reference's the reward is 1 and every error 0."""
    task = task_of(task_id)
    for clip in range(len(task.reference.clips)):
        for frame in (5, len(task.reference.clips[clip]) // 2):
            states = [on_reference(task, clip, frame + 1)]
            ((_, outcome),) = drive(task, states, starting(task, clip, frame))
            np.testing.assert_allclose(outcome.reward, 1.0, atol=1e-9)
            assert not outcome.terminated[0]
            for name in ("root_error", "orientation_error", "joint_error", "hand_error",
                         "foot_error"):  # fmt: skip
                np.testing.assert_allclose(outcome.metrics[name], 0, atol=1e-6)


@pytest.mark.parametrize("task_id", IMITATIONS)
def test_reward_terms_follow_their_sigma(task_id: str) -> None:
    """A root one sigma away earns exp(-1/2) of its term, a tilted one likewise."""
    task = task_of(task_id)
    now = int(task.reference.first[0]) + 6
    qpos = task.reference.qpos[now].copy()
    qpos[0] += task.sigma["root_position"]
    turn = task.sigma["root_orientation"]
    out = np.empty(4)
    mujoco.mju_mulQuat(out, np.array([np.cos(turn / 2), 0, np.sin(turn / 2), 0]), qpos[3:7])
    qpos[3:7] = out
    joints = np.zeros(len(qpos) - 7)
    joints[3] = task.sigma["joints"]
    qpos[7:] += joints
    qvel = task.reference.qvel[now].copy()
    qvel[6:] += task.sigma["joint_velocity"]
    ((_, outcome),) = drive(task, [physics_at(task, qpos, qvel)], starting(task, 0, 5))
    for name in ("root_position", "root_orientation", "joints", "joint_velocity"):
        np.testing.assert_allclose(outcome.terms[name] * 6, np.exp(-0.5), rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("task_id", IMITATIONS)
def test_reference_is_observed_from_the_body(task_id: str) -> None:
    """On frame n + k, the frame k ahead of n is at no displacement, rotation or joint change."""
    task = task_of(task_id)
    _, carry = task.begin(starting(task, 0, 5))
    for column, ahead in enumerate(task.reference_frames):
        state = on_reference(task, 0, 5 + int(ahead))
        seen = task.observe(state, starting(task, 0, 5), carry)["task"]
        count = len(task.reference_frames)
        part = {k: v.reshape(count, -1)[column] for k, v in seen.items()}
        np.testing.assert_allclose(part["reference_position"], 0, atol=1e-9)
        np.testing.assert_allclose(part["reference_joints"], 0, atol=1e-9)
        np.testing.assert_allclose(
            part["reference_rotation"].reshape(3, 2), np.eye(3)[:, :2], atol=1e-9
        )
        body = task.body
        tracked = body.body_index(*body.body.tracked_bodies)
        root = state.xmat[0, 0].reshape(3, 3) @ body.ego
        bodies = (state.xpos[0, tracked] - state.xpos[0, 0]) @ root
        np.testing.assert_allclose(part["reference_bodies"], bodies.ravel(), atol=1e-9)


@pytest.mark.parametrize("task_id", IMITATIONS)
def test_clip_end_truncates(task_id: str) -> None:
    """On the reference to its last frame: truncated there, a success, and survived in full."""
    task = task_of(task_id)
    length = len(task.reference.clips[0])
    start = length - 6
    states = [on_reference(task, 0, f) for f in range(start + 1, length)]
    outcomes = [o for _, o in drive(task, states, starting(task, 0, start))]
    assert [bool(o.truncated[0]) for o in outcomes] == [False] * 4 + [True]
    assert not any(o.terminated[0] for o in outcomes)
    assert [bool(o.success[0]) for o in outcomes] == [False] * 4 + [True]
    np.testing.assert_allclose([o.metrics["survived"][0] for o in outcomes], np.arange(1, 6) / 5)


@pytest.mark.parametrize("task_id", IMITATIONS)
def test_leaving_the_reference_terminates(task_id: str) -> None:
    """Beyond the limit of position or orientation, and not before; failure wins at the end."""
    task = task_of(task_id)
    length = len(task.reference.clips[0])
    for frame in (5, length - 2):
        now = int(task.reference.first[0]) + frame + 1
        for factor, over in ((0.98, False), (1.02, True)):
            qpos = task.reference.qpos[now].copy()
            qpos[1] += factor * task.limit["root_position"]
            ((_, outcome),) = drive(task, [physics_at(task, qpos)], starting(task, 0, frame))
            assert bool(outcome.terminated[0]) == over
            assert bool(outcome.truncated[0]) == (frame == length - 2 and not over)
            assert (outcome.metrics["survived"][0] < 1) or not over


# JAX


def plain(tree: Any) -> Any:
    """Leaves as float64, bool or int NumPy arrays."""
    return {k: plain(v) if isinstance(v, dict) else np.asarray(v) for k, v in tree.items()}


def close(ours: Any, theirs: Any, where: str = "", atol: float = 2e-4) -> None:
    """Nested dictionaries are equal to float32's precision."""
    assert set(ours) == set(theirs), where
    for key, value in ours.items():
        if isinstance(value, dict):
            close(value, theirs[key], f"{where}/{key}", atol)
        else:
            np.testing.assert_allclose(
                np.asarray(value, float), np.asarray(theirs[key], float), rtol=2e-4, atol=atol,
                err_msg=f"{where}/{key}",
            )  # fmt: skip


@pytest.mark.parametrize("task_id", IDS)
def test_jax_gives_the_same(task_id: str) -> None:
    """`episode`, `begin`, `place`, `evaluate` and `observe` under jit and vmap, in float32."""
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    task = task_of(task_id)
    rng = np.random.default_rng(0)
    u = rng.random((4, task.uniforms), np.float32)
    episode = task.episode(u)
    close(plain(jax.jit(jax.vmap(task.episode))(jnp.asarray(u))), plain(episode), "episode")
    f32 = {
        k: jnp.asarray(v, jnp.float32 if v.dtype.kind == "f" else v.dtype)
        for k, v in episode.items()
    }
    start, carry = task.begin(episode)
    start_x, carry_x = jax.jit(task.begin)(f32)
    close(plain(carry_x), plain(carry), "carry")
    for name in ("qpos", "qvel", "act"):
        close({name: getattr(start_x, name)}, {name: getattr(start, name)}, "start")
    qpos = start.qpos + 0.01 * rng.normal(size=start.qpos.shape)
    state = physics_at(task, qpos, start.qvel, start.act)
    state_x = {
        f.name: jnp.asarray(getattr(state, f.name), jnp.float32) for f in dataclasses.fields(state)
    }
    action = rng.uniform(-1, 1, (4, task.body.nu)).astype(np.float32)
    after, outcome = task.evaluate(state, action, episode, carry)

    def step(fields: Any, action: Any, episode: Any, carry: Any) -> Any:
        return task.evaluate(Physics(**fields), action, episode, carry)

    for function in (jax.jit(step), jax.jit(jax.vmap(step))):
        after_x, outcome_x = function(state_x, jnp.asarray(action), f32, carry_x)
        close(plain(after_x), plain(after), "carry")
        close(outcome_x.observation, outcome.observation, "observation", 2e-3)
        close(outcome_x.terms, outcome.terms, "terms")
        close(outcome_x.metrics, outcome.metrics, "metrics", 2e-3)
        for name in ("reward", "terminated", "truncated", "success"):
            close({name: getattr(outcome_x, name)}, {name: getattr(outcome, name)})
        # A scan needs a carry that keeps its structure, shapes and types.
        for name, value in carry_x.items():
            assert (after_x[name].dtype, after_x[name].shape) == (value.dtype, value.shape), name
    seen = jax.jit(lambda s, e, c: task.observe(Physics(**s), e, c))(state_x, f32, carry_x)
    close(seen, task.observe(state, episode, carry), "observe", 2e-3)
    inputs = task.external_inputs(episode, after).mocap_pos
    if inputs is not None:
        placed_x = jax.jit(lambda e, c: task.external_inputs(e, c).mocap_pos)(f32, after_x)
        np.testing.assert_allclose(placed_x, inputs, atol=1e-4)


@pytest.mark.parametrize("task_id", IDS)
def test_batch_shape_is_free(task_id: str) -> None:
    """No batch axis, one or two give the same values."""
    task = task_of(task_id)
    episode = episode_of(task, 4)
    start, carry = task.begin(episode)
    state = physics_at(task, start.qpos, start.qvel, start.act)
    action = np.zeros((4, task.body.nu), np.float32)
    _, many = task.evaluate(state, action, episode, carry)
    _, one = task.evaluate(state[1], action[1], rows(episode, 1), rows(carry, 1))

    def grid(x: np.ndarray) -> np.ndarray:
        return x.reshape(2, 2, *x.shape[1:])

    fields = {f.name: grid(getattr(state, f.name)) for f in dataclasses.fields(state)}
    parts = [{k: grid(v) for k, v in part.items()} for part in (episode, carry)]
    _, two = task.evaluate(Physics(**fields), grid(action), *parts)
    for group, parts in many.observation.items():
        for name, value in parts.items():
            np.testing.assert_allclose(one.observation[group][name], value[1], atol=1e-12)
            np.testing.assert_allclose(two.observation[group][name], grid(value), atol=1e-12)
    np.testing.assert_allclose(one.reward, many.reward[1], atol=1e-12)
    np.testing.assert_allclose(two.reward, grid(many.reward), atol=1e-12)


@pytest.mark.parametrize(
    "cls", [Escape, Forage, GoalReaching, Imitation, JumpGap, Obstacles, TwoTouch, Velocity]
)
def test_options_are_described(cls: type[Task]) -> None:
    """Every option that a task documents is an argument of its constructor."""
    assert set(cls.options) <= set(inspect.signature(cls).parameters)
