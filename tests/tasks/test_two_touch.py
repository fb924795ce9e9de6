"""Two touches: attempts and rewards are dm_control's, touches are contacts."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from types import SimpleNamespace
from typing import Any

import mujoco
import numpy as np
import pytest
from test_tasks import drive, standing_at

import vnl_envs
from vnl_envs.registry import get_body, get_row, task_settings
from vnl_envs.scenes.floor import Floor
from vnl_envs.scenes.world import build_world
from vnl_envs.tasks import TwoTouch
from vnl_envs.tasks.task import PRIVILEGED
from vnl_envs.testing.environments import episode_of, task_of

IDS = [i for i in vnl_envs.task_ids() if "TwoTouch" in i]
RAT = "vnl/RodentTwoTouch-v0"


def attempts(task: TwoTouch, touched: np.ndarray) -> list[Any]:
    """What becomes of targets in steps in which a hand touches or not, (steps, n) bool."""
    carry = {k: np.zeros(touched.shape[1], np.int32) for k in ("phase", "since")}
    results = []
    for now in touched:
        result = task.attempt(now, carry)
        carry = {"phase": result.phase, "since": result.since}
        results.append(result)
    return results


def theirs(touched: np.ndarray, settings: dict[str, Any]) -> list[float]:
    """What dm_control's task pays for the touches of one target, (steps,) bool, in touches."""
    from dm_control.locomotion.props import target_sphere
    from dm_control.locomotion.tasks import reach

    clock = SimpleNamespace(now=0.0)
    contact = SimpleNamespace(geom1=1, geom2=2)

    def bound(_: Any) -> Any:
        return SimpleNamespace(xpos=np.full(3, 1e3), element_id=0)

    physics = SimpleNamespace(time=lambda: clock.now, bind=bound, data=SimpleNamespace(contact=[]))
    sphere = target_sphere.TargetSphereTwoTouch(
        radius=settings["radius"], touch_debounce=settings["debounce"]
    )
    sphere._geom_id = 1
    task = object.__new__(reach.TwoTouch)
    vars(task).update(
        _aliveness_reward=0.0, _target_type_rewards=(1.0,), _lhand_body=None, _rhand_body=None,
        _targets=[[sphere]], _target_rewarded_once=[[False]], _target_rewarded_twice=[[False]],
        _state_logic=reach.TwoTouchState.PRE_TOUCH, _first_touch_time=None,
        _second_touch_time=None, _do_time_out=False, _touch_interval=settings["interval"],
        _interval_tolerance=settings["tolerance"], _failure_timeout=settings["rest"],
        _reset_delay=0.0, _must_randomize_targets=False,
    )  # fmt: skip
    paid = []
    for now in touched:
        # Whole milliseconds: no step is a rounding error away from a limit.
        clock.now = round(clock.now + 0.02, 3)
        physics.data.contact = [contact] if now else []
        sphere.after_substep(physics, None)
        # Hands and target are at one place, which earns the whole closeness.
        paid.append(task.get_reward(physics) - 0.01)
        if task._must_randomize_targets:
            break
    return paid


@pytest.mark.parametrize(
    "second", [None, 2, 9, 10, 11, 12, 33, 34, 36, 40, 44, 46, 50, 60], ids=str
)
def test_attempts_are_those_of_dm_control(second: int | None) -> None:
    """A touch, and another one so many steps later: the same steps are paid."""
    task, settings = task_of(RAT), task_settings(RAT)
    touched = np.zeros(130, bool)
    touched[3] = True
    if second is not None:
        touched[3 + second] = True
    ours = [float((a.first | a.timed)[0]) for a in attempts(task, touched[:, None])]
    other = theirs(touched, settings)
    np.testing.assert_allclose(ours[: len(other)], other, atol=1e-9)
    assert sum(ours) == (2 if second in (36, 40, 44) else 1)


def test_constants_are_those_of_dm_control() -> None:
    """Of the example that Merel et al. (2020) is."""
    from dm_control.locomotion.examples import basic_rodent_2020
    from dm_control.locomotion.props import target_sphere
    from dm_control.locomotion.tasks import reach

    settings = task_settings(RAT)
    defaults = {
        k: p.default for k, p in inspect.signature(reach.TwoTouch.__init__).parameters.items()
    }
    names = {"touch_interval": "interval", "interval_tolerance": "tolerance",
             "failure_timeout": "rest", "z_height": "height"}  # fmt: skip
    assert {n: defaults[n] for n in names} == {n: settings[ours] for n, ours in names.items()}
    debounce = inspect.signature(target_sphere.TargetSphereTwoTouch._build).parameters
    assert debounce["touch_debounce"].default == settings["debounce"]
    assert f"radius={settings['radius']}" in inspect.getsource(basic_rodent_2020.rodent_two_touch)


def test_an_attempt_goes_through_its_phases() -> None:
    """A hand that stays is too soon; then the target rests for 1.2 s and the next one appears."""
    task = task_of(RAT)
    held = attempts(task, np.ones((100, 1), bool))
    assert [i for i, a in enumerate(held) if a.first[0]] == [0, 73]
    assert [i for i, a in enumerate(held) if a.early[0]] == [11, 84]
    assert [i for i, a in enumerate(held) if a.done[0]] == [72]
    once = np.zeros((130, 1), bool)
    once[0] = True
    left = attempts(task, once)
    assert [i for i, a in enumerate(left) if a.late[0]] == [46]
    assert [i for i, a in enumerate(left) if a.done[0]] == [107]
    timed = np.zeros((60, 1), bool)
    timed[[0, 40, 41]] = True
    good = attempts(task, timed)
    assert [i for i, a in enumerate(good) if a.done[0]] == [40]
    assert [i for i, a in enumerate(good) if a.first[0]] == [0, 41]


