"""The contract of a task: the decision process on a body in a scene, as pure array code.

Every function takes NumPy or JAX arrays with any leading batch shape, and never an engine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from vnl_envs.physics import Array, Physics, namespace
from vnl_envs.scenes.world import Scene, World
from vnl_envs.tasks.cells import Cells, Drawn
from vnl_envs.tasks.metrics import Metric, PrimaryMetric
from vnl_envs.tasks.observations import Frame, Proprioception, frame

Episode = Mapping[str, Array]
"""Everything that differs between episodes and is known at the start: name -> (..., *)."""

Carry = Mapping[str, Array]
"""The task's memory during an episode: name -> (..., *)."""

Observation = dict[str, dict[str, Array]]
"""Group -> name -> (..., size). The groups are "proprioception" and "task", which policies see.
Tasks that hide something (`Task.hidden`) and perturbed ones add `PRIVILEGED`, which is no part of
an environment's observation."""

FALLEN_HEIGHT = "fallen_height"
"""Name in the Carry of the height below which a changed body has fallen, (...,), m."""

ReferenceAction = Literal["track", "feedforward"]
"""Kind of action that follows a pose, see `Task.reference_action`."""

PRIVILEGED = "privileged"
"""Group of what an asymmetric critic may see: all that policies see, without noise, and more; see
`Task.hidden` and `vnl_envs.perturbations.PerturbedTask`."""


class Start(NamedTuple):
    """The state in which an episode starts.

    Attributes:
        qpos: (..., nq) positions, see `Physics`.
        qvel: (..., nv) velocities, see `Physics`.
        act: (..., na) actuator activation states.
        mocap_pos: (..., nmocap, 3) positions of movable scenery, m; None if there is none.
    """

    qpos: Array
    qvel: Array
    act: Array
    mocap_pos: Array | None = None


class ExternalInputs(NamedTuple):
    """External influences on a simulation during a control step; None if a task has none.

    Attributes:
        mocap_pos: (..., nmocap, 3) positions of movable scenery, m.
        force: (..., 3) force on the body's root at its centre of mass, N, world frame.
    """

    mocap_pos: Array | None = None
    force: Array | None = None


class Outcome(NamedTuple):
    """The result of one control step.

    Attributes:
        observation: observations by group and name, see `Observation`.
        reward: (...,) reward.
        terms: terms of the reward by name, each (...,).
        terminated: (...,) whether the task failed.
        truncated: (...,) whether time or motion ran out; never together with `terminated`.
        metrics: current values of the declared metrics by name, each (...,).
        success: (...,) whether the episode counts as a success so far.
    """

    observation: Observation
    reward: Array
    terms: dict[str, Array]
    terminated: Array
    truncated: Array
    metrics: dict[str, Array]
    success: Array


@dataclass(frozen=True)
class Marker:
    """A sphere that is drawn and not simulated.

    Attributes:
        position: (3,) centre, m, world frame.
        radius: radius, m.
        rgba: colour and opacity, in [0, 1].
    """

    position: Array
    radius: float
    rgba: tuple[float, float, float, float]


@dataclass(frozen=True)
class Ghost:
    """A translucent copy of the body, drawn for people and never for `vision`.

    Attributes:
        qpos: (nq,) pose.
        rgba: colour and opacity, in [0, 1].
    """

    qpos: Array
    rgba: tuple[float, float, float, float] = (0.2, 0.6, 1.0, 0.35)


@dataclass(frozen=True)
class Block:
    """A box that is drawn and not simulated: position (3,) m, half-sizes m, colour."""

    position: Array
    half: tuple[float, float, float]
    rgba: tuple[float, float, float, float]


Overlay = Marker | Ghost | Block


