"""Pictures from any thread, after forks and as Python ends: no crash, no wait without end.

What could crash runs in a process of its own, once with each OpenGL library that is here.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from typing import Any

import pytest

from vnl_envs.rendering.renderer import Picture
from vnl_envs.testing.environments import task_of
from vnl_envs.utils import opengl

GOAL = "vnl/RodentGoalReaching-v0"


LIBRARIES = "osmesa", "egl"


@functools.cache
def works(backend: str) -> bool:
    """Whether an OpenGL library draws here."""
    return run("import mujoco; mujoco.GLContext(8, 8).make_current()", backend).returncode == 0


def run(code: str, backend: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, with the names that all of them use."""
    names = f"""
import atexit, gc, os, sys, threading, time
import gymnasium as gym, numpy as np, vnl_envs
GOAL, RACE = {GOAL!r}, "vnl/RodentGoalRace-v0"

def made(seed=0):
    env = gym.make(GOAL, render_mode="rgb_array", width=32, height=32)
    env.reset(seed=seed)
    return env

def in_thread(function):
    out = []
    thread = threading.Thread(target=lambda: out.append(function()))
    thread.start()
    thread.join(60)
    return out[0]
"""
    names = "" if code.startswith("import mujoco;") else names
    # PyOpenGL's choice, too, is this process's own.
    own = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "LP_NUM_THREADS")
    settings = {k: v for k, v in os.environ.items() if k not in own}
    return subprocess.run(
        [sys.executable, "-c", names + code],
        env={**settings, "MUJOCO_GL": backend, **environment},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.fixture(params=LIBRARIES)
def backend(request: Any) -> str:
    """Each OpenGL library that works here."""
    if not works(request.param):
        pytest.skip(f"no {request.param} here")
    return request.param


@pytest.fixture
def any_backend() -> str:
    """The first library that works here, for what does not depend on it."""
    found = next(filter(works, LIBRARIES), None)
    if found is None:
        pytest.skip(f"none of {', '.join(LIBRARIES)} here")
    return found


def fine(code: str, backend: str, **environment: str) -> None:
    """The program comes to its end, says so, and nothing else."""
    ended = run(code + "\nprint('fine', flush=True)\n", backend, **environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "fine\n", "")


def test_every_environment_draws_in_any_thread(backend: str) -> None:
    """Made, drawn, stepped with `vision` and closed in different threads: the same pictures."""
    fine("""
def single():
    env = made()
    return [env.render(), in_thread(env.render), in_thread(env.close), env.render()]

def vector():
    env = vnl_envs.VectorEnv(GOAL, 2, render_mode="rgb_array", width=32, height=32, vision=True)
    first = in_thread(lambda: env.reset(seed=0))[0]["vision"]
    zero = np.zeros(env.action_space.shape, np.float32)
    seen = [env.step(zero)[0]["vision"]]
    env.reset(seed=0)
    seen.append(in_thread(lambda: env.step(zero))[0]["vision"])
    assert (seen[0] == seen[1]).all() and (first != seen[0]).any()
    pictures = [np.stack(env.render()), in_thread(lambda: np.stack(env.render()))]
    in_thread(env.close)
    return pictures

def race():
    env = vnl_envs.parallel_env(RACE, render_mode="rgb_array", width=32, height=32)
    in_thread(lambda: env.reset(seed=0))
    return [env.render(), in_thread(env.render), env.close(), in_thread(env.close)]

for draw in (single, vector, race):
    pictures = [p for p in draw() if p is not None]
    assert pictures[0].std() > 1
    assert all((p == pictures[0]).all() for p in pictures)
""", backend)  # fmt: skip


def test_two_threads_draw_one_environment(any_backend: str) -> None:
    """They take turns, also with one that draws another, and every picture is whole."""
    fine("""
env, other = made(), made(1)
wanted = env.render(), other.render()
pictures = []

def draw(env, wanted):
    pictures.extend((env.render() == wanted).all() for _ in range(8))

pairs = [(env, wanted[0]), (env, wanted[0]), (other, wanted[1])]
threads = [threading.Thread(target=draw, args=pair) for pair in pairs]
[t.start() for t in threads]
[t.join(120) for t in threads]
assert len(pictures) == 24 and all(pictures)
""", any_backend)  # fmt: skip


def test_pictures_forgotten_anywhere(any_backend: str) -> None:
    """Dropped or collected in any thread, one that draws included, and left when Python ends."""
    fine("""
def cycle():
    env = made()
    env.render()
    env.itself = env

box = [made()]
box[0].render()
in_thread(lambda: (box.clear(), gc.collect()))
in_thread(cycle)
in_thread(gc.collect)
cycle()
left = made()
task = left.unwrapped.task
overlays = task.overlays
task.overlays = lambda *args: gc.collect() and [] or overlays(*args)
assert left.render().std() > 1
from vnl_envs.rendering import gl_thread
for _ in range(2):
    gl_thread.call(gc.collect)
assert len(gl_thread._thread.residents) == 1, gl_thread._thread.residents
atexit.register(left.close)
""", any_backend)  # fmt: skip


def test_errors_reach_the_caller(any_backend: str) -> None:
    """From any thread, and drawing goes on."""
    fine("""
from vnl_envs.rendering.renderer import Picture
world, env = vnl_envs.make_task(GOAL).world, made()
picture = Picture(world, 32, 32)
data = env.unwrapped.data
for call in (lambda f: f(), in_thread):
    def refused():
        try:
            picture.draw(data, ["no overlay"])
        except AttributeError as error:
            return "'str' object has no attribute" in str(error)
    assert call(refused)
try:
    Picture(world, 10**6, 10**6)
except RuntimeError as error:
    assert "1000000" in str(error) and "\\n" not in str(error), error
assert env.render().std() > 1
""", any_backend)  # fmt: skip


def test_python_ends_while_a_thread_draws(any_backend: str) -> None:
    """What is under way is finished; what comes later is refused, not waited for."""
    ended = run("""
env = made()

def late():
    try:
        env.render()
    except RuntimeError as error:
        print(error)

def draw():
    while True:
        try:
            env.render()
        except RuntimeError:
            time.sleep(1000)

atexit.register(late)
env.render()
threading.Thread(target=draw, daemon=True).start()
time.sleep(0.2)
""", any_backend)  # fmt: skip
    told = "nothing can be drawn any more: Python is ending\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, told, "")


FORKED = """
env = made()
picture = env.render()
box = [made()]
box[0].render()

def child(draw):
    number = os.fork()
    if number:
        return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    box.clear()
    gc.collect()
    try:
        again = [draw(env).render(), draw(made()).render()]
        code = 7 if all((a == picture).all() for a in again) else 1
    except RuntimeError as error:
        code = 8 if "spawn" in str(error) else 1
    sys.exit(code)
"""


def test_a_fork_is_noticed(backend: str) -> None:
    """The child of a threaded driver is refused at once; it ends by itself; the parent draws on."""
    fine(FORKED + """
assert child(lambda env: env) == 8
assert (env.render() == picture).all()
""", backend)  # fmt: skip


def test_a_fork_that_the_driver_survives(backend: str) -> None:
    """Without threads of Mesa's the child draws anew, also forked while another thread draws."""
    fine(FORKED + """
going = True
def draw():
    while going:
        box[0].render()
thread = threading.Thread(target=draw)
thread.start()
codes = [child(lambda env: env) for _ in range(2)]
going = False
thread.join()
assert codes == [7, 7], codes
assert (env.render() == picture).all()
envs = gym.make_vec(GOAL, num_envs=2, vectorization_mode="async", vision=True)
envs.reset_async(seed=0)
assert envs.reset_wait(timeout=60)[0]["vision"].std() > 1
envs.close()
""", backend, LP_NUM_THREADS="0")  # fmt: skip


@pytest.mark.parametrize("name", ["disabled", "off", "false", "0", "glfw"])
def test_backends_that_cannot_draw(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the setting; bodies are made all the same."""
    for display in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(display, raising=False)
    monkeypatch.setenv("MUJOCO_GL", name)
    with pytest.raises(RuntimeError, match=f"MUJOCO_GL={name}.*osmesa") as caught:
        Picture(task_of(GOAL).world, 16, 16)
    assert "\n" not in str(caught.value)
    with opengl.quiet_dm_control():
        assert os.environ["MUJOCO_GL"] == "disable"
    assert os.environ["MUJOCO_GL"] == name


def test_drawing_switched_off(tmp_path: Any) -> None:
    """The same on the command line, and everything else works."""
    code = f"""
env = made()
env.step(env.action_space.sample())
from vnl_envs.cli.main import app
app(["play", GOAL, "--video", {str(tmp_path / "a.mp4")!r}, "--seconds", "0.1"])
"""
    ended = run(code, "off")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: MUJOCO_GL=off switches drawing off")
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
