"""Bundles of policies: packed from ONNX files, and checked without a simulation."""

from __future__ import annotations

import datetime
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnl_envs.problems import Code, Problem, ScoringError, problem
from vnl_envs.sandbox import launch
from vnl_envs.scoring.documents.schema.fields import Sha256
from vnl_envs.scoring.documents.schema.reading import parse
from vnl_envs.scoring.documents.schema.result import Entrant, Policy
from vnl_envs.scoring.documents.schema.submission import Submission
from vnl_envs.scoring.documents.schema.text import canonical, to_text
from vnl_envs.scoring.documents.suites import load_suite
from vnl_envs.scoring.submission import archive
from vnl_envs.scoring.submission.archive import CARD, MANIFEST, SUBMISSION
from vnl_envs.scoring.submission.inspection import Verdict, inspect
from vnl_envs.utils.files import read_regular
from vnl_envs.utils.texts import shown

_MOST_ENTRY = archive.MIB // 4
"""Bytes of an entry file."""
_TEXTS = (r"curves/.*\.csv", re.escape(CARD))


@dataclass(frozen=True)
class BundlePolicy:
    """A policy file that may be run.

    Attributes:
        path: in the bundle.
        data: its bytes.
        sha256: of them.
        parameters: floating-point numbers that it holds.
        observation, state, action: numbers in each; a policy without memory has state 0.
        metadata: what its file says of itself.
    """

    path: str
    data: bytes
    sha256: str
    parameters: int
    observation: int
    state: int
    action: int
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Bundle:
    """A sound bundle.

    Attributes:
        submission: what it says.
        identity: SHA-256 of the canonical manifest.
        policies: task id -> policy.
        files: path -> bytes of everything in it.
        unconfined: why its policies were not read in the sandbox; None if they were.
    """

    submission: Submission
    identity: str
    policies: dict[str, BundlePolicy]
    files: dict[str, bytes]
    unconfined: str | None

    @property
    def entrant(self) -> Entrant:
        """Who hands it in, for a result."""
        said = self.submission
        return Entrant(
            identity=self.identity,
            name=said.name,
            authors=said.authors,
            licence=said.licence,
            date=said.date,
            description=said.description,
            policies={
                task: Policy(
                    sha256=p.sha256, parameters=p.parameters, training=said.tasks[task].training
                )
                for task, p in self.policies.items()
            },
        )


def check(path: str | Path) -> Bundle:
    """Read a bundle and judge everything in it; nothing is simulated or written.

    Raises:
        OSError: there is no such file.
        ScoringError: with every problem that was found.
    """
    content = archive.read_bundle(path)
    return _judged(content.files, content.problems)


def pack(entry: str | Path, out: str | Path) -> Bundle:
    """Write a bundle from an entry file and the policies that it names; see `pack_entry`.

    Args:
        entry: the TOML file; paths in it are relative to its folder. See `docs/submitting.md`.
        out: the .zip to write.

    Raises:
        OSError: a file is missing, no regular one, too large, or cannot be written.
        ValueError: the entry file is not TOML, or not of that form.
        ScoringError: with every problem of the bundle, which is not written then.
    """
    entry = Path(entry)
    try:
        said = tomllib.loads(read_regular(entry, _MOST_ENTRY).decode("utf-8"))
        return pack_entry(said, entry.parent, out)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        wrong = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        raise ValueError(
            f"{str(entry)!r} is not the TOML file that names the policies, see "
            f"docs/submitting.md: {wrong}"
        ) from None
    except _EntryError as error:
        raise ValueError(f"{str(entry)!r}: {error}") from None


def pack_entry(said: Mapping[str, Any], folder: Path, out: str | Path) -> Bundle:
    """Write a bundle from what an entry file says.

    The same files give the same bytes. They are checked before they are written, and read again.

    Args:
        said: as in the TOML file.
        folder: to which paths in it are relative.
        out: the .zip to write.

    Raises:
        OSError: a file is missing, no regular one, too large, or cannot be written.
        ValueError: the entry is not of that form.
        ScoringError: with every problem of the bundle, which is not written then.
    """
    files = _packed(dict(said), folder)
    checked = _judged(files, [])
    archive.write_bundle(out, files)
    if archive.read_bundle(out) != archive.Content(files, []):
        raise RuntimeError(f"{str(out)!r} does not hold what was written to it")
    return checked


