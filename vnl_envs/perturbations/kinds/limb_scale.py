"""Lengths and thicknesses of limbs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vnl_envs.perturbations.factors import Factors, factor
from vnl_envs.perturbations.kind import Parts
from vnl_envs.perturbations.limb_geometry import Limbs
from vnl_envs.physics import Array, Physics, namespace
from vnl_envs.tasks.observations import Proprioception
from vnl_envs.tasks.task import Observation, Start, Task


class LimbScale(Factors):
    """One factor for the length and one for the thickness of all limb segments.

    Both form one kind, as masses and inertias depend on both.

    Raises:
        ValueError: a limb cannot be scaled, see `Limbs`.
    """

    settings = (
        # A body with much shorter limbs would start fallen.
        factor("limb_length", 0.3, "all limb segments' lengths times one factor"),
        factor("limb_size", 0.5, "all limb segments' thicknesses times one factor"),
    )
    native_only = True
    in_every_hash = True

    def __init__(self, task: Task, *sizes: float) -> None:
        super().__init__(task, *sizes)
        self._body, self._limbs = task.body, Limbs(task.body)
        self._proprioception = Proprioception(task.body)

    def start(self, start: Start, episode: Parts) -> Start:
        """The start, raised or lowered so that paws and soles keep their height."""
        lift = self._limbs.sink(start.qpos, *self._scales(episode))
        up = lift[..., None] * (np.arange(self._body.nq) == 2)
        return start._replace(qpos=start.qpos + up)

    def model_fields(self, episode: Parts) -> dict[str, Array]:
        """See `Limbs.fields`."""
        return self._limbs.fields(*self._scales(episode))

    def sensed(
        self,
        observed: Observation,
        physics: Physics,
        clearance: Callable[[Array], Array],
        episode: Parts,
    ) -> Observation:
        """Observations whose touch uses the capsules of the scaled limbs."""
        sense = self._proprioception
        geoms = sense.geoms + self._body.geoms.start
        scales = self._scales(episode)
        half, radius = self._limbs.capsules(geoms, sense.half, sense.radius, *scales)
        touch = sense.touch(physics, clearance, half, radius)
        return {**observed, "proprioception": {**observed["proprioception"], "touch": touch}}

    def _scales(self, episode: Parts) -> tuple[Array, Array]:
        """Factors of lengths and thicknesses, (...,) each; 1 for a setting that is off."""
        some = episode[next(iter(self._sizes))]
        one = namespace(some).ones_like(some)
        length, size = (episode.get(setting.name, one) for setting in self.settings)
        return length, size
