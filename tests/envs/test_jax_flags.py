"""Functional environments under JAX's own switches: wide numbers, strict promotion, debugging."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from support import switched

import vnl_envs
from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import actions_of, task_of

jax = pytest.importorskip("jax")
pytest.importorskip("mujoco.mjx")

from vnl_envs.engines.mjx import MjxEngine  # noqa: E402
from vnl_envs.envs.autoreset import wrap_for_training  # noqa: E402
from vnl_envs.envs.functional import make_functional  # noqa: E402
from vnl_envs.envs.jax_vector import JaxVectorEnv  # noqa: E402

# Each task once.
IDS = [i for i in vnl_envs.task_ids() if "Humanoid" in i]
GOAL, NUM = "vnl/RodentGoalReaching-v0", 2
REAL = "vnl/HumanoidGoalReaching-v0"
PERTURBED = {
    "mass": 0.2, "gravity_tilt": 0.1, "push": {"force": 0.2, "duration": 0.1, "interval": 2.0},
    "observation_noise": {"joint_position": 0.1}, "action_delay": 2, "action_repeat": 0.1,
}  # fmt: skip


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Physics in MJX's types that stands still: tracing the engine takes nearly all the time."""

    def start(engine: Any, *_: Any) -> Any:
        leaves = [leaf.array() for leaf in engine._leaves]
        return jax.tree.unflatten(engine._structure, leaves)

    monkeypatch.setattr(MjxEngine, "start", start)
    monkeypatch.setattr(MjxEngine, "step", lambda engine, model, data, *_: data)


def types(tree: Any) -> dict[str, tuple[Any, ...]]:
    """Path -> what a loop or compiled code requires to stay as it is."""
    return {
        jax.tree_util.keystr(path): (leaf.shape, leaf.dtype, leaf.weak_type)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def check_types(task_id: str, impl: str, **arguments: Any) -> None:
    """A step and a restart give the structure and types that a reset gives, none without size."""
    env = wrap_for_training(make_functional(task_id, impl, **arguments))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), NUM))
    state = jax.eval_shape(env.reset, keys)
    action = jax.ShapeDtypeStruct((NUM, env.action_size), np.float32)
    # The step has the restart in it.
    after = jax.eval_shape(env.step, state, action)
    assert types(after) == types(state)
    assert all(leaf.size for leaf in jax.tree.leaves(state))
    for name in ("obs", "reward", "done", "metrics"):
        assert {leaf.dtype for leaf in jax.tree.leaves(getattr(state, name))} == {np.dtype("f4")}


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("task_id", IDS)
def test_types_are_those_of_the_reset(task_id: str, wide: bool, frozen: None) -> None:
    """On the native engine and on MJX, whatever the switches."""
    with switched(wide=wide):
        check_types(task_id, "native")
        check_types(task_id, "jax")


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("impl", ["native", "jax"])
def test_types_of_a_perturbed_task(impl: str, wide: bool, frozen: None) -> None:
    """What perturbations remember keeps its types, too; so do observations by name."""
    with switched(wide=wide):
        check_types(GOAL, impl, observation="privileged", perturbations=PERTURBED)
        check_types(GOAL, impl, observation="dict")


@pytest.mark.parametrize("impl", ["jax", "warp"])
def test_types_of_the_engines(impl: str) -> None:
    """The physics themselves."""
    with switched(wide=True):
        check_types(REAL, impl)


@functools.lru_cache
def rollout() -> list[Any]:
    """States of the training wrapper, as NumPy has them, under the switches of the moment."""
    env = wrap_for_training(make_functional(GOAL, "native"), episode_length=3)
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    state = reset(jax.random.split(jax.random.key(0), NUM))
    states = [state]
    for action in actions_of(task_of(GOAL), 5, NUM, size=0.4):
        states.append(step(states[-1], action))
    assert (reset._cache_size(), step._cache_size()) == (1, 1)
    return [
        jax.tree.map(np.asarray, s.replace(info={k: s.info[k] for k in s.info if k != "key"}))
        for s in states
    ]


@pytest.mark.parametrize("switches", [{"debug": True}, {"wide": True}])
def test_switches_change_no_bits(switches: dict[str, bool]) -> None:
    """Episodes end and begin cleanly, with the numbers that there are without the switches."""
    plain = rollout()
    with switched(**switches):
        strict = rollout.__wrapped__()
    for a, b in zip(plain, strict, strict=True):
        assert jax.tree.structure(a) == jax.tree.structure(b)
        assert_same(jax.tree.leaves(a), jax.tree.leaves(b))


def test_vector_under_the_switches() -> None:
    """Gymnasium's form of it."""
    actions = actions_of(task_of(GOAL), 2, NUM)
    results = []
    for wide in (False, True):
        with switched(wide=wide):
            env = JaxVectorEnv(GOAL, NUM, impl="native")
            first, _ = env.reset(seed=0)
            leaves = jax.tree.leaves([first, *(env.step(a) for a in actions)])
            results.append([np.asarray(leaf) for leaf in leaves])
    assert_same(*results)
