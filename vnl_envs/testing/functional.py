"""The tests of a task's functional environment on the native engine, which need JAX."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import actions_of, episode_of, rows, single, task_of
from vnl_envs.testing.settings import Settings

if TYPE_CHECKING:
    from vnl_envs.envs.functional import FunctionalEnv

NUM = 4
"""Number of simulations of a batch."""


@functools.lru_cache(maxsize=16)
def functional(task_id: str, **arguments: Any) -> FunctionalEnv:
    """A functional environment shared by all tests."""
    from vnl_envs.envs.functional import make_functional

    return make_functional(task_id, impl="native", **arguments)


@functools.lru_cache(maxsize=16)
def compiled(task_id: str, **arguments: Any) -> tuple[Any, Any]:
    """The compiled batched functions of a functional environment: `reset` and `step`."""
    import jax

    env = functional(task_id, **arguments)
    return jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))


def keys(num: int, seed: int = 0) -> Any:
    """Raw keys, as Brax uses them."""
    import jax

    return jax.random.split(jax.random.PRNGKey(seed), num)


def numpy(tree: Any) -> Any:
    """A tree whose leaves are NumPy arrays."""
    import jax

    return jax.tree.map(np.asarray, tree)


def assert_same_tree(a: Any, b: Any) -> None:
    """Assert that two trees have the same bits."""
    import jax

    structure: Any = jax.tree.structure(a)
    assert structure == jax.tree.structure(b)
    assert_same(jax.tree.leaves(numpy(a)), jax.tree.leaves(numpy(b)))


class FunctionalContract(Settings):
    """The contract of `vnl_envs.make_functional(task_id, impl="native")`, to inherit beside
    `TaskContract`.
    """

    @pytest.fixture(autouse=True)
    def _jax(self) -> None:
        pytest.importorskip("jax", reason="functional environments need JAX")

    def test_same_bits_as_gymnasium(self, task_id: str) -> None:
        """The same Episode and actions give the bits of the Gymnasium environment."""
        reset, step = compiled(task_id)
        state, env = reset(keys(NUM)), single(task_id)
        episodes = numpy(state.data.episode)
        actions = actions_of(env.unwrapped.task, 40, NUM, size=0.6)
        states = [numpy(state)]
        for action in actions:
            state = step(state, action)
            states.append(numpy(state))
        for i in range(NUM):
            observed, _ = env.reset(options={"episode": rows(episodes, i)})
            assert_same(states[0].obs[i], observed)
            self._check_steps(env, actions[:, i], states, i)

    def _check_steps(self, env: Any, actions: np.ndarray, states: list[Any], i: int) -> None:
        """Row i of the states after the first equals the results of the environment's steps."""
        sums = dict.fromkeys(states[0].metrics, 0.0)
        for action, after in zip(actions, states[1:], strict=True):
            observed, reward, terminated, truncated, info = env.step(action)
            assert_same(after.obs[i], observed)
            assert after.reward[i] == np.float32(reward)
            assert after.done[i] == (terminated or truncated)
            assert after.info["truncation"][i] == truncated
            assert after.info["is_success"][i] == info["is_success"]
            for name, term in info["reward_terms"].items():
                assert after.metrics[f"reward/{name}"][i] == np.float32(term)
            for name in sums:
                sums[name] += after.metrics[name][i]
            if terminated or truncated:
                break
        # Summed over the episode, as trainers do, increments are the metrics.
        for name in set(sums) & set(info["metrics"]):
            value = info["metrics"][name]
            np.testing.assert_allclose(sums[name], value, rtol=1e-4, atol=1e-5, err_msg=name)

    def test_saved_state_steps_to_the_same(self, task_id: str, tmp_path: Path) -> None:
        """A state that was written to a file and read again continues with the same bits."""
        import jax

        reset, step = compiled(task_id)
        actions = actions_of(task_of(task_id), 12, NUM, size=0.4)
        state = reset(keys(NUM, 5))
        for action in actions[:6]:
            state = step(state, action)
        leaves, structure = jax.tree.flatten(state)
        np.savez(tmp_path / "state.npz", *map(np.asarray, leaves))
        with np.load(tmp_path / "state.npz") as saved:
            arrays = [jax.numpy.asarray(saved[k]) for k in saved.files]
        other = jax.tree.unflatten(structure, arrays)
        for action in actions[6:]:
            state, other = step(state, action), step(other, action)
            assert_same_tree(state, other)

    def test_row_of_a_batch_is_the_single_function(self, task_id: str) -> None:
        """`reset` and `step` without a batch axis give the bits of a row of the batch."""
        import jax

        env, (reset, step) = functional(task_id), compiled(task_id)
        action = actions_of(env.task, 1, NUM, size=0.4)[0]
        many = step(reset(keys(NUM, 2)), action)
        for i in (0, NUM - 1):
            one = env.step(env.reset(keys(NUM, 2)[i]), action[i])
            assert_same_tree(one, jax.tree.map(lambda leaf, i=i: leaf[i], many))

    def test_put_goes_on_from_a_state(self, task_id: str) -> None:
        """`put` at an episode's start gives the result of `reset`, up to float32."""
        import jax

        env, task = functional(task_id), task_of(task_id)
        episode = rows(episode_of(task, 1), 0)
        start, carry = task.begin(episode)
        state = jax.jit(env.put)(start, episode, carry)
        observed, _ = single(task_id).reset(options={"episode": episode})
        np.testing.assert_allclose(state.obs, observed, atol=2e-4, rtol=1e-4)
