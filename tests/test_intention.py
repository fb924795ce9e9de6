"""The intention network under PPO and DMPO, and its decoder used again."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import yaml
from stable_baselines3.common.vec_env import VecNormalize
from support import assert_same, invoke, one_line

import vnl_envs
from baselines import hyperparameters, ppo
from baselines.checkpoint import read_tree, write_tree
from baselines.dmpo import Hyperparameters as DmpoHyperparameters
from baselines.dmpo import Learner
from baselines.dmpo.__main__ import main as dmpo
from baselines.dmpo.state import MOST_DEVIATIONS, Transitions
from baselines.dmpo.training import Training as DmpoTraining
from baselines.export import OnnxPolicy, export_run, write_onnx
from baselines.intention import LATENT
from baselines.intention import dmpo as flax_intention
from baselines.intention import ppo as torch_intention
from baselines.intention.ppo import Hyperparameters, Intention, decoder_of, divergence
from baselines.layout import proprioception
from baselines.ppo.__main__ import main as ppo_main
from baselines.run import CHECKPOINT, LOG, POLICY, Interrupt
from baselines.score import score
from baselines.transfer.__main__ import main as transfer
from baselines.transfer.bundle import BundleError, Decoder, describe, from_run
from baselines.transfer.ppo import Decoded
from baselines.transfer.wrappers import REACH, LatentEnv, LatentVecEnv
from vnl_envs import SB3VecEnv

TASK, OTHER = "vnl/RodentImitation-v0", "vnl/RodentGoalReaching-v0"
TINY = {"num_envs": 2, "rollout": 8, "epochs": 2, "minibatch": 8, "layers": [8, 8], "log_every": 1,
        "evaluate_every": 2, "evaluation_episodes": 1, "cloning_steps": 16,
        "critic_updates": 1}  # fmt: skip
UPDATE = 16


def tiny(kind: type[ppo.Hyperparameters] = Hyperparameters) -> Any:
    """Small hyperparameters of the intention network, or of PPO."""
    file = Intention.file if kind is Hyperparameters else ppo.Network.file
    default = yaml.safe_load((hyperparameters.FOLDER / file).read_text())["default"]
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{**default, **{k: v for k, v in TINY.items() if k in names}})


def train(folder: Path, steps: int, resume: bool = False, task: str = TASK,
          network: ppo.Network | None = None) -> ppo.Training:  # fmt: skip
    network = network or Intention()
    training = ppo.Training(task, 0, folder, resume, tiny(network.kind), network)
    assert training(steps)
    return training


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run") / "run"


@pytest.fixture(scope="module")
def training(folder: Path) -> ppo.Training:
    """A run of cloning, an update of the critic, and four of both."""
    return train(folder, 6 * UPDATE)


@pytest.fixture(scope="module")
def decoder(training: ppo.Training, folder: Path) -> Decoder:
    return from_run(folder)


# --- The network under PPO ---


def test_the_divergence_is_torchs_own() -> None:
    rng = np.random.default_rng(0)
    mean, log_variance = torch.as_tensor(rng.normal(size=(2, 5, LATENT)))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(mean, (0.5 * log_variance).exp()), normal(0.0, 1.0)
    ).sum(dim=-1)
    np.testing.assert_allclose(divergence(mean, log_variance), expected)
    other = flax_intention.divergence(jnp.asarray(mean), jnp.asarray(log_variance))
    np.testing.assert_allclose(other, expected, rtol=1e-5)


def seen(model: ppo.PPO, num: int = 16) -> torch.Tensor:
    """Observations and noise as the network takes them."""
    rng = np.random.default_rng(0)
    return torch.as_tensor(rng.normal(size=(num, model.observation_space.shape[0]))).float()


def test_the_loss_sees_what_acted(training: ppo.Training) -> None:
    """The ratio of likelihoods is 1 before an update, as the noise is part of the observation."""
    policy, x = training.model.policy, seen(training.model)
    actions, values, likelihood = policy(x)
    again_values, again, _ = policy.evaluate_actions(x, actions)
    torch.testing.assert_close(again, likelihood, rtol=0, atol=0)
    torch.testing.assert_close(again_values, values, rtol=0, atol=0)
    other = torch.cat([x[:, :-LATENT], torch.zeros(len(x), LATENT)], dim=-1)
    assert (policy.get_distribution(other).mode() != policy.get_distribution(x).mode()).any()
    # The critic does not see the noise.
    torch.testing.assert_close(policy.predict_values(other), values, rtol=0, atol=0)


def test_the_entropys_place_holds_the_divergence(training: ppo.Training) -> None:
    """With its sign and its weight, and gradients of likelihood and KL reach the encoder."""
    model = training.model
    policy, x = model.policy, seen(model)
    encoder = policy.mlp_extractor.policy_net.encoder
    mean, log_variance = encoder(x[:, :-LATENT]).chunk(2, dim=-1)
    _, likelihood, place = policy.evaluate_actions(x, torch.zeros(len(x), 38))
    torch.testing.assert_close(-place, divergence(mean, log_variance))
    assert model.ent_coef == training.h.kl_weight
    assert model.figure("entropy_loss") > 0
    for loss in (likelihood, place):
        gradients = torch.autograd.grad(loss.mean(), list(encoder.parameters()), retain_graph=True)
        assert all(bool(g.abs().sum() > 0) for g in gradients)


def test_the_log_has_divergence_terms_and_lifespan(training: ppo.Training) -> None:
    columns = training.run.columns
    assert {"latent_kl", "length", "survived"} <= set(columns)
    vector = training.model.vector
    assert {f"reward_{name}" for name in vector.task.reward_terms} <= set(columns)
    face = training.model.face
    face.reset()
    done = np.zeros(face.num_envs, bool)
    while not done.any():
        _, reward, done, _ = face.step(np.ones((face.num_envs, 38), np.float32))
        # Of ended episodes too.
        np.testing.assert_allclose(sum(face.reward_terms.values()), reward, rtol=1e-6)


@pytest.mark.parametrize("steps", [4 * UPDATE, 5 * UPDATE])
def test_a_resumed_run_reaches_the_same_bits(
    training: ppo.Training, folder: Path, tmp_path: Path, steps: int
) -> None:
    train(tmp_path / "run", steps)
    train(tmp_path / "run", 6 * UPDATE, resume=True)
    one, other = (read_tree(f / CHECKPOINT)["model"] for f in (folder, tmp_path / "run"))
    assert one["observation"].shape == (2, 851 + LATENT)
    assert_same(one, other)


def test_statistics_have_no_noise(training: ppo.Training) -> None:
    assert (
        training.model.observed.mean.shape == training.model.vector.single_observation_space.shape
    )
    assert training.model.observation_space.shape == (851 + LATENT,)


def test_the_exported_policy_is_the_one_without_noise(
    training: ppo.Training, folder: Path, tmp_path: Path
) -> None:
    export_run(folder, tmp_path / "p.onnx")
    observations = training.model.vector.core.observation
    actions = OnnxPolicy.load(tmp_path / "p.onnx")(observations)
    np.testing.assert_allclose(actions, training.model.mean_action(observations), atol=1e-5)
    x = training.model.normalise.normalize_obs(observations)
    policy = training.model.policy
    x = torch.cat([torch.as_tensor(x), torch.zeros(len(x), LATENT)], dim=-1)
    np.testing.assert_allclose(
        actions, policy.get_distribution(x).mode().detach().clip(-1, 1), atol=1e-5
    )
    assert OnnxPolicy.load(folder / POLICY).metadata["network"] == "intention"


def test_cloning_comes_near_the_tracking_policy() -> None:
    """In the states that it gets into, its error falls far below that of the first network."""
    h = dataclasses.replace(tiny(), cloning_steps=6000, num_envs=8, rollout=32, minibatch=64,
                            layers=[64, 64], critic_step_size=3e-3)  # fmt: skip
    model = ppo.PPO(VecNormalize(SB3VecEnv(TASK, h.num_envs)), h, 0, Intention())

    def error() -> float:
        vector = model.vector
        aims = vector.task.track(vector.episodes, vector.carries)
        actions = model.mean_action(vector.core.observation)
        return float(((actions - aims) ** 2).mean())

    model.normalise.reset()
    before = error()
    model.network.prepare(model, dataclasses.replace(h, critic_updates=0), Interrupt())
    assert error() < before / 3


def test_an_interrupted_cloning_begins_again(
    training: ppo.Training, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no state in the midst of it; the message says so, and the end is the same."""
    path = tmp_path / "h.yml"
    path.write_text(yaml.safe_dump({"default": dataclasses.asdict(tiny())}))
    command = ("--task", TASK, "--network", "intention", "--steps", 6 * UPDATE,
               "--hyperparams", path, "--out", tmp_path / "run")  # fmt: skip
    clone = torch_intention.clone

    def interrupted(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        clone(*arguments)

    for more in ((), ("--resume",)):
        with monkeypatch.context() as patched:
            patched.setattr(torch_intention, "clone", interrupted)
            result = invoke(ppo_main, *command, *more)
        assert isinstance(result.exception, SystemExit)
        assert result.exception.code == (
            "interrupted: there was no state to keep yet: the same command begins again"
        )
        assert not (tmp_path / "run" / CHECKPOINT).exists()
    assert invoke(ppo_main, *command).exit_code == 0
    one, other = (read_tree(f / CHECKPOINT)["model"] for f in (folder, tmp_path / "run"))
    assert_same(one, other)


def test_cloning_needs_a_reference(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cloning_steps needs an imitation task"):
        train(tmp_path / "run", UPDATE, task=OTHER)


# --- The bundle ---


def test_a_bundle_comes_back(decoder: Decoder, training: ppo.Training, tmp_path: Path) -> None:
    decoder.write(tmp_path / "d.safetensors")
    again = Decoder.read(tmp_path / "d.safetensors")
    assert_same(again.tree(), read_tree(tmp_path / "d.safetensors"))
    assert again.digest == decoder.digest
    assert again.origin == {**decoder.origin}
    observed = training.model.observed
    np.testing.assert_array_equal(again.mean, observed.mean[: again.own])
    epsilon = training.model.normalise.epsilon
    np.testing.assert_array_equal(again.deviation, np.sqrt(observed.var + epsilon)[: again.own])
    again.check(training.model.vector.task, training.model.vector.layout)


def drop_last(own: dict[str, int]) -> dict[str, int]:
    return dict(list(own.items())[:-1])


def swapped(names: tuple[str, ...]) -> tuple[str, ...]:
    return (names[1], names[0], *names[2:])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: {"body": "mouse"}, "another body: mouse, the task has rodent"),
        (lambda d: {"fingerprint": "0"}, "another kinematic tree: 0"),
        (lambda d: {"actuators": swapped(d.actuators)}, "another set of actuators: the same names"),
        (
            lambda d: {"proprioception": {**drop_last(d.proprioception), "proprioception/x": 4}},
            r"another proprioception: it has \['proprioception/x'\], the task "
            r"\['proprioception/touch'\]",
        ),
        (
            lambda d: {"proprioception": dict(reversed(d.proprioception.items()))},
            "another proprioception: the same names in another order",
        ),
    ],
)
def test_a_bundle_of_something_else_is_refused(
    decoder: Decoder, training: ppo.Training, change: Callable[[Decoder], Any], words: str
) -> None:
    other = dataclasses.replace(decoder, **change(decoder))
    with pytest.raises(BundleError, match=words):
        LatentVecEnv(training.model.face, other)
    with pytest.raises(BundleError, match=words):
        LatentEnv(gymnasium.make(OTHER), other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("layers"), "lacks \\['layers'\\]"),
        (lambda t: t.update(version=2), "not a vnl_envs-decoder file of version 1"),
        (lambda t: t["layers"].pop(0), "do not follow one another"),
        (lambda t: t.update(layers=[]), "do not follow one another"),
        (lambda t: t.update(layers="x"), "unpack|values"),
        (lambda t: t.update(proprioception=drop_last(t["proprioception"])), "follow one another"),
        (lambda t: t.update(mean=t["mean"][1:]), "its mean is not of 201 observations"),
        (lambda t: t.update(deviation=t["deviation"] * 0), "a deviation of 0"),
        (lambda t: t.update(mean=t["mean"] * np.nan), "not finite"),
        (lambda t: t.update(actuators=t["actuators"][1:]), "38 actions for 37 actuators"),
    ],
)
def test_a_damaged_bundle_is_refused(
    decoder: Decoder, tmp_path: Path, change: Callable[[Any], Any], words: str
) -> None:
    path = tmp_path / "d.safetensors"
    decoder.write(path)
    tree = read_tree(path)
    change(tree)
    write_tree(path, tree)
    with pytest.raises(BundleError, match=words):
        Decoder.read(path)


