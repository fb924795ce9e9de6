"""Intervals: against SciPy, their invariances, their errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks import interval_coverage
from vnl_envs.statistics import intervals
from vnl_envs.statistics.intervals import bootstrap, bootstrap_ratio, wilson
from vnl_envs.statistics.resampling import resamples


def _data(seed: int, units: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, units and strata of an unbalanced sample."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, units)
    unit = np.repeat(np.arange(units), sizes)
    values = rng.exponential(size=units)[unit] + rng.normal(size=len(unit)) / 4
    return values, unit, np.array(["rat", "mouse", "vole"])[unit % 3]


def test_studentised_against_closed_form() -> None:
    """Of normal values, Student's interval, to resampling noise."""
    for seed in range(5):
        values = np.random.default_rng(seed).normal(3, 2, 400)
        theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        np.testing.assert_allclose(bootstrap(values), theirs, atol=0.06 * (theirs[1] - theirs[0]))


def test_resamples_against_scipy() -> None:
    """Percentiles of resampled means are SciPy's interval."""
    values = np.random.default_rng(1).exponential(size=60)
    low, high = intervals.percentiles(resamples(np.arange(60)) @ values / 60)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile",
                             rng=0).confidence_interval  # fmt: skip
    np.testing.assert_allclose((low, high), theirs, atol=0.06 * (theirs.high - theirs.low))


def test_whole_units_within_strata() -> None:
    """Episodes of a unit come together; every stratum keeps its number of units."""
    _, unit, stratum = _data(0)
    counts = resamples(unit, stratum)
    first = np.unique(unit, return_index=True)[1]
    assert (counts == counts[:, first][:, unit]).all()
    for name in np.unique(stratum):
        chosen = first[stratum[first] == name]
        assert (counts[:, chosen].sum(axis=1) == len(chosen)).all()


def test_repeating_episodes_of_a_unit_adds_nothing() -> None:
    """Three equal episodes of every clip are no more evidence than one."""
    values = np.random.default_rng(2).normal(size=30)
    many = bootstrap(np.repeat(values, 3), units=np.repeat(np.arange(30), 3))
    np.testing.assert_allclose(many, bootstrap(values), rtol=1e-12)


@given(seed=st.integers(0, 50), shift=st.floats(-1e3, 1e3), scale=st.floats(1e-3, 1e3))
def test_equivariance_and_permutation(seed: int, shift: float, scale: float) -> None:
    """Follows shift and scale; neither the order of episodes nor names of units matter."""
    values, unit, stratum = _data(seed)
    low, high = bootstrap(values, unit, stratum)
    assert low < values.mean() < high
    moved = bootstrap(values * scale + shift, unit, stratum)
    span = scale * (high - low)
    # Sums of the units' own rounding may swap nearly equal units.
    np.testing.assert_allclose(moved, (low * scale + shift, high * scale + shift), atol=0.05 * span)
    order = np.random.default_rng(seed).permutation(len(values))
    renamed = (unit * 7919) % 1009
    other = bootstrap(values[order], renamed[order], stratum[order])
    np.testing.assert_allclose(other, (low, high), rtol=1e-9)


@given(
    values=st.lists(st.sampled_from([0.0, 0.2, 0.7, 1.0]), min_size=2, max_size=30),
    strata=st.integers(1, 4),
)
def test_within_bounds(values: list[float], strata: int) -> None:
    """Around the mean and within the bounds, whatever the values."""
    low, high = bootstrap(values, strata=np.arange(len(values)) % strata, bounds=(0, 1))
    mean = np.mean(values)
    assert 0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1


def test_all_at_a_bound() -> None:
    """No spread among n units is Wilson's interval, not certainty."""
    assert bootstrap(np.zeros(20), bounds=(0, 1)) == pytest.approx(wilson(0, 20))
    assert bootstrap(np.full(20, 5.0), bounds=(0, 5)) == pytest.approx((5 * wilson(20, 20)[0], 5))
    assert bootstrap(np.zeros(20)) == (0, 0)


def test_yes_or_no_is_a_proportion() -> None:
    """Wilson's interval, unless strata or clips make it something else."""
    values = (np.arange(40) < 31).astype(float)
    assert bootstrap(values, bounds=(0, 1)) == pytest.approx(wilson(31, 40))
    pairs = bootstrap(values, units=np.arange(40) // 2, bounds=(0, 1))
    assert pairs[1] - pairs[0] > 1.2 * (wilson(31, 40)[1] - wilson(31, 40)[0])
    # Every stratum all or nothing: no spread, and no certainty either.
    assert bootstrap(values, strata=values, bounds=(0, 1)) == pytest.approx(wilson(31, 40))


def test_ends() -> None:
    """No values, one unit, repeatable, other seeds."""
    assert np.isnan(bootstrap([])).all()
    assert np.isnan(bootstrap([2.0, 4.0], units=["a", "a"])).all()
    assert np.isnan(bootstrap([1.0], bounds=(0, 1))).all()
    values, unit, stratum = _data(3)
    assert bootstrap(values, unit, stratum) == bootstrap(values, unit, stratum)
    assert bootstrap(values, unit, stratum) != bootstrap(values, unit, stratum, seed=1)


def test_single_units_are_joined() -> None:
    """A stratum of one unit widens the interval as far as it differs from the others."""
    values = np.array([0.0, 0.1, 0.2, 5.0])
    low, high = bootstrap(values, strata=["a", "a", "a", "b"])
    assert high - low > 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": [np.nan]}, "values must be a list of finite numbers"),
        ({"values": [[1.0]]}, "values must be a list of finite numbers"),
        ({"values": [1.0], "units": ["a", "b"]}, "units must have 1 entries"),
        ({"values": [1.0, 2], "units": [0, 0], "strata": [0, 1]}, "strata: all episodes"),
        ({"values": [1.0, 2], "weights": [1.0, 0]}, "weights must be 2 positive"),
        ({"values": [1.0, 2], "bounds": (0, 1)}, "values must lie within"),
    ],
)
def test_errors(arguments: dict[str, object], message: str) -> None:
    """Say what was expected."""
    with pytest.raises(ValueError, match=message):
        bootstrap(**arguments)  # type: ignore[arg-type]


