"""The contract of a kind of perturbation: its settings, and its changes to a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from vnl_envs.physics import Array, Physics
from vnl_envs.tasks.task import Observation, Start, Task

PREFIX = "perturbation/"
"""Prefix of the names that perturbations add to episodes and carries."""

Parts = Mapping[str, Array]
"""Parts that perturbations added to an Episode or a Carry: name without `PREFIX` -> (..., *)."""


@dataclass(frozen=True)
class Setting:
    """One attribute of `Perturbations`.

    Attributes:
        name: name of the attribute.
        values: description of the possible values.
        text: description of what a value changes.
        check: function of name and value that returns the value to keep. It raises a `ValueError`
            for a value out of bounds or of a wrong kind.
        example: a value that changes something, for tests.
        off: the default, which changes nothing.
        on: function that says whether a checked value changes anything.
        in_every_hash: whether the `env_hash` of every perturbed task covers the setting, even if it
            is off. True is for the first ones only: with new ones, existing hashes stay.
    """

    name: str
    values: str
    text: str
    check: Callable[[str, Any], Any]
    example: Any
    off: Any = 0.0
    on: Callable[[Any], bool] = bool
    in_every_hash: bool = False


class Kind:
    """One kind of perturbation in one task. Each method changes nothing unless it is overridden.

    An instance is made if at least one setting is on. Arrays have any leading batch shape and are
    NumPy's or JAX's. The arguments `episode` and `carry` hold the parts that perturbations added,
    see `Parts`. For a kind with a `stream`, `episode` has the "seed" and `carry` the "step" for
    `vnl_envs.perturbations.counter_rng`.

    Args:
        task: the task that is perturbed.
        values: checked values of `settings`, in order.

    Attributes:
        uniforms: number of uniform numbers that `draw` takes.
        privileged: names of the numbers that `privileged_entries` returns.
    """

    settings: ClassVar[tuple[Setting, ...]]
    """Attributes of `Perturbations` that belong to this kind."""

    stream: ClassVar[int] = 0
    """Stream of the random numbers drawn from step to step, unique; 0 if none are drawn."""

    native_only: ClassVar[bool] = False
    """Whether only the native engine simulates it."""

    uniforms: int = 0
    privileged: tuple[str, ...] = ()

    def __init__(self, task: Task, *values: Any) -> None:
        pass

    @classmethod
    def check_task(cls, task: Task, *values: Any) -> None:
        """Check that a task has everything that the settings perturb. It is called even if all
        are off.

        Raises:
            ValueError: the task does not have it.
        """

    def draw(self, u: Array) -> dict[str, Array]:
        """Parts of the Episode from uniform numbers in [0, 1), (..., uniforms) float32."""
        return {}

    def check_episode(self, episode: Parts) -> None:
        """Check the parts of one episode (no batch axis) from a user.

        Raises:
            ValueError: a part is out of bounds.
        """

    def start(self, start: Start, episode: Parts) -> Start:
        """The state in which an episode starts, changed from `start`."""
        return start

    def known(self, episode: Parts) -> dict[str, Array]:
        """Parts of the Carry that the inner task reads in place of its own constants."""
        return {}

    def first_carry(self, start: Start) -> dict[str, Array]:
        """Parts of the Carry at the start of an episode."""
        return {}

    def next_carry(self, given: Array, passed: Array, carry: Parts) -> dict[str, Array]:
        """Parts of the Carry after a step in which `command` turned `given` into `passed`.

        Both are actions (..., nu).
        """
        return {}

    def model_fields(self, episode: Parts) -> dict[str, Array]:
        """Fields of the model to replace, each (..., *field's shape)."""
        return {}

    def model_factors(self, episode: Parts) -> dict[str, Array]:
        """Factors for fields of the model, which broadcast to (..., *field's shape).

        They apply after all kinds have replaced fields.
        """
        return {}

    def command(self, action: Array, episode: Parts, carry: Parts) -> Array:
        """The action that this kind passes on towards the actuators, (..., nu)."""
        return action

    def force(self, episode: Parts, carry: Parts) -> Array | None:
        """Force on the root's centre of mass in the coming step, N, world frame, (..., 3)."""
        return None

    def sensed(
        self,
        observed: Observation,
        physics: Physics,
        clearance: Callable[[Array], Array],
        episode: Parts,
    ) -> Observation:
        """Observations of the perturbed body, before any noise.

        Args:
            observed: observations of the unperturbed body in this state.
            physics: state of the body.
            clearance: function for the signed distance of world points (..., n, 3) to the ground,
                (..., n), m.
            episode: see the class.
        """
        return observed

    def perceived(self, observed: Observation, episode: Parts, carry: Parts) -> Observation:
        """The observations that a policy gets, with noise."""
        return observed

    def privileged_entries(self, episode: Parts, level: Callable[[Array], Array]) -> list[Array]:
        """Numbers about the episode for a critic, (..., n) each; see `privileged`.

        `level` turns a horizontal world vector (..., 2) into (forward, left) of the body's heading.
        """
        return [episode[name][..., None] for name in self.privileged]

    def privileged_parts(
        self, episode: Parts, carry: Parts, level: Callable[[Array], Array]
    ) -> dict[str, Array]:
        """Observations for a critic that change from step to step, by name, (..., size) each."""
        return {}


def part(name: str) -> str:
    """The name of a part of the Episode in error messages."""
    return f"episode part {PREFIX + name!r}"
