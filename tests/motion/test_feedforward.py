"""Controls that carry the load of a clip."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

import vnl_envs
from vnl_envs.motion.checking.dynamics import actuator_loads
from vnl_envs.motion.clip import Clip
from vnl_envs.motion.feedforward import load_controls
from vnl_envs.motion.kinematics import derive_reference
from vnl_envs.testing.environments import task_of


@pytest.mark.parametrize("name", ["Rodent", "Humanoid"])
def test_a_servo_in_the_pose_exerts_the_load(name: str) -> None:
    """MuJoCo's own actuator force, with a load held for long."""
    body = task_of(f"vnl/{name}Imitation-v0").body
    standing = np.tile(body.standing_qpos, (8, 1)).astype(np.float32)
    clip = Clip("statue", standing, "stand", "train", "a test", "CC0-1.0")
    reference = derive_reference([clip], body)
    controls = load_controls(reference, body)
    data = mujoco.MjData(body.model)
    data.qpos[body.qpos] = reference.qpos[4]
    # Where activation follows the control, it has arrived.
    data.ctrl[body.ctrl] = controls[4]
    if body.na:
        data.act[:] = controls[4]
    mujoco.mj_forward(body.model, data)
    low, high = body.model.actuator_ctrlrange[body.ctrl].T
    inside = (controls[4] > low) & (controls[4] < high)
    expected = actuator_loads(reference, body).force[4]
    assert inside.mean() > 0.9
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(data.actuator_force[body.ctrl][inside], expected[inside], atol=1e-5)


@pytest.mark.parametrize("name", ["Rodent", "Humanoid"])
def test_it_follows_further_than_the_pose_alone(name: str) -> None:
    def length(policy: str) -> float:
        task_id = f"vnl/{name}Imitation-v0"
        result = vnl_envs.evaluate(task_id, policy, 32, 1000, clips=["walk"], split="all")
        return result.record()["summary"]["length"]["mean"]

    assert length("feedforward") > 1.1 * length("track")
