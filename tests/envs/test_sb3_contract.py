"""`SB3VecEnv` keeps the contract of SB3's `VecEnv`: what `DummyVecEnv` of the same id does."""

from __future__ import annotations

import copy
import functools
import pickle
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest

import vnl_envs
from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import actions_of, task_of

sb3 = pytest.importorskip("stable_baselines3")
from stable_baselines3.common.evaluation import evaluate_policy  # noqa: E402
from stable_baselines3.common.monitor import Monitor  # noqa: E402
from stable_baselines3.common.vec_env import (  # noqa: E402
    DummyVecEnv,
    VecCheckNan,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

IDS = ("vnl/RodentImitation-v0", "vnl/RodentJumpGap-v0", "vnl/HumanoidGoalReaching-v0")
JUMP = IDS[1]
NUM = 3


def pair(task_id: str, num: int = NUM, **arguments: Any) -> tuple[VecEnv, VecEnv]:
    """Ours and the reference, which is what SB3's `make_vec_env` makes."""
    make = functools.partial(gymnasium.make, task_id, disable_env_checker=True, **arguments)
    theirs = DummyVecEnv([lambda: Monitor(make())] * num)
    return vnl_envs.SB3VecEnv(task_id, num, **arguments), theirs


def timeless(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Infos without the seconds that episodes took."""
    infos = copy.deepcopy(infos)
    for info in infos:
        info.get("episode", {}).pop("t", None)
    return infos


def assert_same_step(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> np.ndarray:
    """Ours is the reference's, but for the infos of episodes that go on; return the ends."""
    assert_same(ours[:3], theirs[:3])
    for own, info in zip(timeless(ours[3]), timeless(theirs[3]), strict=True):
        own_flag, flag = own["TimeLimit.truncated"], info["TimeLimit.truncated"]
        assert (type(own_flag), own_flag) == (bool, flag)
        if "episode" in info:
            assert_same(own, info)
        else:
            assert set(own) == {"TimeLimit.truncated"}
    return ours[2]


@pytest.mark.parametrize("observation", ["flat", "dict"])
@pytest.mark.parametrize("task_id", IDS)
def test_every_call_gives_what_dummy_vec_env_gives(task_id: str, observation: str) -> None:
    """Spaces, seeds, episodes and their ends, options, attributes and methods by index."""
    ours, theirs = both = pair(task_id, observation=observation)
    for name in ("num_envs", "observation_space", "action_space", "render_mode", "metadata"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.seed(3) == theirs.seed(3)
    assert_same(*(env.reset() for env in both))
    assert_same(*(env.reset_infos for env in both))
    ends = 0
    for i, action in enumerate(actions_of(task_of(task_id), 70, NUM)):
        if i % 2:
            results = [env.step(action) for env in both]
        else:
            for env in both:
                env.step_async(action)
            results = [env.step_wait() for env in both]
        ends += assert_same_step(*results).sum()
        assert_same(*(env.reset_infos for env in both))
    assert ends

    for name in ("observation_space", "action_space", "render_mode", "dt", "layout", "env_hash",
                 "np_random_seed", "episode", "metadata"):  # fmt: skip
        for indices in (None, 1, [2, 0], range(1)):
            assert_same(ours.get_attr(name, indices), theirs.get_attr(name, indices), name)
    for name in ("id", "entry_point", "kwargs", "max_episode_steps"):
        assert [getattr(s, name) for s in ours.get_attr("spec")] == [
            getattr(s, name) for s in theirs.get_attr("spec")
        ]
    assert ours.has_attr("dt")
    assert not ours.has_attr("nothing_such")

    # The generators that are in use.
    states = [[rng.bit_generator.state for rng in env.get_attr("np_random")] for env in both]
    assert_same(*states)
    for env in both:
        env.get_attr("np_random")[1].random(7)
    assert_same(*(env.env_method("reset", indices=[1]) for env in both))
    assert_same(*(env.env_method("reset", seed=9, indices=2) for env in both))
    assert_same(*(env.env_method("get_state", indices=0) for env in both))
    assert_same(*(env.step(np.zeros((NUM, *env.action_space.shape)))[0] for env in both))

    # Options and seeds are used once, each by its own environment.
    episode = ours.get_attr("episode")[1]
    for options in ({"episode": episode}, [{}, {"episode": episode}, {}], None):
        for env in both:
            env.seed(5)
            env.set_options(options)
        assert_same(*(env.reset() for env in both))
        assert_same(*(env.get_attr("episode") for env in both))
        assert_same(*(env.reset() for env in both))

    for env in both:
        env.set_attr("note", "all")
        env.set_attr("note", "one", indices=[1])
        assert env.get_attr("note") == ["all", "one", "all"]
        assert env.env_is_wrapped(Monitor, indices=[0, 2]) == [True, True]
        assert env.env_is_wrapped(gymnasium.wrappers.TimeAwareObservation) == [False] * NUM
        env.close()


def test_states_go_to_and_from_a_single_environment() -> None:
    """A member's state is a single environment's, and only that member takes it."""
    env, single = vnl_envs.SB3VecEnv(JUMP, NUM), vnl_envs.SingleEnv(JUMP)
    env.seed(1)
    before = env.reset()
    single.reset(seed=50)
    env.env_method("set_state", single.get_state(), indices=[1])
    action = np.zeros((NUM, *env.action_space.shape), np.float32)
    twin = vnl_envs.SB3VecEnv(JUMP, NUM)
    twin.seed(1)
    assert_same(twin.reset(), before)
    observed, expected = env.step(action)[0], twin.step(action)[0]
    assert_same(observed[[0, 2]], expected[[0, 2]])
    assert_same(observed[1], single.step(action[1])[0])
    with pytest.raises(ValueError, match="a state has the parts"):
        env.env_method("set_state", {"physics": 0}, indices=[1])
    with pytest.raises(ValueError, match="of another task"):
        env.env_method("set_state", vnl_envs.SingleEnv(IDS[2]).get_state(), indices=[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"no such option": 1}, "'episode' only"),
        ([{}], "1 for 3 environments"),
        (["episode", {}, {}], "must be a dictionary"),
        ({"episode": {"x": 1}}, "has the parts"),
        ([{"episode": {"x": 1}}, {"episode": {"y": 1}}, {}], "the same parts"),
    ],
)
def test_options_that_there_are_not(options: Any, message: str) -> None:
    """They are refused where they are given, and the next reset does not know of them."""
    env = vnl_envs.SB3VecEnv(JUMP, NUM)
    with pytest.raises(ValueError, match=message):
        env.set_options(options)
    env.reset()


def test_misuse() -> None:
    """One line each."""
    env = vnl_envs.SB3VecEnv(JUMP, NUM)
    env.reset()
    with pytest.raises(RuntimeError, match="step_async"):
        env.step_wait()
    with pytest.raises(AttributeError, match="no attribute 'nothing_such'"):
        env.env_method("nothing_such")
    with pytest.raises(ValueError, match="'episode' only"):
        env.env_method("reset", options={"reset_mask": np.ones(NUM, bool)}, indices=[0])
    with pytest.raises(ValueError, match="have the parts"):
        env.env_method("reset", options={"episode": "walk"}, indices=[0])
    with pytest.raises(IndexError):
        env.get_attr("dt", NUM)


def test_time_limit() -> None:
    """Given as Gymnasium does, it truncates."""
    both = pair(JUMP, max_episode_steps=3)
    for env in both:
        env.seed(0)
        env.reset()
    action = np.zeros((NUM, *both[0].action_space.shape), np.float32)
    ends = [assert_same_step(*(env.step(action) for env in both)).all() for _ in range(4)]
    assert ends == [False, False, True, False]
    assert [s.max_episode_steps for s in both[0].get_attr("spec")] == [3] * NUM


def test_global_seed_decides_unseeded_environments() -> None:
    """`seed(None)` draws from NumPy's global generator, as SB3's own do."""
    seeds = []
    for env in pair(JUMP):
        np.random.seed(3)  # noqa: NPY002
        seeds.append(env.seed())
    assert seeds[0] == seeds[1]


@pytest.mark.usefixtures("gl")
def test_pictures_by_environment() -> None:
    """`render` tiles the pictures; without a mode both warn and give none."""
    both = pair(JUMP, 2, render_mode="rgb_array", width=48, height=32)
    for env in both:
        env.seed(0)
        env.reset()
    assert_same(*(env.get_images() for env in both))
    assert_same(*(env.render() for env in both))
    assert_same(*(env.env_method("render", indices=[1]) for env in both))
    for env in both:
        env.close()
    for env in pair(JUMP, 2):
        with pytest.warns(UserWarning, match="render"):
            assert env.get_images() == [None, None]
        with pytest.warns(UserWarning, match="render_mode"):
            assert env.render() is None


def test_episode_statistics_are_logged_without_a_wrapper() -> None:
    """`ep_rew_mean` is there, and once only where `VecMonitor` is used as well."""
    env = vnl_envs.SB3VecEnv(JUMP, 4)
    model = sb3.PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, seed=0, device="cpu",
                    policy_kwargs={"net_arch": [8]})  # fmt: skip
    model.learn(256)
    assert len(model.ep_info_buffer) > 3
    assert {"r", "l", "t"} == set(model.ep_info_buffer[0])

    with pytest.warns(UserWarning, match="already wrapped"):
        monitored = VecMonitor(vnl_envs.SB3VecEnv(JUMP, 4))
    plain = vnl_envs.SB3VecEnv(JUMP, 4)
    for each in (monitored, plain):
        each.seed(0)
        each.reset()
    for action in actions_of(task_of(JUMP), 80, 4):
        theirs, ours = monitored.step(action)[3], plain.step(action)[3]
        for info, own in zip(theirs, ours, strict=True):
            assert ("episode" in info) == ("episode" in own)
            if "episode" in own:
                assert info["episode"]["l"] == own["episode"]["l"]
                np.testing.assert_allclose(info["episode"]["r"], own["episode"]["r"], atol=1e-4)


def test_evaluation_through_normalisation_reports_plain_rewards() -> None:
    """SB3's `evaluate_policy` takes returns from the infos, without a warning."""
    env = VecNormalize(vnl_envs.SB3VecEnv(JUMP, 2))
    model = sb3.PPO("MlpPolicy", env, n_steps=32, batch_size=64, device="cpu",
                    policy_kwargs={"net_arch": [8]})  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rewards, lengths = evaluate_policy(model, env, 4, return_episode_rewards=True)
    assert all(0 <= r <= n for r, n in zip(rewards, lengths, strict=True))


def test_wrappers_and_copies() -> None:
    """SB3's wrappers take it, and a pickle goes on as the original does."""
    env = vnl_envs.SB3VecEnv(JUMP, 2)
    env.seed(2)
    wrapped = VecFrameStack(VecCheckNan(env, raise_exception=True), 2)
    assert wrapped.reset().shape == (2, 2 * env.observation_space.shape[0])
    action = np.zeros((2, *env.action_space.shape), np.float32)
    wrapped.step(action)
    twin = pickle.loads(pickle.dumps(env))
    assert twin.envs[0]._env is twin.env
    assert_same(env.step(action)[0], twin.step(action)[0])