def _judged(files: dict[str, bytes], problems: list[Problem]) -> Bundle:
    """A bundle's files, if nothing is wrong with them."""
    problems = list(problems)
    unreadable = {p.where for p in problems}
    submission: Submission | None = None
    try:
        submission = parse(Submission, _needed(files, SUBMISSION, Code.SCHEMA), SUBMISSION)
        problems += _reference_problems(submission, files.keys() | unreadable)
    except ScoringError as error:
        problems += [p for p in error.problems if p.where not in unreadable]
    problems += _text_problems(files)
    try:
        problems += _manifest_problems(files, unreadable)
    except ScoringError as error:
        problems += [p for p in error.problems if p.where not in unreadable]
    sizes: dict[str, tuple[int, int]] = {}
    if submission is not None:
        sizes, wrong = _suite_sizes(submission)
        problems += wrong
    paths = sorted(path for path in files if path.endswith(".onnx"))
    verdicts = dict(zip(paths, inspect([files[path] for path in paths]), strict=True))
    problems += _model_problems(verdicts)
    policies: dict[str, BundlePolicy] = {}
    for task, size in sizes.items():
        assert submission is not None
        path = submission.tasks[task].policy
        if path not in verdicts or verdicts[path].problems:
            continue
        policies[task] = _checked_policy(path, files[path], verdicts[path])
        problems += _size_problems(task, policies[task], size)
    if problems or submission is None:
        raise ScoringError(problems)
    identity = archive.identity_of(files)
    return Bundle(submission, identity, policies, files, launch.unavailable_reason())


def _needed(files: Mapping[str, bytes], path: str, code: Code) -> bytes:
    if path not in files:
        raise problem(code, path, "is missing")
    return files[path]


def _reference_problems(submission: Submission, there: Iterable[str]) -> Iterator[Problem]:
    """Policies that are named and not there, or there and not named."""
    there = set(there)
    named = {entry.policy for entry in submission.tasks.values()}
    for path in sorted(named - there):
        yield Problem(Code.SCHEMA, SUBMISSION, f"names {path!r}, which is not in the bundle")
    for path in sorted(p for p in there - named if p.startswith("policies/")):
        yield Problem(Code.SCHEMA, path, "is of no task")


def _text_problems(files: Mapping[str, bytes]) -> Iterator[Problem]:
    """Curves and cards that are no text."""
    for path, data in sorted(files.items()):
        if not any(re.fullmatch(pattern, path) for pattern in _TEXTS):
            continue
        try:
            sound = "\0" not in data.decode("utf-8")
        except UnicodeDecodeError:
            sound = False
        if not sound:
            yield Problem(Code.SCHEMA, path, "is not UTF-8 text")


def _manifest_problems(files: Mapping[str, bytes], unreadable: set[str]) -> list[Problem]:
    """Where the manifest and the files differ."""
    listed = parse(dict[str, Sha256], _needed(files, MANIFEST, Code.DIGEST), MANIFEST)
    actual = archive.manifest_of(files)
    problems = []
    for path in sorted((listed.keys() | actual.keys()) - unreadable):
        if path not in actual:
            wrong = "is listed in the manifest and not in the bundle"
        elif path not in listed:
            wrong = "is not listed in the manifest"
        elif listed[path] != actual[path]:
            wrong = "is not the file that the manifest lists: its SHA-256 differs"
        else:
            continue
        problems.append(Problem(Code.DIGEST, shown(path), wrong))
    return problems


def _suite_sizes(submission: Submission) -> tuple[dict[str, tuple[int, int]], list[Problem]]:
    """Task id -> numbers of observation and action, of the tasks that the suite has."""
    try:
        suite = load_suite(submission.suite)
    except ScoringError as error:
        return {}, list(error.problems)
    known = {task.id: (task.observation, task.action) for task in suite.tasks}
    problems = [
        Problem(
            Code.VERSION,
            SUBMISSION,
            f"tasks.{task}: {suite.name} has no such task; it has {', '.join(known)}",
        )
        for task in submission.tasks
        if task not in known
    ]
    return {task: known[task] for task in submission.tasks if task in known}, problems


def _model_problems(verdicts: Mapping[str, Verdict]) -> Iterator[Problem]:
    for path, verdict in verdicts.items():
        for wrong in verdict.problems:
            yield Problem(Code.MODEL, path, shown(wrong, 300))


