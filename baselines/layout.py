"""Which part of a flat observation is the body's own."""

from __future__ import annotations

from collections.abc import Mapping

GROUP = "proprioception/"


def proprioception(layout: Mapping[str, slice]) -> dict[str, int]:
    """Names and sizes of a layout's first part, that which all tasks of a body share.

    Args:
        layout: name of each part of a flat observation -> its slice, as environments give it.

    Raises:
        ValueError: it does not begin with such parts, one after the other.
    """
    own = {name: span for name, span in layout.items() if name.startswith(GROUP)}
    ends = [0, *(span.stop for span in own.values())]
    if not own or [span.start for span in own.values()] != ends[:-1]:
        raise ValueError(f"observations must begin with {GROUP}…, they have {list(layout)}")
    return {name: span.stop - span.start for name, span in own.items()}
