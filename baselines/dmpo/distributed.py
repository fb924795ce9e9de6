"""DMPO with actors on Ray. Each actor collects in its own process, on one machine or several.

The learner's process holds the replay. Every actor has one unroll under way. The learner adds the
unroll that arrives first, asks that actor for the next one, and makes the updates that the new
steps allow. So neither side runs ahead: updates wait for steps, and an actor waits for its turn.
"""

from __future__ import annotations

import math
import os
import socket
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from baselines.dmpo.replay import Step, Streams
from baselines.dmpo.state import (
    Hyperparameters,
    Learner,
    LearnerState,
    in_batches,
)
from baselines.episodes import TERM
from baselines.jax_trees import leaves_of, with_leaves
from vnl_envs import VectorEnv

STORE = 256 * 2**20
"""Bytes of Ray's object store on one machine. Only parameters and unrolls pass through it."""
Maker = Callable[[Any, Mapping[str, slice]], Any]
MOST_DEATHS = 10
"""Consecutive deaths per actor, without an unroll from any actor, after which the run ends."""


class Actor:
    """Collector of control steps with a given policy, in its own process on the CPU.

    Args:
        task_id: a registered id.
        hyperparameters: hyperparameters of the learner.
        num_envs: number of environments.
        unroll: control steps between two sets of parameters.
        policy, options: see `Distributed`.
        seed: seed of episodes and actions.
    """

    def __init__(
        self,
        task_id: str,
        hyperparameters: Hyperparameters,
        num_envs: int,
        unroll: int,
        policy: Maker | None,
        options: Mapping[str, Any],
        seed: int,
    ) -> None:
        jax.config.update("jax_platforms", "cpu")
        self._env = VectorEnv(task_id, num_envs, threads=1, **options)
        self._learner = learner_of(self._env, hyperparameters, policy)
        self._key, key = jax.random.split(jax.random.PRNGKey(seed))
        self._state = jax.jit(self._learner.init)(key)
        self._act = jax.jit(self._learner.act)
        self._unroll = unroll
        self._observation, _ = self._env.reset(seed=seed)
        self._returns, self._lengths = np.zeros(num_envs), np.zeros(num_envs)

    def collect(self, parameters: list[np.ndarray] | None) -> tuple[Step, dict[str, float]]:
        """Collect steps (K, B, ...); also returns sums over them, see `DeviceDMPO.iterate`.

        Args:
            parameters: parameters from `acting`; None for uniformly random actions.
        """
        if parameters is not None:
            policy, statistics = with_leaves(acting(self._state), parameters)
            self._state = self._state._replace(policy=policy, statistics=statistics)
        steps = []
        terms = (TERM + name for name in self._env.task.reward_terms)
        sums = dict.fromkeys((*_SUMS, *terms), 0.0)
        for _ in range(self._unroll):
            step, infos = self._step(parameters is None)
            steps.append(step)
            self._count(step, infos, sums)
        return Step(*(np.stack(parts) for parts in zip(*steps, strict=True))), sums

    def _step(self, random: bool) -> tuple[Step, dict[str, Any]]:
        before = self._observation
        self._key, key = jax.random.split(self._key)
        if random:
            shape = (len(before), self._learner.action_size)
            action = np.asarray(jax.random.uniform(key, shape, minval=-1.0, maxval=1.0))
        else:
            action = np.asarray(self._act(self._state, before, key))
        self._observation, reward, failed, truncated, infos = self._env.step(action)
        ended, after = failed | truncated, np.array(self._observation)
        for i in np.flatnonzero(ended):
            after[i] = infos["final_obs"][i]
        reward, failed, ended = (np.asarray(x, np.float32) for x in (reward, failed, ended))
        return Step(before, action, reward, failed, ended, after), infos

    def _count(self, step: Step, infos: dict[str, Any], sums: dict[str, float]) -> None:
        """Add a step, and the episodes that ended with it, to the sums."""
        self._returns += step.reward
        self._lengths += 1
        sums["episodes"] += float(step.ended.sum())
        sums["episode_return"] += float(self._returns @ step.ended)
        sums["episode_length"] += float(self._lengths @ step.ended)
        sums["steps"] += step.reward.size
        # The terms of steps that end an episode are stored separately; elsewhere they are 0.
        for part in (infos, infos.get("final_info", {})):
            for name, values in part.get("reward_terms", {}).items():
                if not name.startswith("_"):
                    sums[TERM + name] += float(np.sum(values))
        self._returns *= 1.0 - step.ended
        self._lengths *= 1.0 - step.ended


