"""Time and memory of importing an hour of motion.

    python benchmarks/import_motion.py

An embedded clip is tiled to an hour, once as one clip and once as clips of 5 s, and written in the
layouts that readers know. Each file is then read by `read_motion` and written by `write_clips` in
its own process, whose peak resident set is reported, including Python and MuJoCo. Writes
`results/import_motion.json` beside this file and prints a markdown table.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
from scipy.spatial.transform import Rotation

import vnl_envs
from vnl_envs.benchmarking.throughput import machine
from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.clip import RATE, Clip, write_clips
from vnl_envs.motion.datasets import load_clips
from vnl_envs.motion.kinematics import forward_kinematics
from vnl_envs.motion.readers import read_motion
from vnl_envs.utils.files import written_whole

RESULTS = Path(__file__).parent / "results" / "import_motion.json"
HOUR, SHORT = 3600.0, 5.0
CMU_INTERVAL = 0.03
"""Frame interval of dm_control's fitted CMU file, s."""
CHUNK = 2000


def body_of(name: str) -> BodyModel:
    """A body in its own world."""
    return vnl_envs.make_task(f"vnl/{name.capitalize()}GoalReaching-v0").body


def tiled(body: BodyModel, frames: int) -> np.ndarray:
    """The first embedded clip, repeated to (frames, nq) float32."""
    qpos = load_clips(body)[0].qpos
    return np.resize(qpos, (frames, body.nq))


def bodies_at(body: BodyModel, qpos: np.ndarray) -> np.ndarray:
    """Positions of all bodies (F, B, 3) float32, m."""
    parts = [qpos[i : i + CHUNK].astype(float) for i in range(0, len(qpos), CHUNK)]
    return np.concatenate(
        [forward_kinematics(body, part)["xpos"].astype(np.float32) for part in parts]
    )


def parts(qpos: np.ndarray, length: int) -> Iterator[tuple[str, np.ndarray]]:
    """Split frames (F, nq) into named clips of `length` frames."""
    for start in range(0, len(qpos), length):
        yield f"clip_{start // length}", qpos[start : start + length]


def write_own(path: Path, body: BodyModel, seconds: float) -> None:
    """Write our own format."""
    texts = {"label": "", "split": "train", "source": "", "licence": ""}
    clips = parts(tiled(body, int(HOUR * RATE)), int(seconds * RATE))
    write_clips(path, (Clip(name, qpos, **texts) for name, qpos in clips), body)


def write_dm_control(path: Path, body: BodyModel, seconds: float) -> None:
    """Write dm_control's layout at its CMU file's rate, so that everything is resampled."""
    whole = tiled(body, int(HOUR / CMU_INTERVAL))
    rows = body.body_index(*body.body.tracked_bodies)
    with h5py.File(path, "w") as file:
        for name, qpos in parts(whole, round(seconds / CMU_INTERVAL)):
            group = file.create_group(name)
            group.attrs.update(dt=CMU_INTERVAL, num_steps=len(qpos))
            walker = group.create_group("walkers/walker_0")
            walker["position"], walker["quaternion"] = qpos[:, :3].T, qpos[:, 3:7].T
            walker["joints"] = qpos[:, 7:].T
            walker["body_positions"] = bodies_at(body, qpos)[:, rows].reshape(len(qpos), -1).T


def write_stac(path: Path, body: BodyModel, seconds: float) -> None:
    """Write STAC-MJX's layout."""
    qpos = tiled(body, int(HOUR * RATE))
    xpos = bodies_at(body, qpos)
    offset = body.model.body_pos[body.bodies.start]
    qpos[:, :3] -= Rotation.from_quat(qpos[:, 3:7], scalar_first=True).apply(offset)
    with h5py.File(path, "w") as file:
        file["config"] = np.bytes_(f"RENDER_FPS: 50\nn_frames_per_clip: {int(seconds * RATE)}\n")
        file["names_qpos"] = np.array(["root"] * 7 + list(body.joint_names), "S")
        file["names_xpos"] = np.array(body.body_names, "S")
        file.create_dataset("qpos", data=qpos, compression="gzip")
        file.create_dataset("xpos", data=xpos, compression="gzip")


LAYOUTS: dict[str, tuple[str, Callable[[Path, BodyModel, float], None]]] = {
    "clips": ("rodent", write_own),
    "dm_control": ("humanoid", write_dm_control),
    "stac": ("rodent", write_stac),
}


def peak_mb() -> int:
    """Peak resident set of this process so far, MB.

    `ru_maxrss` is not used, because in a new process it starts with the parent's value.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) // 1024


def import_file(path: Path, body: str) -> dict[str, float]:
    """Import a file in this process and measure it."""
    model = body_of(body)
    before = peak_mb()
    frames, clips, begin = 0, 0, time.perf_counter()

    def counted() -> Iterator[Clip]:
        nonlocal frames, clips
        for clip in read_motion(path, model):
            frames, clips = frames + len(clip), clips + 1
            yield clip

    write_clips(path.with_suffix(".out.h5"), counted(), model)
    seconds = time.perf_counter() - begin
    return {
        "clips": clips,
        "frames": frames,
        "seconds": round(seconds, 2),
        "frames_per_second": round(frames / seconds),
        "peak_mb": peak_mb(),
        "peak_before_mb": before,
    }


def main() -> None:
    """Write files, import each in its own process, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, help="import this one and print what it took")
    parser.add_argument("--body", default="rodent")
    arguments = parser.parse_args()
    if arguments.file:
        print(json.dumps(import_file(arguments.file, arguments.body)))
        return
    rows = {}
    print("| file | clips | frames/s | times real time | peak MB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for layout, (body, write) in LAYOUTS.items():
            for kind, seconds in {"one": HOUR, "many": SHORT}.items():
                path = Path(folder) / f"{layout}_{kind}.h5"
                write(path, body_of(body), seconds)
                command = [sys.executable, __file__, "--file", str(path), "--body", body]
                output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                row = json.loads(output.splitlines()[-1])
                rows[f"{layout} {body}, {kind}"] = row
                print(
                    f"| {layout} {body} | {row['clips']} | {row['frames_per_second']} "
                    f"| {row['frames_per_second'] / RATE:.0f} | {row['peak_mb']} |",
                    flush=True,
                )
    with written_whole(RESULTS) as partial:
        partial.write_text(json.dumps({"machine": machine(), "imports": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