def test_other_files_are_no_bundles(decoder: Decoder, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a vnl_envs-decoder file"):
        Decoder.read(folder / CHECKPOINT)
    path = tmp_path / "d.safetensors"
    decoder.write(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BundleError, match="is not a checkpoint"):
        Decoder.read(path)
    with pytest.raises(FileNotFoundError):
        Decoder.read(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match="no run in"):
        from_run(tmp_path)


def test_the_layouts_first_part_is_the_bodys_own() -> None:
    layouts = [vnl_envs.SingleEnv(task).layout for task in (TASK, OTHER)]
    one, other = map(proprioception, layouts)
    assert list(one.items()) == list(other.items())
    with pytest.raises(ValueError, match="must begin with proprioception/"):
        proprioception({"task/goal": slice(0, 3), "proprioception/touch": slice(3, 7)})


# --- The decoder used again ---


def test_the_encoders_latent_drives_the_decoder_as_before(
    decoder: Decoder, training: ppo.Training
) -> None:
    """Through both wrappers: the same actions, so the same states, as by the whole policy."""
    model = training.model
    encoder = model.policy.mlp_extractor.policy_net.encoder

    def latents(observations: np.ndarray) -> np.ndarray:
        x = torch.as_tensor(model.normalise.normalize_obs(observations))
        with torch.no_grad():
            mean, _ = encoder(x).chunk(2, dim=-1)
        assert float(mean.abs().max()) < REACH
        return mean.numpy() / REACH

    whole, vector = SB3VecEnv(TASK, 3), LatentVecEnv(SB3VecEnv(TASK, 3), decoder)
    single, episode = LatentEnv(gymnasium.make(TASK), decoder), vnl_envs.SingleEnv(TASK)
    for env in (whole, vector):
        env.seed(0)
    observations = [whole.reset(), vector.reset(), single.reset(seed=0)[0][None]]
    episode.reset(seed=0)
    for _ in range(5):
        one, other, alone = observations
        actions = model.mean_action(one)
        np.testing.assert_allclose(decoder(REACH * latents(one), one), actions, atol=1e-6)
        assert np.ptp(actions) > 0
        observations = [
            whole.step(actions)[0], vector.step(latents(other))[0],
            single.step(latents(alone)[0])[0][None],
        ]  # fmt: skip
        np.testing.assert_allclose(observations[1], observations[0], atol=1e-3)
        np.testing.assert_allclose(observations[2][0], observations[0][0], atol=1e-3)
    assert single.action_space == vector.action_space == gymnasium.spaces.Box(-1, 1, (LATENT,))


def test_latents_are_trained_by_ppo(decoder: Decoder, tmp_path: Path) -> None:
    """A run that resumes to the same bits; its policy is one of observations to actions."""
    whole = train(tmp_path / "whole", 4 * UPDATE, task=OTHER, network=Decoded(decoder))
    train(tmp_path / "parts", 2 * UPDATE, task=OTHER, network=Decoded(decoder))
    train(tmp_path / "parts", 4 * UPDATE, resume=True, task=OTHER, network=Decoded(decoder))
    one, other = (read_tree(tmp_path / f / CHECKPOINT)["model"] for f in ("whole", "parts"))
    assert_same(one, other)
    # The decoder has not learnt.
    assert Decoder.from_tree(one["decoder"]).digest == decoder.digest
    observations = whole.model.vector.core.observation
    export_run(tmp_path / "whole", tmp_path / "p.onnx")
    actions = OnnxPolicy.load(tmp_path / "p.onnx")(observations)
    assert actions.shape == (2, 38)
    np.testing.assert_allclose(actions, whole.model.mean_action(observations), atol=1e-5)
    layers = [(weight * 2, bias) for weight, bias in decoder.layers]
    with pytest.raises(ValueError, match="its decoder is"):
        train(tmp_path / "whole", 5 * UPDATE, resume=True, task=OTHER,
              network=Decoded(dataclasses.replace(decoder, layers=layers)))  # fmt: skip


# --- The network under DMPO ---


SETTINGS = DmpoHyperparameters(critic_layers=(16, 16), batch_size=8)


def transitions(size: int, nu: int, num: int = 8) -> Transitions:
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(2, num, size)).astype(np.float32)
    return Transitions(
        observations[0], rng.uniform(-1, 1, (num, nu)).astype(np.float32),
        rng.random(num).astype(np.float32), np.full(num, 0.9, np.float32), observations[1],
    )  # fmt: skip


