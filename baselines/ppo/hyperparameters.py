"""The hyperparameters of PPO; `docs/baselines.md` says where each value comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Common:
    """Those of both: Stable-Baselines3's PPO and Brax's.

    Attributes:
        num_envs, rollout: environments, and steps of each between two updates.
        epochs: passes over a rollout.
        gamma, gae_lambda: discount, and the mixture of Schulman et al. 2016.
        clip_range: of the probability ratio.
        target_kl: divergence from the policy that collected, to which the step size is adapted.
        step_size: Adam's at the start.
        max_grad_norm: bound on the gradient's norm.
        entropy: weight of the entropy bonus.
        sigma: standard deviation of the actions at the start, in the action's range of [-1, 1].
        layers: widths of the hidden layers, of the actor and of the critic, tanh.
        clip_observation: bound on normalised observations.
        log_every, evaluate_every: updates between rows of the log, and between evaluations.
        evaluation_episodes: episodes of an evaluation.
    """

    num_envs: int
    rollout: int
    epochs: int
    gamma: float
    gae_lambda: float
    clip_range: float
    target_kl: float
    step_size: float
    max_grad_norm: float
    entropy: float
    sigma: float
    layers: list[int]
    clip_observation: float
    log_every: int
    evaluate_every: int
    evaluation_episodes: int

    @property
    def update_steps(self) -> int:
        """Control steps of all environments between two updates."""
        return self.num_envs * self.rollout


@dataclass(frozen=True)
class Hyperparameters(Common):
    """Those of Stable-Baselines3's, whose `step_size` is the actor's.

    Attributes:
        minibatch: samples in a gradient step.
        critic_step_size: Adam's, which stays.
        survival: reward for every step, in training only.
    """

    minibatch: int
    critic_step_size: float
    survival: float
