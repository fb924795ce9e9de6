"""Hostile policies: none gains score, none stops the harness, none leaves anything behind.

Two kinds: ONNX files run by the real server, and servers that have been taken over
(`hostile_server.py`), as if the runtime had a hole.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import hostile_policies
import hostile_server
import numpy as np
import psutil
import pytest

from vnl_envs.envs.core import Core
from vnl_envs.evaluation.evaluate import begin_episodes, episode_seed
from vnl_envs.evaluation.remote import RemotePolicy
from vnl_envs.problems import Code, PolicyError
from vnl_envs.sandbox import client, launch
from vnl_envs.sandbox.client import PolicyProcess
from vnl_envs.sandbox.inside import confine
from vnl_envs.testing.environments import task_of
from vnl_envs.utils.resources import packaged

# Its reward says at every step what the action was.
TASK = "vnl/RodentImitation-v0"
STEPS = 12
EPISODES = 2
ONLY = np.array([0])
HOSTILE = Path(hostile_server.__file__)
CHECKPOINT = (
    Path(__file__).parents[2] / "baselines/checkpoints/ppo_intention/RodentImitation-v0.onnx"
)

REASON = launch.unavailable_reason()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no isolation here: {REASON}")


class Score(NamedTuple):
    """What an episode came to."""

    score: float
    reason: Code | None
    clipped: int


@functools.cache
def core() -> Core:
    """One simulation, shared: reset at the start of each episode."""
    return Core(task_of(TASK), 1, 1)


def sizes() -> tuple[int, int]:
    """Lengths of observation and action."""
    return core().size, core().task.body.nu


def episode(policy: RemotePolicy, number: int) -> Score:
    """A short episode; one whose policy fails counts 0."""
    try:
        begin_episodes(core(), policy, ONLY, [episode_seed(0, number)])
        for _ in range(STEPS):
            core().step(policy.act(core().observation))
    except PolicyError as error:
        failure = error
    else:
        return Score(core().figures_of(0)["return"], None, policy.clipped)
    assert failure.message.isprintable()
    assert 5 < len(failure.message) < 400
    return Score(0.0, failure.code, policy.clipped)


@contextlib.contextmanager
def started(path: Path, **more: Any) -> Iterator[PolicyProcess]:
    """The process of a policy."""
    with path.open("rb") as policy, PolicyProcess(policy, *sizes(), **more) as process:
        yield process


def scores(path: Path, server: Path | None = None, episodes: int = EPISODES) -> list[Score]:
    """Episodes of a policy, one after the other in one process."""
    more: dict[str, Any] = {} if server is None else {"server": server}
    with started(path, **more) as process:
        return [episode(RemotePolicy(process), i) for i in range(episodes)]


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file for the policy. Afterwards nothing of it runs, and nothing else was written."""
    path = tmp_path / f"policy-{os.getpid()}-{time.monotonic_ns()}"
    elsewhere = [Path.cwd(), Path("/tmp"), Path("/dev/shm"), Path("/")]
    yield path
    with contextlib.suppress(FileNotFoundError):
        path.chmod(0o600)
    assert running(path.name) == []
    assert {p.name for p in tmp_path.iterdir()} <= {path.name, "secret.json"}
    assert [p for folder in elsewhere for p in folder.glob("vnl-hostile*")] == []


def running(name: str) -> list[str]:
    """Processes that name a policy, once the kernel has had time to end them."""
    left: list[str] = []
    for _ in range(100):
        left = []
        for process in psutil.process_iter(["cmdline"]):
            if name in " ".join(process.info["cmdline"] or []):
                left.append(str(process))
        if not left:
            break
        time.sleep(0.05)
    return left


