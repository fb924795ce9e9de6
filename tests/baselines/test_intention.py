"""The intention network under PPO and DMPO, and its decoder used again."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click.testing
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from runs import sharing_programs, write_hyperparams
from support import invoke, one_line

import vnl_envs
from baselines import hyperparameters, ppo, reproduce
from baselines.checkpoint import read_tree, write_tree
from baselines.dmpo import Hyperparameters as DmpoHyperparameters
from baselines.dmpo import Learner
from baselines.dmpo.__main__ import main as dmpo
from baselines.dmpo.export import acting_state as dmpo_acting_state
from baselines.dmpo.state import Transitions
from baselines.dmpo.training import Training as DmpoTraining
from baselines.export import OnnxPolicy, export_run, write_onnx
from baselines.intention import LATENT, network
from baselines.intention import dmpo as intention_dmpo
from baselines.intention.ppo import Intention, decoder_of
from baselines.layout import proprioception
from baselines.ppo import teachers
from baselines.ppo.__main__ import main as ppo_main
from baselines.ppo.export import acting_state
from baselines.run import CHECKPOINT, LOG, POLICY
from baselines.score import score
from baselines.transfer.__main__ import main as transfer
from baselines.transfer.bundle import BundleError, Decoder, describe, from_run
from baselines.transfer.ppo import network_of
from baselines.transfer.wrappers import REACH, LatentEnv
from vnl_envs.testing.comparison import assert_same

TASK, OTHER = "vnl/RodentImitation-v0", "vnl/RodentGoalReaching-v0"
TINY = {"num_envs": 2, "num_steps": 8, "epochs": 2, "minibatch_size": 8, "layers": [8, 8],
        "critic_layers": [8, 8], "log_every": 1, "evaluate_every": 2, "evaluation_episodes": 1,
        "cloning_steps": 16}  # fmt: skip
UPDATE = 16


def tiny(network: type[ppo.Network] = Intention, **changes: Any) -> ppo.Hyperparameters:
    """Small hyperparameters of a network."""
    default = hyperparameters.load(ppo.Hyperparameters, network.files, OTHER)
    return dataclasses.replace(default, **{**TINY, **changes})


def train(folder: Path, steps: int, resume: bool = False, experts: Any = ()) -> ppo.Training:
    training = ppo.Training(TASK, 0, "native", folder, resume, tiny(), Intention, experts)
    assert training(steps)
    return training


@pytest.fixture(scope="module", autouse=True)
def compiled_once() -> Iterator[None]:
    with sharing_programs():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run") / "run"


@pytest.fixture(scope="module")
def training(folder: Path) -> ppo.Training:
    """A run of an update of cloning and three of PPO."""
    return train(folder, 4 * UPDATE)


@pytest.fixture(scope="module")
def decoder(training: ppo.Training, folder: Path) -> Decoder:
    return from_run(folder)


# --- The network under PPO ---


def test_the_divergence_is_that_of_two_gaussians() -> None:
    rng = np.random.default_rng(0)
    mean, apart, log_variance, prior = torch.as_tensor(rng.normal(size=(4, 5, LATENT)))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(mean + apart, (0.5 * log_variance).exp()), normal(mean, (0.5 * prior).exp())
    ).sum(dim=-1)
    mine = network.divergence(*(jnp.asarray(x.numpy()) for x in (apart, log_variance, prior)))
    np.testing.assert_allclose(mine, expected, rtol=1e-5)


def test_the_loss_sees_what_acted(training: ppo.Training) -> None:
    """The same noise gives the same action; the latent's divergence does not depend on it."""
    state, noise = training.state, np.random.default_rng(0).normal(size=(2, LATENT))
    policy = training.algorithm.policy
    one, again, other = (policy(state, state.envs.obs, n) for n in (noise, noise, -noise))
    assert_same(one._asdict(), again._asdict())
    assert (one.mean != other.mean).any()
    np.testing.assert_array_equal(one.latent_kl, other.latent_kl)
    assert (one.latent_kl > 0).all()