def learner(decoder: Decoder | None, size: int = 204) -> Learner:
    network = flax_intention.IntentionPolicy(38, 201, (8, 8), 0.2, 0.1, decoder)
    return Learner(size, 38, SETTINGS, network)


@pytest.mark.parametrize("reused", [False, True])
def test_dmpo_learns_encoder_and_decoder(decoder: Decoder, reused: bool) -> None:
    """A reused decoder is no parameter; one that learns changes with the encoder."""
    one = learner(decoder if reused else None)
    state = before = one.init(jax.random.PRNGKey(0))
    batch = transitions(204, 38)
    state = one.observe(state, jnp.asarray(batch.observation))
    update = jax.jit(one.update)
    for i in range(3):
        state, figures = update(state, batch, jax.random.PRNGKey(i))
    assert float(figures["policy_penalty"]) > 0
    names, changed = set(state.policy["params"]), {}
    for name in names:
        leaves = (jax.tree.leaves(s.policy["params"][name]) for s in (before, state))
        changed[name] = any(bool((a != b).any()) for a, b in zip(*leaves, strict=True))
    learnt = {"encoder", "latent", "std"}
    learnt |= set() if reused else {"decoder_0", "decoder_1", "mean"}
    assert changed == dict.fromkeys(learnt, True)


