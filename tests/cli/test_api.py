"""Other people's code on our ids: SB3, Gymnasium's wrappers, renderers, the command line."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import imageio.v2 as imageio
import numpy as np
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics, RecordVideo
from gymnasium.wrappers.vector import RecordEpisodeStatistics as VectorStatistics
from typer.testing import CliRunner

import vnl_envs
from vnl_envs.envs.parallel import ParallelEnv
from vnl_envs.evaluation.evaluate import episode_generators, episode_seed
from vnl_envs.statistics.intervals import wilson
from vnl_envs.testing.comparison import assert_same
from vnl_envs.testing.environments import actions_of, task_of, vector

IDS = vnl_envs.task_ids()
IMITATION, JUMP, GOAL = (f"vnl/Rodent{n}-v0" for n in ("Imitation", "JumpGap", "GoalReaching"))


# Import


def test_import_is_lazy() -> None:
    """`import vnl_envs` loads no engine, no learning library and no body."""
    heavy = (
        "jax",
        "torch",
        "dm_control",
        "mujoco",
        "h5py",
        "stable_baselines3",
        "typer",
        "imageio",
    )
    code = f"import sys, vnl_envs; print([m for m in {heavy!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_public_names_exist() -> None:
    """Everything in `__all__` can be had, and nothing else is promised."""
    for name in vnl_envs.__all__:
        assert getattr(vnl_envs, name) is not None
    assert set(vnl_envs.__all__) <= set(dir(vnl_envs))
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = vnl_envs.nothing_such


def test_stepping_loads_no_library_that_it_does_not_need() -> None:
    """Neither making nor stepping loads what only trainers and the check of motion use."""
    others = ("jax", "torch", "stable_baselines3", "scipy")
    code = (
        f"import sys, gymnasium, vnl_envs; e = gymnasium.make({JUMP!r}); e.reset(seed=0);"
        f"e.step(e.action_space.sample()); print([m for m in {others!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# Stable-Baselines3


def learn(env: Any, steps: int, n_steps: int, vec: int = 1) -> None:
    """A short PPO run."""
    sb3 = pytest.importorskip("stable_baselines3")
    model = sb3.PPO("MlpPolicy", env, n_steps=n_steps, batch_size=n_steps * vec, n_epochs=1,
                    policy_kwargs={"net_arch": [16]}, seed=0, device="cpu")  # fmt: skip
    model.learn(steps)
    assert model.num_timesteps >= steps


@pytest.mark.parametrize("task_id", [i for i in IDS if "Rodent" in i])
def test_sb3_ppo(task_id: str) -> None:
    """Unmodified PPO runs on the id."""
    learn(gymnasium.make(task_id), 128, 64)


def test_sb3_ppo_as_users_write_it() -> None:
    """Two lines, nothing tuned."""
    sb3 = pytest.importorskip("stable_baselines3")
    sb3.PPO("MlpPolicy", gymnasium.make(JUMP), device="cpu").learn(2048)


def test_sb3_vec_env() -> None:
    """PPO on our adapter."""
    learn(vnl_envs.SB3VecEnv(GOAL, 4), 256, 32, vec=4)


@pytest.mark.parametrize("task_id", [JUMP, IMITATION])
def test_sb3_vec_env_is_the_vector_environment(task_id: str) -> None:
    """Same numbers; ends of episodes are reported as SB3 wants them."""
    num = 4
    ours, theirs = vnl_envs.SB3VecEnv(task_id, num), vector(task_id, num)
    ours.seed(3)
    assert_same(ours.reset(), theirs.reset(seed=3)[0])
    ends = 0
    for action in actions_of(theirs.task, 60, num):
        observed, reward, done, infos = ours.step(action)
        expected = theirs.step(action)
        assert_same(observed, expected[0])
        np.testing.assert_allclose(reward, expected[1], rtol=1e-6)
        assert_same(done, expected[2] | expected[3])
        for i in np.flatnonzero(done):
            ends += 1
            assert_same(infos[i]["terminal_observation"], expected[4]["final_obs"][i])
            assert infos[i]["TimeLimit.truncated"] == bool(expected[3][i])
            assert infos[i]["is_success"] == expected[4]["final_info"]["is_success"][i]
    assert ends


def test_sb3_vec_env_methods() -> None:
    """What SB3's own tools call."""
    base = pytest.importorskip("stable_baselines3.common.vec_env")
    env = base.VecMonitor(vnl_envs.SB3VecEnv(JUMP, 2))
    env.reset()
    assert env.get_attr("dt") == [env.get_attr("dt")[0]] * 2
    assert env.env_is_wrapped(gymnasium.Wrapper) == [False, False]
    episodes = []
    for action in actions_of(task_of(JUMP), 80, 2):
        *_, infos = env.step(action)
        episodes += [i["episode"] for i in infos if "episode" in i]
    assert episodes
    env.close()


