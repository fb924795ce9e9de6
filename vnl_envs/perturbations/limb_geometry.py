"""Limbs and trunks of other sizes: the model's fields that change, and their values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import mujoco
import numpy as np

from vnl_envs.bodies.model import BodyModel
from vnl_envs.physics import Array, namespace

# Height above the lowest point within which a limb bears weight, in heights of the root.
_NEAR = 0.1
# Factor of a column of `geom_size`.
_NOTHING, _LENGTH, _SIZE = range(3)


class Scales(NamedTuple):
    """Factors of a body's parts.

    Attributes:
        length, size: (..., limbs) of each limb's lengths and thicknesses.
        torso: (...,) of the trunk with head and tail, in all directions.
    """

    length: Array
    size: Array
    torso: Array

    def mean_of(self, limbs: np.ndarray) -> Scales:
        """The same factors for all limbs, the means over some of them, (limbs,) bool."""
        length, size = (
            factor[..., limbs].mean(axis=-1, keepdims=True) + 0 * factor
            for factor in (self.length, self.size)
        )
        return Scales(length, size, self.torso)


class Limbs:
    """The limbs of a body, and its trunk. A limb is the first body with joints that leads to only
    one hand or foot, and all its descendants. The trunk is the rest.

    A limb is scaled about the origin of its first body: its segments become `length` times as long
    and `size` times as thick. The trunk is scaled about the root's origin and takes the limbs'
    first bodies along. Densities stay.

    Args:
        body: body that has the limbs.
        torso: whether the trunk is scaled too.

    Attributes:
        bodies: (nbody,) bool, whether a body of the world belongs to a limb.
        names: names of the limbs' hands and feet, in the order of `Scales`.
        bearing: (limbs,) bool, whether a limb is near the ground in the standing pose.

    Raises:
        ValueError: a hand or foot has no limb of its own, or a part cannot be scaled.
    """

    def __init__(self, body: BodyModel, torso: bool = False) -> None:
        model = self._model = body.model
        self.names = (*body.body.hands, *body.body.feet)
        self._attached = _attached(body)
        ids = np.arange(model.nbody)
        self.bodies = self._attached > 0
        self._limb = _numbers(body, self._attached)
        own = (ids >= body.bodies.start) & (ids < body.bodies.stop)
        self._trunk = own & ~self.bodies
        self._carried = self.bodies & (self._attached != ids)
        # Joints and origins of limbs' first bodies belong to the trunk.
        self._moved = own & ~self._carried & (ids != body.bodies.start)
        self._columns = _columns(model)
        scaled = own if torso else self.bodies
        self._check(body, scaled[model.geom_bodyid])
        # The principal axis along which a segment's mass scales with its length is the longest
        # one, with the least moment.
        inertia = model.body_inertia
        self._along = inertia.argmin(axis=1)[:, None] == np.arange(3)
        self._spread = (inertia.sum(axis=1) / 2 - inertia.min(axis=1))[:, None]
        self._contacts = _Contacts(body, self._attached, self._limb)
        self.bearing = self._contacts.bearing(body.standing_qpos, len(self.names))

    def _check(self, body: BodyModel, geoms: np.ndarray) -> None:
        model, name = self._model, body.body.name
        meshes = geoms & (model.geom_type == mujoco.mjtGeom.mjGEOM_MESH)
        if (meshes & ((model.geom_contype | model.geom_conaffinity) > 0)).any():
            raise ValueError(f"body {name!r}: limbs of colliding meshes cannot be scaled")
        if (model.wrap_type != mujoco.mjtWrap.mjWRAP_JOINT).any():
            raise ValueError(f"body {name!r}: limbs with spatial tendons cannot be scaled")

    def fields(self, scales: Scales) -> dict[str, Array]:
        """Fields of the scaled body's model, each (..., *field's shape)."""
        xp = namespace(scales.torso)
        model = self._model
        length, size = self._by_body(scales)
        torso = scales.torso[..., None]
        place = xp.where(self._carried, length, xp.where(self._moved, torso, 1.0))
        geoms = model.geom_bodyid
        along, across = length[..., None], size[..., None]
        columns = xp.where(self._columns == _LENGTH, along[..., geoms, :], 1.0)
        columns = xp.where(self._columns == _SIZE, across[..., geoms, :], columns)
        # A scaled distribution of mass has its second moments scaled, axis by axis: S² across,
        # L² along. The moment about an axis is the sum of those of the other two.
        inertia = across**2 * model.body_inertia
        inertia = inertia + xp.where(self._along, 0.0, (along**2 - across**2) * self._spread)
        volume = length * size**2
        return {
            "body_pos": place[..., None] * model.body_pos,
            "body_ipos": along * model.body_ipos,
            "body_mass": volume * model.body_mass,
            "body_inertia": volume[..., None] * inertia,
            "jnt_pos": place[..., model.jnt_bodyid, None] * model.jnt_pos,
            "geom_pos": along[..., geoms, :] * model.geom_pos,
            "geom_size": columns * model.geom_size,
            "site_pos": along[..., model.site_bodyid, :] * model.site_pos,
        }

    def capsules(
        self, geoms: np.ndarray, half: np.ndarray, radius: np.ndarray, scales: Scales
    ) -> tuple[Array, Array]:
        """Scaled half-lengths and radii of spheres and capsules, (..., n) each, m.

        Args:
            geoms: (n,) geoms of the world.
            half, radius: (n,) their unscaled half-lengths and radii, m.
            scales: factors.
        """
        owners = self._model.geom_bodyid[geoms]
        length, size = self._by_body(scales)
        return half * length[..., owners], radius * size[..., owners]

    def sink(self, qpos: Array, scales: Scales) -> Array:
        """Depth by which scaling lowers the lowest contact geom of a pose (..., nq), (...,), m."""
        return self._contacts.sink(qpos, scales)

    def _by_body(self, scales: Scales) -> tuple[Array, Array]:
        """Factors of lengths and thicknesses of all bodies of the world, (..., nbody) each."""
        xp = namespace(scales.torso)
        rest = xp.where(self._trunk, scales.torso[..., None], 1.0)
        length, size = (
            xp.where(self.bodies, factor[..., self._limb], rest)
            for factor in (scales.length, scales.size)
        )
        return length, size


def _numbers(body: BodyModel, attached: np.ndarray) -> np.ndarray:
    """The number of the limb of each of the world's bodies, (nbody,); 0 if it is in no limb."""
    ends = body.body_index(*body.body.hands, *body.body.feet) + body.bodies.start
    firsts = attached[ends].tolist()
    return np.array([firsts.index(first) if first else 0 for first in attached.tolist()])


