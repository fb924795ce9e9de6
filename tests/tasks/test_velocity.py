"""Commanded velocity: what is commanded, what is earned, and by what it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_tasks import drive

import vnl_envs
from vnl_envs.tasks import Velocity
from vnl_envs.testing.environments import episode_of, task_of
from vnl_envs.testing.simulations import physics_at

IDS = [i for i in vnl_envs.task_ids() if "Velocity" in i]


def commanded(task: Velocity, episode: dict[str, np.ndarray]) -> np.ndarray:
    """The command of every control step, (horizon, n, 3)."""
    num = len(episode["yaw"])
    return np.array([task.command(episode, np.full(num, i)) for i in range(task.horizon)])


def moving(task: Velocity, velocity: np.ndarray, yaw: float = 0.7) -> Any:
    """The standing pose at a velocity (forward, left, yaw rate) of its own heading, one row."""
    zero = np.zeros(1)
    qpos = task.standing_start((1,), zero, zero, np.array([yaw])).qpos
    qvel = np.zeros((1, task.body.nv))
    # The heading of the standing pose is its yaw to a hundredth of a radian.
    own = physics_at(task, qpos)
    turn = own.xmat[0, 0].reshape(3, 3)
    forward = (turn @ task.body.ego)[:2, 0]
    forward /= np.linalg.norm(forward)
    left = np.array([-forward[1], forward[0]])
    qvel[0, :2] = velocity[0] * forward + velocity[1] * left
    qvel[0, 3:6] = turn.T @ np.array([0.0, 0.0, velocity[2]])
    return physics_at(task, qpos, qvel)


def constant(task: Velocity, command: Any) -> dict[str, np.ndarray]:
    """An episode with one command."""
    episode = episode_of(task, 1)
    count = len(episode["ends"][0])
    return {**episode, "commands": np.tile(np.asarray(command, np.float32), count)[None]}


@pytest.mark.parametrize("task_id", IDS)
def test_commands_are_as_declared(task_id: str) -> None:
    """In range, one in ten to stand, held for 2 to 6 s, and enough of them for the horizon."""
    task = task_of(task_id)
    episode = episode_of(task, 300)
    commands = episode["commands"].reshape(300, -1, 3)
    low = np.array([0, -task.sideways, -task.turning])
    high = np.array([task.forward, task.sideways, task.turning])
    assert (commands >= low - 1e-6).all()
    assert (commands <= high + 1e-6).all()
    still = (commands == 0).all(axis=-1)
    assert 0.08 < still.mean() < 0.12
    assert commands[~still].max(axis=0) == pytest.approx(high, rel=0.02)
    seconds = np.diff(episode["ends"], prepend=0) * task.dt
    assert seconds.min() >= 2
    assert seconds.max() <= 6
    assert episode["ends"][:, -1].min() > task.horizon
    changes = (np.diff(commanded(task, episode), axis=0) != 0).any(axis=-1)
    at = np.argwhere(changes.T)
    assert all(step + 1 in episode["ends"][i] for i, step in at)


@pytest.mark.parametrize("task_id", IDS)
def test_following_earns_one(task_id: str) -> None:
    """A body that moves as commanded earns the uprightness, whatever its yaw; one that stands
    earns nothing; half the speed earns a half.
    """
    task = task_of(task_id)
    command = np.array([0.8 * task.forward, 0.0, -0.5 * task.turning])
    for factor, expected in ((1.0, 1.0), (0.5, 0.5), (0.0, 0.0), (2.0, 0.0), (-1.0, 0.0)):
        states = [moving(task, factor * command)] * 400
        _, outcome = drive(task, states, constant(task, command))[-1]
        assert outcome.reward[0] == pytest.approx(expected, abs=0.02)
        seen = outcome.observation["task"]
        np.testing.assert_allclose(seen["command"][0], command, rtol=1e-6)
        np.testing.assert_allclose(seen["velocity_average"][0], factor * command, atol=1e-2)
    assert outcome.metrics["yaw_rate_error"][0] == pytest.approx(task.turning, rel=0.01)


@pytest.mark.parametrize("task_id", IDS)
def test_standing_is_paid_where_it_is_commanded(task_id: str) -> None:
    """And nowhere else."""
    task = task_of(task_id)
    still = [moving(task, np.zeros(3))] * 50
    assert drive(task, still, constant(task, np.zeros(3)))[-1][1].reward[0] > 0.95
    fast = np.array([task.forward, 0, 0])
    assert not any(o.reward[0] for _, o in drive(task, still, constant(task, fast)))
    sums = [o.metrics["moving_return"][0] for _, o in drive(task, still, constant(task, 0 * fast))]
    assert not any(sums)


@pytest.mark.parametrize("task_id", IDS)
def test_swaying_and_spinning(task_id: str) -> None:
    """Swaying by a third of the body's reach, whatever the frequency, and spinning at full speed
    earn next to nothing under random commands to move.
    """
    task, num = task_of(task_id), 100
    commands = commanded(task, episode_of(task, num))
    full = np.array([task.forward, task.forward, task.turning])
    times = task.dt * np.arange(task.horizon)
    moves = (commands != 0).any(axis=-1)

    def earned(velocity: np.ndarray) -> float:
        wanted, had, total = commands[0].copy(), np.zeros((num, 3)), 0.0
        for now, command, moved in zip(velocity, commands, moves, strict=True):
            wanted += task.dt / task.averaging * (command - wanted)
            had += task.dt / task.averaging * (now - had)
            size = np.maximum(np.linalg.norm(wanted / full, axis=-1), 0.25)
            error = np.linalg.norm((had - wanted) / full, axis=-1)
            total += (np.maximum(1 - error / size, 0) * moved).mean()
        return total / task.horizon

    reach = task.body.body.reach / 6
    for hertz in (0.5, 1.0, 3.0):
        rate = 2 * np.pi * hertz
        sway = reach * rate * np.cos(rate * times)[:, None] * np.array([1.0, 0, 0])
        assert earned(sway) < 0.05
    assert earned(np.tile([0, 0, task.turning], (len(times), 1))) < 0.1
    assert earned(commands[:, 0]) < 0.4
    # What is measured is what the task pays: a perfect follower has nearly all.
    following = commands.swapaxes(0, 1)[0]
    episode = {k: v[:1] for k, v in episode_of(task, num).items()}
    states = [moving(task, v) for v in following[:100]]
    paid = sum(o.reward[0] for _, o in drive(task, states, episode))
    assert paid > 0.5 * 100


@pytest.mark.parametrize("task_id", IDS)
def test_doing_nothing_earns_the_commands_to_stand(task_id: str) -> None:
    """The zero policy earns no more than there is of them, and under commands to move 2 %."""
    result = vnl_envs.evaluate(task_id, "zero", episodes=2, seed=0)
    horizon = task_of(task_id).horizon
    assert result.values["moving_return"].max() < 0.02 * horizon
