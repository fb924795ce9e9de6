"""Bundles that are wrong in some way, each with the exit code that says so.

`cases()` yields them all; a case's class is its name up to the colon. Everything is seeded.
"""

from __future__ import annotations

import copy
import functools
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from vnl_envs.problems import Code
from vnl_envs.scoring.submission import archive
from vnl_envs.scoring.submission.archive import MANIFEST, SUBMISSION

TASK, OBSERVATION, ACTION = "vnl/RodentGoalReaching-v0", 204, 38
POLICY = "policies/rat.onnx"
TRUNCATIONS, FLIPS = 60, 60


@dataclass(frozen=True)
class Case:
    """A wrong bundle.

    Attributes:
        name: "class: variant", unique.
        code: the expected exit code.
        make: its bytes.
        harmless: it may also be found sound, or wrong in another way that a bundle can be.
    """

    name: str
    code: Code
    make: Callable[[], bytes]
    harmless: bool = False

    @property
    def kind(self) -> str:
        """Its class."""
        return self.name.partition(":")[0]


# Sound parts


def values(name: str, kind: int = TensorProto.FLOAT, shape: Any = (1, OBSERVATION)) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def weights(name: str, array: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def first(count: int, source: str = "obs", result: str = "cut") -> list[Any]:
    """Operators that take the first numbers of a row; they need the constants of `bounds`."""
    return [helper.make_node("Slice", [source, "zero", f"end{count}", "one"], [result])]


def bounds(*counts: int) -> list[TensorProto]:
    return [
        weights("zero", np.array([0])), weights("one", np.array([1])),
        *(weights(f"end{count}", np.array([count])) for count in counts),
    ]  # fmt: skip


def policy(
    nodes: Any = None, constants: Any = (), inputs: Any = None, outputs: Any = None,
    opset: int = 17, ir: int = 8, **more: Any,
) -> ModelProto:  # fmt: skip
    """A small policy: tanh of the first numbers, times a weight. Parts can be replaced."""
    if nodes is None:
        nodes = [*first(ACTION), helper.make_node("Mul", ["cut", "w"], ["scaled"]),
                 helper.make_node("Tanh", ["scaled"], ["action"])]  # fmt: skip
        constants = [weights("w", np.full(ACTION, 0.1, np.float32)), *constants]
    graph = helper.make_graph(
        nodes, "policy",
        [values("obs")] if inputs is None else inputs,
        [values("action", shape=(1, ACTION))] if outputs is None else outputs,
        initializer=[*bounds(ACTION), *constants], **more,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def before(*nodes: Any, constants: Any = (), last: str = "changed", **more: Any) -> ModelProto:
    """A policy whose action is tanh of the first numbers of `last`, which `nodes` give."""
    return policy(
        [*nodes, *first(ACTION, last), helper.make_node("Tanh", ["cut"], ["action"])], constants,
        **more,
    )  # fmt: skip


@functools.cache
def sound_policy() -> bytes:
    return policy().SerializeToString()


def document() -> dict[str, Any]:
    """A sound `submission.json`."""
    return {
        "schema_version": 1, "name": "Sound", "authors": ["A. Rat"], "licence": "MIT",
        "date": "2026-01-31", "description": "", "suite": "quick-v2",
        "tasks": {TASK: {"policy": POLICY, "training": {
            "algorithm": "PPO", "env_steps": 1000, "backend": "MuJoCo C",
            "hardware": "2 cores", "seeds": [0],
        }}},
    }  # fmt: skip


def files_of(submission: Any = None, **more: bytes) -> dict[str, bytes]:
    """The files of a bundle and their manifest; `submission` is bytes or a value for JSON."""
    text = document() if submission is None else submission
    data = text if isinstance(text, bytes) else json.dumps(text).encode()
    files = {SUBMISSION: data, POLICY: sound_policy(), **more}
    files[MANIFEST] = json.dumps(archive.manifest_of(files)).encode()
    return files


def sound() -> bytes:
    """A sound bundle."""
    return archive.pack_bytes(files_of())


def with_policy(model: ModelProto | bytes) -> bytes:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return archive.pack_bytes(files_of(**{POLICY: data}))


# A zip writer that does what it is told


@dataclass
class Entry:
    """A file of a zip; `local` and `central` replace fields of one header only."""

    name: bytes
    data: bytes
    flags: int = 0
    method: int = 0
    crc: int | None = None
    packed: bytes | None = None
    size: int | None = None
    mode: int = 0o100644 << 16
    extra: bytes = b""
    central_extra: bytes = b""
    comment: bytes = b""
    disk: int = 0
    gap: bytes = b""
    offset: int | None = None
    local: dict[str, Any] = field(default_factory=dict)

    def fields(self, changed: Mapping[str, Any]) -> dict[str, Any]:
        """What both headers say."""
        packed = self.data if self.packed is None else self.packed
        said = {
            "flags": self.flags, "method": self.method, "time": 0, "date": 33,
            "crc": zlib.crc32(self.data) if self.crc is None else self.crc,
            "packed": len(packed), "size": len(self.data) if self.size is None else self.size,
            "name": self.name,
        }  # fmt: skip
        return said | dict(changed)


def zipped(
    entries: list[Entry], before: bytes = b"", gap: bytes = b"", after: bytes = b"",
    remark: bytes = b"", directory_more: bytes = b"", **end: int,
) -> bytes:  # fmt: skip
    """A zip of entries; `end` replaces fields of the end record."""
    body, central = before, b""
    for entry in entries:
        body += entry.gap
        offset = len(body) if entry.offset is None else entry.offset
        said = entry.fields(entry.local)
        body += struct.pack(
            "<4s5H3L2H", b"PK\3\4", 20, said["flags"], said["method"], said["time"], said["date"],
            said["crc"], said["packed"], said["size"], len(said["name"]), len(entry.extra),
        ) + said["name"] + entry.extra  # fmt: skip
        body += entry.data if entry.packed is None else entry.packed
        said = entry.fields({})
        central += struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 3 << 8 | 20, 20, said["flags"], said["method"], said["time"],
            said["date"], said["crc"], said["packed"], said["size"], len(said["name"]),
            len(entry.central_extra), len(entry.comment), entry.disk, 0, entry.mode, offset,
        ) + said["name"] + entry.central_extra + entry.comment  # fmt: skip
    body += gap
    central += directory_more
    said = {"disk": 0, "first": 0, "here": len(entries), "count": len(entries),
            "size": len(central), "start": len(body), "comment": len(remark)} | end  # fmt: skip
    return body + central + struct.pack("<4s4H2LH", b"PK\5\6", *said.values()) + remark + after


def entries_of(files: Mapping[str, bytes] | None = None) -> list[Entry]:
    files = files_of() if files is None else files
    return [Entry(name.encode(), data) for name, data in sorted(files.items())]


def changed(**fields: Any) -> bytes:
    """The sound zip with its last entry, the submission, changed."""
    entries = entries_of()
    for name, value in fields.items():
        setattr(entries[-1], name, value)
    return zipped(entries)


def added(*entries: Entry, **end: Any) -> bytes:
    return zipped([*entries_of(), *entries], **end)


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


# What is wrong with the zip


def archive_cases() -> Iterator[Case]:
    def case(name: str, make: Callable[[], bytes] | bytes, harmless: bool = False) -> Case:
        return Case(name, Code.ARCHIVE, (lambda: make) if isinstance(make, bytes) else make,
                    harmless)  # fmt: skip

    whole = sound()
    yield case("empty: file", b"")
    for name, data in {
        "text": b"not a bundle\n" * 50, "zeros": bytes(4096), "gzip": b"\x1f\x8b\x08" + bytes(99),
        "7z": b"7z\xbc\xaf\x27\x1c" + bytes(99), "tar": b"ustar" * 200, "rar": b"Rar!\x1a\7\0" * 9,
        "png": b"\x89PNG\r\n\x1a\n" + bytes(99), "noise": np.random.default_rng(0).bytes(5000),
        "pickle": b"\x80\x04\x95" + bytes(99), "local mark only": b"PK\3\4" + bytes(50),
        "end mark only": b"PK\5\6", "policy itself": sound_policy(),
    }.items():  # fmt: skip
        yield case(f"no zip: {name}", data)
    for i in range(TRUNCATIONS):
        size = (len(whole) - 1) * (i + 1) // TRUNCATIONS
        yield case(f"cut short: at {size}", whole[:size])
    for size in (1, 2, 64, 5000):
        yield case(f"bytes before: {size}", zipped(entries_of(), before=b"#" * size))
        yield case(f"bytes before, unaware: {size}", b"#" * size + whole)
        yield case(f"bytes after: {size}", whole + b"#" * size)
        yield case(f"comment: {size}", zipped(entries_of(), remark=b"c" * size))
        yield case(f"gap before directory: {size}", zipped(entries_of(), gap=b"#" * size))
        yield case(f"gap between files: {size}", changed(gap=b"#" * size))
    yield case("bytes after: another zip", whole + whole)
    for name, more in {"junk": b"j" * 46, "an entry too many": b"PK\1\2" + bytes(42)}.items():
        yield case(f"directory too long: {name}", zipped(entries_of(), directory_more=more))
    for i in range(FLIPS):
        rng = np.random.default_rng([1, i])
        turned = bytearray(whole)
        # Half of them in the central directory and the end record, where the structure is.
        low = len(whole) - 350 if i % 2 else 0
        turned[int(rng.integers(low, len(whole)))] ^= 1 << int(rng.integers(8))
        yield case(f"bit turned: {i}", bytes(turned), harmless=True)
    yield from entry_cases(case)
    for key, numbers in {
        "here": (0, 1, 2, 4, 100), "count": (0, 2, 4, 100), "size": (0, 1, 100, 10**6),
        "start": (0, 1, 10**6), "disk": (1, 2), "first": (1, 3), "comment": (1, 500),
    }.items():  # fmt: skip
        for number in numbers:
            yield case(f"end record lies: {key} {number}", zipped(entries_of(), **{key: number}))
    for number in (0, 1, 2, 4, 50):
        yield case(f"count lies: {number}", zipped(entries_of(), here=number, count=number))
    for key, number in {"here": 0xFFFF, "count": 0xFFFF, "size": 2**32 - 1,
                        "start": 2**32 - 1}.items():  # fmt: skip
        more = {key: number} | ({"count": 0xFFFF} if key == "here" else {})
        yield case(f"zip64: {key}", zipped(entries_of(), **more))
    locator = b"PK\6\7" + bytes(16)
    yield case("zip64: locator", zipped(entries_of(), directory_more=locator))
    many = [Entry(f"curves/{i}.csv".encode(), b"x") for i in range(200)]
    yield case("too many entries: 200", lambda: added(*many))
    yield case("too many entries: 60000", lambda: added(*(many * 300)))
    yield case("too large: 65 MiB of zeros", lambda: bytes(65 * 2**20))


def entry_cases(case: Callable[..., Case]) -> Iterator[Case]:
    """Wrong entries in a zip that is otherwise sound."""
    names: dict[str, list[bytes]] = {
        "absolute path": [b"/etc/passwd", b"/policies/a.onnx", b"//host/a.onnx", b"/a"],
        "parent path": [b"../a.onnx", b"policies/../../a.onnx", b"policies/..", b"..",
                        b"policies/../submission.json", b"curves/../../../../tmp/a.csv"],
        "backslash": [b"policies\\a.onnx", b"..\\a.onnx", b"policies/..\\..\\a.onnx", b"a\\"],
        "drive": [b"C:/a.onnx", b"c:a.onnx", b"C:\\a.onnx", b"Z:/policies/a.onnx"],
        "dots and empty parts": [b"./submission.json", b"policies//a.onnx", b"policies/./a.onnx",
                                 b"", b".", b"policies/.", b"./"],
        "control characters": [b"policies/a\0.onnx", b"policies/a.onnx\n", b"\x1b[2Jcard.md",
                               b"policies/a\r.onnx", b"policies/\x7f.onnx", b"card.md\0.onnx"],
        "not UTF-8": [b"policies/\xff.onnx", b"\xc3(.md", b"policies/\xed\xa0\x80.onnx",
                      b"policies/\xc0\xaf.onnx", "policies/é.onnx".encode("latin-1")],
        "other alphabet": ["policies/é.onnx".encode(), "polіcies/a.onnx".encode(),
                           "ｃard.md".encode(), "policies/\u202exnno.onnx".encode()],
        "not of a bundle": [b"run.py", b"policies/a.pkl", b"policies/a.pt", b"__MACOSX/._card.md",
                            b".DS_Store", b"policies/a.onnx.data", b"policies/deep/a.onnx",
                            b"inner.zip", b"policies/a.zip", b"policies/.onnx", b"POLICIES/a.onnx",
                            b"curves/a.json", b"a" * 5000, b"policies/" + b"a" * 81 + b".onnx",
                            b"policies/a b.onnx", b"con", b"manifest.json.bak", b"README.md"],
        "folder": [b"policies/", b"curves/", b"a/"],
    }  # fmt: skip
    for kind, raw in names.items():
        for i, name in enumerate(raw):
            for flags in (0, 0x800):
                entry = Entry(name, b"x", flags=flags)
                yield case(f"{kind}: {i}, flags {flags}", added(entry))
    yield case("folder: by attribute", added(Entry(b"card.md", b"", mode=0x10)))
    for name in (SUBMISSION, MANIFEST, POLICY):
        again = Entry(name.encode(), b"{}")
        yield case(f"twice: {name}", added(again))
        yield case(f"twice: {name} first", zipped([again, *entries_of()]))
        yield case(f"twice but for capitals: {name}",
                   added(Entry(name.swapcase().encode(), b"{}")))  # fmt: skip
    card = b"card.md", b"card"
    yield case("twice but for capitals: POLICY", added(Entry(b"policies/RAT.onnx", b"x")))
    yield case("twice but for form: wide letters",
               added(Entry("policies/ｒat.onnx".encode(), b"x")))  # fmt: skip
    for kind, mode in {"link": 0o120777, "pipe": 0o010644, "device": 0o060644, "tty": 0o020644,
                       "socket": 0o140644, "folder": 0o040755}.items():  # fmt: skip
        yield case(f"special file: {kind}", added(Entry(*card, mode=mode << 16)))
        yield case(f"special file: submission as {kind}", changed(mode=mode << 16))
    for bit in (0, 6, 13):
        yield case(f"encrypted: bit {bit}", added(Entry(*card, flags=1 << bit)))
    for bit in (3, 4, 5, 7, 8, 9, 10, 12, 14, 15):
        yield case(f"flags: bit {bit}", added(Entry(*card, flags=1 << bit)))
    for method in (1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 14, 19, 93, 95, 96, 97, 98, 99, 0xFFFF):
        yield case(f"compression: {method}", added(Entry(*card, method=method)))
    for kind, extra in {"zip64": struct.pack("<HHQQ", 1, 16, 1, 1), "time": b"UT\5\0\3abcd",
                        "unicode path": b"\x75\x70\1\0\1", "junk": b"j" * 100}.items():  # fmt: skip
        yield case(f"extra fields: {kind}, both", added(Entry(*card, extra=extra,
                                                            central_extra=extra)))  # fmt: skip
        yield case(f"extra fields: {kind}, local", added(Entry(*card, extra=extra)))
        yield case(f"extra fields: {kind}, central", added(Entry(*card, central_extra=extra)))
    yield case("entry comment: short", added(Entry(*card, comment=b"hello")))
    yield case("other disk: 1", added(Entry(*card, disk=1)))
    for key, value in {
        "name": b"cart.md", "flags": 0x800, "method": 8, "crc": 1, "packed": 3, "size": 5,
        "time": 7, "date": 7,
    }.items():  # fmt: skip
        yield case(f"headers differ: {key}", added(Entry(*card, local={key: value})))
    yield case("headers differ: longer name", added(Entry(*card, local={"name": b"card.md/x"})))
    for crc in (0, 1, 0xFFFFFFFF):
        yield case(f"checksum: {crc}", added(Entry(*card, crc=crc)))
    for name in ("size", "packed"):
        for value in (0, 1, 3, 5):
            entry = Entry(
                *card, **({"size": value} if name == "size" else {"packed": b"x" * value})
            )
            yield case(f"sizes: stored, {name} {value}", added(entry))
    yield from overlap_cases(case)
    yield from deflate_cases(case)


def overlap_cases(case: Callable[..., Case]) -> Iterator[Case]:
    start = len(zipped(entries_of()[:1])) - 22 - 46 - len(MANIFEST)
    for offset in (0, 1, 10, start, start + 1, 10**6, 2**32 - 2):
        for index in (1, 2):
            entries = entries_of()
            entries[index].offset = offset
            if offset != start or index != 1:
                yield case(f"overlap: file {index} at {offset}", zipped(entries))
    # The quine of bombs: many names, one kernel.
    kernel = Entry(b"curves/0.csv", bytes(1000), packed=deflated(bytes(1000)), method=8)
    many = [Entry(f"curves/{i}.csv".encode(), b"", packed=b"", crc=0, offset=0)
            for i in range(1, 100)]  # fmt: skip
    yield case("overlap: a hundred names of one file", zipped([kernel, *many]))


def deflate_cases(case: Callable[..., Case]) -> Iterator[Case]:
    text = b"A policy. " * 500
    packed = deflated(text)

    def card(**fields: Any) -> bytes:
        return added(Entry(b"card.md", text, **{"method": 8, "packed": packed} | fields))

    for i in range(30):
        turned = bytearray(packed)
        turned[i * len(packed) // 30] ^= 1 << (i % 8)
        yield case(f"deflate damaged: {i}", card(packed=bytes(turned)))
    for i in range(1, 16):
        yield case(f"deflate cut: {i}", card(packed=packed[: len(packed) * i // 16]))
    for more in (b"x", b"x" * 100, deflated(b"y")):
        yield case(f"deflate followed: {len(more)}", card(packed=packed + more))
    for size in (0, 1, len(text) - 1, len(text) + 1, 100_000):
        yield case(f"deflate size lies: {size}", card(size=size))
    yield case("deflate empty: 0", card(packed=b""))
    for count in (10**5, 10**6, 2 * 10**6):
        bomb = deflated(bytes(count))
        # Its headers tell the truth, then a harmless size.
        yield case(f"bomb: {count}", added(
            Entry(b"curves/a.csv", b"", packed=bomb, method=8, size=count,
                  crc=zlib.crc32(bytes(count)))))  # fmt: skip
        yield case(f"bomb in disguise: {count}", added(
            Entry(b"curves/a.csv", b"", packed=bomb, method=8, size=1000)))  # fmt: skip
    yield case("bomb in disguise: 200 MB", lambda: added(
        Entry(b"curves/a.csv", b"", packed=deflated(bytes(200 * 10**6)), method=8,
              size=10**6)))  # fmt: skip
    for name, size in {"card.md": 2**18 + 1, SUBMISSION: 2**18 + 1, "curves/a.csv": 2**21 + 1,
                       "policies/a.onnx": 20 * 2**20 + 1}.items():  # fmt: skip
        for said in (size, 2**31, 2**32 - 2):
            yield case(f"size: {name} {said}", added(
                Entry(name.encode(), b"", packed=b"x" * 100, method=8, size=said)))  # fmt: skip

    def heavy() -> bytes:
        rest = np.random.default_rng(2).bytes(200_000)
        return added(*(Entry(f"policies/{i}.onnx".encode(), b"", packed=rest, method=8,
                             size=20 * 2**20 - 1) for i in range(4)))  # fmt: skip

    yield case("size: together", heavy)


# What is wrong with the documents


def document_cases() -> Iterator[Case]:
    def case(name: str, data: Any, code: Code = Code.SCHEMA) -> Case:
        return Case(name, code, lambda: archive.pack_bytes(files_of(data)))

    text = json.dumps(document())
    for name, data in {
        "empty": b"", "words": b"hello", "cut": text[:-5].encode(), "two": (text + text).encode(),
        "comma": text.replace("}", ",}").encode(), "single quotes": text.replace('"', "'").encode(),
        "comment": ("// x\n" + text).encode(), "NUL": ("\0" + text).encode(), "YAML": b"name: a\n",
        "control": text.replace("Sound", "So\nund").encode(), "hex": b"0x10", "pickle": b"\x80\4N.",
    }.items():  # fmt: skip
        yield case(f"no JSON: {name}", data)
    for name, value in {"null": None, "list": [], "text": "x", "number": 1, "list of it":
                        [document()], "true": True, "nothing in it": {}}.items():  # fmt: skip
        yield case(f"root: {name}", json.dumps(value).encode())
    for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig"):
        yield case(f"encoding: {encoding}", text.encode(encoding))
    yield case("encoding: latin-1", text.replace("Sound", "S\xf6und").encode("latin-1"))
    for pair in ('"name": "Other"', '"suite": "core-v2"', '"tasks": {}', '"n\\u0061me": "Other"'):
        yield case(f"repeated key: {pair}", ("{" + pair + ", " + text[1:]).encode())
    seeds = '"seeds": [0]'
    for word in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 5000, "1e400"):
        yield case(f"number: {word[:20]}", text.replace("1000", word).encode())
        yield case(f"number: seed {word[:20]}", text.replace(seeds, f'"seeds": [{word}]').encode())
    for depth in (25, 1000, 50_000):
        nested = "[" * depth + "]" * depth
        yield case(f"depth: {depth}", text.replace(seeds, f'"seeds": {nested}').encode())
        yield case(f"depth: open {depth}", ("[" * depth).encode())
        yield case(f"depth: objects {depth}", ('{"a":' * depth).encode())
    yield case("depth: quotes", ('"' + '\\"' * 120_000).encode())
    yield from value_cases(case)
    yield from bundle_cases()


PLACES: dict[str, tuple[str, ...]] = {
    **{key: (key,) for key in ("schema_version", "name", "authors", "licence", "date",
                               "description", "suite", "tasks")},
    "entry": ("tasks", TASK),
    "policy": ("tasks", TASK, "policy"),
    "training": ("tasks", TASK, "training"),
    **{key: ("tasks", TASK, "training", key)
       for key in ("algorithm", "env_steps", "backend", "hardware", "seeds")},
}  # fmt: skip
"""Every place in a submission."""
_NUMBERS: list[Any] = [-1, 0.5, 2**80]
_TEXTS: list[Any] = ["x" * 3000, "\ud800"]
_ANY: list[Any] = [None, True, 1.5, {"a": 1}, [[]], [None]]
_LINE: list[Any] = [3, [], "", "  ", "two\nlines", "bell\a", "x" * 121, "\u202egnp.exe", "a\0b"]
WRONG: dict[str, list[Any]] = {
    "schema_version": ["1", [], None, True, 1.5, {}],
    "name": [*_ANY, *_TEXTS, *_LINE], "licence": [*_ANY, *_TEXTS, *_LINE],
    "algorithm": [*_ANY, *_TEXTS, *_LINE], "backend": [*_ANY, *_TEXTS, *_LINE],
    "hardware": [*_ANY, *_TEXTS, *_LINE],
    "authors": [*_ANY, "A. Rat", [], [""], [1], ["a"] * 51, {"0": "a"}, ["a\nb"]],
    "date": [*_ANY, "yesterday", "31.1.2026", "2026-13-01", "2026-02-30", "", "2026-01-31T10:00"],
    "description": [*_ANY, *_TEXTS, 5],
    "suite": [*_ANY, *_TEXTS, "", "Core V1", "../core-v2", "core-v2.json", "/etc/passwd", "a\n"],
    "tasks": [*_ANY, "x", [], {}, {TASK: None}, {"no id": {}}, {"../a/b-v0": {}},
              {"vnl/R\u043edent-v0": {}}, {"vnl/Rodent-v\u0661": {}}],
    "entry": [None, True, 1.5, "x", [], {}],
    "policy": [*_ANY, *_TEXTS, "", "rat.onnx", "/policies/rat.onnx", "policies/../rat.onnx",
               "policies/rat.pkl", "policies/rat.onnx\n", "policies\\rat.onnx", "policies/a/b.onnx",
               "https://example.org/rat.onnx", "policies/r\u0430t.onnx"],
    "training": [None, True, 1.5, "x", [], {}],
    "env_steps": [None, True, {"a": 1}, [], "1000", *_NUMBERS, 10**15 + 1],
    "seeds": [None, True, {"a": 1}, 0, "0", [], ["0"], [True], [-1], [0.5], [0] * 1001, [None]],
}  # fmt: skip
"""Place -> values that it may not have."""


def value_cases(case: Callable[..., Case]) -> Iterator[Case]:
    """Every place with every wrong value, missing, or with something beside it."""
    for key, path in PLACES.items():
        *parents, last = path

        def put(value: Any = None, gone: bool = False, parents: Any = parents, last: Any = last,
                more: str = "") -> dict[str, Any]:  # fmt: skip
            whole = document()
            at = functools.reduce(lambda part, name: part[name], parents, whole)
            if gone:
                del at[last]
            elif more:
                at[more] = value
            else:
                at[last] = value
            return whole

        for i, value in enumerate(WRONG[key]):
            yield case(f"value: {key} {i}", json.dumps(put(value)).encode())
        if key != "description":
            yield case(f"missing: {key}", put(gone=True), Code.SCHEMA)
    for where in ((), ("tasks", TASK), ("tasks", TASK, "training")):
        for more in ("extra", "Name", "script", "__class__", "score", ""):
            whole = document()
            functools.reduce(lambda part, name: part[name], where, whole)[more] = 1
            yield case(f"unknown key: {len(where)} {more!r}", whole)
    whole = document()
    for i in range(2000):
        whole[f"k{i}"] = i
    yield case("unknown key: many", whole)
    for version in (0, 2, 3, 1000):
        yield case(f"schema version: {version}", document() | {"schema_version": version},
                   Code.VERSION)  # fmt: skip
    for suite in ("core-v0", "core-v999", "none", "a"):
        yield case(f"unknown suite: {suite}", document() | {"suite": suite}, Code.VERSION)
    entry = document()["tasks"][TASK]
    for task in ("vnl/RodentGoalReaching-v9", "vnl/Nothing-v0", "my/RodentGoalReaching-v0",
                 "vnl/RodentGoalRace-v0"):  # fmt: skip
        yield case(f"unknown task: {task}", document() | {"tasks": {task: entry}}, Code.VERSION)
        yield case(f"unknown task: {task} too",
                   document() | {"tasks": {TASK: entry, task: entry}}, Code.VERSION)  # fmt: skip


def bundle_cases() -> Iterator[Case]:
    """Files and what the documents say of them."""

    def without(*names: str, **more: bytes) -> Callable[[], bytes]:
        def make() -> bytes:
            files = files_of()
            files.update(more)
            for name in names:
                del files[name]
            return archive.pack_bytes(files)

        return make

    yield Case("no submission: alone", Code.SCHEMA, without(SUBMISSION))
    yield Case("no manifest: alone", Code.DIGEST, without(MANIFEST))
    yield Case("no submission: nor manifest", Code.SCHEMA, without(SUBMISSION, MANIFEST))
    yield Case("no submission: nothing at all", Code.SCHEMA, lambda: archive.pack_bytes({}))
    yield Case("no policy: alone", Code.SCHEMA, without(POLICY))

    def sealed(**more: bytes) -> Callable[[], bytes]:
        return lambda: archive.pack_bytes(files_of(None, **more))

    for name in ("other", "rat.onnx", "a-b_c"):
        yield Case(f"policy of no task: {name}", Code.SCHEMA,
                   sealed(**{f"policies/{name}.onnx": sound_policy()}))  # fmt: skip
    for name, data in {"latin-1": b"\xe9\xff", "NUL": b"a\0b", "zip": sound(), "UTF-16":
                       "text".encode("utf-16")}.items():  # fmt: skip
        for path in ("card.md", "curves/a.csv"):
            yield Case(f"no text: {path} {name}", Code.SCHEMA, sealed(**{path: data}))

    def manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[], bytes]:
        def make() -> bytes:
            files = files_of()
            listed = json.loads(files[MANIFEST])
            value = change(listed)
            listed = listed if value is None else value
            files[MANIFEST] = listed if isinstance(listed, bytes) else json.dumps(listed).encode()
            return archive.pack_bytes(files)

        return make

    for name in (SUBMISSION, POLICY):
        for i, digit in enumerate("0f"):
            yield Case(f"digest: {name} {i}", Code.DIGEST,
                       manifest(lambda m, n=name, d=digit: m.update({n: d * 64})))  # fmt: skip
        yield Case(
            f"not listed: {name}", Code.DIGEST, manifest(lambda m, n=name: m.pop(n) and None)
        )
        digests = ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, None, 5, ["0" * 64], "0" * 64 + "\n"]
        for i, wrong in enumerate(digests):
            yield Case(f"no digest: {name} {i}", Code.SCHEMA,
                       manifest(lambda m, n=name, w=wrong: m.update({n: w})))  # fmt: skip
        yield Case(f"changed: {name}", Code.DIGEST,
                   without(**{name: files_of()[name] + b" "}) if name == SUBMISSION else
                   without(**{name: policy(ir=9).SerializeToString()}))  # fmt: skip
    for name in ("card.md", "policies/none.onnx", "../x", "\x1b[2J", MANIFEST):
        yield Case(f"listed and not there: {name!r}", Code.DIGEST,
                   manifest(lambda m, n=name: m.update({n: "0" * 64})))  # fmt: skip
    for name, value in {"list": [], "text": "x", "null": b"null", "not JSON": b"{", "NaN": b"NaN",
                        "bytes": b"\xff"}.items():  # fmt: skip
        yield Case(f"no manifest document: {name}", Code.SCHEMA, manifest(lambda m, v=value: v))


# What is wrong with a policy


def model_cases() -> Iterator[Case]:
    def case(name: str, model: Any, harmless: bool = False) -> Case:
        return Case(
            name, Code.MODEL, lambda: with_policy(model() if callable(model) else model), harmless
        )

    data = sound_policy()
    for name, other in {
        "empty": b"", "text": b"not a model" * 20, "zeros": bytes(1000), "zip": sound(),
        "noise": np.random.default_rng(3).bytes(3000), "pickle": b"\x80\x04\x95\x05\0\0\0\0\0\0\0.",
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(500), "torch script": b"PK\3\4" + bytes(500),
        "JSON": b'{"graph": 1}', "shell": b"#!/bin/sh\nrm -rf /\n",
    }.items():  # fmt: skip
        yield case(f"no model: {name}", other)
    for i in range(TRUNCATIONS):
        size = (len(data) - 1) * (i + 1) // TRUNCATIONS
        # What is left may lack the last operators' settings only.
        yield case(f"model cut: at {size}", data[:size], harmless=True)
    for i in range(2 * FLIPS):
        rng = np.random.default_rng([4, i])
        turned = bytearray(data)
        turned[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        yield case(f"model bit turned: {i}", bytes(turned), harmless=True)
    yield from operator_cases(case)
    yield from interface_cases(case)
    yield from constant_cases(case)
    yield from form_cases(case)


FORBIDDEN = """
    RandomNormal RandomUniform RandomNormalLike RandomUniformLike Multinomial Bernoulli Dropout
    NonZero Range Tile Resize Upsample Pad Einsum Conv ConvTranspose MaxPool TopK Unique Compress
    Optional OptionalGetElement OptionalHasElement SequenceConstruct SequenceAt SequenceEmpty
    SequenceInsert ConcatFromSequence SplitToSequence StringNormalizer StringSplit StringConcat
    RegexFullMatch TfIdfVectorizer QuantizeLinear DequantizeLinear QLinearMatMul DFT STFT
    MelWeightMatrix BlackmanWindow HannWindow GridSample Col2Im OneHot ScatterND ScatterElements
    GatherND NonMaxSuppression RoiAlign EyeLike CumSum Hardmax Det ImageDecoder Attention Foo
    loop IF
""".split()  # noqa: SIM905


def operator_cases(case: Callable[..., Case]) -> Iterator[Case]:
    """Operators that may not be used, and settings that they may not have."""
    for name in FORBIDDEN:
        yield case(f"operator: {name}", before(helper.make_node(name, ["obs"], ["changed"])))
    branch = helper.make_graph(
        [helper.make_node("Identity", ["obs"], ["same"])], "branch", [],
        [values("same")],
    )  # fmt: skip
    step = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]),
         helper.make_node("Identity", ["row"], ["next"])], "step",
        [values("i", TensorProto.INT64, []), values("go", TensorProto.BOOL, []), values("row")],
        [values("on", TensorProto.BOOL, []), values("next")],
    )  # fmt: skip
    yes, often = weights("yes", np.array(True)), weights("often", np.array(10**9))
    yield case("branch: If", before(
        helper.make_node("If", ["yes"], ["changed"], then_branch=branch, else_branch=branch),
        constants=[yes]))  # fmt: skip
    for name, count in {"ever": "", "1e9": "often"}.items():
        yield case(f"loop: Loop {name}", before(
            helper.make_node("Loop", [count, "yes", "obs"], ["changed"], body=step),
            constants=[yes, often]))  # fmt: skip
    yield case("loop: Scan", before(helper.make_node("Scan", ["obs"], ["changed"],
                                                     body=branch, num_scan_inputs=1)))  # fmt: skip
    for domain in ("my.ops", "com.microsoft", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview"):
        node = helper.make_node("Tanh", ["obs"], ["changed"], domain=domain)
        yield case(f"domain: {domain}, undeclared", before(node))
        model = before(node)
        model.opset_import.append(helper.make_opsetid(domain, 1))
        yield case(f"domain: {domain}", model)
        model = policy()
        model.opset_import.append(helper.make_opsetid(domain, 1))
        yield case(f"domain: {domain}, unused", model)
    hidden = helper.make_node("Tanh", ["obs"], ["changed"])
    hidden.attribute.append(helper.make_attribute("body", branch))
    yield case("hidden attribute: graph", before(hidden))
    sparse = helper.make_sparse_tensor(
        weights("v", np.ones(1, np.float32)), weights("i", np.array([0])), [3]
    )
    for kind, value in {"graphs": [branch], "sparse": sparse}.items():
        node = helper.make_node("Tanh", ["obs"], ["changed"])
        node.attribute.append(helper.make_attribute("more", value))
        yield case(f"hidden attribute: {kind}", before(node))
    node = helper.make_node("Elu", ["obs"], ["changed"])
    node.attribute.append(AttributeProto(name="alpha", type=1, ref_attr_name="alpha"))
    yield case("hidden attribute: reference", before(node))
    for number in (float("nan"), float("inf"), -float("inf")):
        node = helper.make_node("Elu", ["obs"], ["changed"], alpha=number)
        yield case(f"attribute: {number}", before(node))
        node = helper.make_node("Constant", [], ["c"], value_floats=[1.0, number])
        add = helper.make_node("Reshape", ["c", "zero"], ["changed"])
        yield case(f"attribute: list {number}", before(node, add))
    norm = helper.make_node("BatchNormalization", ["obs", *"smvb"], ["changed"], training_mode=1)
    row = [weights(name, np.ones(OBSERVATION, np.float32)) for name in "smvb"]
    yield case("attribute: training", before(norm, constants=row))
    for setting in ({"alpha": "a"}, {"beta": 1.0}, {"alpha": [1.0, 2.0]}):
        yield case(f"attribute: wrong {setting}",
                   before(helper.make_node("Elu", ["obs"], ["changed"], **setting)))  # fmt: skip
    yield from graph_cases(case)


def graph_cases(case: Callable[..., Case]) -> Iterator[Case]:
    """Operators that are allowed, put together in ways that are not."""
    tanh = functools.partial(helper.make_node, "Tanh")
    for name, nodes in {
        "undefined input": [tanh(["nothing"], ["changed"])],
        "circle": [tanh(["b"], ["a"]), tanh(["a"], ["b"]), tanh(["a"], ["changed"])],
        "defined twice": [tanh(["obs"], ["changed"]), tanh(["changed"], ["changed"])],
        "wrong order": [tanh(["a"], ["changed"]), tanh(["obs"], ["a"])],
        "overwrites input": [tanh(["obs"], ["obs"]), tanh(["obs"], ["changed"])],
        "too few inputs": [helper.make_node("Add", ["obs"], ["changed"])],
        "too many inputs": [tanh(["obs", "obs"], ["changed"])],
        "no output": [tanh(["obs"], [])],
        "wrong type": [helper.make_node("And", ["obs", "obs"], ["changed"])],
        "shapes differ": [helper.make_node("MatMul", ["obs", "obs"], ["changed"])],
    }.items():  # fmt: skip
        yield case(f"graph: {name}", before(*nodes))
    big = {"w3000": weights("size", np.array([3000, 3000])),
           "w9": weights("size", np.array([2**20, 2**20, 2**20])),
           "negative": weights("size", np.array([-5]))}  # fmt: skip
    for name, size in big.items():
        grow = helper.make_node("ConstantOfShape", ["size"], ["big"])
        mean = helper.make_node("ReduceMean", ["big"], ["mean"], keepdims=0)
        add = helper.make_node("Add", ["obs", "mean"], ["changed"])
        yield case(f"size on the way: ConstantOfShape {name}",
                   before(grow, mean, add, constants=[size]))  # fmt: skip
    grow = helper.make_node("Expand", ["one", "size"], ["big"])
    cast = helper.make_node("Cast", ["big"], ["floats"], to=1)
    mean = helper.make_node("ReduceMean", ["floats"], ["mean"], keepdims=0)
    add = helper.make_node("Add", ["obs", "mean"], ["changed"])
    yield case("size on the way: Expand", before(grow, cast, mean, add, constants=[big["w3000"]]))
    column = weights("column", np.ones((30_000, 1), np.float32))
    outer = helper.make_node("MatMul", ["column", "obs"], ["big"])
    mean = helper.make_node("ReduceMean", ["big"], ["changed"], axes=[0])
    yield case("size on the way: MatMul", before(outer, mean, constants=[column]))
    many = [helper.make_node("Tanh", ["big" if i == 0 else f"t{i - 1}"], [f"t{i}"])
            for i in range(30)]  # fmt: skip
    small = weights("column", np.ones((5000, 1), np.float32))
    mean = helper.make_node("ReduceMean", ["t29"], ["changed"], axes=[0])
    yield case("size together: a chain", before(outer, *many, mean, constants=[small]))
    whole = helper.make_node("Cast", ["obs"], ["whole"], to=TensorProto.INT64)
    for op in ("Reshape", "Expand"):
        node = helper.make_node(op, ["obs", "flat"], ["changed"])
        flat = helper.make_node("Reshape", ["whole", "minus"], ["flat"])
        minus = weights("minus", np.array([-1]))
        yield case(f"shape from data: {op}", before(whole, flat, node, constants=[minus]))
    node = helper.make_node("ConstantOfShape", ["flat"], ["changed"])
    yield case("shape from data: ConstantOfShape", before(whole, flat, node, constants=[minus]))
    chain = [tanh(["obs" if i == 0 else f"n{i - 1}"], [f"n{i}"]) for i in range(2500)]
    yield case("operators: 2500", lambda: before(*chain, last="n2499"))

    def slow() -> ModelProto:
        long = helper.make_node("Expand", ["half", "length"], ["steps"])
        lstms = [
            helper.make_node("LSTM", ["steps", "w", "r"], ["", name], hidden_size=400)
            for name in ("one state", "other state", "state")
        ]
        one = helper.make_node("ReduceMean", ["state"], ["mean"], keepdims=0)
        rows = {"half": np.full((1, 1, 1), 0.5), "w": np.ones((1, 1600, 1)),
                "r": np.full((1, 1600, 400), 0.1)}  # fmt: skip
        constants = [weights(name, rows[name].astype(np.float32)) for name in rows]
        length = weights("length", np.array([50_000, 1, 1]))
        return before(long, *lstms, one, add, constants=[*constants, length])

    yield case("slow: a memory of 50000 steps", slow)
    # Two bytes each, some hundred in memory.
    yield case("memory: ten million operators", lambda: b"\x3a\x80\xda\xc4\x09" + b"\x0a\0" * 10**7)


def interface_cases(case: Callable[..., Case]) -> Iterator[Case]:
    """Inputs and outputs."""
    action = values("action", shape=(1, ACTION))

    def renamed(name: str, result: str) -> ModelProto:
        model = policy(
            [*first(ACTION, name), helper.make_node("Tanh", ["cut"], [result])],
            inputs=[values(name)],
            outputs=[values(result, shape=(1, ACTION))],
        )
        return model

    for name in ("input", "observation", "Obs", "", "obs "):
        yield case(f"input name: {name!r}", renamed(name, "action"))
    for name in ("output", "actions", "Action", "mean"):
        yield case(f"output name: {name!r}", renamed("obs", name))
    yield case("inputs: none", policy(inputs=[]))
    yield case("inputs: twice", policy(inputs=[values("obs")] * 2))
    yield case("inputs: more", policy(inputs=[values("obs"), values("reward")]))
    yield case("inputs: weight", policy(inputs=[values("obs"), values("w", shape=[ACTION])]))
    yield case("outputs: none", policy(outputs=[]))
    yield case("outputs: twice", policy(outputs=[action] * 2))
    yield case("outputs: more", policy(outputs=[action, values("cut", shape=(1, ACTION))]))
    yield case("outputs: not made", policy(
        [helper.make_node("Tanh", ["obs"], ["other"])]))  # fmt: skip
    for name, kind in {
        "double": TensorProto.DOUBLE,
        "half": TensorProto.FLOAT16,
        "int": TensorProto.INT64,
        "text": TensorProto.STRING,
        "none": 0,
    }.items():
        yield case(f"input type: {name}", policy(inputs=[values("obs", kind)]))
        if kind:
            cast = [*first(ACTION), helper.make_node("Cast", ["cut"], ["action"], to=kind)]
            yield case(f"output type: {name}", policy(
                cast, outputs=[values("action", kind, (1, ACTION))]))  # fmt: skip
    for shape in ((OBSERVATION,), (2, OBSERVATION), (1, 1, OBSERVATION), (1, "n"), ("a", "b"), (),
                  None, (1, 0), (0, OBSERVATION), (1, -1)):  # fmt: skip
        yield case(f"input shape: {shape}", policy(inputs=[values("obs", shape=shape)]))
    for count in (1, OBSERVATION - 1, OBSERVATION + 1, 985):
        if count > ACTION:
            yield case(
                f"observation size: {count}", policy(inputs=[values("obs", shape=(1, count))])
            )
        taken = min(count, 100)
        model = policy([*first(taken), helper.make_node("Tanh", ["cut"], ["action"])],
                       bounds(taken)[2:], outputs=[values("action", shape=(1, taken))])  # fmt: skip
        yield case(f"action size: {count}", model)
    flat = helper.make_node("Flatten", ["cut"], ["column"], axis=0)
    for name, nodes, shape in (
        ("one axis", [helper.make_node("Squeeze", ["cut"], ["action"])], (ACTION,)),
        ("column", [flat, helper.make_node("Transpose", ["column"], ["action"])], (ACTION, 1)),
        ("three axes", [helper.make_node("Unsqueeze", ["cut", "zero"], ["action"])],
         (1, 1, ACTION)),
    ):  # fmt: skip
        yield case(
            f"output shape: {name}",
            policy([*first(ACTION), *nodes], outputs=[values("action", shape=shape)]),
        )
    for shape in ((1, 7), (ACTION,), (2, ACTION), (1, 2, 3)):
        yield case(f"output shape: declared {shape}",
                   policy(outputs=[values("action", shape=shape)]), harmless=True)  # fmt: skip
    yield from state_cases(case)


def state_cases(case: Callable[..., Case]) -> Iterator[Case]:
    def remembering(size_in: Any = (1, 8), size_out: int = 8, **more: Any) -> ModelProto:
        nodes = [*first(ACTION), helper.make_node("Tanh", ["cut"], ["action"]),
                 *first(size_out, more.pop("source", "obs"), "state_out")]  # fmt: skip
        counts = bounds(size_out)[2:] if size_out != ACTION else []
        ends = {
            "inputs": [values("obs"), values("state_in", more.pop("kind", 1), size_in)],
            "outputs": [values("action", shape=(1, ACTION)),
                        values("state_out", shape=(1, size_out))],
        }  # fmt: skip
        return policy(nodes, counts, **ends | more)

    assert not onnx.checker.check_model(remembering())
    yield case("state: no output", remembering(outputs=[values("action", shape=(1, ACTION))]))
    yield case("state: no input", remembering(inputs=[values("obs")]))
    for size in (1, 7, 9, 100):
        yield case(f"state: sizes 8 and {size}", remembering(size_out=size))
    yield case("state: 70000 numbers", remembering((1, 70_000), 70_000, source="state_in"))
    for shape in ((8,), (2, 8), (1, "n"), (1, 1, 8), None):
        yield case(f"state: shape {shape}", remembering(shape))
    for kind in (TensorProto.DOUBLE, TensorProto.INT64):
        yield case(f"state: type {kind}", remembering(kind=kind))


def constant_cases(case: Callable[..., Case]) -> Iterator[Case]:
    """Weights."""
    for number in (np.nan, np.inf, -np.inf):
        for kind in (np.float32, np.float64, np.float16):
            array = np.full(ACTION, 0.1, kind)
            array[-1] = number
            yield case(f"weights not finite: {number} {kind.__name__}",
                       policy(constants=[weights("unused", array)]))  # fmt: skip
    node = helper.make_node("Constant", [], ["c"], value=weights("v", np.float32(np.nan)))
    add = helper.make_node("Add", ["obs", "c"], ["changed"])
    yield case("weights not finite: in an operator", before(node, add))
    typed = TensorProto(name="unused", data_type=1, dims=[2], float_data=[1.0, float("inf")])
    yield case("weights not finite: as a list", policy(constants=[typed]))
    outside = weights("unused", np.ones(3, np.float32))
    outside.ClearField("raw_data")
    for place in ("weights.bin", "/etc/passwd", "../../secret", "/dev/zero"):
        tensor = copy.deepcopy(outside)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=place)
        yield case(f"external data: {place}", policy(constants=[tensor]))
        inner = helper.make_node("Constant", [], ["c"], value=tensor)
        yield case(f"external data: {place} in an operator", before(inner, add))
    tensor = weights("unused", np.ones(3, np.float32))
    tensor.external_data.add(key="location", value="weights.bin")
    yield case("external data: undeclared", policy(constants=[tensor]))
    for dims in ([4], [2], [10**6], [2**40], [2**62, 4], [-1], [-3], [3, 0], [1] * 9):
        tensor = weights("unused", np.ones(3, np.float32))
        tensor.dims[:] = dims
        yield case(f"weights: shape {dims}", policy(constants=[tensor]))
        tensor = TensorProto(name="unused", data_type=1, dims=dims, float_data=[1.0] * 3)
        yield case(f"weights: list of shape {dims}", policy(constants=[tensor]))
    for kind in (TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.UINT8, 0, 16, 17, 99):
        tensor = TensorProto(name="unused", data_type=kind, dims=[1])
        yield case(f"weights: type {kind}", policy(constants=[tensor]))
    tensor = weights("unused", np.ones(3, np.float32))
    tensor.segment.begin = 0
    yield case("weights: in parts", policy(constants=[tensor]))
    text = helper.make_node("Constant", [], ["c"], value_string="hello")
    yield case("weights: text in an operator", before(text, add))
    sparse = helper.make_sparse_tensor(weights("s", np.ones(1, np.float32)),
                                       weights("i", np.array([0])), [3])  # fmt: skip
    yield case("weights: sparse", policy(sparse_initializer=[sparse]))
    yield case("weights: twice", policy(constants=[weights("w", np.ones(ACTION, np.float32))]))
    yield case(
        "parameters: 6 million half",
        lambda: policy(
            constants=[weights(f"u{i}", np.ones(2 * 10**6, np.float16)) for i in range(3)]
        ),
    )
    yield case(
        "parameters: in operators",
        lambda: before(
            *(
                helper.make_node(
                    "Constant", [], [f"c{i}"], value=weights("v", np.ones(10**6, np.float16))
                )
                for i in range(6)
            ),
            helper.make_node("Tanh", ["obs"], ["changed"]),
        ),
    )


