"""A vector environment over several processes: the same bits, and nothing left behind."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import psutil
import pytest
from gymnasium.vector import AutoresetMode
from support import restored_registry

import vnl_envs
from vnl_envs.tasks import GoalReaching
from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import actions_of, run_vector, task_of, vector
from vnl_envs.testing.processes import in_fork

if os.name != "posix":
    pytest.skip("processes need a POSIX system", allow_module_level=True)

MOVING = [i for i in vnl_envs.task_ids() if "Rodent" in i and task_of(i).world.model.nmocap]
"""Ids whose episodes have scenery, which processes share beside states."""
GOAL, FALLS = "vnl/HumanoidGoalReaching-v0", "vnl/HumanoidImitation-v0"
NUM = 5


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    """Makes vector environments over two processes, and closes them."""
    with contextlib.ExitStack() as opened:

        def made(task_id: str = FALLS, num: int = NUM, **arguments: Any) -> Any:
            env = vector(task_id, num, **{"processes": 2, **arguments})
            opened.callback(env.close)
            return env

        yield made


@pytest.fixture(scope="module")
def gl() -> None:
    """Skip where nothing can be drawn."""
    from vnl_envs.utils.opengl import MISSING, choose_backend

    if choose_backend() is None:
        pytest.skip(MISSING)


def workers_of(pid: int | None = None) -> list[psutil.Process]:
    """Worker processes that a process (this one) has started and that run."""
    children = psutil.Process(pid).children()
    return [c for c in children if "envs.processes.worker" in " ".join(c.cmdline())]


def gone(processes: list[psutil.Process]) -> bool:
    """Whether processes have ended, in a while."""
    return not psutil.wait_procs(processes, timeout=20)[1]


# The same bits


@pytest.mark.parametrize("task_id", MOVING)
def test_same_bits_for_any_number_of_processes(make: Any, task_id: str) -> None:
    """1 and 3 processes, with unequal parts, give the same, new episodes and infos included."""
    actions = actions_of(task_of(task_id), 40, NUM)
    expected = run_vector(make(task_id, processes=1), actions, seed=3)
    assert_same(run_vector(make(task_id, processes=3), actions, seed=3), expected)


@pytest.mark.parametrize(
    "arguments",
    [
        {"threads": 2},
        {"observation": "dict"},
        {"max_episode_steps": 7},
        {
            "perturbations": {
                "mass": 0.2,
                "push": {"force": 0.3, "duration": 0.1, "interval": 0.3},
                "observation_noise": {"joint_position": 0.01},
            }
        },
        *({"autoreset_mode": mode} for mode in AutoresetMode),
    ],
    ids=str,
)
def test_same_bits_with(make: Any, arguments: dict[str, Any]) -> None:
    """Every argument means the same."""
    envs = [make(processes=p, **arguments) for p in (1, 2)]
    assert_same(*(env.reset(seed=5) for env in envs))
    for action in actions_of(envs[0].task, 40, NUM, seed=1):
        results = [env.step(action) for env in envs]
        assert_same(*results)
        done = results[0][2] | results[0][3]
        if envs[0].autoreset_mode == AutoresetMode.DISABLED and done.any():
            assert_same(*(env.reset(options={"reset_mask": done}) for env in envs))


def test_same_pictures(make: Any, gl: None) -> None:
    """`vision`, with the last pictures of episodes, and `render`."""
    arguments = {"vision": True, "render_mode": "rgb_array", "width": 64, "height": 48}
    envs = [make(num=3, processes=p, **arguments) for p in (1, 2)]
    actions = actions_of(envs[0].task, 25, 3)
    results = [run_vector(env, actions, seed=0) for env in envs]
    assert any("final_obs" in result[-1] for result in results[0])
    assert_same(*results)
    assert_same(*(env.render() for env in envs))


def test_resets(make: Any) -> None:
    """Masks, seeds one by one, and episodes given."""
    envs = [make(processes=p) for p in (1, 2)]
    mask = np.array([True, False, True, True, False])
    seeds = [7, None, 9, None, 11]
    for env in envs:
        env.reset(seed=1)
    assert_same(*(env.reset(seed=seeds, options={"reset_mask": mask}) for env in envs))
    assert_same(*(env.episodes for env in envs))
    assert_same(*(env.carries for env in envs))
    given = {name: rows[mask] for name, rows in vector_episodes(20).items()}
    options = {"reset_mask": mask, "episode": given}
    assert_same(*(env.reset(options=options) for env in envs))
    assert_same(*([rng.random() for rng in env.np_random] for env in envs))
    assert_same(*(env.np_random_seed for env in envs))


def vector_episodes(seed: int) -> dict[str, np.ndarray]:
    """Episodes of `NUM` environments."""
    env = vector(FALLS, NUM)
    env.reset(seed=seed)
    return env.episodes


def test_states_go_between_processes(make: Any) -> None:
    """A state taken with one number of processes goes on with another, and in copies."""
    one, two = make(processes=1), make()
    actions = actions_of(one.task, 40, NUM)
    assert_same(*(run_vector(env, actions[:10], seed=2) for env in (one, two)))
    state = one.get_state()
    assert_same(two.get_state(), state)
    expected = [one.step(action) for action in actions[10:]]
    for env in (two, pickle.loads(pickle.dumps(two)), copy.deepcopy(two)):
        env.reset(seed=99)
        env.set_state(state)
        assert_same([env.step(action) for action in actions[10:]], expected)
        env.close()
    with pytest.raises(ValueError, match="of another task or number"):
        make(num=4).set_state(state)


def test_snapshots(make: Any) -> None:
    """`data` is that of the environment with its index."""
    envs = [make(processes=p) for p in (1, 2)]
    for env in envs:
        env.reset(seed=0)
        env.step(np.zeros(env.action_space.shape, np.float32))
    for index in range(NUM):
        here, there = (env.data(index) for env in envs)
        assert_same(there.qpos, here.qpos)
        assert_same(there.contact.dist, here.contact.dist)


def test_stable_baselines3(make: Any) -> None:
    """The adapter passes `processes` on."""
    base = pytest.importorskip("stable_baselines3.common.vec_env")
    envs = [vnl_envs.SB3VecEnv(FALLS, NUM, processes=p) for p in (1, 2)]
    assert all(isinstance(env, base.VecEnv) for env in envs)
    for env in envs:
        env.seed(0)
    assert_same(*(env.reset() for env in envs))
    for action in actions_of(task_of(FALLS), 30, NUM):
        assert_same(*(env.step(action)[:3] for env in envs))
    for env in envs:
        env.close()


@pytest.mark.parametrize("policy", ["random", "track", lambda observed: observed[:, :56] % 1])
def test_evaluation(policy: Any) -> None:
    """Every episode comes out the same, whoever steps it."""
    results = [
        vnl_envs.evaluate(FALLS, policy, episodes=7, num_envs=5, processes=p).record()
        for p in (1, 2)
    ]
    assert_same(*results)
    assert not workers_of()


# Memory


def test_what_is_held_stays(make: Any) -> None:
    """Observations, and views of them, stay as they were however many are held."""
    env = make()
    held, copies = [], []
    observed, _ = env.reset(seed=0)
    for number, action in enumerate(actions_of(env.task, 30, NUM)):
        part = observed[1:, 3:]
        if number % 3:
            held.append(part)
            copies.append(part.copy())
        del part
        observed = env.step(action)[0]
    env.close()
    assert_same(held, copies)


def test_what_is_written_into_results_changes_nothing(make: Any) -> None:
    """A user may write into what was handed out."""
    env = make()
    actions = actions_of(env.task, 20, NUM)
    expected = run_vector(env, actions, seed=0)
    observed = env.reset(seed=0)[0]
    for action, result in zip(actions, expected[1:], strict=True):
        observed[:] = np.nan
        observed, reward, *_ = env.step(action)
        assert_same([observed, reward], list(result[:2]))
        reward[:] = np.nan


# Processes


def test_fork(make: Any) -> None:
    """A forked child steps on as the parent does, with workers of its own."""
    env = make()
    actions = actions_of(env.task, 20, NUM)
    run_vector(env, actions[:5], seed=0)
    observed = env.step(actions[5])[0]
    before = observed.copy()

    def child() -> Any:
        results = [env.step(a) for a in actions[6:]]
        env.close()
        return [result[:4] for result in results], observed.copy()

    theirs, seen = in_fork(child)
    assert_same(theirs, [env.step(a)[:4] for a in actions[6:]])
    assert_same([seen, observed], [before, before])


def test_close(make: Any) -> None:
    """Closing ends the processes, as often as one likes; then there is nothing to step."""
    env = make(GOAL)
    env.reset(seed=0)
    workers = workers_of()
    env.close()
    env.close()
    assert gone(workers)
    for again in (env.reset, lambda: env.step(np.zeros(env.action_space.shape, np.float32))):
        with pytest.raises(gymnasium.error.ClosedEnvironmentError, match="closed"):
            again()


def test_forgotten() -> None:
    """So does forgetting the environment; no file stays open."""
    files = []
    for _ in range(2):
        env = vector(GOAL, 2, processes=2)
        workers = workers_of()
        env.reset(seed=0)
        del env
        gc.collect()
        assert gone(workers)
        files.append(psutil.Process().num_fds())
    assert files[0] == files[1]


def test_killed_worker(make: Any) -> None:
    """The error names the environments and what happened; the other processes end, too."""
    env = make(GOAL)
    env.reset(seed=0)
    workers = workers_of()
    workers[-1].kill()
    zero = np.zeros(env.action_space.shape, np.float32)
    with pytest.raises(RuntimeError, match="environments 2 to 4 was killed by SIGKILL"):
        env.step(zero)
    assert gone(workers)
    for again in (lambda: env.step(zero), env.reset, lambda: env.step(zero)):
        with pytest.raises(gymnasium.error.ClosedEnvironmentError, match="SIGKILL"):
            again()


def test_interrupted_step(make: Any) -> None:
    """After Ctrl-C in a step the environment wants a reset, and then is as any other."""
    env = make(GOAL, num=64)
    actions = actions_of(env.task, 3, 64)
    expected = run_vector(env, actions, seed=4)
    main = threading.main_thread().ident
    assert main is not None
    stop = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT))
    # A run in the background begins with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    stop.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            any(env.step(actions[0]) is None for _ in range(10_000))
        stop.join()
    finally:
        signal.signal(signal.SIGINT, before)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(actions[0])
    assert_same(run_vector(env, actions, seed=4), expected)


SCRIPT = """
    import sys, time
    import gymnasium, numpy as np, vnl_envs
    from vnl_envs.tasks import GoalReaching

    class Mine(GoalReaching):
        def evaluate(self, physics, action, episode, carry):
            if (action == 1).all():
                raise ArithmeticError("one too many")
            return super().evaluate(physics, action, episode, carry)

    vnl_envs.register_task("lab/Mine-v0", "humanoid", Mine, horizon=10, target_speed=2.0,
                           radius=0.5, distance=(2.0, 5.0))
    env = gymnasium.make_vec("lab/Mine-v0", num_envs=2, processes=2)
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    truncated = [env.step(action)[3].all() for _ in range(10)]
    print(truncated.index(True), flush=True)
