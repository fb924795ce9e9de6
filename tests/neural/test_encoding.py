"""Encoding models and geometry against oracles; folds that do not leak; intervals that hold."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from vnl_envs.neural import encoding, probes, similarity
from vnl_envs.neural.design import Layout, components
from vnl_envs.neural.errors import NeuralError
from vnl_envs.neural.estimates import Figure, pooled, ratio_mean

LAYOUT = Layout(bins=1200, block=60, gap=6, folds=4, lags=(-2, 0, 2))


def population(
    seed: int, n: int = 800, p: int = 6, units: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    return x, rng.poisson(np.exp(x @ rng.normal(size=(p, units)) * 0.3 - 0.5)).astype(float)


def test_poisson_regression_agrees_with_nemos() -> None:
    """And, without a penalty, with statsmodels; each neuron has a penalty of its own."""
    glm = pytest.importorskip("nemos.glm")
    jax = pytest.importorskip("jax")
    statsmodels = pytest.importorskip("statsmodels.api")
    x, y = population(0)
    strength = np.array([0.01, 0.3, 1e-9])
    coef, intercept = encoding.poisson(x, y, strength)
    with jax.enable_x64(True):
        for i, alpha in enumerate(strength):
            oracle = glm.GLM(
                regularizer="Ridge", regularizer_strength=alpha, solver_kwargs={"tol": 1e-12}
            ).fit(x, y[:, i])
            np.testing.assert_allclose(coef[:, i], oracle.coef_, atol=1e-5)
            assert intercept[i] == pytest.approx(float(oracle.intercept_[0]), abs=1e-5)
    oracle = statsmodels.GLM(
        y[:, 2], statsmodels.add_constant(x), family=statsmodels.families.Poisson()
    )
    np.testing.assert_allclose([intercept[2], *coef[:, 2]], oracle.fit().params, atol=1e-5)


def test_ridge_regression_agrees_with_statsmodels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The penalty is chosen on the inner split and the fit is on all of the training rows."""
    statsmodels = pytest.importorskip("statsmodels.api")
    x, y = population(1, 1200)
    train, _ = LAYOUT.split(0)
    fit, choose = LAYOUT.inner(0)
    alphas = (1.0, 100.0, 1e4)
    monkeypatch.setattr(encoding, "ALPHAS", alphas)
    predicted = encoding.ridge(x, y, train, fit, choose)

    def oracle(rows: np.ndarray, i: int, alpha: float) -> np.ndarray:
        mean, centre = x[rows].mean(axis=0), y[rows, i].mean()
        model = statsmodels.OLS(y[rows, i] - centre, x[rows] - mean)
        # Its penalty is of means, not of sums.
        weights = model.fit_regularized(alpha=alpha / rows.sum(), L1_wt=0).params
        return (x - mean) @ weights + centre

    for i in range(3):
        errors = [np.square((oracle(fit, i, a) - y[:, i])[choose]).sum() for a in alphas]
        expected = oracle(train, i, alphas[int(np.argmin(errors))])
        np.testing.assert_allclose(predicted[:, i], expected, atol=1e-6)


@pytest.mark.parametrize("fold", range(4))
def test_folds_do_not_touch(fold: int) -> None:
    """What is trained on, lags included, is farther from what is held out than the gap."""
    train, test = LAYOUT.split(fold)
    fit, choose = LAYOUT.inner(fold)
    assert not (fit & ~train).any()
    assert not (choose & ~train).any()
    for one, other in ((train, test), (fit, choose), (fit, test), (choose, test)):
        apart = np.abs(np.subtract.outer(np.flatnonzero(one), np.flatnonzero(other)))
        assert apart.min() > LAYOUT.gap
    assert sum(LAYOUT.split(f)[1] for f in range(4)).tolist() == [1] * 1200


def test_lags_and_masks() -> None:
    """Column k of lag l at bin t is the component at t + l; bins beside a masked one are out."""
    design = LAYOUT.design(np.arange(1200.0)[:, None])
    np.testing.assert_array_equal(design[100], [98, 100, 102])
    usable = np.ones(1200, bool)
    usable[500] = False
    assert np.flatnonzero(~LAYOUT.lagged(usable)).tolist() == [0, 1, 498, 500, 502, 1198, 1199]


