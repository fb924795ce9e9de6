"""The journal of a run: its finished episodes, in a form that survives a kill at any moment."""

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
"""Greatest size of a journal that is read, bytes; the largest possible suite takes some 50 MB."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished episode, with facts that are not part of the result.

    Attributes:
        episode: result of the episode.
        note: description of the policy's failure; "" if it did not fail.
        seconds: time that a worker spent on the episode, s.
        policy_seconds: part of it that was spent waiting for the policy, s.
        simulation_seconds: part of it that the rest of the episode took, s.
    """

    episode: EpisodeResult
    note: str
    seconds: float
    policy_seconds: float
    simulation_seconds: float

    def plain(self) -> dict[str, Any]:
        """The record as plain values for JSON."""
        return {**vars(self), "episode": self.episode.model_dump(mode="json")}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """Make a record from the values of `plain`.

        Raises:
            ValueError, TypeError, KeyError: the values are not those of a record.
        """
        return cls(**{**plain, "episode": EpisodeResult.model_validate(plain["episode"])})


class Journal:
    """A file of finished episodes in a run's folder; a context manager.

    Each line is a CRC-32, in hexadecimal, and JSON. The first line is the run's header. A record is
    on disk when `add` returns. Lines damaged by a crash or a bad disk are dropped, and their
    episodes run again.

    Args:
        folder: folder of the run, made if necessary.
        header: description of the run; a folder with another header is refused.

    Raises:
        ValueError: the folder holds another run or something else, or a run is under way in it.
        OSError: the journal is not a regular file, or is larger than `MOST_BYTES`.

    Attributes:
        records: episode id -> record, of all finished episodes.
        dropped: number of damaged lines.
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
        # Text after the last line break is incomplete.
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
    # Keys keep their order, so that a result has the same bytes with and without the journal.
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _read(line: bytes) -> dict[str, Any] | None:
    """The value of a line; None if it is damaged."""
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
                # The values are hashes, which tell people nothing.
                raise ValueError(f"{where} another run: one with other --task, --episodes")
            raise ValueError(
                f"{where} another run: its {name} is {found.get(name)}, not {expected.get(name)}"
            )
