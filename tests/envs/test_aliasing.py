"""What an environment hands out never changes later, and changing it changes nothing there.

Each face plays the same twice: once for somebody who only looks, and once for somebody who
overwrites everything that he was given, and everything that he gave, as soon as he has it. Both
must see the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from support import restored_registry

import vnl_envs
from vnl_envs import registry
from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import actions_of, task_of

IMITATION, JUMP, GOAL = (f"vnl/Rodent{n}-v0" for n in ("Imitation", "JumpGap", "GoalReaching"))
NUM, STEPS = 3, 40
PERTURBED = {"push": {"force": 0.5, "duration": 0.1, "interval": 0.3}, "action_delay": 2,
             "mass": 0.1}  # fmt: skip
CASES = [(JUMP, {"perturbations": PERTURBED}), (IMITATION, {"observation": "dict"})]

Play = Iterator[tuple[Any, Any]]
"""What was handed out, and what had been given for it."""


def overwrite(what: Any) -> None:
    """Make nonsense of everything that can be written to."""
    if isinstance(what, dict | list):
        for part in what.values() if isinstance(what, dict) else what:
            overwrite(part)
        what.clear()
    elif isinstance(what, tuple):
        for part in what:
            overwrite(part)
    elif isinstance(what, np.ndarray):
        if what.dtype == object:
            overwrite(what.tolist())
        if what.flags.writeable:
            what[...] = np.full(what.shape, None if what.dtype == object else 3)
    elif isinstance(what, mujoco.MjData):
        overwrite((what.qpos, what.qvel, what.ctrl, what.mocap_pos))
    elif isinstance(what, gymnasium.spaces.Box):
        overwrite((what.low, what.high))
    elif isinstance(what, gymnasium.spaces.Dict):
        overwrite(tuple(what.values()))


def kept(what: Any) -> Any:
    """A copy to compare later."""
    if isinstance(what, mujoco.MjData):
        return what.qpos.copy(), what.qvel.copy()
    if isinstance(what, tuple | list):
        return tuple(kept(part) for part in what)
    return None if isinstance(what, gymnasium.Space) else copy.deepcopy(what)


def single(task_id: str, options: dict[str, Any]) -> Play:
    options = copy.deepcopy(options)
    env = vnl_envs.SingleEnv(task_id, **options)
    yield (env.observation_space, env.action_space, env.metadata, env.layout), options
    yield env.reset(seed=1), None
    episode, state = env.episode, env.get_state()
    for i, action in enumerate(actions_of(env.task, STEPS, 1)[:, 0]):
        result = env.step(action)
        yield result, action
        yield (env.episode, env.data, env.get_state(), env.task.reward_terms), None
        if result[2] or result[3]:
            yield env.reset(), None
        if i == STEPS // 3:
            given = copy.deepcopy(episode)
            yield env.reset(options={"episode": given}), given
        if i == 2 * STEPS // 3:
            given = copy.deepcopy(state)
            yield env.set_state(given), given
    twin = copy.deepcopy(env)
    yield twin.step(np.zeros(env.task.body.nu, np.float32)), None


def vector(task_id: str, options: dict[str, Any], mode: AutoresetMode) -> Play:
    options = copy.deepcopy(options)
    env = gymnasium.make_vec(task_id, num_envs=NUM, autoreset_mode=mode, **options)
    # `make_vec` takes them by reference: they are the caller's there.
    yield (env.single_observation_space, env.action_space, env.observation_space), None
    yield env.reset(seed=1), None
    episodes, state = env.episodes, env.get_state()
    for i, action in enumerate(actions_of(env.task, STEPS, NUM)):
        result = env.step(action)
        done = result[2] | result[3]
        yield result, action
        yield (env.episodes, env.carries, env.data(1), env.get_state()), None
        if mode is AutoresetMode.DISABLED and done.any():
            yield env.reset(options={"reset_mask": done}), done
        if i == STEPS // 3:
            given, seeds = copy.deepcopy(episodes), np.arange(NUM)
            yield env.reset(seed=seeds, options={"episode": given}), (given, seeds)
        if i == 2 * STEPS // 3:
            given = copy.deepcopy(state)
            yield env.set_state(given), given
    twin = copy.deepcopy(env)
    twin.reset()
    yield twin.step(np.zeros(env.action_space.shape, np.float32)), None


def sb3(task_id: str, options: dict[str, Any]) -> Play:
    pytest.importorskip("stable_baselines3")
    options = copy.deepcopy(options)
    env = vnl_envs.SB3VecEnv(task_id, NUM, **options)
    yield (env.observation_space, env.action_space, env.metadata), options
    env.seed(1)
    yield env.reset(), None
    episode = env.get_attr("episode", 0)[0]
    for i, action in enumerate(actions_of(env.env.task, STEPS, NUM)):
        env.step_async(action)
        yield None, action
        result = env.step_wait()
        for info in result[3]:
            info.get("episode", {}).pop("t", None)  # Seconds of the clock.
        yield result, None
        yield (env.get_attr("episode"), env.get_attr("data", 1), env.reward_terms), None
        yield env.env_method("get_state", indices=0), None
        if i == STEPS // 2:
            given = {"episode": copy.deepcopy(episode)}
            env.set_options(given)
            yield None, given
            yield env.reset(), None


def race(task_id: str, options: dict[str, Any]) -> Play:
    pytest.importorskip("pettingzoo")
    env = vnl_envs.parallel_env("vnl/RodentGoalRace-v0")
    agent = env.possible_agents[0]
    yield (env.observation_space(agent), env.action_space(agent), env.state_space), None
    yield env.reset(seed=1), None
    episode, state = env.episode, env.get_state()
    for i, action in enumerate(actions_of(env.task, STEPS, 2, size=0.3)):
        given = {a: action[k] for k, a in enumerate(env.possible_agents) if a in env.agents}
        yield env.step(given), given
        yield (env.state(), env.episode, env.data, env.get_state(), env.layout), None
        if i == STEPS // 2:
            given = {"episode": copy.deepcopy(episode)}
            yield env.reset(options=given), given
        if not env.agents:
            yield env.reset(), None
    given = copy.deepcopy(state)
    yield env.set_state(given), given
    yield env.state(), None


def evaluation(task_id: str, options: dict[str, Any]) -> Play:
    options = {k: copy.deepcopy(v) for k, v in options.items() if k != "observation"}
    body = task_of(task_id).body
    buffer = np.empty((NUM, body.nu), np.float32)
    rng = np.random.default_rng(0)
    seen: list[np.ndarray] = []

    def policy(observations: np.ndarray) -> np.ndarray:
        seen.append(observations.copy())
        buffer[:] = rng.uniform(-1, 1, buffer.shape)
        overwrite(observations)
        return buffer

    result = vnl_envs.evaluate(task_id, policy, NUM, num_envs=NUM, **options)
    yield (result.record(), seen), options


FACES: dict[str, Callable[..., Play]] = {
    "single": single,
    **{
        f"vector {mode.value}": lambda *a, mode=mode: vector(*a, mode)  # type: ignore[misc]
        for mode in AutoresetMode
    },
    "sb3": sb3,
    "race": race,
    "evaluation": evaluation,
}


@pytest.mark.parametrize(
    ("face", "case"),
    # A race has no such options.
    [
        pytest.param(face, case, id=f"{face} {case[0]}")
        for face in FACES
        for case in CASES[: 1 if face == "race" else None]
    ],
)
def test_nothing_is_shared_with_the_caller(face: str, case: tuple[str, dict[str, Any]]) -> None:
    """What was handed out stays as it was, and overwriting it, or what was given, does nothing."""
    held = [(out, kept(out)) for out, _ in FACES[face](*case)]
    for i, (out, then) in enumerate(held):
        assert_same(kept(out), then, f"handed out as number {i}, later")
    play = FACES[face](*case)
    for i, ((out, given), (_, expected)) in enumerate(zip(play, held, strict=True)):
        assert_same(kept(out), expected, f"handed out as number {i}")
        overwrite((out, given))


def test_registered_constants_are_nobodys_to_change() -> None:
    """Neither by what tells of them nor by what was given to register them."""
    before = copy.deepcopy(registry.task_settings(IMITATION))
    overwrite(registry.task_settings(IMITATION))
    overwrite(vnl_envs.task_options(IMITATION))
    assert registry.task_settings(IMITATION) == before
    assert vnl_envs.task_options(IMITATION)
    sigma = dict(before["sigma"])
    with restored_registry():
        vnl_envs.register_task("test/Mine-v0", "rodent", registry.get_row(IMITATION).task,
                               **{**before, "sigma": sigma})  # fmt: skip
        overwrite(sigma)
        assert registry.task_settings("test/Mine-v0") == before


def test_functional_states_are_values() -> None:
    """A step changes nothing of the state that it takes; no state changes later."""
    jax = pytest.importorskip("jax")
    env = vnl_envs.make_functional(JUMP, impl="native", observation="dict")
    batch = vnl_envs.wrap_for_training(env)
    actions = actions_of(task_of(JUMP), STEPS, 2)
    for reset, step, rows in (
        (jax.jit(env.reset), jax.jit(env.step), actions[:, 0]),
        (jax.jit(batch.reset), jax.jit(batch.step), actions),
    ):
        key = jax.random.PRNGKey(0)
        state = reset(key if rows is not actions else jax.random.split(key, 2))
        held = []
        for action in rows:
            held.append((state, jax.tree.map(np.array, state)))
            given = action.copy()
            before = jax.tree.structure(state)
            after = step(state, given)
            jax.block_until_ready(after)
            overwrite(given)
            assert jax.tree.structure(state) == before
            state = after
        for out, then in held:
            same = jax.tree.map(lambda a, b: np.array_equal(a, b, equal_nan=True), out, then)
            assert all(jax.tree.leaves(same))
