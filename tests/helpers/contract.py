"""The contract that every registered task keeps, as tests to inherit.

A lab that registers its own body or task tests it with

    class TestMine(TaskContract):
        @pytest.fixture(params=["lab/MouseGoalReaching-v0"], scope="class")
        def task_id(self, request):
            return request.param

`move_world` may be overridden to say what turning and shifting the world does to an episode.
"""

from __future__ import annotations

import copy
import functools
import pickle
import warnings
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from support import (
    STATE,
    actions_of,
    assert_same,
    edit_physics,
    episode_of,
    flat,
    forward,
    in_fork,
    moved,
    physics_at,
    physics_of,
    row_of,
    rows,
    run_single,
    run_vector,
    single,
    task_of,
    turned,
    vector,
)

from vnl_envs.tasks.metrics import STANDARD
from vnl_envs.tasks.task import Task

NUM = 64
STEPS = 60


@functools.lru_cache(maxsize=1)
def rollout(task_id: str) -> list[tuple[Any, ...]]:
    """Random actions in 64 environments on 2 threads, with auto-resets."""
    env = vector(task_id, NUM, threads=2)
    return run_vector(env, actions_of(env.task, STEPS, NUM), seed=11)


def sync(task_id: str, num: int, mode: AutoresetMode) -> SyncVectorEnv:
    """Gymnasium's own vector of our single environments: the reference for ours."""
    make = functools.partial(gymnasium.make, task_id, disable_env_checker=True)
    return SyncVectorEnv([make] * num, autoreset_mode=mode)


