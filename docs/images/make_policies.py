"""Draw the moving picture of the README: trained policies, a rat and a humanoid.

python docs/images/make_policies.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from PIL import Image

from vnl_envs.evaluation.play import write_video

BASELINES = Path(__file__).parents[2] / "baselines"
POLICIES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("vnl/RodentGoalReaching-v0", "checkpoints/ppo/RodentGoalReaching-v0.onnx", {}),
    (
        "vnl/HumanoidImitation-v0",
        "kept/humanoid-walk-0/policy.onnx",
        {"clips": ["walk"], "split": "all", "start": 0},
    ),
)
"""Task, policy below `BASELINES`, options."""

SIZE, SECONDS = (360, 272), 5.5
EVERY = 2
"""Frames of a video for one of the picture."""


def frames(task_id: str, policy: str, options: dict[str, Any]) -> tuple[np.ndarray, float]:
    """Frames (T, height, width, 3) uint8 of a policy, and their rate, 1/s."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "policy.mp4"
        write_video(task_id, BASELINES / policy, video, SECONDS, 3, SIZE, **options)
        rate = imageio.get_reader(video).get_meta_data()["fps"]
        return np.stack(imageio.mimread(video, memtest=False))[::EVERY], rate / EVERY


def main() -> None:
    """Write policies.webp beside this file."""
    videos = [frames(*policy) for policy in POLICIES]
    shown = min(len(pictures) for pictures, _ in videos)
    sheet = np.concatenate([pictures[:shown] for pictures, _ in videos], axis=2)
    first, *rest = map(Image.fromarray, sheet)
    first.save(
        Path(__file__).with_name("policies.webp"),
        save_all=True,
        append_images=rest,
        duration=round(1000 / videos[0][1]),
        loop=0,
        quality=55,
        method=6,
    )


if __name__ == "__main__":
    main()
