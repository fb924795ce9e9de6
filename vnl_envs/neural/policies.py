"""Policies in the sandbox that also say what their units do."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vnl_envs.neural.errors import NeuralError
from vnl_envs.problems import PolicyError
from vnl_envs.sandbox import launch
from vnl_envs.sandbox.client import PolicyProcess
from vnl_envs.utils.files import read_regular

MEMORY = 576 * 2**20
"""Address space of the process that rewrites a policy, B."""
SECONDS = 120
MOST_BYTES = 20 * 2**20


@dataclass(frozen=True)
class Exposed:
    """A policy whose action is followed by its units' activity.

    Attributes:
        data: the ONNX file.
        digest: of the file it was made from, SHA-256.
        observation, action: sizes of the policy's own.
        layers: name and size of each layer, in order.
    """

    data: bytes
    digest: str
    observation: int
    action: int
    layers: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        """Numbers that are told at each step."""
        return self.action + sum(size for _, size in self.layers)


def isolated() -> bool:
    """Whether there is a sandbox here; without, policies run under limits alone."""
    return launch.unavailable_reason() is None


def expose(path: str | Path, units: Sequence[str], untrained: int | None = None) -> Exposed:
    """Make a policy tell its units' activity. The file is parsed in the sandbox only.

    Args:
        path: an ONNX policy.
        units: patterns of the layers' names, see `sandbox/inside/expose.py`.
        untrained: the seed of new weights in place of its own, None to keep them.

    Raises:
        FileNotFoundError: there is no such file.
        NeuralError: it is no policy, or has no such units.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no policy {str(path)!r}")
    data = read_regular(path, MOST_BYTES)
    inside = isolated()
    asked = json.dumps({"units": list(units), "untrained": untrained}).encode()
    done = subprocess.run(
        launch.command(["-m", "vnl_envs.sandbox.inside.expose"], memory=MEMORY, isolated=inside),
        env=launch.environment(inside),
        input=struct.pack("<I", len(asked)) + asked + data,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    try:
        (length,) = struct.unpack("<I", done.stdout[:4])
        told = json.loads(done.stdout[4 : 4 + length])
        if told["problems"]:
            raise NeuralError(f"{path}: the policy {told['problems'][0]}")
        layers = tuple((str(name), int(size)) for name, size in told["layers"])
        sizes = int(told["observation"]), int(told["action"])
    except (struct.error, json.JSONDecodeError, KeyError, TypeError):
        words = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise NeuralError(f"{path}: the policy made its reader fail {words}") from None
    digest = hashlib.sha256(data).hexdigest()
    return Exposed(done.stdout[4 + length :], digest, *sizes, layers)


class Teller:
    """An exposed policy at work; to be used as a context.

    Args:
        policy: it.
        name: in errors.
    """

    def __init__(self, policy: Exposed, name: str) -> None:
        self._policy, self._name = policy, name
        self._file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115
        self._file.write(policy.data)
        self._file.flush()
        self._process = PolicyProcess(
            self._file, policy.observation, policy.size, isolated=isolated()
        )

    def __enter__(self) -> Teller:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()
        self._file.close()

    def reset(self) -> None:
        """A new episode.

        Raises:
            NeuralError: the policy does not start.
        """
        try:
            self._process.reset()
        except PolicyError as error:
            raise NeuralError(f"{self._name}: {error}") from None

    def __call__(self, observation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The action (A,) in [-1, 1] and the units' activity (n,) for an observation (D,).

        Raises:
            NeuralError: the policy failed.
        """
        try:
            told = self._process.act(observation)
        except PolicyError as error:
            raise NeuralError(f"{self._name}: {error}") from None
        return np.clip(told[: self._policy.action], -1, 1), told[self._policy.action :]
