"""Sizes of limbs and trunk."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vnl_envs.perturbations.factors import Factors, factor
from vnl_envs.perturbations.kind import Parts, Setting
from vnl_envs.perturbations.limb_geometry import Limbs, Scales
from vnl_envs.physics import Array, Physics, namespace
from vnl_envs.tasks.observations import Proprioception
from vnl_envs.tasks.task import FALLEN_HEIGHT, Observation, Start, Task
from vnl_envs.utils import checks

_OF_LIMBS = "limb_length", "limb_size"


class LimbScale(Factors):
    """Factors for the lengths and thicknesses of limb segments, and for the trunk.

    All form one kind, as masses and inertias depend on all. With `per_limb` each limb has factors
    of its own: these parts of the Episode are (..., limbs), in the order of hands and feet.

    Raises:
        ValueError: a part of the body cannot be scaled, see `Limbs`.
    """

    settings = (
        factor(
            "limb_length", 0.5, "all limb segments' lengths times one factor", in_every_hash=True
        ),
        factor(
            "limb_size", 0.5, "all limb segments' thicknesses times one factor", in_every_hash=True
        ),
        factor("torso_size", 0.5, "trunk, head and tail times one factor in all directions"),
        Setting(
            name="per_limb",
            values="`True` or `False`",
            text="each limb has factors of its own for `limb_length` and `limb_size`",
            check=checks.flag,
            example=True,
            off=False,
        ),
    )
    native_only = True

    def __init__(
        self, task: Task, length: float, size: float, torso: float, per_limb: bool
    ) -> None:
        super().__init__(task, length, size, torso, 0.0)
        self._body, self._limbs = task.body, Limbs(task.body, torso > 0)
        self._proprioception = Proprioception(task.body)
        self._per_limb = per_limb
        names = self._limbs.names
        self._count = len(names)
        self.privileged = tuple(
            full
            for name in self._sizes
            for full in ([f"{name}_{limb}" for limb in names] if self._each(name) else [name])
        )
        self.uniforms = len(self.privileged)

    @classmethod
    def check_task(cls, task: Task, *values: float) -> None:
        """Check that there is something for each limb to have of its own."""
        length, size, _, per_limb = values
        if per_limb and not length and not size:
            raise ValueError("per_limb needs limb_length or limb_size")

    def draw(self, u: Array) -> dict[str, Array]:
        """Factors (...,) by the setting's name, of each limb (..., limbs)."""
        parts, at = {}, 0
        for name, x in self._sizes.items():
            each = self._each(name)
            place = slice(at, at + self._count) if each else at
            parts[name] = (1.0 - x) + (2.0 * x) * u[..., place]
            at += self._count if each else 1
        return parts

    def start(self, start: Start, episode: Parts) -> Start:
        """The start, raised or lowered so that paws and soles keep their height."""
        lift = self._limbs.sink(start.qpos, self._scales(episode))
        up = lift[..., None] * (np.arange(self._body.nq) == 2)
        return start._replace(qpos=start.qpos + up)

    def known(self, episode: Parts) -> dict[str, Array]:
        """The height below which the body has fallen, in proportion to how high it stands.

        A body stands on the mean of the limbs that bear it.
        """
        standing = self._body.standing_qpos
        batch = episode[next(iter(self._sizes))]
        xp = namespace(batch)
        scales = self._scales(episode)
        qpos = xp.zeros((*scales.torso.shape, 1), dtype=batch.dtype) + standing
        height = standing[2] + self._limbs.sink(qpos, scales.mean_of(self._limbs.bearing))
        return {FALLEN_HEIGHT: self._body.body.fallen_height * height / standing[2]}

    def model_fields(self, episode: Parts) -> dict[str, Array]:
        """See `Limbs.fields`."""
        return self._limbs.fields(self._scales(episode))

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
        half, radius = self._limbs.capsules(geoms, sense.half, sense.radius, scales)
        touch = sense.touch(physics, clearance, half, radius)
        return {**observed, "proprioception": {**observed["proprioception"], "touch": touch}}

    def privileged_entries(self, episode: Parts, level: Callable[[Array], Array]) -> list[Array]:
        """The factors."""
        return [
            episode[name] if self._each(name) else episode[name][..., None] for name in self._sizes
        ]

    def _each(self, name: str) -> bool:
        """Whether each limb has a factor of its own for a setting."""
        return self._per_limb and name in _OF_LIMBS and name in self._sizes

    def _scales(self, episode: Parts) -> Scales:
        """All factors; 1 for a setting that is off."""
        some = next(iter(self._sizes))
        drawn = episode[some]
        xp = namespace(drawn)
        one = xp.ones_like(drawn[..., 0] if self._each(some) else drawn)
        ones = xp.ones((*one.shape, self._count), dtype=one.dtype)
        length, size = (
            episode[name] if self._each(name) else episode.get(name, one)[..., None] * ones
            for name in _OF_LIMBS
        )
        return Scales(length, size, episode.get("torso_size", one))
