"""Saving, copying and replaying of states."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest

from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import (
    actions_of,
    run_single,
    run_vector,
    single,
    task_of,
    vector,
)
from vnl_envs.testing.settings import Settings


def _pickled(env: Any) -> Any:
    return pickle.loads(pickle.dumps(env))


def _played_on(env: Any, actions: np.ndarray) -> list[Any]:
    """The results of steps, and of resets at ends of episodes."""
    results: list[Any] = []
    for action in actions:
        results.append(env.step(action))
        if results[-1][2] or results[-1][3]:
            results.append(env.reset())
    return results


class StateChecks(Settings):
    """States can be saved, copied and replayed."""

    def test_set_state_continues_bit_for_bit(self, task_id: str) -> None:
        """After `set_state` everything repeats, including episodes that are drawn later."""
        env = vector(task_id, 3)
        actions = actions_of(env.task, 60, 3)
        run_vector(env, actions[:10], seed=2)
        state = copy.deepcopy(env.get_state())
        first = [env.step(a) for a in actions[10:]]
        other = vector(task_id, 3)
        other.reset(seed=99)
        for fresh in (env, other):
            fresh.set_state(state)
            assert_same([fresh.step(a) for a in actions[10:]], first)

    @pytest.mark.parametrize("duplicate", [_pickled, copy.deepcopy], ids=["pickle", "deepcopy"])
    def test_copies_continue_bit_for_bit(self, task_id: str, duplicate: Any) -> None:
        """A copy within an episode continues with the bits of the original."""
        env = gymnasium.make(task_id)
        actions = actions_of(task_of(task_id), 40, 1)[:, 0]
        run_single(env, actions[:5], seed=4)
        twin = duplicate(env)
        assert twin.unwrapped.spec == env.unwrapped.spec
        one, two = (_played_on(each, actions[5:]) for each in (env, twin))
        assert_same(one, two)

    def test_pickled_vector(self, task_id: str) -> None:
        """After `set_state` of a vector environment everything repeats."""
        env = vector(task_id, 3)
        actions = actions_of(env.task, 30, 3)
        run_vector(env, actions[:5], seed=2)
        twin = _pickled(env)
        assert_same([env.step(a) for a in actions[5:]], [twin.step(a) for a in actions[5:]])

    def test_episode_replays(self, task_id: str) -> None:
        """An episode given to `reset` repeats, also after other episodes."""
        env = single(task_id)
        env.reset(seed=21)
        episode = copy.deepcopy(env.unwrapped.episode)
        actions = actions_of(task_of(task_id), 25, 1)[:, 0]

        def play() -> list[Any]:
            results = [env.reset(options={"episode": episode})]
            for action in actions:
                results.append(env.step(action))
                if results[-1][2] or results[-1][3]:
                    break
            return results

        first = play()
        for seed in (5, 6):
            env.reset(seed=seed)
            env.step(actions[0])
        assert_same(play(), first)
        assert_same(env.unwrapped.episode, episode)

    def test_episodes_replay_in_a_vector(self, task_id: str) -> None:
        """Rows of `episodes` given to the vector's `reset` give the same observations."""
        env = vector(task_id, 3)
        observed, _ = env.reset(seed=8)
        episodes = env.episodes
        env.reset(seed=9)
        assert_same(env.reset(options={"episode": episodes})[0], observed)

    def test_seed_decides_the_episode(self, task_id: str) -> None:
        """The same seed gives the same episode; without a seed the next one differs."""
        env = single(task_id)
        env.reset(seed=1)
        one = env.unwrapped.episode
        env.reset()
        two = env.unwrapped.episode
        env.reset(seed=1)
        assert_same(env.unwrapped.episode, one)
        assert any(not np.array_equal(one[k], two[k]) for k in one)
