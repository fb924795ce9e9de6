"""DMPO on a task: its functional environment in one program with the learner, or actors on Ray.

python -m baselines.dmpo --task vnl/RodentGoalReaching-v0 --seed 0 --steps 1000000 --out runs/rat
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Protocol

import jax
import numpy as np
import typer
from tqdm.auto import tqdm

from baselines import hyperparameters
from baselines.dmpo.device import DeviceDMPO
from baselines.dmpo.distributed import Distributed
from baselines.dmpo.export import acting_state, export_state
from baselines.dmpo.state import (
    Hyperparameters,
    Learner,
    LearnerState,
    leaves_of,
    with_leaves,
)
from baselines.export import check_exported
from baselines.run import Interrupt, follow
from baselines.run import Run as Folder
from vnl_envs import make_functional
from vnl_envs.identity import env_hash
from vnl_envs.tasks.metrics import STANDARD

ALGORITHM = "dmpo"


@dataclass(frozen=True, kw_only=True)
class Settings(Hyperparameters):
    """Those of the learner, and of the run.

    Attributes:
        num_envs, unroll: environments (of each actor, where there are actors), and control steps
            of each between updates.
        capacity: transitions kept.
        samples_per_insert: transitions sampled for each one collected.
        warmup: control steps of random actions first.
        log_every, evaluate_every: iterations between rows of the log, and between evaluations.
        evaluation_episodes: episodes of an evaluation.
    """

    num_envs: int
    capacity: int
    samples_per_insert: float
    unroll: int
    warmup: int
    log_every: int
    evaluate_every: int
    evaluation_episodes: int

    @property
    def learner(self) -> Hyperparameters:
        """Those of the learner alone."""
        return Hyperparameters(**{f.name: getattr(self, f.name) for f in fields(Hyperparameters)})

    @property
    def collection(self) -> dict[str, Any]:
        """Arguments of every driver."""
        names = ("num_envs", "capacity", "samples_per_insert", "unroll", "warmup")
        return {name: getattr(self, name) for name in names}


_TRAINING = ("training_return", "training_length", "training_episodes", "expected_return",
             "critic_loss", "kl_improvement", "kl_mean", "kl_std", "temperature", "std",
             "outside")  # fmt: skip
_GAUGES = ("samples_per_insert", "actors_alive")
"""Columns of runs with actors; empty in others."""


class Driver(Protocol):
    """What collects and learns.

    Attributes:
        task: the task.
        impl: implementation of its physics.
        identity: what the run's record says of the driver.
        learner: what learns.
        state: its state.
        steps: control steps so far, of all environments together.
    """

    task: Any
    impl: str
    identity: dict[str, Any]
    learner: Learner

    @property
    def state(self) -> LearnerState: ...

    @property
    def steps(self) -> int: ...

    def begin(self, saved: Any = None) -> None:
        """Start, from nothing or from what `get_state` gave."""

    def advance(self) -> dict[str, float]:
        """Control steps, then updates; figures as of `DeviceDMPO.iterate`."""
        ...

    def gauges(self) -> dict[str, float]:
        """Further figures of the present; NaN where there is none."""
        ...

    def get_state(self) -> Any:
        """What training goes on from, for `begin`."""

    def close(self) -> None:
        """End what runs beside this process."""


class OnDevice:
    """`DeviceDMPO` and its run, as a `Driver`.

    Args:
        task_id, seed, impl: what is trained on.
        h: settings.
    """

    def __init__(self, task_id: str, seed: int, impl: str, h: Settings) -> None:
        env = make_functional(task_id, impl)
        self._trainer = DeviceDMPO(env, h.learner, **h.collection)
        self._seed = seed
        self.task, self.impl, self.learner = env.task, env.impl, self._trainer.learner
        # A run with actors has their number here: neither goes on with the other's.
        self.identity = {"actors": None}

    @property
    def state(self) -> LearnerState:
        """The learner's."""
        return self.run.learner

    @property
    def steps(self) -> int:
        """Control steps so far, of all environments together."""
        return int(self.run.steps)

    def begin(self, saved: Any = None) -> None:
        """Start, from nothing or from what `get_state` gave."""
        self.run = self._trainer.init(self._seed)
        if saved is not None:
            self.run = with_leaves(self.run, saved)

    def advance(self) -> dict[str, float]:
        """One iteration."""
        self.run, figures = self._trainer.iterate(self.run)
        return {name: float(value) for name, value in figures.items()}

    def gauges(self) -> dict[str, float]:
        """None."""
        return {}

    def get_state(self) -> Any:
        """The arrays of the run."""
        return leaves_of(self.run)

    def close(self) -> None:
        """Nothing runs beside."""


def driver_of(
    task_id: str, seed: int, impl: str, h: Settings, actors: int | None, address: str | None
) -> Driver:
    """The driver over a task's functional environment, or that over actors on Ray.

    Raises:
        ValueError: an unknown id or implementation, or one that actors do not have.
    """
    if actors is None:
        if address is not None:
            raise ValueError("--ray-address needs --actors, the number of actors there")
        return OnDevice(task_id, seed, impl, h)
    if impl not in ("auto", Distributed.impl):
        raise ValueError(f"actors step the {Distributed.impl!r} implementation, not {impl!r}")
    return Distributed(task_id, h.learner, seed, actors, address, **h.collection)