# Gymnasium's wrappers


def test_episode_statistics() -> None:
    """Returns and lengths of the wrappers are our metrics."""
    env = RecordEpisodeStatistics(gymnasium.make(JUMP))
    env.reset(seed=0)
    for action in actions_of(task_of(JUMP), 200, 1)[:, 0]:
        *_, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            break
    np.testing.assert_allclose(info["episode"]["r"], info["metrics"]["return"], atol=1e-6)
    assert info["episode"]["l"] == info["metrics"]["length"]


def test_vector_episode_statistics() -> None:
    """Also over the vector environment with its auto-reset."""
    env = VectorStatistics(vector(JUMP, 3))
    env.reset(seed=0)
    ended = 0
    for action in actions_of(task_of(JUMP), 60, 3):
        *_, infos = env.step(action)
        if "episode" in infos:
            for i in np.flatnonzero(infos["_episode"]):
                ended += 1
                final = infos["final_info"]["metrics"]
                assert infos["episode"]["l"][i] == final["length"][i]
                np.testing.assert_allclose(infos["episode"]["r"][i], final["return"][i], atol=1e-5)
    assert ended


@pytest.mark.usefixtures("gl")
def test_record_video(tmp_path: Path) -> None:
    """RecordVideo writes a file."""
    pytest.importorskip("moviepy")
    env = RecordVideo(gymnasium.make(JUMP, render_mode="rgb_array"), str(tmp_path))
    env.reset(seed=0)
    for action in actions_of(task_of(JUMP), 5, 1)[:, 0]:
        env.step(action)
    env.close()
    assert [p.suffix for p in tmp_path.iterdir()] == [".mp4"]


# Pictures


@pytest.mark.usefixtures("gl")
@pytest.mark.parametrize("task_id", IDS)
def test_pictures(task_id: str) -> None:
    """A picture of the declared size that shows something, and changes as time passes."""
    env = gymnasium.make(task_id, render_mode="rgb_array", width=120, height=80)
    env.reset(seed=0)
    one = env.render()
    assert (one.shape, one.dtype) == ((80, 120, 3), np.uint8)
    assert one.std() > 5
    for action in actions_of(task_of(task_id), 8, 1)[:, 0]:
        env.step(action)
    assert (env.render() != one).mean() > 0.01
    env.close()


@pytest.mark.usefixtures("gl")
@pytest.mark.parametrize("task_id", IDS)
def test_vision(task_id: str) -> None:
    """`vision=True` adds what the eye sees."""
    env = gymnasium.make(task_id, vision=True)
    observed, _ = env.reset(seed=0)
    assert observed in env.observation_space
    seen = observed["vision"]
    assert (seen.shape, seen.dtype) == ((64, 64, 3), np.uint8)
    assert seen.std() > 1
    observed = env.step(np.zeros(env.action_space.shape, np.float32))[0]
    assert list(observed) == ["proprioception", "task", "vision"]
    env.close()


@pytest.mark.usefixtures("gl")
def test_vision_in_a_vector() -> None:
    """Each row is its own environment's view, in final observations too."""
    env, alone = vector(JUMP, 2, vision=True), gymnasium.make(JUMP, vision=True)
    observed, _ = env.reset(seed=0)
    assert_same(observed["vision"][1], alone.reset(seed=1)[0]["vision"])
    assert (observed["vision"][0] != observed["vision"][1]).any()
    for action in actions_of(env.task, 60, 2):
        observed, *_, infos = env.step(action)
        theirs = alone.step(action[1])
        if "final_obs" in infos and infos["_final_obs"][1]:
            assert_same(infos["final_obs"][1], theirs[0])
            break
        assert_same(observed["vision"][1], theirs[0]["vision"])
    env.close()
    alone.close()


