"""A run of DMPO: its settings, network, driver and log."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from baselines import loop
from baselines.dmpo.device import DeviceDMPO
from baselines.dmpo.distributed import Distributed
from baselines.dmpo.export import acting_state, export_state
from baselines.dmpo.settings import ALGORITHM, Network, Settings
from baselines.dmpo.state import Learner, LearnerState
from baselines.episodes import TERM
from baselines.export import check_exported
from baselines.jax_trees import leaves_of, with_leaves
from vnl_envs import make_functional
from vnl_envs.identity import env_hash
from vnl_envs.tasks.metrics import STANDARD

_TRAINING = (
    "training_return",
    "training_length",
    "training_episodes",
    "expected_return",
    "critic_loss",
    "kl_improvement",
    "kl_mean",
    "kl_std",
    "temperature",
    "std",
    "outside",
)
_GAUGES = ("samples_per_insert", "actors_alive")
"""Columns of runs with actors, empty in other runs."""


class Driver(Protocol):
    """Interface of the part of a run that collects and learns.

    Attributes:
        task: the task.
        layout: slices of its observations by name.
        impl: implementation of its physics.
        identity: fields of the driver in the run's record.
        renewed: parts of the state without which a run can go on, with new ones.
        learner: the learner.
        state: state of the learner.
        steps: control steps so far, of all environments together.
    """

    task: Any
    layout: Mapping[str, slice]
    impl: str
    identity: dict[str, Any]
    renewed: tuple[str, ...]
    learner: Learner

    @property
    def state(self) -> LearnerState: ...

    @property
    def steps(self) -> int: ...

    def begin(self, saved: dict[str, Any] | None = None) -> None:
        """Start from scratch, or from a state of `get_state`, with or without its `renewed`."""

    def advance(self) -> dict[str, float]:
        """Make control steps, then updates. Figures as in `DeviceDMPO.iterate`."""
        ...

    def gauges(self) -> dict[str, float]:
        """Further present figures, or NaN."""
        ...

    def get_state(self) -> dict[str, Any]:
        """The state of training by parts, for `begin`."""
        ...

    def close(self) -> None:
        """End the other processes."""


class OnDevice:
    """`DeviceDMPO` and its run, as a `Driver`.

    Args:
        task_id, seed, impl: id of the task, seed of the run and physics implementation.
        options: options of the task.
        h: settings.
        network: network of the policy.
    """

    def __init__(
        self,
        task_id: str,
        seed: int,
        impl: str,
        h: Settings,
        network: Network,
        options: Mapping[str, Any],
    ) -> None:
        env = make_functional(task_id, impl, **options)
        policy = network.policy(env.task, env.layout, h)
        self._trainer = DeviceDMPO(env, h.learner, **h.collection, network=policy)
        self._seed = seed
        self.task, self.layout, self.impl = env.task, env.layout, env.impl
        self.learner = self._trainer.learner
        # A run with actors has their number here, so that neither kind resumes the other.
        self.identity = {"actors": None}
        self.renewed: tuple[str, ...] = ("environments", "replay")

    @property
    def state(self) -> LearnerState:
        """State of the learner."""
        return self.run.learner

    @property
    def steps(self) -> int:
        """Control steps so far, of all environments together."""
        return int(self.run.steps)

    def begin(self, saved: dict[str, Any] | None = None) -> None:
        """See `Driver`."""
        self.run = self._trainer.init(self._seed)
        if saved is None:
            return
        parts = {name: with_leaves(getattr(self.run, name), part) for name, part in saved.items()}
        self.run = self.run._replace(**parts)
        if not set(self.renewed) <= set(saved):
            self.run = self._trainer.renewed(self.run)

    def advance(self) -> dict[str, float]:
        """Make one iteration."""
        self.run, figures = self._trainer.iterate(self.run)
        return {name: float(value) for name, value in figures.items()}

    def gauges(self) -> dict[str, float]:
        """No further figures."""
        return {}

    def get_state(self) -> dict[str, Any]:
        """The arrays of each part of the run."""
        return {name: leaves_of(part) for name, part in self.run._asdict().items()}

    def close(self) -> None:
        """Do nothing, because there are no other processes."""


def driver_of(
    task_id: str,
    seed: int,
    impl: str,
    h: Settings,
    network: Network,
    actors: int | None,
    address: str | None,
    options: Mapping[str, Any],
) -> Driver:
    """The driver with a task's functional environment, or the driver with actors on Ray.

    Raises:
        ValueError: an id or implementation is unknown, actors do not have the implementation, or
            the network does not support the task.
    """
    if actors is None:
        if address is not None:
            raise ValueError("--ray-address needs --actors, the number of actors there")
        return OnDevice(task_id, seed, impl, h, network, options)
    if impl not in ("auto", Distributed.impl):
        raise ValueError(f"actors step the {Distributed.impl!r} implementation, not {impl!r}")
    policy = functools.partial(network.policy, h=h)
    return Distributed(
        task_id, h.learner, seed, actors, address, **h.collection, policy=policy, options=options
    )


class Training(loop.Training):
    """A run of DMPO; see `loop.Training`.

    Args:
        task_id, seed, impl: id of the task, seed of the run and physics implementation.
        folder: folder of the run.
        resume: whether to continue the run in the folder.
        h: settings.
        network: network of the policy.
        actors: number of actors on Ray; None for no actors.
        address: address of the Ray cluster; None for this machine.
        options: options of the task.

    Raises:
        ValueError: an id, option or implementation is unknown, the network does not support the
            task, the folder has another run, or Ray is missing.
        FileNotFoundError: there is no run in `folder` to resume.
    """

    def __init__(
        self,
        task_id: str,
        seed: int,
        impl: str,
        folder: Path,
        resume: bool,
        h: Settings,
        network: Network | None = None,
        actors: int | None = None,
        address: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.network = network or Network()
        options = dict(options or {})
        self.driver = driver_of(task_id, seed, impl, h, self.network, actors, address, options)
        task = self.driver.task
        identity = {
            "algorithm": ALGORITHM,
            "impl": self.driver.impl,
            "env_hash": env_hash(task_id, task),
            **self.network.identity,
            **self.driver.identity,
        }
        metrics = [metric.name for metric in STANDARD + task.metrics]
        terms = [loop.term_column(name) for name in task.reward_terms]
        columns = [*_TRAINING, *_GAUGES, *self.network.columns, *terms, *metrics]
        self._iteration = 0
        self._rows: list[dict[str, float]] = []
        self._mean_action = jax.jit(self.driver.learner.act_mean)
        super().__init__(task_id, seed, h, identity, folder, columns, resume, options)

    @property
    def steps(self) -> int:
        """Control steps so far, of all environments together."""
        return self.driver.steps

    @property
    def iteration(self) -> int:
        """Iterations so far."""
        return self._iteration

    def begin(self, saved: dict[str, Any] | None) -> None:
        """Start from scratch, or from a state of `get_state`."""
        self.driver.begin(saved["state"] if saved else None)
        if saved:
            self._iteration, self._rows = saved["iteration"], saved["rows"]

    def get_state(self) -> dict[str, Any]:
        """What acting needs, and what training goes on from."""
        return {
            "model": self._acting(),
            "state": self.driver.get_state(),
            "renewed": self.driver.renewed,
            "iteration": self._iteration,
            "rows": self._rows,
        }

    def advance(self) -> None:
        """One iteration: control steps, then updates."""
        self._rows.append(self.driver.advance())
        self._iteration += 1

    def mean_action(self, observations: np.ndarray) -> np.ndarray:
        """The policy without its noise: observations (n, D) to actions (n, nu)."""
        return np.asarray(self._mean_action(self.driver.state, observations))

    def figures(self) -> dict[str, float]:
        """Sampled episodes, means over iterations, and of the reward's terms over steps."""
        rows, self._rows = self._rows, []
        # A checkpoint's rows may be of before there were terms.
        sums = {name: sum(row.get(name, 0.0) for row in rows) for name in rows[-1]}
        mean = {name: value / len(rows) for name, value in sums.items()}
        episodes = sums["episodes"]
        own = {
            "training_return": sums["episode_return"] / episodes if episodes else math.nan,
            "training_length": sums["episode_length"] / episodes if episodes else math.nan,
            "training_episodes": episodes,
        }
        training = {name: own.get(name, mean.get(name, 0.0)) for name in _TRAINING}
        terms = {
            loop.term_column(name.removeprefix(TERM)): value / sums["steps"]
            for name, value in sums.items()
            if name.startswith(TERM)
        }
        return {**training, **self.driver.gauges(), **self.network.figures(mean, self.h), **terms}

    def export(self, path: Path) -> None:
        """Write the policy's mean action as ONNX, and check it against the policy.

        Raises:
            RuntimeError: they differ.
        """
        acting = self._acting()
        export_state(acting, path, self.run.identity)
        check_exported(path, self.mean_action, acting["mean"], acting["deviation"])

    def close(self) -> None:
        """End the actors and the log."""
        self.driver.close()
        super().close()

    def _acting(self) -> dict[str, Any]:
        about = self.network.about(self.driver.task, self.driver.layout)
        return {**acting_state(self.driver.state, self.steps), **about}
