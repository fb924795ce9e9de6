"""Kinds of perturbation that draw one factor for each setting."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from vnl_envs.perturbations.kind import Kind, Parts, Setting, part
from vnl_envs.physics import Array, namespace
from vnl_envs.tasks.task import Task
from vnl_envs.utils import checks

# Bounds of factors in a user's episode, wider than those of drawn factors, for sweeps.
_LEAST, _GREATEST = 0.05, 20.0


def factor(name: str, most: float, text: str, *, in_every_hash: bool = False) -> Setting:
    """A setting x in [0, most] that draws one factor in [1 - x, 1 + x]."""
    return Setting(
        name=name,
        values=f"x in [0, {most:g}]",
        text=text,
        check=lambda name, value: checks.number(name, value, 0.0, most),
        example=0.2,
        in_every_hash=in_every_hash,
    )


class Factors(Kind):
    """A kind that draws one factor for each setting that is on."""

    def __init__(self, task: Task, *sizes: float) -> None:
        self._sizes = {
            setting.name: size
            for setting, size in zip(self.settings, sizes, strict=True)
            if size > 0
        }
        self.privileged = tuple(self._sizes)
        self.uniforms = len(self._sizes)

    def draw(self, u: Array) -> dict[str, Array]:
        """Factors (...,) by the setting's name."""
        sizes = enumerate(self._sizes.items())
        return {name: (1.0 - x) + (2.0 * x) * u[..., i] for i, (name, x) in sizes}

    def check_episode(self, episode: Parts) -> None:
        """Check that factors lie within wide bounds."""
        for name in self._sizes:
            for value in np.ravel(episode[name]):
                checks.number(part(name), float(value), _LEAST, _GREATEST)


class FieldFactor(Factors):
    """A kind with one factor for some rows of some fields of the model."""

    fields: ClassVar[tuple[str, ...]]
    """Names of the fields."""

    def __init__(self, task: Task, *sizes: float) -> None:
        super().__init__(task, *sizes)
        self._rows = self.rows(task)
        self._dimensions = {name: np.ndim(getattr(task.world.model, name)) for name in self.fields}

    @staticmethod
    @abstractmethod
    def rows(task: Task) -> np.ndarray[Any, Any]:
        """The rows of the fields that the factor scales, (n,) bool."""

    def model_factors(self, episode: Parts) -> dict[str, Array]:
        """The factor in these rows, 1 in all others; by field."""
        (name,) = self._sizes
        by_row = namespace(episode[name]).where(self._rows, episode[name][..., None], 1.0)
        return {
            field: by_row if dimensions == 1 else by_row[..., None]
            for field, dimensions in self._dimensions.items()
        }
