"""The engines agree: the same states, episodes and actions on C, MJX-Warp and MJX-JAX."""

from __future__ import annotations

import functools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from support import switched

import vnl_envs
from vnl_envs.testing.environments import task_of

pytest.importorskip("jax")
pytest.importorskip("mujoco.mjx")

import jax

from vnl_envs.benchmarking.parity import Side, differences, sample_states
from vnl_envs.envs.autoreset import Batched, wrap_for_training
from vnl_envs.envs.functional import make_functional

IDS = vnl_envs.task_ids()
FLAGS = ("done", "truncation", "metric fallen", "proprioception/touch")
# Differences are absolute below 1 and relative above; float32 resolves 6e-8 of 1. Velocities are
# those of a state that a solver has found, to its tolerance.
AT = {"default": 2e-6, "metric orientation_error": 2e-5, "reward": 2e-5}
AFTER = {
    "default": 5e-6,
    "proprioception/joint_velocity": 2e-4,
    "proprioception/angular_velocity": 5e-5,
    "metric orientation_error": 2e-5,
    "metric power": 2e-4,
    "reward": 1e-5,
}
"""Greatest median difference by quantity, without a step and after one control step."""

# In a few states a contact opens or closes within rounding of the other engine's.
UNLIKE = 0.1
FACTOR = 100


def tolerance(table: dict[str, float], name: str) -> float:
    """Of a quantity; reward terms have the reward's."""
    return table.get("reward" if "reward" in name else name, table["default"])


def check(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], table: Any) -> None:
    """Medians lie within the table, nine in ten states within 100 times that; flags are equal."""
    found = differences(ours, theirs)
    far = {}
    for name, difference in found.items():
        if name in FLAGS:
            unequal = (ours[name] != theirs[name]).any(axis=1).mean()
            assert unequal <= UNLIKE / 2, name
            continue
        limit = tolerance(table, name)
        if difference["median"] > limit or difference["p90"] > FACTOR * limit:
            far[name] = difference
    assert not far


# Goal reaching and gaps are compared under perturbations too. Velocity and two-touch have the
# physics of goal reaching, and `test_jax_gives_the_same` has their code. A task on a ground of
# its own has one body per engine.
PAIRS = [
    ("vnl/RodentImitation-v0", "warp"),
    ("vnl/HumanoidImitation-v0", "warp"),
    ("vnl/HumanoidJumpGap-v0", "warp"),
    ("vnl/RodentEscape-v0", "warp"),
    ("vnl/RodentObstacles-v0", "warp"),
    ("vnl/RodentForage-v0", "warp"),
    ("vnl/HumanoidImitation-v0", "jax"),
    ("vnl/HumanoidEscape-v0", "jax"),
    ("vnl/HumanoidObstacles-v0", "jax"),
    ("vnl/HumanoidForage-v0", "jax"),
]
PERTURBATIONS = {
    "mass": 0.3,
    "friction": 0.3,
    "gain": 0.3,
    "gravity_tilt": 0.2,
    "push": {"force": 0.5, "duration": 0.1, "interval": 0.1},
    "observation_noise": {"joint_position": 0.02},
    "action_delay": 2,
    "action_repeat": 0.3,
}


@pytest.mark.parametrize(("task_id", "impl"), PAIRS)
def test_engines_agree(task_id: str, impl: str) -> None:
    """On observation, reward, end and metrics, of 64 states and of what follows them."""
    sample = sample_states(task_of(task_id))
    native, other = Side(task_id, "native"), Side(task_id, impl)
    at = native.at(sample)
    # In a maze treats are far apart.
    assert (at["reward"] > 0).any() or "Forage" in task_id
    check(other.at(sample), at, AT)
    check(other.after(sample), native.after(sample), AFTER)


@pytest.mark.parametrize(
    ("task_id", "impl"),
    [("vnl/HumanoidGoalReaching-v0", "warp"), ("vnl/HumanoidJumpGap-v0", "jax"),
     ("vnl/RodentJumpGap-v0", "warp")],
)  # fmt: skip
def test_perturbations_are_the_same(task_id: str, impl: str) -> None:
    """The same Episode is the same perturbation: physics, pushes, noise, delays and repeats."""
    sample = sample_states(vnl_envs.make_task(task_id, perturbations=PERTURBATIONS))
    sides = [Side(task_id, i, perturbations=PERTURBATIONS) for i in ("native", impl)]
    native, other = (side.after(sample) for side in sides)
    # Noise from float32 logarithms and cosines.
    check(other, native, {**AFTER, "proprioception/joint_position": 2e-5})
    # And they matter: without them the same states lead elsewhere.
    names = [n for n in sample.carry if not n.startswith("perturbation/")]
    episode = {k: v for k, v in sample.episode.items() if not k.startswith("perturbation/")}
    bare = sample._replace(episode=episode, carry={n: sample.carry[n] for n in names})
    plain = Side(task_id, "native").after(bare)["proprioception/joint_velocity"]
    assert np.median(np.abs(plain - native["proprioception/joint_velocity"]).max(axis=1)) > 0.1


@pytest.mark.parametrize(
    ("task_id", "impl"), [("vnl/RodentVelocity-v0", "warp"), ("vnl/HumanoidVelocity-v0", "jax")]
)
def test_muscles_are_the_same(task_id: str, impl: str) -> None:
    sample = sample_states(vnl_envs.make_task(task_id, actuation="muscle"))
    native, other = (Side(task_id, i, actuation="muscle").after(sample) for i in ("native", impl))
    check(other, native, AFTER)


