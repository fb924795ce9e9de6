"""Observations of the body in every task: egocentric, without global position or heading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vnl_envs.bodies.model import BodyModel
from vnl_envs.physics import Array, Physics, columns, namespace


@dataclass(frozen=True)
class Frame:
    """The body's own frame.

    Attributes:
        position: (..., 3) origin of the root, m, world frame.
        rotation: (..., 3, 3) matrix whose columns are forward, left and up, world frame.
    """

    position: Array
    rotation: Array

    def affine(self) -> Array:
        """The matrix (..., 4, 3) that maps homogeneous world points (x, y, z, 1) into this frame.

        One product with it is faster than to subtract the position from many short rows.
        """
        xp = namespace(self.position)
        moved = self.position[..., None, :] @ self.rotation
        return xp.concat([self.rotation, -moved], axis=-2)

    def heading(self) -> Array:
        """Horizontal direction of the forward axis, a unit vector (..., 2), world frame."""
        forward = self.rotation[..., :2, 0]
        xp = namespace(forward)
        length = xp.sqrt((forward * forward).sum(axis=-1, keepdims=True))
        return forward / xp.maximum(length, 1e-6)

    def level(self, vector: Array) -> Array:
        """Turn horizontal world vectors (..., 2) into (forward, left) of the heading."""
        heading = self.heading()
        hx, hy = heading[..., 0], heading[..., 1]
        x, y = vector[..., 0], vector[..., 1]
        return columns(hx * x + hy * y, hx * y - hy * x)


def frame(body: BodyModel, physics: Physics) -> Frame:
    """The frame of a body in a physics state."""
    root = physics.xmat[..., 0, :]
    return Frame(physics.xpos[..., 0, :], root.reshape((*root.shape[:-1], 3, 3)) @ body.ego)


class Proprioception:
    """The observations of the body itself, the same in every task.

    Args:
        body: body that is observed.

    Attributes:
        limbs: (limbs,) rows of hands, feet and head among the body's bodies.
        geoms: (n,) rows of the touch-sensing geoms among the body's own.
        half, radius: (n,) half-lengths and radii of these geoms, m.
        groups: (sensors, most) places in `geoms` of each sensor's geoms; short groups repeat one.
    """

    def __init__(self, body: BodyModel) -> None:
        self._body = body
        names = (*body.body.hands, *body.body.feet, body.body.head)
        self.limbs = body.body_index(*names)
        touch = body.body.touch
        geoms = list(dict.fromkeys(name for group in touch.values() for name in group))
        self.geoms, self.half, self.radius = body.capsules(*geoms)
        width = max(map(len, touch.values()))
        self.groups = np.array(
            [[geoms.index(n) for n in g + g[:1] * (width - len(g))] for g in touch.values()]
        )

    def __call__(
        self,
        physics: Physics,
        own: Frame,
        clearance: Callable[[Array], Array],
        elevation: Array | None = None,
    ) -> dict[str, Array]:
        """Observations by name, in order.

        Args:
            physics: state of the body.
            own: frame of the body.
            clearance: function for the signed distance of world points (..., n, 3) to the ground,
                (..., n), m.
            elevation: height of the ground under the root, (...,), m; None is 0.

        Returns:
            joint_position (nj, rad), joint_velocity (nj, rad/s), actuator_activation (na), with
            muscles muscle_length, muscle_velocity and muscle_force (nu, see `MuscleState`),
            root_height (1, m above the ground), world_up (3, unit vector),
            linear_velocity (3, m/s), angular_velocity (3, rad/s), limb_position (3 per hand, foot
            and head, m), touch (1 per sensor, 0 or 1). Vectors are in the body's own frame.
        """
        xp = namespace(physics.qpos)
        qpos, qvel = physics.qpos, physics.qvel
        vectors = xp.concat(
            [
                qvel[..., None, :3],
                physics.xpos.take(self.limbs, axis=-2) - own.position[..., None, :],
            ],
            axis=-2,
        )
        vectors = vectors @ own.rotation
        batch = qpos.shape[:-1]
        height = qpos[..., 2:3]
        return {
            "joint_position": qpos[..., 7:],
            "joint_velocity": qvel[..., 6:],
            "actuator_activation": physics.act,
            **self._muscles(physics),
            "root_height": height if elevation is None else height - elevation[..., None],
            "world_up": own.rotation[..., 2, :],
            "linear_velocity": vectors[..., 0, :],
            "angular_velocity": (qvel[..., None, 3:6] @ self._body.ego)[..., 0, :],
            "limb_position": vectors[..., 1:, :].reshape((*batch, -1)),
            "touch": self.touch(physics, clearance, self.half, self.radius),
        }

    def _muscles(self, physics: Physics) -> dict[str, Array]:
        muscles = self._body.muscles
        if muscles is None:
            return {}
        state = muscles.state(physics)._asdict()
        return {f"muscle_{name}": value for name, value in state.items()}

    def touch(
        self, physics: Physics, clearance: Callable[[Array], Array], half: Array, radius: Array
    ) -> Array:
        """For each sensor, 1 if any of its geoms reaches into the ground, else 0, (..., sensors).

        Args:
            physics, clearance: see `__call__`.
            half, radius: half-lengths and radii of `geoms`, (..., n), m.
        """
        xp = namespace(physics.qpos)
        centre = physics.geom_xpos.take(self.geoms, axis=-2)
        # The third column of the orientation is the capsule's axis.
        arm = physics.geom_xmat.take(self.geoms, axis=-2)[..., 2::3] * half[..., None]
        n = len(self.geoms)
        height = clearance(xp.concat([centre + arm, centre - arm], axis=-2))
        lowest = xp.minimum(height[..., :n], height[..., n:]) - radius
        return xp.where(lowest.take(self.groups, axis=-1).min(axis=-1) < 0, 1.0, 0.0)
