"""Synthetic sessions in the published layout with planted neurons, for tests and studies of power.

The motion is that of clips, tiled with variation. Every neuron is a Poisson process whose rate is
a log-linear function of known features, or of nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from scipy.spatial.transform import Rotation

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.clip import Clip
from vnl_envs.motion.fitting.markers import marker_set
from vnl_envs.motion.fitting.rig import Kinematics, Rig
from vnl_envs.motion.readers.sessions import UNCLASSIFIED
from vnl_envs.utils.files import written_whole

RATE_HZ = 8.0
"""Mean rate of planted neurons."""
_PART = 2000


def tiled_motion(clips: Sequence[Clip], frames: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Poses (frames, nq) float32 and cluster (frames,) of clips in random order.

    Every repetition is turned as a whole, and its joint angles are scaled by some percent. The
    joint angles of the first half second are blended with the repetition before.
    """
    rng = np.random.default_rng(seed)
    labels = list(dict.fromkeys(clip.label for clip in clips))
    qpos = np.empty((frames, clips[0].qpos.shape[1]), np.float32)
    cluster = np.full(frames, UNCLASSIFIED, np.uint8)
    at, blend = 0, 25
    while at < frames:
        clip = clips[int(rng.integers(len(clips)))]
        part = clip.qpos.astype(float)
        part[:, 7:] *= rng.normal(1, 0.03, part.shape[1] - 7)
        turn = Rotation.from_euler("z", rng.uniform(-np.pi, np.pi))
        part[:, :3] = turn.apply(part[:, :3])
        part[:, 3:7] = (turn * Rotation.from_quat(part[:, 3:7], scalar_first=True)).as_quat(
            scalar_first=True
        )
        part = part[: frames - at]
        qpos[at : at + len(part)] = part
        # One in ten repetitions is in no cluster.
        if rng.random() > 0.1:
            cluster[at : at + len(part)] = labels.index(clip.label)
        if at and len(part) > blend:
            weight = np.linspace(0, 1, blend)[:, None]
            mixed = (1 - weight) * qpos[at - 1] + weight * part[:blend]
            qpos[at : at + blend, 7:] = mixed[:, 7:]
            cluster[at : at + blend] = UNCLASSIFIED
        at += len(part)
    return qpos, cluster


def planted_spikes(drive: np.ndarray, rng: np.random.Generator, depth: float = 0.7) -> np.ndarray:
    """Counts (T, U) uint8 of Poisson neurons.

    Args:
        drive: (T, U) modulation of the log rate; mean and scale do not matter.
        rng: generator of the draws.
        depth: standard deviation of the log rate.
    """
    scale = drive.std(axis=0)
    shape = (drive - drive.mean(axis=0)) / np.where(scale > 1e-9, scale, 1.0)
    log_rate = np.clip(depth * shape - depth**2 / 2, -4, 3)
    return np.minimum(rng.poisson(RATE_HZ / 50 * np.exp(log_rate)), 255).astype(np.uint8)


def projections(features: np.ndarray, units: int, rng: np.random.Generator) -> np.ndarray:
    """Projections (T, units) of standardised features (T, D) onto random directions."""
    scale = features.std(axis=0)
    z = (features - features.mean(axis=0)) / np.where(scale > 1e-9, scale, 1.0)
    return z @ rng.normal(size=(z.shape[1], units)) / np.sqrt(z.shape[1])


def marker_positions(qpos: np.ndarray, body: BodyModel) -> Iterator[np.ndarray]:
    """Places of the markers (n, K, 3), m, in poses, part by part."""
    markers = marker_set(body)
    rig = Rig(body, markers, body.body.contact_geoms)
    kinematics = Kinematics(body.model, _PART)
    offsets = np.array([marker.offset for marker in markers])
    for start in range(0, len(qpos), _PART):
        part = qpos[start : start + _PART].astype(float)
        rig.forward(kinematics, part)
        yield rig.markers(kinematics, offsets)[: len(part)].copy()


def write_published(
    path: str | Path,
    body: BodyModel,
    qpos: np.ndarray,
    cluster: np.ndarray,
    spikes: np.ndarray,
    label_names: Sequence[str],
    regions: Sequence[str] = (),
) -> None:
    """Write a session in the published layout.

    Args:
        path: the .h5 file to write.
        body: body of the poses.
        qpos: (T, nq) poses as in clips.
        cluster: (T,) cluster of each frame, or `UNCLASSIFIED`.
        spikes: (T, U) uint8 counts.
        label_names: names of the clusters, from 0.
        regions: (U,) regions of the units; empty writes none.
    """
    offset = body.model.body_pos[body.bodies.start]
    markers = marker_set(body)
    part_size = min(_PART, len(qpos))
    with written_whole(path) as partial, h5py.File(partial, "w") as file:
        pose = file.create_group("pose")
        poses = pose.create_dataset(
            "qpos", qpos.shape, np.float32, chunks=(part_size, qpos.shape[1])
        )
        shape = (len(qpos), 3, len(markers))
        points = pose.create_dataset("keypoints", shape, np.float32, chunks=(part_size, *shape[1:]))
        for i, part in enumerate(marker_positions(qpos, body)):
            span = slice(i * _PART, i * _PART + len(part))
            rows = qpos[span].astype(float)
            # dm_control's free joint belongs to the model's frame.
            rows[:, :3] -= Rotation.from_quat(rows[:, 3:7], scalar_first=True).apply(offset)
            poses[span], points[span] = rows, 1e3 * part.transpose(0, 2, 1)
        pose["joint_names"] = [f"walker/{name}" for name in body.joint_names]
        pose["keypoint_names"] = [marker.name for marker in markers]
        ephys = file.create_group("ephys")
        ephys.create_dataset("spike_counts", data=spikes, chunks=(part_size, spikes.shape[1]))
        ephys["active_units"] = np.ones(spikes.shape[1], bool)
        if len(regions):
            ephys["regions"] = list(regions)
        behavior = file.create_group("behavior")
        behavior.create_dataset("motion_mapper", data=cluster.astype(np.uint8))
        behavior["label_names"] = list(label_names)
