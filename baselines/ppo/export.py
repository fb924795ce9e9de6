"""A PPO policy as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from baselines.export import Layer, write_onnx
from baselines.ppo.network import MLP, network_class


def export_state(state: dict[str, Any], path: Path, identity: dict[str, Any]) -> None:
    """Write the mean action of a `PPO.get_state` as ONNX."""
    layers = network_class(identity.get("network", MLP)).layers(state)
    last = layers[-1]
    # A policy ends in a dense layer, weights (outputs, inputs) first.
    assert isinstance(last, Layer)
    sizes = len(state["statistics"]["obs_rms"]["mean"]), len(last.arrays[0])
    write_onnx(path, layers, sizes, {**identity, "steps": state["steps"]})
