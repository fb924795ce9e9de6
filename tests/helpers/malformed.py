"""Motion files that are wrong in some way, for every format.

`GENERATORS` is the table: a new format adds a function that yields cases.
"""

from __future__ import annotations

import functools
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from malformed_keypoints import wrong_keypoints
from motion_files import (
    amc_text,
    amc_values,
    body_of,
    clips_of,
    motion,
    write_dm_control,
    write_stac,
)

from vnl_envs.motion.clip import write_clips


@dataclass(frozen=True)
class Case:
    """A wrong file.

    Attributes:
        name: what is wrong, unique.
        format: of `vnl_envs.motion.readers.FORMATS`.
        make: the file's content, or a function that makes the file at a path.
        body: of which it is meant to be.
        suffix: of the file's name.
        harmless: the reader may also find nothing wrong (a bit that nobody reads was turned).
        arguments: what `read_motion` gets besides.
    """

    name: str
    format: str
    make: bytes | Callable[[Path], object]
    body: str = "rodent"
    suffix: str = ".h5"
    harmless: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Make the file."""
        if isinstance(self.make, bytes):
            path.write_bytes(self.make)
        else:
            self.make(path)


# What is wrong with any content

TRUNCATIONS, FLIPS = 40, 40


def damaged(
    format: str, content: bytes, suffix: str = ".h5", body: str = "rodent"
) -> Iterator[Case]:
    """Sound content cut short, other content, and content with bits turned."""
    for i in range(TRUNCATIONS):
        # The last byte too.
        size = (len(content) - 1) * (i + 1) // TRUNCATIONS
        yield Case(f"{format}: cut at {size}", format, content[:size], body, suffix)
    for name, other in {
        "empty": b"", "zeros": bytes(4096), "text": b"not motion\n" * 50,
        "signature": b"\x89HDF\r\n\x1a\n", "noise": np.random.default_rng(0).bytes(5000),
        "doubled head": content[:512] * 2,
    }.items():  # fmt: skip
        yield Case(f"{format}: {name}", format, other, body, suffix)
    yield Case(f"{format}: folder", format, Path.mkdir, body, suffix)
    yield Case(f"{format}: missing", format, lambda path: None, body, suffix)
    rng = np.random.default_rng(1)
    for i in range(FLIPS):
        turned = bytearray(content)
        # Half of them in the first bytes, where the structure is.
        where = int(rng.integers(min(len(content), 3000) if i % 2 else len(content)))
        turned[where] ^= 1 << int(rng.integers(8))
        yield Case(f"{format}: bit {i}", format, bytes(turned), body, suffix, harmless=True)


# HDF5


@functools.cache
def sound(format: str) -> bytes:
    """A sound file of the rat."""
    body = body_of("rodent")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.h5"
        if format == "clips":
            write_clips(path, clips_of(body), body)
        elif format == "dm_control":
            write_dm_control(path, body, {f"clip_{i}": motion(body, 12, i) for i in range(2)})
        else:
            write_stac(path, body, motion(body, 12), "model:\n  RENDER_FPS: 50\n")
        return path.read_bytes()


def edited(format: str, edit: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    """Makes a sound file with one change."""

    def make(path: Path) -> None:
        path.write_bytes(sound(format))
        with h5py.File(path, "r+") as file:
            edit(file)

    return make


def instead(where: str, change: Callable[[np.ndarray], Any]) -> Callable[[h5py.File], None]:
    """Replaces a data set by what a function makes of its values."""

    def edit(file: h5py.File) -> None:
        values = file[where][()]
        del file[where]
        changed = change(values)
        if changed is not None:
            file[where] = changed

    return edit


def at(values: np.ndarray, index: Any, value: float) -> np.ndarray:
    """A copy with one change."""
    out = np.array(values)
    out[index] = value
    return out


VALUES: dict[str, Callable[[np.ndarray], Any]] = {
    "missing": lambda v: None,
    "group": lambda v: None,
    "text": lambda v: np.full(v.shape, b"a"),
    "texts": lambda v: "a",
    "complex": lambda v: v.astype(complex),
    "truth": lambda v: v > 0,
    "records": lambda v: np.zeros(len(v), [("a", "f4"), ("b", "i4")]),
    "nothing": lambda v: h5py.Empty("f4"),
    "scalar": lambda v: v.flat[0],
    "flat": lambda v: v.ravel(),
    "deeper": lambda v: v[None],
    "transposed": lambda v: v.swapaxes(0, 1),
    "narrow": lambda v: v[:, :-1],
    "wide": lambda v: np.concatenate([v, v[:, -1:]], axis=1),
    "short": lambda v: v[:-1],
    "no rows": lambda v: v[:0],
    "no columns": lambda v: v[:, :0],
    "nan": lambda v: at(v, (2, 3), np.nan),
    "inf": lambda v: at(v, (1, 2), np.inf),
    "all nan": lambda v: np.full_like(v, np.nan),
    "huge": lambda v: v.astype(float) * 1e200,
    "zeros": lambda v: np.zeros_like(v),
    "large": lambda v: v * 2,
}


def links(where: str) -> dict[str, Callable[[h5py.File], object]]:
    """Ways to lead a reader elsewhere, from where a data set belongs."""

    def put(link: Callable[[h5py.File], Any]) -> Callable[[h5py.File], None]:
        def edit(file: h5py.File) -> None:
            if where in file:
                del file[where]
            file[where] = link(file)

        return edit

    def fresh(kind: np.dtype) -> Callable[[h5py.File], None]:
        def edit(file: h5py.File) -> None:
            shape = file[where].shape
            del file[where]
            file.create_dataset(where, shape, kind)

        return edit

    def external_storage(file: h5py.File) -> None:
        shape = file[where].shape
        del file[where]
        file.create_dataset(where, shape, "f4", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])

    def virtual(file: h5py.File) -> None:
        shape = file[where].shape
        del file[where]
        layout = h5py.VirtualLayout(shape, "f4")
        layout[...] = h5py.VirtualSource("elsewhere.h5", "qpos", shape)
        file.create_virtual_dataset(where, layout, fillvalue=1)

    def virtual_loop(file: h5py.File) -> None:
        shape = file[where].shape
        del file[where]
        layout = h5py.VirtualLayout(shape, "f4")
        layout[...] = h5py.VirtualSource(".", where, shape)
        file.create_virtual_dataset(where, layout)

    return {
        "link to another file": put(lambda f: h5py.ExternalLink("elsewhere.h5", "/qpos")),
        "link to a device": put(lambda f: h5py.ExternalLink("/dev/zero", "/")),
        "link to itself": put(lambda f: h5py.SoftLink(f"/{where}")),
        "link to nothing": put(lambda f: h5py.SoftLink("/nowhere")),
        "link to the root": put(lambda f: h5py.SoftLink("/")),
        "loop": put(lambda f: f["/"]),
        "type": put(lambda f: np.dtype("f4")),
        "references": fresh(h5py.ref_dtype),
        "ragged": fresh(h5py.vlen_dtype(np.dtype("f4"))),
        "external storage": external_storage,
        "virtual": virtual,
        "virtual loop": virtual_loop,
    }


def sizes(where: str) -> dict[str, Callable[[h5py.File], object]]:
    """Ways to declare more than there is."""

    def declare(frames: int, **layout: Any) -> Callable[[h5py.File], None]:
        def edit(file: h5py.File) -> None:
            last = file[where].shape[1:]
            del file[where]
            file.create_dataset(where, (frames, *last), "f4", **layout)

        return edit

    def bomb(file: h5py.File) -> None:
        # 300 chunks of 1.5 MiB that take 1.5 kB each.
        rest = file[where].shape[1:]
        del file[where]
        rows = 2**20 // int(np.prod(rest))
        data = file.create_dataset(
            where, (300 * rows, *rest), "f4", chunks=(rows, *rest), compression="gzip"
        )
        packed = zlib.compress(bytes(rows * int(np.prod(rest)) * 4), 9)
        for i in range(300):
            data.id.write_direct_chunk((i * rows, *[0] * len(rest)), packed)

    return {
        "a billion frames": declare(10**9),
        "a billion frames, chunked": declare(10**9, chunks=True, compression="gzip"),
        "a trillion frames": declare(10**12, chunks=True),
        "a day, not there": declare(4_320_000),
        "more than a day": declare(5_000_000, chunks=True, compression="gzip"),
        "bomb": bomb,
    }


def hdf5_cases(format: str, arrays: dict[str, tuple[str, ...]]) -> Iterator[Case]:
    """Cases of one HDF5 format; `arrays` are its data sets with the changes that do no harm."""
    yield from damaged(format, sound(format))
    for where, fine in arrays.items():
        changes: dict[str, Callable[[h5py.File], object]] = {
            **{name: instead(where, change) for name, change in VALUES.items()},
            **links(where),
            **sizes(where),
        }
        changes["group"] = lambda f, w=where: (f.__delitem__(w), f.create_group(w))
        for name, edit in changes.items():
            if name not in fine:
                yield Case(f"{format}: {where} {name}", format, edited(format, edit))


def some(format: str, edits: dict[str, Callable[[h5py.File], object]]) -> Iterator[Case]:
    """Cases by name."""
    for name, edit in edits.items():
        yield Case(f"{format}: {name}", format, edited(format, edit))


def attribute(name: str, value: Any, part: str = "/") -> Callable[[h5py.File], None]:
    """Changes an attribute."""
    return lambda file: file[part].attrs.__setitem__(name, value)


def clip_cases() -> Iterator[Case]:
    """Our own files."""
    # Poses of any size are poses: `data check` judges them.
    yield from hdf5_cases("clips", {"clip 0/qpos": ("short",)})
    yield from some("clips", {
        "joint order": lambda f: f.attrs.__setitem__("joint_names", f.attrs["joint_names"][::-1]),
        "joints": attribute("joint_names", ["neck"]),
        "joint numbers": attribute("joint_names", [1.0, 2.0]),
        "body": attribute("body", "humanoid"),
        "version": attribute("version", 2),
        "rate": attribute("rate", 30.0),
        "rate nan": attribute("rate", np.nan),
        "format": attribute("format", "other"),
        "format number": attribute("format", 1),
        "split": attribute("split", "validation", "clip 0"),
        "label missing": lambda f: f["clip 0"].attrs.__delitem__("label"),
        "no clips": lambda f: f.clear(),
        "stray numbers": lambda f: f.__setitem__("stray", np.zeros(3)),
        "clip elsewhere": lambda f: f.__setitem__("other", h5py.ExternalLink("x.h5", "/")),
        "clip a loop": lambda f: f.__setitem__("loop", f["/"]),
        "clip a soft loop": lambda f: f.__setitem__("loop", h5py.SoftLink("/loop")),
    })  # fmt: skip


def dm_control_cases() -> Iterator[Case]:
    """dm_control's files."""
    walker = "clip_0/walkers/walker_0"
    fine = {
        # A clip without body positions has nothing to compare with.
        "position": ("zeros",),
        "quaternion": (),
        "joints": (),
        "body_positions": ("missing",),
    }
    fine["position"] = ()
    yield from hdf5_cases("dm_control", {f"{walker}/{k}": v for k, v in fine.items()})
    yield from some("dm_control", {
        "joint order": instead(f"{walker}/joints", lambda v: v[::-1]),
        "two joints swapped": instead(f"{walker}/joints", lambda v: v[[1, 0, *range(2, len(v))]]),
        "another scale": instead(f"{walker}/body_positions", lambda v: v * 1.02),
        "bodies in another order": instead(f"{walker}/body_positions", lambda v: v[::-1]),
        "dt zero": attribute("dt", 0.0, "clip_0"),
        "dt negative": attribute("dt", -0.02, "clip_0"),
        "dt nan": attribute("dt", np.nan, "clip_0"),
        "dt inf": attribute("dt", np.inf, "clip_0"),
        "dt tiny": attribute("dt", 1e-300, "clip_0"),
        "dt text": attribute("dt", "0.02", "clip_0"),
        "dt list": attribute("dt", [0.02, 0.02], "clip_0"),
        "dt missing": lambda f: f["clip_0"].attrs.__delitem__("dt"),
        "num_steps": attribute("num_steps", 99, "clip_0"),
        "num_steps text": attribute("num_steps", "12", "clip_0"),
        "no walkers": lambda f: f["clip_0"].__delitem__("walkers"),
        "empty walkers": lambda f: f["clip_0/walkers"].clear(),
        "walkers numbers": lambda f: (f["clip_0"].__delitem__("walkers"),
                                      f.__setitem__("clip_0/walkers", np.zeros(3))),
        "walkers a loop": lambda f: (f["clip_0"].__delitem__("walkers"),
                                     f.__setitem__("clip_0/walkers", f["/"])),
        "no clips": lambda f: f.clear(),
        "clip elsewhere": lambda f: f.__setitem__("other", h5py.ExternalLink("x.h5", "/")),
        "clip numbers": lambda f: f.__setitem__("other", np.zeros(3)),
    })  # fmt: skip
    content = sound("dm_control")
    yield Case("dm_control: another body", "dm_control", content, body="humanoid")
    yield Case("dm_control: another rate", "dm_control", content, arguments={"rate": 30.0})


