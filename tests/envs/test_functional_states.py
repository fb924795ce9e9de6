"""States as plain trees of arrays, and environments that can be copied: what JAX's tools take."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import vnl_envs
from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import actions_of, episode_of, rows, task_of

jax = pytest.importorskip("jax")
pytest.importorskip("mujoco.mjx")
jnp = jax.numpy

from vnl_envs.engines.mjx import MjxEngine  # noqa: E402
from vnl_envs.envs.autoreset import AutoReset, Batched, EpisodeLimit, Sharded  # noqa: E402
from vnl_envs.envs.functional import FunctionalEnv, State, make_functional  # noqa: E402
from vnl_envs.envs.jax_vector import JaxVectorEnv  # noqa: E402

GOAL, NUM = "vnl/RodentGoalReaching-v0", 2


def pickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


each_copy = pytest.mark.parametrize("copied", [pickled, copy.deepcopy])


@functools.lru_cache
def functional() -> FunctionalEnv:
    return make_functional(GOAL, impl="native")


@functools.lru_cache
def wrapped() -> tuple[AutoReset, Callable[..., State], Callable[..., State]]:
    """The training wrapper, and its compiled functions."""
    env = vnl_envs.wrap_for_training(functional())
    return env, jax.jit(env.reset), jax.jit(env.step)


def keys() -> Any:
    return jax.random.split(jax.random.key(0), NUM)


def action() -> np.ndarray:
    return actions_of(task_of(GOAL), 1, NUM, size=0.4)[0]


def same(a: Any, b: Any) -> None:
    """Two trees hold the same bits."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    pairs = [[_numpy(leaf) for leaf in jax.tree.leaves(tree)] for tree in (a, b)]
    assert_same(*pairs)


def _numpy(leaf: Any) -> np.ndarray:
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


# States


@each_copy
def test_a_copied_state_goes_on(copied: Callable[..., Any]) -> None:
    """To the same bits, with its keys."""
    _, reset, step = wrapped()
    state = reset(keys())
    other = copied(state)
    same(state, other)
    same(step(state, action()), step(other, action()))


def test_orbax_saves_a_state(tmp_path: Path) -> None:
    """Read again, it goes on to the same bits."""
    orbax = pytest.importorskip("orbax.checkpoint")
    _, reset, step = wrapped()
    state = reset(keys())
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        other = checkpointer.restore(tmp_path / "state", state)
    same(state, other)
    same(step(state, action()), step(other, action()))


def put(env: FunctionalEnv) -> State:
    episode = rows(episode_of(env.task, 1), 0)
    return env.put(*_started(env, episode))


def _started(env: FunctionalEnv, episode: Any) -> tuple[Any, Any, Any]:
    start, carry = env.task.begin(episode)
    return start, episode, carry


STATES: dict[str, Callable[[], State]] = {
    "reset": lambda: functional().reset(jax.random.key(0)),
    "put": lambda: put(functional()),
    "step": lambda: functional().step(functional().reset(jax.random.key(0)), action()[0]),
    "batched": lambda: Batched(functional()).reset(keys()),
    "limited": lambda: EpisodeLimit(Batched(functional())).reset(keys()),
    "limited step": lambda: _eager_step(EpisodeLimit(Batched(functional()))),
    "training": lambda: wrapped()[0].reset(keys()),
    "training step": lambda: _eager_step(wrapped()[0]),
    "privileged": lambda: make_functional(GOAL, "native", "privileged").reset(jax.random.key(0)),
}


def _eager_step(env: Any) -> State:
    return env.step(env.reset(keys()), action())


@pytest.mark.parametrize("case", STATES)
def test_no_two_leaves_share_a_buffer(case: str) -> None:
    """Compiled or not, a state can be donated as a whole."""
    state = STATES[case]()
    data = [
        jax.random.key_data(leaf) if "key" in str(leaf.dtype) else leaf
        for leaf in jax.tree.leaves(state)
    ]
    assert len({leaf.unsafe_buffer_pointer() for leaf in data}) == len(data)


