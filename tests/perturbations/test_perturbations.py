"""Perturbations: the contract with them, what each does to the physics, and that engines agree."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from support import restored_registry

import vnl_envs
from vnl_envs.bodies import HUMANOID
from vnl_envs.bodies.constants import DERIVED, derived_fields
from vnl_envs.cli.main import app
from vnl_envs.perturbations import Perturbations, PerturbedTask, Push, counter_rng, perturbed
from vnl_envs.perturbations.configuration import kinds, markdown_table, settings
from vnl_envs.perturbations.limb_geometry import Limbs, Scales
from vnl_envs.registry import get_row
from vnl_envs.tasks.task import Carry, Episode, Task
from vnl_envs.testing import TaskContract
from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import (
    actions_of,
    episode_of,
    rows,
    run_single,
    run_vector,
    vector,
)
from vnl_envs.testing.simulations import STATE, edit_physics, flat, physics_at, physics_of, turned

RAT, HUMAN = "vnl/RodentGoalReaching-v0", "vnl/HumanoidGoalReaching-v0"
PUSH = {"force": 0.3, "duration": 0.1, "interval": 0.5}
FIELDS = {"mass": 0.3, "friction": 0.3, "gain": 0.3, "gravity_tilt": 0.1}
LIMBS = {"limb_length": 0.15, "limb_size": 0.2}
FILTERS = {"push": PUSH, "action_delay": 3, "action_repeat": 0.2}
NOISE = {"joint_position": 0.02, "world_up": 0.01}
VARIANTS = {
    "test/Fields-v0": (RAT, {**FIELDS, "action_delay": 2, "observation_noise": NOISE}),
    "test/Filters-v0": ("vnl/HumanoidJumpGap-v0", {**FILTERS, "mass": 0.2,
                                                   "observation_noise": {"lag": 0.1}}),
    "test/Limbs-v0": ("vnl/RodentImitation-v0", {**FIELDS, **LIMBS, **FILTERS,
                                                 "observation_noise": NOISE}),
}  # fmt: skip
# How deep a start may reach into the ground, m.
PENETRATION = {"rodent": 0.001, "humanoid": 0.005}


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    """The perturbed tasks, for this file only."""
    with restored_registry():
        for task_id, (bare, perturbations) in VARIANTS.items():
            row = get_row(bare)
            settings = {**row.settings, "perturbations": perturbations}
            vnl_envs.register_task(task_id, row.body, row.task, **settings)
        yield


@pytest.mark.parametrize("task_id", VARIANTS, scope="class")
class TestPerturbed(TaskContract):
    """What holds of every task holds of perturbed ones."""

    @pytest.fixture(autouse=True)
    def _setting(self, task_id: str) -> None:
        self.lasts_to_horizon = "Limbs" not in task_id
        self.penetration = PENETRATION[get_row(task_id).body]

    def move_world(
        self, task: Task, episode: Episode, carry: Carry, shift: np.ndarray, yaw: float
    ) -> tuple[Task, Episode, Carry] | None:
        """Goals move along, and gravity leans the other way."""
        if "goals" not in episode:
            return None
        tilt = "perturbation/gravity_tilt"
        there = {
            **episode,
            "goals": turned(episode["goals"], yaw) + shift,
            tilt: turned(episode[tilt], yaw),
        }
        return task, there, {**carry, "target": turned(carry["target"], yaw) + shift}

    def test_starts_are_sound(self, task_id: str) -> None:
        """No start is terminated already or reaches into the ground, with the episode's model."""
        env = vector(task_id, 100)
        env.reset(seed=0)
        task, core = env.task, env.core
        for i in range(100):
            depth = -min(env.data(i).contact.dist, default=0.0)
            assert depth < self.penetration, rows(core.episode, i)
        idle = np.zeros((100, task.body.nu), np.float32)
        _, outcome = task.evaluate(core.physics, idle, core.episode, core.carry)
        assert not outcome.terminated.any()

    def test_starts_with_all_collisions(self, task_id: str) -> None:
        """Nor with all collisions, where a longer neck may reach a little deeper."""
        self.penetration = max(self.penetration, 0.002)
        super().test_starts_with_all_collisions(task_id)

    def test_observations_are_of_the_same_instant(self, task_id: str) -> None:
        """After a step, kinematics follow from the current positions and the episode's model."""
        env = vector(task_id, 4)
        observed = run_vector(env, actions_of(env.task, 15, 4, size=0.5), seed=6)[-1][0]
        datas = []
        for i in range(4):
            snapshot, model = env.data(i), env.core.engine.model_of(i)
            data = mujoco.MjData(model)
            data.qpos[:], data.qvel[:] = snapshot.qpos, snapshot.qvel
            data.act[:], data.mocap_pos[:] = snapshot.act, snapshot.mocap_pos
            mujoco.mj_forward(model, data)
            for name in ("xpos", "xquat", "geom_xpos", "geom_xmat", "xipos"):
                ours, theirs = getattr(snapshot, name), getattr(data, name)
                np.testing.assert_allclose(ours, theirs, atol=1e-9, err_msg=name)
            datas.append(data)
        physics = physics_of(env.task, *datas)
        expected = flat(env.task.observe(physics, env.episodes, env.carries))
        np.testing.assert_allclose(observed, expected, rtol=1e-5, atol=1e-5)

    def test_step_is_the_bare_physics(self, task_id: str) -> None:
        """A step gives the bits of `mj_step` with the episode's model, force and late action."""
        env = vector(task_id, 3)
        task, body = env.task, env.task.body
        env.reset(seed=7)
        for action in actions_of(task, 25, 3, size=0.6):
            before, models = env.get_state(), [env.core.engine.model_of(i) for i in range(3)]
            work = work_of(env)
            result = env.step(action)
            after = env.get_state()["physics"]
            applied = task.applied_action(action, before["episode"], before["carry"])
            inputs = task.external_inputs(before["episode"], before["carry"])
            for i in np.flatnonzero(~(result[2] | result[3])):
                data = mujoco.MjData(models[i])
                mujoco.mj_setState(models[i], data, before["physics"][i], STATE)
                if inputs.mocap_pos is not None:
                    data.mocap_pos[:] = inputs.mocap_pos[i]
                if inputs.force is not None:
                    data.xfrc_applied[body.bodies.start, :3] = inputs.force[i]
                data.ctrl[body.ctrl] = body.control(applied[i])
                mujoco.mj_step(models[i], data, task.world.substeps)
                expected = np.empty_like(after[i])
                mujoco.mj_getState(models[i], data, expected, STATE)
                np.testing.assert_array_equal(after[i], expected)
                power = np.abs(data.qfrc_actuator * data.qvel).sum() / body.mass.sum()
                np.testing.assert_allclose(work_of(env)[i] - work[i], power, atol=1e-9)


