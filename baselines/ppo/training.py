"""A run of PPO on a task's vector environment, and its log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback

from baselines import hyperparameters, run
from baselines.export import check_exported
from baselines.ppo.algorithm import PPO
from baselines.ppo.environments import training_envs
from baselines.ppo.export import export_state
from baselines.ppo.hyperparameters import Hyperparameters
from baselines.ppo.network import ALGORITHM, Network
from vnl_envs.tasks.metrics import STANDARD


class Rows(BaseCallback):
    """Figures of training since they were last taken."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def take(self) -> list[dict[str, float]]:
        """They, once."""
        rows, self.rows = self.rows, []
        return rows


class Episodes(Rows):
    """The metrics of every episode that has ended."""

    def _on_step(self) -> bool:
        self.rows += [info["metrics"] for info in self.locals["infos"] if "metrics" in info]
        return True


class Terms(Rows):
    """The reward's terms of every step, means over the environments."""

    def _on_step(self) -> bool:
        assert isinstance(self.model, PPO)
        terms = self.model.face.reward_terms
        self.rows.append({name: float(values.mean()) for name, values in terms.items()})
        return True


class Training(run.Training):
    """One run of PPO; see `run.Training`.

    Args:
        task_id: a registered id.
        seed: of everything random.
        folder: of the run.
        resume: whether to go on with the run in the folder.
        h: hyperparameters.
        network: the policy's.
        options: of the task.

    Raises:
        ValueError: an unknown id or option, a task that the network is not for, or a folder with
            another run in it.
    """

    def __init__(
        self, task_id: str, seed: int, folder: Path, resume: bool, h: Hyperparameters,
        network: Network | None = None, options: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        torch.set_num_threads(1)
        self.network = network or Network()
        envs = training_envs(task_id, h, self.network, **(options or {}))
        self.model = PPO(envs, h, seed, self.network)
        self.episodes, self.terms = Episodes(), Terms()
        vector = self.model.vector
        identity = {"algorithm": ALGORITHM, "env_hash": vector.env_hash, **self.network.identity}
        metrics = [metric.name for metric in STANDARD + vector.task.metrics]
        terms = (
            [run.term_column(name) for name in vector.task.reward_terms]
            if self.network.terms
            else []
        )
        columns = [*_FIGURES, *self.network.figures, *terms, *metrics]
        self.callbacks: list[BaseCallback] = [self.episodes, *([self.terms] if terms else [])]
        super().__init__(task_id, seed, h, identity, folder, columns, resume, options)

    @property
    def steps(self) -> int:
        """Control steps so far, of all environments together."""
        return self.model.num_timesteps

    @property
    def iteration(self) -> int:
        """Updates so far."""
        return self.model._n_updates // self.h.epochs

    def begin(self, saved: dict[str, Any] | None) -> None:
        """Start, from nothing or from what `get_state` gave."""
        if saved:
            self.model.set_state(saved["model"])
            self.episodes.rows, self.terms.rows = saved["episodes"], saved["terms"]

    def get_state(self) -> dict[str, Any]:
        """The model's, and what the log has not had yet."""
        return {
            "model": self.model.get_state(), "episodes": self.episodes.rows,
            "terms": self.terms.rows,
        }  # fmt: skip

    def prepare(self, interrupt: run.Interrupt) -> None:
        """What the network needs before the first update."""
        self.network.prepare(self.model, self.h, interrupt)

    def advance(self) -> None:
        """One rollout and one update, as 1 step is less than both."""
        self.model.learn(1, callback=self.callbacks, reset_num_timesteps=False)

    def mean_action(self, observations: np.ndarray) -> np.ndarray:
        """The policy without its noise: observations (n, D) to actions (n, nu)."""
        return self.model.mean_action(observations)

    def figures(self) -> dict[str, Any]:
        """Of episodes and the last update."""
        row = _figures(self.model, self.episodes.take())
        row |= {name: self.model.figure(of) for name, of in self.network.figures.items()}
        if terms := self.terms.take():
            row |= {run.term_column(name): run.means(terms, name) for name in terms[0]}
        return row

    def export(self, path: Path) -> None:
        """Write the policy's mean action as ONNX, and check it against the policy.

        Raises:
            RuntimeError: they differ.
        """
        export_state(self.model.get_state(), path, self.run.identity)
        observed = self.model.observed
        check_exported(path, self.mean_action, observed.mean, np.sqrt(observed.var))


_FIGURES = ("training_return", "training_length", "training_episodes", "kl", "step_size", "sigma",
            "explained_variance")  # fmt: skip


def _figures(model: PPO, rows: list[dict[str, float]]) -> dict[str, Any]:
    """What the log has of training itself: sampled episodes and the last update."""
    figures = (
        run.means(rows, "return"), run.means(rows, "length"), len(rows), model.figure("approx_kl"),
        model.policy.optimizer.param_groups[0]["lr"], model.figure("std"),
        model.figure("explained_variance"),
    )  # fmt: skip
    return dict(zip(_FIGURES, figures, strict=True))


def finish(
    task: str, seed: int, out: Path, steps: int, resume: bool, file: Path | None, network: Network,
    options: Mapping[str, Any],
) -> None:  # fmt: skip
    """Train to the end, or leave with a message where the run was interrupted.

    Raises:
        ValueError, OSError: see `Training` and `hyperparameters.load`.
    """
    h = hyperparameters.load(network.kind, network.file, task, file)
    run.finish(Training(task, seed, out, resume, h, network, options), steps)
