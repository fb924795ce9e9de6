"""The contract over every registered task, and what holds across the tasks of one body."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import vnl_envs
from vnl_envs.motion.clip import write_clips
from vnl_envs.registry import get_row
from vnl_envs.tasks import Escape, GoalReaching, Imitation, TwoTouch, Velocity
from vnl_envs.tasks.task import Carry, Episode, Task
from vnl_envs.testing import BodyContract, TaskContract
from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import (
    actions_of,
    single,
    vector,
)
from vnl_envs.testing.simulations import moved, turned

IDS = vnl_envs.task_ids()
BODIES = sorted({get_row(i).body for i in IDS})
# How deep a start may reach into the ground, m.
PENETRATION = {"rodent": 0.001, "humanoid": 0.005}


@pytest.mark.parametrize("task_id", IDS, scope="class")
class TestRegistered(TaskContract):
    """Every registered task."""

    module = "vnl_envs"

    @pytest.fixture(autouse=True)
    def _tolerance(self, task_id: str, tmp_path: Path) -> None:
        self.penetration = PENETRATION.get(get_row(task_id).body, 0.005)
        self.task_id, self.folder = task_id, tmp_path
        # `test_tasks.py` has the end of a clip.
        self.lasts_to_horizon = "Imitation" not in task_id

    def move_world(
        self, task: Task, episode: Episode, carry: Carry, shift: np.ndarray, yaw: float
    ) -> tuple[Task, Episode, Carry] | None:
        """Goals and clips move along; a corridor stays where it is."""
        if isinstance(task, Velocity):
            return task, episode, carry
        if isinstance(task, Escape):
            hills = carry["hills"].copy()
            hills[..., :2] = turned(hills[..., :2], yaw) + shift
            there = {**carry, "hills": hills, "origin": turned(carry["origin"], yaw) + shift}
            return task, episode, there
        if isinstance(task, TwoTouch):
            targets = episode["targets"].reshape(len(episode["yaw"]), -1, 2)
            targets = (turned(targets, yaw) + shift).reshape(episode["targets"].shape)
            there = {**carry, "target": turned(carry["target"], yaw) + shift}
            return task, {**episode, "targets": targets}, there
        if isinstance(task, GoalReaching):
            there = {**carry, "target": turned(carry["target"], yaw) + shift}
            return task, {**episode, "goals": turned(episode["goals"], yaw) + shift}, there
        if isinstance(task, Imitation):
            clips = [
                dataclasses.replace(c, qpos=moved(c.qpos, shift, yaw).astype(np.float32))
                for c in task.reference.clips
            ]
            path = self.folder / f"moved{len(list(self.folder.iterdir()))}.h5"
            write_clips(path, clips, task.body)
            return vnl_envs.make_task(self.task_id, clips=path, split="all"), episode, carry
        return None

    @pytest.mark.slow
    def test_spawned_async_vector(self, task_id: str) -> None:
        """It takes its time."""
        super().test_spawned_async_vector(task_id)

    def start_episodes(self, task: Task) -> Episode:
        """In imitation a start at every 5th frame of every clip."""
        if not isinstance(task, Imitation):
            return super().start_episodes(task)
        pairs = [(c, f) for c, clip in enumerate(task.reference.clips)
                 for f in range(0, len(clip) - 10, 5)]  # fmt: skip
        clip, start = np.array(pairs, np.int32).T
        noise = np.zeros((len(pairs), task.uniforms - 1), np.float32)
        return {"clip": clip, "start": start, "noise": noise}


@pytest.mark.parametrize("body", BODIES)
class TestBody(BodyContract):
    """Every body that has a task."""


def test_an_id_may_name_its_module() -> None:
    """`vnl_envs:` in front of an id imports the package first."""
    assert gymnasium.make(f"vnl_envs:{IDS[0]}").unwrapped.task.horizon > 0


def test_forked_child_exits_normally() -> None:
    """A child that leaves by `sys.exit`, with destructors, does not hang on lost threads."""
    code = f"""
import os, sys, gymnasium, vnl_envs
import numpy as np
env = gymnasium.make_vec({IDS[-1]!r}, num_envs=4, threads=2)
env.reset(seed=0)
zero = np.zeros(env.action_space.shape, np.float32)
env.step(zero)
child = os.fork()
if not child:
    env.step(zero)
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
env.step(zero)
print("fine")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                         check=False)  # fmt: skip
    assert run.stdout.strip() == "fine", run.stderr


def test_full_horizon_of_a_standing_body() -> None:
    """An unmodified episode is truncated at exactly its horizon."""
    standing = [i for i in IDS if "Rodent" in i and "Imitation" not in i]
    env = single(standing[-1])
    env.reset(seed=0)
    zero = np.zeros(env.action_space.shape, np.float32)
    ends = [env.step(zero)[2:4] for _ in range(env.unwrapped.task.horizon)]
    assert not any(any(e) for e in ends[:-1])
    assert ends[-1] == (False, True)


@pytest.mark.parametrize("task_id", [i for i in IDS if "Rodent" in i])
@pytest.mark.parametrize("mode", AutoresetMode)
def test_max_episode_steps(task_id: str, mode: AutoresetMode) -> None:
    """`make_vec` takes it as `make` does: the same bits as Gymnasium's own vector of those."""
    ours, theirs = (
        gymnasium.make_vec(task_id, num_envs=3, max_episode_steps=4, **more)
        for more in (
            {"autoreset_mode": mode},
            {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": mode}},
        )
    )
    assert ours.spec.kwargs["max_episode_steps"] == 4
    assert ours.unwrapped.env_hash == gymnasium.make(task_id).unwrapped.env_hash
    assert_same(ours.reset(seed=2), theirs.reset(seed=2))
    truncated = 0
    for step, action in enumerate(actions_of(ours.task, 12, 3, size=0.1)):
        if step == 2:
            ours = pickle.loads(pickle.dumps(ours))
        result, expected = ours.step(action), theirs.step(action)
        assert_same(result, expected, f"step {step}")
        truncated += result[3].sum()
        done = result[2] | result[3]
        if mode == AutoresetMode.DISABLED and done.any():
            again = [e.reset(options={"reset_mask": done.copy()}) for e in (ours, theirs)]
            assert_same(*again)
    assert truncated


def test_vector_closes_twice() -> None:
    """Closing is harmless to repeat."""
    env = vector(IDS[-1], 2)
    env.reset(seed=0)
    env.step(actions_of(env.task, 1, 2)[0])
    env.close()
    env.close()