def form_cases(case: Callable[..., Case]) -> Iterator[Case]:
    """The model around its graph."""
    for opset in (1, 7, 10, 29, 30, 1000, -1):
        yield case(f"opset: {opset}", policy(opset=opset))
    for version in (0, 1, 3, 15, 16, 99):
        yield case(f"IR version: {version}", policy(ir=version))
    model = policy()
    del model.opset_import[:]
    yield case("opset: none", model)
    model = policy()
    model.opset_import.append(helper.make_opsetid("", 16))
    yield case("opset: twice", model)
    model = policy()
    model.functions.append(helper.make_function(
        "mine", "Twice", ["x"], ["y"], [helper.make_node("Tanh", ["x"], ["y"])],
        [helper.make_opsetid("", 17)]))  # fmt: skip
    yield case("functions: unused", model)
    model = policy()
    model.training_info.add()
    yield case("training info: empty", model)
    for count, size in ((1, 70_000), (1000, 100), (70_000, 0)):
        model = policy()
        helper.set_model_props(model, {f"key{i}": "x" * size for i in range(count)})
        yield case(f"metadata: {count} of {size}", model)
    yield from ballast_cases(case)
    model = policy()
    model.graph.quantization_annotation.add().tensor_name = "w"
    yield case("quantisation: annotation", model)
    # Fields of numbers that ONNX does not have: a varint, text, and one within the graph.
    unknown = b"\xf8\x3f\x01"
    yield case("unknown fields: number", sound_policy() + unknown)
    yield case("unknown fields: text", sound_policy() + b"\xfa\x3f\x05hello")
    graph = policy().graph.SerializeToString() + unknown
    rest = policy()
    rest.ClearField("graph")
    head = b"\x3a" + _varint(len(graph)) + graph
    yield case("unknown fields: in the graph", rest.SerializeToString() + head)
    yield case("no graph: alone", rest)
    yield case("no graph: no operators", policy([]))


