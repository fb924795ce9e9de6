"""The tests of a body."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from vnl_envs.registry import get_row, make_task, task_ids
from vnl_envs.tasks.task import Task
from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import episode_of, single, task_of
from vnl_envs.testing.simulations import physics_at


class BodyContract:
    """The contract of a body, to inherit in a test file. `body` must be set.

    For several bodies use `pytest.mark.parametrize("body", names)` instead.
    """

    body: str
    """Name of the registered body."""

    @pytest.fixture(name="body")
    def _body(self, request: pytest.FixtureRequest) -> str:
        named = getattr(request.cls, "body", None)
        if not isinstance(named, str):
            message = f"{request.cls.__name__} sets no body, the name of a registered one"
            pytest.fail(message, pytrace=False)
        return named

    def test_controls_are_linear_about_the_standing_pose(self, body: str) -> None:
        """Action 0 is the standing control, ±1 reaches the farther limit, the nearer one clips."""
        model = task_of(_ids(body)[0]).body
        low, high = model.model.actuator_ctrlrange[model.ctrl].T
        standing, ones = model.standing_control, np.ones(model.nu)
        np.testing.assert_allclose(model.control(0 * ones), standing)
        farther = np.where(high - standing >= standing - low, high, low)
        reached = np.where(farther == high, model.control(ones), model.control(-ones))
        np.testing.assert_allclose(reached, farther)
        np.testing.assert_array_equal(model.control(1e3 * ones), high)
        np.testing.assert_array_equal(model.control(-1e3 * ones), low)
        # The map is linear up to clipping: small actions of both signs move equally far.
        small = 1e-3 * ones
        inside = (high - standing > 1e-2 * model.span) & (standing - low > 1e-2 * model.span)
        up, down = model.control(small) - standing, standing - model.control(-small)
        np.testing.assert_allclose(up[inside], down[inside], atol=1e-12)
        controls = np.random.default_rng(0).uniform(low, high, (5, model.nu))
        np.testing.assert_allclose(model.control(model.action(controls)), controls, atol=1e-12)

    @pytest.mark.parametrize("physics", ["fast", "full"])
    def test_reach_covers_every_colliding_geom(self, body: str, physics: str) -> None:
        """No geom that can touch the ground is further from the root than `reach`, in any pose."""
        task = make_task(_ids(body)[0], physics=physics)
        beyond = [(n, round(d, 3)) for n, d in _furthest(task) if d > task.body.body.reach]
        assert beyond == []

    def test_proprioception_is_the_same_in_every_task(self, body: str) -> None:
        """Names, order and values of the body's own observations do not depend on the task."""
        first, *others = _ids(body)
        expected = _proprioception(task_of(first))
        assert expected["touch"].any() or not task_of(first).body.body.touch
        for other in others:
            assert _own_layout(other) == _own_layout(first)
            observed = _proprioception(task_of(other))
            assert list(observed) == list(expected)
            assert_same(observed, expected)


def _ids(body: str) -> list[str]:
    """The ids of a body's tasks, at least one."""
    ids = [i for i in task_ids() if get_row(i).body == body]
    assert ids, f"no task is registered on a body {body!r}"
    return ids


def _own_layout(task_id: str) -> list[tuple[str, slice]]:
    layout = single(task_id).unwrapped.layout
    return [(name, part) for name, part in layout.items() if name.startswith("proprio")]


def _proprioception(task: Task) -> dict[str, np.ndarray]:
    """Observations of six states: standing, moving on the ground, and moving in the air."""
    rng, body = np.random.default_rng(0), task.body
    qpos = np.tile(body.standing_qpos, (6, 1))
    qpos[1:, 7:] += rng.normal(0, 0.05, (5, body.nq - 7))
    qpos[4:, 2] += 1.0
    qvel, act = rng.normal(0, 1, (6, body.nv)), rng.uniform(-1, 1, (6, body.na))
    episode = episode_of(task, 6)
    _, carry = task.begin(episode)
    return task.observe(physics_at(task, qpos, qvel, act), episode, carry)["proprioception"]


def _furthest(task: Task) -> list[tuple[str, float]]:
    """Greatest distance of each colliding geom from the root in 200 random poses, m."""
    model, rng = task.world.model, np.random.default_rng(0)
    geoms = np.arange(task.body.geoms.start, task.body.geoms.stop)
    geoms = geoms[(model.geom_contype[geoms] | model.geom_conaffinity[geoms]) != 0]
    # The arm of a capsule from its centre to an end, and its radius.
    capsule = model.geom_type[geoms] == mujoco.mjtGeom.mjGEOM_CAPSULE
    arm = np.where(capsule, model.geom_size[geoms, 1], 0.0)[:, None]
    radius = np.where(capsule, model.geom_size[geoms, 0], model.geom_rbound[geoms])
    qpos = np.tile(task.body.standing_qpos, (200, 1))
    low, high = task.body.joint_range.T
    qpos[1:, 7:] = rng.uniform(low, high, (199, len(low)))
    state = physics_at(task, qpos)
    local = geoms - task.body.geoms.start
    axis = state.geom_xmat[:, local, 2::3] * arm
    ends = (state.geom_xpos[:, local] + sign * axis for sign in (1, -1))
    distance = np.max([np.linalg.norm(end - state.xpos[:, :1], axis=-1) for end in ends], axis=0)
    names = [model.geom(geom).name for geom in geoms]
    return list(zip(names, (distance + radius).max(0).tolist(), strict=True))