class Task(ABC):
    """A task on the first body of a world.

    Args:
        world: compiled scene with the body.
        horizon: number of control steps after which an episode is truncated.

    Attributes:
        uniforms: number of uniform numbers that `episode` takes.
    """

    about: ClassVar[str] = ""
    """Short description; a format string over the task's settings."""

    options: ClassVar[dict[str, str]] = {}
    """Keyword arguments that users may give to `gym.make`: name -> description."""

    unit_name: ClassVar[str] = "unit"
    """Noun for the values of `unit`, such as "clip"."""

    metrics: tuple[Metric, ...] = ()
    """Metrics of an episode beside the standard ones."""

    primary: PrimaryMetric | None = None
    """Metric that counts on a leaderboard. A task without one is in no suite."""

    cells: ClassVar[Cells] = Drawn()
    """Cells into which a suite divides the task's episodes."""

    uniforms: int

    def __init__(self, world: World, horizon: int) -> None:
        self.world = world
        self.body = world.body
        self.horizon = horizon
        self.dt = world.dt
        self._proprioception = Proprioception(world.body)

    @classmethod
    @abstractmethod
    def scene(cls, **settings: Any) -> Scene:
        """The scene for the task's settings."""

    @property
    @abstractmethod
    def reward_terms(self) -> dict[str, str]:
        """The terms of the reward: name -> description."""

    @abstractmethod
    def episode(self, u: Array) -> Episode:
        """Make episodes from uniform numbers in [0, 1), (..., uniforms) float32."""

    def check_episode(self, episode: Episode) -> None:  # noqa: B027
        """Check the values of one episode (no batch axis) from a user.

        Its shapes and types have been checked before.

        Raises:
            ValueError: a value is not possible in this task.
        """

    @abstractmethod
    def begin(self, episode: Episode) -> tuple[Start, Carry]:
        """The state in which an episode starts, and its first carry."""

    @abstractmethod
    def evaluate(
        self, physics: Physics, action: Array, episode: Episode, carry: Carry
    ) -> tuple[Carry, Outcome]:
        """The next carry and the outcome of a control step.

        Args:
            physics: state after the step.
            action: (..., nu) action of the step.
            episode: episode, see `Episode`.
            carry: carry before the step.
        """

    @abstractmethod
    def observe_task(
        self, physics: Physics, own: Frame, episode: Episode, carry: Carry
    ) -> dict[str, Array]:
        """The observations of group "task", by name, each (..., size)."""

    def hidden(self, carry: Carry) -> dict[str, Array]:
        """What only a critic may see, by name, each (..., size); {} where nothing is hidden."""
        return {}

    @property
    def unwrapped(self) -> Task:
        """The innermost task, without wrappers."""
        return self

    def native_only(self) -> tuple[str, ...]:
        """Names of the features that only the native engine simulates."""
        return ()

    def model_fields(self, episode: Episode) -> dict[str, Array]:
        """Fields of the model that differ in an episode, each (..., *field's shape)."""
        return {}

    def applied_action(self, action: Array, episode: Episode, carry: Carry) -> Array:
        """The action that reaches the actuators if a policy chose `action`, (..., nu)."""
        return action

    def external_inputs(self, episode: Episode, carry: Carry) -> ExternalInputs:
        """The external influences during the next step: moving scenery, a push."""
        return ExternalInputs()

    def clearance(self, points: Array, carry: Carry) -> Array:
        """Signed distance of world points to the ground, (..., n, 3) -> (..., n), m."""
        return points[..., 2]

    def elevation(self, physics: Physics, carry: Carry) -> Array | None:
        """Height of the ground under the root, (...,), m; None where it is 0 everywhere."""
        return None

    def fallen_height(self, carry: Carry) -> Array | float:
        """Height of the root above the ground below which the body has fallen, m."""
        return carry.get(FALLEN_HEIGHT, self.body.body.fallen_height)

    def fallen(self, physics: Physics, carry: Carry) -> Array:
        """Whether the body has fallen on a ground at height 0, (...,) bool."""
        return physics.qpos[..., 2] < self.fallen_height(carry)

    def overlays(self, physics: Physics, episode: Episode, carry: Carry) -> list[Overlay]:
        """The overlays to draw for one simulation (no batch axis)."""
        return []

    def label(self, episode: Episode) -> str:
        """The behaviour of one episode (no batch axis); "" if the task has only one."""
        return ""

    def unit(self, episode: Episode) -> str:
        """The independent unit of one episode (no batch axis), such as its clip.

        Episodes of the same unit are not independent. "" is a unit of its own.
        """
        return ""

    def available(self, episode: Episode) -> Array | int:
        """Number of control steps of an episode that nothing ends early, (...,)."""
        return self.horizon

    def reference_action(
        self, episode: Episode, carry: Carry, kind: ReferenceAction
    ) -> np.ndarray | None:
        """Actions (..., nu) towards the pose to follow in the next step, NumPy only.

        Args:
            episode: episode of each simulation.
            carry: carry of each simulation.
            kind: "track" sets the pose itself as the servos' target. "feedforward" shifts the
                target so that the servos also carry the load, see `load_controls`.

        Returns:
            The actions; None if the task has no pose to follow.

        Raises:
            ValueError: the actuators cannot follow a pose.
        """
        return None

    def data_digest(self) -> str:
        """Digest of the data that the task draws from, such as motion clips; "" without data."""
        return ""

    def observe(
        self, physics: Physics, episode: Episode, carry: Carry, own: Frame | None = None
    ) -> Observation:
        """Both groups of observations of a state, and `PRIVILEGED` where something is hidden.

        `own` is its frame, if already known.
        """
        own = own or frame(self.body, physics)
        elevation = self.elevation(physics, carry)
        body = self._proprioception(
            physics, own, lambda points: self.clearance(points, carry), elevation
        )
        observed = {
            "proprioception": body,
            "task": self.observe_task(physics, own, episode, carry),
        }
        hidden = self.hidden(carry)
        if hidden:
            observed[PRIVILEGED] = {**named(observed), **hidden}
        return observed

    def standing_start(self, batch: tuple[int, ...], x: Array, y: Array, yaw: Array) -> Start:
        """The standing pose at position (x, y), m, turned by yaw, rad, each of shape `batch`."""
        xp = namespace(yaw)
        pose = xp.broadcast_to(xp.asarray(self.body.standing_qpos), (*batch, self.body.nq))
        c, s = xp.cos(yaw / 2), xp.sin(yaw / 2)
        w, i, j, k = (pose[..., n] for n in range(3, 7))
        # The yaw quaternion (c, 0, 0, s) times the pose's.
        turned = xp.stack(
            [x, y, pose[..., 2], c * w - s * k, c * i - s * j, c * j + s * i, c * k + s * w],
            axis=-1,
        )
        qpos = xp.concat([turned, pose[..., 7:]], axis=-1)
        act = xp.asarray(self.body.activation(self.body.standing_control))
        return Start(
            qpos=qpos,
            qvel=xp.zeros((*batch, self.body.nv), dtype=qpos.dtype),
            act=xp.broadcast_to(act, (*batch, self.body.na)),
        )


def named(observed: Observation) -> dict[str, Array]:
    """Observations by "group/name", in order."""
    return {f"{group}/{name}": v for group, part in observed.items() for name, v in part.items()}
