"""A decoder in one file, with all that running it on another task takes.

python -m baselines.transfer.bundle runs/imitation rat.safetensors
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from baselines.checkpoint import read_tree, write_tree
from baselines.intention import LATENT
from baselines.layout import proprioception
from baselines.run import CHECKPOINT, read_record
from vnl_envs import Task
from vnl_envs.motion.clip import fingerprint
from vnl_envs.physics import namespace

FORMAT, VERSION = "vnl_envs-decoder", 2

Layers = list[tuple[np.ndarray, np.ndarray]]


class BundleError(ValueError):
    """A bundle cannot be used; the message says why."""


# Compared by identity, because networks that JAX compiles contain it.
@dataclass(frozen=True, eq=False)
class Decoder:
    """A decoder with fixed parameters.

    Attributes:
        body, fingerprint: name of the body, and identity of its kinematic tree.
        proprioception: names and sizes of its input observations, in order.
        actuators: names of the actuators that it controls, in order.
        mean, deviation: (P,) statistics of these observations in its own training.
        bound: clip bound of an observation, in deviations from the mean.
        layers: weights (outputs, inputs) and biases (outputs,), tanh between layers; the input of
            the first is the latent, then the proprioception.
        prior: layers from the proprioception to the latent's mean and log-variance, learnt
            together with the decoder.
        origin: record of the run that trained it.
    """

    body: str
    fingerprint: str
    proprioception: Mapping[str, int]
    actuators: tuple[str, ...]
    mean: np.ndarray
    deviation: np.ndarray
    bound: float
    layers: Layers
    prior: Layers
    origin: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check that the parts are consistent.

        Raises:
            BundleError: they are not.
        """
        for layers, first in ((self.layers, LATENT + self.own), (self.prior, self.own)):
            sizes = [first, *(len(bias) for _, bias in layers)]
            shapes = list(zip(sizes[1:], sizes, strict=False))
            if not layers or [weight.shape for weight, _ in layers] != shapes:
                raise BundleError(f"its layers do not follow one another from {first} inputs")
        for layers, last, outputs in (
            (self.layers, len(self.actuators), "actuators"),
            (self.prior, 2 * LATENT, "moments"),
        ):
            if (count := len(layers[-1][1])) != last:
                raise BundleError(f"it gives {count} numbers for {last} {outputs}")
        for name in ("mean", "deviation"):
            if getattr(self, name).shape != (self.own,):
                raise BundleError(f"its {name} is not of {self.own} observations")
        numbers = self._numbers()
        if not all(np.isfinite(x).all() for x in numbers) or not (self.deviation > 0).all():
            raise BundleError("it has numbers that are not finite, or a deviation of 0")

    @property
    def own(self) -> int:
        """Size of the proprioception, P."""
        return sum(self.proprioception.values())

    @property
    def digest(self) -> str:
        """A hash of its numbers, 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for array in self._numbers():
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def _numbers(self) -> list[np.ndarray]:
        layers = [*self.layers, *self.prior]
        return [self.mean, self.deviation, *(x for layer in layers for x in layer)]

    def act(self, observations: Any, apart: Any) -> Any:
        """Actions (..., nu), as arrays of NumPy or JAX.

        Args:
            observations: (..., D) flat observations of an environment.
            apart: (..., `LATENT`) offset from the prior's mean; 0 is the prior's most likely
                behaviour.
        """
        own = self.normalise(observations[..., : self.own])
        xp = namespace(own)
        latent = perceptron(self.prior, own)[..., :LATENT] + apart
        return perceptron(self.layers, xp.concat([latent, own], axis=-1)).clip(-1.0, 1.0)

    def normalise(self, own: Any) -> Any:
        """Proprioception (..., P) as in the decoder's own training, float32."""
        scaled = (own - self.mean) / self.deviation
        return scaled.clip(-self.bound, self.bound).astype(np.float32)

    def check(self, task: Task, layout: Mapping[str, slice]) -> None:
        """Raise BundleError unless it fits a task with this layout of observations."""
        expected = describe(task, layout)
        for name, kind in _FITS.items():
            own = getattr(self, name)
            # As lists, because the order of names counts.
            if _listed(own) != _listed(expected[name]):
                difference = _difference(own, expected[name])
                raise BundleError(f"the decoder is for another {kind}: {difference}")

    def tree(self) -> dict[str, Any]:
        """Its fields as arrays and JSON, for `write_tree`."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    @classmethod
    def from_tree(cls, tree: Any) -> Decoder:
        """Make a decoder from the result of `tree`.

        Raises:
            BundleError: the tree is something else, or damaged.
        """
        kind = (tree.get("format"), tree.get("version")) if isinstance(tree, dict) else None
        if kind != (FORMAT, VERSION):
            raise BundleError(f"not a {FORMAT} file of version {VERSION}")
        names = {field.name for field in fields(cls)}
        if missing := sorted(names - set(tree)):
            raise BundleError(f"it lacks {missing}")
        try:
            parts = {name: tree[name] for name in names}
            parts["actuators"] = tuple(tree["actuators"])
            for name in ("layers", "prior"):
                parts[name] = [(weight, bias) for weight, bias in tree[name]]
            return cls(**parts)
        except (TypeError, AttributeError, ValueError) as error:
            raise BundleError(str(error)) from None

    def write(self, path: str | Path) -> None:
        """Write it to a file atomically."""
        write_tree(path, self.tree())

    @classmethod
    def read(cls, path: str | Path) -> Decoder:
        """Read a file from `write`.

        Raises:
            FileNotFoundError: there is no such file.
            BundleError: the file is not a bundle, or damaged.
        """
        try:
            return cls.from_tree(read_tree(path))
        except ValueError as error:
            raise BundleError(f"{path}: {error}") from None

    @classmethod
    def of(
        cls,
        about: Mapping[str, Any],
        statistics: tuple[Any, Any],
        bound: float,
        layers: Layers,
        prior: Layers,
        origin: Mapping[str, Any],
    ) -> Decoder:
        """A decoder that was trained on a task.

        Args:
            about: result of `describe` for the task.
            statistics: mean and deviation of the full observation, (D,) each.
            bound, layers, prior, origin: see the class.
        """
        own = sum(about["proprioception"].values())
        mean, deviation = (np.asarray(x, np.float64)[:own].copy() for x in statistics)
        return cls(
            **{**about, "actuators": tuple(about["actuators"])},
            mean=mean,
            deviation=deviation,
            bound=bound,
            layers=_single(layers),
            prior=_single(prior),
            origin=origin,
        )


def _single(layers: Layers) -> Layers:
    return [(np.asarray(w, np.float32), np.asarray(b, np.float32)) for w, b in layers]


def perceptron(layers: Layers, x: Any) -> Any:
    """Apply dense layers with tanh between them to (..., inputs), an array of NumPy or JAX."""
    xp = namespace(x)
    for weight, bias in layers[:-1]:
        x = xp.tanh(x @ weight.T + bias)
    weight, bias = layers[-1]
    return x @ weight.T + bias


def describe(task: Task, layout: Mapping[str, slice]) -> dict[str, Any]:
    """The properties that a decoder must match: a task's body, tree, observations and actions."""
    body = task.body
    return {
        "body": body.body.name,
        "fingerprint": fingerprint(body),
        "proprioception": proprioception(layout),
        "actuators": body.actuator_names,
    }


