"""DMPO on a task's functional environment.

python -m baselines.dmpo --task vnl/RodentGoalReaching-v0 --seed 0 --steps 1000000 --out runs/rat
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer
from tqdm.auto import tqdm

from baselines import hyperparameters
from baselines.dmpo.device import DeviceDMPO
from baselines.dmpo.networks import layers_of
from baselines.dmpo.state import MOST_DEVIATIONS, Hyperparameters, leaves_of, with_leaves
from baselines.export import EXPORT_TOLERANCE, greatest_difference, normaliser, write_onnx
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
        num_envs, unroll: environments, and control steps of each between updates.
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


_TRAINING = ("training_return", "training_length", "training_episodes", "expected_return",
             "critic_loss", "kl_improvement", "kl_mean", "kl_std", "temperature", "std",
             "outside")  # fmt: skip


class Training:
    """A run of DMPO and its log.

    Args:
        task_id, seed, impl: what is trained on.
        folder: of the run.
        resume: whether to go on with the run in the folder.
        h: settings.

    Raises:
        ValueError: an unknown id or implementation, or a folder with another run in it.
    """

    def __init__(
        self, task_id: str, seed: int, impl: str, folder: Path, resume: bool, h: Settings
    ) -> None:
        self.task_id, self.seed, self.h = task_id, seed, h
        self.env = make_functional(task_id, impl)
        self.trainer = DeviceDMPO(
            self.env, h.learner, h.num_envs, h.capacity, h.samples_per_insert, h.unroll, h.warmup
        )
        self.identity = {
            "algorithm": ALGORITHM, "task": task_id, "impl": self.env.impl, "seed": seed,
            "env_hash": env_hash(task_id, self.env.task), "hyperparameters": asdict(h),
        }  # fmt: skip
        metrics = [metric.name for metric in STANDARD + self.env.task.metrics]
        columns = ["step", "seconds", "seed", *_TRAINING, *metrics]
        self.folder = Folder(folder, self.identity, columns, resume)
        self.iteration, self.best, spent = 0, -math.inf, 0.0
        self.rows: list[dict[str, float]] = []
        self.run = self.trainer.init(seed)
        if resume:
            saved = self.folder.load()
            self.run = with_leaves(self.run, saved["run"])
            self.iteration, self.best, self.rows = (
                saved["iteration"], saved["best"], saved["rows"],
            )  # fmt: skip
            spent = saved["seconds"]
            self.folder.forget_after(self.steps)
        self._since = time.perf_counter() - spent
        self._mean_action = jax.jit(self.trainer.learner.act_mean)

    @property
    def steps(self) -> int:
        """Control steps so far, of all environments together."""
        return int(self.run.steps)

    def advance(self) -> None:
        """One iteration: control steps, then updates."""
        self.run, figures = self.trainer.iterate(self.run)
        self.iteration += 1
        self.rows.append({name: float(value) for name, value in figures.items()})

    def mean_action(self, observations: np.ndarray) -> np.ndarray:
        """The policy without its noise: observations (n, D) to actions (n, nu)."""
        return np.asarray(self._mean_action(self.run.learner, observations))

    def log(self, evaluate: bool) -> float | None:
        """A row of the log; with an evaluation, its mean return, and the policy kept if best."""
        row: dict[str, Any] = {
            "step": self.steps, "seconds": time.perf_counter() - self._since, "seed": self.seed,
            **self._training(),
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
                "run": leaves_of(self.run), "iteration": self.iteration, "best": self.best,
                "rows": self.rows, "seconds": time.perf_counter() - self._since,
            }
        )  # fmt: skip

    def export(self, path: Path) -> None:
        """Write the policy's mean action as ONNX, and check it against the policy.

        Raises:
            RuntimeError: they differ.
        """
        learner, statistics = self.run.learner, self.run.learner.statistics
        sizes = (self.trainer.learner.observation_size, self.trainer.learner.action_size)
        scaling = normaliser(
            np.asarray(statistics.mean), np.asarray(statistics.deviation), MOST_DEVIATIONS
        )
        layers = layers_of(learner.policy, scaling if self.h.normalise else ())
        write_onnx(path, layers, sizes, {**self.identity, "steps": self.steps})
        noise = np.random.default_rng(0).normal(size=(64, sizes[0]))
        observations = statistics.mean + statistics.deviation * noise
        difference = greatest_difference(
            path, self.mean_action, np.asarray(observations, np.float32)
        )
        if difference > EXPORT_TOLERANCE:
            raise RuntimeError(f"the exported policy differs by {difference:.2g}")


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
    training.folder.close()
    return training.steps >= steps


def main(
    task: Annotated[str, typer.Option(help="a task id, see `vnl-envs list`")],
    out: Annotated[Path, typer.Option(help="folder of the run")],
    steps: Annotated[int, typer.Option(min=1, help="of all environments together")] = 1_000_000,
    seed: Annotated[int, typer.Option(min=0, help="of everything random")] = 0,
    impl: Annotated[str, typer.Option(help="auto, native, warp or jax")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
    hyperparams: Annotated[
        Path, typer.Option(help="YAML file, keyed by task")
    ] = hyperparameters.FOLDER / f"{ALGORITHM}.yml",
) -> None:
    """Train a policy by DMPO."""
    try:
        h = hyperparameters.load(Settings, hyperparams, task)
        finished = train(Training(task, seed, impl, out, resume, h), steps)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if not finished:
        sys.exit(f"interrupted: its state is in {out}; go on with --resume")


if __name__ == "__main__":
    typer.run(main)
