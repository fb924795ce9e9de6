"""Functional environments on the native engine: purity, bits, wrappers, sharding, Gymnasium."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

import vnl_envs
from vnl_envs.testing import FunctionalContract
from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import actions_of, rows, single, task_of
from vnl_envs.testing.functional import NUM, assert_same_tree, compiled, functional, keys, numpy

jax = pytest.importorskip("jax")
jnp = jax.numpy

from vnl_envs.envs.autoreset import Sharded, wrap_for_training  # noqa: E402
from vnl_envs.envs.functional import State, make_functional  # noqa: E402
from vnl_envs.envs.jax_vector import JaxVectorEnv  # noqa: E402

IDS = vnl_envs.task_ids()
GOAL = "vnl/RodentGoalReaching-v0"


@functools.lru_cache(maxsize=16)
def training(task_id: str, episode_length: int | None = None) -> tuple[Any, Any]:
    """Functions of the training wrapper."""
    env = wrap_for_training(functional(task_id), episode_length)
    return jax.jit(env.reset), jax.jit(env.step)


@pytest.mark.parametrize("task_id", IDS, scope="class")
class TestRegistered(FunctionalContract):
    """Every registered task."""


def test_scan_and_nested_vmap() -> None:
    """A scan over time of a vmap of a vmap gives what a loop over a flat batch gives."""
    env, (reset, step) = functional(GOAL), compiled(GOAL)
    actions = actions_of(env.task, 5, NUM, size=0.4)
    state = reset(keys(NUM))
    grid = jax.tree.map(lambda leaf: leaf.reshape(2, 2, *leaf.shape[1:]), state)
    for action in actions:
        state = step(state, action)

    def body(state: State, action: Any) -> tuple[State, None]:
        return jax.vmap(jax.vmap(env.step))(state, action), None

    grid, _ = jax.jit(lambda s, a: jax.lax.scan(body, s, a))(grid, actions.reshape(5, 2, 2, -1))
    assert_same_tree(jax.tree.map(lambda leaf: leaf.reshape(NUM, *leaf.shape[2:]), grid), state)


def test_episodes_are_multiples_of_2_to_the_minus_24() -> None:
    """Uniform numbers lie in [0, 1), and all 24 bits are used."""
    env = functional(GOAL)
    u = np.asarray(jax.vmap(env.uniforms)(keys(200))).astype(np.float64)
    scaled = u * 2**24
    assert (scaled == np.floor(scaled)).all()
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 0.01
    assert (scaled % 2).mean() > 0.4


# Observations


@pytest.mark.parametrize("task_id", IDS)
def test_sizes(task_id: str) -> None:
    """What trainers ask for."""
    env, task = functional(task_id), task_of(task_id)
    assert env.observation_size == single(task_id).observation_space.shape[0]
    assert env.action_size == task.body.nu
    assert env.dt == pytest.approx(0.02)
    assert env.sim_dt * env.n_substeps == pytest.approx(env.dt)
    assert env.unwrapped is env
    assert env.mj_model is env.task.world.model
    assert env.layout == single(task_id).unwrapped.layout
    assert env.env_hash == single(task_id).unwrapped.env_hash


def test_dictionary_observations() -> None:
    """One vector per group, or the flat one and the critic's."""
    flat = compiled(GOAL)[0](keys(NUM)).obs
    grouped = compiled(GOAL, observation="dict")[0](keys(NUM)).obs
    assert list(grouped) == ["proprioception", "task"]
    assert_same_tree(jnp.concatenate(list(grouped.values()), axis=-1), flat)
    sizes = functional(GOAL, observation="dict").observation_size
    assert sizes == {k: v.shape[1:] for k, v in grouped.items()}
    both = compiled(GOAL, observation="privileged")[0](keys(NUM)).obs
    assert_same_tree(both["state"], flat)
    assert_same_tree(both["privileged_state"], flat)