@pytest.mark.usefixtures("gl")
def test_drawing_leaves_the_simulation_alone() -> None:
    """With pictures or without, the same bits."""
    plain, drawn = vector(GOAL, 2), vector(GOAL, 2, render_mode="rgb_array", width=32, height=32)
    for action in [None, *actions_of(plain.task, 5, 2)]:
        results = [e.reset(seed=0) if action is None else e.step(action) for e in (plain, drawn)]
        assert_same(*results)
        assert [p.shape for p in drawn.render()] == [(32, 32, 3)] * 2
    drawn.close()


@pytest.mark.usefixtures("gl")
def test_two_renderers_take_turns() -> None:
    """Two environments draw alternately, and closing one does not disturb the other."""
    one = gymnasium.make(GOAL, render_mode="rgb_array", width=64, height=48)
    two = gymnasium.make(JUMP, render_mode="rgb_array", width=80, height=64)
    for env in (one, two):
        env.reset(seed=0)
    alone = [env.render().copy() for env in (one, two)]
    for _ in range(3):
        assert_same(one.render(), alone[0])
        assert_same(two.render(), alone[1])
    one.close()
    assert_same(two.render(), alone[1])
    two.close()


@pytest.mark.usefixtures("gl")
def test_closed_and_forgotten_renderers() -> None:
    """Many in a row, closed or only dropped, leave the process sound and end it quietly."""
    code = f"""
import gymnasium, vnl_envs
for i in range(4):
    env = gymnasium.make({GOAL!r}, render_mode="rgb_array", width=32, height=32)
    env.reset(seed=0)
    assert env.render().std() > 1
    if i % 2:
        env.close()
print("fine")
"""
    # The backend is the package's own choice; each has its own way of ending.
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                         timeout=120, env=environment)  # fmt: skip
    assert (out.returncode, out.stdout.strip(), out.stderr) == (0, "fine", "")


def test_rendering_nothing_asked() -> None:
    """Without a render mode there is no picture and no renderer."""
    env = vnl_envs.SingleEnv(GOAL)
    env.reset(seed=0)
    assert env.render() is None


# Evaluation


@pytest.mark.parametrize(("task_id", "policy"), [(IMITATION, "track"), (JUMP, "random"),
                                                 (GOAL, "random")])  # fmt: skip
def test_evaluation_is_independent_of_its_simulations(task_id: str, policy: str) -> None:
    """One, three or sixteen simulations at a time give the same figures per episode."""
    results = [
        vnl_envs.evaluate(task_id, policy, episodes=7, seed=5, num_envs=n, threads=t).record()
        for n, t in ((1, 1), (3, 2), (16, 2))
    ]
    assert results[0] == results[1] == results[2]


def test_evaluation_counts_each_episode_once() -> None:
    """The figures are those of a plain loop over the same episodes, short and long ones alike."""
    result = vnl_envs.evaluate(IMITATION, "zero", episodes=9, seed=2, num_envs=4)
    env = gymnasium.make(IMITATION, disable_env_checker=True).unwrapped
    zero = np.zeros(env.action_space.shape, np.float32)
    for i in range(9):
        u = episode_generators(episode_seed(2, i))[0].random(env.task.uniforms, np.float32)
        env.reset(options={"episode": {k: np.asarray(v) for k, v in env.task.episode(u).items()}})
        terminated = truncated = False
        while not (terminated or truncated):
            *_, terminated, truncated, info = env.step(zero)
        for name, value in info["metrics"].items():
            np.testing.assert_allclose(result.values[name][i], value, err_msg=name)
        assert result.ends[i] == ("truncated" if truncated else "terminated")
        assert result.labels[i] == env.task.label(env.episode)
    assert len(set(result.values["length"])) > 1