_SUMS = ("episodes", "episode_return", "episode_length", "steps")


class Pool:
    """Actors on Ray, each with one call under way. An actor that dies is replaced.

    Args:
        ray: Ray, from `connect`.
        arguments: arguments of every `Actor` except its seed.
        seed: seed of the run. An actor's seed follows from it, the actor's index and its life.
        lives: number of earlier starts of each actor.

    Attributes:
        lives: number of starts of each actor.
        alive: whether each actor has answered in its present life.
    """

    def __init__(self, ray: Any, arguments: tuple[Any, ...], seed: int, lives: Any) -> None:
        self._ray, count = ray, len(lives)
        # Lives are counted so that a new actor does not repeat the episodes of the last one.
        self._kind = self._ray.remote(num_cpus=1, max_restarts=0)(Actor)
        self._arguments, self._seed = arguments, seed
        self._actors: list[Any] = [None] * count
        self._calls: dict[Any, int] = {}
        self._parameters: Any = None
        self._deaths = 0
        self.lives = [int(life) for life in lives]
        self.alive = np.zeros(count, bool)
        for index in range(count):
            self._start(index)

    def publish(self, parameters: list[np.ndarray]) -> None:
        """Use these parameters in all later calls."""
        self._parameters = self._ray.put(parameters)

    def ask(self, index: int) -> None:
        """Ask an actor for an unroll."""
        self._calls[self._actors[index].collect.remote(self._parameters)] = index

    def take(self) -> tuple[int, tuple[Step, dict[str, float]] | None]:
        """Wait for the first actor that is ready.

        Returns its index, and its unroll or None if it died. The replacement of a dead actor has
        already been asked for an unroll.

        Raises:
            RuntimeError: actors cannot be made, or die repeatedly.
        """
        errors = self._ray.exceptions
        (ready, *_), _ = self._ray.wait(list(self._calls))
        index = self._calls.pop(ready)
        try:
            unroll = self._ray.get(ready)
        except (errors.RayActorError, errors.ObjectLostError) as error:
            self._deaths += 1
            if self._deaths > MOST_DEATHS * len(self._actors):
                raise RuntimeError(f"{self._deaths} actors died and gave nothing") from error
            if getattr(error, "actor_init_failed", False):
                raise RuntimeError(f"an actor cannot be made: {error}") from error
            self._replace(index)
            return index, None
        self._deaths = 0
        self.alive[index] = True
        return index, unroll

    def close(self) -> None:
        """End the actors, and Ray where it was started here."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._ray.shutdown()

    def _replace(self, index: int) -> None:
        self.alive[index] = False
        # It may only be out of reach, and must not go on beside its replacement.
        self._ray.kill(self._actors[index])
        self._start(index)

    def _start(self, index: int) -> None:
        entropy = np.random.SeedSequence((self._seed, index, self.lives[index]))
        seed = int(entropy.generate_state(1)[0]) % 2**31
        self.lives[index] += 1
        self._actors[index] = self._kind.remote(*self._arguments, seed)
        self.ask(index)


class Distributed:
    """Training on a task with actors on Ray.

    If there are fewer CPUs than actors, the remaining actors join when a CPU is free.

    Args:
        task_id: a registered id.
        hyperparameters: hyperparameters of the learner.
        seed: seed of all random numbers. It does not fix the order in which unrolls arrive, so no
            two runs are identical.
        actors: number of processes that collect, with one CPU each.
        address: address of a Ray cluster; None starts one on this machine.
        num_envs: number of environments of each actor.
        capacity: number of transitions kept, of all actors.
        samples_per_insert: transitions sampled per transition collected.
        unroll: control steps of an actor between two sets of parameters.
        warmup: initial control steps (of all environments) with uniformly random actions.
        policy: function from a task and the layout of its observations to a policy network that
            replaces the learner's own.
        options: options of the task; files that they name are read on every actor's machine.

    Raises:
        ValueError: an id or option is unknown, or Ray is not installed.
        ConnectionError: there is no cluster at that address.

    Attributes:
        task: the task.
        layout: slices of its observations by name.
        learner: the learner.
        state: state of the learner.
        streams: the replay.
        steps: control steps so far.
        updates: updates of the learner so far.
        pool: the actors, after `begin`.
    """

    impl = "native"
    renewed: tuple[str, ...] = ("streams",)

    def __init__(
        self,
        task_id: str,
        hyperparameters: Hyperparameters,
        seed: int,
        actors: int,
        address: str | None = None,
        num_envs: int = 32,
        capacity: int = 500_000,
        samples_per_insert: float = 32.0,
        unroll: int = 8,
        warmup: int = 1_000,
        policy: Maker | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        options = dict(options or {})
        env = VectorEnv(task_id, 1, threads=1, **options)
        self.task, self.layout = env.task, env.layout
        self.learner = learner_of(env, hyperparameters, policy)
        env.close()
        self.identity = {"actors": actors}
        self.samples_per_insert, self.warmup = samples_per_insert, warmup
        self._seed, self._key = seed, jax.random.PRNGKey(seed)
        self._ray = connect(actors, address)
        self._arguments = (task_id, hyperparameters, num_envs, unroll, policy, options)
        # One program makes as many updates as an unroll allows.
        share = num_envs * unroll * samples_per_insert / hyperparameters.batch_size
        self._together = max(1, round(share))
        rows = max(capacity // (actors * num_envs), unroll)
        self.streams = Streams(
            actors, rows, num_envs, self.learner.observation_size, self.learner.action_size
        )
        self._update = jax.jit(self.learner.several_updates, donate_argnums=0)
        self._observe = jax.jit(self.learner.observe, donate_argnums=0)
        self.state: LearnerState = jax.jit(self.learner.init)(self._key)
        self.steps, self.updates, self._learning_since = 0, 0, 0
        self._lives = np.zeros(actors, int)
        self.pool: Pool

    def begin(self, saved: dict[str, Any] | None = None) -> None:
        """Start the actors. Restore a `get_state`, or fill the replay: with random steps, or with
        those of the restored policy.
        """
        if saved is not None:
            self._set_state(saved)
        self.pool = Pool(self._ray, self._arguments, self._seed, self._lives)
        if saved is not None:
            self.pool.publish(leaves_of(acting(self.state)))
            if "streams" in saved:
                return
        begun = self.steps
        while self.steps < begun + self.warmup:
            self._insert()
        # The steps that fill a replay call for no updates.
        self._learning_since += self.steps - begun
        self.pool.publish(leaves_of(acting(self.state)))

    def advance(self) -> dict[str, float]:
        """Add unrolls until updates are due, and make them. Figures as in `DeviceDMPO.iterate`."""
        sums = self._insert()
        while self._due < self._together:
            sums = {name: value + sums[name] for name, value in self._insert().items()}
        figures: dict[str, jax.Array] = {}
        while self._due >= self._together:
            figures = self._learn()
        self.pool.publish(leaves_of(acting(self.state)))
        return {**{name: float(value) for name, value in figures.items()}, **sums}

    def gauges(self) -> dict[str, float]:
        """Transitions sampled per transition inserted, over the run, and actors that have answered.

        The replacement of a dead actor counts from its first unroll.
        """
        inserted = self.steps - self._learning_since
        sampled = self.updates * self.learner.settings.batch_size
        ratio = sampled / inserted if inserted else math.nan
        return {"samples_per_insert": ratio, "actors_alive": float(self.pool.alive.sum())}

    def get_state(self) -> dict[str, Any]:
        """The state of learner and replay, without the episodes under way."""
        return {
            "learner": leaves_of(self.state),
            "steps": self.steps,
            "learning_since": self._learning_since,
            "lives": np.array(self.pool.lives),
            "streams": [*self.streams.steps, self.streams.position, self.streams.filled],
        }

    def close(self) -> None:
        """End the actors."""
        self.pool.close()

    def _set_state(self, saved: dict[str, Any]) -> None:
        self.state = with_leaves(self.state, saved["learner"])
        self.updates = int(self.state.updates)
        self.steps, self._learning_since = saved["steps"], saved["learning_since"]
        self._lives = saved["lives"]
        if "streams" not in saved:
            return
        own: list[Any] = [*self.streams.steps, self.streams.position, self.streams.filled]
        for array, kept in zip(own, saved["streams"], strict=True):
            np.copyto(array, kept)
        for actor in range(len(self._lives)):
            self.streams.cut(actor)

    @property
    def _due(self) -> float:
        """The number of updates that the steps so far allow and that have not been made."""
        allowed = (self.steps - self._learning_since) * self.samples_per_insert
        return allowed / self.learner.settings.batch_size - self.updates

    def _insert(self) -> dict[str, float]:
        """Add the next unroll that arrives and return its sums."""
        while True:
            actor, unroll = self.pool.take()
            if unroll is not None:
                break
            self.streams.cut(actor)
        self.pool.ask(actor)
        steps, sums = unroll
        self.streams.insert(actor, steps)
        self.steps += steps.reward.size
        seen = steps.observation.reshape(-1, self.learner.observation_size)
        self.state = self._observe(self.state, jnp.asarray(seen))
        return sums

    def _learn(self) -> dict[str, jax.Array]:
        settings, count = self.learner.settings, self._together
        rng = np.random.default_rng((self._seed, self.updates))
        sampled = self.streams.sample(
            rng, count * settings.batch_size, settings.n_step, settings.discount
        )
        key = jax.random.fold_in(self._key, self.updates)
        self.state, figures = self._update(self.state, in_batches(sampled, count), key)
        self.updates += count
        return figures


def learner_of(
    env: VectorEnv, hyperparameters: Hyperparameters, policy: Maker | None = None
) -> Learner:
    """The learner for an environment's sizes, with the policy network of `policy` if given."""
    spaces: Any = (env.single_observation_space, env.single_action_space)
    observation_size, action_size = (space.shape[0] for space in spaces)
    network = policy(env.task, env.layout) if policy else None
    return Learner(observation_size, action_size, hyperparameters, network)


def acting(state: LearnerState) -> tuple[Any, Any]:
    """The parts of a learner's state on which its actions depend."""
    return state.policy, state.statistics


def connect(count: int, address: str | None) -> Any:
    """Ray, connected to a cluster, or started on this machine with room for `count` actors.

    Raises:
        ValueError: Ray is not installed.
        ConnectionError: there is no cluster at that address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ValueError('actors need Ray: pip install "ray>=2.40"') from None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        options |= {"num_cpus": count, "object_store_memory": STORE, "include_dashboard": False}
    else:
        _reach(address)
    with warnings.catch_warnings():
        # JAX warns of every fork, also of Ray's, although these exec another program at once.
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        ray.init(address or "local", **options)
    return ray


def _reach(address: str) -> None:
    """Test the connection if an address names a port, because Ray itself would try for a minute."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host.rpartition("/")[2], int(port)), timeout=10).close()
    except OSError as error:
        raise ConnectionError(f"no Ray cluster at {address!r}: {error}") from None
