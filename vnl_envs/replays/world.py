"""Description of a compiled model for the viewer: bodies, joints, shapes and skins."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from vnl_envs.rendering.renderer import scene_option
from vnl_envs.replays.columns import Column, Packed, pack
from vnl_envs.scenes.world import World

_GEOM, _JOINT, _TEXTURE = mujoco.mjtGeom, mujoco.mjtJoint, mujoco.mjtTexture
_SHAPES = {
    _GEOM.mjGEOM_PLANE: "plane",
    _GEOM.mjGEOM_SPHERE: "sphere",
    _GEOM.mjGEOM_CAPSULE: "capsule",
    _GEOM.mjGEOM_ELLIPSOID: "ellipsoid",
    _GEOM.mjGEOM_CYLINDER: "cylinder",
    _GEOM.mjGEOM_BOX: "box",
    _GEOM.mjGEOM_MESH: "mesh",
}
_JOINTS = {
    _JOINT.mjJNT_FREE: "free",
    _JOINT.mjJNT_BALL: "ball",
    _JOINT.mjJNT_SLIDE: "slide",
    _JOINT.mjJNT_HINGE: "hinge",
}
_DIGITS = 6
_WEIGHT = 1 / 500


def describe(world: World, model: mujoco.MjModel, skins: Sequence[str]) -> dict[str, Any]:
    """Describe a world so that the viewer can draw its states, as plain values for JSON.

    Args:
        world: world with the bodies.
        model: model of the simulation. Its limbs can have other lengths than the world's.
        skins: names of the model's skins, see `pack_skins`.

    Raises:
        ValueError: the viewer cannot draw the shape of a visible geom.
    """
    visible = scene_option(world).geomgroup
    geoms = [_geom(model, i) for i in range(model.ngeom) if visible[model.geom_group[i]]]
    return {
        "bodies": [_body(model, i) for i in range(model.nbody)],
        "geoms": [geom for geom in geoms if geom["rgba"][3] > 0],
        "skins": [_skin_use(model, i, name) for i, name in enumerate(skins)],
        "animals": [
            {"bodies": _ends(body.bodies), "qpos": _ends(body.qpos)} for body in world.bodies
        ],
        "meshes": {
            str(i): _mesh(model, i)
            for i in sorted({geom["mesh"] for geom in geoms if "mesh" in geom})
        },
    }


def pack_skins(model: mujoco.MjModel) -> list[tuple[str, dict[str, Any]]]:
    """Name and data of each skin of a model. The name is a hash of the data."""
    packed = [_skin(model, i) for i in range(model.nskin)]
    return [(hashlib.sha256(p.data.encode()).hexdigest()[:12], p._asdict()) for p in packed]


def qpos_resolution(model: mujoco.MjModel) -> np.ndarray:
    """Resolutions of positions, (nq,): 0.1 mm, 0.0002 of quaternions, 1 mrad."""
    resolution = np.full(model.nq, 1e-3)
    for kind, start in zip(model.jnt_type, model.jnt_qposadr, strict=True):
        if kind == _JOINT.mjJNT_FREE:
            resolution[start : start + 3] = 1e-4
            resolution[start + 3 : start + 7] = 2e-4
        elif kind == _JOINT.mjJNT_BALL:
            resolution[start : start + 4] = 2e-4
        elif kind == _JOINT.mjJNT_SLIDE:
            resolution[start] = 1e-4
    return resolution


def _body(model: mujoco.MjModel, i: int) -> dict[str, Any]:
    joints = range(model.body_jntadr[i], model.body_jntadr[i] + model.body_jntnum[i])
    return {
        "parent": int(model.body_parentid[i]),
        "pos": _short(model.body_pos[i]),
        "quat": _short(model.body_quat[i]),
        "mocap": int(model.body_mocapid[i]),
        "joints": [_joint(model, j) for j in joints],
    }


def _joint(model: mujoco.MjModel, j: int) -> dict[str, Any]:
    start = int(model.jnt_qposadr[j])
    return {
        "type": _JOINTS[_JOINT(model.jnt_type[j])],
        "qpos": start,
        "zero": round(float(model.qpos0[start]), _DIGITS),
        "pos": _short(model.jnt_pos[j]),
        "axis": _short(model.jnt_axis[j]),
    }


def _geom(model: mujoco.MjModel, i: int) -> dict[str, Any]:
    kind = _GEOM(model.geom_type[i])
    if kind not in _SHAPES:
        raise ValueError(f"geom {model.geom(i).name!r} is of a kind that replays cannot draw")
    material = int(model.geom_matid[i])
    described = {
        "body": int(model.geom_bodyid[i]),
        "type": _SHAPES[kind],
        "size": _short(model.geom_size[i]),
        "pos": _short(model.geom_pos[i]),
        "quat": _short(model.geom_quat[i]),
        "rgba": _short(model.geom_rgba[i] if material < 0 else model.mat_rgba[material]),
    }
    if kind == _GEOM.mjGEOM_MESH:
        described["mesh"] = int(model.geom_dataid[i])
    checker = _checker(model, material) if material >= 0 else None
    return described if checker is None else {**described, "checker": checker}


def _checker(model: mujoco.MjModel, material: int) -> dict[str, Any] | None:
    """The two colours of a material's texture and the side of its tiles, m; None without one."""
    texture = int(model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB])
    if texture < 0 or model.tex_type[texture] != _TEXTURE.mjTEXTURE_2D:
        return None
    height, width = int(model.tex_height[texture]), int(model.tex_width[texture])
    start, channels = int(model.tex_adr[texture]), int(model.tex_nchannel[texture])
    pixels = model.tex_data[start : start + height * width * channels]
    pixels = pixels.reshape(height, width, channels)[..., :3] / 255
    colours = [pixels[height // 4, width // 4], pixels[height // 4, 3 * width // 4]]
    return {
        "colours": [_short(colour) for colour in colours],
        "tile": round(0.5 / float(model.mat_texrepeat[material, 0]), _DIGITS),
    }


def _mesh(model: mujoco.MjModel, i: int) -> dict[str, Any]:
    vertices = slice(model.mesh_vertadr[i], model.mesh_vertadr[i] + model.mesh_vertnum[i])
    faces = slice(model.mesh_faceadr[i], model.mesh_faceadr[i] + model.mesh_facenum[i])
    columns = {
        "vertex": Column(model.mesh_vert[vertices], 1e-5),
        "face": Column(model.mesh_face[faces]),
    }
    return pack(columns)._asdict()


def _skin(model: mujoco.MjModel, i: int) -> Packed:
    """Vertices, faces, bind poses of the bones, and bones and weights of each vertex."""
    vertices = slice(model.skin_vertadr[i], model.skin_vertadr[i] + model.skin_vertnum[i])
    faces = slice(model.skin_faceadr[i], model.skin_faceadr[i] + model.skin_facenum[i])
    bones = range(model.skin_boneadr[i], model.skin_boneadr[i] + model.skin_bonenum[i])
    entries = slice(
        model.skin_bonevertadr[bones.start],
        model.skin_bonevertadr[bones.stop - 1] + model.skin_bonevertnum[bones.stop - 1],
    )
    vertex = model.skin_bonevertid[entries]
    bone = np.repeat(np.arange(len(bones)), model.skin_bonevertnum[bones.start : bones.stop])
    order = np.lexsort((bone, vertex))
    of_skin = slice(bones.start, bones.stop)
    return pack(
        {
            "vertex": Column(model.skin_vert[vertices], 1e-5),
            "face": Column(model.skin_face[faces]),
            "bind_pos": Column(model.skin_bonebindpos[of_skin], 1e-5),
            "bind_quat": Column(model.skin_bonebindquat[of_skin], 1e-4),
            "bone_count": Column(np.bincount(vertex, minlength=model.skin_vertnum[i])[:, None]),
            "bone": Column(bone[order, None]),
            "weight": Column(model.skin_bonevertweight[entries][order, None], _WEIGHT),
        }
    )


def _skin_use(model: mujoco.MjModel, i: int, name: str) -> dict[str, Any]:
    start, count = model.skin_boneadr[i], model.skin_bonenum[i]
    material = int(model.skin_matid[i])
    return {
        "skin": name,
        "bones": model.skin_bonebodyid[start : start + count].tolist(),
        "rgba": _short(model.skin_rgba[i] if material < 0 else model.mat_rgba[material]),
    }


def _ends(part: slice) -> list[int]:
    return [part.start, part.stop]


def _short(values: np.ndarray) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]