def test_evaluation_of_a_function() -> None:
    """A function of observations is a policy; it sees every simulation's observations."""
    seen = []

    def policy(observations: np.ndarray) -> np.ndarray:
        seen.append(observations)
        return np.zeros((len(observations), task_of(JUMP).body.nu))

    def as_zero() -> dict[str, Any]:
        return vnl_envs.evaluate(IMITATION, "zero", 3, seed=1).record()

    def mine(observations: np.ndarray) -> np.ndarray:
        return policy(observations)

    assert vnl_envs.evaluate(IMITATION, mine, 3, seed=1).record() == as_zero()
    assert seen[0].dtype == np.float32
    assert seen[0].shape[0] == 3


def test_evaluation_of_a_model() -> None:
    """A model of SB3, or its policy, as it is: its mean actions."""
    sb3 = pytest.importorskip("stable_baselines3")
    model = sb3.PPO("MlpPolicy", gymnasium.make(IMITATION), n_steps=8, batch_size=8, seed=0,
                    policy_kwargs={"net_arch": [8]}, device="cpu")  # fmt: skip

    def mean_actions(observations: np.ndarray) -> np.ndarray:
        return model.predict(observations, deterministic=True)[0]

    expected = vnl_envs.evaluate(IMITATION, mean_actions, 3).record()
    for policy in (model, model.policy):
        assert vnl_envs.evaluate(IMITATION, policy, 3).record() == expected
    with pytest.raises(ValueError, match="give the model itself"):
        vnl_envs.evaluate(IMITATION, model.predict, 3)
    with pytest.raises(ValueError, match="a model with predict"):
        vnl_envs.evaluate(IMITATION, object(), 3)


def test_evaluation_of_a_model_with_memory() -> None:
    """A recurrent model is told where episodes start, and gets its memory back."""

    class Counter:
        def __init__(self) -> None:
            self.steps: list[int] = []

        def predict(
            self, observation: Any, state: Any = None, episode_start: Any = None,
            deterministic: bool = False,
        ) -> tuple[Any, Any]:  # fmt: skip
            assert deterministic
            count = np.where(episode_start, 0, 0 if state is None else state[0]) + 1
            self.steps.append(count.tolist())
            return np.zeros((len(observation), task_of(IMITATION).body.nu)), (count,)

    model = Counter()
    lengths = vnl_envs.evaluate(IMITATION, model, 3, num_envs=1).values["length"]
    assert [step for (step,) in model.steps] == [
        step for length in lengths for step in range(1, int(length) + 1)
    ]


def test_summaries() -> None:
    """Means and intervals by metric and label."""
    result = vnl_envs.evaluate(IMITATION, "zero", episodes=12, seed=0)
    for summary in result.summaries():
        values = result.values[summary.metric.name]
        np.testing.assert_allclose(summary.mean, values.mean())
        assert summary.low < summary.high
        assert summary.low <= summary.mean <= summary.high
        assert summary.units == len({*result.units.tolist()}) < 12
    labels = set(result.labels)
    assert labels
    for label in labels:
        part = {s.metric.name: s.mean for s in result.summaries(label)}
        expected = result.values["return"][result.labels == label].mean()
        np.testing.assert_allclose(part["return"], expected)


@pytest.mark.parametrize("episodes", [1, 3])
def test_intervals_are_those_of_scores(episodes: int) -> None:
    """None of one unit or of values that are all the same; Wilson's of yes and no; in JSON, too."""
    result = vnl_envs.evaluate(GOAL, "random", episodes, seed=2)
    summaries = {s.metric.name: s for s in result.summaries()}
    told = result.record()["summary"]
    for name, summary in summaries.items():
        known = result.values[name][np.isfinite(result.values[name])]
        assert summary.units == len(known)
        if len(known) < 2 or (np.ptp(known) == 0 and name != "fallen"):
            assert np.isnan([summary.low, summary.high]).all()
            assert (told[name]["low"], told[name]["high"]) == (None, None)
        else:
            assert summary.low < summary.high
    fallen = summaries["fallen"]
    assert fallen.mean == 1
    if episodes > 1:
        assert (fallen.low, fallen.high) == wilson(episodes, episodes)


