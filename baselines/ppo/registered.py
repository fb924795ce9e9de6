"""The networks of PPO by name."""

from __future__ import annotations

import importlib

from baselines.ppo.networks import Network

# Each module has a class `NETWORK`.
_MODULES = {"intention": "baselines.intention.ppo", "decoder": "baselines.transfer.ppo"}
NAMES = (Network.name, *_MODULES)


def network_class(name: str) -> type[Network]:
    """The class of a network by its name in a run's record.

    Raises:
        ValueError: there is no network of that name.
    """
    if name == Network.name:
        return Network
    if name not in _MODULES:
        raise ValueError(f"network must be one of {NAMES}, got {name!r}")
    return importlib.import_module(_MODULES[name]).NETWORK
