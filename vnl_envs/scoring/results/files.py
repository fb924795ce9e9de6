"""Files of results: stamps, reading and writing."""

from __future__ import annotations

import hashlib
import lzma
import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from vnl_envs.problems import Code, problem
from vnl_envs.scoring.documents.schema.fields import MOST_BYTES
from vnl_envs.scoring.documents.schema.reading import parse
from vnl_envs.scoring.documents.schema.result import (
    EpisodeResult,
    Episodes,
    Result,
    Summary,
    episodes_text,
)
from vnl_envs.scoring.documents.schema.suite import Suite
from vnl_envs.scoring.documents.schema.text import to_text
from vnl_envs.utils.files import read_regular, written_whole
from vnl_envs.utils.machine import cpu_name
from vnl_envs.utils.texts import shown

PACKAGES = ("vnl_envs", "mujoco", "numpy", "onnxruntime", "dm-control")
"""Packages on which the numbers depend."""
NATIVE = "native"
"""Engine whose results are ranked."""
ENGINE_PACKAGES = {
    "jax": ("jax", "mujoco-mjx"),
    "warp": ("jax", "mujoco-mjx", "warp-lang"),
}
"""Further packages in a cross-check, by engine."""
FLAGS = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "asimd",
    "sve",
)
"""Processor flags by which NumPy, ONNX Runtime and the C library choose their code."""
_MOST_CHARACTERS = 200
_PRESET = 6 | lzma.PRESET_EXTREME
_MOST_MEMORY = 64 * 2**20
"""Memory for unpacking records, bytes; those packed here need 9 MiB."""
# An object without inner ones. Strings in JSON have no line breaks.
_INNERMOST = re.compile(r"{\n[^{}\[\]]*}")


def stamps(engine: str = NATIVE) -> dict[str, str]:
    """The stamps of results of an engine here: versions, processor and its flags."""
    versions = {name: _version(name) for name in PACKAGES + ENGINE_PACKAGES.get(engine, ())}
    return {
        **{name: version for name, version in versions.items() if version},
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": cpu_name().encode("ascii", "replace").decode()[:_MOST_CHARACTERS],
        "cpu_flags": " ".join(_flags()),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _flags() -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    lines = [line for line in text.splitlines() if line.lower().startswith(("flags", "features"))]
    present = set(lines[0].partition(":")[2].split()) if lines else set()
    return [flag for flag in FLAGS if flag in present]


def records_name(result: str) -> str:
    """Name of the file of per-episode records beside the file of a result."""
    return f"{result.removesuffix('.json')}.episodes.json.xz"


def read_result(path: Path) -> Result:
    """Read a result from its file and from the file of its episodes.

    Raises:
        ScoringError: a file is invalid, with one problem per fault.
        OSError: one of the files cannot be read.
    """
    beside = path.with_name(records_name(path.name))
    return parse_result(read_regular(path, MOST_BYTES), read_regular(beside, MOST_BYTES), path.name)


def parse_result(summary: bytes, records: bytes, where: str) -> Result:
    """Parse a result from the content of its two files.

    Args:
        summary: JSON of the summary.
        records: compressed JSON of the episodes.
        where: name of the summary's file, for messages.

    Raises:
        ScoringError: see `read_result`.
    """
    head: Summary = parse(Summary, summary, where)
    beside = records_name(where)
    text = _unpacked(records, beside)
    if hashlib.sha256(text).hexdigest() != head.records.sha256:
        raise problem(Code.DIGEST, beside, f"is not the file that {where} is of")
    episodes: list[EpisodeResult] = parse(Episodes, text, beside)
    if len(episodes) != head.records.episodes:
        message = f"is {head.records.episodes}, {beside} has {len(episodes)}"
        raise problem(Code.SCHEMA, f"{where}: records.episodes", message)
    shared = {name: getattr(head, name) for name in Summary.model_fields if name != "records"}
    return Result(**shared, episodes=episodes)


def _unpacked(data: bytes, where: str) -> bytes:
    """Decompress an untrusted xz file.

    Raises:
        ScoringError: it is not an xz file, or needs too much memory, or is too large.
    """
    reader = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_MEMORY)
    try:
        text = reader.decompress(data, MOST_BYTES)
    except lzma.LZMAError as error:
        raise problem(Code.SCHEMA, where, f"is not proper xz: {shown(str(error))}") from None
    if not reader.eof or reader.unused_data:
        raise problem(Code.SCHEMA, where, f"is not one whole xz file of at most {MOST_BYTES} bytes")
    return text


def write_result(path: Path, result: Result) -> None:
    """Write a result, and its episodes beside it, each atomically."""
    packed = lzma.compress(episodes_text(result.episodes).encode(), preset=_PRESET)
    with written_whole(path.with_name(records_name(path.name))) as partial:
        partial.write_bytes(packed)
    with written_whole(path) as partial:
        partial.write_text(_in_lines(to_text(result.summary)))


def _in_lines(text: str) -> str:
    """JSON with each innermost object on one line."""
    return _INNERMOST.sub(lambda found: re.sub(r"\n *", " ", found[0]), text)


def is_complete(suite: Suite, engine: str, episodes: Sequence[EpisodeResult]) -> bool:
    """Whether every episode of a suite was run on the native engine."""
    ids = {episode.id for episode in episodes if episode.reason != Code.INCOMPLETE.slug}
    return engine == NATIVE and ids == {spec.id for spec in suite.specs}


def is_exposed(result: Result) -> bool:
    """Whether untrusted policies ran outside the sandbox."""
    return not result.isolated and not result.entrant.identity.startswith("reference:")
