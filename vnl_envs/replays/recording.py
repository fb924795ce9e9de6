"""Recording of an episode's states, and their replay for the viewer."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from vnl_envs.rendering.renderer import Picture, following_camera
from vnl_envs.replays import world as worlds
from vnl_envs.replays.columns import Column, pack
from vnl_envs.scenes.world import World
from vnl_envs.tasks.task import Ghost, Marker, Overlay

STILL = 960, 540
"""Width and height of a still picture, pixels."""
# Resolutions: lengths, m; contacts, m; quaternions; colours; reward terms.
_LENGTH = 1e-4
_CONTACT = 5e-4
_ANGLE = 2e-4
_COLOUR = 1 / 255
_TERM = 1e-3
_GONE = (0.0,) * 8


@dataclass(frozen=True)
class Replay:
    """One episode for the viewer, as plain values for JSON.

    Attributes:
        name: name of the episode in the list of a page.
        world: see `vnl_envs.replays.world.describe`.
        skins: skins by name, see `vnl_envs.replays.world.pack_skins`.
        states: packed states, with time step, names of terms and camera.
    """

    name: str
    world: dict[str, Any]
    skins: dict[str, dict[str, Any]]
    states: dict[str, Any]


class Recording:
    """The states of an episode, one for each control step.

    Args:
        world: simulated world.
        model: model of the simulation; None is the world's.
    """

    def __init__(self, world: World, model: mujoco.MjModel | None = None) -> None:
        self._world = world
        self._model = world.model if model is None else model
        self._camera: dict[str, Any] | None = None
        self._qpos: list[np.ndarray] = []
        self._scenery: list[np.ndarray] = []
        self._overlays: list[Sequence[Overlay]] = []
        self._contacts: list[np.ndarray] = []
        self._terms: list[dict[str, float]] = []

    def __len__(self) -> int:
        return len(self._qpos)

    @property
    def reward(self) -> float:
        """Sum of the reward's terms over all steps."""
        return sum(sum(terms.values()) for terms in self._terms)

    def add(
        self,
        data: mujoco.MjData,
        overlays: Sequence[Overlay] = (),
        terms: Mapping[str, float] | None = None,
    ) -> None:
        """Add a state.

        Args:
            data: the state.
            overlays: overlays to draw.
            terms: reward terms of the step that led to this state; None for the first state.
        """
        if self._camera is None:
            self._camera = _camera(self._world, data, overlays)
        self._qpos.append(data.qpos.copy())
        self._scenery.append(np.concatenate([data.mocap_pos, data.mocap_quat], axis=1).ravel())
        self._overlays.append(tuple(overlays))
        touching = [contact.pos.copy() for contact in data.contact if contact.dist <= 0]
        self._contacts.append(np.reshape(touching, (-1, 3)))
        self._terms.append(dict(terms or {}))

    def replay(self, name: str = "") -> Replay:
        """The replay of the added states.

        Raises:
            ValueError: there are no states, or one is not finite.
        """
        if not self._qpos:
            raise ValueError("a replay needs at least one state")
        names = list(dict.fromkeys(name for terms in self._terms for name in terms))
        packed = pack(self._columns(names))
        states = {
            "dt": self._world.dt,
            "frames": len(self),
            "terms": names,
            "camera": self._camera,
            "ghost_rgba": next((list(g.rgba) for ghosts in self._ghosts() for g in ghosts), None),
            "columns": packed.columns,
            "data": packed.data,
        }
        skins = worlds.pack_skins(self._model)
        world = worlds.describe(self._world, self._model, [name for name, _ in skins])
        return Replay(name, world, dict(skins), states)

    def still(self, size: tuple[int, int] = STILL) -> np.ndarray:
        """A picture of the middle of the episode, (height, width, 3) uint8.

        Raises:
            RuntimeError: there is no OpenGL library.
        """
        middle = len(self) // 2
        data = mujoco.MjData(self._model)
        data.qpos[:] = self._qpos[middle]
        scenery = self._scenery[middle].reshape(-1, 7)
        data.mocap_pos[:], data.mocap_quat[:] = scenery[:, :3], scenery[:, 3:]
        mujoco.mj_fwdPosition(self._model, data)
        with contextlib.closing(Picture(self._world, *size)) as picture:
            return picture.draw(data, self._overlays[middle])

    def _columns(self, terms: Sequence[str]) -> dict[str, Column]:
        columns = {"qpos": Column(np.array(self._qpos), worlds.qpos_resolution(self._model))}
        if self._model.nmocap:
            resolution = np.tile([_LENGTH] * 3 + [_ANGLE] * 4, self._model.nmocap)
            columns["scenery"] = Column(np.array(self._scenery), resolution)
        markers = [[_marker(o) for o in all if isinstance(o, Marker)] for all in self._overlays]
        if number := max(map(len, markers)):
            resolution = np.tile([_LENGTH] * 4 + [_COLOUR] * 4, number)
            columns["markers"] = Column(_padded(markers, number), resolution)
        ghosts = self._ghosts()
        for i in range(max(map(len, ghosts))):
            columns[f"ghost_{i}"] = self._poses([g[i].qpos if len(g) > i else None for g in ghosts])
        counts = np.array([len(points) for points in self._contacts])
        columns["contact_count"] = Column(counts[:, None])
        columns["contact"] = Column(np.concatenate(self._contacts), _CONTACT)
        if terms:
            values = [[of.get(name, 0.0) for name in terms] for of in self._terms]
            columns["terms"] = Column(np.array(values, float), _TERM)
        return columns

    def _ghosts(self) -> list[list[Ghost]]:
        return [[o for o in overlays if isinstance(o, Ghost)] for overlays in self._overlays]

    def _poses(self, poses: Sequence[Any]) -> Column:
        """A ghost's pose at each state; states without one repeat a neighbouring pose."""
        known = next(pose for pose in poses if pose is not None)
        filled = []
        for pose in poses:
            known = known if pose is None else pose
            filled.append(np.asarray(known, float))
        resolution = worlds.qpos_resolution(self._model)[self._world.body.qpos]
        return Column(np.array(filled), resolution)


def _camera(world: World, data: mujoco.MjData, overlays: Sequence[Overlay]) -> dict[str, Any]:
    camera = following_camera(world, data, overlays)
    return {
        "distance": float(camera.distance),
        "azimuth": float(camera.azimuth),
        "elevation": float(camera.elevation),
        "height": float(camera.lookat[2]),
        "fovy": float(world.model.vis.global_.fovy),
    }


def _marker(marker: Marker) -> tuple[float, ...]:
    return (*map(float, np.asarray(marker.position)), float(marker.radius), *marker.rgba)


def _padded(rows: Sequence[Sequence[tuple[float, ...]]], number: int) -> np.ndarray:
    """Rows of `number` markers each; missing ones have radius 0."""
    return np.array([np.ravel([*row, *[_GONE] * (number - len(row))]) for row in rows])
