"""Pairs of muscles: MuJoCo's own curves are the oracle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mujoco
import numpy as np
import pytest

import vnl_envs
from vnl_envs.bodies import HUMANOID, RODENT
from vnl_envs.bodies.muscles import FASTEST, active_force, passive_force, replace_servos
from vnl_envs.envs.core import Core
from vnl_envs.registry import make_task

IDS = ("vnl/RodentVelocity-v0", "vnl/HumanoidVelocity-v0")


def muscular(task_id: str, **options: Any) -> Any:
    return make_task(task_id, actuation="muscle", **options)


def test_curves_are_those_of_mujoco() -> None:
    """Over all lengths and speeds, beyond the ends of the curves too."""
    model = muscular(IDS[0]).world.model
    prm, span = model.actuator_gainprm[0, :9], np.array([0.0, 0.3])
    # In these units L0 is 1.
    for length in np.linspace(0.3, 1.9, 33):
        at = length - prm[0]
        passive = mujoco.mju_muscleBias(at, span, 0.0, prm)
        assert passive_force(np.array(length)) == pytest.approx(-passive / prm[2], abs=1e-12)
        for velocity in np.linspace(-1.5, 1.5, 25) * FASTEST:
            active = mujoco.mju_muscleGain(at, velocity, span, 0.0, prm)
            ours = active_force(np.array(length), np.array(velocity))
            assert ours == pytest.approx(-active / prm[2], abs=1e-12)


@pytest.mark.parametrize("task_id", IDS)
def test_state_is_that_of_mujoco(task_id: str) -> None:
    """Lengths, velocities and forces in any pose, and the torques of pairs on their joints."""
    task = muscular(task_id)
    model, body = task.world.model, task.body
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    optimal = np.ptp(model.actuator_lengthrange, axis=1) / 0.3
    for _ in range(10):
        data.qpos[body.qpos] = body.standing_qpos
        data.qpos[body.qpos][7:] += rng.normal(0, 0.5, body.nq - 7)
        data.qvel[:], data.act[:] = rng.normal(0, 5, model.nv), rng.uniform(0, 1, model.na)
        mujoco.mj_forward(model, data)
        state = body.muscles.state(body.physics(data))
        begin = model.actuator_lengthrange[:, 0]
        np.testing.assert_allclose(
            state.length[0], 0.75 + (data.actuator_length - begin) / optimal, atol=1e-9
        )
        np.testing.assert_allclose(state.velocity[0], data.actuator_velocity / optimal, atol=1e-9)
        np.testing.assert_allclose(
            state.force[0], -data.actuator_force / model.actuator_gainprm[:, 2], atol=1e-9
        )


@pytest.mark.parametrize("task_id", IDS)
def test_standing_exerts_the_torques_of_the_servos(task_id: str) -> None:
    servos, pairs = make_task(task_id), muscular(task_id)
    forces = []
    for task in (servos, pairs):
        body, data = task.body, mujoco.MjData(task.world.model)
        data.qpos[body.qpos] = body.standing_qpos
        data.act[:] = body.activation(body.standing_control)
        mujoco.mj_forward(task.world.model, data)
        forces.append(data.qfrc_actuator.copy())
    np.testing.assert_allclose(forces[1], forces[0], atol=1e-9)
    control = pairs.body.standing_control
    assert control.min() >= 0
    assert control.max() <= 1


@pytest.mark.parametrize(("task_id", "steps"), [(IDS[0], 400), (IDS[1], 120)])
def test_action_zero_stands(task_id: str, steps: int) -> None:
    core = Core(muscular(task_id), 1, 1)
    core.reset(np.array([0]), core.draw([np.random.default_rng(0)]))
    for _ in range(steps):
        core.step(np.zeros((1, core.task.body.nu)))
        assert not core.task.fallen(core.physics, core.carry).any()


@pytest.mark.parametrize("task_id", IDS)
def test_any_action_is_survived(task_id: str) -> None:
    """Muscles switched on and off at every step, and arbitrary activations."""
    env = vnl_envs.VectorEnv(task_id, 8, actuation="muscle")
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for step in range(100):
        extreme = rng.choice([-1.0, 1.0], (8, env.single_action_space.shape[0]))
        action = extreme if step % 2 else rng.uniform(-1, 1, extreme.shape)
        observation, *_, info = env.step(action.astype(np.float32))
        assert np.isfinite(observation).all()
        assert not np.any(info.get("diverged", False))
    env.close()


def test_muscles_are_observed_and_named() -> None:
    task = muscular(IDS[0])
    servos = make_task(IDS[0]).body
    names = task.body.actuator_names
    assert names[:2] == (
        f"{servos.actuator_names[0]}_positive",
        f"{servos.actuator_names[0]}_negative",
    )
    core = Core(task, 1, 1)
    for name in ("actuator_activation", "muscle_length", "muscle_velocity", "muscle_force"):
        part = core.layout[f"proprioception/{name}"]
        assert part.stop - part.start == 2 * servos.nu


def test_what_muscles_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="servos or motors"):
        muscular(IDS[0], perturbations={"gain": 0.1})
    with pytest.raises(ValueError, match="'track' needs actuation='position'"):
        vnl_envs.evaluate("vnl/RodentImitation-v0", "track", 1, actuation="muscle")


@pytest.mark.parametrize("task_id", IDS)
def test_no_muscle_is_stronger_than_its_servo_declares(task_id: str) -> None:
    """Also where MuJoCo does not enforce the range, as with the rat's servos."""
    servos, pairs = make_task(task_id).world.model, muscular(task_id).world.model
    strength = pairs.actuator_gainprm[:, 2].reshape(-1, 2)
    assert (strength > 0).all()
    assert (strength[:, 0] <= servos.actuator_forcerange[:, 1]).all()
    assert (strength[:, 1] <= -servos.actuator_forcerange[:, 0]).all()


def test_a_servo_without_a_force_limit_makes_no_motor() -> None:
    def boundless() -> mujoco.MjSpec:
        spec = RODENT.make_spec()
        spec.actuators[0].forcelimited, spec.actuators[0].forcerange = False, (0, 0)
        return spec

    with pytest.raises(ValueError, match="'lumbar_extend' has no force limit"):
        replace(RODENT, make_spec=boundless).spec("torque")


def test_servos_that_no_pair_can_replace_are_named() -> None:
    spec = HUMANOID.make_spec()
    spec.joint("headrx").limited = False
    with pytest.raises(ValueError, match="'headrx' moves a joint without limits"):
        replace_servos(spec)
    spec = RODENT.make_spec()
    spec.actuators[0].set_to_motor()
    with pytest.raises(ValueError, match="'lumbar_extend' is no position servo"):
        replace_servos(spec)
    spec = RODENT.make_spec()
    spec.actuators[0].forcelimited, spec.actuators[0].forcerange = False, (0, 0)
    replace_servos(spec)
    model = spec.compile()
    # Its stiffness times its range.
    assert model.actuator_gainprm[0, 2] == pytest.approx(20 * 1.309, rel=1e-3)
    spec = HUMANOID.make_spec()
    spec.worldbody.add_site(name="spot")
    spec.actuators[3].trntype, spec.actuators[3].target = mujoco.mjtTrn.mjTRN_SITE, "spot"
    with pytest.raises(ValueError, match="neither a joint nor a fixed tendon"):
        replace_servos(spec)
