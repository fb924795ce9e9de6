"""How a suite divides a task's episodes into cells, which are scored apart: plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Drawn:
    """One cell: every episode is drawn as the task draws it.

    Attributes:
        name: of the cell.
    """

    name: str = "course"


@dataclass(frozen=True)
class Ladder:
    """A cell for each value of an option; the row in the registry has the values, its `ladder`.

    Attributes:
        option: of the task, a number in m.
        name: of a value, in the names of cells: "width" gives "width-0.04".
    """

    option: str
    name: str


@dataclass(frozen=True)
class EachClip:
    """A cell for each embedded clip of the body, starting anywhere in it. The task has the options
    `clips` and `split`.
    """


Cells = Drawn | Ladder | EachClip