def test_dmpo_acts_through_the_reused_decoder(decoder: Decoder, tmp_path: Path) -> None:
    """With the statistics of the bundle, whatever the learner has observed itself."""
    one, rng = learner(decoder), np.random.default_rng(0)
    observations = rng.normal(size=(6, 204)).astype(np.float32)
    observations[:, :201] = decoder.mean + decoder.deviation * observations[:, :201]
    state = one.init(jax.random.PRNGKey(0))
    state = one.observe(state, jnp.asarray(observations * 3 + 1))
    x = one._seen(state, jnp.asarray(observations))
    np.testing.assert_allclose(
        x[:, :201], decoder.normalise(observations[:, :201].astype(float)), atol=1e-3
    )
    np.testing.assert_allclose(
        x[:, 201:], state.statistics.normalise(jnp.asarray(observations))[:, 201:], rtol=1e-6
    )
    _, captured = one.policy.apply(
        state.policy, x, jnp.zeros((6, LATENT)), capture_intermediates=True
    )
    encoded = captured["intermediates"]["latent"]["__call__"][0]
    expected = decoder(np.asarray(encoded)[:, :LATENT], observations)
    np.testing.assert_allclose(one.act_mean(state, jnp.asarray(observations)), expected, atol=1e-4)
    layers = flax_intention.layers_of(
        state.policy, (state.statistics.mean, state.statistics.deviation), 201, decoder
    )
    write_onnx(tmp_path / "p.onnx", layers, (204, 38), {})
    np.testing.assert_allclose(
        OnnxPolicy.load(tmp_path / "p.onnx")(observations), expected, atol=1e-5
    )


