"""Cells of a suite: how a task's episodes are divided into groups that are scored separately."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Drawn:
    """A single cell, whose episodes the task draws.

    Attributes:
        name: name of the cell.
    """

    name: str = "course"


@dataclass(frozen=True)
class Ladder:
    """One cell for each value of an option. The values are the `ladder` of the registry's row.

    Attributes:
        option: name of the task's option, a number.
        name: prefix of the cells' names: "width" gives "width-0.04".
    """

    option: str
    name: str


@dataclass(frozen=True)
class EachClip:
    """One cell for each embedded clip of the body. Its episodes start anywhere in the clip.

    The task needs the options `clips` and `split`.
    """


Cells = Drawn | Ladder | EachClip
