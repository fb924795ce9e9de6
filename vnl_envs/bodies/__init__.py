"""Bodies: the rodent and the humanoid, and the `Body` class that describes them."""

from __future__ import annotations

from vnl_envs.bodies.body import Body, PhysicsOptions
from vnl_envs.bodies.humanoid import HUMANOID
from vnl_envs.bodies.model import BodyModel
from vnl_envs.bodies.rodent import RODENT

__all__ = ["HUMANOID", "RODENT", "Body", "BodyModel", "PhysicsOptions"]