def test_components_are_those_of_the_training_rows() -> None:
    """Held-out rows change nothing but their own scores."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 8)) @ rng.normal(size=(8, 8))
    rows = np.arange(300) < 200
    before = components(features, rows, 3)
    np.testing.assert_allclose(np.cov(before[rows].T, bias=True), np.eye(3), atol=1e-9)
    features[250:] = 100.0
    np.testing.assert_array_equal(components(features, rows, 3)[:250], before[:250])


def test_layouts_that_cannot_be() -> None:
    for wrong, words in (
        ({"block": 400}, "need at least 8 blocks"),
        ({"gap": 31}, "shorter than half a block"),
        ({"lags": (-9,)}, "as long as the longest lag"),
    ):
        with pytest.raises(NeuralError, match=words):
            Layout(**{**vars(LAYOUT), **wrong})


def test_bits_per_spike() -> None:
    """A known rate gains what it should; features of nothing gain nothing."""
    rng = np.random.default_rng(0)
    # Slow, as behaviour is.
    drive = np.convolve(rng.normal(size=1229), np.ones(30) / 30**0.5, "valid")
    features = np.stack([drive, *rng.normal(size=(3, 1200))], axis=1)
    rate = np.exp(0.6 * drive - 0.2)
    spikes = rng.poisson(np.stack([rate, np.full(1200, rate.mean())], axis=1)).astype(float)
    usable = LAYOUT.lagged(np.ones(1200, bool))
    sums = [encoding.fold_sums(features, spikes, LAYOUT, usable, f, 4) for f in range(4)]
    gain = sum(s["glm_gain"] for s in sums)
    block = LAYOUT.block_of[usable]
    counts = encoding.by_block(spikes[usable], block, LAYOUT.blocks)
    bits = gain.sum(axis=1) / math.log(2) / counts.sum(axis=1)
    mean = rate[usable].mean()
    best = (spikes[usable, 0] * np.log(rate[usable] / mean) - rate[usable] + mean).sum()
    assert bits[0] == pytest.approx(best / math.log(2) / counts[0].sum(), rel=0.15)
    assert abs(bits[1]) < 0.01
    r2 = sum(s["ridge_gain"] for s in sums).sum(axis=1)
    assert r2[0] > 0
    deviance = 2 * gain.sum(axis=1) / sum(s["glm_null"] for s in sums).sum(axis=1)
    assert 0 < deviance[0] < 1


def test_distances_by_hand() -> None:
    """Crossnobis: products of differences in one group of blocks and in all others."""
    pytest.importorskip("rsatoolbox")
    rng = np.random.default_rng(0)
    block = np.repeat(np.arange(8), 60)
    label = np.tile(np.repeat(np.arange(3), 20), 8)
    activity = rng.normal(size=(3, 5))[label] + rng.normal(size=(480, 5))
    patterns = similarity.Patterns(activity, label, block, 8)
    found = patterns.distances(np.ones(8))
    group = block % similarity.GROUPS
    rest = activity - np.stack([activity[label == k].mean(axis=0) for k in range(3)])[label]
    covariance = rest.T @ rest / 480
    noise = 0.9 * covariance + 0.1 * np.diag(np.diag(covariance))
    precision = np.linalg.inv(noise + 1e-6 * np.trace(noise) / 5 * np.eye(5))
    expected = []
    for i, j in itertools.combinations(range(3), 2):
        products = []
        for g in range(similarity.GROUPS):
            inside = [activity[(label == k) & (group == g)].mean(axis=0) for k in (i, j)]
            # Groups count alike.
            outside = [
                np.mean([activity[(label == k) & (group == h)].mean(axis=0)
                         for h in range(similarity.GROUPS) if h != g], axis=0)
                for k in (i, j)
            ]  # fmt: skip
            products.append((inside[0] - inside[1]) @ precision @ (outside[0] - outside[1]) / 5)
        expected.append(np.mean(products))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_whitened_cosine_by_hand() -> None:
    """Of three behaviours: distances whitened by the covariance that noise gives them."""
    pytest.importorskip("rsatoolbox")
    one, other = np.array([1.0, 2.0, 4.0]), np.array([2.0, 1.0, 3.0])
    contrast = np.array([[1, -1, 0], [1, 0, -1], [0, 1, -1]], float)
    covariance = (contrast @ contrast.T) ** 2
    a, b = np.linalg.solve(covariance, np.stack([one, other], axis=1)).T
    expected = one @ b / math.sqrt((one @ a) * (other @ b))
    assert similarity.whitened_cosine(one, other) == pytest.approx(expected, rel=1e-6)


def test_the_same_geometry_reaches_its_ceiling() -> None:
    """Channels of one code are alike; of another, they are not."""
    pytest.importorskip("rsatoolbox")
    rng = np.random.default_rng(0)
    block, label = np.repeat(np.arange(16), 40), np.tile(np.repeat(np.arange(4), 10), 16)
    code, different = rng.normal(size=(2, 4, 3))
    made = [c[label] @ rng.normal(size=(3, 6)) for c in (code, code, different)]
    neurons, same, other = (
        similarity.Patterns(m + rng.normal(size=m.shape), label, block, 16) for m in made
    )
    whole = np.ones(16)
    alike = [
        similarity.whitened_cosine(neurons.distances(whole), m.distances(whole))
        for m in (same, other)
    ]
    assert alike[0] > alike[1]
    top = similarity.ceiling(neurons, 16, 0)
    assert 0.8 < top["split_half"] < top["ceiling"] <= 1


def test_behaviours_are_read_out() -> None:
    """From features that tell them, and not from others."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 3, 60), 20)
    usable = LAYOUT.lagged(np.ones(1200, bool))
    known = probes.classes(labels, LAYOUT, usable)
    assert known == [0, 1, 2]
    share = []
    for features in (np.eye(3)[labels] + 0.3 * rng.normal(size=(1200, 3)),
                     rng.normal(size=(1200, 3))):  # fmt: skip
        sums = [probes.fold_sums(features, labels, known, LAYOUT, usable, f, 3) for f in range(4)]
        right, every = (sum(s[k] for s in sums) for k in ("probe_right", "probe_all"))
        share.append(ratio_mean(right, every, "s").value)
    assert share[0] > 0.9
    assert share[1] < 0.5


