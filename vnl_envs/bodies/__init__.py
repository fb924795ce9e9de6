"""Bodies and the table that names them."""

from __future__ import annotations

from vnl_envs.bodies.body import Body, BodyModel, PhysicsOptions
from vnl_envs.bodies.humanoid import HUMANOID
from vnl_envs.bodies.rodent import RODENT

__all__ = ["HUMANOID", "RODENT", "Body", "BodyModel", "PhysicsOptions"]
