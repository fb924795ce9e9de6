"""The physics of a step."""

from __future__ import annotations

import mujoco
import numpy as np

from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import actions_of, row_of, rows, run_vector, single, vector
from vnl_envs.testing.settings import Settings
from vnl_envs.testing.simulations import STATE, edit_physics, flat, forward, physics_of


class PhysicsChecks(Settings):
    """A step is a step of MuJoCo."""

    def test_observations_are_of_the_same_instant(self, task_id: str) -> None:
        """After a step, all observations follow from the current qpos and qvel."""
        env = vector(task_id, 4)
        task = env.task
        actions = actions_of(task, 15, 4, size=0.5)
        observed = run_vector(env, actions, seed=6)[-1][0]
        datas = []
        for i in range(4):
            snapshot = env.data(i)
            data = forward(
                task,
                snapshot.qpos[task.body.qpos],
                snapshot.qvel[task.body.qvel],
                snapshot.act[task.body.act],
                snapshot.mocap_pos,
            )
            for name in ("xpos", "xquat", "geom_xpos", "geom_xmat", "xipos"):
                # This does not compare a mocap body that was moved after the step.
                np.testing.assert_allclose(
                    getattr(snapshot, name), getattr(data, name), atol=1e-9, err_msg=name
                )
            datas.append(data)
        expected = flat(task.observe(physics_of(task, *datas), env.episodes, env.carries))
        np.testing.assert_allclose(observed, expected, rtol=1e-5, atol=1e-5)

    def test_step_is_the_bare_physics(self, task_id: str) -> None:
        """A control step gives the bits of `mj_setState`, the action's control and `mj_step`."""
        env = vector(task_id, 3)
        task = env.task
        env.reset(seed=7)
        for action in actions_of(task, 25, 3, size=0.6):
            before = env.get_state()
            result = env.step(action)
            after = env.get_state()["physics"]
            for i in np.flatnonzero(~(result[2] | result[3])):
                data = mujoco.MjData(env.model)
                mujoco.mj_setState(env.model, data, before["physics"][i], STATE)
                inputs = task.external_inputs(
                    rows(before["episode"], slice(i, i + 1)), rows(before["carry"], slice(i, i + 1))
                ).mocap_pos
                if inputs is not None:
                    data.mocap_pos[:] = inputs[0]
                data.ctrl[task.body.ctrl] = task.body.control(action[i])
                mujoco.mj_step(env.model, data, task.world.substeps)
                expected = np.empty_like(after[i])
                mujoco.mj_getState(env.model, data, expected, STATE)
                np.testing.assert_array_equal(after[i], expected)

    def test_snapshot_is_read_only(self, task_id: str) -> None:
        """Writing to `data` changes nothing."""
        env = single(task_id)
        env.reset(seed=0)
        before = env.unwrapped.get_state()["physics"]
        env.unwrapped.data.qpos[:] = 7.0
        assert_same(env.unwrapped.get_state()["physics"], before)

    def test_divergence_is_an_outcome(self, task_id: str) -> None:
        """A diverged simulation ends its episode without reward and does not affect others."""
        num, lost = 4, 2
        calm, wild = vector(task_id, num), vector(task_id, num)
        actions = actions_of(calm.task, 6, num, size=0.2)
        for env in (calm, wild):
            run_vector(env, actions[:3], seed=1)
        last = wild.step(actions[3])[0][lost]
        calm.step(actions[3])
        edit_physics(wild, lambda data: data.qvel.__setitem__(slice(None), 1e12), lost)
        actual, reference = wild.step(actions[4]), calm.step(actions[4])
        final = row_of(actual[4], lost)
        assert actual[2][lost]
        assert not actual[3][lost]
        assert actual[1][lost] == 0.0
        assert final["final_info"]["diverged"]
        assert not final["final_info"]["is_success"]
        assert all(v == 0 for v in final["final_info"]["reward_terms"].values())
        assert_same(final["final_obs"], last)
        assert np.isfinite(actual[0]).all()
        others = np.arange(num) != lost
        for part in range(4):
            assert_same(actual[part][others], reference[part][others])
        for i in np.flatnonzero(others).tolist():
            assert_same(row_of(actual[4], i), row_of(reference[4], i))
        assert_same(wild.step(actions[5])[0][others], calm.step(actions[5])[0][others])