def test_clips_are_units_of_imitation() -> None:
    """Episodes of one clip have no interval, however many there are; nor has a label's only one."""
    result = vnl_envs.evaluate(IMITATION, "zero", episodes=6, clips=["walk"], split="all")
    assert [(s.units, np.isnan(s.low)) for s in result.summaries()] == [(1, True)] * 9
    shown = run("evaluate", IMITATION, "-o", "clips=walk", "-o", "split=all", "--episodes", "3",
                "--by-label")  # fmt: skip
    assert shown.exit_code == 0, shown.output
    rows = [line.split("│") for line in shown.output.splitlines() if "│" in line]
    assert {(row[3].strip(), row[4].strip()) for row in rows} == {("-", "1 clip")}
    assert len(rows) == 18


FACES = {
    "make": vnl_envs.SingleEnv,
    "make_vec": vnl_envs.VectorEnv,
    "SB3VecEnv": vnl_envs.VectorEnv,
    "make_functional": vnl_envs.make_functional,
    "JaxVectorEnv": vnl_envs.JaxVectorEnv,
    "parallel_env": ParallelEnv,
}


def test_documented_arguments_are_those_of_each_environment() -> None:
    """The table of the API page: who takes what, and who does not."""
    text = (Path(__file__).parents[2] / "docs/api.md").read_text("utf-8")
    table = text.split("## Arguments of environments")[1].split("\n\n")[1]
    said: dict[str, set[str]] = {face: set() for face in FACES}
    for row in table.splitlines()[2:]:
        names, *_, faces = (re.findall(r"`(\w+)`", cell) for cell in row.split("|")[1:-1])
        of = {*FACES} - {*faces} if "| all" in row else {*faces}
        for face in of:
            said[face] |= {*names}
    mine = {"task_id", "num_envs", "num_agents", "max_batch", "options"}
    for face, made in FACES.items():
        task_id = vnl_envs.parallel_ids()[0] if face == "parallel_env" else GOAL
        takes = {*inspect.signature(made).parameters, *vnl_envs.task_options(task_id)}
        # Gymnasium's own argument, and what is decided for Stable-Baselines3.
        takes |= {"max_episode_steps"} if face == "make" else set()
        takes -= {"autoreset_mode"} if face == "SB3VecEnv" else set()
        assert said[face] == takes - mine - {"reward"}, face


# Command line


def run(*arguments: str) -> Any:
    """The command line in this process."""
    from vnl_envs.cli.main import app

    return CliRunner().invoke(app, list(arguments))


def test_module_runs() -> None:
    """`python -m vnl_envs list --json` prints JSON alone."""
    out = subprocess.run([sys.executable, "-m", "vnl_envs", "list", "--json"], capture_output=True,
                         text=True, check=True)  # fmt: skip
    listed = json.loads(out.stdout)
    assert [row["id"] for row in listed] == list(IDS)


def test_version() -> None:
    """One line, and the version that is packaged."""
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"vnl-envs {version('vnl_envs')}\n")


def test_list() -> None:
    """Every id with its numbers, also as a table."""
    rows = {r["id"]: r for r in json.loads(run("list", "--json").stdout)}
    env = vnl_envs.SingleEnv(GOAL)
    assert rows[GOAL]["observation_size"] == env.observation_space.shape[0]
    assert rows[GOAL]["action_size"] == env.action_space.shape[0]
    assert rows[GOAL]["control_rate_hz"] == 50
    table = run("list")
    assert table.exit_code == 0
    assert all(i in table.stdout for i in IDS)


@pytest.mark.parametrize("task_id", IDS)
def test_info(task_id: str) -> None:
    """What the environment itself says."""
    described = json.loads(run("info", task_id, "--json").stdout)
    env = vnl_envs.SingleEnv(task_id)
    assert described["env_hash"] == env.env_hash
    assert described["observation"] == {k: [s.start, s.stop] for k, s in env.layout.items()}
    assert described["reward_terms"] == env.task.reward_terms
    assert set(described["options"]) == set(vnl_envs.task_options(task_id))
    assert run("info", task_id).exit_code == 0


def test_info_with_an_option() -> None:
    """`-o` changes the hash."""
    plain, other = (json.loads(run("info", JUMP, "--json", *o).stdout)["env_hash"]
                    for o in ((), ("-o", "gaps=0.1")))  # fmt: skip
    assert plain != other


