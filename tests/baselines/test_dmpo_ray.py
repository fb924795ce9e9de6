"""DMPO with actors on a simulated cluster of two nodes."""

from __future__ import annotations

import builtins
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from runs import dmpo_settings

from baselines.dmpo.distributed import Distributed, connect
from baselines.dmpo.settings import Network, Settings
from baselines.dmpo.training import Training, driver_of

TASK = "vnl/HumanoidGoalReaching-v0"
RATIO = 4.0


@pytest.fixture(scope="module")
def settings() -> Settings:
    return dmpo_settings(TASK, num_envs=2, capacity=2000, log_every=5, evaluate_every=1000,
                         samples_per_insert=RATIO)  # fmt: skip


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head and another node, with room for one actor each."""
    ray = pytest.importorskip("ray", reason="actors need Ray")
    utils = pytest.importorskip("ray.cluster_utils")
    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = utils.Cluster(initialize_head=True, head_node_args=node)
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def advance_until(training: Training, condition: Callable[[], bool], most: int = 3000) -> None:
    for _ in range(most):
        if condition():
            return
        training.advance()
    pytest.fail(f"not so within {most} iterations")


@pytest.mark.slow
def test_learning_goes_on_when_actors_die(cluster: Any, settings: Settings, tmp_path: Path) -> None:
    import ray

    node = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    training = Training(
        TASK, 0, "auto", tmp_path / "run", False, settings, None, 2, cluster.address
    )
    driver = training.driver
    assert isinstance(driver, Distributed)
    pool = driver.pool
    advance_until(training, lambda: pool.alive.all())
    ray.kill(pool._actors[0])
    advance_until(training, lambda: pool.lives[0] > 1)
    advance_until(training, lambda: pool.alive.all())
    # With its node an actor loses its place: the learner goes on with the one that is left.
    lives = sum(pool.lives)
    cluster.remove_node(node, allow_graceful=False)
    advance_until(training, lambda: sum(pool.lives) > lives)
    assert pool.alive.sum() == 1
    target = training.steps + 400
    assert training(target)
    assert driver.steps >= target

    with (tmp_path / "run" / "progress.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["samples_per_insert"]) == pytest.approx(RATIO, rel=0.2)
    assert float(rows[-1]["actors_alive"]) == 1
    assert (tmp_path / "run" / "policy.onnx").is_file()


def test_actors_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ValueError, match="actors need Ray: pip install"):
        connect(1, None)


def test_an_address_without_a_cluster() -> None:
    pytest.importorskip("ray", reason="actors need Ray")
    with pytest.raises(ConnectionError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        connect(1, "127.0.0.1:1")


def test_what_actors_do_not_have(settings: Settings) -> None:
    with pytest.raises(ValueError, match="--ray-address needs --actors"):
        driver_of(TASK, 0, "auto", settings, Network(), None, "127.0.0.1:6379", {})
    with pytest.raises(ValueError, match="actors step the 'native' implementation, not 'jax'"):
        driver_of(TASK, 0, "jax", settings, Network(), 2, None, {})
