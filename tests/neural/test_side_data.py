"""Recorded neurons in training: the spikes of each frame, and what the latent learns."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
import pytest
from runs import write_hyperparams
from support import invoke, one_line

from baselines import hyperparameters, ppo
from baselines.intention.ppo import Intention
from baselines.ppo.__main__ import main
from baselines.ppo.neurons import BIN, Neurons
from baselines.run import LOG, rows_of
from vnl_envs import make_functional
from vnl_envs.bodies.model import BodyModel
from vnl_envs.neural.importing import import_session, write_session_clips
from vnl_envs.neural.session import opened_session
from vnl_envs.testing.comparison import assert_same

TASK = "vnl/RodentImitation-v0"
SMALL = {"num_envs": 8, "num_steps": 16, "epochs": 8, "minibatch_size": 64, "layers": [16],
         "critic_layers": [8], "log_every": 1, "evaluate_every": 100, "evaluation_episodes": 1,
         "cloning_steps": 0}  # fmt: skip
UPDATE = 128


@pytest.fixture(scope="module")
def clips(session_file: Path, body: BodyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clips.h5"
    write_session_clips(session_file, path, body)
    return path


def settings(**changes: Any) -> ppo.Hyperparameters:
    default = hyperparameters.load(ppo.Hyperparameters, Intention.files, TASK)
    return dataclasses.replace(default, **{**SMALL, **changes})


def trained(
    folder: Path, clips: Path, updates: int, *more: Any, init_from: Path | None = None
) -> ppo.Training:
    """A run on the session's clips; `more` is the session and the weight."""
    training = ppo.Training(
        TASK, 0, "native", folder, folder.exists(), settings(), Intention,
        options={"clips": str(clips)}, neurons=more or None, init_from=init_from,
    )  # fmt: skip
    assert training(updates * UPDATE)
    return training


def test_the_spikes_of_each_frame(session_file: Path, clips: Path) -> None:
    """Sums over five frames of the session, at the frame that each body is to be at."""
    env = make_functional(TASK, "native", clips=clips)
    neurons = Neurons(env, session_file, 1.0)
    envs = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 32))
    envs = jax.vmap(env.step)(envs, np.zeros((32, env.action_size), np.float32))
    clip, start = (np.asarray(envs.data.episode[name]) for name in ("clip", "start"))
    last = np.array([len(c.qpos) - 1 for c in env.task.reference.clips])[clip]
    with opened_session(session_file) as session:
        spikes = session.read("spikes").astype(int)
        frames = session.clips[clip, 0] + np.minimum(start + 1, last)
    half = BIN // 2
    expected = [spikes[max(f - half, 0) : f + half + 1].sum(axis=0) for f in frames]
    np.testing.assert_array_equal(neurons(envs), expected)
    assert neurons.units == spikes.shape[1]


@pytest.fixture(scope="module")
def weighted(
    session_file: Path, clips: Path, tmp_path_factory: pytest.TempPathFactory
) -> ppo.Training:
    """A run of four updates with neurons."""
    return trained(tmp_path_factory.mktemp("runs") / "with", clips, 4, session_file, 1.0)


def bits(folder: Path) -> float:
    """Of the last update."""
    return float(rows_of(folder / LOG)[-1]["bits_per_spike"])


def test_the_latent_learns_neurons(
    session_file: Path, clips: Path, weighted: ppo.Training, tmp_path: Path
) -> None:
    """The read-out comes to predict them; without a weight the policy is as without them."""
    assert bits(weighted.run.folder) > 0.1
    without = trained(tmp_path / "without", clips, 2)
    unweighted = trained(tmp_path / "unweighted", clips, 2, session_file, 0.0)
    assert abs(bits(tmp_path / "unweighted")) < 1e-4
    # Rounding differs between the two programs.
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    jax.tree.map(close, unweighted.state.params["actor"], without.state.params["actor"])
    further = trained(
        tmp_path / "further", clips, 1, session_file, 1.0, init_from=tmp_path / "without"
    )
    assert float(further.state.observed.number) > float(without.state.observed.number)
    assert weighted.run.identity["neural_weight"] == 1.0
    assert "neurons" not in without.run.identity


def test_a_run_with_neurons_goes_on_to_the_same_bits(
    session_file: Path, clips: Path, weighted: ppo.Training, tmp_path: Path
) -> None:
    trained(tmp_path / "parts", clips, 2, session_file, 1.0)
    parts = trained(tmp_path / "parts", clips, 4, session_file, 1.0)
    assert_same(weighted.get_state()["state"], parts.get_state()["state"])
    with pytest.raises(ValueError, match="neural_weight is 1"):
        trained(tmp_path / "parts", clips, 5, session_file, 0.5)


def test_the_command(session_file: Path, clips: Path, tmp_path: Path) -> None:
    """It trains; a network without a latent, and clips of another session, are named."""
    file = write_hyperparams(tmp_path, SMALL)
    common = ("--task", TASK, "--steps", UPDATE, "--hyperparams", file, "--neural", session_file)
    to_latent = (*common, "--network", "intention")
    run = (*to_latent, "-o", f"clips={clips}", "--out", tmp_path / "run")
    assert invoke(main, *run).exit_code == 0
    other = one_line(invoke(main, *to_latent, "--out", tmp_path / "other"))
    assert "clip 'stand' is not of the session" in other
    plain = one_line(invoke(main, *common, "-o", f"clips={clips}", "--out", tmp_path / "plain"))
    assert "this network has not" in plain


def test_clips_of_another_part_are_refused(
    published: Path, clips: Path, body: BodyModel, tmp_path: Path
) -> None:
    """Parts of one recording have clips of the same names."""
    part = tmp_path / "part.h5"
    import_session(published, part, body, start=2)
    env = make_functional(TASK, "native", clips=clips)
    with pytest.raises(ValueError, match="'rat_0000000' is not of the session"):
        Neurons(env, part, 1.0)


def test_silent_units_are_left_out_and_busy_ones_counted(
    session_file: Path, clips: Path, tmp_path: Path
) -> None:
    path = tmp_path / "s.h5"
    path.write_bytes(session_file.read_bytes())
    env = make_functional(TASK, "native", clips=clips)
    with h5py.File(path, "r+") as file:
        file["spikes"][:, 1] = 0
        file["spikes"][:, 0] = 300
    neurons = Neurons(env, path, 1.0)
    assert neurons.units == 3
    # A bin of five frames has more spikes than a byte holds.
    envs = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 4))
    assert np.asarray(neurons(envs))[:, 0].max() == BIN * 300
    with h5py.File(path, "r+") as file:
        file["spikes"][()] = 0
    with pytest.raises(ValueError, match=r"no unit of .* has spikes"):
        Neurons(env, path, 1.0)
