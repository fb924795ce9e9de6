"""Bundles of policies: packing from ONNX files, and checking without a simulation."""

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
"""Greatest size of an entry file, bytes."""
_TEXTS = (r"curves/.*\.csv", re.escape(CARD))


@dataclass(frozen=True)
class BundlePolicy:
    """A policy file that has been checked.

    Attributes:
        path: path in the bundle.
        data: bytes of the file.
        sha256: SHA-256 of the file.
        parameters: number of floating-point parameters.
        observation, state, action: sizes; a policy without memory has state 0.
        metadata: metadata of the ONNX file.
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
    """A bundle without problems.

    Attributes:
        submission: content of `submission.json`.
        identity: SHA-256 of the canonical manifest.
        policies: task id -> policy.
        files: path -> bytes of all files.
        unconfined: reason why its policies were not read in the sandbox; None if they were.
    """

    submission: Submission
    identity: str
    policies: dict[str, BundlePolicy]
    files: dict[str, bytes]
    unconfined: str | None

    @property
    def entrant(self) -> Entrant:
        """The entrant for a result."""
        submission = self.submission
        return Entrant(
            identity=self.identity,
            name=submission.name,
            authors=submission.authors,
            licence=submission.licence,
            date=submission.date,
            description=submission.description,
            policies={
                task: Policy(
                    sha256=p.sha256,
                    parameters=p.parameters,
                    training=submission.tasks[task].training,
                )
                for task, p in self.policies.items()
            },
        )


def check(path: str | Path) -> Bundle:
    """Read a bundle and check everything in it, without simulating or writing anything.

    Raises:
        OSError: there is no such file.
        ScoringError: there are problems; it holds all of them.
    """
    content = archive.read_bundle(path)
    return _judged(content.files, content.problems)


def pack(entry: str | Path, out: str | Path) -> Bundle:
    """Write a bundle from an entry file and the policies that it names; see `pack_entry`.

    Args:
        entry: TOML file, see `docs/submitting.md`; its paths are relative to its folder.
        out: .zip file to write.

    Raises:
        OSError: a file is missing, not a regular one, too large, or cannot be written.
        ValueError: the entry file is not TOML, or has another form.
        ScoringError: the bundle has problems, and is not written; it holds all of them.
    """
    entry = Path(entry)
    try:
        content = tomllib.loads(read_regular(entry, _MOST_ENTRY).decode("utf-8"))
        return pack_entry(content, entry.parent, out)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        raise ValueError(
            f"{str(entry)!r} is not the TOML file that names the policies, see "
            f"docs/submitting.md: {reason}"
        ) from None
    except _EntryError as error:
        raise ValueError(f"{str(entry)!r}: {error}") from None


def pack_entry(entry: Mapping[str, Any], folder: Path, out: str | Path) -> Bundle:
    """Write a bundle from the content of an entry file.

    The same files give the same bytes. They are checked before they are written, and read again.

    Args:
        entry: content of the TOML file.
        folder: folder to which its paths are relative.
        out: .zip file to write.

    Raises:
        OSError: a file is missing, not a regular one, too large, or cannot be written.
        ValueError: the entry has another form.
        ScoringError: the bundle has problems, and is not written; it holds all of them.
    """
    files = _packed(dict(entry), folder)
    checked = _judged(files, [])
    archive.write_bundle(out, files)
    if archive.read_bundle(out) != archive.Content(files, []):
        raise RuntimeError(f"{str(out)!r} does not hold what was written to it")
    return checked


def _judged(files: dict[str, bytes], problems: list[Problem]) -> Bundle:
    """The bundle with these files.

    Raises:
        ScoringError: there are problems, with those given.
    """
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
    """Problems of policies that are named but missing, or present but not named."""
    there = set(there)
    named = {entry.policy for entry in submission.tasks.values()}
    for path in sorted(named - there):
        yield Problem(Code.SCHEMA, SUBMISSION, f"names {path!r}, which is not in the bundle")
    for path in sorted(p for p in there - named if p.startswith("policies/")):
        yield Problem(Code.SCHEMA, path, "is of no task")


def _text_problems(files: Mapping[str, bytes]) -> Iterator[Problem]:
    """Problems of curves and cards that are not text."""
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
    """Differences between the manifest and the files."""
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
    """Task id -> sizes of observation and action, for the suite's tasks; and problems of others."""
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
    for name, actual, expected in zip(
        ("observation", "action"), (policy.observation, policy.action), sizes, strict=True
    ):
        if actual != expected:
            message = f"has an {name} of {actual} numbers, {task} one of {expected}"
            yield Problem(Code.MODEL, policy.path, message)


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
    """An entry file has a wrong form."""


def _packed(entry: dict[str, Any], folder: Path) -> dict[str, bytes]:
    """The files of a bundle, from an entry and the files that it names."""
    from vnl_envs.scoring.submission.adaptation import adapted

    tasks, shared = entry.pop("tasks", {}), entry.pop("training", {})
    if not isinstance(tasks, dict) or not tasks or not isinstance(shared, dict):
        raise _EntryError('needs a table [tasks."ID"] per task, and may have one [training]')
    if not all(isinstance(t, dict) and isinstance(t.get("policy"), str) for t in tasks.values()):
        raise _EntryError('every [tasks."ID"] needs a policy = "FILE.onnx"')
    files = _texts(entry, folder)
    policies = {
        (path := _policy_path(task)): adapted(folder / part["policy"], _most(path))
        for task, part in tasks.items()
    }
    verdicts = dict(zip(policies, inspect(list(policies.values())), strict=True))
    entries = {}
    for task, part in tasks.items():
        path = _policy_path(task)
        training = {**_training_facts(verdicts[path].metadata), **shared, **part}
        del training["policy"]
        entries[task] = {"policy": path, "training": training}
    if isinstance(date := entry.get("date"), datetime.date):
        entry["date"] = date.isoformat()
    try:
        document = canonical({"schema_version": 1, **entry, "tasks": entries})
    except TypeError as error:
        # TOML has dates and times, and JSON does not.
        raise _EntryError(str(error)) from None
    files |= policies
    try:
        files[SUBMISSION] = to_text(parse(Submission, document, "entry")).encode()
    except ScoringError as error:
        raise ScoringError([*error.problems, *_model_problems(verdicts)]) from None
    manifest = json.dumps(archive.manifest_of(files), indent=1, sort_keys=True)
    files[MANIFEST] = f"{manifest}\n".encode()
    return files


def _texts(entry: dict[str, Any], folder: Path) -> dict[str, bytes]:
    """The card and the curves that an entry names. Their keys are removed from it."""
    card, curves = entry.pop("card", None), entry.pop("curves", [])
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
    """Greatest size of a file in a bundle, bytes."""
    most = archive.limit(path)
    if most is None:
        raise _EntryError(f"{path!r} cannot be in a bundle: {archive.NAMES}")
    return most


def _policy_path(task: str) -> str:
    return f"policies/{re.sub(r'[^A-Za-z0-9_.-]', '-', task)}.onnx"


def _training_facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Facts about the training that `baselines/export.py` writes into policies."""
    facts: dict[str, Any] = {}
    if "algorithm" in metadata:
        network = f" ({metadata['network']})" if "network" in metadata else ""
        facts["algorithm"] = metadata["algorithm"].upper() + network
    if metadata.get("steps", "").isdecimal():
        facts["env_steps"] = int(metadata["steps"])
    if metadata.get("seed", "").isdecimal():
        facts["seeds"] = [int(metadata["seed"])]
    return facts
