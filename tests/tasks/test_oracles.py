"""Against independent implementations: dm_control's bodies and rewards, NumPy and SciPy."""

from __future__ import annotations

import copy
import dataclasses
import functools
from typing import Any

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vnl_envs
from vnl_envs.registry import get_body, get_row
from vnl_envs.scenes.floor import Floor
from vnl_envs.scenes.world import World, build_world
from vnl_envs.tasks import Imitation
from vnl_envs.tasks.metrics import Accumulator, Metric
from vnl_envs.testing.environments import episode_of
from vnl_envs.testing.simulations import physics_at

BODIES = ("rodent", "humanoid")
# The rat's palms are capsules here and ellipsoids there, of equal mass.
RESHAPED = {"rodent": ("hand_R", "hand_L"), "humanoid": ()}


def walker_of(body: str, torque: bool = False) -> Any:
    """A new walker of dm_control's."""
    from dm_control.locomotion.walkers import cmu_humanoid, rescale, rodent

    if body == "humanoid":
        cls = (
            cmu_humanoid.CMUHumanoid if torque else cmu_humanoid.CMUHumanoidPositionControlledV2020
        )
        return cls()
    walker = rodent.Rat(torque_actuators=torque)
    rescale.rescale_subtree(walker.mjcf_model, 0.9, 0.9)
    return walker


theirs = functools.lru_cache(walker_of)


@functools.lru_cache
def their_model(body: str, torque: bool = False) -> mujoco.MjModel:
    """The walker compiled with a free root."""
    from dm_control import mjcf
    from dm_control.locomotion import arenas

    arena = arenas.Floor()
    walker = walker_of(body, torque)
    walker.create_root_joints(arena.attach(walker))
    return mjcf.Physics.from_mjcf_model(arena.mjcf_model).model.ptr


@functools.lru_cache
def our_world(body: str, actuation: str = "position", physics: str = "fast") -> World:
    """Ours on a floor."""
    return build_world(Floor(), [get_body(body)], actuation, physics)


def pairs(body: str, kind: str, ours: mujoco.MjModel, other: mujoco.MjModel) -> np.ndarray:
    """Ids (ours, theirs) of elements of equal name, the prefixes left out."""
    count = {"body": "nbody", "joint": "njnt", "actuator": "nu", "geom": "ngeom"}[kind]
    names = [
        {getattr(m, kind)(i).name.split("/", 1)[1]: i for i in range(getattr(m, count))
         if "/" in getattr(m, kind)(i).name}
        for m in (ours, other)
    ]  # fmt: skip
    common = [n for n in names[0] if n in names[1] and n]
    return np.array([(names[0][n], names[1][n]) for n in common])


def both(body: str, kind: str, torque: bool = False) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """Both models and the ids of their common elements."""
    ours = our_world(body, "torque" if torque else "position").model
    other = their_model(body, torque)
    ids = pairs(body, kind, ours, other)
    return ours, other, ids[:, 0], ids[:, 1]


@pytest.mark.parametrize("body", BODIES)
def test_masses_and_inertias(body: str) -> None:
    """Every body weighs what dm_control's does and turns alike; reshaped palms nearly."""
    ours, other, a, b = both(body, "body")
    assert len(a) > 30
    # dm_control's arena gives massless bodies 10 mg.
    heavy = ours.body_mass[a] > 0
    np.testing.assert_allclose(ours.body_mass[a], other.body_mass[b] * heavy, rtol=1e-9)
    assert other.body_mass[b[~heavy]].max(initial=0) < 1.1e-5
    a, b = a[heavy], b[heavy]
    kept = [i for i, row in enumerate(a)
            if ours.body(int(row)).name.split("/")[1] not in RESHAPED[body]]  # fmt: skip
    np.testing.assert_allclose(
        ours.body_inertia[a[kept]], other.body_inertia[b[kept]], rtol=1e-6, atol=1e-16
    )
    np.testing.assert_allclose(ours.body_ipos[a[kept]], other.body_ipos[b[kept]], atol=1e-9)
    # A slimmer capsule of the same mass: at most a third off in the sum of its moments.
    total = [m.body_inertia[i].sum(1) for m, i in ((ours, a), (other, b))]
    np.testing.assert_allclose(*total, rtol=0.34)


@pytest.mark.parametrize("body", BODIES)
def test_total_mass(body: str) -> None:
    """The animal as a whole."""
    world = our_world(body)
    other = their_model(body)
    root = other.body(other.jnt_bodyid[np.flatnonzero(other.jnt_type == 0)[0]]).id
    np.testing.assert_allclose(world.body.mass.sum(), other.body_subtreemass[root], atol=2.1e-5)


