"""Suites by name: their anchors, keys of seeds, pins, and the tasks of their cells."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from vnl_envs.problems import Code, Problem, problem
from vnl_envs.scoring.documents.schema.board import Anchors
from vnl_envs.scoring.documents.schema.reading import read
from vnl_envs.scoring.documents.schema.suite import Cell, Suite
from vnl_envs.utils.files import read_regular
from vnl_envs.utils.resources import packaged

if TYPE_CHECKING:
    from vnl_envs.tasks.task import Task

NOMINAL = "nominal"
"""Name of the tier without perturbations."""

_KEY = re.compile(rb"[0-9a-f]{64}\s*")
_MOST_KEY = 100


def suite_names() -> list[str]:
    """Names of the packaged suites."""
    return sorted(path.stem for path in packaged("suites").glob("*.json"))


def load_suite(suite: str | Path) -> Suite:
    """Load a suite by its name, or from a file (`Path`, or `str` ending in .json).

    Raises:
        ScoringError: there is no such suite, or its file is invalid.
    """
    if (path := _file(suite)) is not None:
        if not path.is_file():
            raise problem(Code.VERSION, str(suite), "there is no such suite file")
    elif suite in suite_names():
        path = packaged("suites", f"{suite}.json")
    else:
        names = ", ".join(suite_names())
        raise problem(Code.VERSION, "suite", f"there is no suite {suite!r}; there are {names}")
    return read(Suite, path)


def _file(suite: str | Path | None) -> Path | None:
    """The file of a suite; None if `suite` is a name."""
    is_file = isinstance(suite, Path) or (suite is not None and suite.endswith(".json"))
    return Path(str(suite)) if is_file else None


def dev_key(suite: Suite) -> bytes:
    """The public key of the split "dev"."""
    return bytes.fromhex(suite.dev_key)


def read_season_key(path: Path) -> bytes:
    """Read the key of a season's seeds from a file of 64 hexadecimal digits.

    Raises:
        ScoringError: there is no such file, or it is invalid.
    """
    text = read_regular(path, _MOST_KEY) if path.is_file() else b""
    if not _KEY.fullmatch(text):
        message = "a season key is a file of 64 hexadecimal digits in lower case"
        raise problem(Code.SCHEMA, str(path), message)
    return bytes.fromhex(text.decode().strip())


def version_problems(suite: Suite) -> list[Problem]:
    """A problem for each package whose installed version differs from the suite's pin."""
    problems = []
    for package, pinned in suite.pins.items():
        try:
            installed = metadata.version(package)
        except metadata.PackageNotFoundError:
            installed = "none"
        if installed != pinned:
            message = f"the suite is of version {pinned}, installed is {installed}"
            problems.append(Problem(Code.VERSION, f"{suite.name}: {package}", message))
    return problems


def make_cell(task_id: str, cell: Cell) -> Task:
    """Make the task of a cell.

    Raises:
        ScoringError: its `env_hash` differs from that in the suite.
    """
    # Imported here, as reading a suite needs no physics.
    from vnl_envs.identity import env_hash
    from vnl_envs.registry import make_task

    task = make_task(task_id, **cell.options)
    current = env_hash(task_id, task)
    if current != cell.env_hash:
        message = f"the suite was made with env_hash {cell.env_hash}, here it is {current}"
        raise problem(Code.VERSION, f"{task_id}/{cell.id}", message)
    return task


def metric_ranges(task_id: str) -> dict[str, tuple[float, float]]:
    """Least and greatest value of each metric that a result holds of a task, by name.

    These are the return, the length and the task's own metrics. Standard metrics that came later
    are not among them, so that a suite's results stay valid.

    Raises:
        ScoringError: the task is not registered.
    """
    from vnl_envs.registry import get_row, task_class
    from vnl_envs.tasks.metrics import LENGTH, RETURN

    try:
        task = task_class(get_row(task_id))
    except ValueError as error:
        raise problem(Code.VERSION, task_id, str(error)) from None
    return {metric.name: metric.range for metric in (RETURN, LENGTH, *task.metrics)}


def anchors_path(suite: Suite, file: Path) -> Path:
    """The path of the anchors for a user's suite file.

    As on a board, the folder `anchors` is beside the folder of the suite.
    """
    return file.absolute().parent.parent / "anchors" / f"{suite.name}.json"


def load_anchors(suite: Suite, source: str | Path | None = None) -> Anchors:
    """Load the anchors of a suite: those beside its own file if they exist, else packaged ones.

    Args:
        suite: suite.
        source: name or file that `load_suite` read, see `anchors_path`; None for a packaged suite.

    Raises:
        ScoringError: there are no anchors.
    """
    file = _file(source)
    path = anchors_path(suite, file) if file else None
    if path is None or not path.is_file():
        try:
            path = packaged("anchors", f"{suite.name}.json")
        except FileNotFoundError:
            message = f"there are none of {suite.name!r}"
            if file:
                message += f": `python -m leaderboard.make_anchors {source}` writes {path}"
            raise problem(Code.VERSION, "anchors", message) from None
    return read(Anchors, path)