def work_of(env: Any) -> np.ndarray:
    """Power of every simulation, summed over the steps of its episode so far, (num,)."""
    figures = env.core.figures()
    return figures["power"] * figures["length"]


def make(task_id: str = RAT, **perturbations: Any) -> Any:
    """A perturbed single environment."""
    return gymnasium.make(task_id, perturbations=perturbations, disable_env_checker=True).unwrapped


def begin(env: Any, seed: int = 0, **parts: Any) -> None:
    """Reset to an episode with these values of the perturbations' parts."""
    env.reset(seed=seed)
    given = {f"perturbation/{name}": value for name, value in parts.items()}
    env.reset(options={"episode": {**env.episode, **given}})


def settled(env: Any, steps: int = 150) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """The model and state after standing for a while, forces included."""
    for _ in range(steps):
        env.step(np.zeros(env.action_space.shape, np.float32))
    model, data = env.core.engine.model_of(0), env.data
    mujoco.mj_forward(model, data)
    return model, data


def in_the_air(env: Any) -> None:
    """Lift the body by 50 m, at rest."""

    def lift(data: mujoco.MjData) -> None:
        data.qpos[env.task.body.qpos.start + 2] += 50.0

    edit_physics(env, lift)


def momentum(env: Any) -> np.ndarray:
    """The body's linear momentum over its mass, m/s."""
    model, data = env.core.engine.model_of(0), env.data
    mujoco.mj_subtreeVel(model, data)
    return data.subtree_linvel[env.task.body.bodies.start].copy()