class Training:
    """A run of DMPO and its log.

    Args:
        task_id, seed, impl: what is trained on.
        folder: of the run.
        resume: whether to go on with the run in the folder.
        h: settings.
        actors: on Ray; None for none.
        address: of their cluster; None for this machine.

    Raises:
        ValueError: an unknown id or implementation, a folder with another run in it, or actors
            without Ray.
    """

    def __init__(
        self,
        task_id: str,
        seed: int,
        impl: str,
        folder: Path,
        resume: bool,
        h: Settings,
        actors: int | None = None,
        address: str | None = None,
    ) -> None:
        self.task_id, self.seed, self.h = task_id, seed, h
        self.driver = driver_of(task_id, seed, impl, h, actors, address)
        task = self.driver.task
        self.identity = {
            "algorithm": ALGORITHM, "task": task_id, "impl": self.driver.impl, "seed": seed,
            "env_hash": env_hash(task_id, task), "hyperparameters": asdict(h),
            **self.driver.identity,
        }  # fmt: skip
        metrics = [metric.name for metric in STANDARD + task.metrics]
        columns = ["step", "seconds", "seed", *_TRAINING, *_GAUGES, *metrics]
        self.folder = Folder(folder, self.identity, columns, resume)
        self.iteration, self.best, spent = 0, -math.inf, 0.0
        self.rows: list[dict[str, float]] = []
        saved: dict[str, Any] = self.folder.load() if resume else {"run": None}
        self.driver.begin(saved["run"])
        if resume:
            self.iteration, self.best, self.rows = (
                saved["iteration"], saved["best"], saved["rows"],
            )  # fmt: skip
            spent = saved["seconds"]
            self.folder.forget_after(self.steps)
        self._since = time.perf_counter() - spent
        self._mean_action = jax.jit(self.driver.learner.act_mean)

    @property
    def steps(self) -> int:
        """Control steps so far, of all environments together."""
        return self.driver.steps

    def advance(self) -> None:
        """One iteration: control steps, then updates."""
        self.rows.append(self.driver.advance())
        self.iteration += 1

    def mean_action(self, observations: np.ndarray) -> np.ndarray:
        """The policy without its noise: observations (n, D) to actions (n, nu)."""
        return np.asarray(self._mean_action(self.driver.state, observations))

    def log(self, evaluate: bool) -> float | None:
        """A row of the log; with an evaluation, its mean return, and the policy kept if best."""
        row: dict[str, Any] = {
            "step": self.steps, "seconds": time.perf_counter() - self._since, "seed": self.seed,
            **self._training(), **self.driver.gauges(),
        }  # fmt: skip
        self.rows = []
        if evaluate:
            row |= follow(self.task_id, self.mean_action, self.h.evaluation_episodes)
            if row["return"] > self.best:
                self.best = row["return"]
                self.export(self.folder.policy)
        self.folder.log(row)
        return row.get("return")

    def _training(self) -> dict[str, float]:
        """What the log has of training itself: sampled episodes, and means over iterations."""
        sums = {name: sum(row[name] for row in self.rows) for name in self.rows[0]}
        episodes = sums["episodes"]
        own = {
            "training_return": sums["episode_return"] / episodes if episodes else math.nan,
            "training_length": sums["episode_length"] / episodes if episodes else math.nan,
            "training_episodes": episodes,
        }
        return {name: own.get(name, sums.get(name, 0.0) / len(self.rows)) for name in _TRAINING}

    def save(self) -> None:
        """Keep everything that training goes on from."""
        self.folder.save(
            {
                "model": acting_state(self.driver.state, self.steps),
                "run": self.driver.get_state(), "iteration": self.iteration, "best": self.best,
                "rows": self.rows, "seconds": time.perf_counter() - self._since,
            }
        )  # fmt: skip

    def export(self, path: Path) -> None:
        """Write the policy's mean action as ONNX, and check it against the policy.

        Raises:
            RuntimeError: they differ.
        """
        acting = acting_state(self.driver.state, self.steps)
        export_state(acting, path, self.identity)
        check_exported(path, self.mean_action, acting["mean"], acting["deviation"])

    def close(self) -> None:
        """End the actors and the log."""
        self.driver.close()
        self.folder.close()


def train(training: Training, steps: int) -> bool:
    """Train, to the first iteration that reaches `steps` steps; return whether it got there."""
    h = training.h
    with Interrupt() as interrupt, tqdm(
        total=steps, initial=training.steps, unit="step", unit_scale=True, desc=training.task_id,
        disable=None,
    ) as bar:  # fmt: skip
        while training.steps < steps and not interrupt.asked:
            training.advance()
            bar.update(training.steps - bar.n)
            done = training.steps >= steps
            evaluate = training.iteration % h.evaluate_every == 0 or done
            if evaluate or training.iteration % h.log_every == 0:
                mean = training.log(evaluate)
                if mean is not None:
                    bar.set_postfix({"return": f"{mean:.4g}"})
                    training.save()
        if interrupt.asked:
            training.save()
    training.close()
    return training.steps >= steps


def main(
    task: Annotated[str, typer.Option(help="a task id, see `vnl-envs list`")],
    out: Annotated[Path, typer.Option(help="folder of the run")],
    steps: Annotated[int, typer.Option(min=1, help="of all environments together")] = 1_000_000,
    seed: Annotated[int, typer.Option(min=0, help="of everything random")] = 0,
    impl: Annotated[str, typer.Option(help="auto, native, warp or jax")] = "auto",
    actors: Annotated[
        int | None, typer.Option(min=1, help="collect in this many processes, on Ray")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="of a Ray cluster; without, actors run on this machine")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
    hyperparams: Annotated[
        Path, typer.Option(help="YAML file, keyed by task")
    ] = hyperparameters.FOLDER / f"{ALGORITHM}.yml",
) -> None:
    """Train a policy by DMPO."""
    try:
        h = hyperparameters.load(Settings, hyperparams, task)
        training = Training(task, seed, impl, out, resume, h, actors, ray_address)
        finished = train(training, steps)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if not finished:
        sys.exit(f"interrupted: its state is in {out}; go on with --resume")


if __name__ == "__main__":
    typer.run(main)
