"""A schema-true session of the published layout, with planted neurons.

python -m benchmarks.neural_session raw.h5 --frames 540000
python -m benchmarks.neural_session raw.h5 --frames 540000 --activity a.h5 --layer ppo/latent

The motion is that of the embedded clips, and of the recordings given (`--clips`), tiled with
variation. Without an activity file all neurons follow joint angles. With one, recorded along a
session of the same frames and seed, a third follows that layer (region "layer"), a third joint
angles ("kinematics"), a third nothing ("nothing").
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from vnl_envs import make_task
from vnl_envs.motion.clip import read_clips
from vnl_envs.motion.datasets import load_clips
from vnl_envs.neural.activity import opened_activity
from vnl_envs.neural.synthetic import planted_spikes, projections, tiled_motion, write_published


def main(
    out: Path,
    frames: int = 540_000,
    units: int = 24,
    seed: int = 0,
    clips: Annotated[Path | None, typer.Option(help="more motion, a clip file")] = None,
    activity: Annotated[Path | None, typer.Option(help="of a session of this motion")] = None,
    layer: Annotated[str, typer.Option(help="POLICY/LAYER in it")] = "",
) -> None:
    """Write the session."""
    body = make_task("vnl/RodentGoalReaching-v0").body
    motion = list(load_clips(body)) + list(read_clips(clips, body) if clips else ())
    qpos, cluster = tiled_motion(motion, frames, seed)
    rng = np.random.default_rng(seed)
    parts = {"kinematics": qpos[:, 7:].astype(np.float32)}
    if activity:
        policy, _, name = layer.partition("/")
        with opened_activity(activity) as found:
            parts = {"layer": found.read(policy, name, 0, frames), **parts, "nothing": None}
    share = units // len(parts)
    spikes, regions = [], []
    for region, features in parts.items():
        drive = np.zeros((frames, share))
        if features is not None:
            drive = projections(features, share, rng)
        # Without a drive the rate is constant.
        spikes.append(planted_spikes(drive, rng, 0.7 if features is not None else 0.0))
        regions += [region] * share
    labels = list(dict.fromkeys(clip.label for clip in motion))
    write_published(out, body, qpos, cluster, np.concatenate(spikes, axis=1), labels, regions)


if __name__ == "__main__":
    typer.run(main)