class TestPhysics:
    """Each perturbation does what it says."""

    def test_mass_on_the_scale(self) -> None:
        """The ground carries twice the weight of a body of twice the mass."""
        weights = []
        for factor in (1.0, 2.0):
            env = make(mass=0.5)
            begin(env, mass=factor)
            model, data = settled(env)
            # The root's vertical constraint force: limits within the body cancel.
            weights.append(data.qfrc_constraint[2])
            assert model.body_subtreemass[env.task.body.bodies.start] == pytest.approx(
                factor * env.task.body.mass.sum()
            )
            total = model.body_subtreemass[0] * 9.81
            assert weights[-1] == pytest.approx(total, rel=0.05)
        assert weights[1] / weights[0] == pytest.approx(2.0, rel=0.05)

    def test_friction(self) -> None:
        """Contacts have the factor's friction, and a body slides further on less."""
        travelled = []
        for factor in (0.1, 1.0):
            env = make(friction=0.5)
            begin(env, friction=factor)
            _, data = settled(env, 20)
            nominal = env.task.world.model
            for contact in data.contact:
                own = nominal.geom_friction[contact.geom].max(axis=0)
                np.testing.assert_allclose(contact.friction[0], factor * own[0], rtol=1e-6)
            edit_physics(env, lambda d: d.qvel.__setitem__(0, 0.6))
            before = env.data.qpos[0]
            settled(env, 12)
            travelled.append(env.data.qpos[0] - before)
        assert travelled[0] > 1.3 * travelled[1]

    @pytest.mark.parametrize("actuation", ["position", "torque"])
    @pytest.mark.parametrize("task_id", [RAT, HUMAN])
    def test_gain(self, task_id: str, actuation: str) -> None:
        """Forces at the same state are the factor's, bounds included; a servo's aim stays."""
        env = gymnasium.make(task_id, perturbations={"gain": 0.5}, actuation=actuation).unwrapped
        begin(env, gain=1.5)
        settled(env, 3)
        model, nominal = env.core.engine.model_of(0), env.task.world.model
        forces = []
        for each in (nominal, model):
            data = mujoco.MjData(each)
            data.qpos[:], data.act[:] = env.data.qpos, 0.7 * env.data.act + 0.1
            mujoco.mj_forward(each, data)
            forces.append(data.actuator_force.copy())
        np.testing.assert_allclose(forces[1], 1.5 * forces[0], rtol=1e-6, atol=1e-12)
        assert np.abs(forces[0]).max() > 0

    def test_gravity_tilt(self) -> None:
        """A falling body gains speed at 9.81 m/s², towards where gravity leans."""
        env = make(gravity_tilt=0.2)
        lean = np.array([0.12, -0.05], np.float32)
        begin(env, gravity_tilt=lean)
        in_the_air(env)
        before = momentum(env)
        for _ in range(10):
            env.step(np.zeros(env.action_space.shape, np.float32))
        gained = (momentum(env) - before) / (10 * env.dt)
        angle = np.hypot(*lean)
        expected = 9.81 * np.array([*(np.sin(angle) * lean / angle), -np.cos(angle)])
        np.testing.assert_allclose(gained, expected, atol=0.02)
        drawn = episode_of(env.task, 2000)["perturbation/gravity_tilt"]
        angles = np.hypot(*drawn.T)
        assert 0.19 < angles.max() <= 0.2001
        assert np.abs(drawn.mean(axis=0)).max() < 0.01

    @pytest.mark.parametrize("task_id", [RAT, HUMAN])
    def test_limbs(self, task_id: str) -> None:
        """Limb segments have the factor's length, the trunk keeps its own, thickness follows."""
        env = make(task_id, **LIMBS)
        begin(env, limb_length=1.2, limb_size=0.8)
        body, nominal, model = env.task.body, env.task.world.model, env.core.engine.model_of(0)
        places = []
        for each in (nominal, model):
            data = mujoco.MjData(each)
            data.qpos[body.qpos] = body.standing_qpos
            data.qpos[7:] += 0.1
            mujoco.mj_forward(each, data)
            places.append(data.xpos.copy())
        limbs = Limbs(body)
        inside = limbs.bodies
        first = limbs._attached
        np.testing.assert_allclose(places[0][~inside], places[1][~inside], atol=1e-12)
        assert 12 <= inside.sum() < body.bodies.stop - body.bodies.start
        offsets = [p - p[first] for p in places]
        np.testing.assert_allclose(offsets[1][inside], 1.2 * offsets[0][inside], atol=1e-7)
        capsule = nominal.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE.value
        capsule &= inside[nominal.geom_bodyid]
        assert capsule.sum() >= 12
        radius, half = (model.geom_size[capsule, :2] / nominal.geom_size[capsule, :2]).T
        np.testing.assert_allclose(radius, 0.8, rtol=1e-6)
        np.testing.assert_allclose(half, 1.2, rtol=1e-6)
        np.testing.assert_allclose(
            model.geom_rbound[capsule], model.geom_size[capsule, :2].sum(axis=1)
        )
        np.testing.assert_allclose(
            model.body_mass[inside], 1.2 * 0.8**2 * nominal.body_mass[inside], rtol=1e-6
        )
        # A rod twice as long, at the same mass, turns about its ends four times as hard.
        heavy = inside & (nominal.body_mass > 0)
        greatest = model.body_inertia[heavy].max(axis=1) / nominal.body_inertia[heavy].max(axis=1)
        assert (greatest > 0.8**4 * 1.2 - 1e-6).all()
        assert (greatest < 1.2**3 * 0.8**2 + 1e-6).all()
        sums = model.body_inertia.sum(axis=1, keepdims=True)
        assert (2 * model.body_inertia <= sums * (1 + 1e-6)).all()

    def test_uniform_limbs_are_similar(self) -> None:
        """Limbs scaled by f in length and thickness have f³ the mass and f⁵ the inertia."""
        task = perturbed(vnl_envs.make_task(RAT), LIMBS)
        model, f = task.world.model, np.float32(1.25)
        fields = Limbs(task.body).fields(Scales(*np.full((2, 4), f), np.array(np.float32(1))))
        inside = Limbs(task.body).bodies
        np.testing.assert_allclose(
            fields["body_inertia"][inside], f**5 * model.body_inertia[inside], rtol=1e-5
        )

    @pytest.mark.parametrize("task_id", [RAT, HUMAN])
    def test_a_body_scaled_in_all_parts_is_similar(self, task_id: str) -> None:
        """Every place is f times as far from the root; masses f³, inertias f⁵, heights f."""
        f = 1.25
        env = make(task_id, limb_length=0.5, limb_size=0.5, torso_size=0.5)
        begin(env, limb_length=f, limb_size=f, torso_size=f)
        body, nominal, model = env.task.body, env.task.world.model, env.core.engine.model_of(0)
        places = []
        for each in (nominal, model):
            data = mujoco.MjData(each)
            data.qpos[body.qpos] = body.standing_qpos
            mujoco.mj_forward(each, data)
            places.append(data.xpos[body.bodies] - data.xpos[body.bodies][0])
        np.testing.assert_allclose(places[1], f * places[0], atol=1e-6)
        rows = body.bodies
        np.testing.assert_allclose(model.body_mass[rows], f**3 * nominal.body_mass[rows], rtol=1e-5)
        np.testing.assert_allclose(
            model.body_inertia[rows], f**5 * nominal.body_inertia[rows], rtol=1e-5
        )
        fallen = env.core.carry["perturbation/fallen_height"]
        np.testing.assert_allclose(fallen, f * body.body.fallen_height, rtol=1e-2)

    def test_each_limb_has_factors_of_its_own(self) -> None:
        env = make(limb_length=0.5, per_limb=True)
        drawn = episode_of(env.task, 1000)["perturbation/limb_length"]
        assert drawn.shape == (1000, 4)
        assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.15
        assert env.task.privileged == tuple(
            f"limb_length_{name}" for name in (*env.task.body.body.hands, *env.task.body.body.feet)
        )
        factors = np.array([1.2, 0.9, 1.1, 0.8], np.float32)
        begin(env, limb_length=factors)
        body, nominal, model = env.task.body, env.task.world.model, env.core.engine.model_of(0)
        limbs = Limbs(body)
        for factor, name in zip(factors, limbs.names, strict=True):
            end = body.bodies.start + body.body_index(name)[0]
            np.testing.assert_allclose(
                model.body_pos[end], factor * nominal.body_pos[end], rtol=1e-6
            )
        with pytest.raises(ValueError, match="'perturbation/limb_length' must have shape"):
            begin(env, limb_length=np.float32(1.1))

    @pytest.mark.parametrize("task_id", [RAT, HUMAN, "vnl/HumanoidEscape-v0"])
    def test_what_counts_as_fallen_follows_the_body(self, task_id: str) -> None:
        """Legs of 0.6 of their length stand lower, and are no fall; of a common body it was one."""
        env = make(task_id, limb_length=0.5)
        begin(env, limb_length=0.6)
        lowest = env.task.inner.body.body.fallen_height
        height = float(env.core.carry["perturbation/fallen_height"][0])
        assert 0.4 * lowest < height < 0.9 * lowest
        for _ in range(3):
            _, _, terminated, _, _ = env.step(np.zeros(env.action_space.shape, np.float32))
            assert not terminated
        assert env.core.carry["perturbation/fallen_height"][0] == height

    def test_arms_that_bear_no_weight_do_not_change_the_height_of_a_fall(self) -> None:
        heights = []
        for arms in (0.5, 1.0, 1.5):
            env = make(HUMAN, limb_length=0.5, per_limb=True)
            begin(env, limb_length=np.array([arms, arms, 0.9, 0.7], np.float32))
            heights.append(env.core.carry["perturbation/fallen_height"][0])
        assert heights[0] == heights[1] == heights[2] < HUMANOID.fallen_height

    def test_touch_knows_the_limbs(self) -> None:
        """A standing body with thicker paws feels the ground."""
        env = make(limb_size=0.4, observation_noise={})
        begin(env, limb_size=1.4)
        settled(env, 50)
        touch = env.core.observation[0, env.layout["proprioception/touch"]]
        model, data = env.core.engine.model_of(0), env.data
        mujoco.mj_forward(model, data)
        touching = {model.geom(int(g)).name for c in data.contact if c.dist < 0 for g in c.geom}
        body = env.task.body.body
        felt = [any(body.prefix + g in touching for g in group) for group in body.touch.values()]
        np.testing.assert_array_equal(touch, felt)
        assert touch.any()

    def test_push(self) -> None:
        """A push changes the momentum by force times duration."""
        env = make(push={"force": 0.5, "duration": 0.1, "interval": 1.0})
        begin(env)
        in_the_air(env)
        speeds = [momentum(env)]
        forces = []
        for _ in range(50):
            core = env.core
            forces.append(core.task.external_inputs(core.episode, core.carry).force[0])
            env.step(np.zeros(env.action_space.shape, np.float32))
            speeds.append(momentum(env))
        on = np.flatnonzero(np.abs(forces).any(axis=1))
        assert len(on) == 5
        assert (np.diff(on) == 1).all()
        change = speeds[on[-1] + 1] - speeds[on[0]]
        assert np.hypot(*change[:2]) == pytest.approx(0.5 * 9.81 * 0.1, rel=0.01)
        direction = forces[on[0]][:2] / np.hypot(*forces[on[0]][:2])
        np.testing.assert_allclose(change[:2], 0.5 * 9.81 * 0.1 * direction, rtol=0.02, atol=0.01)

    def test_push_times(self) -> None:
        """One push in every interval, anywhere in it, in any direction."""
        task = perturbed(vnl_envs.make_task(RAT), {"push": PUSH})
        episode = episode_of(task, 3000)
        _, carry = task.begin(episode)
        steps = np.arange(50, dtype=np.int32)
        forces = np.stack([
            task.external_inputs(episode, {**carry, "perturbation/step": np.full(3000, s)}).force
            for s in steps
        ])  # fmt: skip
        on = np.abs(forces).any(axis=2)
        assert (on.reshape(2, 25, 3000).sum(axis=1) == 5).all()
        first = on[:25].argmax(axis=0)
        assert set(first) == set(range(21))
        angle = np.arctan2(*forces[first, np.arange(3000), :2].T)
        assert np.abs(np.exp(1j * angle).mean()) < 0.05