def test_a_critic_sees_what_is_perturbed() -> None:
    """Its observation has no noise and holds the factors; the policy's is Gymnasium's."""
    settings = {"mass": 0.3, "observation_noise": {"joint_position": 0.1}}
    env = make_functional(GOAL, "native", "privileged", perturbations=settings)
    state = jax.jit(jax.vmap(env.reset))(keys(NUM))
    policy, critic = numpy(state.obs["state"]), numpy(state.obs["privileged_state"])
    factor = np.asarray(state.data.episode["perturbation/mass"])
    assert critic.shape == (NUM, policy.shape[1] + 1)
    assert_same_tree(critic[:, -1], factor)
    noisy = env.layout["proprioception/joint_position"]
    assert 0.05 < (policy - critic[:, :-1])[:, noisy].std() < 0.15
    untouched = np.delete(policy - critic[:, :-1], np.r_[noisy], axis=1)
    assert not untouched.any()
    gym_env = gymnasium.make(GOAL, perturbations=settings)
    observed, _ = gym_env.reset(options={"episode": rows(numpy(state.data.episode), 1)})
    assert_same(policy[1], observed)


# Failure and bad input


def test_nan_action_diverges_alone() -> None:
    """It ends its episode without reward and with the last observation; neighbours go on."""
    reset, step = compiled(GOAL)
    state = step(reset(keys(NUM)), jnp.zeros((NUM, 38)))
    action = np.full((NUM, 38), 0.1, np.float32)
    calm = step(state, action)
    action[2, 5] = np.nan
    wild = step(state, action)
    assert_same(np.asarray(wild.info["diverged"]), np.array([0, 0, 1, 0], np.float32))
    assert_same(np.asarray(wild.done), np.array([0, 0, 1, 0], np.float32))
    assert wild.reward[2] == 0
    assert_same_tree(wild.obs[2], state.obs[2])
    others = np.array([0, 1, 3])
    kept = [jax.tree.map(lambda a: a[others], state) for state in (wild, calm)]
    assert_same_tree(*kept)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(numpy((wild.obs, wild.reward))))


def bad_input() -> dict[str, tuple[Any, str]]:
    """Case -> what is called, and words of the error."""
    env = functional(GOAL)
    state = env.reset(jax.random.key(0))
    zero = jnp.zeros(38)
    other = functional("vnl/RodentJumpGap-v0").reset(jax.random.key(0))
    human = functional("vnl/HumanoidGoalReaching-v0").reset(jax.random.key(0))
    two = jax.vmap(env.reset)(keys(2))
    return {
        "unknown id": (lambda: make_functional("vnl/Nothing-v0"), "vnl/RodentJumpGap-v0"),
        "unknown impl": (lambda: make_functional(GOAL, impl="cuda"), "'warp'"),
        "unknown option": (lambda: make_functional(GOAL, impl="native", gaps=1), "gaps"),
        "observation": (lambda: make_functional(GOAL, observation="image"), "'dict'"),
        "threads": (lambda: make_functional(GOAL, threads=-1), "threads"),
        "action shape": (lambda: env.step(state, jnp.zeros(7)), r"\(38,\)"),
        "batched action": (lambda: env.step(state, jnp.zeros((2, 38))), "vmap"),
        "batched state": (lambda: env.step(two, zero), "vmap"),
        "state of another task": (lambda: env.step(other, zero), GOAL),
        "state of another body": (lambda: env.step(human, zero), GOAL),
        "no environments": (lambda: JaxVectorEnv(GOAL, 0), "num_envs"),
        "episode length": (lambda: wrap_for_training(env, episode_length=0), "episode_length"),
    }


@pytest.mark.parametrize("case", bad_input())
def test_bad_input(case: str) -> None:
    """One clear error that says what was expected."""
    call, words = bad_input()[case]
    with pytest.raises((ValueError, RuntimeError), match=words):
        call()


