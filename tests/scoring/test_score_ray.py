"""Runs of a suite on Ray."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tiny_suite import silent

from vnl_envs.sandbox import launch
from vnl_envs.scoring.run import plan, runner

pytest_plugins = ["tiny_suite"]


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_bytes(what: plan.Run, bundle: Path, tmp_path: Path) -> None:
    """Two actors on a cluster of this machine, with policies in their sandboxes."""
    ray = pytest.importorskip("ray", reason="the workers need Ray")
    utils = pytest.importorskip("ray.cluster_utils")
    isolated = launch.unavailable_reason() is None
    here = dataclasses.replace(what, candidate=plan.entry(bundle), isolated=isolated)
    runner.run(here, tmp_path / "here", silent, progress=False)
    node = {"num_cpus": 2, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = utils.Cluster(initialize_head=True, head_node_args=node)
    try:
        there = dataclasses.replace(here, workers=2, address=cluster.address)
        runner.run(there, tmp_path / "there", silent, progress=False)
    finally:
        ray.shutdown()
        cluster.shutdown()
    results = [(tmp_path / name / runner.RESULT).read_bytes() for name in ("here", "there")]
    assert results[0] == results[1]