class TestFilters:
    """What happens to actions and observations."""

    def play(self, task: Task, episode: Any, actions: np.ndarray) -> np.ndarray:
        """Applied actions, (T, n, nu), of a body that stands still."""
        _, carry = task.begin(episode)
        num = actions.shape[1]
        physics = physics_at(task, np.tile(task.body.standing_qpos, (num, 1)))
        applied = []
        for action in actions:
            applied.append(task.applied_action(action, episode, carry))
            carry, _ = task.evaluate(physics, action, episode, carry)
        return np.stack(applied)

    def test_delay(self) -> None:
        """Actions come as many steps late as the episode says, after the standing pose."""
        task = perturbed(vnl_envs.make_task(RAT), {"action_delay": 3})
        episode = episode_of(task, 4)
        episode["perturbation/action_delay"] = np.arange(4, dtype=np.int32)
        actions = actions_of(task, 10, 4)
        applied = self.play(task, episode, actions)
        for i in range(4):
            np.testing.assert_array_equal(applied[i:, i], actions[: 10 - i, i])
            assert not applied[:i, i].any()
        drawn = episode_of(task, 400)["perturbation/action_delay"]
        assert set(drawn) == {0, 1, 2, 3}

    def test_repeat(self) -> None:
        """A share p of the steps has the last step's command."""
        task = perturbed(vnl_envs.make_task(RAT), {"action_repeat": 0.25})
        actions = actions_of(task, 60, 100)
        applied = self.play(task, episode_of(task, 100), actions)
        repeated = (applied[1:] == applied[:-1]).all(axis=-1)
        fresh = (applied[1:] == actions[1:]).all(axis=-1)
        assert (repeated ^ fresh).all()
        # 5900 draws: a standard error of 0.006.
        assert repeated.mean() == pytest.approx(0.25, abs=0.025)
        assert np.corrcoef(repeated[1:].ravel(), repeated[:-1].ravel())[0, 1] < 0.05

    def test_noise(self) -> None:
        """Noise has the standard deviation asked for, is new at each step, and is private."""
        bare = vnl_envs.make_task(RAT)
        last = list(bare.observe(*_standing(bare, 1))["task"])[-1]
        sigma = {"joint_position": 0.03, "world_up": 0.2, last: 0.5}
        task = perturbed(bare, {"observation_noise": sigma})
        physics, episode, carry = _standing(task, 300)
        seen = task.observe(physics, episode, carry)
        clean = bare.observe(physics, episode, carry)
        for group in clean:
            for name, value in clean[group].items():
                assert_same(seen["privileged"][f"{group}/{name}"], value)
                error = seen[group][name] - value
                if name not in sigma:
                    assert not error.any()
                    continue
                assert error.std() == pytest.approx(sigma[name], rel=0.1)
                assert abs(error.mean()) < 0.15 * sigma[name]
        later = {**carry, "perturbation/step": carry["perturbation/step"] + 1}
        again = task.observe(physics, episode, later)
        one, two = (
            s["proprioception"]["joint_position"] - clean["proprioception"]["joint_position"]
            for s in (seen, again)
        )
        assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.03
        assert_same(task.observe(physics, episode, carry), seen)

    def test_privileged(self) -> None:
        """The episode's factors in order, gravity and pushes in the body's own heading."""
        task = perturbed(vnl_envs.make_task(RAT), {**FIELDS, **LIMBS, **FILTERS})
        physics, episode, carry = _standing(task, 3)
        privileged = task.observe(physics, episode, carry)["privileged"]
        assert isinstance(task, PerturbedTask)
        vector_ = privileged["perturbation"]
        assert vector_.shape == (3, len(task.privileged))
        assert task.privileged == (
            "mass", "friction", "gain", "limb_length", "limb_size", "gravity_tilt_forward",
            "gravity_tilt_left", "action_delay",
        )  # fmt: skip
        np.testing.assert_allclose(vector_[:, 0], episode["perturbation/mass"])
        # The standing pose looks along +x.
        np.testing.assert_allclose(vector_[:, 5:7], episode["perturbation/gravity_tilt"], atol=1e-6)
        assert privileged["push"].shape == (3, 2)

    def test_observation_layout_stays(self) -> None:
        """An environment's observation has the parts it has without perturbations."""
        env = make(**FIELDS, **FILTERS)
        assert env.layout == gymnasium.make(RAT).unwrapped.layout