def stac_cases() -> Iterator[Case]:
    """STAC-MJX's files."""
    yield from hdf5_cases("stac", {"qpos": (), "xpos": ("missing",)})
    for part in ("names_qpos", "names_xpos"):
        yield from some("stac", {
            f"{part} {name}": instead(part, change)
            for name, change in {
                "missing": lambda v: None,
                "numbers": lambda v: np.arange(len(v)),
                "turned": lambda v: v[::-1],
                "short": lambda v: v[:-1],
                "none": lambda v: v[:0],
                "scalar": lambda v: v[0],
                "square": lambda v: np.stack([v, v]),
                "long": lambda v: v.astype("S100000"),
                "others": lambda v: np.full(len(v), b"bone"),
            }.items()
        })  # fmt: skip
    yield from some("stac", {
        "two names swapped": instead("names_qpos", lambda v: v[[*range(12), 13, 12, *range(14, 74)]]
        ),
        "another scale": instead("xpos", lambda v: v * 1.02),
        "no config": lambda f: f.__delitem__("config"),
        **{f"rate {text}": instead("config", lambda v, t=text: np.bytes_(f"RENDER_FPS: {t}"))
           for text in ("0", "-50", "nan", "inf", "fast", "1e99")},
        "config numbers": instead("config", lambda v: np.zeros(5)),
        "config long": instead("config", lambda v: np.bytes_(b" " * 2**21)),
        "snippets": instead("config", lambda v: np.bytes_(
            "RENDER_FPS: 50\nsnips_order:\n" + "\n".join(f"- Walk_{i}.p" for i in range(5)))),
    })  # fmt: skip
    yield Case("stac: another body", "stac", sound("stac"), body="humanoid")
    for rate in (0.0, -50.0, float("nan"), 1e9):
        yield Case(f"stac: given rate {rate}", "stac", sound("stac"), arguments={"rate": rate})