def test_gradients_reach_encoder_prior_and_decoder(training: ppo.Training) -> None:
    """Of both losses, PPO's and cloning's."""
    algorithm = training.algorithm

    @jax.jit
    def gradients(state: Any) -> list[Any]:
        state, rollout, _ = algorithm._collect(state)
        _, batch = algorithm._prepare(state, rollout)
        gradient = jax.grad(algorithm.loss, has_aux=True)
        return [gradient(state.params, batch, cloning)[0] for cloning in (False, True)]

    for gradient in gradients(training.state):
        modules = gradient["actor"]["params"]["bottleneck"]
        assert {"encoder", "latent", "prior_0", "prior", "decoder_0"} <= set(modules)
        assert all(bool(jnp.abs(g).sum() > 0) for g in jax.tree.leaves(modules))


def test_the_log_has_divergence_terms_and_lifespan(training: ppo.Training) -> None:
    rows = log_rows(training.run.folder)
    assert all(float(row["latent_kl"]) > 0 for row in rows)
    terms = [float(rows[0][f"reward_{name}"]) for name in training.algorithm.env.task.reward_terms]
    assert 0 < sum(terms) < 1
    assert {"length", "survived"} <= set(rows[0])


def log_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / LOG).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_resumed_run_reaches_the_same_bits(training: ppo.Training, tmp_path: Path) -> None:
    """Also one that stopped in the midst of cloning's end."""
    train(tmp_path / "run", UPDATE)
    again = train(tmp_path / "run", 4 * UPDATE, resume=True)
    assert_same(training.get_state()["state"], again.get_state()["state"])


def test_the_exported_policy_is_the_one_without_noise(
    training: ppo.Training, folder: Path, tmp_path: Path
) -> None:
    export_run(folder, tmp_path / "p.onnx")
    observations = np.asarray(training.state.envs.obs)
    actions = OnnxPolicy.load(tmp_path / "p.onnx")(observations)
    np.testing.assert_allclose(actions, training.mean_action(observations), atol=1e-5)
    assert OnnxPolicy.load(folder / POLICY).metadata["network"] == "intention"


def test_cloning_comes_near_the_teacher(tmp_path: Path) -> None:
    """In the states that it gets into, its error falls well below that of the first network."""
    h = tiny(num_envs=8, num_steps=32, minibatch_size=64, layers=[64, 64], epochs=8,
             critic_learning_rate=3e-3, cloning_steps=6000)  # fmt: skip
    training = ppo.Training(TASK, 0, "native", tmp_path / "run", False, h, Intention)
    errors = []
    while training.steps < 6000:
        training.advance()
        errors.append(training._rows[-1]["cloning_error"])
    assert errors[-1] < 0.7 * errors[0]


def test_experts_are_cloned_each_on_its_clips(training: ppo.Training, tmp_path: Path) -> None:
    """Of two, on the clips of their runs; and a clip without one is named."""
    runs = []
    for clip in ("walk", "trot"):
        h = tiny(ppo.Network, cloning_steps=0, base="track")
        expert = ppo.Training(TASK, len(runs), "native", tmp_path / clip, False, h,
                              options={"clips": [clip], "split": "all"})  # fmt: skip
        assert expert(2 * UPDATE)
        runs.append(expert)
    folders = [expert.run.folder for expert in runs]
    env = vnl_envs.make_functional(TASK, "native", clips=["trot", "walk"], split="all")
    teacher = teachers.experts(env, folders)
    envs = vnl_envs.wrap_for_training(env).reset(jax.random.split(jax.random.PRNGKey(0), 8))
    clips = np.asarray(envs.data.episode["clip"])
    assert len(set(clips)) == 2
    names = [clip.name for clip in env.task.reference.clips]
    by_clip = dict(zip(("walk", "trot"), runs, strict=True))
    expected = np.concatenate([
        by_clip[names[clip]].mean_action(observation[None])
        for clip, observation in zip(clips, np.asarray(envs.obs), strict=True)
    ])  # fmt: skip
    np.testing.assert_allclose(teacher(envs), expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"no expert is a run of the clips \['trot'\]; .*'walk'"):
        teachers.experts(env, folders[:1])
    with pytest.raises(FileNotFoundError, match="no run in"):
        teachers.experts(env, [tmp_path])
    with pytest.raises(ValueError, match="its network is 'intention', not 'mlp'"):
        teachers.experts(env, [training.run.folder])
    with pytest.raises(ValueError, match="its body is 'humanoid', not 'rodent'"):
        teachers.experts(env, [reproduce.KEPT / "humanoid-walk-0"])
    with pytest.raises(ValueError, match="an imitation task, which this is not"):
        teachers.experts(vnl_envs.make_functional(OTHER, "native"), folders)


