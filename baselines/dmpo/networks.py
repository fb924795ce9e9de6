"""The networks of DMPO: a Gaussian policy and a categorical critic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from baselines.export import Layer, dense

ATOMS = 51
"""Atoms of the critic's distribution (Bellemare et al. 2017)."""
EPSILON = 1e-6
"""Added to variances by layer normalisation."""


class Gaussian(NamedTuple):
    """A diagonal Gaussian over actions, not squashed.

    Attributes:
        mean, std: (..., nu).
        penalty: (...,) what the policy's network adds to its own loss; 0 for most.
    """

    mean: jax.Array
    std: jax.Array
    penalty: jax.Array


class Torso(nn.Module):
    """A linear layer, layer normalisation and tanh; then ELU layers (Hoffman et al. 2020).

    Attributes:
        sizes: of the layers.
    """

    sizes: Sequence[int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., D) -> (..., sizes[-1])."""
        x = jnp.tanh(nn.LayerNorm(epsilon=EPSILON)(_dense(self.sizes[0])(x)))
        for size in self.sizes[1:]:
            x = nn.elu(_dense(size)(x))
        return x


class Policy(nn.Module):
    """A Gaussian whose mean is not squashed: actions beyond ±1 are penalised, not hidden.

    Attributes:
        action_size: nu.
        sizes: of the torso.
        initial_std: standard deviation before learning.
        least_std: its lower bound.
    """

    action_size: int
    sizes: Sequence[int]
    initial_std: float
    least_std: float = 1e-6
    noise_size: int = 0
    """How many numbers of noise the network itself consumes."""

    @nn.compact
    def __call__(self, observation: jax.Array, noise: jax.Array) -> Gaussian:
        """Observations (..., D) and noise (..., 0) -> the distribution of actions."""
        x = Torso(self.sizes)(observation)
        return gaussian_head(x, self.action_size, self.initial_std, self.least_std)


def gaussian_head(
    x: jax.Array, action_size: int, initial_std: float, least_std: float = 1e-6
) -> Gaussian:
    """Mean and standard deviation as layers over features; call it inside a compact module."""
    small = nn.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")
    mean = nn.Dense(action_size, kernel_init=small, name="mean")(x)
    raw = nn.Dense(action_size, kernel_init=small, name="std")(x)
    std = nn.softplus(raw) * (initial_std / jnp.log(2.0)) + least_std
    return Gaussian(mean, std, jnp.zeros(x.shape[:-1]))


class Critic(nn.Module):
    """Logits of the return's distribution over a fixed support.

    Attributes:
        sizes: of the torso.
        atoms: of the support.
    """

    sizes: Sequence[int]
    atoms: int = ATOMS

    @nn.compact
    def __call__(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        """(..., D), (..., nu) -> (..., atoms). Actions are clipped to [-1, 1] first, as the
        environment does.
        """
        x = jnp.concatenate([observation, jnp.clip(action, -1.0, 1.0)], axis=-1)
        small = nn.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")
        return nn.Dense(self.atoms, kernel_init=small, name="logits")(Torso(self.sizes)(x))


def layers_of(params: Any, normaliser: Sequence[Layer] = ()) -> list[Layer]:
    """The mean of a `Policy` with these parameters, for `write_onnx`."""
    torso, mean = params["params"]["Torso_0"], params["params"]["mean"]
    first = [_layer(torso["Dense_0"]), _normalisation(torso["LayerNorm_0"]), Layer("Tanh")]
    rest = [torso[f"Dense_{i}"] for i in range(1, len(torso) - 1)]
    later = [layer for module in rest for layer in (_layer(module), Layer("Elu"))]
    return [*normaliser, *first, *later, _layer(mean)]


def _layer(module: Any) -> Layer:
    return dense(np.asarray(module["kernel"]).T, np.asarray(module["bias"]))


def _normalisation(module: Any) -> Layer:
    arrays = (np.asarray(module["scale"]), np.asarray(module["bias"]))
    return Layer("LayerNormalization", arrays, {"axis": -1, "epsilon": EPSILON})


def _dense(size: int) -> nn.Dense:
    uniform = nn.initializers.variance_scaling(0.333, "fan_out", "uniform")
    return nn.Dense(size, kernel_init=uniform)
