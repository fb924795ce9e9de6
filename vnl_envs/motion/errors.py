"""The error and the warning of motion files."""

from __future__ import annotations


class ClipError(ValueError):
    """A motion file or a clip cannot be used. The message has its name and the reason."""


class MotionWarning(UserWarning):
    """A part of a motion file was not used. The message has the file's name and the part."""
