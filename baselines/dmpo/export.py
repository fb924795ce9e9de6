"""A DMPO policy as ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from baselines.dmpo.state import LearnerState
from baselines.export import write_acting
from baselines.registered import MLP, network_class


def acting_state(state: LearnerState, steps: int) -> dict[str, Any]:
    """The part of a learner's state that acting needs, in a form that a checkpoint can hold."""
    return {
        "steps": steps,
        "policy": jax.tree.map(np.asarray, dict(state.policy)),
        "mean": np.asarray(state.statistics.mean),
        "deviation": np.asarray(state.statistics.deviation),
    }


def export_state(acting: Mapping[str, Any], path: Path, identity: Mapping[str, Any]) -> None:
    """Write the mean action of an `acting_state` as ONNX.

    Args:
        acting: the state.
        path: file to write, with the suffix .onnx.
        identity: record of the run, kept in the file's metadata.
    """
    network = network_class("dmpo", identity.get("network", MLP))
    layers = network.layers(acting, identity["hyperparameters"]["normalise"])
    write_acting(path, layers, acting, identity)