@pytest.mark.parametrize("body", BODIES)
def test_joints(body: str) -> None:
    """Same joints in the same order, with the same range, stiffness and damping."""
    ours, other, a, b = both(body, "joint")
    assert len(a) == len(our_world(body).body.joint_names)
    assert (np.diff(a) > 0).all()
    assert (np.diff(b) > 0).all()
    for name in ("jnt_range", "jnt_stiffness", "jnt_axis", "jnt_pos", "jnt_limited", "jnt_margin",
                 "jnt_solref", "jnt_solimp"):  # fmt: skip
        np.testing.assert_allclose(
            getattr(ours, name)[a], getattr(other, name)[b], atol=1e-12, err_msg=name
        )
    dofs = ours.jnt_dofadr[a], other.jnt_dofadr[b]
    # Lumping moves damping times the time step into the inertia; see `vnl_envs.bodies.lumping`.
    lumped = get_body(body).physics.lumped * ours.opt.timestep * other.dof_damping[dofs[1]]
    np.testing.assert_allclose(
        ours.dof_armature[dofs[0]], other.dof_armature[dofs[1]] + lumped, atol=1e-12
    )
    for name in ("dof_damping", "dof_frictionloss"):
        np.testing.assert_allclose(
            getattr(ours, name)[dofs[0]], getattr(other, name)[dofs[1]], atol=1e-12, err_msg=name
        )
    springs = [m.qpos_spring[m.jnt_qposadr[i]] for m, i in ((ours, a), (other, b))]
    np.testing.assert_allclose(*springs, atol=1e-12)


ACTUATOR = ("gainprm", "biasprm", "dynprm", "forcerange", "ctrlrange", "gear", "gaintype",
            "biastype", "dyntype")  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
def test_servos(body: str) -> None:
    """Same actuators in the same order with the same parameters."""
    ours, other, a, b = both(body, "actuator")
    assert len(a) == ours.nu == other.nu
    assert (np.diff(b) > 0).all()
    for name in ACTUATOR:
        np.testing.assert_allclose(
            getattr(ours, f"actuator_{name}")[a], getattr(other, f"actuator_{name}")[b],
            atol=1e-12, err_msg=name,
        )  # fmt: skip


