"""Several animals of one kind race for the same sequence of goals in one world."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vnl_envs.physics import Array, Physics, namespace
from vnl_envs.scenes.world import World
from vnl_envs.tasks.goal_reaching import Arrival, GoalReaching, length
from vnl_envs.tasks.observations import Frame
from vnl_envs.tasks.task import Carry, Episode, Outcome, Overlay, Start


class GoalRace(GoalReaching):
    """Goal reaching for all bodies of a world, with one sequence of goals that they share.

    All bodies are copies of the first. The animals are the last batch axis of everything but the
    episode: arrays (...,) of `GoalReaching` are (..., N) in a race. Observations, rewards and ends
    of an animal are those of `GoalReaching`, except that:

    - The first animal to reach a goal earns it, and the next goal appears for all. If several
      reach it in the same control step, the nearest one earns it; of equally near ones, the first
      in order.
    - Every animal also observes the others.
    - A fallen animal stays where it lies, in the way of the others, and earns nothing more.

    The animals start side by side on an arc around the first goal, at equal distance from it and
    facing it, in random order.

    Args:
        world: flat floor with two or more copies of a body.
        spacing: distance from one start to the next along the arc, m.
        settings: arguments of `GoalReaching`.

    Raises:
        ValueError: so many starts do not fit around the nearest possible first goal.
    """

    about = "race for goals {distance[0]:g}–{distance[1]:g} m apart"

    def __init__(self, world: World, *, spacing: float, **settings: Any) -> None:
        super().__init__(world, **settings)
        self.spacing = spacing
        self.num_animals = len(world.bodies)
        room = math.floor(2 * math.pi * self.distance[0] / spacing)
        if not 2 <= self.num_animals <= room:
            raise ValueError(f"this race is for 2 to {room} animals, got {self.num_animals}")
        self.uniforms += self.num_animals
        steps = np.arange(1, self.num_animals)
        # Indices of the other animals in order, from the next one on, for each animal: (N, N - 1).
        self._rivals = (np.arange(self.num_animals)[:, None] + steps) % self.num_animals

    def episode(self, u: Array) -> Episode:
        """Goals (..., GOALS, 2), m, and the place of each animal on the arc (..., N)."""
        xp = namespace(u)
        places = xp.argsort(u[..., -self.num_animals :], axis=-1)
        return {"goals": super().episode(u)["goals"], "place": places.astype(xp.int32)}

    def check_episode(self, episode: Episode) -> None:
        """Check that no two animals share a place, and that the starts fit around the first goal.

        Raises:
            ValueError: two animals share a place, or the first goal is too near.
        """
        place, first = episode["place"], float(length(episode["goals"][0]))
        if sorted(place.tolist()) != list(range(self.num_animals)):
            raise ValueError(
                f"episode part 'place' must be an order of {self.num_animals} animals, "
                f"got {place.tolist()}"
            )
        # The tolerance is for rounding: episodes are float32.
        if first < 0.999 * self.distance[0]:
            raise ValueError(
                f"the first goal must be at least {self.distance[0]:g} m away, got {first:.3g} m"
            )

    def begin(self, episode: Episode) -> tuple[Start, Carry]:
        """Standing on the arc, at equal distance from the first goal and facing it."""
        place = episode["place"]
        xp = namespace(place)
        first = episode["goals"][..., :1, :]
        distance = length(first)
        middle = xp.atan2(-first[..., 1], -first[..., 0])
        angle = middle + (place - (self.num_animals - 1) / 2) * self.spacing / distance
        x = first[..., 0] + distance * xp.cos(angle)
        y = first[..., 1] + distance * xp.sin(angle)
        start = self.standing_start(place.shape, x, y, angle + math.pi)
        target = xp.broadcast_to(first, (*place.shape, 2))
        carry = self.first_carry(target, xp.broadcast_to(distance, place.shape))
        return start, {**carry, "racing": xp.ones(place.shape, dtype=bool)}

    def arrival(self, distance: Array, carry: Carry) -> Arrival:
        """The nearest of the animals that race and are within the radius earns the goal."""
        xp = namespace(distance)
        distance = xp.where(carry["racing"], distance, xp.inf)
        nearest = xp.argmin(distance, axis=-1)[..., None] == xp.arange(self.num_animals)
        paid = nearest & (distance < self.radius)
        # Each goal is earned once: the sum over all animals is the number of finished goals.
        count = (carry["reached"] + paid).sum(axis=-1)[..., None]
        return Arrival(
            paid=paid,
            passed=xp.broadcast_to(paid.any(axis=-1)[..., None], paid.shape),
            count=xp.broadcast_to(count, paid.shape),
        )

    def goal(self, episode: Episode, index: Array) -> Array:
        """Position of the goal that all animals share, (..., N, 2), m."""
        goals = episode["goals"][..., None, :, :]
        goals = namespace(goals).broadcast_to(goals, (*index.shape, *goals.shape[-2:]))
        return super().goal({"goals": goals}, index)

    def evaluate(
        self, physics: Physics, action: Array, episode: Episode, carry: Carry
    ) -> tuple[Carry, Outcome]:
        """See the class."""
        following, outcome = super().evaluate(physics, action, episode, carry)
        return {**following, "racing": carry["racing"] & ~outcome.terminated}, outcome

    def observe_task(
        self, physics: Physics, own: Frame, episode: Episode, carry: Carry
    ) -> dict[str, Array]:
        """Observations of the goal, as in `GoalReaching`, and of the other animals.

        Returns:
            The goal's observations, and for each other animal, from the next in order on:
            rival_position (3, m, forward, left and up from the own root), rival_heading (2, cosine
            and sine of its heading relative to the own), rival_velocity (2, m/s, forward and left,
            of its root). Forward and left refer to the own heading.
        """
        xp = namespace(physics.qpos)
        level = Frame(own.position[..., None, :], own.rotation[..., None, :, :]).level
        offset = own.position[..., self._rivals, :] - own.position[..., None, :]
        shape = (*physics.qpos.shape[:-1], -1)
        position = xp.concat([level(offset[..., :2]), offset[..., 2:]], axis=-1)
        return {
            **super().observe_task(physics, own, episode, carry),
            "rival_position": position.reshape(shape),
            "rival_heading": level(own.heading()[..., self._rivals, :]).reshape(shape),
            "rival_velocity": level(physics.qvel[..., :2][..., self._rivals, :]).reshape(shape),
        }

    def overlays(self, physics: Physics, episode: Episode, carry: Carry) -> list[Overlay]:
        """The current goal of one race, whose physics and carry have leading axis (N,)."""
        return super().overlays(physics, episode, {**carry, "target": carry["target"][0]})
