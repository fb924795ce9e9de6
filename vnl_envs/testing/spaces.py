"""Spaces, ranges and metrics."""

from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from vnl_envs.tasks.metrics import STANDARD
from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import (
    NUM,
    STEPS,
    actions_of,
    rollout,
    row_of,
    single,
    task_of,
    vector,
)
from vnl_envs.testing.settings import Settings


class SpaceChecks(Settings):
    """Observations, rewards and metrics keep their declared spaces and ranges."""

    def test_gymnasium_checker(self, task_id: str) -> None:
        """Gymnasium's checker passes. It may only warn of infinite bounds."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_env(single(task_id).unwrapped, skip_render_check=True)
        remarks = [str(w.message) for w in caught if "infinity" not in str(w.message)]
        assert remarks == []

    def test_sb3_checker(self, task_id: str) -> None:
        """The checker of Stable-Baselines3 passes."""
        checker = pytest.importorskip("stable_baselines3.common.env_checker")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            checker.check_env(single(task_id), warn=True)
        remarks = [str(w.message) for w in caught if "infinity" not in str(w.message)]
        assert remarks == []

    def test_spaces(self, task_id: str) -> None:
        """Flat float32 observations with a complete layout, actions in [-1, 1]."""
        env, task = single(task_id).unwrapped, task_of(task_id)
        assert env.action_space == gymnasium.spaces.Box(-1, 1, (task.body.nu,), np.float32)
        space = env.observation_space
        assert (space.dtype, len(space.shape)) == (np.float32, 1)
        stops = [0, *(s.stop for s in env.layout.values())]
        assert [s.start for s in env.layout.values()] == stops[:-1]
        assert stops[-1] == space.shape[0]
        groups = [name.split("/")[0] for name in env.layout]
        assert set(groups) == {"proprioception", "task"}
        assert groups == sorted(groups)

    def test_dict_observation_holds_the_flat_one(self, task_id: str) -> None:
        """`observation="dict"` gives the same numbers by group."""
        env = gymnasium.make(task_id, observation="dict", disable_env_checker=True)
        observed, _ = env.reset(seed=3)
        assert observed in env.observation_space
        assert list(observed) == ["proprioception", "task"]
        expected, _ = single(task_id).reset(seed=3)
        assert_same(np.concatenate(list(observed.values())), expected)

    def test_ranges(self, task_id: str) -> None:
        """Observations are finite, and rewards in [0, 1] are the sum of their terms."""
        task = task_of(task_id)
        space = vector(task_id, NUM).observation_space
        for result in rollout(task_id, **self.limits):
            assert result[0] in space
            assert np.isfinite(result[0]).all()
        for _, reward, terminated, truncated, infos in rollout(task_id, **self.limits)[1:]:
            assert reward.dtype == np.float64
            if self.bounded:
                assert ((reward >= 0) & (reward <= 1 + 1e-12)).all()
            assert not (terminated & truncated).any()
            for i in range(NUM):
                info = row_of(infos, i)
                info = info.get("final_info", info)
                assert set(info["reward_terms"]) == set(task.reward_terms)
                np.testing.assert_allclose(sum(info["reward_terms"].values()), reward[i], atol=1e-9)

    def test_rollout_ends_episodes(self, task_id: str) -> None:
        """The rollout of other checks contains ends of episodes."""
        ends = sum((r[2] | r[3]).sum() for r in rollout(task_id, **self.limits)[1:])
        assert ends, f"no episode ended in {STEPS} steps: set `max_episode_steps` to less"

    def test_metrics_are_declared(self, task_id: str) -> None:
        """Every metric in `info` is declared with a unit, and return and length are correct."""
        task, env = task_of(task_id), single(task_id)
        env.reset(seed=0)
        total = 0.0
        for steps, action in enumerate(actions_of(task, 5, 1)[:, 0], 1):
            _, reward, terminated, truncated, info = env.step(action)
            total += reward
            assert set(info["metrics"]) == {m.name for m in STANDARD + task.metrics}
            np.testing.assert_allclose(info["metrics"]["return"], total, atol=1e-9)
            assert info["metrics"]["length"] == steps
            for metric in STANDARD + task.metrics:
                value = info["metrics"][metric.name]
                assert not np.isfinite(value) or metric.range[0] <= value <= metric.range[1]
            if terminated or truncated:
                break
        for metric in task.metrics:
            assert metric.unit
            assert metric.reduce in ("mean", "sum", "max", "last")
            assert metric.direction in ("higher", "lower")
        names = {metric.name for metric in STANDARD + task.metrics}
        assert task.primary is None or task.primary.metric in names