def _attached(body: BodyModel) -> np.ndarray:
    """The first body of the limb of each of the world's bodies, (nbody,); 0 if it is in no limb.

    The trunk consists of the bodies that lead to the head or to more than one hand or foot.
    """
    parents, first = body.model.body_parentid, body.bodies.start
    ends = body.body_index(*body.body.hands, *body.body.feet) + first
    head = body.body_index(body.body.head) + first
    paths = [_path(parents, int(end), first) for end in (*ends, *head)]
    trunk = {first, *paths[-1]}
    for i, path in enumerate(paths):
        trunk.update(*(set(path) & set(other) for other in paths[:i]))
    out = np.zeros(body.model.nbody, int)
    for name, path in zip((*body.body.hands, *body.body.feet), paths[:-1], strict=True):
        own = [i for i in path if i not in trunk and body.model.body_jntnum[i]]
        if not own:
            raise ValueError(f"body {body.body.name!r}: {name!r} has no limb of its own")
        out[own[-1]] = own[-1]
    for i in range(first + 1, body.bodies.stop):
        out[i] = out[i] or out[parents[i]]
    return out


def _path(parents: np.ndarray, body: int, root: int) -> list[int]:
    """Bodies from `body` up to the root."""
    path = [body]
    while path[-1] != root:
        path.append(int(parents[path[-1]]))
    return path


