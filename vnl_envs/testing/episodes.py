"""Starts and ends of episodes."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import actions_of, rows, run_single, single, task_of, vector
from vnl_envs.testing.settings import Settings
from vnl_envs.testing.simulations import forward, physics_of


class EpisodeChecks(Settings):
    """Starts and ends of episodes are valid."""

    def test_starts_are_sound(self, task_id: str) -> None:
        """No start is terminated or reaches into the ground."""
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

    def test_starts_with_all_collisions(self, task_id: str) -> None:
        """No start reaches into the ground with `physics="full"`."""
        env = vector(task_id, 20, physics="full")
        env.reset(seed=0)
        model, prefix = env.model, env.task.body.body.prefix
        for i in range(20):
            for contact in env.data(i).contact:
                names = [model.geom(int(g)).name for g in contact.geom]
                on_ground = not all(n.startswith(prefix) for n in names)
                assert not on_ground or contact.dist > -self.penetration, names

    def test_uniforms_at_their_ends(self, task_id: str) -> None:
        """Uniform numbers of 0 and 1 (a float32 cast can round up) make finite episodes."""
        task = task_of(task_id)
        u = np.stack([np.full(task.uniforms, x, np.float32) for x in (0, 1 - 2**-24, 1)])
        start, _ = task.begin({k: np.asarray(v) for k, v in task.episode(u).items()})
        assert np.isfinite(start.qpos).all()

    def test_gymnasium_knows_the_horizon(self, task_id: str) -> None:
        """The spec has the horizon, and Gymnasium's time limit with it changes nothing."""
        horizon = task_of(task_id).horizon
        assert gymnasium.spec(task_id).max_episode_steps == horizon
        env, own = gymnasium.make(task_id), gymnasium.make(task_id, max_episode_steps=-1)
        assert env.spec is not None
        assert env.spec.max_episode_steps == horizon
        assert vector(task_id, 1).spec.max_episode_steps == horizon
        assert env.get_wrapper_attr("env_hash") == own.get_wrapper_attr("env_hash")
        actions = actions_of(task_of(task_id), 40, 1)[:, 0]
        assert_same(run_single(env, actions, seed=1), run_single(own, actions, seed=1))

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
