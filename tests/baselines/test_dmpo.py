"""DMPO's losses against closed forms, and its learner where the optimum is known."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from runs import dmpo_settings, gaussian, log_of, write_hyperparams
from support import invoke, one_line

from baselines.checkpoint import read_tree, write_tree
from baselines.dmpo import DMPO, Hyperparameters, Learner
from baselines.dmpo.__main__ import main
from baselines.dmpo.distributed import Actor
from baselines.dmpo.losses import (
    Bounds,
    Duals,
    critic_loss,
    divergences,
    improve,
    log_density,
    mixture,
    policy_loss,
    project,
    weights_divergence,
)
from baselines.dmpo.replay import Replay, Step, Streams
from baselines.dmpo.sb3 import transitions
from baselines.dmpo.settings import Settings
from baselines.dmpo.state import Transitions
from baselines.dmpo.training import OnDevice, Training
from baselines.episodes import TERM
from baselines.export import OnnxPolicy, export_run
from baselines.loop import term_column
from baselines.run import CHECKPOINT
from baselines.statistics import Statistics
from vnl_envs.testing.comparison import assert_same

SUPPORT = jnp.linspace(-2.0, 3.0, 11)
TASK = "vnl/HumanoidGoalReaching-v0"
# Of a program that runs for long: see `conftest.py`.
LONG = {"xla_backend_optimization_level": 3}


# --- The critic ---


@given(
    hnp.arrays(np.float32, 11, elements=st.floats(0.015625, 1, width=32)),
    hnp.arrays(np.float32, 11, elements=st.floats(-2, 3, width=32)),
)
def test_projection_keeps_mass_and_mean(weights: np.ndarray, values: np.ndarray) -> None:
    probabilities = weights / weights.sum()
    projected = np.asarray(project(SUPPORT, values, probabilities))
    assert projected.min() >= 0
    assert projected.sum() == pytest.approx(1, abs=1e-5)
    assert projected @ np.asarray(SUPPORT) == pytest.approx(probabilities @ values, abs=1e-4)


@given(hnp.arrays(np.float32, 11, elements=st.floats(0, 1, width=32)))
def test_projection_of_the_support_itself_changes_nothing(probabilities: np.ndarray) -> None:
    np.testing.assert_allclose(project(SUPPORT, SUPPORT, probabilities), probabilities, atol=1e-5)


def test_projection_clamps_what_is_beyond() -> None:
    projected = project(SUPPORT, jnp.full(11, 99.0), jnp.full(11, 1 / 11))
    np.testing.assert_allclose(projected, np.eye(11)[-1], atol=1e-6)


def test_mixture_is_the_mean_of_probabilities() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 3, 11))
    expected = np.log(scipy.special.softmax(logits, axis=-1).mean(axis=0))
    np.testing.assert_allclose(mixture(jnp.asarray(logits)), expected, atol=1e-5)


def test_critic_loss_is_least_at_its_target() -> None:
    rng = np.random.default_rng(0)
    next_logits = jnp.asarray(rng.normal(size=(5, 4, 11)))
    reward, discount = jnp.asarray(rng.normal(size=4)), jnp.asarray([0.9, 0.5, 0.0, 0.9])

    def loss(logits: jax.Array) -> jax.Array:
        return critic_loss(logits, SUPPORT, next_logits, reward, discount)

    values = reward[:, None] + discount[:, None] * SUPPORT
    target = project(SUPPORT, values, jnp.exp(mixture(next_logits)))
    best = jnp.log(target + 1e-9)
    entropy = float(np.mean([scipy.stats.entropy(row) for row in np.asarray(target)]))
    assert float(loss(best)) == pytest.approx(entropy, abs=1e-4)
    assert float(loss(best + jnp.asarray(rng.normal(size=best.shape)))) > entropy
    # After a failure only the reward counts.
    mean = float(target[2] @ SUPPORT)
    assert mean == pytest.approx(float(jnp.clip(reward[2], -2, 3)), abs=1e-5)


# --- The policy ---


def test_temperature_dual_is_least_where_the_bound_holds() -> None:
    returns = jnp.asarray(np.random.default_rng(0).normal(size=(64, 8)), jnp.float32)
    best = scipy.optimize.minimize_scalar(
        lambda t: float(improve(returns, jnp.asarray(t, jnp.float32), 0.1)[1]),
        bounds=(0.05, 20), method="bounded",
    ).x  # fmt: skip
    weights, _ = improve(returns, jnp.asarray(best, jnp.float32), 0.1)
    assert float(weights_divergence(weights)) == pytest.approx(0.1, abs=1e-3)
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-5)


@given(
    hnp.arrays(np.float32, 3, elements=st.floats(-1, 1, width=32)),
    hnp.arrays(np.float32, 3, elements=st.floats(-1, 1, width=32)),
    hnp.arrays(np.float32, 3, elements=st.floats(0.125, 2, width=32)),
    hnp.arrays(np.float32, 3, elements=st.floats(0.125, 2, width=32)),
)
def test_divergences_add_up(m: np.ndarray, n: np.ndarray, s: np.ndarray, t: np.ndarray) -> None:
    by_mean, by_std = divergences(gaussian(m, s), gaussian(n, t))
    # KL(N(m, s) || N(n, s)) and KL(N(m, s) || N(m, t)), textbook forms.
    np.testing.assert_allclose(by_mean, (m - n) ** 2 / (2 * s**2), rtol=1e-4, atol=1e-5)
    textbook = np.log(t / s) + s**2 / (2 * t**2) - 0.5
    np.testing.assert_allclose(by_std, textbook, rtol=1e-3, atol=1e-4)


def test_log_density() -> None:
    rng = np.random.default_rng(0)
    a, m, s = rng.normal(size=(4, 3)), rng.normal(size=3), rng.uniform(0.1, 1, 3)
    expected = scipy.stats.multivariate_normal(m, np.diag(s**2)).logpdf(a)
    np.testing.assert_allclose(log_density(a, m, s), expected, rtol=1e-4)


def _losses(**changes: object) -> tuple[jax.Array, dict[str, jax.Array]]:
    rng = np.random.default_rng(1)
    target = gaussian(rng.normal(size=(6, 2)) * 0.1, np.full((6, 2), 0.4))
    actions = target.mean + target.std * jnp.asarray(rng.normal(size=(32, 6, 2)), jnp.float32)
    values = {
        "duals": Duals(jnp.asarray(0.0), jnp.asarray(0.0), jnp.zeros(2), jnp.zeros(2)),
        "online": target,
        "target": target,
        "actions": actions,
        "returns": -jnp.sum((actions - 0.3) ** 2, axis=-1),
        "bounds": Bounds(),
    }
    return policy_loss(**{**values, **changes})  # type: ignore[arg-type]


def test_policy_gradient_points_to_better_actions() -> None:
    def loss(shift: jax.Array) -> jax.Array:
        base = gaussian(np.zeros((6, 2)), np.full((6, 2), 0.4))
        return _losses(online=base._replace(mean=base.mean + shift), target=base)[0]

    assert (np.asarray(jax.grad(loss)(jnp.zeros(2))) < 0).all()


def test_multipliers_rise_where_a_bound_is_broken() -> None:
    def loss(alpha: jax.Array, shift: float) -> jax.Array:
        base = gaussian(np.zeros((6, 2)), np.full((6, 2), 0.4))
        duals = Duals(jnp.asarray(0.0), jnp.asarray(0.0), alpha, jnp.zeros(2))
        online = base._replace(mean=base.mean + jnp.asarray([shift, 0.0]))
        return _losses(duals=duals, online=online, target=base)[0]

    gradient = jax.grad(loss)(jnp.zeros(2), 0.5)
    # Descent raises the multiplier of the dimension that moved too far, and lowers the other.
    assert float(gradient[0]) < 0 < float(gradient[1])


def test_actions_out_of_bounds_lose_weight() -> None:
    base = gaussian(np.full((6, 2), 1.1), np.full((6, 2), 0.4))
    noise = np.random.default_rng(1).normal(size=(64, 6, 2))
    actions = base.mean + base.std * jnp.asarray(noise, jnp.float32)

    def pull(penalty_temperature: float) -> np.ndarray:
        duals = Duals(jnp.asarray(0.0), jnp.asarray(penalty_temperature), *[jnp.zeros(2)] * 2)

        def loss(shift: jax.Array) -> jax.Array:
            online = base._replace(mean=base.mean + shift)
            equal = jnp.zeros((64, 6))
            return _losses(duals=duals, online=online, target=base, actions=actions, returns=equal)[
                0
            ]

        return np.asarray(jax.grad(loss)(jnp.zeros(2)))

    # Returns are equal: what pulls inwards is the penalty, and more so at a low temperature.
    assert (pull(-2.0) > pull(100.0) + 0.1).all()


# --- The learner ---


def small(**changes: object) -> Hyperparameters:
    defaults = {
        "policy_layers": (32, 32),
        "critic_layers": (64, 64),
        "n_step": 1,
        "batch_size": 128,
    }
    return Hyperparameters(**{**defaults, **changes})  # type: ignore[arg-type]


def test_quadratic_bandit() -> None:
    """Reward -|a - c|²: the policy finds c, and its improvement keeps to the bound."""
    num = 32
    settings = small(
        lowest_return=-3.0,
        highest_return=0.5,
        policy_learning_rate=1e-3,
        critic_learning_rate=1e-3,
        batch_size=num,
    )
    learner = Learner(1, 2, settings)
    best = jnp.asarray([0.5, -0.7])

    def one(state: object, key: jax.Array) -> tuple[object, jax.Array]:
        act, own = jax.random.split(key)
        observation = jnp.zeros((num, 1))
        action = learner.act(state, observation, act)  # type: ignore[arg-type]
        reward = -jnp.sum((action - best) ** 2, axis=-1)
        batch = Transitions(observation, action, reward, jnp.zeros(num), observation)
        state, figures = learner.update(state, batch, own)  # type: ignore[arg-type]
        return state, figures["kl_improvement"]

    state = learner.init(jax.random.PRNGKey(0))
    keys = jax.random.split(jax.random.PRNGKey(1), 5000)
    run = jax.jit(functools.partial(jax.lax.scan, one), compiler_options=LONG)
    state, divergence = run(state, keys)
    np.testing.assert_allclose(learner.act_mean(state, jnp.zeros(1)), best, atol=0.1)
    assert float(divergence[-500:].mean()) == pytest.approx(0.1, rel=0.25)


def test_targets_are_hard_copies() -> None:
    learner = Learner(3, 2, small(target_period=3))
    state = learner.init(jax.random.PRNGKey(0))
    rng = np.random.default_rng(0)
    batch = Transitions(
        rng.normal(size=(128, 3)).astype(np.float32),
        rng.uniform(-1, 1, (128, 2)).astype(np.float32),
        rng.random(128).astype(np.float32),
        np.full(128, 0.99, np.float32),
        rng.normal(size=(128, 3)).astype(np.float32),
    )
    update = jax.jit(learner.update)

    def same(a: object, b: object) -> bool:
        leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        return all(bool((x == y).all()) for x, y in leaves)

    for step in range(1, 7):
        before = state
        state, _ = update(state, batch, jax.random.PRNGKey(step))
        assert same(state.target_policy, state.policy if step % 3 == 0 else before.target_policy)
        assert same(state.target_critic, state.critic if step % 3 == 0 else before.target_critic)
        assert not same(state.policy, before.policy)


def test_statistics_are_those_of_all_observations() -> None:
    data = np.random.default_rng(0).normal(3, [1, 10, 0], (50, 3)).astype(np.float32)
    statistics = Statistics.empty(3)
    for part in np.split(data, [1, 20, 37]):
        statistics = statistics.including(jnp.asarray(part))
    np.testing.assert_allclose(statistics.mean, data.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(statistics.squares / 50, data.var(axis=0), rtol=1e-3, atol=1e-4)
    seen = np.asarray(statistics.normalise(jnp.asarray(data)))
    np.testing.assert_allclose(seen.std(axis=0), [1, 1, 0], atol=1e-3)


def test_an_empty_support_is_refused() -> None:
    with pytest.raises(ValueError, match="lowest_return must be below highest_return"):
        Learner(1, 1, Hyperparameters(lowest_return=1.0, highest_return=1.0))


# --- The replay ---


def numbered(total: int, envs: int, first: int, seed: int) -> Step:
    """Steps (total, envs, ...) whose observations are numbers from `first` on."""
    rng = np.random.default_rng(seed)
    ended = (rng.random((total, envs)) < 0.3).astype(np.float32)
    failed = ended * (rng.random((total, envs)) < 0.5)
    number = first + np.arange(total * envs, dtype=np.float32).reshape(total, envs)
    reward = rng.random((total, envs)).astype(np.float32)
    return Step(
        number[..., None], number[..., None], reward, failed, ended, number[..., None] + 0.5
    )


def assert_n_step(
    batch: Transitions, steps: Step, first: int, n_step: int, discount: float
) -> None:
    """Beside a slow loop over every start within `numbered` steps."""
    total, envs = steps.reward.shape
    for k, start in enumerate(np.asarray(batch.observation)[:, 0].astype(int)):
        t, env = divmod(start - first, envs)
        reward, count = 0.0, 0
        while count < n_step and t + count < total:
            reward += discount**count * float(steps.reward[t + count, env])
            count += 1
            if steps.ended[t + count - 1, env]:
                break
        last = t + count - 1
        assert float(batch.reward[k]) == pytest.approx(reward, abs=1e-5)
        expected = discount**count * (1 - steps.failed[last, env])
        assert float(batch.discount[k]) == pytest.approx(expected, abs=1e-5)
        assert float(batch.next_observation[k, 0]) == steps.next_observation[last, env, 0]


def rows_of(tree: Any, rows: Any) -> Any:
    return jax.tree.map(lambda x: x[rows], tree)


def test_replay_gives_n_step_transitions() -> None:
    """Of a ring that has wrapped."""
    capacity, envs, total = 12, 2, 17
    steps = numbered(total, envs, 0, seed=0)
    replay = Replay.empty(capacity, envs, 1, 1)
    for i in range(total):
        replay = replay.insert(rows_of(steps, slice(i, i + 1)))
    batch = replay.sample(jax.random.PRNGKey(0), 500, 3, 0.9)
    starts = np.asarray(batch.observation)[:, 0].astype(int)
    assert set(starts) == set(range((total - capacity) * envs, total * envs))
    assert_n_step(batch, steps, 0, 3, 0.9)


def test_streams_join_no_two_actors_and_no_two_lives() -> None:
    """Of rings that fill at different rates, one of them wrapped; the other's actor dies."""
    capacity, envs, discount = 12, 2, 0.9
    ahead, before, after = (
        numbered(total, envs, 1000 * i, seed=i) for i, total in enumerate((18, 4, 3))
    )
    streams = Streams(2, capacity, envs, 1, 1)
    streams.insert(1, before)
    for i in range(0, 18, 3):
        streams.insert(0, rows_of(ahead, slice(i, i + 3)))
    streams.cut(1)
    streams.insert(1, after)
    batch = streams.sample(np.random.default_rng(0), 2000, 3, discount)
    starts = batch.observation[:, 0].astype(int)
    for i, (steps, kept) in enumerate(((ahead, capacity), (before, 4), (after, 3))):
        of = starts // 1000 == i
        first, last = 1000 * i + (len(steps.reward) - kept) * envs, steps.observation[-1, -1, 0]
        assert set(starts[of]) == set(range(first, int(last) + 1))
        assert_n_step(rows_of(batch, of), steps, 1000 * i, 3, discount)
        # Every step is as likely, whoever took it.
        assert of.mean() == pytest.approx(kept / (capacity + 4 + 3), abs=0.05)


