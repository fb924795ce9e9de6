"""Pictures of a state with the task's overlays, and a window that shows a simulation."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import mujoco
import numpy as np

from vnl_envs.rendering.gl_thread import Resident
from vnl_envs.scenes.world import World
from vnl_envs.tasks.task import Block, Ghost, Marker, Overlay
from vnl_envs.utils import checks
from vnl_envs.utils.opengl import choose_backend, use_backend

WIDTH, HEIGHT = 480, 360
# The following camera: distance in standing heights of the body's root, and direction.
_DISTANCE, _AZIMUTH, _ELEVATION = 4.5, 120.0, -18.0
_ELEVATION_OF_SEVERAL = -28.0
# Geom groups contain bones (0), collision shapes (2) and helpers. A skin is shown instead of them.
_COLLISION_GROUP = 2
_MAX_GEOMS = 5000


def check_size(width: Any, height: Any) -> tuple[int, int]:
    """Width and height of a picture, pixels.

    Raises:
        ValueError: one is no integer of at least 1.
    """
    return checks.integer("width", width, 1), checks.integer("height", height, 1)


class Picture:
    """Draws states of a world into arrays, from any thread.

    Args:
        world: world to draw.
        width, height: size of the picture, pixels.
        camera: name of a camera of the model, or a camera of MuJoCo; None follows the body from
            the side.

    Raises:
        ValueError: a width or height is no integer of at least 1, or the model has no camera of
            that name.
        RuntimeError: nothing can be drawn here; the message has the reason, or the package to
            install.
    """

    def __init__(
        self,
        world: World,
        width: int = WIDTH,
        height: int = HEIGHT,
        camera: str | mujoco.MjvCamera | None = None,
    ) -> None:
        if isinstance(camera, str):
            names = (world.model.cam(i).name for i in range(world.model.ncam))
            checks.choice("camera", camera, tuple(names))
        make = functools.partial(_Canvas, world, *check_size(width, height), camera)
        self._canvas = Resident(make, _Canvas.close)

    def draw(
        self,
        data: mujoco.MjData,
        overlays: Sequence[Overlay] = (),
        option: mujoco.MjvOption | None = None,
        modify: Callable[[mujoco.MjvScene], None] | None = None,
    ) -> np.ndarray:
        """A picture, (height, width, 3) uint8. Pictures of the egocentric camera have no ghosts.

        Args:
            data: the state.
            overlays: overlays to draw.
            option: visible parts; None is that of `scene_option`.
            modify: function of the scene, called before it is drawn.
        """
        return self._canvas.use(lambda canvas: canvas.draw(data, overlays, option, modify))

    def close(self) -> None:
        """Free the renderer; another `draw` makes a new one."""
        self._canvas.close()


class _Canvas:
    """A renderer with its camera and options, a resident of the drawing thread. See `Picture`."""

    def __init__(
        self, world: World, width: int, height: int, camera: str | mujoco.MjvCamera | None
    ) -> None:
        self._world = world
        self._renderer = _make_renderer(world.model, width, height)
        self._ghosts = Ghosts(world)
        self._camera = camera
        self._warm = False
        self._option = scene_option(world)
        eyes = [body.body.prefix + body.body.egocentric_camera for body in world.bodies]
        self._egocentric = isinstance(camera, str) and camera in eyes
        if self._egocentric:
            # The camera is inside the skin.
            self._option.flags[mujoco.mjtVisFlag.mjVIS_SKIN] = False
            self._option.geomgroup[1:3] = 0

    def draw(
        self,
        data: mujoco.MjData,
        overlays: Sequence[Overlay],
        option: mujoco.MjvOption | None,
        modify: Callable[[mujoco.MjvScene], None] | None,
    ) -> np.ndarray:
        camera: Any = self._camera
        if camera is None:
            camera = following_camera(self._world, data, overlays)
        option = self._option if option is None else option
        self._renderer.update_scene(data, camera, option)
        if self._egocentric:
            overlays = [o for o in overlays if not isinstance(o, Ghost)]
        self._ghosts.add(self._renderer.scene, overlays, option)
        if modify is not None:
            modify(self._renderer.scene)
        if not self._warm:
            # The first picture of a context has wrong shadows.
            self._renderer.render()
            self._warm = True
        return self._renderer.render()

    def close(self) -> None:
        context = self._renderer._gl_context
        if context is not None:
            # Freed under another renderer's context, it would free that renderer's textures.
            context.make_current()
        self._renderer.close()


def _make_renderer(model: mujoco.MjModel, width: int, height: int) -> mujoco.Renderer:
    use_backend()
    # The model contains the size of the offscreen buffer, which grows to the largest picture.
    visual = model.vis.global_
    before = visual.offwidth, visual.offheight
    try:
        visual.offwidth, visual.offheight = max(before[0], width), max(before[1], height)
        return mujoco.Renderer(model, height, width, max_geom=_MAX_GEOMS)
    except Exception as error:
        visual.offwidth, visual.offheight = before
        first = str(error).strip().partition("\n")[0]
        raise RuntimeError(
            f"no picture of {width} x {height} can be drawn here by {choose_backend()}: "
            f"{type(error).__name__}: {first}"
        ) from None


class Window:
    """A window on the screen that shows a running simulation, no faster than real time.

    Args:
        world: world to show.
        model: model of the states to show.
    """

    def __init__(self, world: World, model: mujoco.MjModel) -> None:
        import mujoco.viewer

        self._world = world
        self._model = model
        self._data = mujoco.MjData(model)
        self._ghosts = Ghosts(world)
        before = set(threading.enumerate())
        self._viewer = mujoco.viewer.launch_passive(
            model, self._data, show_left_ui=False, show_right_ui=False
        )
        self._threads = set(threading.enumerate()) - before
        camera = following_camera(world, self._data)
        with self._viewer.lock():
            for name in ("distance", "azimuth", "elevation"):
                setattr(self._viewer.cam, name, getattr(camera, name))
        self._shown = 0.0

    def show(self, data: mujoco.MjData, overlays: Sequence[Overlay], dt: float) -> None:
        """Show a state for `dt` seconds."""
        if not self._viewer.is_running():
            return
        with self._viewer.lock():
            mujoco.mj_copyData(self._data, self._model, data)
            self._viewer.cam.lookat[:] = following_camera(self._world, data).lookat
            scene = self._viewer.user_scn
            if scene is not None:
                scene.ngeom = 0
                self._ghosts.add(scene, overlays, scene_option(self._world))
        self._viewer.sync()
        wait = self._shown + dt - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        self._shown = time.monotonic()

    def close(self) -> None:
        """Close the window and wait for its threads."""
        self._viewer.close()
        for thread in self._threads:
            thread.join(timeout=5)


class Ghosts:
    """Adds overlays to a scene.

    Args:
        world: world with the body that ghosts copy.
    """

    def __init__(self, world: World) -> None:
        self._body = world.body
        self._data = mujoco.MjData(world.model)

    def add(
        self, scene: mujoco.MjvScene, overlays: Sequence[Overlay], option: mujoco.MjvOption
    ) -> None:
        """Append the overlays' geoms to a scene."""
        for overlay in overlays:
            if isinstance(overlay, Ghost):
                self._add_ghost(scene, overlay, option)
            else:
                _add_shape(scene, overlay)

    def _add_ghost(self, scene: mujoco.MjvScene, ghost: Ghost, option: mujoco.MjvOption) -> None:
        model = self._body.model
        self._data.qpos[self._body.qpos] = ghost.qpos
        mujoco.mj_kinematics(model, self._data)
        shapes = mujoco.MjvOption()
        shapes.geomgroup[:] = option.geomgroup
        shapes.geomgroup[_COLLISION_GROUP] = 1
        # MuJoCo draws a skin at the simulated body, not at the pose in the data.
        shapes.flags[mujoco.mjtVisFlag.mjVIS_SKIN] = False
        first = scene.ngeom
        mujoco.mjv_addGeoms(
            model,
            self._data,
            shapes,
            mujoco.MjvPerturb(),
            mujoco.mjtCatBit.mjCAT_DYNAMIC.value,
            scene,
        )
        for i in range(first, scene.ngeom):
            scene.geoms[i].rgba[:] = ghost.rgba
            scene.geoms[i].matid = -1