def test_states_are_donated() -> None:
    """As a training loop does, from the first on."""
    env, _, step = wrapped()
    donating = jax.jit(env.step, donate_argnums=0)
    expected = step(step(env.reset(keys()), action()), action())
    same(donating(donating(env.reset(keys()), action()), action()), expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_leaves_the_state_before_it_alone(compiled: bool) -> None:
    """Its dictionaries, too."""
    env, reset, step = wrapped()
    state = reset(keys())
    before = copy.deepcopy(state)
    (step if compiled else env.step)(state, action())
    same(state, before)


def aligned(array: Any) -> np.ndarray:
    """A copy at an address at which JAX, on a CPU, would take the memory as its own."""
    array = np.asarray(array)
    room = np.zeros(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copied = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copied[...] = array
    return copied


def test_a_state_is_nobody_elses_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was put from may change afterwards."""

    def start(engine: Any, *_: Any) -> Any:
        leaves = [leaf.array() for leaf in engine._leaves]
        return jax.tree.unflatten(engine._structure, leaves)

    monkeypatch.setattr(MjxEngine, "start", start)
    env = make_functional("vnl/HumanoidGoalReaching-v0", "jax")
    given = jax.tree.map(aligned, _started(env, rows(episode_of(env.task, 1), 0)))
    state = env.put(*given)
    before = copy.deepcopy(state)
    for array in jax.tree.leaves(given):
        array[...] = 7
    same(state, before)


# Environments


@each_copy
def test_a_copied_environment_is_the_same(copied: Callable[..., Any]) -> None:
    """With its options, and apart from the original."""
    env = make_functional(GOAL, "native", "dict", reward="sparse", perturbations={"mass": 0.2})
    other = copied(env)
    assert other.env_hash == env.env_hash
    assert other.observation_size == env.observation_size
    assert other.task is not env.task
    state = env.reset(jax.random.key(3))
    same(env.step(state, action()[0]), other.step(state, action()[0]))


def slippery(model: Any) -> tuple[Any, Any]:
    """A friction for each simulation."""
    axes = jax.tree.map(lambda _: None, model).tree_replace({"geom_friction": 0})
    friction = jnp.linspace(0.2, 2.0, NUM)[:, None, None] * model.geom_friction
    return model.tree_replace({"geom_friction": friction}), axes


@pytest.mark.parametrize("kind", ["randomized", "sharded"])
def test_a_copied_wrapper_is_the_same(kind: str) -> None:
    """With its models, or its devices."""
    env = {
        "randomized": lambda: vnl_envs.wrap_for_training(functional(), 5, 1, slippery),
        "sharded": lambda: Sharded(wrapped()[0]),
    }[kind]()
    state = wrapped()[1](keys())
    expected, got = (jax.jit(e.step)(state, action()) for e in (env, pickled(env)))
    same(got, expected)


def test_a_copied_vector_goes_on() -> None:
    """In the midst of its episodes, and apart from the original."""
    env = JaxVectorEnv(GOAL, NUM)
    with pytest.raises(gymnasium.error.ResetNeeded):
        copy.deepcopy(env).step(action())
    env.reset(seed=0)
    env.step(action())
    other = pickled(env)
    assert other.observation_space == env.observation_space
    expected = [env.step(action()) for _ in range(2)]
    same([other.step(action()) for _ in range(2)], expected)
    same(other.reset()[0], env.reset()[0])


def test_what_a_vector_hands_out_is_the_callers() -> None:
    """Observations may be donated, actions overwritten."""
    env = JaxVectorEnv(GOAL, NUM)

    def run(*, careless: bool) -> list[Any]:
        outs = [env.reset(seed=0)[0]]
        for _ in range(2):
            mine = action()
            if careless:
                donate(outs[-1])
            outs.append(env.step(mine))
            mine[...] = np.nan if careless else mine
            jax.block_until_ready(outs[-1])
        return outs[-1]

    def spoilt(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: ~leaf if leaf.dtype == bool else leaf + 1, tree)

    donate = jax.jit(spoilt, donate_argnums=0)
    same(run(careless=True), run(careless=False))
