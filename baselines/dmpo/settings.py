"""The settings of a run of DMPO, and the network that they are for."""

from __future__ import annotations

import importlib
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


class Network:
    """How a policy's network joins DMPO. This one is the learner's own; others override what
    differs, see `baselines.intention.dmpo`. It goes to actors as it is.

    Attributes:
        kind, file: of the settings, the second in `hyperparameters.FOLDER`.
        columns: further ones of the log.
        identity: what the run's record says of the network.
    """

    kind: type[Settings] = Settings
    file = f"{ALGORITHM}.yml"
    columns: tuple[str, ...] = ()
    identity: dict[str, Any] = {}  # noqa: RUF012

    def policy(self, task: Any, layout: Mapping[str, slice], h: Any) -> Any:
        """The policy of a `Learner`; None for its own.

        Args:
            task, layout: of the environments, and of their observations.
            h: settings.

        Raises:
            ValueError: the network is not for this task.
        """
        return None

    def figures(self, row: Mapping[str, float], h: Any) -> dict[str, float]:
        """What the log has in `columns`, from means of the learner's figures."""
        return {}

    def about(self, task: Any, layout: Mapping[str, slice]) -> dict[str, Any]:
        """What a checkpoint says of the network beside its parameters."""
        return {}

    @staticmethod
    def layers(acting: Mapping[str, Any], normalise: bool) -> Chain:
        """The mean action of a checkpoint's "model", for `write_onnx`."""
        scaling = normaliser(acting["mean"], acting["deviation"], MOST_DEVIATIONS)
        return layers_of(acting["policy"], scaling if normalise else ())


MLP, INTENTION, DECODER = "mlp", "intention", "decoder"
NAMES = (MLP, INTENTION)


def network_class(name: str) -> type[Network]:
    """The class of a network by its name in a run's record.

    Raises:
        ValueError: there is none of that name.
    """
    if name == MLP:
        return Network
    if name not in (INTENTION, DECODER):
        raise ValueError(f"network must be one of {NAMES}, got {name!r}")
    return importlib.import_module("baselines.intention.dmpo").NETWORK
