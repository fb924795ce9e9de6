"""The contract of a task: the decision process on a body in a scene, as pure array code.

Every function takes arrays with any leading batch shape, NumPy or JAX, and sees no engine.
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
"""All that differs between episodes and is known when one starts, each (..., *)."""

Carry = Mapping[str, Array]
"""What the task remembers during an episode, each (..., *)."""

Observation = dict[str, dict[str, Array]]
"""Group -> name -> (..., size). The groups are "proprioception" and "task", which policies see;
perturbed tasks add `PRIVILEGED`, which is no part of an environment's observation."""

ReferenceAction = Literal["track", "feedforward"]
"""How a pose is asked for, see `Task.reference_action`."""

PRIVILEGED = "privileged"
"""Group of what only an asymmetric critic may see, see `vnl_envs.perturbations.PerturbedTask`."""


class Start(NamedTuple):
    """The state an episode starts in.

    Attributes:
        qpos: (..., nq). qvel: (..., nv). act: (..., na).
        mocap_pos: (..., nmocap, 3) positions of movable scenery, m; None where there is none.
    """

    qpos: Array
    qvel: Array
    act: Array
    mocap_pos: Array | None = None


class ExternalInputs(NamedTuple):
    """What acts on a simulation from outside during a control step; None leaves it as it is.

    Attributes:
        mocap_pos: (..., nmocap, 3) positions of movable scenery, m.
        force: (..., 3) force on the body's root at its centre of mass, N, world frame.
    """

    mocap_pos: Array | None = None
    force: Array | None = None


class Outcome(NamedTuple):
    """What one control step gave.

    Attributes:
        observation: see `Observation`.
        reward: (...,).
        terms: the reward's terms by name, each (...,).
        terminated: (...,) the task failed.
        truncated: (...,) time or motion ran out; never together with `terminated`.
        metrics: current values of the declared metrics, each (...,).
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
    """A sphere that is drawn and not simulated: position (3,) m, radius m, colour."""

    position: Array
    radius: float
    rgba: tuple[float, float, float, float]


@dataclass(frozen=True)
class Ghost:
    """A translucent copy of the body at a pose (nq,), drawn for people, never for `vision`."""

    qpos: Array
    rgba: tuple[float, float, float, float] = (0.2, 0.6, 1.0, 0.35)


Overlay = Marker | Ghost


class Task(ABC):
    """A task on the first body of a world.

    Args:
        world: compiled scene and body.
        horizon: control steps after which an episode is truncated.

    Attributes:
        uniforms: how many uniform numbers `episode` takes.
    """

    about: ClassVar[str] = ""
    """What it asks for in a few words; a format string over the task's settings."""

    options: ClassVar[dict[str, str]] = {}
    """Keyword arguments that users may give to `gym.make`, with what they mean."""

    unit_name: ClassVar[str] = "unit"
    """What `unit` names, such as "clip"."""

    metrics: tuple[Metric, ...] = ()

    primary: ClassVar[PrimaryMetric | None] = None
    """What counts on a leaderboard; a task without it is in no suite."""

    cells: ClassVar[Cells] = Drawn()
    """What of its episodes a suite scores apart."""

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
        """The scene that the task's settings ask for."""

    @property
    @abstractmethod
    def reward_terms(self) -> dict[str, str]:
        """Names of the reward's terms, with what they mean."""

    @abstractmethod
    def episode(self, u: Array) -> Episode:
        """An episode from uniform numbers in [0, 1), (..., uniforms) float32."""

    def check_episode(self, episode: Episode) -> None:  # noqa: B027
        """Look at one episode (no batch axis) that a user gives, its shapes and types being right.

        Raises:
            ValueError: the task has no such episode.
        """

    @abstractmethod
    def begin(self, episode: Episode) -> tuple[Start, Carry]:
        """The state in which an episode starts."""

    @abstractmethod
    def evaluate(
        self, physics: Physics, action: Array, episode: Episode, carry: Carry
    ) -> tuple[Carry, Outcome]:
        """Judge the state after a control step with an action, (..., nu)."""

    @abstractmethod
    def observe_task(
        self, physics: Physics, own: Frame, episode: Episode, carry: Carry
    ) -> dict[str, Array]:
        """The observations beyond the body's own, by name, each (..., size)."""

    @property
    def unwrapped(self) -> Task:
        """The task itself, without what wraps it."""
        return self

    def native_only(self) -> tuple[str, ...]:
        """Names of what only the native engine simulates."""
        return ()

    def model_fields(self, episode: Episode) -> dict[str, Array]:
        """Fields of the model that differ in an episode, each (..., *field's shape)."""
        return {}

    def applied_action(self, action: Array, episode: Episode, carry: Carry) -> Array:
        """The action that reaches the actuators where a policy chose `action`, (..., nu)."""
        return action

    def external_inputs(self, episode: Episode, carry: Carry) -> ExternalInputs:
        """What acts from outside during the next step: scenery that moves, a push."""
        return ExternalInputs()

    def clearance(self, points: Array, carry: Carry) -> Array:
        """Signed distance of world points to the ground, (..., n, 3) -> (..., n), m."""
        return points[..., 2]

    def overlays(self, physics: Physics, episode: Episode, carry: Carry) -> list[Overlay]:
        """What to draw for one simulation (no batch axis)."""
        return []

    def label(self, episode: Episode) -> str:
        """The behaviour that one episode (no batch axis) asks for; "" where there is one only."""
        return ""

    def unit(self, episode: Episode) -> str:
        """What one episode (no batch axis) shares with others, so that these are not independent,
        such as its clip; "" where it shares nothing.
        """
        return ""

    def available(self, episode: Episode) -> Array | int:
        """Control steps that an episode has if nothing ends it early, (...,)."""
        return self.horizon

    def reference_action(
        self, episode: Episode, carry: Carry, kind: ReferenceAction
    ) -> np.ndarray | None:
        """Actions (..., nu) towards the pose to be followed in the next step, NumPy only; None
        where there is none.

        Args:
            episode, carry: of each simulation.
            kind: "track" asks for the pose itself, "feedforward" for one whose pull also carries
                the load (`load_controls`).

        Raises:
            ValueError: there is one, which the actuators cannot be asked for.
        """
        return None

    def data_digest(self) -> str:
        """Identity of the data that the task draws from (motion clips); "" without any."""
        return ""

    def observe(
        self, physics: Physics, episode: Episode, carry: Carry, own: Frame | None = None
    ) -> Observation:
        """Both groups of observations of a state; `own` is its frame, if already known."""
        own = own or frame(self.body, physics)
        body = self._proprioception(physics, own, lambda points: self.clearance(points, carry))
        return {
            "proprioception": body,
            "task": self.observe_task(physics, own, episode, carry),
        }

    def standing_start(self, batch: tuple[int, ...], x: Array, y: Array, yaw: Array) -> Start:
        """The standing pose, moved to (x, y) m and turned by yaw rad, each `batch`-shaped."""
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
