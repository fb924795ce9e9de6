"""The conformance kit: tests of the contract of a task or body, to inherit in a test file.

    class TestMouseGoalReaching(TaskContract):
        task_id = "mylab/MouseGoalReaching-v0"

See `docs/testing.md`. Only this folder imports pytest.
"""

from __future__ import annotations

try:
    import pytest
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("vnl_envs.testing needs pytest: pip install pytest") from error

# Registered before the imports, so that failures show the compared values.
_PARTS = (
    "bodies",
    "comparison",
    "determinism",
    "environments",
    "episodes",
    "frames",
    "functional",
    "physics",
    "processes",
    "simulations",
    "spaces",
    "states",
)
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in _PARTS))

from vnl_envs.testing.bodies import BodyContract  # noqa: E402
from vnl_envs.testing.contract import TaskContract  # noqa: E402
from vnl_envs.testing.functional import FunctionalContract  # noqa: E402

__all__ = ["BodyContract", "FunctionalContract", "TaskContract"]
