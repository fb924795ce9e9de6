"""Units of a network along a session: named, masked, resumed, with an untrained control."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from vnl_envs.cli.main import app
from vnl_envs.neural import activity
from vnl_envs.neural.activity import opened_activity
from vnl_envs.neural.policies import ExposedProcess, expose
from vnl_envs.neural.record import record
from vnl_envs.sandbox.inside.expose import layers_of

POLICY = Path(__file__).parents[2] / "baselines/checkpoints/ppo_intention/RodentImitation-v0.onnx"


def test_names_of_the_layers() -> None:
    """Encoder, latent and decoder are told apart in a file whose tensors have numbers."""
    named = layers_of(onnx.load(POLICY))
    assert list(named) == [
        "encoder/0", "encoder/1", "latent", "decoder/0", "decoder/1", "action",
    ]  # fmt: skip


def test_what_is_told_is_what_the_network_computes() -> None:
    """Against a forward pass by hand; the untrained one has other weights and the same shape."""
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(POLICY).graph.initializer}
    noise = np.random.default_rng(0).normal(size=851)
    observation = (weights["1_0"] + weights["2_0"] * noise).astype(np.float32)
    x = (observation.astype(float) - weights["1_0"]) / weights["2_0"]
    x = np.clip(x, weights["3_0"], weights["3_1"])
    first = np.tanh(weights["5_0"] @ x + weights["5_1"])
    second = np.tanh(weights["7_0"] @ first + weights["7_1"])
    latent = weights["9_0"] @ second + weights["9_1"]
    policy = expose(POLICY, ["encoder/*", "latent"])
    assert policy.layers == (("encoder/0", 256), ("encoder/1", 256), ("latent", 60), ("action", 38))
    with ExposedProcess(policy, "p") as teller:
        teller.reset()
        action, units = teller(observation)
    np.testing.assert_allclose(units[:572], [*first, *second, *latent], atol=1e-4)
    np.testing.assert_array_equal(units[572:], action)
    with ExposedProcess(expose(POLICY, ["encoder/0"], untrained=0), "p") as teller:
        teller.reset()
        drawn = teller(observation)[1][:256]
    assert np.corrcoef(drawn, first)[0, 1] < 0.5
    assert 0.5 < np.arctanh(np.clip(drawn, -0.999, 0.999)).std() < 2


def test_layers_keep_the_networks_order(tmp_path: Path) -> None:
    """From the observation to the action, also where names sort otherwise."""
    layers = (("encoder/0", 3), ("latent", 2), ("decoder/0", 3), ("action", 1))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        activity.create(file, "s")
        activity.add_policy(file, "p", 5, layers, {"untrained": -1})
    with opened_activity(tmp_path / "a.h5") as found:
        assert tuple(found.policies["p"].layers.items()) == layers


def test_record(session_file: Path, tmp_path: Path) -> None:
    """The same bytes for any number of workers; frames of falls are masked."""
    out = tmp_path / "a.h5"
    shares = record(session_file, {"p": POLICY}, out, ["latent"])
    record(session_file, {"p": POLICY}, tmp_path / "b.h5", ["latent"], workers=2)
    assert out.read_bytes() == (tmp_path / "b.h5").read_bytes()
    with opened_activity(out) as found:
        usable, latent = found.usable("p"), found.read("p", "latent", 0, 600)
        other = found.read("p-untrained", "latent", 0, 600)
        assert not found.policies["p"].untrained
        assert found.policies["p-untrained"].untrained
    assert shares["p"] == usable.mean() > 0.5
    # A pose without the frames that are observed ahead has no activity.
    assert usable[:590].any()
    assert not usable[-1]
    assert latent[usable].std(axis=0).min() > 0
    assert np.abs(latent - other)[usable].mean() > 0.1


BAD = {
    "no/such": ("has no units", ["--units", "no/such", "--policy", str(POLICY)]),
    "two": ("again", ["--policy", str(POLICY), "--policy", str(POLICY)]),
    "none": ("no policy", ["--policy", "nowhere.onnx"]),
    "other": ("maps", ["--policy", str(POLICY.with_name("HumanoidImitation-v0.onnx"))]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_policies(session_file: Path, tmp_path: Path, name: str) -> None:
    """One line, nothing half-written."""
    words, arguments = BAD[name]
    result = CliRunner().invoke(
        app, ["neural", "record", str(session_file), *arguments, "--out", str(tmp_path / "a.h5")]
    )
    assert result.exit_code == 2
    assert words in result.stderr
    assert not list(tmp_path.iterdir())
