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
    """One result, by whatever way it is computed."""

    def test_thread_count_changes_no_bit(self, task_id: str) -> None:
        """One thread gives what two give."""
        env = vector(task_id, NUM, threads=1, **self.limits)
        results = run_vector(env, actions_of(env.task, STEPS, NUM), seed=11)
        assert_same(results, rollout(task_id, **self.limits))

    @pytest.mark.parametrize("index", [0, 37, NUM - 1])
    def test_vector_row_is_the_single_environment(self, task_id: str, index: int) -> None:
        """Environment i of 64 is the single one seeded seed + i, infos and auto-resets included."""
        actions = actions_of(task_of(task_id), STEPS, NUM)[:, index]
        alone = run_single(single(task_id, **self.limits), actions, seed=11 + index)
        together = rollout(task_id, **self.limits)
        for step, (ours, theirs) in enumerate(zip(together, alone, strict=True)):
            where = f"step {step}"
            assert_same(ours[0][index], theirs[0], where)
            for part in range(1, len(ours) - 1):
                assert_same(ours[part][index], theirs[part], where)
            info = row_of(ours[-1], index)
            if len(theirs) == 6:
                assert_same(info.pop("final_obs"), theirs[5][0], where)
                assert_same(info.pop("final_info"), theirs[5][1], where)
            assert_same(info, theirs[4] if len(theirs) > 4 else theirs[1], where)

    def test_vector_of_one(self, task_id: str) -> None:
        """A vector of one environment gives row 0 of 64."""
        env = vector(task_id, 1, **self.limits)
        results = run_vector(env, actions_of(env.task, STEPS, NUM)[:, :1], seed=11)
        for ours, theirs in zip(results, rollout(task_id, **self.limits), strict=True):
            for part in range(len(ours) - 1):
                assert_same(ours[part][0], theirs[part][0])
            assert_same(row_of(ours[-1], 0), row_of(theirs[-1], 0))

    @pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda m: m.name)
    def test_autoreset_as_gymnasium_does_it(self, task_id: str, mode: AutoresetMode) -> None:
        """Each autoreset mode gives what `SyncVectorEnv` gives over our single environments."""
        num = 4
        ours = vector(task_id, num, autoreset_mode=mode, **self.limits)
        theirs = sync(task_id, num, mode, **self.limits)
        assert ours.metadata["autoreset_mode"] == mode
        assert_same(ours.reset(seed=5), theirs.reset(seed=5))
        for step, action in enumerate(actions_of(ours.task, STEPS, num, seed=1)):
            result, expected = ours.step(action), theirs.step(action)
            assert_same(list(result[:4]), list(expected[:4]), f"step {step}")
            assert_same(result[4], expected[4], f"step {step} infos")
            done = result[2] | result[3]
            if mode == AutoresetMode.DISABLED and done.any():
                again = ours.reset(options={"reset_mask": done.copy()})
                assert_same(again, theirs.reset(options={"reset_mask": done.copy()}))

    def test_disabled_autoreset_asks_for_a_reset(self, task_id: str) -> None:
        """Stepping a finished environment is refused, and a masked reset mends it."""
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
        """What a step returned stays as it was while the environment moves on."""
        env = vector(task_id, 3)
        actions = actions_of(env.task, 40, 3)
        results = [env.reset(seed=0)]
        copies = [copy.deepcopy(results[0])]
        for action in actions:
            results.append(env.step(action))
            copies.append(copy.deepcopy(results[-1]))
        assert_same(results, copies)
