"""DMPO with actors goes on from a checkpoint. A file of its own runs beside the other one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from runs import dmpo_settings

from baselines.checkpoint import read_tree, write_tree
from baselines.dmpo.distributed import Distributed
from baselines.dmpo.training import Training
from baselines.run import CHECKPOINT

TASK = "vnl/HumanoidGoalReaching-v0"


@pytest.mark.slow
def test_a_run_goes_on_from_its_learner_and_replay(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="actors need Ray")
    settings = dmpo_settings(
        TASK, num_envs=2, capacity=2000, log_every=5, evaluate_every=1000, samples_per_insert=4.0
    )

    def training(resume: bool) -> Training:
        return Training(TASK, 0, "auto", tmp_path / "run", resume, settings, None, 1)

    first = training(False)
    assert first(100)
    first_ratio = first.driver.gauges()["samples_per_insert"]
    kept, rest = first.driver.get_state(), training(True)
    assert isinstance(rest.driver, Distributed)
    try:
        assert rest.steps == first.steps
        for one, other in zip(kept["learner"], rest.driver.get_state()["learner"], strict=True):
            np.testing.assert_array_equal(one, other)
        # Another life: its episodes are others, and follow on no step of the first one.
        assert rest.driver.pool.lives == [2]
        streams = rest.driver.streams
        assert (streams.steps.ended[0, streams.position[0] - 1] == 1).all()
    finally:
        rest.close()
    # What is kept for another machine has no replay: it is filled with steps of the policy.
    path = tmp_path / "run" / CHECKPOINT
    tree = read_tree(path)
    assert tree["renewed"] == ["streams"]
    write_tree(path, {**tree, "state": {k: v for k, v in kept.items() if k != "streams"}})
    rest = training(True)
    assert isinstance(rest.driver, Distributed)
    try:
        filled = rest.steps - first.steps
        assert filled >= settings.warmup
        assert rest.driver.streams.filled.sum() * settings.num_envs == filled
        assert rest.driver.gauges()["samples_per_insert"] == first_ratio
    finally:
        rest.close()
    with pytest.raises(ValueError, match="its actors is 1, not None"):
        Training(TASK, 0, "native", tmp_path / "run", True, settings)
