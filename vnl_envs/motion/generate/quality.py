"""Agreement of a clip with its plan: ground, footholds and limits."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from vnl_envs.bodies import BodyModel
from vnl_envs.motion.clip import RATE, Clip
from vnl_envs.motion.generate.ik import Paw
from vnl_envs.motion.generate.journey import Course
from vnl_envs.motion.generate.motion import LEGS
from vnl_envs.motion.kinematics import derive_reference


@dataclass(frozen=True)
class Quality:
    """Measures of a clip's agreement with ground and limits.

    Attributes:
        penetration: depth of the deepest point of any contact geom, m.
        stance: lowest and highest height of the paws that should be on the ground, m.
        slide: longest path of a stance paw's toes over one stance, m.
        slide_fraction: paths of all stance paws over four times the distance travelled.
        margin: least distance to a joint limit, rad.
        speed: fastest joint, rad/s.
    """

    penetration: float
    stance: tuple[float, float]
    slide: float
    slide_fraction: float
    margin: float
    speed: float


def measure(motion: Course, clip: Clip, body: BodyModel) -> Quality:
    """Check a clip by forward kinematics."""
    reference = derive_reference([clip], body)
    data = mujoco.MjData(body.model)
    paws = {leg: Paw(body, leg) for leg in LEGS}
    lows: list[float] = []
    paths = {leg: [0.0] for leg in LEGS}
    previous: dict[str, np.ndarray] = {}
    for frame, qpos in enumerate(reference.qpos):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(body.model, data)
        for leg, paw in paws.items():
            if not motion.carries(leg, frame / RATE):
                previous.pop(leg, None)
                continue
            lows.append(paw.heights(data).min())
            centre = paw.points(data).mean(0)
            if leg in previous:
                paths[leg][-1] += float(np.linalg.norm(centre - previous[leg]))
            else:
                paths[leg].append(0.0)
            previous[leg] = centre
    travelled = max(motion.distance((len(clip) - 1) / RATE), 1e-9)
    joints = reference.qpos[:, 7:]
    low, high = body.joint_range.T
    return Quality(
        penetration=max(0.0, -float(reference.clearance.min())),
        stance=(min(lows), max(lows)),
        slide=max(max(path) for path in paths.values()),
        slide_fraction=sum(map(sum, paths.values())) / (4 * travelled) if motion.moves else 0.0,
        margin=float(np.minimum(joints - low, high - joints).min()),
        speed=float(np.abs(reference.qvel[:, 6:]).max()),
    )
