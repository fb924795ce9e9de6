"""Recorded neurons as side-data of imitation: a read-out of the latent predicts their spikes.

The read-out's loss also shapes the latent. The neurons are those that were recorded while the
animal made the movements that the policy imitates.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vnl_envs.neural.errors import NeuralError
from vnl_envs.neural.session import opened_session
from vnl_envs.tasks.imitation import Imitation

BIN = 5
"""Number of frames, around each frame, whose spikes are summed: 0.1 s, as in comparisons."""
_CLOSE = 1e-3
"""Greatest difference, in m, between a clip's root and the session's."""


class Neurons:
    """The spikes of a session at the frames of an imitation task's clips.

    Args:
        env: functional environment of a task whose clips are those of the session.
        path: session file, see `vnl_envs.neural.session`.
        weight: weight of the read-out's loss, per nat.

    Raises:
        FileNotFoundError: there is no such session.
        ValueError: the task is not an imitation task, a clip is not of the session, or no unit has
            spikes.

    Attributes:
        units: number of units with spikes.
        weight: as given.
        identity: identity of the session and weight, for a run's record.
    """

    def __init__(self, env: Any, path: Path, weight: float) -> None:
        task = env.task
        if not isinstance(task, Imitation):
            raise ValueError("neurons are recorded along clips; the task is not an imitation task")
        self._task, self.weight = task, weight
        with opened_session(path) as session:
            spikes = session.read("spikes").astype(np.float32)
            counts = np.apply_along_axis(np.convolve, 0, spikes, np.ones(BIN), mode="same")
            begins = {session.clip_name(start): start for start in session.clips[:, 0].tolist()}
            rows = []
            for clip in task.reference.clips:
                start = begins.get(clip.name)
                stop = start + len(clip.qpos) if start is not None else 0
                if start is None or not _same(session.read("qpos", start, stop), clip.qpos):
                    raise NeuralError(f"clip {clip.name!r} is not of the session {str(path)!r}")
                rows.append(counts[start:stop])
            self.identity = {"neurons": session.text["identity"], "neural_weight": weight}
        table = np.concatenate(rows)
        active = table.sum(axis=0) > 0
        if not active.any():
            raise ValueError(f"no unit of {str(path)!r} has spikes in the task's clips")
        self._table = table[:, active].astype(np.uint16)
        self.units = int(active.sum())
        self._log_mean = np.log(self._table.mean(axis=0, dtype=np.float64)).astype(np.float32)

    def __call__(self, envs: Any) -> jax.Array:
        """Spikes (B, `units`) in the bins around the present frames of a batch."""
        data = envs.data
        return jnp.asarray(self._table)[self._task.frame(data.episode, data.carry["step"])]

    def readout(self) -> nn.Module:
        """The layer from latents (..., L) to log rates (..., `units`); at first the mean rates."""
        mean = jnp.asarray(self._log_mean)
        return nn.Dense(
            self.units,
            kernel_init=nn.initializers.zeros,
            bias_init=lambda key, shape, dtype: mean.astype(dtype),
        )

    def loss(self, log_rate: jax.Array, spikes: jax.Array) -> jax.Array:
        """The Poisson loss, nats per bin and unit, (...,): -log p up to a constant."""
        return (jnp.exp(log_rate) - spikes * log_rate).mean(axis=-1)

    def bits_per_spike(self, log_rate: jax.Array, spikes: jax.Array) -> jax.Array:
        """Gain over the mean rates, bits per spike, ()."""
        baseline = self.loss(jnp.broadcast_to(self._log_mean, log_rate.shape), spikes)
        gain = (baseline - self.loss(log_rate, spikes)).mean()
        return gain / (math.log(2) * jnp.maximum(spikes.mean(), 1e-6))


def _same(session: np.ndarray, clip: np.ndarray) -> bool:
    return session.shape == clip.shape and bool(
        np.allclose(session[:, :3], clip[:, :3], atol=_CLOSE)
    )