def _columns(model: mujoco.MjModel) -> np.ndarray:
    """The factor of each column of `geom_size`, (ngeom, 3)."""
    kinds = mujoco.mjtGeom
    out = np.full((model.ngeom, 3), _NOTHING)
    for geom, kind in enumerate(map(kinds, model.geom_type.tolist())):
        if kind == kinds.mjGEOM_SPHERE:
            out[geom, 0] = _SIZE
        elif kind in (kinds.mjGEOM_CAPSULE, kinds.mjGEOM_CYLINDER):
            out[geom, :2] = _SIZE, _LENGTH
        elif kind in (kinds.mjGEOM_ELLIPSOID, kinds.mjGEOM_BOX):
            out[geom] = _SIZE
            out[geom, model.geom_size[geom].argmax()] = _LENGTH
    return out


@dataclass(frozen=True)
class _Turn:
    """One hinge of each of the m bodies of a level.

    Attributes:
        address: (m,) address in the body's qpos.
        zero: (m,) angle in the compiled pose, rad.
        cross: (m, 3, 3) matrix of the cross product with the axis.
        place: (m, 3, 1) anchor in the body's frame, m.
        on: (m,) 1 for bodies that have this hinge, else 0.
    """

    address: np.ndarray
    zero: np.ndarray
    cross: np.ndarray
    place: np.ndarray
    on: np.ndarray


@dataclass(frozen=True)
class _Level:
    """The m bodies at one depth of the tree.

    Attributes:
        parents: (m,) rows of the parents among the bodies of all earlier levels.
        offset: (m, 3, 1) position in the parent's frame, m.
        orientation: (m, 3, 3) orientation in the parent's frame.
        turns: hinges of the bodies, in order.
    """

    parents: np.ndarray
    offset: np.ndarray
    orientation: np.ndarray
    turns: tuple[_Turn, ...]


class _Contacts:
    """Heights of the contact geoms by forward kinematics in array code, level by level.

    Args:
        body: body with the geoms. The bodies that lead to them have only hinges.
        attached: first bodies of limbs, see `_attached`.
        numbers: numbers of limbs, see `_numbers`.
    """

    def __init__(self, body: BodyModel, attached: np.ndarray, numbers: np.ndarray) -> None:
        model = body.model
        geoms, self._half, self._radius = body.capsules(*body.body.contact_geoms)
        geoms = geoms + body.geoms.start
        owners = model.geom_bodyid[geoms]
        self._order, self._levels = _levels(body, owners)
        self._owner = np.array([self._order.index(int(i)) for i in owners])
        limb = attached[owners]
        self._in_limb, self._limb = limb > 0, numbers[owners]
        self._base = np.array([self._order.index(int(i) or self._order[0]) for i in limb])
        self._place = model.geom_pos[geoms][..., None]
        self._axis = _matrices(model.geom_quat[geoms])[..., 2:]

    def sink(self, qpos: Array, scales: Scales) -> Array:
        """See `Limbs.sink`."""
        xp = namespace(qpos)
        height, centre, half = self._heights(qpos)
        # A limb is scaled about its first body's origin, all else about the root's.
        base, torso = height[..., self._base], scales.torso[..., None]
        along = xp.where(self._in_limb, scales.length[..., self._limb], torso)
        across = xp.where(self._in_limb, scales.size[..., self._limb], torso)
        before = centre - half - self._radius
        # Written as a change, so that factors of 1 leave the bits as they are.
        change = (along - 1.0) * (centre - base - half) - (across - 1.0) * self._radius
        change = change + (torso - 1.0) * (base - height[..., :1])
        return before.min(axis=-1) - (before + change).min(axis=-1)

    def bearing(self, qpos: np.ndarray, limbs: int) -> np.ndarray:
        """See `Limbs.bearing`; `qpos` is the standing pose."""
        _, centre, half = self._heights(qpos)
        bottom = centre - half - self._radius
        near = self._in_limb & (bottom < bottom.min() + _NEAR * qpos[2])
        return np.isin(np.arange(limbs), self._limb[near])

    def _heights(self, qpos: Array) -> tuple[Array, Array, Array]:
        """Heights of the bodies in `_order` (..., bodies), of the geoms' middles, and of their ends
        above these (..., n) without the radii, m.
        """
        xp = namespace(qpos)
        position, rotation = self._frames(qpos)
        rotation = rotation[..., self._owner, :, :]
        height = position[..., 2]
        centre = height[..., self._owner] + (rotation @ self._place)[..., 2, 0]
        return height, centre, xp.abs((rotation @ self._axis)[..., 2, 0]) * self._half

    def _frames(self, qpos: Array) -> tuple[Array, Array]:
        """Origins (..., n, 3), m, and orientations (..., n, 3, 3) of the bodies in `_order`."""
        xp = namespace(qpos)
        positions = qpos[..., None, :3]
        rotations = _matrices(qpos[..., 3:7])[..., None, :, :]
        for level in self._levels:
            rotation = rotations[..., level.parents, :, :]
            position = positions[..., level.parents, :] + (rotation @ level.offset)[..., 0]
            rotation = rotation @ level.orientation
            for turn in level.turns:
                angle = ((qpos[..., turn.address] - turn.zero) * turn.on)[..., None, None]
                # Rodrigues' formula.
                square = turn.cross @ turn.cross
                by = np.eye(3) + xp.sin(angle) * turn.cross + (1.0 - xp.cos(angle)) * square
                turned = rotation @ by
                position = position + ((rotation - turned) @ turn.place)[..., 0]
                rotation = turned
            positions = xp.concat([positions, position], axis=-2)
            rotations = xp.concat([rotations, rotation], axis=-3)
        return positions, rotations