def test_intervals_of_ratios_hold() -> None:
    """In 95 % of simulated sessions of unequal blocks, whose blocks are independent."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        scale = rng.gamma(4, 5, (3, 40))
        gain = scale * (0.1 + 0.3 * rng.normal(size=40) + 0.1 * rng.normal(size=(3, 40)))
        low, high = ratio_mean(gain, scale, "s").interval()
        held += low <= 0.1 <= high
    assert 0.9 <= held / 200 <= 0.985


def test_intervals_of_useless_features_hold() -> None:
    """Folds share models and training data: without that, a quarter of the intervals misses 0."""
    layout = Layout(bins=360, block=20, gap=4, folds=3, lags=(0,))
    usable, held, narrow = np.ones(360, bool), 0, 0
    rng = np.random.default_rng(0)
    for _ in range(60):
        spikes = rng.poisson(1.0, (360, 3)).astype(float)
        figures = []
        for _ in range(2):
            x = rng.normal(size=(360, 8))
            sums = [encoding.ridge_sums(x, spikes, layout, usable, fold) for fold in range(3)]
            gain, null = (sum(s[k] for s in sums) for k in ("ridge_gain", "ridge_null"))
            figures.append(ratio_mean(gain, null, "s", layout.folds))
        apart = figures[0].less(figures[1])
        low, high = apart.interval()
        held += low <= 0 <= high
        low, high = dataclasses.replace(apart, folds=None).interval()
        narrow += low <= 0 <= high
    print(held, narrow)
    assert held >= 54 > narrow


def test_a_share_has_an_interval_within_its_bounds() -> None:
    """Few blocks make studentised intervals wide; a difference has no such bounds."""
    right = np.array([[0.4, 1, 1, 1, 1, 0.9]])
    share = ratio_mean(right, np.ones_like(right), "s", 2)
    assert share.interval()[1] > 1
    bounded = dataclasses.replace(share, bounds=(0, 1))
    assert bounded.interval()[1] == 1
    assert bounded.less(bounded).bounds != (0, 1)


def test_figures_of_several_sessions() -> None:
    """Sessions count by their neurons; the difference of a figure and itself is nothing."""
    rng = np.random.default_rng(0)
    figures = [
        ratio_mean(rng.normal(size=(n, 20)) + n, np.ones((n, 20)), f"s{n}") for n in (1, 2, 3)
    ]
    both = pooled([(f, n) for f, n in zip(figures, (1, 2, 3), strict=True)])
    expected = sum(f.value * n for f, n in zip(figures, (1, 2, 3), strict=True)) / 6
    assert both.value == pytest.approx(expected)
    assert both.parts.mean() == pytest.approx(expected)
    nothing = both.less(both)
    assert nothing.value == 0 == nothing.interval()[0]
    assert isinstance(both, Figure)
