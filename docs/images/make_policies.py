"""Draw the moving pictures of trained policies: README's, and the tasks that few others have.

python docs/images/make_policies.py [policies] [wide]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v2 as imageio
import numpy as np
from PIL import Image

from vnl_envs.evaluation.play import write_video

BASELINES = Path(__file__).parents[2] / "baselines"
EVERY = 2
"""Frames of a video for one of the picture."""


class Shown(NamedTuple):
    """One policy of a picture: task, policy below `BASELINES`, options."""

    task: str
    policy: str
    options: dict[str, Any] = {}  # noqa: RUF012  never changed


class Sheet(NamedTuple):
    """A picture: rows of policies, the size of each, pixels, and its length, s."""

    rows: tuple[tuple[Shown, ...], ...]
    size: tuple[int, int]
    seconds: float


def _wide(body: str, end: str = "") -> tuple[Shown, ...]:
    names = ("velocity", "escape", "forage", "two-touch", "obstacles")
    return tuple(
        Shown(
            f"vnl/{body.capitalize()}{name.title().replace('-', '')}-v0",
            f"checkpoints/{body}-{name}{end}-0.onnx",
        )
        for name in names
    )


SHEETS = {
    "policies": Sheet(
        (
            (
                Shown("vnl/RodentGoalReaching-v0", "checkpoints/ppo/RodentGoalReaching-v0.onnx"),
                Shown(
                    "vnl/HumanoidImitation-v0",
                    "checkpoints/humanoid-walk-0.onnx",
                    {"clips": ["walk"], "split": "all", "start": 0},
                ),
            ),
        ),
        (360, 272),
        5.5,
    ),
    "wide": Sheet((_wide("rodent"), _wide("humanoid", "-reused")), (240, 184), 6.0),
}


def frames(shown: Shown, sheet: Sheet) -> tuple[np.ndarray, float]:
    """Frames (T, height, width, 3) uint8 of a policy, and their rate, 1/s."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "policy.mp4"
        policy = BASELINES / shown.policy
        write_video(shown.task, policy, video, sheet.seconds, 3, sheet.size, **shown.options)
        rate = imageio.get_reader(video).get_meta_data()["fps"]
        return np.stack(imageio.mimread(video, memtest=False))[::EVERY], rate / EVERY


def draw(name: str) -> None:
    """Write a picture beside this file."""
    sheet = SHEETS[name]
    videos = [[frames(shown, sheet) for shown in row] for row in sheet.rows]
    length = min(len(pictures) for row in videos for pictures, _ in row)
    rows = [np.concatenate([pictures[:length] for pictures, _ in row], axis=2) for row in videos]
    first, *rest = map(Image.fromarray, np.concatenate(rows, axis=1))
    first.save(
        Path(__file__).with_name(f"{name}.webp"),
        save_all=True,
        append_images=rest,
        duration=round(1000 / videos[0][0][1]),
        loop=0,
        quality=55,
        method=6,
    )


if __name__ == "__main__":
    for name in sys.argv[1:] or SHEETS:
        draw(name)
