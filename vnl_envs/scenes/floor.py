"""An endless flat floor."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco

from vnl_envs.bodies.body import GROUND_CONTYPE


def base_spec() -> mujoco.MjSpec:
    """An empty scene with the sky and materials that all scenes share."""
    spec = mujoco.MjSpec()
    spec.visual.headlight.ambient = [0.4, 0.4, 0.4]
    spec.visual.headlight.diffuse = [0.35, 0.35, 0.35]
    spec.visual.headlight.specular = [0.1, 0.1, 0.1]
    spec.visual.quality.shadowsize = 2048
    # A smaller value leaves specks of shadow on the ground.
    spec.visual.map.shadowclip = 3
    spec.visual.map.znear = 0.01
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.82, 0.88, 0.94],
        rgb2=[0.45, 0.55, 0.68],
        width=128,
        height=128,
    )
    spec.add_texture(
        name="checker",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.42, 0.47, 0.50],
        rgb2=[0.52, 0.57, 0.60],
        mark=mujoco.mjtMark.mjMARK_EDGE,
        markrgb=[0.56, 0.61, 0.64],
        width=256,
        height=256,
    )
    ground = spec.add_material(name="ground", texuniform=True, reflectance=0.0)
    ground.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "checker"
    return spec


@dataclass(frozen=True)
class Floor:
    """A plane at z = 0.

    Attributes:
        tile: side length of a drawn tile, m.
    """

    tile: float = 1.0

    def spec(self) -> mujoco.MjSpec:
        """The spec of the floor, without bodies."""
        spec = base_spec()
        spec.material("ground").texrepeat = [0.5 / self.tile, 0.5 / self.tile]
        spec.worldbody.add_geom(
            name="floor",
            type=mujoco.mjtGeom.mjGEOM_PLANE,
            # Half-sizes of 0 make the plane endless.
            size=[0, 0, 0.05],
            material="ground",
            contype=GROUND_CONTYPE,
            conaffinity=GROUND_CONTYPE,
        )
        return spec
