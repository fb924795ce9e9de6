"""One's own PyTorch network as a policy file for the leaderboard: a template to copy and change.

    pip install -c constraints.txt -e .[score] torch
    python examples/export_own_network.py --task vnl/RodentGoalReaching-v0 --out rat.onnx
    python examples/export_own_network.py --memory --out rat.onnx

A policy file takes one observation, as the environment gives it, and gives one action; whatever the
network was trained behind (normalisation, stacking, scaling) belongs into it. See
docs/submitting.md for what a file may hold.
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import gymnasium as gym
import numpy as np
import onnxruntime
import torch
from torch import nn

import vnl_envs  # noqa: F401


class Feedforward(nn.Module):
    """Normalised observations through a perceptron; replace it by your network.

    Args:
        mean, deviation: of the observations in training, (D,).
        actions: their number A.
    """

    def __init__(self, mean: torch.Tensor, deviation: torch.Tensor, actions: int) -> None:
        super().__init__()
        # Buffers, so that they become part of the file.
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        sizes = [len(mean), 128, 128]
        layers = [nn.Sequential(nn.Linear(*pair), nn.ELU()) for pair in pairwise(sizes)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], actions))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Observations (1, D) to mean actions (1, A): scores are those of the best guess."""
        obs = torch.clamp((obs - self.mean) / self.deviation, -10, 10)
        return torch.tanh(self.layers(obs))


class Memory(nn.Module):
    """The same with a gated memory of S numbers, which are zero when an episode begins."""

    def __init__(
        self, mean: torch.Tensor, deviation: torch.Tensor, actions: int, size: int = 64
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.cell = nn.GRUCell(len(mean), size)
        self.head = nn.Linear(size, actions)

    def forward(self, obs: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Observations (1, D) and state (1, S) to actions (1, A) and the next state (1, S)."""
        obs = torch.clamp((obs - self.mean) / self.deviation, -10, 10)
        state = self.cell(obs, state)
        return torch.tanh(self.head(state)), state


def export(network: nn.Module, inputs: tuple[torch.Tensor, ...], path: str) -> None:
    """Write a network as ONNX under the names that the harness knows."""
    names = ["obs", "state_in"][: len(inputs)], ["action", "state_out"][: len(inputs)]
    torch.onnx.export(
        network.eval(),
        inputs,
        path,
        input_names=names[0],
        output_names=names[1],
        opset_version=17,
        # The newer exporter (dynamo=True) does as well; it needs the package onnxscript.
        dynamo=False,
    )


def compare(network: nn.Module, inputs: tuple[torch.Tensor, ...], path: str) -> float:
    """The largest difference between the file's outputs and the network's."""
    session = onnxruntime.InferenceSession(path)
    feeds = {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)}
    with torch.no_grad():
        ours = network(*inputs)
    ours = ours if isinstance(ours, tuple) else (ours,)
    theirs = session.run(None, feeds)
    return max(float(np.abs(a.numpy() - b).max()) for a, b in zip(ours, theirs, strict=True))


def main() -> None:
    """Export an untrained network and compare the file with it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", default="vnl/RodentGoalReaching-v0")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--out", default="policy.onnx")
    arguments = parser.parse_args()
    env = gym.make(arguments.task)
    (observations,), (actions,) = env.observation_space.shape, env.action_space.shape
    torch.manual_seed(0)
    # Of your training run; these stand for them.
    mean, deviation = torch.zeros(observations), torch.ones(observations)
    kind = Memory if arguments.memory else Feedforward
    network = kind(mean, deviation, actions)
    inputs: tuple[torch.Tensor, ...] = (torch.randn(1, observations),)
    if arguments.memory:
        inputs += (torch.randn(1, network.cell.hidden_size),)
    export(network, inputs, arguments.out)
    print(
        f"wrote {arguments.out}; differs from the network by at most "
        f"{compare(network, inputs, arguments.out):.1g}"
    )


if __name__ == "__main__":
    main()