def _size_problems(task: str, policy: BundlePolicy, sizes: tuple[int, int]) -> Iterator[Problem]:
    for what, has, asked in zip(
        ("observation", "action"), (policy.observation, policy.action), sizes, strict=True
    ):
        if has != asked:
            wrong = f"has an {what} of {has} numbers, {task} one of {asked}"
            yield Problem(Code.MODEL, policy.path, wrong)


def _checked_policy(path: str, data: bytes, verdict: Verdict) -> BundlePolicy:
    return BundlePolicy(
        path=path,
        data=data,
        sha256=archive.sha256(data),
        parameters=verdict.parameters,
        observation=verdict.observation,
        state=verdict.state,
        action=verdict.action,
        metadata=verdict.metadata,
    )


# Packing


class _EntryError(ValueError):
    """An entry file is not of the form that it should have."""


def _packed(said: dict[str, Any], folder: Path) -> dict[str, bytes]:
    """The files of a bundle, from an entry and what it names."""
    from vnl_envs.scoring.submission.adaptation import adapted

    tasks, shared = said.pop("tasks", {}), said.pop("training", {})
    if not isinstance(tasks, dict) or not tasks or not isinstance(shared, dict):
        raise _EntryError('needs a table [tasks."ID"] per task, and may have one [training]')
    if not all(isinstance(t, dict) and isinstance(t.get("policy"), str) for t in tasks.values()):
        raise _EntryError('every [tasks."ID"] needs a policy = "FILE.onnx"')
    files = _texts(said, folder)
    policies = {
        (path := _policy_path(task)): adapted(folder / part["policy"], _most(path))
        for task, part in tasks.items()
    }
    verdicts = dict(zip(policies, inspect(list(policies.values())), strict=True))
    entries = {}
    for task, part in tasks.items():
        path = _policy_path(task)
        training = {**_told(verdicts[path].metadata), **shared, **part}
        del training["policy"]
        entries[task] = {"policy": path, "training": training}
    if isinstance(date := said.get("date"), datetime.date):
        said["date"] = date.isoformat()
    try:
        document = canonical({"schema_version": 1, **said, "tasks": entries})
    except TypeError as error:
        # TOML has dates and times, which JSON has not.
        raise _EntryError(str(error)) from None
    files |= policies
    try:
        files[SUBMISSION] = to_text(parse(Submission, document, "entry")).encode()
    except ScoringError as error:
        raise ScoringError([*error.problems, *_model_problems(verdicts)]) from None
    manifest = json.dumps(archive.manifest_of(files), indent=1, sort_keys=True)
    files[MANIFEST] = f"{manifest}\n".encode()
    return files


def _texts(said: dict[str, Any], folder: Path) -> dict[str, bytes]:
    """The card and the curves that an entry names, which are taken out of it."""
    card, curves = said.pop("card", None), said.pop("curves", [])
    names: list[Any] = [None]
    if isinstance(curves, list):
        names = [*curves, *([] if card is None else [card])]
    if not all(isinstance(name, str) for name in names):
        raise _EntryError("card is a file's name, curves a list of them")
    paths = [f"curves/{Path(name).name}" for name in curves] + [CARD] * (card is not None)
    if len(set(paths)) < len(paths):
        raise _EntryError("two curves have the same file name")
    return {
        path: read_regular(folder / name, _most(path))
        for path, name in zip(paths, names, strict=True)
    }


def _most(path: str) -> int:
    """Bytes that a file of a bundle may have."""
    most = archive.limit(path)
    if most is None:
        raise _EntryError(f"{path!r} cannot be in a bundle: {archive.NAMES}")
    return most


def _policy_path(task: str) -> str:
    return f"policies/{re.sub(r'[^A-Za-z0-9_.-]', '-', task)}.onnx"


def _told(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Training facts that `baselines/export.py` writes into policies."""
    told: dict[str, Any] = {}
    if "algorithm" in metadata:
        network = f" ({metadata['network']})" if "network" in metadata else ""
        told["algorithm"] = metadata["algorithm"].upper() + network
    if metadata.get("steps", "").isdecimal():
        told["env_steps"] = int(metadata["steps"])
    if metadata.get("seed", "").isdecimal():
        told["seeds"] = [int(metadata["seed"])]
    return told
