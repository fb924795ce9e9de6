"""Bundles: zip files in which every byte is accounted for. They are read in memory, not extracted.

A bundle is a plain zip file (PKWARE's APPNOTE 6.3.10, sections 4.3 and 4.4): the local files from
the first byte on, then the central directory, then the end record, without any other bytes. It has
no zip64 records, comments, extra fields, data descriptors or encryption. So all readers see the
same content, and nothing overlaps.
"""

from __future__ import annotations

import hashlib
import io
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vnl_envs.problems import Code, Problem, ScoringError, problem
from vnl_envs.scoring.documents.schema.text import canonical
from vnl_envs.utils.files import open_regular, written_whole
from vnl_envs.utils.texts import shown

SUBMISSION, MANIFEST, CARD = "submission.json", "MANIFEST.json", "card.md"
MIB = 2**20
ALLOWED = {
    re.escape(SUBMISSION): MIB // 4,
    re.escape(MANIFEST): MIB // 4,
    re.escape(CARD): MIB // 4,
    r"policies/[A-Za-z0-9_.-]{1,80}\.onnx": 20 * MIB,
    r"curves/[A-Za-z0-9_.-]{1,80}\.csv": 2 * MIB,
}
"""Pattern of a path in a bundle -> greatest size of the file, bytes."""
MOST_ENTRIES = 128
MOST_BYTES = 64 * MIB
"""Greatest size of the zip file, and of all its files together, bytes."""
MOST_RATIO, RATIO_FROM = 200, 64 * 1024
"""Greatest compression ratio, for files of at least so many bytes."""

_END = struct.Struct("<4s4H2LH")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_END_MARK, _CENTRAL_MARK, _LOCAL_MARK = b"PK\5\6", b"PK\1\2", b"PK\3\4"
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _UTF8, _LEVELS = 1 << 0 | 1 << 6 | 1 << 13, 1 << 11, 1 << 1 | 1 << 2
_DOS_FOLDER = 0x10
# Numbers in the end record that refer to a zip64 record.
_ZIP64 = (0xFFFF, 0xFFFFFFFF)
NAMES = "names are of up to 80 letters, digits, '_', '.', '-'"
_WRITE_HINT = "write it with `vnl-envs score pack`, or with `zip -X -D`"


class Content(NamedTuple):
    """The content of a bundle.

    Attributes:
        files: path -> bytes of the files that could be read.
        problems: problems of the other files and of the zip file.
    """

    files: dict[str, bytes]
    problems: list[Problem]


class _Entry(NamedTuple):
    """An entry of the central directory.

    Attributes:
        raw: bytes of the file's name.
        name: name for people.
        flags, method, time, crc, packed, size: as in the headers; sizes in bytes.
        mode: external attributes.
        extra: whether there are extra fields or a comment.
        offset: offset of the local header, bytes.
    """

    raw: bytes
    name: str
    flags: int
    method: int
    time: tuple[int, int]
    crc: int
    packed: int
    size: int
    mode: int
    extra: bool
    offset: int


def read_bundle(path: str | Path) -> Content:
    """Read the files of an untrusted bundle.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ScoringError: (`Code.ARCHIVE`) the file is not such a zip file.
    """
    return unpack(_bounded(Path(path)))


def unpack(data: bytes) -> Content:
    """Read the files of an untrusted bundle from its bytes.

    Raises:
        ScoringError: (`Code.ARCHIVE`) the bytes are not such a zip file.
    """
    entries, directory = _entries(data)
    layout = _layout_problems(data, entries, directory)
    problems: list[Problem] = []
    files: dict[str, bytes] = {}
    seen: set[str] = set()
    left = MOST_BYTES
    for entry in entries:
        wrong = _header_problem(entry, left)
        folded = unicodedata.normalize("NFKC", entry.name).casefold()
        if folded in seen:
            wrong = "is there twice (capitals do not tell files apart)"
        seen.add(folded)
        if wrong is None and not layout:
            left -= entry.size
            content = _inflated(data, entry)
            wrong = content if isinstance(content, str) else None
            if isinstance(content, bytes):
                files[entry.name] = content
        if wrong is not None:
            problems.append(Problem(Code.ARCHIVE, shown(entry.name), wrong))
    if layout:
        raise ScoringError([*layout, *problems])
    return Content(files, problems)