def _standing(task: Task, num: int) -> tuple[Any, Any, Any]:
    """Physics, episodes and carries of standing bodies."""
    episode = episode_of(task, num)
    _, carry = task.begin(episode)
    return physics_at(task, np.tile(task.body.standing_qpos, (num, 1))), episode, carry


def example(name: str) -> dict[str, Any]:
    """A setting at its example, with what it needs."""
    needed = {"limb_length": 0.2} if name == "per_limb" else {}
    return {**needed, name: settings()[name].example}


class TestTable:
    """What holds of every kind in the table."""

    @pytest.mark.parametrize("name", settings())
    def test_example_changes_the_task(self, name: str) -> None:
        """The example is on and shows in a rollout; the default is off."""
        setting = settings()[name]
        given = example(name)
        assert set(Perturbations(**given).active()) == set(given)
        assert Perturbations(**{name: setting.off}) == Perturbations()
        env, bare = make(**given), gymnasium.make(RAT)
        actions = actions_of(env.task, 40, 1, size=0.3)[:, 0]
        env.reset(seed=0)
        episode = env.episode
        bare.reset(seed=0)
        own = {k: v for k, v in episode.items() if not k.startswith("perturbation/")}
        bare.reset(options={"episode": own})
        pairs = [(env.step(action)[0], bare.step(action)[0]) for action in actions]
        assert any((perturbed_ != plain).any() for perturbed_, plain in pairs)

    def test_streams_are_their_own(self) -> None:
        """No two kinds draw the same random numbers."""
        streams = [kind.stream for kind in set(kinds().values()) if kind.stream]
        assert len(streams) == len(set(streams))

    def test_page_has_the_table(self) -> None:
        """`docs/perturbations.md` lists what there is."""
        page = Path(__file__).parents[2] / "docs" / "perturbations.md"
        assert markdown_table() in page.read_text(), f"update {page} with\n{markdown_table()}"

    def test_hashes_stay(self) -> None:
        """Other kinds, added or off, are no part of the hash."""
        assert make(mass=0.2, friction=0.2, gain=0.2).env_hash == "bfe51e2cf145a6f4"
        assert make(**FIELDS, **LIMBS, **FILTERS).env_hash == "48192fa50b83ddd1"