def test_missing_jax_is_named() -> None:
    """Without JAX, Gymnasium works and the functional form says what to install."""
    code = (
        "import sys; sys.modules['jax'] = None\n"
        "import gymnasium, vnl_envs\n"
        f"gymnasium.make({GOAL!r}).reset()\n"
        "try:\n    vnl_envs.make_functional\n"
        "except ImportError as error:\n    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "vnl_envs[jax]" in run.stdout, run.stderr


# Training wrapper


def test_every_episode_is_new() -> None:
    """Where an episode ends another begins, its final observation is kept, the others go on."""
    reset, step = training(GOAL)
    plain = compiled(GOAL)[1]
    state = reset(keys(NUM))
    seen = [set() for _ in range(NUM)]
    ends = 0
    rng = np.random.default_rng(0)
    for _ in range(250):
        for i, yaw in enumerate(np.asarray(state.data.episode["yaw"])):
            seen[i].add(float(yaw))
        action = rng.uniform(-1, 1, (NUM, 38)).astype(np.float32)
        before, state = state, step(state, action)
        expected = plain(before, action)
        assert_same_tree(state.info["final_obs"], expected.obs)
        assert_same_tree(state.reward, expected.reward)
        done = np.asarray(state.done) > 0
        ends += done.sum()
        assert_same_tree(state.obs[~done], expected.obs[~done])
        if done.any():
            assert not np.array_equal(state.obs[done], expected.obs[done])
            assert (np.asarray(state.data.carry["step"])[done] == 0).all()
    assert ends >= 2 * NUM
    assert [len(s) for s in seen] == [len(set(s)) for s in seen]
    assert sum(map(len, seen)) == ends + NUM - int(done.sum())


def test_episodes_do_not_depend_on_neighbours() -> None:
    """A simulation draws its episodes from its own key, whatever the batch."""
    reset, step = training(GOAL)
    actions = np.random.default_rng(1).uniform(-1, 1, (120, NUM, 38)).astype(np.float32)
    many, one = reset(keys(NUM)), reset(keys(NUM)[2:3])
    for action in actions:
        many, one = step(many, action), step(one, action[2:3])
    assert_same_tree(jax.tree.map(lambda leaf: leaf[2:3], many), one)


def test_limit_truncates_and_metrics_sum_up() -> None:
    """`episode_length` truncates, and the sums of an episode begin anew after its end."""
    reset, step = training(GOAL, 5)
    state = reset(keys(NUM))
    zero = jnp.zeros((NUM, 38))
    for expected in (1, 2, 3, 4, 5, 1, 2):
        state = step(state, zero)
        end = expected == 5
        assert (np.asarray(state.info["steps"]) == expected).all()
        for flag in ("truncation", "time_out", "episode_done"):
            assert (np.asarray(state.info[flag]) == end).all()
        assert (np.asarray(state.done) == end).all()
        assert (np.asarray(state.info["episode_metrics"]["length"]) == expected).all()


def test_own_time_limit_is_a_truncation() -> None:
    """The task's horizon truncates through the wrapper; Brax's own would call it a failure."""
    env = functional(GOAL)
    reset, step = training(GOAL)
    state = reset(keys(NUM))
    carry = {**state.data.carry, "step": jnp.full(NUM, env.task.horizon - 1, jnp.int32)}
    state = step(state.replace(data=state.data.replace(carry=carry)), jnp.zeros((NUM, 38)))
    assert (np.asarray(state.done) == 1).all()
    assert (np.asarray(state.info["truncation"]) == 1).all()
    assert (np.asarray(state.data.carry["step"]) == 0).all()


def test_action_repeat() -> None:
    """An action is applied n times, rewards add up, an episode that ends meanwhile stays ended."""
    env = functional(GOAL)
    twice = wrap_for_training(env, action_repeat=3, episode_length=4)
    reset, step = jax.jit(twice.reset), jax.jit(twice.step)
    _, plain = compiled(GOAL)
    state = reset(keys(NUM))
    action = np.full((NUM, 38), 0.2, np.float32)
    one = two = three = state
    one = plain(state, action)
    two = plain(one, action)
    three = plain(two, action)
    after = step(state, action)
    np.testing.assert_allclose(after.reward, one.reward + two.reward + three.reward, rtol=1e-6)
    assert_same_tree(after.obs, three.obs)
    after = step(after, action)
    assert (np.asarray(after.info["episode_metrics"]["length"]) == 4).all()
    assert (np.asarray(after.info["truncation"]) == 1).all()


@pytest.mark.parametrize("task_id", [GOAL, "vnl/HumanoidJumpGap-v0"])
def test_one_trace_only(task_id: str) -> None:
    """Resetting, stepping and auto-resetting never trace again."""
    env = wrap_for_training(functional(task_id))
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    state = reset(keys(NUM))
    ends = 0.0
    for i, action in enumerate(actions_of(task_of(task_id), 150, NUM)):
        state = step(state, action)
        ends += float(state.done.sum())
        if i == 70:
            state = reset(keys(NUM, 9))
    assert ends > 0
    assert (reset._cache_size(), step._cache_size()) == (1, 1)


@functools.lru_cache
def reward_of_a_rollout(*, stopped: bool) -> Any:
    """The reward and log-likelihood of three steps under auto-reset as a function of a policy."""
    env = wrap_for_training(functional(GOAL))
    first = training(GOAL)[0](keys(NUM))

    def loss(scale: Any) -> Any:
        def body(state: State, _: None) -> tuple[State, Any]:
            action = scale * state.obs[:, :38]
            chosen = jax.lax.stop_gradient(action) if stopped else action
            state = env.step(state, chosen)
            return state, state.reward - ((action - 0.1) ** 2).sum(axis=-1)

        return jax.lax.scan(body, first, None, length=3)[1].sum()

    return loss


def test_what_surrounds_a_step_can_be_differentiated() -> None:
    """Where nothing is to flow through the engine, nothing is in the way, in a loop either."""
    loss = reward_of_a_rollout(stopped=True)
    gradient = jax.jit(jax.grad(loss))(0.1)
    assert np.isfinite(gradient)
    assert gradient != 0


@pytest.mark.parametrize("impl", ["native", "warp"])
def test_a_step_without_derivatives_says_so(impl: str) -> None:
    """In place of zeros in silence."""
    env = functional(GOAL) if impl == "native" else make_functional(GOAL, impl)
    state = jax.eval_shape(env.reset, jax.random.key(0))

    def through(state: State, action: Any) -> Any:
        return env.step(state, action).reward

    for argument in (0, 1):
        gradient = jax.grad(through, argument, allow_int=True)
        with pytest.raises(NotImplementedError, match=r"impl='jax'.*stop_gradient"):
            jax.eval_shape(gradient, state, jnp.zeros(38))


@pytest.mark.parametrize("derive", ["grad", "jvp", "linearize"])
def test_a_rollout_without_derivatives_says_so(derive: str) -> None:
    """However the derivative of a loop with auto-reset is asked for."""
    loss = reward_of_a_rollout(stopped=False)
    ask = {
        "grad": lambda: jax.grad(loss)(0.1),
        "jvp": lambda: jax.jvp(loss, (0.1,), (1.0,)),
        "linearize": lambda: jax.linearize(loss, 0.1),
    }
    with pytest.raises(NotImplementedError, match="stop_gradient"):
        ask[derive]()


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "int32", "bool"])
def test_actions_of_other_types(kind: str) -> None:
    """They are what they are as float32."""
    reset, step = compiled(GOAL)
    state = reset(keys(NUM))
    action = jnp.asarray(actions_of(task_of(GOAL), 1, NUM)[0] > 0, kind)
    assert_same_tree(step(state, action), step(state, action.astype(jnp.float32)))


