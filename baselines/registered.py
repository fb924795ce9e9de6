"""The networks of each algorithm by name, a row each."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

MLP, INTENTION, DECODER = "mlp", "intention", "decoder"

SELECTABLE = (MLP, INTENTION)
"""What `--network` takes. `DECODER` comes with the bundle of a decoder."""

# Imported on use: most runs need one of them.
_CLASSES = {
    "ppo": {
        MLP: "baselines.ppo.networks:Network",
        INTENTION: "baselines.intention.ppo:Intention",
        DECODER: "baselines.transfer.ppo:Decoded",
    },
    "dmpo": {
        MLP: "baselines.dmpo.settings:Network",
        INTENTION: "baselines.intention.dmpo:Intention",
        DECODER: "baselines.intention.dmpo:Intention",
    },
}


def network_class(algorithm: str, name: str) -> Any:
    """The class of a network by its name in a run's record.

    Raises:
        ValueError: there is no network of that name.
    """
    classes = _CLASSES[algorithm]
    if name not in classes:
        raise ValueError(f"network must be one of {tuple(classes)}, got {name!r}")
    return resolve_name(classes[name])


def selected_class(algorithm: str, name: str) -> Any:
    """The class of a network that `--network` names.

    Raises:
        ValueError: the name is not one of `SELECTABLE`.
    """
    if name not in SELECTABLE:
        raise ValueError(f"network must be one of {SELECTABLE}, got {name!r}")
    return network_class(algorithm, name)