def pack_bytes(files: Mapping[str, bytes]) -> bytes:
    """Pack files into a zip file, with the same bytes for the same files on every machine.

    The files are not compressed: weights hardly shrink, and compressors differ by version.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(files):
            info = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, files[path])
    return buffer.getvalue()


def write_bundle(path: str | Path, files: Mapping[str, bytes]) -> None:
    """Write a bundle atomically.

    Raises:
        OSError: it cannot be written.
    """
    with written_whole(path) as partial:
        partial.write_bytes(pack_bytes(files))


def manifest_of(files: Mapping[str, bytes]) -> dict[str, str]:
    """Path -> SHA-256 of every file except the manifest itself."""
    return {path: sha256(files[path]) for path in sorted(files) if path != MANIFEST}


def identity_of(files: Mapping[str, bytes]) -> str:
    """SHA-256 of the canonical manifest of a bundle's files: the same for the same content."""
    return sha256(canonical(manifest_of(files)))


def sha256(data: bytes) -> str:
    """The SHA-256 of bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _bounded(path: Path) -> bytes:
    """The bytes of a regular file of at most `MOST_BYTES`."""
    with open_regular(path) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise problem(Code.ARCHIVE, shown(path.name), f"must have at most {MOST_BYTES} bytes")
    return data


def _entries(data: bytes) -> tuple[list[_Entry], int]:
    """The entries of the central directory, and its offset."""
    count, size, start = _end(data)
    if count > MOST_ENTRIES:
        raise _broken(f"has {count} entries, at most {MOST_ENTRIES} are allowed")
    entries, at, end = [], start, start + size
    for _ in range(count):
        if at + _CENTRAL.size > end or data[at : at + 4] != _CENTRAL_MARK:
            raise _broken("its central directory is damaged")
        (
            _,
            _,
            _,
            flags,
            method,
            time,
            date,
            crc,
            packed,
            full,
            name,
            extra,
            comment,
            disk,
            _,
            mode,
            offset,
        ) = _CENTRAL.unpack_from(data, at)
        raw = data[at + _CENTRAL.size : at + _CENTRAL.size + name]
        at += _CENTRAL.size + name + extra + comment
        if at > end or disk:
            raise _broken("its central directory is damaged")
        text = raw.decode("utf-8", "backslashreplace")
        entries.append(
            _Entry(
                raw,
                text,
                flags,
                method,
                (time, date),
                crc,
                packed,
                full,
                mode,
                bool(extra or comment),
                offset,
            )
        )
    if at != end:
        raise _broken("its central directory holds more than its entries")
    return entries, start


def _end(data: bytes) -> tuple[int, int, int]:
    """The number of entries, size and offset of the central directory."""
    at = len(data) - _END.size
    if at < 0 or data[at : at + 4] != _END_MARK:
        if _END_MARK in data[-0x10000 - _END.size :]:
            raise _broken(f"has a comment, or bytes after its end; {_WRITE_HINT}")
        raise _broken("is not a zip file, or was cut short")
    _, disk, first, here, count, size, start, comment = _END.unpack_from(data, at)
    if count in _ZIP64 or size in _ZIP64 or start in _ZIP64:
        raise _broken(f"is in the zip64 format; {_WRITE_HINT}")
    if disk or first or here != count or comment:
        raise _broken("its end record is damaged, or it is one of several parts")
    if start + size != at:
        raise _broken(f"has bytes before its start or its end; {_WRITE_HINT}")
    return count, size, start


def _layout_problems(data: bytes, entries: list[_Entry], directory: int) -> list[Problem]:
    """Problems unless the local files are contiguous up to the directory, and agree with it."""
    at = 0
    for entry in sorted(entries, key=lambda e: e.offset):
        if entry.offset != at:
            wrong = "overlaps another file, or bytes that belong to none lie before it"
            return [Problem(Code.ARCHIVE, shown(entry.name), wrong)]
        if at + _LOCAL.size > directory or data[at : at + 4] != _LOCAL_MARK:
            return [Problem(Code.ARCHIVE, shown(entry.name), "its local header is damaged")]
        _, _, *fields, name, extra = _LOCAL.unpack_from(data, at)
        at += _LOCAL.size
        expected = [entry.flags, entry.method, *entry.time, entry.crc, entry.packed, entry.size]
        if fields != expected or data[at : at + name] != entry.raw:
            wrong = "its local header differs from the central directory"
            return [Problem(Code.ARCHIVE, shown(entry.name), wrong)]
        if extra:
            wrong = f"has extra fields; {_WRITE_HINT}"
            return [Problem(Code.ARCHIVE, shown(entry.name), wrong)]
        at += name + entry.packed
    if at != directory:
        return [Problem(Code.ARCHIVE, "bundle", "bytes that belong to no file lie in it")]
    return []


def _header_problem(entry: _Entry, left: int) -> str | None:
    """The problem of an entry of the directory, or None; `left` bytes are still allowed."""
    return _name_problem(entry) or _kind_problem(entry) or _size_problem(entry, left)


def _name_problem(entry: _Entry) -> str | None:
    try:
        name = entry.raw.decode("utf-8")
    except UnicodeDecodeError:
        return "its name is not UTF-8"
    if name.endswith(("/", "\\")) or entry.mode & _DOS_FOLDER:
        return f"is a folder entry; {_WRITE_HINT}"
    if (
        not name
        or name.startswith("/")
        or "\\" in name
        or re.match("[A-Za-z]:", name)
        or {"", ".", ".."} & set(name.split("/"))
    ):
        return "is not a plain relative path"
    if limit(name) is None:
        return (
            f"is no file of a bundle, which holds {SUBMISSION}, {MANIFEST}, policies/*.onnx, "
            f"curves/*.csv and {CARD}; {NAMES}"
        )
    return None


def _kind_problem(entry: _Entry) -> str | None:
    kind = stat.S_IFMT(entry.mode >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or a special file"
    if entry.flags & _ENCRYPTED:
        return "is encrypted"
    if entry.flags & ~(_UTF8 | _LEVELS):
        return f"has flags that are not supported ({entry.flags:#06x}); {_WRITE_HINT}"
    if entry.method not in (_STORED, _DEFLATED):
        return f"is compressed by method {entry.method}; only stored and deflated are read"
    if entry.extra:
        return f"has extra fields or a comment; {_WRITE_HINT}"
    return None


def _size_problem(entry: _Entry, left: int) -> str | None:
    most = limit(entry.name) or 0
    if entry.size > most:
        return f"has {entry.size} bytes, at most {most} are allowed"
    if entry.size > left:
        return f"takes the bundle over {MOST_BYTES} bytes"
    if entry.size >= RATIO_FROM and entry.size > MOST_RATIO * entry.packed:
        return f"is compressed more than {MOST_RATIO} times; store it without compression"
    return None


def limit(name: str) -> int | None:
    """Greatest size of a file of this name, bytes; None if the name is not allowed."""
    for pattern, most in ALLOWED.items():
        if re.fullmatch(pattern, name):
            return most
    return None


def _inflated(data: bytes, entry: _Entry) -> bytes | str:
    """The bytes of a file, or its problem. It is never inflated beyond its stated size."""
    start = entry.offset + _LOCAL.size + len(entry.raw)
    packed = data[start : start + entry.packed]
    content = packed
    if entry.method == _DEFLATED:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = stream.decompress(packed, entry.size + 1)
        except zlib.error:
            return "its compressed data are damaged"
        if len(content) <= entry.size and (not stream.eof or stream.unused_data):
            return "its compressed data are cut short, or followed by others"
    if len(content) != entry.size:
        return f"does not have the {entry.size} bytes that it says"
    if zlib.crc32(content) != entry.crc:
        return "its checksum is wrong"
    return content


def _broken(message: str) -> Exception:
    return problem(Code.ARCHIVE, "bundle", message)