@dataclasses.dataclass(frozen=True)
class FloorWithSphere(Floor):
    """A floor, and a sphere that can be moved."""

    radius: float = 1.0

    def spec(self) -> mujoco.MjSpec:
        """Without contacts."""
        spec = super().spec()
        ball = spec.worldbody.add_body(name="ball", mocap=True)
        ball.add_geom(name="ball", size=[self.radius, 0, 0], contype=0, conaffinity=0)
        return spec


@pytest.mark.parametrize("task_id", IDS)
def test_touch_is_contact(task_id: str) -> None:
    """A target is touched where MuJoCo's own distance of a hand's geom to it is below 0."""
    task = task_of(task_id)
    body = get_body(get_row(task_id).body)
    world = build_world(FloorWithSphere(radius=task.radius), [body])
    task = TwoTouch(world, **task_settings(task_id))
    model, data = world.model, mujoco.MjData(world.model)
    hands = {model.body(body.prefix + name).id for name in body.hands}
    # The hands and what hangs on them.
    parents = {b: int(model.body_parentid[b]) for b in range(model.nbody)}
    inside = [b for b in range(1, model.nbody) if hands & {b, parents[b], parents[parents[b]]}]
    geoms = [g for g in range(model.ngeom) if int(model.geom_bodyid[g]) in inside]
    rng, compared = np.random.default_rng(0), []
    for _ in range(40):
        data.qpos[task.body.qpos] = task.body.standing_qpos
        data.qpos[task.body.qpos][7:] = rng.uniform(*task.body.joint_range.T)
        mujoco.mj_forward(model, data)
        data.mocap_pos[0] = data.xpos[rng.choice(sorted(hands))] + rng.normal(0, task.radius, 3)
        mujoco.mj_forward(model, data)
        ball = model.geom("ball").id
        distance = [mujoco.mj_geomDistance(model, data, g, ball, 1.0, None) for g in geoms]
        touched = task.touches(task.body.physics(data), data.mocap_pos[:1])[0]
        # The humanoid's palms are ellipsoids, which count as capsules.
        if abs(min(distance)) > 0.1 * task.radius:
            assert touched == (min(distance) < 0)
            compared.append(touched)
    assert len(compared) > 25
    assert 5 < sum(compared) < 35


@pytest.mark.parametrize("task_id", IDS)
def test_targets_appear_one_after_the_other(task_id: str) -> None:
    """Two timed touches pay 2 and show the next target, at a declared distance."""
    task = task_of(task_id)
    episode = episode_of(task, 1, seed=1)
    targets = episode["targets"].reshape(-1, 2).astype(float)
    steps = np.linalg.norm(np.diff(targets, axis=0, prepend=np.zeros((1, 2))), axis=-1)
    assert (steps > task.distance[0] - 1e-4).all()
    assert (steps < task.distance[1] + 1e-4).all()
    away = standing_at(task, 100.0)
    # The target is put where a hand of the standing body is.
    near = standing_at(task, 0.0)
    hand = near.geom_xpos[0, task._geoms[0]]
    reachable = {**episode, "targets": np.tile(hand[:2], len(targets))[None].astype(np.float32)}
    low = vnl_envs.make_task(task_id)
    low.height = float(hand[2])
    plan = [near, *[away] * 39, near, away]
    outcomes = drive(low, plan, reachable)
    assert [i for i, (_, o) in enumerate(outcomes) if o.terms["first"][0]] == [0]
    assert [i for i, (_, o) in enumerate(outcomes) if o.terms["timed"][0]] == [40]
    last = outcomes[-1][1]
    assert last.success[0]
    assert last.metrics["timed_touches"][0] == 1
    assert [int(c["targets"][0]) for c, _ in outcomes[39:41]] == [0, 1]
    assert all(0 <= o.reward[0] <= 1 for _, o in outcomes)


@pytest.mark.parametrize("task_id", IDS)
def test_the_time_is_hidden(task_id: str) -> None:
    """A policy sees that a target was touched and never when; a critic sees the time, under
    perturbations too, and all else without noise.
    """
    noise = {"perturbations": {"observation_noise": {"joint_position": 0.1}}}
    for options in ({}, noise):
        task = vnl_envs.make_task(task_id, **options)
        episode = episode_of(task, 1)
        _, carry = task.begin(episode)
        physics = standing_at(task, 0.0)
        carry = {**carry, "phase": np.ones(1, np.int32)}
        early, late = (
            task.observe(physics, episode, {**carry, "since": np.full(1, n, np.int32)})
            for n in (5, 30)
        )
        for group in ("proprioception", "task"):
            for name, value in early[group].items():
                np.testing.assert_array_equal(value, late[group][name])
        assert early["task"]["target_phase"].tolist() == [[0, 1, 0]]
        known = late[PRIVILEGED]
        assert known["time_since_touch"][0, 0] == pytest.approx(0.6)
        np.testing.assert_array_equal(known["proprioception/joint_position"], physics.qpos[:, 7:])
        names = [f"{g}/{n}" for g in ("proprioception", "task") for n in late[g]]
        assert list(known) == [*names, "time_since_touch"]


@pytest.mark.parametrize("task_id", IDS)
def test_hovering_earns_next_to_nothing(task_id: str) -> None:
    """A hand at the target's centre that the task never counts as a touch: 1 % a step."""
    task = vnl_envs.make_task(task_id)
    task.radius = -1.0
    episode = episode_of(task, 1)
    outcomes = drive(task, list(itertools.repeat(standing_at(task, 0.3), 50)), episode)
    assert max(o.reward[0] for _, o in outcomes) <= 0.01