@given(n=st.integers(1, 2000), share=st.floats(0, 1))
def test_wilson_against_scipy(n: int, share: float) -> None:
    """SciPy's interval; monotone in the successes."""
    successes = round(share * n)
    theirs = stats.binomtest(successes, n).proportion_ci(method="wilson")
    low, high = wilson(successes, n)
    np.testing.assert_allclose((low, high), theirs, atol=1e-12)
    assert 0 <= low <= successes / n <= high <= 1
    if successes < n:
        more = wilson(successes + 1, n)
        assert more[0] >= low
        assert more[1] >= high


def test_wilson_errors() -> None:
    """More successes than trials; none of none is unknown."""
    with pytest.raises(ValueError, match="between 0 and n = 3"):
        wilson(4, 3)
    assert np.isnan(wilson(0, 0)).all()


def test_ratio() -> None:
    """What both sides share cancels; without shared units it stays."""
    rng = np.random.default_rng(0)
    base = rng.uniform(1, 3, 60)
    values = np.concatenate([0.8 * base, base])
    top = np.arange(120) < 60
    paired = bootstrap_ratio(values, top, units=np.tile(np.arange(60), 2))
    assert paired == pytest.approx((0.8, 0.8), abs=1e-9)
    low, high = bootstrap_ratio(values, top)
    assert low < 0.8 < high
    assert high - low > 0.05
    assert np.isnan(bootstrap_ratio([1.0, 0], [True, False])).all()
    assert np.isnan(bootstrap_ratio([1.0, 0], [True, True])).all()
    # Of one unit, on both sides or on one, nobody knows the spread.
    assert np.isnan(bootstrap_ratio([1.0, 2], [True, False], units=["a", "a"])).all()
    assert np.isnan(bootstrap_ratio([1.0, 2, 3], [True, False, False])).all()


def test_ratio_difference() -> None:
    """Of two policies alike it is 0; its middle is the difference."""
    rng = np.random.default_rng(0)
    top = np.arange(120) < 60
    a = rng.uniform(1, 2, 120) * np.where(top, 0.9, 1)
    assert intervals.bootstrap_ratio_difference(a, a, top) == pytest.approx((0, 0), abs=1e-9)
    b = rng.uniform(1, 2, 120) * np.where(top, 0.5, 1)
    low, high = intervals.bootstrap_ratio_difference(a, b, top)
    ratios = [x[top].mean() / x[~top].mean() for x in (a, b)]
    assert low < ratios[0] - ratios[1] < high
    assert low > 0


def test_paired_test_against_scipy() -> None:
    """The p-value is SciPy's sign-flip permutation test's; swapping the two mirrors the result."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        a = rng.binomial(5, 0.5, 30) / 5
        b = np.where(rng.random(30) < 0.5, a, rng.binomial(5, 0.4, 30) / 5)
        theirs = stats.permutation_test((a, b), lambda x, y, axis: (x - y).mean(axis=axis),
                                        permutation_type="samples", vectorized=True,
                                        n_resamples=20_000, rng=0)  # fmt: skip
        ours, mirrored = intervals.paired_test(a, b), intervals.paired_test(b, a)
        assert ours.p == pytest.approx(theirs.pvalue, abs=0.02)
        assert ours.difference == pytest.approx(a.mean() - b.mean())
        assert ours.low <= ours.difference <= ours.high
        assert mirrored.difference == pytest.approx(-ours.difference)
        assert mirrored.p == pytest.approx(ours.p, abs=0.02)


def test_paired_test_counts_units() -> None:
    """Five starts of one clip are one piece of evidence."""
    a, b = np.ones(20), np.zeros(20)
    assert intervals.paired_test(a, b).separates
    assert not intervals.paired_test(a, b, units=np.arange(20) % 4).separates
    assert intervals.paired_test(a, a).p == 1
    alone = intervals.paired_test(a, b, units=["a"] * 20)
    assert np.isnan(alone[1:3]).all()
    assert alone.p == 1
    with pytest.raises(ValueError, match="same episodes, got 20 and 2"):
        intervals.paired_test(a, b[:2])
    with pytest.raises(ValueError, match="no shared episodes"):
        intervals.paired_test([], [])


SETS = 2000
"""Data sets per coverage; its standard error is 0.5 %."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "exponential",
        "beta(0.5, 0.5), u-shaped",
        "clips of 1 to 8 episodes, 5 strata",
    ],
)
def test_coverage_of_means(name: str) -> None:
    """95 % intervals of 50 units hold the truth in 93 to 97 % of data sets."""
    scenario = interval_coverage.scenarios(50)[name]
    assert 93 <= interval_coverage.coverage(scenario, 50, SETS, seed=1) <= 97


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.05, 0.2, 0.95])
def test_coverage_of_proportions(p: float) -> None:
    """So do Wilson's, of 50 trials."""
    assert 93 <= interval_coverage.simulated_yes_no(p, 50, SETS, seed=1) <= 97
