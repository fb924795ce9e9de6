"""The hyperparameters of PPO; `docs/baselines.md` says where each value comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from baselines.ppo.variants import merged
from vnl_envs.utils import checks

NONE, TRACK = "none", "track"
BASES = (NONE, TRACK)
DRAWN, FAILURES = "drawn", "failures"
STARTS = (DRAWN, FAILURES)
LEVEL = ("constants", "survival")
"""Hyperparameters that a level of a curriculum may change."""
_COUNTS = (
    "num_envs",
    "num_steps",
    "epochs",
    "minibatch_size",
    "log_every",
    "evaluate_every",
    "evaluation_episodes",
)


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of the algorithm and of the run.

    Attributes:
        num_envs, num_steps: number of environments, and steps of each between two updates.
        epochs: passes over a rollout.
        minibatch_size: samples in a gradient step.
        gamma, gae_lambda: discount, and the λ of Schulman et al. 2016.
        clip_range: clip range of the probability ratio.
        target_kl: target of the divergence from the policy that collected, nats; the actor's
            learning rate is adapted to it.
        learning_rate: initial learning rate of the actor (Adam).
        critic_learning_rate: constant learning rate of the critic (Adam).
        max_grad_norm: bound on the gradient's norm.
        survival: reward for every step, in training only.
        sigma: standard deviation of the actions at the start, in the action's range of [-1, 1].
        layers, critic_layers: widths of the hidden layers, ELU.
        base: action to which the policy adds: "none", the standing pose, or "track", an imitation
            task's tracking policy.
        starts: "drawn": starts as the task draws them; "failures": episodes of an imitation task
            start more often where earlier ones failed.
        kl_weight: weight of a latent's divergence from its prior (β), per nat.
        cloning_steps: control steps in which the actor first clones a teacher.
        cloning_kl_weight: β during cloning, per nat.
        constants: constants and options of the task in training, by name, that replace the task's
            own; mappings are merged. Evaluation uses the task's own.
        levels: curriculum: a sequence of changes, each to `constants` (merged), `survival` or both.
            Training begins with the first. An evaluation on the present level leads to the next
            level if its `level_metric` is above `promote`, and to the previous one if it is below
            `demote`.
        level_metric, promote, demote: see `levels`.
        log_every, evaluate_every: updates between rows of the log, and between evaluations.
        evaluation_episodes: episodes of an evaluation.
    """

    num_envs: int
    num_steps: int
    epochs: int
    minibatch_size: int
    gamma: float
    gae_lambda: float
    clip_range: float
    target_kl: float
    learning_rate: float
    critic_learning_rate: float
    max_grad_norm: float
    survival: float
    sigma: float
    layers: list[int]
    critic_layers: list[int]
    base: str
    starts: str
    kl_weight: float
    cloning_steps: int
    cloning_kl_weight: float
    constants: dict[str, Any]
    levels: list[dict[str, Any]]
    level_metric: str
    promote: float
    demote: float
    log_every: int
    evaluate_every: int
    evaluation_episodes: int

    def __post_init__(self) -> None:
        """Check names and counts, and that a rollout divides into minibatches.

        Raises:
            ValueError: `base`, `starts` or a change of a level is unknown, a change has a wrong
                type, a count is not positive, or the rollout does not divide.
        """
        for name in _COUNTS:
            checks.integer(name, getattr(self, name), 1)
        checks.choice("base", self.base, BASES)
        checks.choice("starts", self.starts, STARTS)
        for level in self.levels:
            _check_level(level)
        if self.update_steps % self.minibatch_size:
            raise ValueError(
                f"num_envs * num_steps = {self.update_steps} does not divide into minibatches "
                f"of {self.minibatch_size}"
            )

    @property
    def update_steps(self) -> int:
        """Control steps of all environments between two updates."""
        return self.num_envs * self.num_steps

    def at_level(self, level: int) -> Hyperparameters:
        """These hyperparameters with the changes of a level, if there are levels."""
        if not self.levels:
            return self
        change = self.levels[level]
        constants = merged(self.constants, change.get("constants", {}))
        return replace(self, **{**change, "constants": constants})


def _check_level(level: Mapping[str, Any]) -> None:
    for name in level:
        checks.choice("change of a level", name, LEVEL)
    checks.number("survival of a level", level.get("survival", 0.0), 0.0, math.inf)
    if not isinstance(constants := level.get("constants", {}), Mapping):
        raise ValueError(f"constants of a level must be a mapping, got {constants!r}")
