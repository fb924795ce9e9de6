"""Replay buffers: rings of steps, of synchronous environments or of many actors."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from baselines.dmpo.state import Array, Transitions


class Step(NamedTuple):
    """One control step of B environments.

    Attributes:
        observation, next_observation: (B, D) observations before and after the step; after the
            last step of an episode, the last observation of that episode.
        action: (B, nu) actions.
        reward: (B,) rewards.
        failed: (B,) 1 where the episode ended by failure.
        ended: (B,) 1 where the episode ended for any reason.
    """

    observation: Array
    action: Array
    reward: Array
    failed: Array
    ended: Array
    next_observation: Array


class Replay(NamedTuple):
    """A ring of T steps.

    Attributes:
        steps: (T, B, ...) steps.
        position: () index of the next step.
        filled: () number of steps in the ring.
    """

    steps: Step
    position: jax.Array
    filled: jax.Array

    @classmethod
    def empty(cls, capacity: int, num_envs: int, observation: int, action: int) -> Replay:
        """Room for `capacity` steps of `num_envs` environments."""
        flat, wide = jnp.zeros((capacity, num_envs)), jnp.zeros((capacity, num_envs, observation))
        steps = Step(wide, jnp.zeros((capacity, num_envs, action)), flat, flat, flat, wide)
        zero = jnp.zeros((), jnp.int32)
        return cls(steps, zero, zero)

    @property
    def capacity(self) -> int:
        """T."""
        return self.steps.reward.shape[0]

    def insert(self, steps: Step) -> Replay:
        """The ring in which K steps, (K, B, ...), replace the oldest ones."""
        count = steps.reward.shape[0]
        rows = (self.position + jnp.arange(count)) % self.capacity
        held = jax.tree.map(lambda ring, new: ring.at[rows].set(new), self.steps, steps)
        filled = jnp.minimum(self.filled + count, self.capacity)
        return Replay(held, (self.position + count) % self.capacity, filled)

    def sample(self, key: jax.Array, batch_size: int, n_step: int, discount: float) -> Transitions:
        """Draw transitions of up to n steps, (batch_size, ...), uniformly with replacement.

        A transition ends with its episode, or with the newest step of the ring.
        """
        when, which = jax.random.split(key)
        age = jax.random.randint(when, (batch_size,), 0, self.filled)
        env = jax.random.randint(which, (batch_size,), 0, self.steps.reward.shape[1])
        ahead = jnp.arange(n_step)
        rows = (self.position - self.filled + age[:, None] + ahead) % self.capacity
        ended = self.steps.ended[rows, env[:, None]]
        # The first step always counts, a later one while nothing before it ended.
        before = jnp.cumprod(1.0 - ended, axis=1)
        alive = jnp.concatenate([jnp.ones((batch_size, 1)), before[:, :-1]], axis=1)
        alive *= age[:, None] + ahead < self.filled
        reward = jnp.sum(alive * discount**ahead * self.steps.reward[rows, env[:, None]], axis=1)
        count = jnp.sum(alive, axis=1)
        last = jnp.take_along_axis(rows, count.astype(jnp.int32)[:, None] - 1, axis=1)[:, 0]
        return Transitions(
            observation=self.steps.observation[rows[:, 0], env],
            action=self.steps.action[rows[:, 0], env],
            reward=reward,
            discount=discount**count * (1.0 - self.steps.failed[last, env]),
            next_observation=self.steps.next_observation[last, env],
        )


class Streams:
    """Rings of T steps in the host's memory, one for each actor, since actors differ in speed.

    Args:
        actors: number of rings.
        capacity: number of steps in each ring, T.
        num_envs: number of environments of an actor, B.
        observation, action: sizes of an observation and of an action, D and nu.

    Attributes:
        steps: (actors, T, B, ...) float32 steps.
        position: (actors,) index of the next step in each ring.
        filled: (actors,) number of steps in each ring.
    """

    def __init__(
        self, actors: int, capacity: int, num_envs: int, observation: int, action: int
    ) -> None:
        def zeros(*size: int) -> np.ndarray:
            return np.zeros((actors, capacity, num_envs, *size), np.float32)

        self.steps = Step(
            zeros(observation), zeros(action), zeros(), zeros(), zeros(), zeros(observation)
        )
        self.position, self.filled = np.zeros(actors, int), np.zeros(actors, int)

    @property
    def capacity(self) -> int:
        """T."""
        return self.steps.reward.shape[1]

    def insert(self, actor: int, steps: Step) -> None:
        """Add K steps of an actor, each (K, B, ...), in place of its oldest ones."""
        count = len(steps.reward)
        rows = (self.position[actor] + np.arange(count)) % self.capacity
        for ring, new in zip(self.steps, steps, strict=True):
            ring[actor, rows] = new
        self.position[actor] = (self.position[actor] + count) % self.capacity
        self.filled[actor] = min(self.filled[actor] + count, self.capacity)

    def cut(self, actor: int) -> None:
        """Separate an actor's later steps from its earlier ones.

        Its episodes under way end as at a time limit.
        """
        if self.filled[actor]:
            self.steps.ended[actor, self.position[actor] - 1] = 1.0

    def sample(
        self, rng: np.random.Generator, batch_size: int, n_step: int, discount: float
    ) -> Transitions:
        """Like `Replay.sample`, uniformly over all steps of all actors."""
        bounds = np.cumsum(self.filled)
        drawn = rng.integers(bounds[-1], size=batch_size)
        actor = np.searchsorted(bounds, drawn, side="right")
        filled = self.filled[actor]
        age = drawn - (bounds[actor] - filled)
        env = rng.integers(self.steps.reward.shape[2], size=batch_size)
        ahead = np.arange(n_step)
        oldest = self.position[actor] - filled
        rows = (oldest[:, None] + age[:, None] + ahead) % self.capacity
        these = (actor[:, None], rows, env[:, None])
        alive = (age[:, None] + ahead < filled[:, None]).astype(np.float32)
        alive[:, 1:] *= np.cumprod(1.0 - self.steps.ended[these], axis=1)[:, :-1]
        powers = (discount**ahead).astype(np.float32)
        count = alive.sum(axis=1).astype(int)
        first, last = (actor, rows[:, 0], env), (actor, rows[np.arange(batch_size), count - 1], env)
        left = (discount**count).astype(np.float32)
        return Transitions(
            observation=self.steps.observation[first],
            action=self.steps.action[first],
            reward=(alive * powers * self.steps.reward[these]).sum(axis=1),
            discount=left * (1.0 - self.steps.failed[last]),
            next_observation=self.steps.next_observation[last],
        )
