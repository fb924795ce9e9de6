"""The body's own part of a flat observation."""

from __future__ import annotations

from collections.abc import Mapping

GROUP = "proprioception/"


def proprioception(layout: Mapping[str, slice]) -> dict[str, int]:
    """Names and sizes of the proprioception, which all tasks of a body share.

    Args:
        layout: name of each part of a flat observation -> its slice, see `layout` of environments.

    Raises:
        ValueError: the layout does not begin with the proprioception.
    """
    own = {name: span for name, span in layout.items() if name.startswith(GROUP)}
    ends = [0, *(span.stop for span in own.values())]
    if not own or [span.start for span in own.values()] != ends[:-1]:
        raise ValueError(f"observations must begin with {GROUP}…, they have {list(layout)}")
    return {name: span.stop - span.start for name, span in own.items()}