def test_cost_of_transport() -> None:
    """The energy of all episodes over the weight and the way; none where no distance counts."""
    result = vnl_envs.evaluate(JUMP, "random", 3, seed=2)
    mass, values = task_of(JUMP).body.mass.sum(), result.values
    seconds = values["length"] * task_of(JUMP).dt
    energy = (values["power"] * mass * seconds).sum()
    cost = energy / (mass * 9.81 * values["distance"].sum())
    assert result.cost_of_transport == pytest.approx(cost)
    assert result.record()["cost_of_transport"] == pytest.approx(cost)
    shown = run("evaluate", JUMP, "--policy", "random", "--episodes", "3", "--seed", "2").stdout
    assert f"cost of transport (energy / weight / distance): {cost:.3g}" in shown
    goals = vnl_envs.evaluate(GOAL, "zero", 1)
    assert goals.cost_of_transport is None
    assert "cost_of_transport" not in goals.record()


def test_evaluate_command() -> None:
    """JSON alone on the output, equal to the function's."""
    result = run("evaluate", IMITATION, "--policy", "zero", "--episodes", "3", "--seed", "4",
                 "--json")  # fmt: skip
    assert result.exit_code == 0
    expected = vnl_envs.evaluate(IMITATION, "zero", 3, seed=4).record()
    assert json.loads(result.stdout) == json.loads(json.dumps(expected))
    table = run("evaluate", IMITATION, "--episodes", "2", "--by-label")
    assert table.exit_code == 0
    assert re.search(r"root_error .* 2 clips ", table.stdout)
    assert " 2 episodes " in run("evaluate", GOAL, "--episodes", "2").stdout.split("return")[1]


def test_json_is_strict() -> None:
    """No NaN or Infinity, which other languages' parsers refuse: what is unknown is null."""

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    out = run("evaluate", GOAL, "--policy", "random", "--episodes", "2", "--json").stdout
    episodes = json.loads(out, parse_constant=refuse)["episodes"]
    assert len(episodes) == 2


def test_rollout_command(tmp_path: Path) -> None:
    """The file holds whole episodes that a replay confirms."""
    path = tmp_path / "out.h5"
    result = run("rollout", IMITATION, "--policy", "random", "--episodes", "2", "--seed", "3",
                 "--out", str(path))  # fmt: skip
    assert result.exit_code == 0, result.output
    assert list(tmp_path.iterdir()) == [path]
    env = gymnasium.make(IMITATION, disable_env_checker=True).unwrapped
    scores = vnl_envs.evaluate(IMITATION, "random", 2, seed=3)
    with h5py.File(path) as file:
        assert file.attrs["task"] == IMITATION
        assert file.attrs["env_hash"] == env.env_hash
        assert list(file.attrs["observation_names"]) == list(env.layout)
        for i in range(2):
            group = file[f"episode_{i}"]
            u = episode_generators(episode_seed(3, i))[0].random(env.task.uniforms, np.float32)
            episode = {k: np.asarray(v) for k, v in env.task.episode(u).items()}
            observed, _ = env.reset(options={"episode": episode})
            assert_same(group["observation"][0], observed)
            steps = len(group["action"])
            assert steps == scores.values["length"][i]
            np.testing.assert_allclose(group["reward"][()].sum(), scores.values["return"][i])
            for t, action in enumerate(group["action"][()]):
                observed, reward, terminated, truncated, info = env.step(action)
                assert_same(group["observation"][t + 1], observed)
                assert group["reward"][t] == reward
                assert_same(group["qpos"][t + 1], env.data.qpos)
                for name, value in info["reward_terms"].items():
                    assert group[f"terms/{name}"][t] == value
                assert (group["contact_step"][()] == t).sum() == env.data.ncon
                assert (terminated or truncated) == (t == steps - 1)
            assert group.attrs["end"] == ("truncated" if truncated else "terminated")
            assert group.attrs["label"] == env.task.label(episode)
            assert group["contact_geoms"].shape == (len(group["contact_step"]), 2)


