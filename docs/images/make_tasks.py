"""Draw the picture of the README: one frame of each task.

python docs/images/make_tasks.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import vnl_envs
from vnl_envs.envs.core import Core
from vnl_envs.evaluation.policies import make_policy
from vnl_envs.rendering.renderer import Picture

SIZE = (480, 360)
BASELINES = Path(__file__).parents[2] / "baselines"
# Task, its policy, steps before the picture, options.
FRAMES = (
    ("vnl/RodentImitation-v0", "checkpoints/ppo_intention/RodentImitation-v0.onnx", 20,
     {"clips": ["walk"], "split": "all", "start": 30}),
    ("vnl/RodentJumpGap-v0", "checkpoints/ppo/RodentJumpGap-v0.onnx", 38, {}),
    ("vnl/RodentGoalReaching-v0", "checkpoints/ppo/RodentGoalReaching-v0.onnx", 10, {}),
    ("vnl/HumanoidImitation-v0", "checkpoints/humanoid-walk-0.onnx", 20,
     {"clips": ["walk"], "split": "all", "start": 60}),
    ("vnl/HumanoidJumpGap-v0", "checkpoints/ppo/HumanoidJumpGap-v0.onnx", 100, {}),
    ("vnl/HumanoidGoalReaching-v0", "checkpoints/ppo/HumanoidGoalReaching-v0.onnx", 16, {}),
)  # fmt: skip
ONLY = np.array([0])


def draw(task_id: str, policy: str, steps: int, options: dict) -> np.ndarray:
    """One frame of a task, (height, width, 3) uint8."""
    core = Core(vnl_envs.make_task(task_id, **options), 1, 1)
    rows = core.draw([np.random.default_rng(5)])
    if "goals" in rows:
        # The first goal ahead and to the side, where the camera sees it.
        low = core.task.distance[0]
        rows["goals"][:, 0], rows["yaw"][:] = (0.8 * low, -0.5 * low), 0.0
    core.reset(ONLY, rows)
    actor = make_policy(BASELINES / policy, core)
    for _ in range(steps):
        core.step(actor.act(core.observation))
    picture = Picture(core.task.world, *SIZE)
    image = picture.draw(core.engine.data(0), core.overlays(0))
    picture.close()
    return image


def main() -> None:
    """Write tasks.jpg beside this file."""
    images = [draw(*frame) for frame in FRAMES]
    sheet = np.vstack([np.hstack(images[:3]), np.hstack(images[3:])])
    Image.fromarray(sheet).save(Path(__file__).with_name("tasks.jpg"), quality=85)


if __name__ == "__main__":
    main()