# Trainers


def test_brax_ppo_trains(tmp_path: Path) -> None:
    """The stock trainer runs, logs our metrics and counts no truncation as a failure."""
    ppo = pytest.importorskip("brax.training.agents.ppo.train")
    seen: dict[str, Any] = {}
    ppo.train(
        environment=functional(GOAL), wrap_env_fn=wrap_for_training, num_timesteps=512,
        num_envs=8, episode_length=20, unroll_length=8, batch_size=8, num_minibatches=2,
        num_updates_per_batch=1, num_evals=2, num_eval_envs=4, normalize_observations=True,
        progress_fn=lambda _, metrics: seen.update(metrics),
    )  # fmt: skip
    assert seen["eval/avg_episode_length"] <= 20
    assert np.isfinite(seen["eval/episode_reward"])
    assert "eval/episode_goals_reached" in seen
    assert "eval/episode_reward/progress" in seen


def test_brax_ppo_with_an_asymmetric_critic() -> None:
    """Dictionary observations: the policy sees one entry, the critic another."""
    ppo = pytest.importorskip("brax.training.agents.ppo.train")
    networks = pytest.importorskip("brax.training.agents.ppo.networks")
    factory = functools.partial(
        networks.make_ppo_networks, policy_hidden_layer_sizes=(16,),
        value_hidden_layer_sizes=(16,), policy_obs_key="state",
        value_obs_key="privileged_state",
    )  # fmt: skip
    _, params, _ = ppo.train(
        environment=functional(GOAL, observation="privileged"), wrap_env_fn=wrap_for_training,
        num_timesteps=64, num_envs=4, episode_length=20, unroll_length=4, batch_size=4,
        num_minibatches=1, num_updates_per_batch=1, num_evals=1, network_factory=factory,
        run_evals=False,
    )  # fmt: skip
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(numpy(params[1])))