# --- The drivers ---


@pytest.fixture(scope="module")
def pendulum() -> DMPO:
    settings = small(lowest_return=-300.0, highest_return=0.0, batch_size=64, n_step=3)
    model = DMPO(
        "MlpPolicy", "Pendulum-v1", settings, learning_starts=100, buffer_size=5000, seed=0
    )
    return model.learn(400)


def test_saved_and_loaded(pendulum: DMPO, tmp_path: Path) -> None:
    pendulum.save(tmp_path / "model")
    env = gymnasium.make("Pendulum-v1")
    loaded = DMPO.load(tmp_path / "model", env=env)
    observations = np.random.default_rng(0).normal(size=(5, 3))
    for deterministic in (True, False):
        one, other = (
            m.predict(observations, deterministic=deterministic)[0] for m in (pendulum, loaded)
        )
        np.testing.assert_array_equal(one, other)
    assert loaded.num_timesteps == 400
    assert env.action_space.contains(pendulum.predict(observations[0])[0])


def test_loading_needs_no_environment(pendulum: DMPO, tmp_path: Path) -> None:
    """It predicts without one, and learns on with one, as SB3's own algorithms do."""
    pendulum.save(tmp_path / "model")
    loaded = DMPO.load(tmp_path / "model")
    observations = np.random.default_rng(0).normal(size=(5, 3))
    one, other = (m.predict(observations, deterministic=True)[0] for m in (pendulum, loaded))
    np.testing.assert_array_equal(one, other)
    assert loaded.action_space == pendulum.action_space
    assert loaded.observation_space == pendulum.observation_space
    with pytest.raises(AssertionError, match="set the environment"):
        loaded.learn(10)
    with pytest.raises(ValueError, match="spaces do not match"):
        loaded.set_env(gymnasium.make("MountainCarContinuous-v0"))
    loaded.set_env(gymnasium.make("Pendulum-v1"))
    loaded.learn(120, reset_num_timesteps=False)
    assert loaded.num_timesteps >= 520


