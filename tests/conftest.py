"""Settings that must stand before MuJoCo, JAX or hypothesis are imported."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "osmesa")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Workers share the cores. With more threads than cores, those of BLAS and torch mostly wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Most programs run for a few steps only: they are made in a quarter of the time and memory so.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir(), "vnl_envs_jax_cache"))
)

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("repeatable")

# A plugin whose helpers are imported too, before pytest would otherwise rewrite its assertions.
pytest.register_assert_rewrite("tiny_suite")


@pytest.fixture(scope="session")
def gl() -> None:
    """Skip where nothing can be drawn."""
    from vnl_envs.rendering.renderer import Picture
    from vnl_envs.testing.environments import task_of

    try:
        Picture(task_of("vnl/RodentGoalReaching-v0").world, 16, 16).close()
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as driver:
        # Its own sandbox is refused to root.
        chromium = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module", autouse=True)
def forgotten(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each file, drop what it has cached and compiled: a worker runs many files."""
    yield
    for value in vars(request.module).values():
        if getattr(value, "__module__", None) == request.module.__name__:
            getattr(value, "cache_clear", lambda: None)()
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    gc.collect()
    if sys.platform.startswith("linux"):
        # Freed memory of small blocks stays with the process otherwise.
        ctypes.CDLL(None).malloc_trim(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start Ray come last, each of them named `…_ray.py`.

    It leaves threads and a signal handler in the process; a later fork there can hang.
    """
    items.sort(key=lambda item: item.path.stem.endswith("_ray"))
