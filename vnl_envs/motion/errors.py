"""The error of everything that has to do with motion files."""

from __future__ import annotations


class ClipError(ValueError):
    """A motion file, or a clip in it, cannot be used; the message names it and says why."""