@pytest.mark.parametrize("full_reset", [False, True])
def test_playground_wrapper(full_reset: bool) -> None:
    """MuJoCo Playground's own wrapper resets the whole episode with the data."""
    playground = pytest.importorskip("mujoco_playground._src.wrapper")
    env = playground.wrap_for_brax_training(
        functional(GOAL), episode_length=15, action_repeat=1, full_reset=full_reset
    )
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    state = reset(keys(NUM))
    first = numpy(state.data.episode["yaw"])
    for _ in range(15):
        state = step(state, jnp.zeros((NUM, 38)))
    assert (np.asarray(state.done) == 1).all()
    assert (np.asarray(state.data.carry["step"]) == 0).all()
    assert np.array_equal(first, state.data.episode["yaw"]) != full_reset
    assert np.isfinite(np.asarray(step(state, jnp.zeros((NUM, 38))).obs)).all()


# Devices

SHARDED = """
import os
flags = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=2"
import jax, numpy as np
import vnl_envs
from vnl_envs.envs.autoreset import Sharded
assert len(jax.devices()) == 2
env = vnl_envs.wrap_for_training(vnl_envs.make_functional("vnl/RodentGoalReaching-v0"))
many, one = Sharded(env), Sharded(env, jax.devices()[:1])
keys = jax.random.split(jax.random.PRNGKey(0), 16)
a, b = many.reset(keys), one.reset(keys)
rng = np.random.default_rng(0)
ends = 0
for _ in range(60):
    action = rng.uniform(-1, 1, (16, 38)).astype(np.float32)
    a, b = many.step(a, action), one.step(b, action)
    ends += float(a.done.sum())
for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
assert len(a.obs.sharding.device_set) == 2 and ends > 0
assert many._step._cache_size() == 1
try:
    many.reset(keys[:3])
except ValueError as error:
    print(error)
"""


def test_batches_shard_over_devices() -> None:
    """Spread over host devices, a batch gives the bits of one device."""
    run = subprocess.run(
        [sys.executable, "-c", SHARDED], capture_output=True, text=True,
        timeout=300, env={**os.environ, "JAX_PLATFORMS": "cpu"}, check=False,
    )  # fmt: skip
    told = run.stdout.strip()
    assert told == "a batch of 3 does not divide over 2 devices", run.stderr[-2000:]


def test_one_device_needs_no_sharding() -> None:
    """On one device `Sharded` is the batch itself."""
    env = wrap_for_training(functional(GOAL))
    assert_same_tree(Sharded(env).reset(keys(NUM)), training(GOAL)[0](keys(NUM)))


# Gymnasium with JAX arrays


@pytest.mark.parametrize("observation", ["flat", "dict"])
def test_gymnasium_vector_with_jax_arrays(observation: str) -> None:
    """Gymnasium's spaces, JAX's arrays, SAME_STEP autoreset."""
    env = JaxVectorEnv(GOAL, NUM, observation=observation)
    first, _ = env.reset(seed=3)
    again, _ = JaxVectorEnv(GOAL, NUM, observation=observation).reset(seed=3)
    assert_same_tree(first, again)
    other, _ = env.reset()
    assert not np.array_equal(jax.tree.leaves(first)[0], jax.tree.leaves(other)[0])
    env.reset(seed=3)
    ends = 0
    for action in actions_of(task_of(GOAL), 80, NUM):
        observed, reward, terminated, truncated, infos = env.step(jnp.asarray(action))
        for part in (*jax.tree.leaves(observed), reward, terminated, truncated):
            assert isinstance(part, jax.Array)
        assert not (terminated & truncated).any()
        assert numpy(observed) in env.observation_space
        assert_same_tree(infos["_final_obs"], terminated | truncated)
        ends += int(infos["_final_obs"].sum())
        assert set(infos["metrics"]) >= {"sum_reward", "length", "goals_reached"}
    assert ends > 0


