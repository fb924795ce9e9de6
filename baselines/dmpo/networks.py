"""The networks of DMPO: a Gaussian policy and a categorical critic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from baselines.export import Layer, layer_of

ATOMS = 51
"""Atoms of the critic's distribution (Bellemare et al. 2017)."""
EPSILON = 1e-6
"""Added to variances by layer normalisation."""
_SMALL = nn.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")


class Gaussian(NamedTuple):
    """A diagonal Gaussian over actions, not squashed.

    Attributes:
        mean, std: (..., nu) mean and standard deviation.
        penalty: (...,) penalty that the network adds to its loss; 0 for most networks.
    """

    mean: jax.Array
    std: jax.Array
    penalty: jax.Array


class Torso(nn.Module):
    """A linear layer, layer normalisation and tanh; then ELU layers (Hoffman et al. 2020).

    Attributes:
        sizes: sizes of the layers.
    """

    sizes: Sequence[int]

    @nn.compact
    def __call__(self, *parts: jax.Array) -> jax.Array:
        """Parts (..., D) of the input -> (..., sizes[-1]).

        The first layer multiplies the parts separately, so that a broadcast part is multiplied
        once.
        """
        first = _dense(self.sizes[0])(parts[0])
        for part in parts[1:]:
            first += _dense(self.sizes[0], use_bias=False)(part)
        x = jnp.tanh(nn.LayerNorm(epsilon=EPSILON)(first))
        for size in self.sizes[1:]:
            x = nn.elu(_dense(size)(x))
        return x


class Policy(nn.Module):
    """A Gaussian whose mean is not squashed: actions beyond ±1 are penalised, not hidden.

    Attributes:
        action_size: size of the action, nu.
        sizes: sizes of the torso's layers.
        initial_std: standard deviation before learning.
        least_std: lower bound of the standard deviation.
    """

    action_size: int
    sizes: Sequence[int]
    initial_std: float
    least_std: float = 1e-6
    noise_size: int = 0
    """Number of standard normal numbers in the network's input."""

    @nn.compact
    def __call__(self, observation: jax.Array, noise: jax.Array) -> Gaussian:
        """Observations (..., D) and noise (..., 0) -> the distribution of actions."""
        x = Torso(self.sizes)(observation)
        return gaussian_head(x, self.action_size, self.initial_std, self.least_std)


def gaussian_head(
    x: jax.Array, action_size: int, initial_std: float, least_std: float = 1e-6
) -> Gaussian:
    """Mean and standard deviation as layers over features; call it inside a compact module."""
    mean = mean_head(x, action_size)
    std = deviation_head(x, action_size, initial_std, least_std)
    return Gaussian(mean, std, jnp.zeros(x.shape[:-1]))


def mean_head(x: jax.Array, action_size: int) -> jax.Array:
    """The mean alone."""
    return nn.Dense(action_size, kernel_init=_SMALL, name="mean")(x)


def deviation_head(
    x: jax.Array, action_size: int, initial_std: float, least_std: float = 1e-6
) -> jax.Array:
    """The standard deviation alone."""
    raw = nn.Dense(action_size, kernel_init=_SMALL, name="std")(x)
    return nn.softplus(raw) * (initial_std / jnp.log(2.0)) + least_std


class Critic(nn.Module):
    """Logits of the return's distribution over a fixed support.

    Attributes:
        sizes: sizes of the torso's layers.
        atoms: number of atoms of the support.
    """

    sizes: Sequence[int]
    atoms: int = ATOMS

    @nn.compact
    def __call__(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        """(..., D), (..., nu) -> (..., atoms). Actions are clipped to [-1, 1] first, as the
        environment does. The leading axes are broadcast.
        """
        x = Torso(self.sizes)(observation, jnp.clip(action, -1.0, 1.0))
        return nn.Dense(self.atoms, kernel_init=_SMALL, name="logits")(x)


def layers_of(params: Any, normaliser: Sequence[Layer] = ()) -> list[Layer]:
    """The mean of a `Policy` with these parameters, for `write_onnx`."""
    modules = params["params"]
    return [*normaliser, *torso_layers(modules["Torso_0"]), layer_of(modules["mean"])]


def torso_layers(torso: Any) -> list[Layer]:
    """A `Torso` with these parameters."""
    first = [layer_of(torso["Dense_0"]), _normalisation(torso["LayerNorm_0"]), Layer("Tanh")]
    rest = [torso[f"Dense_{i}"] for i in range(1, len(torso) - 1)]
    return first + [layer for module in rest for layer in (layer_of(module), Layer("Elu"))]


def _normalisation(module: Any) -> Layer:
    arrays = (np.asarray(module["scale"]), np.asarray(module["bias"]))
    return Layer("LayerNormalization", arrays, {"axis": -1, "epsilon": EPSILON})


def _dense(size: int, use_bias: bool = True) -> nn.Dense:
    # Scaled by the number of outputs, so that parts of an input are initialised as the full input.
    uniform = nn.initializers.variance_scaling(0.333, "fan_out", "uniform")
    return nn.Dense(size, use_bias, kernel_init=uniform)