def test_the_same_noise_gives_the_same_bits() -> None:
    one = learner(None)
    state = one.init(jax.random.PRNGKey(0))
    x = jnp.asarray(transitions(204, 38).observation)
    noise = jax.random.normal(jax.random.PRNGKey(1), (8, LATENT))
    # A mean that depends on the latent: the head's first weights are nearly 0.
    params = jax.tree.map(lambda p: p + 0.1, state.policy)
    apply = jax.jit(one.policy.apply)
    first, again, other = (apply(params, x, n) for n in (noise, noise, -noise))
    assert_same(first._asdict(), again._asdict())
    assert (first.mean != other.mean).any()
    np.testing.assert_array_equal(first.penalty, other.penalty)
    assert first.mean.shape == first.std.shape == (8, 38)
    assert first.penalty.shape == (8,)


def test_dmpos_network_is_exported_and_bundled(tmp_path: Path) -> None:
    one, env = learner(None), vnl_envs.SingleEnv(OTHER)
    state = one.init(jax.random.PRNGKey(0))
    observations = transitions(204, 38).observation * 3
    state = one.observe(state, jnp.asarray(observations))
    state = state._replace(policy=jax.tree.map(lambda p: p + 0.05, state.policy))
    mean, deviation = map(np.asarray, (state.statistics.mean, state.statistics.deviation))
    layers = flax_intention.layers_of(state.policy, (mean, deviation), 201)
    write_onnx(tmp_path / "p.onnx", layers, (204, 38), {})
    actions = one.act_mean(state, jnp.asarray(observations))
    np.testing.assert_allclose(
        OnnxPolicy.load(tmp_path / "p.onnx")(observations), actions, atol=1e-5
    )
    about = describe(env.task, env.layout)
    bundle = Decoder.of(
        about, (mean, deviation), MOST_DEVIATIONS, flax_intention.decoder_layers(state.policy), {}
    )
    x = one._seen(state, jnp.asarray(observations))
    _, captured = one.policy.apply(
        state.policy, x, jnp.zeros((8, LATENT)), capture_intermediates=True
    )
    encoded = captured["intermediates"]["latent"]["__call__"][0]
    np.testing.assert_allclose(
        bundle(np.asarray(encoded)[:, :LATENT], observations), actions, atol=1e-5
    )