@pytest.fixture
def doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What an attacker would like to reach, all there: sockets that listen, files, variables."""
    monkeypatch.setenv("VNL_SECRET", "the season's key")
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    clips = packaged("clips")
    assert clips.is_dir()
    abstract = f"vnl-hostile-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind("\0" + abstract)
        unix.listen()
        yield {
            "pid": os.getpid(),
            "port": tcp.getsockname()[1],
            "abstract": abstract,
            "secrets": [
                "/etc/passwd",
                "/etc/hostname",
                f"/proc/{os.getpid()}/environ",
                f"/proc/{os.getpid()}/cmdline",
                "/proc/1/environ",
                "/proc/self/maps",
                "/proc/meminfo",
                str(secret),
                str(Path(__file__)),
                str(Path(launch.__file__).parents[1] / "registry.py"),
                *(str(path) for path in sorted(clips.glob("*.h5"))[:1]),
                str(Path.home() / ".bashrc"),
            ],
            "writable": [str(tmp_path), str(Path.cwd()), str(Path.home())],
        }


def plan(place: Path, attack: Callable[..., Any], **doors: Any) -> Path:
    """The "policy" of a server that has been taken over."""
    observation, action = sizes()
    document = {"attack": attack.__name__, "observation": observation, "action": action, **doors}
    place.write_text(json.dumps(document))
    return place


@functools.cache
def honest() -> tuple[Score, ...]:
    """What the honest policy gets, from the real server."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "honest.onnx")
        path.write_bytes(hostile_policies.constant(hostile_server.HONEST, sizes()))
        return tuple(scores(path))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Budgets that a busy machine does not use up."""
    _budgets(monkeypatch, start=60, step=30, episode=60)


def _budgets(monkeypatch: pytest.MonkeyPatch, start: float, step: float, episode: float) -> None:
    monkeypatch.setattr(client, "START_SECONDS", start)
    monkeypatch.setattr(client, "STEP_SECONDS", step)
    monkeypatch.setattr(client, "EPISODE_SECONDS", episode)


def test_the_honest_policy_scores_and_another_action_scores_otherwise(place: Path) -> None:
    assert [s.reason for s in honest()] == [None] * EPISODES
    assert min(s.score for s in honest()) > 0
    place.write_bytes(hostile_policies.constant(hostile_server.PRIZE, sizes()))
    assert [s.score for s in scores(place)] != [s.score for s in honest()]
    plan(place, hostile_server.honest)
    assert tuple(scores(place, HOSTILE)) == honest()


@pytest.mark.parametrize("attack", hostile_server.ATTEMPTS, ids=lambda a: a.__name__)
def test_what_a_taken_over_server_may_not_do_changes_nothing(
    place: Path, doors: dict[str, Any], attack: Callable[..., Any]
) -> None:
    plan(place, attack, **doors)
    before = place.read_bytes()
    assert tuple(scores(place, HOSTILE)) == honest()
    assert place.read_bytes() == before


@pytest.mark.parametrize(
    "attack",
    [
        hostile_server.read_secrets, hostile_server.list_folders, hostile_server.read_environment,
        hostile_server.read_processes, hostile_server.connect, hostile_server.abstract_socket,
        hostile_server.spawn, hostile_server.thread_bomb,
    ],
    ids=lambda attack: attack.__name__,
)  # fmt: skip
def test_the_same_attacks_succeed_where_nothing_confines_them(
    place: Path, doors: dict[str, Any], attack: Callable[..., Any]
) -> None:
    plan(place, attack, **doors)
    observation, action = sizes()
    done = subprocess.run(
        [sys.executable, HOSTILE, place],
        input=bytes(1 + 4 * observation), capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    prize = np.full(action, hostile_server.PRIZE, "<f4").tobytes()
    assert done.stdout[-len(prize) :] == prize


S = hostile_server
H = hostile_policies
LATE = [
    S.silent, S.hang, S.drip, S.trickle, S.stop, S.short_answer, S.flood_errors, S.close_output,
    S.close_input, H.slow, H.endless,
]  # fmt: skip
FAILURES = {
    Code.CRASH: [
        S.long_answer, S.early, S.never_reads, S.flood, S.crash_later, S.segfault,
        S.leave, S.leave_at_once, S.last_words, S.wrong_magic,
        H.growing_output, H.nested, H.recursive, H.external, H.unknown_operator, H.two_rows,
        H.garbage, H.truncated, H.empty,
    ],
    Code.MODEL: [S.wrong_sizes, S.giant_sizes, H.other_observation, H.other_action],
    Code.NON_FINITE: [S.not_a_number, S.infinite, H.negative_logarithm, H.overflow],
    Code.MEMORY: [
        S.memory_bomb, S.memory_creep, S.memory_crash, H.folding_bomb, H.huge_intermediate,
    ],
}  # fmt: skip


def result(place: Path, hostile: Callable[..., Any]) -> Score:
    """What an episode of a hostile server or model comes to."""
    if hostile.__module__ == S.__name__:
        plan(place, hostile)
        return scores(place, HOSTILE, episodes=1)[0]
    place.write_bytes(hostile(sizes()))
    return scores(place, episodes=1)[0]


@pytest.mark.parametrize(
    ("hostile", "code"),
    [(hostile, code) for code, group in FAILURES.items() for hostile in group],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_policy_that_fails_gets_nothing_and_the_reason(
    place: Path, hostile: Callable[..., Any], code: Code
) -> None:
    assert result(place, hostile)[:2] == (0.0, code)


@pytest.mark.parametrize("hostile", LATE, ids=lambda hostile: hostile.__name__)
def test_a_policy_that_takes_its_time_gets_nothing_and_the_reason(
    place: Path, monkeypatch: pytest.MonkeyPatch, hostile: Callable[..., Any]
) -> None:
    _budgets(monkeypatch, start=3, step=0.5, episode=0.5)
    assert result(place, hostile)[:2] == (0.0, Code.TIMEOUT)


def test_a_second_answer_is_a_fault_or_taken_for_the_next(place: Path) -> None:
    """The next one where it comes after the next observation: an action of an older one."""
    outcome = result(place, S.twice)
    assert outcome in (Score(0.0, Code.CRASH, 0), honest()[0])


def test_constants_that_unfold_stop_at_the_memory_or_the_clock(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _budgets(monkeypatch, start=5, step=1, episode=5)
    outcome = result(place, H.folding_chain)
    assert outcome.score == 0
    assert outcome.reason in {Code.MEMORY, Code.TIMEOUT}


def test_a_deep_model_runs_or_fails_with_a_reason(place: Path) -> None:
    assert result(place, H.deep_chain).reason in {None, Code.TIMEOUT, Code.MEMORY, Code.CRASH}


@pytest.mark.parametrize("server", [None, HOSTILE])
def test_out_of_range_is_clipped_and_counted(place: Path, server: Path | None) -> None:
    place.write_bytes(hostile_policies.constant(1, sizes()))
    limit = scores(place)
    if server:
        plan(place, hostile_server.enormous)
    else:
        place.write_bytes(hostile_policies.constant(3e38, sizes()))
    beyond = scores(place, server)
    assert [s.score for s in beyond] == [s.score for s in limit]
    assert [s.clipped for s in beyond] == [STEPS * sizes()[1]] * EPISODES
    assert [s.clipped for s in limit] == [0] * EPISODES


def test_a_policys_state_ends_with_the_episode(place: Path) -> None:
    place.write_bytes(hostile_policies.state_counter(sizes()))
    observation = np.zeros(sizes()[0], np.float32)
    with started(place) as process:
        for _ in range(3):
            process.reset()
            actions = [process.act(observation)[0] for _ in range(4)]
            assert actions == [1 / 64, 2 / 64, 3 / 64, 4 / 64]


def test_what_is_remembered_against_the_rules_shows_in_a_fresh_process(place: Path) -> None:
    plan(place, hostile_server.counts_episodes)
    together = scores(place, HOSTILE)
    with started(place, server=HOSTILE) as process:
        alone = []
        for number in range(EPISODES):
            process.close()
            alone.append(episode(RemotePolicy(process), number))
    assert tuple(alone) == honest()
    assert together[0] == alone[0]
    assert together[1] != alone[1]


def test_a_policy_that_failed_is_started_anew_for_the_next_episode(
    place: Path,
) -> None:
    plan(place, hostile_server.crash_later)
    assert [s.reason for s in scores(place, HOSTILE)] == [Code.CRASH] * EPISODES


def test_frames_hold_a_flag_and_the_observation_and_no_more(place: Path) -> None:
    plan(place, hostile_server.honest)
    observation, _ = sizes()
    with started(place, server=HOSTILE) as process:
        process.reset()
        for _ in range(2):
            process.act(np.arange(observation, dtype=np.float32))
        assert bytes(process._out) == b"\0" + np.arange(observation, dtype="<f4").tobytes()


def test_actions_are_those_of_the_runtime_in_process() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(CHECKPOINT), options)
    rows = np.random.default_rng(0).normal(size=(20, 1, sizes()[0])).astype(np.float32)
    with started(CHECKPOINT) as process:
        process.reset()
        for row in rows:
            np.testing.assert_array_equal(
                process.act(row[0]), session.run(None, {"obs": row})[0][0]
            )


def test_a_batch_of_symbolic_size_is_fed_one_row(place: Path) -> None:
    place.write_bytes(hostile_policies.constant(hostile_server.HONEST, sizes(), rows="batch"))
    assert tuple(scores(place)) == honest()


def test_without_isolation_limits_remain_and_files_are_open(
    place: Path, doors: dict[str, Any]
) -> None:
    """What the sandbox is for: the same attacks, of which some now succeed."""

    def alone(attack: Callable[..., Any]) -> list[Score]:
        plan(place, attack, **doors)
        with started(place, isolated=False, server=HOSTILE) as process:
            return [episode(RemotePolicy(process), i) for i in range(EPISODES)]

    assert tuple(alone(hostile_server.fork_bomb)) == honest()
    assert tuple(alone(hostile_server.connect)) == honest()
    assert tuple(alone(hostile_server.read_environment)) == honest()
    assert tuple(alone(hostile_server.read_secrets)) != honest()
    assert alone(hostile_server.memory_bomb)[0].reason is Code.MEMORY


def test_a_module_runs_confined_and_sees_the_files_given_only(tmp_path: Path) -> None:
    script, seen, hidden = (tmp_path / name for name in ("look.py", "seen", "hidden"))
    script.write_text(
        "import sys, pathlib, vnl_envs.sandbox.inside.confine\n"
        "print([pathlib.Path(a).exists() for a in sys.argv[1:]])\n"
        "print('numpy' in sys.modules, hasattr(vnl_envs, 'make_task'))\n"
    )
    seen.touch()
    hidden.touch()
    with seen.open("rb") as file:
        done = subprocess.run(
            launch.command([script, file, hidden]), env=launch.environment(),
            pass_fds=[file.fileno()], capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert done.stdout.splitlines() == ["[True, False]", "False False"]
    command = launch.command(["-m", "vnl_envs.sandbox.inside.model_check"])
    ready = subprocess.run(
        command, env=launch.environment(), input=b"", capture_output=True, check=True
    )
    assert ready.stdout == b"ready\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be bound here")
def test_harness_and_policy_share_a_cpu_for_as_long_as_asked(place: Path) -> None:
    before = os.sched_getaffinity(0)
    place.write_bytes(hostile_policies.constant(hostile_server.HONEST, sizes()))
    with client.on_one_cpu(len(before) + 1), started(place) as process:
        process.reset()
        mine = os.sched_getaffinity(0)
        assert len(mine) == 1
        assert all(
            os.sched_getaffinity(child.pid) == mine
            for child in psutil.Process().children(recursive=True)
            if place.name in " ".join(child.cmdline())
        )
    assert os.sched_getaffinity(0) == before


def test_the_reason_for_no_isolation_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.shutil, "which", lambda name: None)
    reason = launch.unavailable_reason.__wrapped__()
    assert reason is not None
    assert "bubblewrap" in reason


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_the_filters_jumps_end_within_it() -> None:
    """A jump beyond the last instruction would have the kernel refuse the filter."""
    program = confine._program()
    count = len(program) // 8
    assert len(program) == 8 * count
    for i in range(count):
        _, true, false, _ = struct.unpack_from("@HBBI", program, 8 * i)
        assert i + 1 + max(true, false) <= count