def ballast_cases(case: Callable[..., Case]) -> Iterator[Case]:
    """Much beside the weights, wherever ONNX has room for it."""
    much = "x" * 300_000

    def note(part: Any) -> None:
        part.metadata_props.add(key="k", value=much)

    def comment(part: Any) -> None:
        part.doc_string = much

    for name, add in {
        "comment": comment, "graph's comment": lambda m: comment(m.graph),
        "operator's comment": lambda m: comment(m.graph.node[0]),
        "constant's comment": lambda m: comment(m.graph.initializer[0]),
        "input's comment": lambda m: comment(m.graph.input[0]),
        "output's comment": lambda m: comment(m.graph.output[0]),
        "shape's comment": lambda m: comment(m.graph.value_info.add(name="obs")),
        "attribute's comment": lambda m: comment(m.graph.node[0].attribute.add(name="a", type=1)),
        "graph's notes": lambda m: note(m.graph),
        "operator's notes": lambda m: note(m.graph.node[0]),
        "constant's notes": lambda m: note(m.graph.initializer[0]),
        "input's notes": lambda m: note(m.graph.input[0]),
        "producer": lambda m: setattr(m, "producer_name", much),
        "domain": lambda m: setattr(m, "domain", much),
        "graph's name": lambda m: setattr(m.graph, "name", much),
        "operator's name": lambda m: setattr(m.graph.node[0], "name", much),
        "unused numbers": lambda m: m.graph.initializer[0].int64_data.extend([1] * 300_000),
        "unused texts": lambda m: m.graph.initializer[0].string_data.append(much.encode()),
        "shapes": lambda m: [m.graph.value_info.add(name=f"v{i}") for i in range(60_000)],
        "attribute": lambda m: m.graph.node[0].attribute.add(name="a", type=3, s=much.encode()),
    }.items():  # fmt: skip
        model = policy()
        add(model)
        yield case(f"ballast: {name}", model)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def cases() -> Iterator[Case]:
    """All of them."""
    for generator in (archive_cases, document_cases, model_cases):
        yield from generator()