def quick(**more: Any) -> flax_intention.Settings:
    small = {
        "policy_layers": [8, 8], "critic_layers": [8, 8], "batch_size": 8, "num_envs": 2,
        "unroll": 2, "warmup": 8, "capacity": 100, "log_every": 1, "evaluate_every": 2,
        "evaluation_episodes": 1, "samples_per_insert": 2.0,
    }  # fmt: skip
    own = hyperparameters.load(flax_intention.Settings, flax_intention.Intention.file, OTHER)
    return dataclasses.replace(own, **small, **more)


@pytest.mark.parametrize("reused", [False, True])
def test_a_run_of_dmpo_is_logged_exported_and_bundled(
    decoder: Decoder, tmp_path: Path, reused: bool
) -> None:
    def training(resume: bool, decoder: Decoder | None) -> DmpoTraining:
        network = flax_intention.Intention(decoder)
        return DmpoTraining(OTHER, 0, "native", tmp_path / "run", resume, quick(), network)

    whole = training(False, decoder if reused else None)
    assert whole(16)
    with (tmp_path / "run" / LOG).open(newline="") as file:
        kl = [float(row["latent_kl"]) for row in csv.DictReader(file)]
    assert len(kl) == 2
    assert all(0 < x < 100 for x in kl)
    export_run(tmp_path / "run", tmp_path / "newest.onnx")
    policy = OnnxPolicy.load(tmp_path / "newest.onnx")
    assert policy.metadata["network"] == ("decoder" if reused else "intention")
    observations = vnl_envs.VectorEnv(OTHER, 4).reset(seed=0)[0]
    expected = whole.mean_action(observations)
    np.testing.assert_allclose(policy(observations), expected, atol=1e-5)
    if reused:
        assert np.ptp(expected) > 0.01
        with pytest.raises(BundleError, match="has no intention network"):
            from_run(tmp_path / "run")
        with pytest.raises(ValueError, match="its decoder is"):
            training(True, dataclasses.replace(decoder, mean=decoder.mean + 1))
    else:
        bundle = from_run(tmp_path / "run")
        bundle.check(whole.driver.task, whole.driver.layout)
        assert bundle.origin["algorithm"] == "dmpo"
        with pytest.raises(ValueError, match="its network is 'intention', not 'decoder'"):
            training(True, bundle)


def test_a_network_is_for_tasks_whose_observations_begin_with_the_bodys_own() -> None:
    task = vnl_envs.make_task(OTHER)
    with pytest.raises(ValueError, match="must begin with proprioception/"):
        flax_intention.Intention().policy(task, {"task/goal": slice(0, 3)}, quick())
    with pytest.raises(ValueError, match="needs `normalise`"):
        flax_intention.Intention().policy(task, {}, quick(normalise=False))