class TaskContract:
    """Checks of one task; a fixture `task_id` names it."""

    penetration = 0.005
    """How deep a start may reach into the ground, m."""

    bounded = True
    """Whether the reward lies in [0, 1]."""

    lasts_to_horizon = True
    """Whether time alone truncates an episode."""

    def move_world(
        self, task: Task, episode: dict, carry: dict, shift: np.ndarray, yaw: float
    ) -> tuple[Task, dict, dict] | None:
        """The task, episodes and carries of a world turned by yaw and shifted by (x, y) m.

        None where the scenery cannot move: then only the body's own observations are compared.
        """
        return None

    # Spaces and ranges

    def test_gymnasium_checker(self, task_id: str) -> None:
        """Gymnasium's checker passes; only infinite bounds may be remarked on."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_env(single(task_id).unwrapped, skip_render_check=True)
        remarks = [str(w.message) for w in caught if "infinity" not in str(w.message)]
        assert remarks == []

    def test_sb3_checker(self, task_id: str) -> None:
        """So does that of Stable-Baselines3."""
        checker = pytest.importorskip("stable_baselines3.common.env_checker")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            checker.check_env(single(task_id), warn=True)
        remarks = [str(w.message) for w in caught if "infinity" not in str(w.message)]
        assert remarks == []

    def test_spaces(self, task_id: str) -> None:
        """Flat float32 observations with a complete layout, actions in [-1, 1]."""
        env, task = single(task_id).unwrapped, task_of(task_id)
        assert env.action_space == gymnasium.spaces.Box(-1, 1, (task.body.nu,), np.float32)
        space = env.observation_space
        assert (space.dtype, len(space.shape)) == (np.float32, 1)
        stops = [0, *(s.stop for s in env.layout.values())]
        assert [s.start for s in env.layout.values()] == stops[:-1]
        assert stops[-1] == space.shape[0]
        groups = [name.split("/")[0] for name in env.layout]
        assert set(groups) == {"proprioception", "task"}
        assert groups == sorted(groups)

    def test_dict_observation_holds_the_flat_one(self, task_id: str) -> None:
        """`observation="dict"` gives the same numbers by group."""
        env = gymnasium.make(task_id, observation="dict", disable_env_checker=True)
        observed, _ = env.reset(seed=3)
        assert observed in env.observation_space
        assert list(observed) == ["proprioception", "task"]
        expected, _ = single(task_id).reset(seed=3)
        assert_same(np.concatenate(list(observed.values())), expected)

    def test_ranges(self, task_id: str) -> None:
        """Finite observations, rewards in [0, 1] that are the sum of their terms."""
        task = task_of(task_id)
        space = vector(task_id, NUM).observation_space
        for result in rollout(task_id):
            assert result[0] in space
            assert np.isfinite(result[0]).all()
        for _, reward, terminated, truncated, infos in rollout(task_id)[1:]:
            assert reward.dtype == np.float64
            if self.bounded:
                assert ((reward >= 0) & (reward <= 1 + 1e-12)).all()
            assert not (terminated & truncated).any()
            for i in range(NUM):
                info = row_of(infos, i)
                info = info.get("final_info", info)
                assert set(info["reward_terms"]) == set(task.reward_terms)
                np.testing.assert_allclose(sum(info["reward_terms"].values()), reward[i], atol=1e-9)

    def test_rollout_ends_episodes(self, task_id: str) -> None:
        """The rollout that other checks rest on does contain ends of episodes."""
        assert sum((r[2] | r[3]).sum() for r in rollout(task_id)[1:]) > 0

    def test_metrics_are_declared(self, task_id: str) -> None:
        """Every metric in `info` is declared with a unit, and the standard two are right."""
        task, env = task_of(task_id), single(task_id)
        env.reset(seed=0)
        total = 0.0
        for steps, action in enumerate(actions_of(task, 5, 1)[:, 0], 1):
            _, reward, terminated, truncated, info = env.step(action)
            total += reward
            assert set(info["metrics"]) == {"return", "length", *(m.name for m in task.metrics)}
            np.testing.assert_allclose(info["metrics"]["return"], total, atol=1e-9)
            assert info["metrics"]["length"] == steps
            for metric in STANDARD + task.metrics:
                value = info["metrics"][metric.name]
                assert not np.isfinite(value) or metric.range[0] <= value <= metric.range[1]
            if terminated or truncated:
                break
        for metric in task.metrics:
            assert metric.unit
            assert metric.reduce in ("mean", "sum", "max", "last")
            assert metric.direction in ("higher", "lower")

    # Determinism

    def test_thread_count_changes_no_bit(self, task_id: str) -> None:
        """One thread gives what two give."""
        env = vector(task_id, NUM, threads=1)
        assert_same(run_vector(env, actions_of(env.task, STEPS, NUM), seed=11), rollout(task_id))

    @pytest.mark.parametrize("index", [0, 37, NUM - 1])
    def test_vector_row_is_the_single_environment(self, task_id: str, index: int) -> None:
        """Environment i of 64 is the single one seeded seed + i, infos and auto-resets included."""
        actions = actions_of(task_of(task_id), STEPS, NUM)[:, index]
        alone = run_single(single(task_id), actions, seed=11 + index)
        for step, (ours, theirs) in enumerate(zip(rollout(task_id), alone, strict=True)):
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
        env = vector(task_id, 1)
        results = run_vector(env, actions_of(env.task, STEPS, NUM)[:, :1], seed=11)
        for ours, theirs in zip(results, rollout(task_id), strict=True):
            for part in range(len(ours) - 1):
                assert_same(ours[part][0], theirs[part][0])
            assert_same(row_of(ours[-1], 0), row_of(theirs[-1], 0))

    @pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda m: m.name)
    def test_autoreset_as_gymnasium_does_it(self, task_id: str, mode: AutoresetMode) -> None:
        """Each autoreset mode gives what `SyncVectorEnv` gives over our single environments."""
        num = 4
        ours, theirs = vector(task_id, num, autoreset_mode=mode), sync(task_id, num, mode)
        assert ours.metadata["autoreset_mode"] == mode
        assert_same(ours.reset(seed=5), theirs.reset(seed=5))
        for step, action in enumerate(actions_of(ours.task, STEPS, num, seed=1)):
            result, expected = ours.step(action), theirs.step(action)
            assert_same(list(result[:4]), list(expected[:4]), f"step {step}")
            assert_same(result[4], expected[4], f"step {step} infos")
            done = result[2] | result[3]
            if mode == AutoresetMode.DISABLED and done.any():
                again = [e.reset(options={"reset_mask": done.copy()}) for e in (ours, theirs)]
                assert_same(*again)

    def test_disabled_autoreset_asks_for_a_reset(self, task_id: str) -> None:
        """Stepping a finished environment is refused, and a masked reset mends it."""
        env = vector(task_id, 3, autoreset_mode=AutoresetMode.DISABLED)
        env.reset(seed=0)
        for action in actions_of(env.task, 200, 3):
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

    # State

    def test_set_state_continues_bit_for_bit(self, task_id: str) -> None:
        """From `get_state` on everything repeats, episodes drawn later included."""
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

    @pytest.mark.parametrize("duplicate", [lambda e: pickle.loads(pickle.dumps(e)), copy.deepcopy],
                             ids=["pickle", "deepcopy"])  # fmt: skip
    def test_copies_continue_bit_for_bit(self, task_id: str, duplicate: Any) -> None:
        """A copy in mid-episode goes on as the original does, generator included."""
        env = gymnasium.make(task_id)
        actions = actions_of(task_of(task_id), 40, 1)[:, 0]
        run_single(env, actions[:5], seed=4)
        twin = duplicate(env)
        assert twin.unwrapped.spec == env.unwrapped.spec
        outcomes = []
        for each in (env, twin):
            results = []
            for action in actions[5:]:
                results.append(each.step(action))
                if results[-1][2] or results[-1][3]:
                    results.append(each.reset())
            outcomes.append(results)
        assert_same(*outcomes)

    def test_pickled_vector(self, task_id: str) -> None:
        """The vector environment too."""
        env = vector(task_id, 3)
        actions = actions_of(env.task, 30, 3)
        run_vector(env, actions[:5], seed=2)
        twin = pickle.loads(pickle.dumps(env))
        assert_same([env.step(a) for a in actions[5:]], [twin.step(a) for a in actions[5:]])

    def test_episode_replays(self, task_id: str) -> None:
        """An episode given to `reset` is the same again, also after others."""
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
        """The same seed is the same episode; without a seed the next one differs."""
        env = single(task_id)
        env.reset(seed=1)
        one = env.unwrapped.episode
        env.reset()
        two = env.unwrapped.episode
        env.reset(seed=1)
        assert_same(env.unwrapped.episode, one)
        assert any(not np.array_equal(one[k], two[k]) for k in one)

    # Episodes

    def test_starts_are_sound(self, task_id: str) -> None:
        """No start is terminated already or reaches into the ground."""
        task = task_of(task_id)
        episode = self.start_episodes(task)
        start, carry = task.begin(episode)
        states = []
        for i in range(len(start.qpos)):
            mocap = None if start.mocap_pos is None else start.mocap_pos[i]
            data = forward(task, start.qpos[i], start.qvel[i], start.act[i], mocap)
            depth = -min(data.contact.dist, default=0.0)
            assert depth < self.penetration, f"start {rows(episode, i)} is {depth:.4f} m deep"
            states.append(physics_of(task, data))
            physics = states[-1]
            idle = np.zeros((1, task.body.nu), np.float32)
            one = slice(i, i + 1)
            _, outcome = task.evaluate(physics, idle, rows(episode, one), rows(carry, one))
            assert not outcome.terminated[0], f"start {rows(episode, i)} is terminated"

    def start_episodes(self, task: Task) -> dict[str, np.ndarray]:
        """Episodes whose starts are checked."""
        return episode_of(task, 100)

    def test_uniforms_at_their_ends(self, task_id: str) -> None:
        """Uniform numbers of 0 and of 1 (a float32 cast can round up to it) make sound episodes."""
        task = task_of(task_id)
        u = np.stack([np.full(task.uniforms, x, np.float32) for x in (0, 1 - 2**-24, 1)])
        start, _ = task.begin({k: np.asarray(v) for k, v in task.episode(u).items()})
        assert np.isfinite(start.qpos).all()

    def test_horizon_truncates(self, task_id: str) -> None:
        """Step `horizon` truncates, and the one before does not."""
        if not self.lasts_to_horizon:
            pytest.skip("its episodes end with their data")
        task, env = task_of(task_id), single(task_id)
        env.reset(seed=0)
        state = env.unwrapped.get_state()
        state["carry"]["step"][:] = task.horizon - 3
        env.unwrapped.set_state(state)
        zero = np.zeros(task.body.nu, np.float32)
        assert [env.step(zero)[2:4] for _ in range(3)][1:] == [(False, False), (False, True)]
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(zero)
        env.reset()
        env.step(zero)

    # Frames of reference

    def test_nothing_observed_depends_on_the_world_frame(self, task_id: str) -> None:
        """Turning and shifting the world changes no observation."""
        env = vector(task_id, 8)
        task = env.task
        *_, last = run_vector(env, actions_of(task, 6, 8, size=0.5), seed=3)
        # A start may rest on the ground to the last bit, where touch is a matter of rounding.
        on = np.flatnonzero(~(last[2] | last[3]))
        assert len(on)
        state = physics_of(task, *(env.data(i) for i in on))
        episode, carry = rows(env.episodes, on), rows(env.carries, on)
        for shift, yaw in ((np.array([3.0, -2.0]), 2.5), (np.array([-0.3, 0.7]), -1.0)):
            qpos = moved(state.qpos, shift, yaw)
            qvel = state.qvel.copy()
            qvel[:, :2] = turned(qvel[:, :2], yaw)
            there = self.move_world(task, episode, carry, shift, yaw)
            if there is None:
                # In the air, where no scenery is near.
                here = physics_at(task, *self._lifted(state.qpos, state.qvel, state.act))
                away = physics_at(task, *self._lifted(qpos, qvel, state.act))
                one = task.observe(here, episode, carry)["proprioception"]
                two = task.observe(away, episode, carry)["proprioception"]
                for name in one:
                    np.testing.assert_allclose(two[name], one[name], atol=1e-7, err_msg=name)
                continue
            away = physics_at(task, qpos, qvel, state.act)
            one = task.observe(state, episode, carry)
            two = there[0].observe(away, there[1], there[2])
            for group in one:
                for name in one[group]:
                    np.testing.assert_allclose(
                        two[group][name], one[group][name], atol=2e-5, err_msg=f"{group}/{name}"
                    )

    @staticmethod
    def _lifted(qpos: np.ndarray, qvel: np.ndarray, act: np.ndarray) -> tuple[np.ndarray, ...]:
        qpos = qpos.copy()
        qpos[:, 2] += 5.0
        return qpos, qvel, act

    # Physics

    def test_observations_are_of_the_same_instant(self, task_id: str) -> None:
        """After a step, all that is observed follows from the current qpos and qvel."""
        env = vector(task_id, 4)
        task = env.task
        actions = actions_of(task, 15, 4, size=0.5)
        observed = run_vector(env, actions, seed=6)[-1][0]
        datas = []
        for i in range(4):
            snapshot = env.data(i)
            data = forward(task, snapshot.qpos[task.body.qpos], snapshot.qvel[task.body.qvel],
                           snapshot.act[task.body.act], snapshot.mocap_pos)  # fmt: skip
            for name in ("xpos", "xquat", "geom_xpos", "geom_xmat", "xipos"):
                # A mocap body that was moved after the step is not compared by this.
                np.testing.assert_allclose(
                    getattr(snapshot, name), getattr(data, name), atol=1e-9, err_msg=name
                )
            datas.append(data)
        expected = flat(task.observe(physics_of(task, *datas), env.episodes, env.carries))
        np.testing.assert_allclose(observed, expected, rtol=1e-5, atol=1e-5)

    def test_step_is_the_bare_physics(self, task_id: str) -> None:
        """A control step gives the bits of `mj_setState`, the action's control and `mj_step`."""
        env = vector(task_id, 3)
        task = env.task
        env.reset(seed=7)
        for action in actions_of(task, 25, 3, size=0.6):
            before = env.get_state()
            result = env.step(action)
            after = env.get_state()["physics"]
            for i in np.flatnonzero(~(result[2] | result[3])):
                data = mujoco.MjData(env.model)
                mujoco.mj_setState(env.model, data, before["physics"][i], STATE)
                placed = task.place(
                    rows(before["episode"], slice(i, i + 1)), rows(before["carry"], slice(i, i + 1))
                ).mocap_pos
                if placed is not None:
                    data.mocap_pos[:] = placed[0]
                data.ctrl[task.body.ctrl] = task.body.control(action[i])
                mujoco.mj_step(env.model, data, task.world.substeps)
                expected = np.empty_like(after[i])
                mujoco.mj_getState(env.model, data, expected, STATE)
                np.testing.assert_array_equal(after[i], expected)

    def test_snapshot_is_read_only(self, task_id: str) -> None:
        """Writing to `data` changes nothing."""
        env = single(task_id)
        env.reset(seed=0)
        before = env.unwrapped.get_state()["physics"]
        env.unwrapped.data.qpos[:] = 7.0
        assert_same(env.unwrapped.get_state()["physics"], before)

    def test_divergence_is_an_outcome(self, task_id: str) -> None:
        """A diverged simulation ends its episode without reward and leaves the others alone."""
        num, lost = 4, 2
        calm, wild = vector(task_id, num), vector(task_id, num)
        actions = actions_of(calm.task, 6, num, size=0.2)
        for env in (calm, wild):
            run_vector(env, actions[:3], seed=1)
        last = wild.step(actions[3])[0][lost]
        calm.step(actions[3])
        edit_physics(wild, lambda data: data.qvel.__setitem__(slice(None), 1e12), lost)
        ours, theirs = wild.step(actions[4]), calm.step(actions[4])
        final = row_of(ours[4], lost)
        assert ours[2][lost]
        assert not ours[3][lost]
        assert ours[1][lost] == 0.0
        assert final["final_info"]["diverged"]
        assert not final["final_info"]["is_success"]
        assert all(v == 0 for v in final["final_info"]["reward_terms"].values())
        assert_same(final["final_obs"], last)
        assert np.isfinite(ours[0]).all()
        others = np.arange(num) != lost
        for part in range(4):
            assert_same(ours[part][others], theirs[part][others])
        for i in np.flatnonzero(others):
            assert_same(row_of(ours[4], i), row_of(theirs[4], i))
        assert_same(wild.step(actions[5])[0][others], calm.step(actions[5])[0][others])

    # Processes

    def test_fork(self, task_id: str) -> None:
        """A forked child steps on as the parent does."""
        env = vector(task_id, 8, threads=2)
        actions = actions_of(env.task, 8, 8)
        run_vector(env, actions[:3], seed=0)
        theirs = in_fork(lambda: [env.step(a)[:4] for a in actions[3:]])
        assert_same(theirs, [env.step(a)[:4] for a in actions[3:]])

    def test_async_vector(self, task_id: str) -> None:
        """Gymnasium's process-per-environment vector gives what its sequential one gives."""
        self.async_matches_sync(task_id, "fork")

    @pytest.mark.slow
    def test_spawned_async_vector(self, task_id: str) -> None:
        """Also with freshly started interpreters."""
        self.async_matches_sync(task_id, "spawn")

    def async_matches_sync(self, task_id: str, context: str) -> None:
        """Compare the two."""
        make = functools.partial(gymnasium.make, f"vnl_envs:{task_id}")
        many = gymnasium.vector.AsyncVectorEnv([make] * 2, context=context)
        try:
            actions = actions_of(task_of(task_id), 20, 2)
            ours = run_vector(many, actions, seed=0)
        finally:
            many.close(timeout=30)
        theirs = run_vector(sync(task_id, 2, AutoresetMode.NEXT_STEP), actions, seed=0)
        assert_same(ours, theirs)