# --- The bundle ---


def test_a_bundle_comes_back(decoder: Decoder, training: ppo.Training, tmp_path: Path) -> None:
    decoder.write(tmp_path / "d.safetensors")
    again = Decoder.read(tmp_path / "d.safetensors")
    assert_same(again.tree(), read_tree(tmp_path / "d.safetensors"))
    assert again.digest == decoder.digest
    assert again.origin == {**decoder.origin}
    observed, env = training.state.observed, training.algorithm.env
    np.testing.assert_array_equal(again.mean, observed.mean[: again.own])
    np.testing.assert_array_equal(again.deviation, observed.deviation[: again.own])
    again.check(env.task, env.layout)


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
    decoder: Decoder, change: Callable[[Decoder], Any], words: str
) -> None:
    other = dataclasses.replace(decoder, **change(decoder))
    with pytest.raises(BundleError, match=words):
        LatentEnv(gymnasium.make(OTHER), other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("layers"), "lacks \\['layers'\\]"),
        (lambda t: t.update(version=1), "not a vnl_envs-decoder file of version 2"),
        (lambda t: t.pop("prior"), "lacks \\['prior'\\]"),
        (lambda t: t["prior"].pop(), "do not follow|numbers for 120 moments"),
        (lambda t: t["layers"].pop(0), "do not follow one another"),
        (lambda t: t.update(layers=[]), "do not follow one another"),
        (lambda t: t.update(layers="x"), "unpack|values"),
        (lambda t: t.update(proprioception=drop_last(t["proprioception"])), "follow one another"),
        (lambda t: t.update(mean=t["mean"][1:]), "its mean is not of 201 observations"),
        (lambda t: t.update(deviation=t["deviation"] * 0), "a deviation of 0"),
        (lambda t: t.update(mean=t["mean"] * np.nan), "not finite"),
        (lambda t: t.update(actuators=t["actuators"][1:]), "38 numbers for 37 actuators"),
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
    """Through the wrapper: the same actions, so the same states, as by the whole policy."""
    env, whole = LatentEnv(gymnasium.make(TASK), decoder), gymnasium.make(TASK)
    observations = [env.reset(seed=0)[0], whole.reset(seed=0)[0]]
    for _ in range(5):
        one, other = observations
        apart = encoded(training, one[None])
        assert np.abs(apart).max() < REACH
        action = training.mean_action(other[None])[0]
        np.testing.assert_allclose(decoder.act(one[None], apart)[0], action, atol=1e-5)
        observations = [env.step(apart[0] / REACH)[0], whole.step(action)[0]]
        np.testing.assert_allclose(*observations, atol=1e-3)
    assert env.action_space == gymnasium.spaces.Box(-1, 1, (LATENT,))


def encoded(training: ppo.Training, observations: np.ndarray) -> np.ndarray:
    """What the encoder adds to the prior's mean."""
    state, noise = training.state, jnp.zeros((len(observations), LATENT))
    _, captured = training.network.actor.apply(
        state.params["actor"], observations, state.observed.normalise(observations), noise,
        capture_intermediates=True,
    )  # fmt: skip
    latent = captured["intermediates"]["bottleneck"]["latent"]["__call__"][0]
    return np.asarray(latent)[:, :LATENT]