def test_a_models_state_has_its_decoder(training: ppo.Training, decoder: Decoder) -> None:
    assert decoder_of(training.model.get_state(), {}).digest == decoder.digest


def test_a_run_has_options_of_its_task(tmp_path: Path) -> None:
    """It trains on them, its policy is scored on them, and it goes on with no others."""
    names = ["walk", "walk_slow"]

    def run(*more: str) -> click.testing.Result:
        return invoke(ppo_main, "--task", TASK, "--steps", UPDATE, "--network", "intention",
                      "--hyperparams", file, "--out", tmp_path / "run", *more)  # fmt: skip

    file = tmp_path / "tiny.yml"
    file.write_text(yaml.safe_dump({"default": {**vars(tiny()), "cloning_steps": 0}}))
    option = f"clips={json.dumps(names)}"
    assert run("-o", option).exit_code == 0
    record = score(tmp_path / "run" / POLICY, episodes=1)
    task = vnl_envs.make_task(TASK, clips=names)
    assert record["options"] == {"clips": names}
    assert (
        record["env_hash"]
        == vnl_envs.env_hash(TASK, task)
        != vnl_envs.env_hash(TASK, vnl_envs.make_task(TASK))
    )
    assert list(record["scores"]) == ["train", "test"]
    assert "its options is {'clips': ['walk', 'walk_slow']}, not {}" in one_line(run("--resume"))
    assert run("--resume", "-o", option).exit_code == 0
    shutil.rmtree(tmp_path / "run")
    assert "an option has the form NAME=VALUE" in one_line(run("-o", "clips"))
    assert "no clips named ['fly']" in one_line(run("-o", "clips=fly"))
    assert not (tmp_path / "run").exists()


def test_the_command_lines_say_what_is_wrong(
    decoder: Decoder, folder: Path, tmp_path: Path
) -> None:
    def run(main: Callable[..., None], *arguments: object) -> str:
        return one_line(invoke(main, *arguments, "--out", tmp_path / "run"))

    for main in (ppo_main, dmpo):
        assert "network must be one of" in run(main, "--task", TASK, "--network", "transformer")
    bundle = tmp_path / "d.safetensors"
    for main in (transfer, dmpo):
        assert "no checkpoint" in run(main, "--task", OTHER, "--decoder", bundle)
    decoder.write(bundle)
    for main in (transfer, dmpo):
        message = run(main, "--task", "vnl/HumanoidGoalReaching-v0", "--decoder", bundle)
        assert message == "error: the decoder is for another body: rodent, the task has humanoid"
        message = run(main, "--task", OTHER, "--decoder", folder / CHECKPOINT)
        assert "not a vnl_envs-decoder file" in message
    assert not (tmp_path / "run").exists()
    arguments = ("--task", OTHER, "--decoder", bundle, "--resume", "--out", folder)
    assert "has another run in it: its task is" in one_line(invoke(transfer, *arguments))
    arguments = ("--task", TASK, "--network", "intention", "--resume", "--out", folder)
    assert "has another run in it: its algorithm is 'ppo'" in one_line(invoke(dmpo, *arguments))
    record = (folder / "run.json").read_text().replace("intention", "mlp")
    (tmp_path / "run.json").write_text(record)
    with pytest.raises(BundleError, match="has no intention network"):
        from_run(tmp_path)


def test_every_section_of_the_file_is_a_task_with_valid_values() -> None:
    path = hyperparameters.FOLDER / flax_intention.Intention.file
    assert set(yaml.safe_load(path.read_text())) - {"default"} <= set(vnl_envs.task_ids())
    for task_id in vnl_envs.task_ids():
        d = hyperparameters.load(flax_intention.Settings, path.name, task_id)
        # Rewards are in [0, 1].
        assert d.highest_return == pytest.approx(1 / (1 - d.discount))
    path = hyperparameters.FOLDER / Intention.file
    assert set(yaml.safe_load(path.read_text())) - {"default"} <= set(vnl_envs.task_ids())
    for task_id in vnl_envs.task_ids():
        h = hyperparameters.load(Hyperparameters, path.name, task_id)
        assert h.update_steps % h.minibatch == 0
        # Only imitation has a tracking policy to clone.
        assert bool(h.cloning_steps) == ("Imitation" in task_id)
