"""The contract of a kind of perturbation: its settings, and what it changes in a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from vnl_envs.physics import Array, Physics
from vnl_envs.tasks.task import Observation, Start, Task

PREFIX = "perturbation/"
"""Of the names that perturbations add to episodes and carries."""

Parts = Mapping[str, Array]
"""What perturbations added to an Episode or a Carry: name without `PREFIX` -> (..., *)."""


@dataclass(frozen=True)
class Setting:
    """One attribute of `Perturbations`.

    Attributes:
        name: name of the attribute.
        values: text that says which values there are.
        text: text that says what a value changes.
        check: function of name and value that returns the value to keep. It raises a `ValueError`
            for a value out of bounds or of a wrong kind.
        example: a value that changes something, for tests.
        off: the default, which changes nothing.
        on: function that says whether a checked value changes anything.
    """

    name: str
    values: str
    text: str
    check: Callable[[str, Any], Any]
    example: Any
    off: Any = 0.0
    on: Callable[[Any], bool] = bool


class Kind:
    """One kind of perturbation in one task. Each method changes nothing unless it is overridden.

    An instance is made where at least one setting is on. Arrays have any leading batch shape and
    are NumPy's or JAX's. The arguments `episode` and `carry` hold what perturbations added, see
    `Parts`. A kind with a `stream` finds the episode's "seed" and the "step" there, for
    `vnl_envs.perturbations.counter_rng`.

    Args:
        task: the task that is perturbed.
        values: checked values of `settings`, in order.

    Attributes:
        uniforms: how many uniform numbers `draw` takes.
        privileged: names of the numbers that `privileged_entries` returns.
    """

    settings: ClassVar[tuple[Setting, ...]]
    """Attributes of `Perturbations` that belong to this kind."""

    stream: ClassVar[int] = 0
    """Stream of the random numbers drawn from step to step, its own; 0 where none are drawn."""

    native_only: ClassVar[bool] = False
    """Whether only the native engine simulates it."""

    in_every_hash: ClassVar[bool] = False
    """Whether the `env_hash` of every perturbed task covers the settings, those that are off too.

    Only the kinds that the first hashes covered have True. A new kind leaves hashes as they are.
    """

    uniforms: int = 0
    privileged: tuple[str, ...] = ()

    def __init__(self, task: Task, *values: Any) -> None:
        pass

    @classmethod
    def check_task(cls, task: Task, *values: Any) -> None:
        """Compare the settings with a task, also where all are off.

        Raises:
            ValueError: the task has no such thing to perturb.
        """

    def draw(self, u: Array) -> dict[str, Array]:
        """Parts of the Episode from uniform numbers in [0, 1), (..., uniforms) float32."""
        return {}

    def check_episode(self, episode: Parts) -> None:
        """Look at the parts of one episode (no batch axis) that a user gives.

        Raises:
            ValueError: a part is out of bounds.
        """

    def start(self, start: Start, episode: Parts) -> Start:
        """The state in which an episode starts."""
        return start

    def first_carry(self, start: Start) -> dict[str, Array]:
        """Parts of the Carry of an episode that starts."""
        return {}

    def next_carry(self, given: Array, passed: Array, carry: Parts) -> dict[str, Array]:
        """The same parts after a step in which `command` made `passed` of `given`."""
        return {}

    def model_fields(self, episode: Parts) -> dict[str, Array]:
        """Fields of the model that are replaced, each (..., *field's shape)."""
        return {}

    def model_factors(self, episode: Parts) -> dict[str, Array]:
        """Factors of fields of the model, to be broadcast to (..., *field's shape).

        They apply after all kinds have replaced fields.
        """
        return {}

    def command(self, action: Array, episode: Parts, carry: Parts) -> Array:
        """What goes on towards the actuators where `action` comes in, (..., nu)."""
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
            physics: the body's state.
            clearance: signed distance of world points (..., n, 3) to the ground, (..., n), m.
            episode: see the class.
        """
        return observed

    def perceived(self, observed: Observation, episode: Parts, carry: Parts) -> Observation:
        """What a policy gets of the observations."""
        return observed

    def privileged_entries(self, episode: Parts, level: Callable[[Array], Array]) -> list[Array]:
        """Numbers that a critic is told of the episode, (..., n) each; see `privileged`.

        `level` turns a horizontal world vector (..., 2) into (forward, left) of the body's heading.
        """
        return [episode[name][..., None] for name in self.privileged]

    def privileged_parts(
        self, episode: Parts, carry: Parts, level: Callable[[Array], Array]
    ) -> dict[str, Array]:
        """Observations for a critic that change from step to step, by name, (..., size) each."""
        return {}


def part(name: str) -> str:
    """How errors name a part of the Episode."""
    return f"episode part {PREFIX + name!r}"
