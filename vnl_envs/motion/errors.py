"""The error of everything that has to do with motion files, and the warning of their readers."""

from __future__ import annotations


class ClipError(ValueError):
    """A motion file, or a clip in it, cannot be used; the message names it and says why."""


class MotionWarning(UserWarning):
    """A motion file was read, but not all of it was used; the message names it and says what."""
