"""A small session of the published layout, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vnl_envs.bodies.model import BodyModel
from vnl_envs.motion.datasets import load_clips
from vnl_envs.neural.importing import import_session
from vnl_envs.neural.synthetic import planted_spikes, projections, tiled_motion, write_published
from vnl_envs.registry import make_task

FRAMES = 600


@pytest.fixture(scope="session")
def body() -> BodyModel:
    return make_task("vnl/RodentGoalReaching-v0").body


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, body: BodyModel) -> Path:
    path = tmp_path_factory.mktemp("neural") / "rat.h5"
    clips = load_clips(body, ["walk", "rear", "stand"])
    qpos, cluster = tiled_motion(clips, FRAMES, 0)
    rng = np.random.default_rng(0)
    spikes = planted_spikes(projections(qpos[:, 7:].astype(float), 4, rng), rng)
    labels = [clip.label for clip in clips]
    write_published(path, body, qpos, cluster, spikes, labels, ["DLS", "DLS", "MC", "MC"])
    return path


@pytest.fixture(scope="session")
def session_file(published: Path, body: BodyModel) -> Path:
    out = published.with_name("session.h5")
    import_session(published, out, body)
    return out
