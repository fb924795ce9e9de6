"""Golden rollouts: the same `env_hash` is the same task, to the numbers it gives."""

from __future__ import annotations

import json

import numpy as np
import pytest
from golden.make import FOLDER, path_of, summary

import vnl_envs


@pytest.mark.parametrize("task_id", vnl_envs.task_ids())
def test_golden_rollout(task_id: str) -> None:
    """The task is the one that was recorded, and behaves as it did."""
    path = path_of(task_id)
    assert path.exists(), f"no golden rollout of {task_id}: run `python tests/tasks/golden/make.py`"
    golden, now = json.loads(path.read_text()), summary(task_id)
    assert now["env_hash"] == golden["env_hash"], (
        f"{task_id} is not the task that was recorded: bump its version (docs/versioning.md), or "
        "before its release run `python tests/tasks/golden/make.py`"
    )
    assert now["layout"] == golden["layout"]
    assert now["end"] == golden["end"]
    np.testing.assert_allclose(now["rewards"], golden["rewards"], rtol=1e-6, atol=1e-7)
    for part in ("first", "last"):
        for name, value in golden[part].items():
            # Sums of float32 observations of size up to 100.
            np.testing.assert_allclose(
                now[part][name], value, rtol=1e-6, atol=1e-5, err_msg=f"{part} {name}"
            )


def test_no_orphans() -> None:
    """Every file belongs to a registered id."""
    known = {path_of(i) for i in vnl_envs.task_ids()}
    assert set(FOLDER.glob("*.json")) <= known