def keypoint_cases() -> Iterator[Case]:
    """MATLAB's and HDF5 files of keypoints, 12 frames at 50 Hz."""
    for wrong in wrong_keypoints():
        yield Case(
            f"{wrong.format}: {wrong.name}", wrong.format, wrong.content, "rodent", wrong.suffix,
            wrong.harmless, {"rate": 50.0},
        )  # fmt: skip


# Text


def amc_lines() -> list[str]:
    """The lines of a sound recording of 12 frames, line 1 first: 3 of header, 30 for a frame."""
    body = body_of("humanoid")
    return amc_text(amc_values(body, motion(body, 12))).splitlines()


AMC_HEADER, AMC_FRAME = 3, 30


def amc_case(name: str, text: str | bytes, **more: Any) -> Case:
    """A wrong recording."""
    content = text.encode() if isinstance(text, str) else text
    return Case(f"amc: {name}", "amc", content, body="humanoid", suffix=".amc", **more)


def amc_cases() -> Iterator[Case]:
    """CMU's recordings."""
    lines = amc_lines()
    text = "\n".join(lines) + "\n"
    for case in damaged("amc", text.encode(), ".amc", "humanoid"):
        # A bit that turns one number into another leaves a recording, and so does a last line
        # without its end.
        if not case.harmless and case.name != f"amc: cut at {len(text) - 1}":
            yield case
    for i, byte in enumerate(b"\0\xff_,x:;#"):
        for where in (AMC_HEADER + 1, AMC_HEADER + 12, AMC_HEADER + AMC_FRAME * 7 + 3):
            changed = [line.encode() for line in lines]
            changed[where] = changed[where][:-2] + bytes([byte]) + changed[where][-2:]
            yield amc_case(f"byte {i} in line {where + 1}", b"\n".join(changed) + b"\n")

    def instead(where: int, *new: str) -> str:
        return "\n".join([*lines[:where], *new, *lines[where + 1 :]]) + "\n"

    root, arm = AMC_HEADER + 1, AMC_HEADER + 9
    joint, *numbers = lines[arm].split()
    for number in ("nan", "NaN", "inf", "-inf", "1e30", "1e999", "-4000", "1_0", "0x1p3", "１",
                   "1e", "--1", "1-2", ".", "e5", "1,5", "1" * 300, "1" * 3000):  # fmt: skip
        yield amc_case(f"angle {number[:20]} ({len(number)})",
                       instead(arm, " ".join([joint, number, *numbers[1:]])))  # fmt: skip
    for number in ("1e30", "20000", "nan"):
        yield amc_case(f"position {number}", instead(root, f"root {number} 17 0 0 0 0"))
    frame = lines[AMC_HEADER : AMC_HEADER + AMC_FRAME]
    for name, new in {
        "a number too many": [lines[arm] + " 1"],
        "a number too few": [" ".join([joint, *numbers[1:]])],
        "no numbers": [joint],
        "joint missing": [],
        "joint twice": [lines[arm]] * 2,
        "joint of another skeleton": ["rshoulder 1 2 3"],
        "joint without a side": [lines[arm].replace("rhumerus", "humerus")],
        "joint in capitals": [lines[arm].upper()],
        "frame within a frame": ["2", lines[arm]],
    }.items():
        yield amc_case(name, instead(arm, *new))
    second = AMC_HEADER + AMC_FRAME
    for number in ("1", "3", "-2", "2.0", "02", "2 2", "10000000", "9" * 30, "two"):
        yield amc_case(f"frame number {number}", instead(second, number))
    yield amc_case("counted from 0", instead(AMC_HEADER, "0"))
    yield amc_case("first frame number 10000000", instead(AMC_HEADER, "10000000"))
    for name, new in {
        "no frames": lines[:AMC_HEADER],
        "one frame": lines[: AMC_HEADER + AMC_FRAME],
        "no header": lines[AMC_HEADER:],
        "frames only numbered": [*lines[:AMC_HEADER], *map(str, range(1, 100))],
        "skeleton file": ["# AST/ASF file", ":version 1.10", ":name VICON", ":units"],
        "frames turned": [*lines[:AMC_HEADER], *lines[second : second + AMC_FRAME], *frame],
        "long header": ["#" + "x" * 10**6, *lines[1:]],
        "many comments": ["#"] * 10**5,
        "one line": [" ".join(lines)],
    }.items():
        yield amc_case(name, "\n".join(new) + "\n")
    for name, header in {
        "radians": [":FULLY-SPECIFIED", ":RADIANS"],
        "degrees and radians": [":FULLY-SPECIFIED", ":DEGREES", ":RADIANS"],
        "no unit": [":FULLY-SPECIFIED"],
        "not fully specified": [":DEGREES"],
        "keyword twice": [":FULLY-SPECIFIED", ":DEGREES", ":DEGREES"],
        "keyword in small letters": [":FULLY-SPECIFIED", ":degrees"],
        "word in front": ["motion", ":FULLY-SPECIFIED", ":DEGREES"],
    }.items():
        yield amc_case(name, "\n".join([*header, *lines[AMC_HEADER:]]) + "\n")
    yield amc_case("in UTF-16", text.encode("utf-16"))
    yield amc_case("old line ends", text.replace("\n", "\r"))

    def vast(path: Path) -> None:
        path.write_text(text)
        os.truncate(path, 10**12)

    yield Case("amc: too large", "amc", vast, body="humanoid", suffix=".amc")
    # Sound, but nothing to fit.
    yield amc_case("shortest", "\n".join(lines[: AMC_HEADER + 2 * AMC_FRAME]) + "\n")
    turned = amc_values(body_of("humanoid"), motion(body_of("humanoid"), 12))
    turned[:, 3:6] = (180, 0, 0)
    yield amc_case("upside down", amc_text(turned))
    yield Case("amc: of a rat", "amc", text.encode(), suffix=".amc")
    for rate in (0.0, -120.0, float("nan"), 1e9):
        yield amc_case(f"given rate {rate}", text, arguments={"rate": rate})


GENERATORS: tuple[Callable[[], Iterator[Case]], ...] = (
    clip_cases, dm_control_cases, stac_cases, keypoint_cases, amc_cases,
)  # fmt: skip
"""By format."""


def cases() -> Iterator[Case]:
    """All of them."""
    for generator in GENERATORS:
        yield from generator()