"""


def run_script(tmp_path: Path, end: str) -> subprocess.Popen[str]:
    """A script without `if __name__ == "__main__"` that registers a task of its own."""
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT) + end)
    pipe = subprocess.PIPE
    # A suite that a shell has put into the background ignores the signal, and so would this.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        [sys.executable, path], stdout=pipe, stderr=pipe, text=True, preexec_fn=heard
    )


def test_script_with_a_task_of_its_own(tmp_path: Path) -> None:
    """It needs no guard, and what its task raises comes with the place where it was raised."""
    program = run_script(tmp_path, "env.step(action + 1)\n")
    out, error = program.communicate(timeout=60)
    assert out.split() == ["9"]
    assert "ArithmeticError: one too many" in error
    assert 'raise ArithmeticError("one too many")' in error or "in evaluate" in error
    assert "In the process of environments 0 to 0" in error


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_nothing_outlives_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    """Workers end with the process that started them, however it ends; no memory stays."""
    segments = set(Path("/dev/shm").glob("*")) if Path("/dev/shm").exists() else set()
    program = run_script(tmp_path, "while True: env.reset()\n")
    assert program.stdout is not None
    assert program.stdout.readline() == "9\n"
    workers = workers_of(program.pid)
    assert len(workers) == 1
    program.send_signal(how)
    try:
        program.communicate(timeout=60)
    finally:
        program.kill()
    assert gone(workers)
    if segments:
        assert set(Path("/dev/shm").glob("*")) <= segments


def test_a_task_that_cannot_be_pickled(make: Any) -> None:
    """One line says so."""

    class Locked(GoalReaching):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            self.lock = threading.Lock()

    with restored_registry():
        settings = vnl_envs.registry.task_settings(GOAL)
        vnl_envs.register_task("lab/Locked-v0", "humanoid", Locked, **settings)
        with pytest.raises(TypeError, match=r"can be pickled; Locked cannot: .*lock"):
            make("lab/Locked-v0")


def test_arguments(make: Any) -> None:
    """Numbers that cannot be are refused; what is elsewhere says so."""
    for wrong in (0, -1, 1.5, True, "many", None):
        with pytest.raises(ValueError, match="processes must be"):
            make(GOAL, processes=wrong)
    with pytest.raises(ValueError, match="processes must be at most num_envs = 2, got 3"):
        make(GOAL, num=2, processes=3)
    env = make(GOAL)
    with pytest.raises(AttributeError, match="in 2 processes"):
        _ = env.core
    assert (env.dt, env.model.nu, env.env_hash) == (0.02, 56, make(GOAL, processes=1).env_hash)
    assert make(GOAL, num=2, processes="auto").core.num == 2
