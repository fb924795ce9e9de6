"""The same seed and actions give the same bits."""

from __future__ import annotations

import copy

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import (
    NUM,
    STEPS,
    actions_of,
    rollout,
    row_of,
    run_single,
    run_vector,
    single,
    sync,
    task_of,
    vector,
)
from vnl_envs.testing.settings import Settings


class DeterminismChecks(Settings):
    """Results do not depend on how they are computed."""

    def test_thread_count_changes_no_bit(self, task_id: str) -> None:
        """One thread gives the bits of two threads."""
        env = vector(task_id, NUM, threads=1, **self.limits)
        results = run_vector(env, actions_of(env.task, STEPS, NUM), seed=11)
        assert_same(results, rollout(task_id, **self.limits))

    @pytest.mark.parametrize("index", [0, 37, NUM - 1])
    def test_vector_row_is_the_single_environment(self, task_id: str, index: int) -> None:
        """Environment i of 64 gives the bits of a single one with seed + i, with autoresets."""
        actions = actions_of(task_of(task_id), STEPS, NUM)[:, index]
        alone = run_single(single(task_id, **self.limits), actions, seed=11 + index)
        together = rollout(task_id, **self.limits)
        for step, (actual, reference) in enumerate(zip(together, alone, strict=True)):
            where = f"step {step}"
            assert_same(actual[0][index], reference[0], where)
            for part in range(1, len(actual) - 1):
                assert_same(actual[part][index], reference[part], where)
            info = row_of(actual[-1], index)
            if len(reference) == 6:
                assert_same(info.pop("final_obs"), reference[5][0], where)
                assert_same(info.pop("final_info"), reference[5][1], where)
            assert_same(info, reference[4] if len(reference) > 4 else reference[1], where)

    def test_vector_of_one(self, task_id: str) -> None:
        """A vector of one environment gives the bits of row 0 of 64."""
        env = vector(task_id, 1, **self.limits)
        results = run_vector(env, actions_of(env.task, STEPS, NUM)[:, :1], seed=11)
        for actual, reference in zip(results, rollout(task_id, **self.limits), strict=True):
            for part in range(len(actual) - 1):
                assert_same(actual[part][0], reference[part][0])
            assert_same(row_of(actual[-1], 0), row_of(reference[-1], 0))

    @pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda m: m.name)
    def test_autoreset_as_gymnasium_does_it(self, task_id: str, mode: AutoresetMode) -> None:
        """Each autoreset mode gives the bits of `SyncVectorEnv` over single environments."""
        num = 4
        actual = vector(task_id, num, autoreset_mode=mode, **self.limits)
        reference = sync(task_id, num, mode, **self.limits)
        assert actual.metadata["autoreset_mode"] == mode
        assert_same(actual.reset(seed=5), reference.reset(seed=5))
        for step, action in enumerate(actions_of(actual.task, STEPS, num, seed=1)):
            result, expected = actual.step(action), reference.step(action)
            assert_same(list(result[:4]), list(expected[:4]), f"step {step}")
            assert_same(result[4], expected[4], f"step {step} infos")
            done = result[2] | result[3]
            if mode == AutoresetMode.DISABLED and done.any():
                again = actual.reset(options={"reset_mask": done.copy()})
                assert_same(again, reference.reset(options={"reset_mask": done.copy()}))

    def test_disabled_autoreset_asks_for_a_reset(self, task_id: str) -> None:
        """Stepping a finished environment is refused until a masked reset."""
        env = vector(task_id, 3, autoreset_mode=AutoresetMode.DISABLED)
        env.reset(seed=0)
        for action in actions_of(env.task, env.task.horizon, 3):
            *_, terminated, truncated, _ = env.step(action)
            done = terminated | truncated
            if done.any():
                break
        with pytest.raises(gymnasium.error.ResetNeeded, match=str(np.flatnonzero(done)[0])):
            env.step(action)
        env.reset(options={"reset_mask": done})
        env.step(action)

    def test_results_are_not_rewritten_later(self, task_id: str) -> None:
        """Results of a step do not change while the environment moves on."""
        env = vector(task_id, 3)
        actions = actions_of(env.task, 40, 3)
        results = [env.reset(seed=0)]
        copies = [copy.deepcopy(results[0])]
        for action in actions:
            results.append(env.step(action))
            copies.append(copy.deepcopy(results[-1]))
        assert_same(results, copies)