def test_jax_vector_draws_seeds_from_its_generator() -> None:
    """A reset without a seed follows from `np_random`, and that from the last seed."""
    one, two = JaxVectorEnv(GOAL, 2), JaxVectorEnv(GOAL, 2)
    first = one.reset(seed=3)[0]
    np.testing.assert_array_equal(two.reset(seed=3)[0], first)
    second = one.reset()[0]
    np.testing.assert_array_equal(two.reset()[0], second)
    assert (np.asarray(second) != np.asarray(first)).any()
    two.np_random.integers(2)
    assert (np.asarray(two.reset()[0]) != np.asarray(one.reset()[0])).any()


def test_environment_i_of_a_jax_vector_is_seeded_seed_plus_i() -> None:
    """As in every vector of ours."""
    many, _ = JaxVectorEnv(GOAL, NUM).reset(seed=10)
    one, _ = JaxVectorEnv(GOAL, 1).reset(seed=12)
    assert_same_tree(many[2:3], one)


def test_gymnasium_wrapper_to_numpy() -> None:
    """Gymnasium's own conversion wraps around it."""
    wrapper = pytest.importorskip("gymnasium.wrappers.vector").JaxToNumpy
    env = wrapper(JaxVectorEnv(GOAL, 2))
    env.reset(seed=0)
    observed, reward, *_ = env.step(np.zeros((2, 38), np.float32))
    assert isinstance(observed, np.ndarray)
    assert isinstance(reward, np.ndarray)


def test_jax_vector_refuses() -> None:
    """Wrong calls are named."""
    env = JaxVectorEnv(GOAL, 2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(jnp.zeros((2, 38)))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"\(2, 38\)"):
        env.step(jnp.zeros((3, 38)))
    with pytest.raises(ValueError, match="options"):
        env.reset(options={"episode": {}})


# Pictures


def row(state: State, index: int = 0) -> State:
    return jax.tree.map(lambda leaf: leaf[index], state)


def test_render() -> None:
    """States are drawn, with the goal."""
    env, (reset, step) = functional(GOAL), compiled(GOAL)
    one = row(step(reset(keys(NUM)), jnp.zeros((NUM, 38))))
    pictures = env.render([one, one], height=48, width=64)
    assert [p.shape for p in pictures] == [(48, 64, 3)] * 2
    assert pictures[0].std() > 5
    data = env.mj_data(one)
    np.testing.assert_allclose(data.time, env.dt)


def test_render_as_playground_does() -> None:
    """Its wrapper passes size, camera, options and a function for each scene."""
    playground = pytest.importorskip("mujoco_playground._src.wrapper")
    env = playground.wrap_for_brax_training(functional(GOAL), episode_length=15)
    state = row(compiled(GOAL)[0](keys(NUM)))
    seen: list[int] = []
    hidden = mujoco.MjvOption()
    hidden.geomgroup[:] = 0
    plain, empty = (
        env.render([state], 48, 64, "rodent/side", option, [lambda s: seen.append(s.ngeom)])[0]
        for option in (None, hidden)
    )
    assert plain.shape == (48, 64, 3)
    assert seen[0] > seen[1] > 0
    assert not np.array_equal(plain, empty)
    assert not np.array_equal(plain, env.render([state], 48, 64)[0])


def test_render_refuses() -> None:
    """One line that names what was expected."""
    env, state = functional(GOAL), compiled(GOAL)[0](keys(NUM))
    with pytest.raises(ValueError, match=r"batches are jax.vmap's.*leaf\[i\]"):
        env.render([state])
    with pytest.raises(ValueError, match="camera must be 'rodent/back' or"):
        env.render(row(state), camera="side")
    with pytest.raises(ValueError, match="1 states need as many modify_scene_fns, got 0"):
        env.render([row(state)], modify_scene_fns=[])
    with pytest.raises(ValueError, match="height must be an integer of at least 1"):
        env.render(row(state), height=0)
