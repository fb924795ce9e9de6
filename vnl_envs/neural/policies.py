"""Policies in the sandbox that also output the activity of their units."""

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
"""Address space of the process that rewrites a policy, bytes."""
SECONDS = 120
MOST_BYTES = 20 * 2**20


@dataclass(frozen=True)
class Exposed:
    """A policy whose action is followed by its units' activity.

    Attributes:
        data: content of the ONNX file.
        digest: SHA-256 of the original file.
        observation, action: sizes of the original policy's observation and action.
        layers: name and size of each layer, in order.
    """

    data: bytes
    digest: str
    observation: int
    action: int
    layers: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        """Number of outputs at each step."""
        return self.action + sum(size for _, size in self.layers)


def isolated() -> bool:
    """Whether there is a sandbox here. Without one, policies run under limits alone."""
    return launch.unavailable_reason() is None


def expose(path: str | Path, units: Sequence[str], untrained: int | None = None) -> Exposed:
    """Rewrite a policy so that it outputs its units' activity. Only the sandbox parses the file.

    Args:
        path: an ONNX policy.
        units: patterns of the layers' names, see `sandbox/inside/expose.py`.
        untrained: seed of random weights that replace the policy's; None keeps the policy's.

    Raises:
        FileNotFoundError: there is no such file.
        NeuralError: the file is no policy, or has no such units.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no policy {str(path)!r}")
    data = read_regular(path, MOST_BYTES)
    inside = isolated()
    request = json.dumps({"units": list(units), "untrained": untrained}).encode()
    done = subprocess.run(
        launch.command(["-m", "vnl_envs.sandbox.inside.expose"], memory=MEMORY, isolated=inside),
        env=launch.environment(inside),
        input=struct.pack("<I", len(request)) + request + data,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    try:
        (length,) = struct.unpack("<I", done.stdout[:4])
        header = json.loads(done.stdout[4 : 4 + length])
        if header["problems"]:
            raise NeuralError(f"{path}: the policy {header['problems'][0]}")
        layers = tuple((str(name), int(size)) for name, size in header["layers"])
        sizes = int(header["observation"]), int(header["action"])
    except (struct.error, json.JSONDecodeError, KeyError, TypeError):
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise NeuralError(f"{path}: the policy cannot be parsed {reason}") from None
    digest = hashlib.sha256(data).hexdigest()
    return Exposed(done.stdout[4 + length :], digest, *sizes, layers)


class ExposedProcess:
    """A process that runs an exposed policy; to be used as a context.

    Args:
        policy: exposed policy.
        name: name of the policy in errors.
    """

    def __init__(self, policy: Exposed, name: str) -> None:
        self._policy, self._name = policy, name
        self._file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115
        self._file.write(policy.data)
        self._file.flush()
        self._process = PolicyProcess(
            self._file, policy.observation, policy.size, isolated=isolated()
        )

    def __enter__(self) -> ExposedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()
        self._file.close()

    def reset(self) -> None:
        """Start a new episode.

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
            output = self._process.act(observation)
        except PolicyError as error:
            raise NeuralError(f"{self._name}: {error}") from None
        return np.clip(output[: self._policy.action], -1, 1), output[self._policy.action :]
