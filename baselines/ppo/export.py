"""A PPO policy as ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from baselines.export import write_acting
from baselines.ppo.algorithm import TrainState
from baselines.registered import network_class


def acting_state(state: TrainState, about: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a state that acting needs, in a form that a checkpoint can hold.

    Args:
        state: state of training.
        about: description of the network, from `Network.about`.
    """
    return {
        "steps": int(state.steps),
        "actor": jax.tree.map(np.asarray, state.params["actor"]),
        "mean": np.asarray(state.observed.mean),
        "deviation": np.asarray(state.observed.deviation),
        **about,
    }


def export_state(acting: Mapping[str, Any], path: Path, identity: Mapping[str, Any]) -> None:
    """Write the mean action of an `acting_state` as ONNX.

    Args:
        acting: the state.
        path: file to write, with the suffix .onnx.
        identity: record of the run, kept in the file's metadata.
    """
    layers = network_class("ppo", identity["network"]).layers(acting)
    write_acting(path, layers, acting, identity)