def test_rat_motors() -> None:
    """Torque actuation has the forces of dm_control's own torque-driven rat."""
    ours, other, a, b = both("rodent", "actuator", torque=True)
    assert len(a) == ours.nu
    force = [
        np.abs(m.actuator_gainprm[i, :1] * m.actuator_ctrlrange[i]).max(1)
        for m, i in ((ours, a), (other, b))
    ]
    np.testing.assert_allclose(*force, rtol=1e-6)
    for name in ("biasprm", "biastype", "dyntype", "dynprm", "gear", "gaintype"):
        got, expected = getattr(ours, f"actuator_{name}")[a], getattr(other, f"actuator_{name}")[b]
        if name == "biasprm":
            # Unused without a bias.
            continue
        np.testing.assert_allclose(got, expected, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("body", BODIES)
def test_motor_force_is_the_control(body: str) -> None:
    """Under torque actuation the settled force is control times limit, at any joint angle."""
    world = our_world(body, "torque")
    model, data = world.model, mujoco.MjData(world.model)
    rng = np.random.default_rng(0)
    data.qpos[world.body.qpos] = world.body.standing_qpos
    data.qpos[7:] += rng.normal(0, 0.1, model.nq - 7)
    ctrl = rng.uniform(-1, 1, model.nu)
    data.ctrl[:] = ctrl
    if model.na:
        data.act[:] = world.body.activation(ctrl)
    mujoco.mj_forward(model, data)
    limit = our_world(body).model.actuator_forcerange[:, 1]
    np.testing.assert_allclose(data.actuator_force, ctrl * limit, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("body", BODIES)
def test_forward_kinematics(body: str) -> None:
    """Body poses agree on random poses."""
    ours, other, a, b = both(body, "body")
    world = our_world(body)
    joints = both(body, "joint")[2:]
    free = [int(np.flatnonzero(m.jnt_type == 0)[0]) for m in (ours, other)]
    rng = np.random.default_rng(0)
    data = [mujoco.MjData(m) for m in (ours, other)]
    for _ in range(20):
        low, high = world.body.joint_range.T
        angles, quat = rng.uniform(low, high), rng.normal(size=4)
        root = np.concatenate([rng.normal(size=3), quat / np.linalg.norm(quat)])
        for model, d, root_joint, rows in zip((ours, other), data, free, joints, strict=True):
            start = model.jnt_qposadr[root_joint]
            d.qpos[start : start + 7] = root
            d.qpos[model.jnt_qposadr[rows]] = angles
            mujoco.mj_kinematics(model, d)
            mujoco.mj_comPos(model, d)
        np.testing.assert_allclose(data[0].xpos[a] - data[0].xpos[a[0]],
                                   data[1].xpos[b] - data[1].xpos[b[0]], atol=1e-10)  # fmt: skip
        np.testing.assert_allclose(data[0].xmat[a], data[1].xmat[b], atol=1e-10)


@pytest.mark.parametrize("body", BODIES)
def test_full_physics_keeps_all_collisions(body: str) -> None:
    """`physics="full"` collides whatever dm_control's body does."""
    ours, other = our_world(body, physics="full").model, their_model(body)
    ids = pairs(body, "geom", ours, other)
    for name in ("geom_contype", "geom_conaffinity"):
        np.testing.assert_array_equal(
            getattr(ours, name)[ids[:, 0]], getattr(other, name)[ids[:, 1]]
        )


# Rewards


def features(task: Any, state: Any) -> dict[str, np.ndarray]:
    """dm_control's walker features of a state, computed from the model anew."""
    model, body = task.world.model, task.body
    data = mujoco.MjData(model)
    data.qpos[body.qpos], data.qvel[body.qvel] = state
    mujoco.mj_forward(model, data)
    prefix = body.body.prefix
    walker = theirs(body.body.name)
    root = model.body(prefix + body.body.root).id
    turn = data.xmat[root].reshape(3, 3)
    tracked = [model.body(prefix + b.name).id for b in walker.mocap_tracking_bodies]
    appendages = [model.body(prefix + n).id for n in appendage_names(body.body.name)]
    joints = [model.joint(prefix + j.name) for j in walker.mocap_joints]
    return {
        "center_of_mass": data.subtree_com[root].copy(),
        "joints": np.array([data.qpos[j.qposadr[0]] for j in joints]),
        "joints_velocity": np.array([data.qvel[j.dofadr[0]] for j in joints]),
        "appendages": (data.xpos[appendages] - data.xpos[root]) @ turn,
        "body_positions": data.xpos[tracked].copy(),
        "body_quaternions": data.xquat[tracked].copy(),
    }


def appendage_names(body: str) -> list[str]:
    """End effectors and head, as dm_control's `appendages_pos` observes them."""
    walker = theirs(body)
    return [b.name for b in (*walker.end_effectors, walker.egocentric_camera.parent)]


@pytest.mark.parametrize("task_id", [i for i in vnl_envs.task_ids() if "Imitation" in i])
def test_comic_reward(task_id: str) -> None:
    """`reward="comic"` is dm_control's, on random states around the reference."""
    from dm_control.locomotion.tasks.reference_pose import rewards

    task = vnl_envs.make_task(task_id, reward="comic")
    reference, rng = task.reference, np.random.default_rng(0)
    comic = rewards.get_reward("comic")
    episode = episode_of(task, 12)
    _, carry = task.begin(episode)
    now = reference.first[episode["clip"]] + episode["start"] + 1
    qpos, qvel = reference.qpos[now].copy(), reference.qvel[now].copy()
    size = np.linspace(0, 0.15, 12)[:, None]
    qpos[:, :3] += 0.3 * size * rng.normal(size=(12, 3))
    qpos[:, 3:7] += size * rng.normal(size=(12, 4))
    qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    qpos[:, 7:] += size * rng.normal(size=qpos[:, 7:].shape)
    qvel += size * rng.normal(size=qvel.shape)
    idle = np.zeros((12, task.body.nu), np.float32)
    _, outcome = task.evaluate(physics_at(task, qpos, qvel), idle, episode, carry)
    for i in range(12):
        walker = features(task, (qpos[i], qvel[i]))
        target = features(task, (reference.qpos[now[i]], reference.qvel[now[i]]))
        error = 0.5 * np.abs(target["body_positions"] - walker["body_positions"]).mean()
        error += 0.5 * np.abs(target["joints"] - walker["joints"]).mean()
        drop = ("joints", "body_positions")
        result = comic(
            termination_error=error,
            termination_error_threshold=0.3,
            walker_features={k: v for k, v in walker.items() if k not in drop},
            reference_features={k: v for k, v in target.items() if k not in drop},
        )
        np.testing.assert_allclose(outcome.reward[i], result.reward, atol=1e-6)
        assert bool(outcome.terminated[i]) >= (error > 0.3)
    assert set(outcome.terms) == set(task.reward_terms)


# Metrics and intervals


@given(
    values=st.lists(st.lists(st.floats(-5, 5, width=16), min_size=3, max_size=3), min_size=1,
                    max_size=30)
)  # fmt: skip
def test_accumulator(values: list[list[float]]) -> None:
    """Reduces as NumPy does over the whole episode."""
    kinds = ("mean", "max", "last", "sum")
    metrics = tuple(Metric(kind, "1", kind, "higher") for kind in kinds)
    accumulator = Accumulator(metrics)
    series = np.array(values).T
    state = accumulator.begin((3,))
    for column in series.T:
        state = accumulator.add(state, column, abs(column), dict.fromkeys(kinds, column))
    result = dict(zip(accumulator.names, accumulator.result(state).T, strict=True))
    expected = {"mean": series.mean(1), "max": series.max(1), "last": series[:, -1],
                "sum": series.sum(1), "return": series.sum(1),
                "length": np.full(3, len(values)), "power": abs(series).mean(1)}  # fmt: skip
    assert set(result) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(result[name], value, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("body", BODIES)
def test_hash_covers_what_moves_the_body(body: str) -> None:
    """A change of any model field that changes a simulation changes `env_hash`."""
    task_id = next(i for i in vnl_envs.task_ids() if body in i.lower() and "Goal" in i)
    task = vnl_envs.make_task(task_id)
    before = vnl_envs.env_hash(task_id, task)
    start, _ = task.begin(episode_of(task, 1))

    def moved(model: mujoco.MjModel) -> np.ndarray:
        data = mujoco.MjData(model)
        rng = np.random.default_rng(0)
        data.qpos[task.body.qpos] = start.qpos[0]
        data.qpos[2] *= 0.97
        data.qvel[task.body.qvel] = rng.normal(0, 1, task.body.nv)
        data.act[task.body.act] = start.act[0]
        data.ctrl[:] = rng.uniform(-0.5, 0.5, model.nu)
        mujoco.mj_step(model, data, 10)
        return data.qpos.copy()

    still = moved(task.world.model)
    missed = []
    for name in dir(task.world.model):
        value = getattr(task.world.model, name, None)
        if name.startswith("_") or not isinstance(value, np.ndarray):
            continue
        if value.dtype != np.float64 or not value.size or not value.flags.writeable:
            continue
        model = copy.copy(task.world.model)
        getattr(model, name)[:] = value * 1.1 + 0.003 * (value == 0)
        if np.array_equal(moved(model), still):
            continue
        changed = copy.copy(task)
        changed.world = dataclasses.replace(task.world, model=model)
        if vnl_envs.env_hash(task_id, changed) == before:
            missed.append(name)
    # What the compiler derives from other fields is covered by those.
    derived = {
        "body_subtreemass", "body_invweight0", "dof_invweight0", "tendon_invweight0", "dof_M0",
        "tendon_length0", "actuator_acc0", "actuator_length0", "actuator_lengthrange",
        "geom_rbound", "geom_aabb", "tendon_lengthspring", "bvh_aabb", "oct_aabb", "oct_coeff",
        "qpos0", "mocap_pos", "mocap_quat",
    }  # fmt: skip
    assert sorted(set(missed) - derived) == []


def test_hash_covers_options() -> None:
    """Every option that changes what a policy meets changes the hash."""
    changes = {
        "RodentJumpGap": [{"gaps": 0.05}, {"difficulty": 0.5}, {"actuation": "torque"},
                          {"physics": "full"}],
        "RodentGoalReaching": [{"reward": "sparse"}],
        "RodentImitation": [{"start": 0}, {"start": 1}, {"noise": 0.01}, {"split": "all"},
                            {"reference_frames": (1,)}, {"reward": "comic"}],
    }  # fmt: skip
    for name, options in changes.items():
        task_id = f"vnl/{name}-v0"
        hashes = [
            vnl_envs.env_hash(task_id, vnl_envs.make_task(task_id, **o)) for o in ({}, *options)
        ]
        same = [o for o, h in zip(options, hashes[1:], strict=True) if h == hashes[0]]
        assert not same
        assert len(set(hashes)) == len(hashes)


def test_hash_covers_what_is_observed() -> None:
    """So does every part of a body's description that observations or rewards are made of."""
    task_id = "vnl/RodentImitation-v0"
    body, row = get_body("rodent"), get_row(task_id)
    changes: list[dict[str, Any]] = [
        {},
        {"tracked_bodies": body.tracked_bodies[:-1]},
        {"hands": body.hands[::-1]},
        {"head": "jaw"},
        {"touch": dict(list(body.touch.items())[:-1])},
        {"up": (0, 1, 0)},
        {"fallen_height": 0.02},
    ]
    hashes = []
    for change in changes:
        world = build_world(Imitation.scene(**row.settings), [dataclasses.replace(body, **change)])
        hashes.append(vnl_envs.env_hash(task_id, Imitation(world, **row.settings)))
    same = [c for c, h in zip(changes[1:], hashes[1:], strict=True) if h == hashes[0]]
    assert not same