def test_latents_are_trained_by_ppo(decoder: Decoder, tmp_path: Path) -> None:
    """A run that resumes to the same bits; its policy is one of observations to actions."""

    def run(name: str, updates: int, resume: bool = False, with_: Decoder = decoder) -> Any:
        h = tiny(ppo.Network, cloning_steps=0)
        training = ppo.Training(OTHER, 0, "native", tmp_path / name, resume, h, network_of(with_))
        assert training(updates * UPDATE)
        return training

    whole = run("whole", 4)
    run("parts", 2)
    parts = run("parts", 4, resume=True)
    assert_same(whole.get_state()["state"], parts.get_state()["state"])
    acting = read_tree(tmp_path / "whole" / CHECKPOINT)["model"]
    # The decoder has not learnt.
    assert Decoder.from_tree(acting["decoder"]).digest == decoder.digest
    observations = np.asarray(whole.state.envs.obs)
    export_run(tmp_path / "whole", tmp_path / "p.onnx")
    actions = OnnxPolicy.load(tmp_path / "p.onnx")(observations)
    assert actions.shape == (2, 38)
    np.testing.assert_allclose(actions, whole.mean_action(observations), atol=1e-5)
    layers = [(weight * 2, bias) for weight, bias in decoder.layers]
    with pytest.raises(ValueError, match="its decoder is"):
        run("whole", 5, resume=True, with_=dataclasses.replace(decoder, layers=layers))


def test_latents_begin_at_the_prior(decoder: Decoder) -> None:
    """The first mean action of a high level is near what the prior alone does."""
    env = vnl_envs.make_functional(OTHER, "native")
    made = network_of(decoder)(env.task, env.layout, tiny(ppo.Network))
    raw = vnl_envs.VectorEnv(OTHER, 4).reset(seed=0)[0]
    params = made.actor.init(jax.random.PRNGKey(0), raw, raw, raw[:, :0])
    mean = made.applied(raw, made.actor.apply(params, raw, raw, raw[:, :0]).mean)
    apart = np.zeros((4, LATENT))
    np.testing.assert_allclose(mean, decoder.act(raw, apart), atol=0.1)


def test_the_prior_of_a_trained_decoder_stands() -> None:
    """The mean latent alone, for 4 s, on a task that the decoder has not seen."""
    bundle = reproduce.CHECKPOINTS / "rodent-imitation-0.safetensors"
    kept = reproduce.KEPT / "rodent-imitation-0"
    decoder = Decoder.read(bundle) if bundle.is_file() else from_run(kept)

    env = vnl_envs.VectorEnv(OTHER, 8)
    observations, _ = env.reset(seed=0)
    mean = np.zeros((8, LATENT), np.float32)
    for _ in range(200):
        observations, _, terminated, _, _ = env.step(decoder.act(observations, mean))
        assert not terminated.any()
    env.close()


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
    network = intention_dmpo.IntentionPolicy(38, 201, (8, 8), 0.2, 0.1, decoder)
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
    learnt = {"bottleneck", "std"} | (set() if reused else {"mean"})
    assert changed == dict.fromkeys(learnt, True)
    modules = set(state.policy["params"]["bottleneck"])
    assert ("decoder_0" in modules) != reused
    assert ("prior" in modules) != reused


def test_dmpo_acts_through_the_reused_decoder(decoder: Decoder, tmp_path: Path) -> None:
    """With the statistics of the bundle, whatever the learner has observed itself."""
    one, rng = learner(decoder), np.random.default_rng(0)
    observations = rng.normal(size=(6, 204)).astype(np.float32)
    observations[:, :201] = decoder.mean + decoder.deviation * observations[:, :201]
    state = one.init(jax.random.PRNGKey(0))
    state = one.observe(state, jnp.asarray(observations * 3 + 1))
    x = one._seen(state, jnp.asarray(observations))
    np.testing.assert_allclose(x[:, :201], decoder.normalise(observations[:, :201]), atol=1e-3)
    np.testing.assert_allclose(
        x[:, 201:], state.statistics.normalise(jnp.asarray(observations))[:, 201:], rtol=1e-6
    )
    _, captured = one.policy.apply(
        state.policy, x, jnp.zeros((6, LATENT)), capture_intermediates=True
    )
    encoded = captured["intermediates"]["bottleneck"]["latent"]["__call__"][0]
    expected = decoder.act(observations, np.asarray(encoded)[:, :LATENT])
    np.testing.assert_allclose(one.act_mean(state, jnp.asarray(observations)), expected, atol=1e-4)
    acting = {**acting_of(state), "decoder": decoder.tree()}
    layers = intention_dmpo.Intention.layers(acting, True)
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
    acting = {**acting_of(state), "about": describe(env.task, env.layout)}
    layers = intention_dmpo.Intention.layers(acting, True)
    write_onnx(tmp_path / "p.onnx", layers, (204, 38), {})
    actions = one.act_mean(state, jnp.asarray(observations))
    np.testing.assert_allclose(
        OnnxPolicy.load(tmp_path / "p.onnx")(observations), actions, atol=1e-5
    )
    bundle = intention_dmpo.decoder_of(acting, {})
    x = one._seen(state, jnp.asarray(observations))
    _, captured = one.policy.apply(
        state.policy, x, jnp.zeros((8, LATENT)), capture_intermediates=True
    )
    encoded = captured["intermediates"]["bottleneck"]["latent"]["__call__"][0]
    np.testing.assert_allclose(
        bundle.act(observations, np.asarray(encoded)[:, :LATENT]), actions, atol=1e-5
    )


