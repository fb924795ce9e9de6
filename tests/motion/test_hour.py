"""An hour of motion is imported in bounded memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from motion_files import body_of, motion, put_walker

from vnl_envs.motion.kinematics import forward_kinematics

FRAMES, SHORT = 180_000, 250
MOST_MB = 2000

IMPORT = """
import sys
from pathlib import Path
import vnl_envs
from vnl_envs.motion.clip import write_clips
from vnl_envs.motion.readers import read_motion
body = vnl_envs.make_task("vnl/RodentGoalReaching-v0").body
write_clips(sys.argv[2], read_motion(sys.argv[1], body), body)
print(Path("/proc/self/status").read_text())
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux")
def test_an_hour(tmp_path: Path) -> None:
    """A clip, checked against its body positions, written again, in less than 2 GB."""
    body, source, target = body_of("rodent"), tmp_path / "hour.h5", tmp_path / "clips.h5"
    qpos = motion(body, SHORT)
    xpos = forward_kinematics(body, qpos)["xpos"][:, body.body_index(*body.body.tracked_bodies)]
    fields = {
        "position": qpos[:, :3], "quaternion": qpos[:, 3:7], "joints": qpos[:, 7:],
        "body_positions": xpos.reshape(SHORT, -1),
    }  # fmt: skip
    with h5py.File(source, "w") as file:
        whole = {key: np.tile(v, (FRAMES // SHORT, 1)) for key, v in fields.items()}
        put_walker(file, "clip", whole, 0.02)
    status = subprocess.run(
        [sys.executable, "-c", IMPORT, str(source), str(target)],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    peak = int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) // 1024
    print(f"peak {peak} MB")
    assert peak < MOST_MB
    with h5py.File(target) as file:
        assert sum(len(clip["qpos"]) for clip in file.values()) == FRAMES
