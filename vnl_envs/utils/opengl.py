"""Choice of the OpenGL library for rendering, once per process and before anything is drawn."""

from __future__ import annotations

import contextlib
import ctypes.util
import os
import subprocess
import sys
from collections.abc import Iterator

MISSING = (
    "Rendering needs a display or a headless OpenGL library; install OSMesa "
    "(Debian and Ubuntu: apt-get install libosmesa6) and, if you set it, MUJOCO_GL=osmesa"
)

_PROBE = "import os; os.environ['MUJOCO_GL'] = 'egl'; import mujoco; mujoco.GLContext(8, 8)"


# Values of MUJOCO_GL that mean no library, and the default one.
_OFF = ("disable", "disabled", "off", "false", "0")
_ON = ("", "enable", "enabled", "on", "true", "1")


def choose_backend() -> str | None:
    """Name of the OpenGL backend; None if none works.

    A backend in MUJOCO_GL is the user's decision. Otherwise, GLFW is chosen if there is a display.
    Without a display EGL is tried, in another process as a failed attempt cannot be undone, and
    then OSMesa; MUJOCO_GL is set to the one that works.
    """
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    if chosen in _OFF or (chosen == "glfw" and not has_display()):
        return None
    if chosen not in _ON:
        return chosen
    if not sys.platform.startswith("linux"):
        return "glfw"
    if has_display():
        return "glfw"
    if ctypes.util.find_library("EGL") and _egl_works():
        os.environ["MUJOCO_GL"] = "egl"
    elif ctypes.util.find_library("OSMesa"):
        os.environ["MUJOCO_GL"] = "osmesa"
    else:
        return None
    return os.environ["MUJOCO_GL"]


def has_display() -> bool:
    """Whether a window can be opened."""
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _egl_works() -> bool:
    probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, check=False)
    return probe.returncode == 0


def use_backend() -> None:
    """Make MuJoCo's renderer use the chosen backend, even if MuJoCo was imported before.

    Raises:
        RuntimeError: no backend works; the message names the missing system package.
    """
    backend = choose_backend()
    if backend is None:
        raise RuntimeError(_refusal())
    from mujoco.rendering.classic import gl_context

    try:
        if backend == "osmesa":
            from mujoco.osmesa import GLContext
        elif backend == "egl":
            from mujoco.egl import GLContext
        else:
            return
    except (ImportError, AttributeError) as error:
        raise RuntimeError(f"{MISSING} ({type(error).__name__}: {error})") from None
    gl_context.GLContext = GLContext


def _refusal() -> str:
    """Message that says why nothing can be drawn, and what to do."""
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    if chosen in _OFF:
        return f"MUJOCO_GL={chosen} switches drawing off: unset it, or set it to egl or osmesa"
    if chosen == "glfw":
        return "MUJOCO_GL=glfw needs a display: without one unset it, or set it to egl or osmesa"
    return MISSING


def survives_fork() -> bool:
    """Whether the driver of the current context works in a forked child, as it has no threads."""
    if choose_backend() not in ("osmesa", "egl") or os.environ.get("LP_NUM_THREADS") != "0":
        return False
    from OpenGL import GL

    return b"llvmpipe" in (GL.glGetString(GL.GL_RENDERER) or b"")


@contextlib.contextmanager
def quiet_dm_control() -> Iterator[None]:
    """Context for importing dm_control, whose search for OpenGL then prints no messages."""
    if choose_backend() is not None:
        yield
        return
    before = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "disable"
    try:
        yield
    finally:
        del os.environ["MUJOCO_GL"]
        if before is not None:
            os.environ["MUJOCO_GL"] = before