def _add_shape(scene: mujoco.MjvScene, shape: Marker | Block) -> None:
    if scene.ngeom >= scene.maxgeom:
        return
    if isinstance(shape, Block):
        kind, size = mujoco.mjtGeom.mjGEOM_BOX, np.array(shape.half, float)
    else:
        kind, size = mujoco.mjtGeom.mjGEOM_SPHERE, np.full(3, shape.radius)
    mujoco.mjv_initGeom(
        scene.geoms[scene.ngeom],
        kind.value,
        size,
        np.asarray(shape.position, float),
        np.eye(3).ravel(),
        np.array(shape.rgba, np.float32),
    )
    scene.ngeom += 1


def scene_option(world: World) -> mujoco.MjvOption:
    """Options that show the skin alone if there is one, else the body's shapes."""
    option = mujoco.MjvOption()
    if world.model.nskin:
        option.flags[mujoco.mjtVisFlag.mjVIS_SKIN] = True
        # Group 0 contains the ground, and the bones, which the skin covers.
        option.geomgroup[1:] = 0
    return option


def following_camera(
    world: World, data: mujoco.MjData, overlays: Sequence[Overlay] = ()
) -> mujoco.MjvCamera:
    """A camera at the body's side that moves along with it.

    With several bodies it is so far away that all bodies and markers are in view.
    """
    body = world.body
    camera = mujoco.MjvCamera()
    height = body.standing_qpos[2]
    root = data.xpos[body.bodies.start]
    camera.lookat = [root[0], root[1], 0.6 * height]
    camera.distance = _DISTANCE * max(height, 0.4 * body.body.reach)
    camera.azimuth, camera.elevation = _AZIMUTH, _ELEVATION
    if len(world.bodies) > 1:
        _show_all(camera, world, data, overlays)
    return camera


def _show_all(
    camera: mujoco.MjvCamera, world: World, data: mujoco.MjData, overlays: Sequence[Overlay]
) -> None:
    """Point a camera at the middle of all bodies and markers, with all of them in view."""
    markers = [overlay for overlay in overlays if isinstance(overlay, Marker)]
    roots = [data.xpos[body.bodies.start, :2] for body in world.bodies]
    points = np.array([*roots, *(np.asarray(marker.position)[:2] for marker in markers)])
    radii = [0.6 * body.body.reach for body in world.bodies] + [m.radius for m in markers]
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    camera.lookat[:2] = middle
    radius = (np.linalg.norm(points - middle, axis=1) + radii).max()
    half_angle = np.radians(world.model.vis.global_.fovy / 2)
    camera.distance = max(camera.distance, radius / np.sin(half_angle))
    camera.elevation = _ELEVATION_OF_SEVERAL
