"""Environments in several processes."""

from __future__ import annotations

import functools
import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium
import pytest
from gymnasium.vector import AutoresetMode

from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import actions_of, run_vector, sync, task_of, vector
from vnl_envs.testing.settings import Settings


def in_fork(function: Callable[[], Any], timeout: float = 60.0) -> Any:
    """The result of a function in a forked child, which must not hang."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=lambda: send.send_bytes(pickle.dumps(function())), daemon=True)
    child.start()
    try:
        if not receive.poll(timeout):
            pytest.fail(f"the forked child hung for {timeout:.0f} s")
        return pickle.loads(receive.recv_bytes())
    finally:
        child.kill()
        child.join()


class ProcessChecks(Settings):
    """Environments work in forked and spawned processes."""

    def test_fork(self, task_id: str) -> None:
        """A forked child continues with the bits of the parent."""
        env = vector(task_id, 8, threads=2)
        actions = actions_of(env.task, 8, 8)
        run_vector(env, actions[:3], seed=0)
        reference = in_fork(lambda: [env.step(a)[:4] for a in actions[3:]])
        assert_same(reference, [env.step(a)[:4] for a in actions[3:]])

    def test_async_vector(self, task_id: str) -> None:
        """Gymnasium's process-per-environment vector gives the bits of its sequential one."""
        self._check_async(task_id, task_id, "fork", 2)

    def test_spawned_async_vector(self, task_id: str) -> None:
        """It does so with spawned interpreters too, which import `module`."""
        if not self.module:
            pytest.skip("no `module` says what registers the id")
        self._check_async(task_id, f"{self.module}:{task_id}", "spawn", 1)

    def _check_async(self, task_id: str, name: str, context: str, num: int) -> None:
        make = functools.partial(gymnasium.make, name)
        many = gymnasium.vector.AsyncVectorEnv([make] * num, context=context)
        actions = actions_of(task_of(task_id), 20, num)
        try:
            actual = run_vector(many, actions, seed=0)
        finally:
            many.close(timeout=30)
        reference = run_vector(sync(task_id, num, AutoresetMode.NEXT_STEP), actions, seed=0)
        assert_same(actual, reference)
