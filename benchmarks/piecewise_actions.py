"""`python -m baselines.ppo` with another action map, for `benchmarks.ablation`.

Actions 1 and -1 are the actuator's two limits. The map is linear on each side of 0, the standing
pose, with two slopes.
"""

from __future__ import annotations

from typing import Any

import typer

from baselines.ppo.__main__ import main
from vnl_envs.bodies.model import BodyModel
from vnl_envs.physics import namespace


def control(self: BodyModel, action: Any) -> Any:
    """Convert actions in [-1, 1] to controls, (..., nu) -> (..., nu)."""
    below = self.standing_control - self._low
    above = self._high - self.standing_control
    return self.standing_control + action * namespace(action).where(action < 0, below, above)


if __name__ == "__main__":
    BodyModel.control = control  # type: ignore[method-assign]
    typer.run(main)
