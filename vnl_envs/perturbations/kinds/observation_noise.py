"""Noise on observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vnl_envs.motion.kinematics import forward_kinematics
from vnl_envs.perturbations import counter_rng
from vnl_envs.perturbations.kind import Kind, Parts, Setting
from vnl_envs.physics import Physics
from vnl_envs.tasks.task import Observation, Task
from vnl_envs.utils import checks


def _check(name: str, noise: Any) -> dict[str, float]:
    if not isinstance(noise, Mapping):
        raise ValueError(f"{name} must be a mapping of names, got {noise!r}")
    return {str(k): checks.number(f"{name} of {k!r}", v, 0.0, 1e6) for k, v in noise.items()}


class ObservationNoise(Kind):
    """Gaussian noise on some of the observations, independent at every step."""

    settings = (
        Setting(
            name="observation_noise",
            values="name → standard deviation in the observation's unit",
            text="Gaussian noise on each number at every step",
            check=_check,
            example={"joint_position": 0.01},
            off={},
            on=lambda noise: any(noise.values()),
            in_every_hash=True,
        ),
    )
    stream = 3

    def __init__(self, task: Task, noise: Mapping[str, float]) -> None:
        self._noise = {k: v for k, v in noise.items() if v > 0}

    @classmethod
    def check_task(cls, task: Task, *values: Mapping[str, float]) -> None:
        """Check that the task has the named observations."""
        (noise,) = values
        if not noise:
            return
        names = _observation_names(task)
        unknown = sorted(set(noise) - set(names))
        if unknown:
            raise ValueError(f"there are no observations {unknown} for noise; there are {names}")

    def perceived(self, observed: Observation, episode: Parts, carry: Parts) -> Observation:
        """The observations with the step's noise."""
        noisy = [(g, n) for g in observed for n in observed[g] if n in self._noise]
        total = sum(observed[g][n].shape[-1] for g, n in noisy)
        draws = counter_rng.normal(episode["seed"], carry["step"], self.stream, total)
        out, start = {group: dict(parts) for group, parts in observed.items()}, 0
        for group, name in noisy:
            value = out[group][name]
            stop = start + value.shape[-1]
            out[group][name] = value + self._noise[name] * draws[..., start:stop]
            start = stop
        return out


def _observation_names(task: Task) -> list[str]:
    """Names of a task's observations, in order."""
    episode = task.episode(np.zeros((1, task.uniforms), np.float32))
    start, carry = task.begin(episode)
    kinematics = forward_kinematics(task.body, np.asarray(start.qpos))
    del kinematics["actuator_length"]
    idle = np.zeros_like(start.qvel)
    physics = Physics(start.qpos, start.qvel, idle, start.act, **kinematics)
    observed = task.observe(physics, episode, carry)
    return [name for parts in observed.values() for name in parts]