@pytest.mark.parametrize("impl", ["warp", "jax"])
def test_limbs_are_refused(impl: str) -> None:
    """What only C simulates is named."""
    with pytest.raises(ValueError, match=r"native.*limb_length"):
        make_functional(IDS[0], impl, perturbations={"limb_length": 0.1, "mass": 0.1})


def slippery(model: Any, rng: Any) -> tuple[Any, Any]:
    """A randomization as Playground has them: each simulation has a friction of its own."""
    factor = jax.vmap(lambda key: jax.random.uniform(key, minval=0.2, maxval=2.0))(rng)
    axes = jax.tree.map(lambda _: None, model).tree_replace({"geom_friction": 0})
    friction = factor[:, None, None] * model.geom_friction
    return model.tree_replace({"geom_friction": friction}), axes


@pytest.mark.parametrize("impl", ["native", "warp", "jax"])
def test_randomized_models(impl: str) -> None:
    """Simulations with models of their own, alike on every engine and in Playground's wrapper."""
    playground = pytest.importorskip("mujoco_playground._src.wrapper")
    task_id, num = "vnl/HumanoidGoalReaching-v0", 4
    keys = jax.random.split(jax.random.PRNGKey(0), num)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.1, 0.1, (3, num, task_of(task_id).body.nu)).astype(np.float32)

    def run(env: Any) -> np.ndarray:
        state, step = jax.jit(env.reset)(keys), jax.jit(env.step)
        for action in actions:
            state = step(state, action)
        assert step._cache_size() == 1
        return np.asarray(state.obs)

    randomize = functools.partial(slippery, rng=keys)
    env = make_functional(task_id, impl)
    ours = run(Batched(env, randomize))
    wrapper = playground.BraxDomainRandomizationVmapWrapper
    np.testing.assert_array_equal(run(wrapper(env, randomize)), ours)
    native = make_functional(task_id, "native")
    theirs, plain = run(Batched(native, randomize)), run(Batched(native))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    assert np.abs(plain - theirs).max() > 1e-2


def test_two_ways_to_vary_one_field_are_refused() -> None:
    """Perturbations and a randomization of the same field."""
    env = make_functional(IDS[0], "native", perturbations={"friction": 0.2})
    keys = jax.random.split(jax.random.PRNGKey(0), 2)
    wrapped = wrap_for_training(env, randomization_fn=functools.partial(slippery, rng=keys))
    with pytest.raises(ValueError, match="geom_friction"):
        wrapped.reset(keys)


@pytest.mark.parametrize("impl", ["warp", "jax"])
def test_training_wrapper_on_mjx(impl: str) -> None:
    """New episodes where one ends, one trace only, nothing overflows, NaN actions diverge alone."""
    with switched(debug=True):
        check_training_wrapper(impl)


def check_training_wrapper(impl: str) -> None:
    task_id, num = "vnl/HumanoidGoalReaching-v0", 4
    env = wrap_for_training(make_functional(task_id, impl), episode_length=30)
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    state = reset(jax.random.split(jax.random.key(0), num))
    yaw = np.asarray(state.data.episode["yaw"])
    rng = np.random.default_rng(0)
    nu = env.action_size
    ends = 0.0
    for _ in range(32):
        state = step(state, rng.uniform(-0.3, 0.3, (num, nu)).astype(np.float32))
        ends += float(state.done.sum())
        assert not np.asarray(state.info["overflow"]).any()
    assert ends >= num
    assert not (np.asarray(state.data.episode["yaw"]) == yaw).any()
    broken = np.zeros((num, nu), np.float32)
    broken[1, 3] = np.nan
    state = step(state, broken)
    np.testing.assert_array_equal(state.info["diverged"], [0, 1, 0, 0])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.obs))
    assert np.isfinite(np.asarray(state.data.physics.qpos)).all()
    assert (reset._cache_size(), step._cache_size()) == (1, 1)


def test_overflow_is_told(capfd: Any) -> None:
    """A batch that is larger than Warp's buffers is reported in info, in metrics and in print."""
    env = wrap_for_training(make_functional("vnl/HumanoidGoalReaching-v0", "warp", max_batch=1))
    state = jax.jit(env.reset)(jax.random.split(jax.random.PRNGKey(0), 8))
    state = jax.jit(env.step)(state, np.zeros((8, env.action_size), np.float32))
    jax.block_until_ready(state)
    jax.effects_barrier()
    assert np.asarray(state.info["overflow"]).all()
    assert np.asarray(state.info["episode_metrics"]["overflow"]).all()
    assert "did not fit" in capfd.readouterr().out


# MJX-JAX is plain XLA: no callback and no kernel of ours can be running.
@pytest.mark.parametrize("impl", ["native", "warp"])
def test_a_program_may_end_while_a_step_is_under_way(impl: str) -> None:
    """Python ends although nobody has waited for the last steps."""
    code = (
        "import jax, vnl_envs\n"
        f"env = vnl_envs.make_functional('vnl/HumanoidGoalReaching-v0', {impl!r})\n"
        "step, state = jax.jit(env.step), jax.jit(env.reset)(jax.random.key(0))\n"
        "for _ in range(5):\n    state = step(state, jax.numpy.zeros(56))\n"
    )
    subprocess.run([sys.executable, "-c", code], timeout=200, check=True)