class TestIdentity:
    """The same Episode is the same perturbation; none is none."""

    @pytest.mark.parametrize("task_id", [RAT, "vnl/HumanoidImitation-v0"])
    def test_nothing_on_is_the_task_itself(self, task_id: str) -> None:
        """Sizes of zero change neither task nor hash."""
        zero = {"mass": 0, "limb_length": 0.0, "push": {**PUSH, "force": 0}, "action_delay": 0,
                "observation_noise": {"joint_position": 0.0}}  # fmt: skip
        for value in (None, {}, zero, Perturbations()):
            env = gymnasium.make(task_id, perturbations=value).unwrapped
            assert env.task.unwrapped is env.task
            assert env.env_hash == gymnasium.make(task_id).unwrapped.env_hash

    def test_factors_of_one_change_no_bit(self) -> None:
        """The machinery itself leaves the physics as it is."""
        env, bare = make(**FIELDS, **LIMBS), gymnasium.make(RAT)
        one = np.float32(1.0)
        parts = dict.fromkeys(("mass", "friction", "gain", "limb_length", "limb_size"), one)
        bare.reset(seed=3)
        given = {f"perturbation/{k}": v for k, v in parts.items()}
        given["perturbation/gravity_tilt"] = np.zeros(2, np.float32)
        episode = {**bare.unwrapped.episode, **given}
        env.reset(seed=3)
        env.reset(options={"episode": episode})
        for action in actions_of(env.task, 30, 1)[:, 0]:
            assert_same(env.step(action), bare.step(action))

    def test_every_setting_counts_in_the_hash(self) -> None:
        """Each perturbation, and its size, is another task."""
        each = [example(name) for name in settings()]
        each += [{"mass": 0.3}, {"observation_noise": {"joint_position": 0.1}}]
        hashes = {make(**kwargs).env_hash for kwargs in each}
        assert len(hashes) == len(each)

    def test_episodes_beyond_what_is_drawn(self) -> None:
        """A sweep may ask for any positive factor; nonsense is refused."""
        env = make(mass=0.1, action_delay=2)
        begin(env, mass=1.7)
        assert env.core.engine.model_of(0).body_subtreemass[0] == pytest.approx(
            1.7 * env.task.body.mass.sum(), rel=1e-6
        )
        for parts in ({"mass": 0.0}, {"mass": -1.0}, {"action_delay": 3}, {"action_delay": -1}):
            with pytest.raises(ValueError, match="episode part"):
                begin(env, **parts)

    def test_seeds_are_exact(self) -> None:
        """A seed comes back from a user's episode bit for bit, and negative ones are refused."""
        env = make(action_repeat=0.1)
        env.reset(seed=1)
        episode = env.episode
        env.reset(options={"episode": json.loads(json.dumps(
            {k: v.tolist() for k, v in episode.items()}))})  # fmt: skip
        assert_same(env.episode, episode)
        with pytest.raises(ValueError, match="must be integers"):
            env.reset(options={"episode": {**episode, "perturbation/seed": -1}})

    def test_model_is_restored_with_the_state(self) -> None:
        """`set_state` brings the models back, also into an environment that had others."""
        env = vector(RAT, 3, perturbations={**FIELDS, **LIMBS})
        env.reset(seed=0)
        state = copy.deepcopy(env.get_state())
        models = [env.core.engine.model_of(i) for i in range(3)]
        env.reset(seed=50)
        env.set_state(state)
        for i, model in enumerate(models):
            again = env.core.engine.model_of(i)
            for name in ("body_mass", "geom_size", "body_pos", "actuator_gainprm", *DERIVED):
                assert_same(getattr(again, name), getattr(model, name), name)

    def test_rows_that_stay_cost_no_constants(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`Core.edit` derives constants only of simulations whose values changed."""
        env = vector(RAT, 4, perturbations={"mass": 0.2, "gravity_tilt": 0.1})
        env.reset(seed=0)
        core, asked = env.core, []
        monkeypatch.setattr(core.engine._batch, "set_const", lambda ids: asked.append(list(ids)))
        core.edit()
        core.episode["perturbation/gravity_tilt"][1] += 0.01
        core.edit()
        assert asked == []
        core.episode["perturbation/mass"][[1, 3]] = 1.05
        core.edit(np.array([0, 3]))
        core.edit()
        assert asked == [[3], [1]]


class TestDerived:
    """Constants for engines that do not derive them."""

    @pytest.mark.parametrize("perturbations", [{"mass": 0.4}, LIMBS])
    def test_derived_fields(self, perturbations: dict) -> None:
        """They are those of MuJoCo on a model with the edits."""
        task = perturbed(vnl_envs.make_task(RAT), perturbations)
        fields = task.model_fields(rows(episode_of(task, 3), slice(0, 3)))
        derived = derived_fields(task.world.model, fields)
        assert set(derived) == set(DERIVED)
        for i in range(3):
            model = copy.copy(task.world.model)
            for name, value in fields.items():
                getattr(model, name)[:] = value[i]
            mujoco.mj_setConst(model, mujoco.MjData(model))
            for name in DERIVED:
                np.testing.assert_array_equal(derived[name][i], getattr(model, name), name)
        one = derived_fields(task.world.model, rows(fields, 0))
        assert_same(one, rows(derived, 0))
        wide = derived_fields(task.world.model, {k: v[None, :2] for k, v in fields.items()})
        assert wide["dof_M0"].shape == (1, 2, task.world.model.nv)

    def test_all_that_changes_is_named(self) -> None:
        """Masses change no other constant that the physics reads."""
        task = perturbed(vnl_envs.make_task(RAT), {"mass": 0.4})
        fields = task.model_fields(rows(episode_of(task, 1), 0))
        before, after = copy.copy(task.world.model), copy.copy(task.world.model)
        for name, value in fields.items():
            getattr(after, name)[:] = value
        mujoco.mj_setConst(after, mujoco.MjData(after))
        names = [n for n in dir(before) if isinstance(getattr(before, n, None), np.ndarray)]
        changed = {n for n in names if not np.array_equal(getattr(before, n), getattr(after, n))}
        # Cameras are drawn, not simulated.
        assert changed - {"cam_poscom0"} <= {*fields, *DERIVED}

    def test_nothing_to_derive(self) -> None:
        """Friction, gains and gravity enter no constant."""
        task = perturbed(vnl_envs.make_task(RAT), {k: v for k, v in FIELDS.items() if k != "mass"})
        fields = task.model_fields(episode_of(task, 2))
        assert derived_fields(task.world.model, fields) == {}
        model = copy.copy(task.world.model)
        for name, value in fields.items():
            owner = model.opt if name.startswith("opt.") else model
            getattr(owner, name.removeprefix("opt."))[:] = value[0]
        kept = {n: getattr(model, n).copy() for n in DERIVED}
        mujoco.mj_setConst(model, mujoco.MjData(model))
        assert_same({n: getattr(model, n) for n in DERIVED}, kept)


# From the definition in integers without bound, modulo 2**32.
KNOWN = [[449331412, 2596708147], [2260449983, 2276572161], [3809858280, 2904477647]]


class TestCounter:
    """The counter-based generator."""

    def test_known_bits(self) -> None:
        """The hash is a bijection whose values never change: episodes would."""
        seed = np.array([0, 1, 2**32 - 1], np.uint32)
        got = counter_rng.bits(seed, np.array([0, 5, 1000], np.int32), 3, 2)
        assert got.dtype == np.uint32
        np.testing.assert_array_equal(got, KNOWN)

    def test_distribution(self) -> None:
        """Numbers are uniform and normal, and neighbours in every direction are independent."""
        seed, step = np.meshgrid(np.arange(50, dtype=np.uint32), np.arange(40), indexing="ij")
        u = counter_rng.uniform(seed, step, 1, 50)
        assert (u >= 0).all()
        assert (u < 1).all()
        counts = np.histogram(u, 20, (0, 1))[0] / u.size
        np.testing.assert_allclose(counts, 0.05, atol=0.004)
        for axis in range(3):
            pairs = np.moveaxis(u, axis, 0)
            assert abs(np.corrcoef(pairs[1:].ravel(), pairs[:-1].ravel())[0, 1]) < 0.015
        z = counter_rng.normal(seed, step, 2, 51)
        assert z.shape == (50, 40, 51)
        assert z.std() == pytest.approx(1, abs=0.01)
        assert abs(z.mean()) < 0.01
        assert (z**4).mean() == pytest.approx(3, abs=0.15)
        assert np.isfinite(z).all()

    def test_seeds(self) -> None:
        """Every bit of a seed comes from the uniform numbers, exactly; 1.0 is no trap."""
        u = np.array([[0, 0], [2**-24, 0], [0, 2**-8], [1 - 2**-24, 1 - 2**-24], [1, 1]])
        seeds = counter_rng.seed_of(u.astype(np.float32))
        assert seeds.tolist()[:4] == [0, 256, 1, 2**32 - 1]
        assert counter_rng.seed_of(u[1].astype(np.float32)) == 256


@pytest.mark.parametrize("task_id", VARIANTS)
def test_numpy_and_jax_agree(task_id: str) -> None:
    """Under jit, vmap and scan: integers bit for bit, numbers to float32."""
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    task, num = vnl_envs.make_task(task_id), 5
    u = np.random.default_rng(0).random((num, task.uniforms), np.float32)
    episode = task.episode(u)
    start, carry = task.begin(episode)
    physics = physics_at(task, start.qpos, start.qvel, start.act)
    actions = actions_of(task, 4, num)

    def single(u: Any, physics: Any, actions: Any) -> Any:
        episode = task.episode(u)
        start, carry = task.begin(episode)

        def step(carry: Any, action: Any) -> Any:
            inputs = task.external_inputs(episode, carry)
            applied = task.applied_action(action, episode, carry)
            after, outcome = task.evaluate(_physics(physics), action, episode, carry)
            return after, (inputs.force, applied, outcome.observation)

        carry, steps = jax.lax.scan(step, carry, actions)
        return episode, start.qpos, task.model_fields(episode), carry, steps

    run = jax.jit(jax.vmap(single, in_axes=(0, 0, 1)))
    parts = {k: jnp.asarray(v) for k, v in vars(physics).items()}
    theirs = jax.tree.map(np.asarray, run(jnp.asarray(u), parts, jnp.asarray(actions)))
    steps = []
    for action in actions:
        force = task.external_inputs(episode, carry).force
        applied = task.applied_action(action, episode, carry)
        carry, outcome = task.evaluate(physics, action, episode, carry)
        steps.append((force, applied, outcome.observation))
    stacked = jax.tree.map(lambda *x: np.stack(x, axis=1), *steps)
    ours = (episode, start.qpos, task.model_fields(episode), carry, stacked)
    paths = jax.tree_util.tree_leaves_with_path(ours)
    others = jax.tree_util.tree_leaves(theirs)
    assert len(paths) == len(others)
    for (path, one), two in zip(paths, others, strict=True):
        one = np.asarray(one)
        assert one.shape == two.shape, path
        assert one.dtype.kind == two.dtype.kind, path
        if one.dtype.kind in "iu":
            np.testing.assert_array_equal(one, two, str(path))
        elif "touch" not in str(path):
            np.testing.assert_allclose(one, two, rtol=2e-4, atol=2e-5, err_msg=str(path))


def _physics(parts: dict) -> Any:
    from vnl_envs.physics import Physics

    return Physics(**parts)


class TestEverywhere:
    """Every API takes them."""

    def test_options_list_them(self) -> None:
        """`task_options` says what they are."""
        assert "perturbations" in vnl_envs.task_options(RAT)

    def test_sb3(self) -> None:
        """Stable-Baselines3's vector."""
        pytest.importorskip("stable_baselines3")
        env = vnl_envs.SB3VecEnv(RAT, 2, perturbations={"mass": 0.2})
        env.seed(0)
        env.reset()
        env.step(np.zeros((2, *env.action_space.shape), np.float32))

    @pytest.mark.parametrize("policy", ["track", "random"])
    def test_evaluate(self, policy: str) -> None:
        """Evaluation, and the policy that asks the task itself; any number of simulations."""
        results = [
            vnl_envs.evaluate(
                "vnl/RodentImitation-v0", policy, 3, num_envs=n, perturbations={**FIELDS, **FILTERS}
            ).record()
            for n in (1, 3)
        ]
        assert results[0] == results[1]
        assert results[0]["env_hash"] == gymnasium.make(
            "vnl/RodentImitation-v0", perturbations={**FIELDS, **FILTERS}
        ).unwrapped.env_hash  # fmt: skip

    def test_command_line(self) -> None:
        """`-o perturbations=…` in JSON."""
        from typer.testing import CliRunner

        option = 'perturbations={"mass": 0.2, "push": ' + json.dumps(PUSH) + "}"
        run = CliRunner().invoke(app, ["info", RAT, "--json", "-o", option])
        assert run.exit_code == 0, run.output
        described = json.loads(run.output)
        assert described["env_hash"] == make(mass=0.2, push=PUSH).env_hash

    def test_public_name(self) -> None:
        """The class and a mapping are the same."""
        ours = vnl_envs.Perturbations(mass=0.2, push=Push(**PUSH))
        assert ours == Perturbations.from_mapping({"mass": 0.2, "push": PUSH})
        one = gymnasium.make(RAT, perturbations=ours).unwrapped
        assert one.env_hash == make(mass=0.2, push=PUSH).env_hash
        actions = actions_of(one.task, 5, 1)[:, 0]
        assert_same(run_single(one, actions, 0), run_single(make(mass=0.2, push=PUSH), actions, 0))

    def test_native_only(self) -> None:
        """What other engines have to refuse."""
        assert Perturbations(**FIELDS).native_only() == ()
        assert Perturbations(**LIMBS).native_only() == ("limb_length", "limb_size")
        assert Perturbations(limb_size=0.1, mass=0.1).native_only() == ("limb_size",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"weight": 0.1}, "no perturbations \\['weight'\\]; there are \\['mass', 'friction'"),
        (0.2, "must be a mapping with keys among"),
        ("mass", "must be a mapping with keys among"),
        ({"mass": -0.1}, "mass must be a number in \\[0, 0.9\\]"),
        ({"mass": 1.0}, "mass must be"),
        ({"mass": float("nan")}, "mass must be"),
        ({"mass": "0.2"}, "mass must be"),
        ({"friction": 1.5}, "friction must be"),
        ({"gain": True}, "gain must be"),
        ({"gravity_tilt": 2.0}, "gravity_tilt must be .* rad"),
        ({"limb_length": 0.6}, "limb_length must be"),
        ({"torso_size": 0.6}, "torso_size must be"),
        ({"per_limb": True}, "per_limb needs limb_length or limb_size"),
        ({"per_limb": 1, "limb_size": 0.1}, "per_limb must be"),
        ({"limb_size": [0.1]}, "limb_size must be"),
        ({"push": 0.3}, "push must be a mapping or a Push"),
        ({"push": {"force": 0.3}}, "push has the keys \\['duration', 'force', 'interval'\\]"),
        ({"push": {**PUSH, "force": -1}}, "push force must be"),
        ({"push": {**PUSH, "duration": 0}}, "push duration must be"),
        ({"push": {**PUSH, "interval": 0.05}}, "push interval must be .* s"),
        ({"observation_noise": 0.1}, "observation_noise must be a mapping"),
        ({"observation_noise": {"joint_position": -1}}, "observation_noise of 'joint_position'"),
        ({"observation_noise": {"smell": 0.1}}, "no observations \\['smell'\\].*'joint_position'"),
        ({"observation_noise": {"smell": 0.0}}, "no observations \\['smell'\\]"),
        ({"action_delay": 1.5}, "action_delay must be an integer"),
        ({"action_delay": -1}, "action_delay must be an integer"),
        ({"action_delay": 1000}, "action_delay must be at most 50"),
        ({"action_repeat": 1.0}, "action_repeat must be"),
    ],
)
def test_bad_input(value: Any, message: str) -> None:
    """One line that names the setting and says what was expected."""
    with pytest.raises(ValueError, match=message):
        gymnasium.make(RAT, perturbations=value)


def test_actuators_that_have_no_gain() -> None:
    """Muscles are refused with a clear error."""
    task = vnl_envs.make_task(RAT)
    task.world.model.actuator_gaintype[0] = mujoco.mjtGain.mjGAIN_MUSCLE
    with pytest.raises(ValueError, match="servos or motors"):
        perturbed(task, {"gain": 0.1})
