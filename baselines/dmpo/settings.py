"""The settings of a run of DMPO, and the network to which they belong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from baselines.dmpo.networks import layers_of
from baselines.dmpo.state import Hyperparameters
from baselines.export import Chain, normaliser
from baselines.statistics import MOST_DEVIATIONS

ALGORITHM = "dmpo"


@dataclass(frozen=True, kw_only=True)
class Settings(Hyperparameters):
    """Settings of the learner and of the run.

    Attributes:
        num_envs, unroll: number of environments (of each actor, if there are actors), and control
            steps of each between updates.
        capacity: number of transitions kept.
        samples_per_insert: transitions sampled per transition collected.
        warmup: initial control steps with random actions.
        log_every, evaluate_every: iterations between rows of the log, and between evaluations.
        evaluation_episodes: number of episodes of an evaluation.
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
        """The hyperparameters of the learner."""
        return Hyperparameters(**{f.name: getattr(self, f.name) for f in fields(Hyperparameters)})

    @property
    def collection(self) -> dict[str, Any]:
        """Arguments of every driver."""
        names = ("num_envs", "capacity", "samples_per_insert", "unroll", "warmup")
        return {name: getattr(self, name) for name in names}


class Network:
    """Interface between a policy's network and DMPO. This class is the learner's own network; for
    another see `baselines.intention.dmpo`. Objects are sent to the actors.

    Attributes:
        kind, files: class of the settings, and names of their files in `hyperparameters.FOLDER`.
        columns: additional columns of the log.
        identity: fields of the network in a run's record.
    """

    kind: type[Settings] = Settings
    files: tuple[str, ...] = (f"{ALGORITHM}.yml",)
    columns: tuple[str, ...] = ()
    identity: dict[str, Any] = {}  # noqa: RUF012

    def policy(self, task: Any, layout: Mapping[str, slice], h: Any) -> Any:
        """The policy of a `Learner`; None for its own.

        Args:
            task: task of the environments.
            layout: slices of the observations by name.
            h: settings.

        Raises:
            ValueError: the network is not for this task.
        """
        return None

    def figures(self, row: Mapping[str, float], h: Any) -> dict[str, float]:
        """The values of `columns`, from means of the learner's figures."""
        return {}

    def about(self, task: Any, layout: Mapping[str, slice]) -> dict[str, Any]:
        """The description of the network in a checkpoint, besides its parameters."""
        return {}

    @staticmethod
    def layers(acting: Mapping[str, Any], normalise: bool) -> Chain:
        """The mean action of a checkpoint's "model", for `write_onnx`."""
        scaling = normaliser(acting["mean"], acting["deviation"], MOST_DEVIATIONS)
        return layers_of(acting["policy"], scaling if normalise else ())
