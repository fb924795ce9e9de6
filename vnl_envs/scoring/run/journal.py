"""What a run has finished so far, kept so that it survives being killed at any moment."""

from __future__ import annotations

import dataclasses
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from vnl_envs.scoring.documents.schema.result import EpisodeResult
from vnl_envs.utils.files import read_regular, written_whole

NAME = "journal.jsonl"
LOCK = "journal.lock"
MOST_BYTES = 256 * 2**20
"""Of a journal that is read; of as many episodes as a suite can have it takes some 50 MB."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished episode, and what is known of it that is no part of the result.

    Attributes:
        episode: its result.
        note: how the policy failed, in words; "" where it did not.
        seconds: that a worker spent on it. Of these, policy_seconds: waiting for the policy;
            simulation_seconds: on the rest of the episode itself.
    """

    episode: EpisodeResult
    note: str
    seconds: float
    policy_seconds: float
    simulation_seconds: float

    def plain(self) -> dict[str, Any]:
        """As values for JSON."""
        return {**vars(self), "episode": self.episode.model_dump(mode="json")}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """From `plain`'s.

        Raises:
            ValueError, TypeError, KeyError: it is not one.
        """
        return cls(**{**plain, "episode": EpisodeResult.model_validate(plain["episode"])})


class Journal:
    """A file of finished episodes in a run's folder; a context manager.

    Each line is a CRC-32, in hexadecimal, and JSON. The first is the run's header. A record is on
    the disk when `add` returns. Lines that a crash or a bad disk has spoilt are dropped, and their
    episodes run again.

    Args:
        folder: of the run, made if need be.
        header: what the run is; a folder that has another one is refused.

    Raises:
        ValueError: the folder holds another run, or something else; or a run is under way in it.
        OSError: its journal is no regular file, or larger than `MOST_BYTES`.

    Attributes:
        records: episode id -> record, of what was finished before and since.
        dropped: how many spoilt lines there were.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"a run is under way in {str(folder)!r}") from None
        try:
            self._open(folder / NAME, header)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, path: Path, header: Mapping[str, Any]) -> None:
        self.records: dict[str, Record] = {}
        self.dropped = 0
        lines = read_regular(path, MOST_BYTES).split(b"\n") if path.exists() else []
        # What follows the last line break was being written.
        if len(lines) > 1:
            _check_header(path, _read(lines[0]), header)
            for line in lines[1:-1]:
                self._take(line)
        kept = [header, *(record.plain() for record in self.records.values())]
        with written_whole(path) as partial, partial.open("wb") as file:
            file.write(b"".join(map(_line, kept)))
            file.flush()
            os.fsync(file.fileno())
        self._file = path.open("ab")

    def _take(self, line: bytes) -> None:
        try:
            record = Record.of(_read(line) or {})
        except (ValueError, TypeError, KeyError):
            self.dropped += 1
            return
        self.records[record.episode.id] = record

    def add(self, record: Record) -> None:
        """Keep a record."""
        self._file.write(_line(record.plain()))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.records[record.episode.id] = record

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._lock.release()


def _line(value: Mapping[str, Any]) -> bytes:
    # In its own order: a result has the same bytes whether its episodes went through here or not.
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _read(line: bytes) -> dict[str, Any] | None:
    """The value of a line; None where it is spoilt."""
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    value = json.loads(text)
    return value if isinstance(value, dict) else None


def _check_header(path: Path, found: Mapping[str, Any] | None, expected: Mapping[str, Any]) -> None:
    where = f"{str(path.parent)!r} holds"
    if found is None:
        raise ValueError(f"{where} a {NAME} that is none of a run: take another folder")
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            if name == "part":
                # Hashes, which say nothing to people.
                raise ValueError(f"{where} another run: one with other --task, --episodes")
            raise ValueError(
                f"{where} another run: its {name} is {found.get(name)}, not {expected.get(name)}"
            )