def _levels(body: BodyModel, owners: np.ndarray) -> tuple[list[int], list[_Level]]:
    """The bodies on the paths to `owners`, the root first, and their levels."""
    model, root = body.model, body.bodies.start
    paths = [_path(model.body_parentid, int(i), root)[::-1] for i in owners]
    order, levels = [root], []
    for depth in range(1, max(map(len, paths))):
        ids = sorted({path[depth] for path in paths if len(path) > depth})
        parents = np.array([order.index(int(model.body_parentid[i])) for i in ids])
        offset, quat = model.body_pos[ids][..., None], model.body_quat[ids]
        most = int(model.body_jntnum[ids].max())
        turns = tuple(_turn(body, ids, n) for n in range(most))
        levels.append(_Level(parents, offset, _matrices(quat), turns))
        order += ids
    return order, levels


def _turn(body: BodyModel, ids: list[int], number: int) -> _Turn:
    """The joint `number` of each of the bodies `ids`."""
    model = body.model
    on = model.body_jntnum[ids] > number
    joints = np.where(on, model.body_jntadr[ids] + number, 0)
    if (model.jnt_type[joints[on]] != mujoco.mjtJoint.mjJNT_HINGE).any():
        raise ValueError(f"body {body.body.name!r}: limbs with other joints than hinges")
    address = np.where(on, model.jnt_qposadr[joints] - body.qpos.start, 0)
    zero = model.qpos0[model.jnt_qposadr[joints]]
    x, y, z = model.jnt_axis[joints].T
    nil = np.zeros_like(x)
    cross = np.array([[nil, -z, y], [z, nil, -x], [-y, x, nil]])
    place = model.jnt_pos[joints][..., None]
    return _Turn(address, zero, cross.transpose(2, 0, 1), place, on.astype(float))


def _matrices(quat: Array) -> Array:
    """Rotation matrices of unit quaternions (w, x, y, z), (..., 4) -> (..., 3, 3)."""
    xp = namespace(quat)
    w, x, y, z = (quat[..., i] for i in range(4))
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return xp.stack([xp.stack(row, axis=-1) for row in rows], axis=-2)