def test_a_model_of_other_sizes_is_refused(pendulum: DMPO, tmp_path: Path) -> None:
    pendulum.save(tmp_path / "model")
    with pytest.raises(ValueError, match="was trained on 3 observations and 1 actions"):
        DMPO.load(tmp_path / "model", env=gymnasium.make("MountainCarContinuous-v0"))
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a checkpoint"):
        DMPO.load(tmp_path / "other", env=gymnasium.make("Pendulum-v1"))


def test_sb3_transitions_bootstrap_at_time_limits_only() -> None:
    """A failure has discount 0; the end of time γⁿ, as many steps as there were."""

    class Short(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-9, 9, (1,))
        action_space = gymnasium.spaces.Box(-1, 1, (1,))
        episodes = 0

        def reset(self, *, seed: int | None = None, options: object = None) -> tuple:
            self.episodes += 1
            self.step_count = 0
            return np.zeros(1, np.float32), {}

        def step(self, action: object) -> tuple:
            self.step_count += 1
            over = self.step_count == 4
            odd = self.episodes % 2 == 1
            observation = np.full(1, self.step_count, np.float32)
            return observation, 1.0, over and odd, over and not odd, {}

    settings = small(n_step=3, discount=0.5, batch_size=256)
    model = DMPO("MlpPolicy", Short(), settings, learning_starts=1000, buffer_size=64, seed=0)
    model.learn(64)
    batch = transitions(model.replay_buffer.sample(256), 0.5)
    at_the_end = batch.next_observation[:, 0] == 4
    assert set(batch.discount[~at_the_end]) == {0.125}
    assert set(batch.discount[at_the_end]) == {0.0, 0.125, 0.25, 0.5}
    for discount in (0.5, 0.25, 0.125):
        rewards = batch.reward[at_the_end & (batch.discount == discount)]
        assert set(rewards) == {2 * (1 - discount)}