@pytest.mark.usefixtures("gl")
@pytest.mark.parametrize("policy", ["zero", "random", "track", "feedforward"])
def test_play_command(tmp_path: Path, policy: str) -> None:
    """A video that can be read, and nothing beside it."""
    path = tmp_path / "out.mp4"
    result = run("play", IMITATION, "--policy", policy, "--video", str(path), "--seconds", "0.4",
                 "--width", "64", "--height", "48")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert list(tmp_path.iterdir()) == [path]
    frames = np.stack(imageio.mimread(path, memtest=False))
    assert frames.shape[1:] == (48, 64, 3)
    assert frames.std() > 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["info", "vnl/Nothing-v0"], "vnl/RodentJumpGap-v0"),
        (["info", JUMP, "-o", "gaps"], "NAME=VALUE"),
        (["info", JUMP, "-o", "gaps=wide"], "gaps"),
        (["info", JUMP, "-o", "gap=0.1"], "'gap'.*gaps"),
        *[
            (["evaluate", GOAL, "-o", option], f"argument '{option.split('=')[0]}'.*reward")
            for option in ("processes=2", "num_envs=2", "threads=1", "seed=3", "policy=zero")
        ],
        (
            ["play", GOAL, "-o", "seed=3", "--video", "OUT/a.mp4"],
            "argument 'seed'",
        ),
        (
            ["rollout", GOAL, "-o", "seed=3", "--out", "OUT/a.h5"],
            "argument 'seed'",
        ),
        (["evaluate", JUMP, "--policy", "clever"], "policy"),
        (["evaluate", JUMP, "--policy", "track"], "track"),
        (["evaluate", "nonsense"], "nonsense"),
        (["evaluate", IMITATION, "-o", "clips=nowhere.h5"], "nowhere.h5"),
        (["evaluate", IMITATION, "--seed", "-1"], "seed|non-negative"),
        (["rollout", JUMP, "--policy", "clever", "--out", "OUT/a.h5"], "policy"),
        (["rollout", JUMP, "--out", "OUT/nowhere/a.h5"], "nowhere"),
        (["rollout", IMITATION, "-o", "start=100000", "--out", "OUT/a.h5"], "start"),
        (["play", JUMP, "--video", "OUT/a.txt"], "mp4"),
        (["play", JUMP, "--video", "OUT/a.mp4", "--seconds", "inf"], "seconds"),
        (["play", JUMP, "--video", "OUT/a.mp4", "--seconds", "0"], "seconds"),
        (["play", JUMP, "--video", "OUT/a.mp4", "--width", "0"], "width"),
        (["play", JUMP, "--video", "OUT/a.mp4", "--height", "-5"], "height"),
        (["play", JUMP, "--video", "OUT/a.mp4", "--seed", "-1"], "seed"),
        (["rollout", JUMP, "--out", "OUT/a.h5", "--seed", "-1"], "seed"),
        (["play", JUMP, "--video", "OUT/nowhere/a.mp4"], "nowhere"),
        (["play", "nonsense", "--video", "OUT/a.mp4"], "nonsense"),
        (["bench", "nonsense"], "nonsense"),
    ],
)
def test_command_errors(tmp_path: Path, arguments: list[str], words: str) -> None:
    """Exit code 2, one line that says what is wrong, and no file left."""
    result = run(*(a.replace("OUT", str(tmp_path)) for a in arguments))
    assert result.exit_code == 2, repr(result.exception)
    lines = [line for line in result.stderr.strip().splitlines() if "|" not in line]
    assert len(lines) == 1
    assert re.search(words, lines[0])
    assert not list(tmp_path.iterdir())


def test_interrupted_rollout_leaves_no_file(tmp_path: Path, monkeypatch: Any) -> None:
    """Failing halfway, the file that was there before is still there, whole."""
    from vnl_envs.envs.core import Core
    from vnl_envs.evaluation.record import record

    path = tmp_path / "out.h5"
    path.write_bytes(b"before")
    step, count = Core.step, iter(range(100))

    def failing(self: Any, *args: Any) -> Any:
        if next(count) > 5:
            raise KeyboardInterrupt
        return step(self, *args)

    monkeypatch.setattr(Core, "step", failing)
    with pytest.raises(KeyboardInterrupt):
        record(GOAL, "zero", path, 1)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["out.h5"]


def test_bench_command() -> None:
    """Ratios to the bare loop."""
    result = run("bench", GOAL, "--num-envs", "4", "--steps", "3", "--rounds", "1", "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)["rows"]
    assert all(row["steps_per_s"] > 0 and row["bare_steps_per_s"] > 0 for row in rows)