def acting_of(state: Any) -> dict[str, Any]:
    """What a checkpoint has of a learner's state."""
    return dmpo_acting_state(state, 0)


def quick(**more: Any) -> intention_dmpo.Settings:
    small = {
        "policy_layers": [8, 8], "critic_layers": [8, 8], "batch_size": 8, "num_envs": 2,
        "unroll": 2, "warmup": 8, "capacity": 100, "log_every": 1, "evaluate_every": 2,
        "evaluation_episodes": 1, "samples_per_insert": 2.0,
    }  # fmt: skip
    own = hyperparameters.load(intention_dmpo.Settings, intention_dmpo.Intention.files, OTHER)
    return dataclasses.replace(own, **small, **more)


@pytest.mark.parametrize("reused", [False, True])
def test_a_run_of_dmpo_is_logged_exported_and_bundled(
    decoder: Decoder, tmp_path: Path, reused: bool
) -> None:
    def training(resume: bool, decoder: Decoder | None) -> DmpoTraining:
        network = intention_dmpo.Intention(decoder)
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
        intention_dmpo.Intention().policy(task, {"task/goal": slice(0, 3)}, quick())
    with pytest.raises(ValueError, match="needs `normalise`"):
        intention_dmpo.Intention().policy(task, {}, quick(normalise=False))


def test_a_state_has_its_decoder(training: ppo.Training, decoder: Decoder) -> None:
    acting = acting_state(training.state, training.network.about())
    assert decoder_of(acting, {}).digest == decoder.digest


def test_a_run_has_options_of_its_task(tmp_path: Path) -> None:
    """It trains on them, its policy is scored on them, and it goes on with no others."""
    names = ["walk", "walk_slow"]

    def run(*more: str) -> click.testing.Result:
        return invoke(ppo_main, "--task", TASK, "--steps", UPDATE, "--network", "intention",
                      "--hyperparams", file, "--out", tmp_path / "run", *more)  # fmt: skip

    file = write_hyperparams(tmp_path, {**TINY, "cloning_steps": 0})
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
    assert "its options: clips is ['walk', 'walk_slow'], not None" in one_line(run("--resume"))
    assert run("--resume", "-o", option).exit_code == 0
    shutil.rmtree(tmp_path / "run")
    assert "an option has the form NAME=VALUE" in one_line(run("-o", "clips"))
    assert "no clips named ['fly']" in one_line(run("-o", "clips=fly"))
    assert "unexpected keyword argument 'impl'" in one_line(run("-o", "impl=jax"))
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


def test_every_task_has_valid_hyperparameters() -> None:
    for task_id in vnl_envs.task_ids():
        d = hyperparameters.load(intention_dmpo.Settings, intention_dmpo.Intention.files, task_id)
        # Rewards are in [0, 1].
        assert d.highest_return == pytest.approx(1 / (1 - d.discount))
    # Not the variants that were trained on.
    for task_id in (i for i in vnl_envs.task_ids() if i.startswith("vnl/")):
        h = hyperparameters.load(ppo.Hyperparameters, Intention.files, task_id)
        # Only imitation has something to clone.
        assert bool(h.cloning_steps) == ("Imitation" in task_id)
