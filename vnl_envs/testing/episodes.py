"""Starts and ends of episodes."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from vnl_envs.testing.environments import (
    rows,
    single,
    task_of,
)
from vnl_envs.testing.settings import Settings
from vnl_envs.testing.simulations import (
    forward,
    physics_of,
)


class EpisodeChecks(Settings):
    """How episodes begin and end."""

    def test_starts_are_sound(self, task_id: str) -> None:
        """No start is terminated already or reaches into the ground."""
        task = task_of(task_id)
        episode = self.start_episodes(task)
        start, carry = task.begin(episode)
        states = []
        for i in range(len(start.qpos)):
            mocap = None if start.mocap_pos is None else start.mocap_pos[i]
            data = forward(task, start.qpos[i], start.qvel[i], start.act[i], mocap)
            depth = -min(data.contact.dist, default=0.0)
            assert depth < self.penetration, f"start {rows(episode, i)} is {depth:.4f} m deep"
            states.append(physics_of(task, data))
            physics = states[-1]
            idle = np.zeros((1, task.body.nu), np.float32)
            one = slice(i, i + 1)
            _, outcome = task.evaluate(physics, idle, rows(episode, one), rows(carry, one))
            assert not outcome.terminated[0], f"start {rows(episode, i)} is terminated"

    def test_uniforms_at_their_ends(self, task_id: str) -> None:
        """Uniform numbers of 0 and of 1 (a float32 cast can round up to it) make sound episodes."""
        task = task_of(task_id)
        u = np.stack([np.full(task.uniforms, x, np.float32) for x in (0, 1 - 2**-24, 1)])
        start, _ = task.begin({k: np.asarray(v) for k, v in task.episode(u).items()})
        assert np.isfinite(start.qpos).all()

    def test_horizon_truncates(self, task_id: str) -> None:
        """Step `horizon` truncates, and the one before does not."""
        if not self.lasts_to_horizon:
            pytest.skip("its episodes end with their data")
        task, env = task_of(task_id), single(task_id)
        env.reset(seed=0)
        state = env.unwrapped.get_state()
        state["carry"]["step"][:] = task.horizon - 3
        env.unwrapped.set_state(state)
        zero = np.zeros(task.body.nu, np.float32)
        assert [env.step(zero)[2:4] for _ in range(3)][1:] == [(False, False), (False, True)]
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(zero)
        env.reset()
        env.step(zero)
