"""Frames of reference."""

from __future__ import annotations

import numpy as np

from vnl_envs.physics import Physics
from vnl_envs.tasks.task import Carry, Episode, Observation, Task
from vnl_envs.testing.environments import actions_of, rows, run_vector, vector
from vnl_envs.testing.settings import Settings
from vnl_envs.testing.simulations import moved, physics_at, physics_of, turned


class FrameChecks(Settings):
    """Observations are egocentric."""

    def test_nothing_observed_depends_on_the_world_frame(self, task_id: str) -> None:
        """Turning and shifting the world changes no observation."""
        env = vector(task_id, 8)
        task = env.task
        *_, last = run_vector(env, actions_of(task, 6, 8, size=0.5), seed=3)
        # Starts are left out: they may rest exactly on the ground, where rounding decides touch.
        running = np.flatnonzero(~(last[2] | last[3]))
        assert len(running)
        state = physics_of(task, *(env.data(i) for i in running))
        episode, carry = rows(env.episodes, running), rows(env.carries, running)
        for shift, yaw in ((np.array([3.0, -2.0]), 2.5), (np.array([-0.3, 0.7]), -1.0)):
            qpos, qvel = moved(state.qpos, shift, yaw), state.qvel.copy()
            qvel[:, :2] = turned(qvel[:, :2], yaw)
            world = self.move_world(task, episode, carry, shift, yaw)
            if world is None:
                # In the air, away from the scenery.
                before = physics_at(task, *_lifted(state.qpos, state.qvel, state.act))
                after = physics_at(task, *_lifted(qpos, qvel, state.act))
                expected = _own(task, before, episode, carry)
                actual = _own(task, after, episode, carry)
                _assert_near({"proprioception": actual}, {"proprioception": expected}, 1e-7)
            else:
                after = physics_at(task, qpos, qvel, state.act)
                observed = world[0].observe(after, world[1], world[2])
                _assert_near(observed, task.observe(state, episode, carry), 2e-5)


def _own(task: Task, physics: Physics, episode: Episode, carry: Carry) -> dict[str, np.ndarray]:
    """What is observed of the body, its height as it is above 0."""
    own = task.observe(physics, episode, carry)["proprioception"]
    elevation = task.elevation(physics, carry)
    if elevation is not None:
        own["root_height"] = own["root_height"] + elevation[..., None]
    return own


def _assert_near(observed: Observation, expected: Observation, tolerance: float) -> None:
    for group in expected:
        for name, value in expected[group].items():
            np.testing.assert_allclose(
                observed[group][name], value, atol=tolerance, err_msg=f"{group}/{name}"
            )


def _lifted(qpos: np.ndarray, qvel: np.ndarray, act: np.ndarray) -> tuple[np.ndarray, ...]:
    qpos = qpos.copy()
    qpos[:, 2] += 5.0
    return qpos, qvel, act
