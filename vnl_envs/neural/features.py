"""Feature sets that may predict neurons, in bins, from a session and activity files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from vnl_envs.motion.kinematics import velocities
from vnl_envs.neural.activity import opened_activity
from vnl_envs.neural.errors import NeuralError
from vnl_envs.neural.session import Session, opened_session

KEYPOINTS, ANGLES, RATES = "keypoints", "joint angles", "joint velocities"
SHIFTED = "shifted"
LATENT, ACTION = "latent", "action"
_PART = 20_000


@dataclass(frozen=True)
class FeatureSet:
    """One feature set.

    Attributes:
        name: unique name within a comparison.
        kind: "kinematics", "network", "untrained" or "shifted".
        source: name of a table of kinematics, or of a layer.
        policy: name of the layer's policy, else "".
        file: index of the activity file, else -1.
        shift: circular shift in time, bins; 0 is none.
        size: number of features.
    """

    name: str
    kind: str
    source: str
    policy: str = ""
    file: int = -1
    shift: int = 0
    size: int = 0

    def plain(self) -> dict[str, Any]:
        """The set as plain values for JSON."""
        return asdict(self)


def sets_of(
    session: Session, files: Sequence[Path], bins: int, rng: np.random.Generator
) -> list[FeatureSet]:
    """All feature sets: kinematics, every layer of every network, and shifted layers.

    Of every trained network one layer, the latent if it has one, is also shifted in time by a
    quarter to three quarters of the session.

    Raises:
        NeuralError: two activity files have a policy of the same name.
    """
    joints = len(session.names["joint_names"])
    found = [
        FeatureSet(ANGLES, "kinematics", ANGLES, size=joints),
        FeatureSet(RATES, "kinematics", RATES, size=joints + 6),
    ]
    if session.has_keypoints:
        size = 3 * len(session.names["keypoint_names"])
        found.insert(0, FeatureSet(KEYPOINTS, "kinematics", KEYPOINTS, size=size))
    for number, path in enumerate(files):
        with opened_activity(path) as activity:
            for name, policy in activity.policies.items():
                kind = "untrained" if policy.untrained else "network"
                for layer, size in policy.layers.items():
                    found.append(
                        FeatureSet(f"{name}/{layer}", kind, layer, name, number, size=size)
                    )
                if not policy.untrained:
                    layer = LATENT if LATENT in policy.layers else next(iter(policy.layers))
                    shift = int(rng.integers(bins // 4, 3 * bins // 4))
                    found.append(
                        FeatureSet(
                            f"{name}/{layer} {SHIFTED}",
                            SHIFTED,
                            layer,
                            name,
                            number,
                            shift,
                            policy.layers[layer],
                        )
                    )
    names = [f.name for f in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise NeuralError(f"two activity files have {twice[0]!r}; give the policies other names")
    return found


def usable_bins(session: Session, files: Sequence[Path], width: int) -> np.ndarray:
    """(B,) bool, bins in whose frames pose and keypoints exist and every policy is upright."""
    usable = np.isfinite(session.read("qpos")[:, 0])
    if session.has_keypoints:
        points = [
            np.isfinite(session.read("keypoints", a, a + _PART)).all(axis=(1, 2))
            for a in range(0, session.frames, _PART)
        ]
        usable &= np.concatenate(points)
    for path in files:
        with opened_activity(path) as activity:
            for name in activity.policies:
                usable &= activity.usable(name)
    return np.asarray(in_bins(usable, width).all(axis=1))


def in_bins(values: np.ndarray, width: int) -> np.ndarray:
    """Frames (T, ...) as bins (B, width, ...), without the frames of an incomplete bin."""
    bins = len(values) // width
    return values[: bins * width].reshape(bins, width, *values.shape[1:])


def binned_spikes(session: Session, width: int) -> np.ndarray:
    """Spike counts (B, U) float64."""
    return in_bins(session.read("spikes").astype(float), width).sum(axis=1)


def binned(
    feature_set: FeatureSet, session_file: Path, files: Sequence[Path], width: int
) -> np.ndarray:
    """A set's features as means over bins, (B, D) float32, with its shift; missing ones are 0."""
    step = _PART - _PART % width
    parts = []
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(opened_session(session_file))
        if feature_set.kind == "kinematics":
            read = _kinematics(feature_set.source, session)
        else:
            activity = stack.enter_context(opened_activity(files[feature_set.file]))

            def read(start: int, stop: int) -> np.ndarray:
                return activity.read(feature_set.policy, feature_set.source, start, stop)

        for start in range(0, session.frames, step):
            rows = np.nan_to_num(read(start, min(start + step, session.frames)))
            parts.append(in_bins(rows, width).mean(axis=1, dtype=np.float64).astype(np.float32))
    return np.roll(np.concatenate(parts), feature_set.shift, axis=0)


def _kinematics(name: str, session: Session) -> Callable[[int, int], np.ndarray]:
    """A function that reads frames [start, stop) of a table of kinematics, in the body's frame."""

    def poses(start: int, stop: int) -> np.ndarray:
        return session.read("qpos", start, stop).astype(float)

    def keypoints(start: int, stop: int) -> np.ndarray:
        root = poses(start, stop)
        points = session.read("keypoints", start, stop).astype(float) - root[:, None, :3]
        quaternion = np.where(np.isfinite(root[:, 3:7]), root[:, 3:7], [1.0, 0, 0, 0])
        turn = Rotation.from_quat(quaternion, scalar_first=True).inv().as_matrix()
        return np.einsum("tij,tkj->tki", turn, points).reshape(len(points), -1)

    def rates(start: int, stop: int) -> np.ndarray:
        # With one more frame on either side, so that neighbouring parts fit.
        first = max(start - 1, 0)
        qpos = poses(first, min(stop + 1, session.frames))
        found = velocities(qpos)
        turn = np.where(np.isfinite(qpos[:, 3:7]), qpos[:, 3:7], [1.0, 0, 0, 0])
        found[:, :3] = Rotation.from_quat(turn, scalar_first=True).inv().apply(found[:, :3])
        return found[start - first :][: stop - start]

    return {
        KEYPOINTS: keypoints,
        ANGLES: lambda start, stop: poses(start, stop)[:, 7:],
        RATES: rates,
    }[name]