@pytest.fixture(scope="module")
def settings() -> Settings:
    return dmpo_settings(TASK)


def assert_refused(folder: Path, settings: Settings) -> None:
    """What the command says to a run that is not the folder's, which is the humanoid's."""

    def message(task: str, *more: str, **changes: Any) -> str:
        path = write_hyperparams(folder.parent, {**dataclasses.asdict(settings), **changes})
        return one_line(invoke(main, "--task", task, "--impl", "native", "--hyperparams", path,
                               "--out", folder, *more))  # fmt: skip

    mine, other = TASK, "vnl/RodentGoalReaching-v0"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert "unknown hyperparameters ['learning']" in message(mine, "--resume", learning=1)
    assert "is not empty" in message(mine)
    assert f"its task is '{mine}', not '{other}'" in message(other, "--resume")
    assert "its seed is 0, not 1" in message(mine, "--resume", "--seed", "1")
    assert "its hyperparameters: discount is" in message(mine, "--resume", discount=0.9)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


@pytest.fixture(scope="module")
def whole(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    training = Training(TASK, 0, "native", folder, False, settings)
    assert training(160)
    return training


def test_the_log_has_the_rewards_terms(settings: Settings, whole: Training) -> None:
    """Which add up to the rewards that the replay holds, but for those before learning."""
    steps, total = settings.warmup, 0.0
    for row in log_of(whole.run.folder):
        terms = sum(float(row[term_column(name)]) for name in whole.driver.task.reward_terms)
        steps, total = int(row["step"]), total + (int(row["step"]) - steps) * terms
    assert isinstance(whole.driver, OnDevice)
    rewards = whole.driver.run.replay.steps.reward
    before = settings.warmup // settings.num_envs
    assert total == pytest.approx(float(rewards[before:].sum()), rel=1e-4)
    assert total > 0


def test_actors_add_up_the_rewards_terms(settings: Settings) -> None:
    """Of steps that end an episode, too."""
    actor = Actor(TASK, settings.learner, 4, 200, None, {}, seed=0)
    steps, sums = actor.collect(None)
    assert sums["episodes"] > 0
    assert sums["steps"] == 800
    terms = sum(value for name, value in sums.items() if name.startswith(TERM))
    assert terms == pytest.approx(float(steps.reward.sum()), rel=1e-5)


def test_a_run_goes_on_without_its_replay(
    settings: Settings, whole: Training, tmp_path: Path
) -> None:
    """The learner as it was, new episodes, and a replay of steps with its own policy."""
    folder = tmp_path / "kept"
    shutil.copytree(whole.run.folder, folder)
    tree = read_tree(folder / CHECKPOINT)
    parts = {k: v for k, v in tree["state"].items() if k not in tree["renewed"]}
    assert set(parts) == {"learner", "key", "steps"}
    write_tree(folder / CHECKPOINT, {**tree, "state": parts})
    rest = Training(TASK, 0, "native", folder, True, settings)
    assert isinstance(rest.driver, OnDevice)
    assert_same(whole.driver.get_state()["learner"], rest.driver.get_state()["learner"])
    collected = -(-settings.warmup // settings.num_envs)
    assert rest.steps == whole.steps + collected * settings.num_envs
    replay, learner = rest.driver.run.replay, rest.driver.learner
    assert int(replay.filled) == collected
    seen, taken = (x[:collected] for x in (replay.steps.observation, replay.steps.action))
    gaussian = learner.distribution(rest.driver.state, seen)
    off = np.asarray((taken - gaussian.mean) / gaussian.std)[np.abs(taken) < 1]
    assert abs(off.std() - 1) < 0.2
    assert rest(rest.steps + 64)


def test_a_resumed_run_ends_as_an_uninterrupted_one(
    settings: Settings, whole: Training, tmp_path: Path
) -> None:
    def training(resume: bool = False) -> Training:
        return Training(TASK, 0, "native", tmp_path / "parts", resume, settings)

    first = training()
    assert first(96)
    rest = training(resume=True)
    assert rest.steps == 96
    assert rest(160)
    assert_same(whole.driver.get_state(), rest.driver.get_state())
    assert log_of(tmp_path / "parts") == log_of(whole.run.folder)
    with pytest.raises(ValueError, match="not empty"):
        training()
    assert_refused(tmp_path / "parts", settings)
    assert (tmp_path / "parts" / "policy.onnx").is_file()
    export_run(tmp_path / "parts", tmp_path / "newest.onnx")
    observations = np.random.default_rng(0).normal(size=(8, rest.driver.learner.observation_size))
    newest = OnnxPolicy.load(tmp_path / "newest.onnx")(observations)
    expected = rest.mean_action(observations.astype(np.float32))
    np.testing.assert_allclose(newest, expected, atol=1e-5)
