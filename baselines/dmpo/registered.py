"""The networks of DMPO by name."""

from __future__ import annotations

import importlib

from baselines.dmpo.settings import DECODER, INTENTION, MLP, Network

NAMES = (MLP, INTENTION)


def network_class(name: str) -> type[Network]:
    """The class of a network by its name in a run's record.

    Raises:
        ValueError: there is no network of that name.
    """
    if name == MLP:
        return Network
    if name not in (INTENTION, DECODER):
        raise ValueError(f"network must be one of {NAMES}, got {name!r}")
    return importlib.import_module("baselines.intention.dmpo").NETWORK