_FITS = {
    "body": "body",
    "fingerprint": "kinematic tree",
    "actuators": "set of actuators",
    "proprioception": "proprioception",
}


def _listed(value: Any) -> Any:
    return list(value.items()) if isinstance(value, Mapping) else value


def _difference(own: Any, expected: Any) -> str:
    if isinstance(own, str):
        return f"{own}, the task has {expected}"
    only, missing = sorted(set(own) - set(expected)), sorted(set(expected) - set(own))
    if only or missing:
        return f"it has {only}, the task {missing}"
    return "the same names in another order or of other sizes"


def from_run(folder: Path) -> Decoder:
    """The decoder in the newest checkpoint of a run with `--network intention`.

    Raises:
        FileNotFoundError: there is no run, or no checkpoint yet.
        ValueError: the record of the run is damaged.
        BundleError: the run has no decoder.
    """
    identity = read_record(folder)
    if identity.get("network") != "intention":
        raise BundleError(f"the run in {str(folder)!r} has no intention network")
    state = read_tree(folder / CHECKPOINT)["model"]
    origin = {k: identity[k] for k in ("algorithm", "task", "env_hash", "seed")}
    algorithm = importlib.import_module(f"baselines.intention.{identity['algorithm']}")
    return algorithm.decoder_of(state, {**origin, "steps": state["steps"]})


def main(
    run: Annotated[Path, typer.Argument(help="folder of a run with an intention network")],
    out: Annotated[Path, typer.Argument(help="the .safetensors file to write")],
) -> None:
    """Write the decoder of a run's newest checkpoint."""
    try:
        from_run(run).write(out)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    typer.run(main)
