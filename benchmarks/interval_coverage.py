"""Coverage of confidence intervals on simulated data sets.

nice python -m benchmarks.interval_coverage > benchmarks/results/interval_coverage.json

Every scenario draws data sets of n independent units from a distribution of known mean. The output
is the percentage of 95 % intervals that contain the mean; its standard error is 0.5 points for 2000
data sets. The humanoid and the rat have 4 and 10 embedded test clips. For paired tests on equally
good policies, the output is the percentage of p < 0.05.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer
from scipy import stats

from vnl_envs.statistics import across_seeds
from vnl_envs.statistics.intervals import (
    Z,
    bootstrap,
    bootstrap_ratio,
    bootstrap_ratio_difference,
    paired_test,
    percentiles,
    wilson,
)
from vnl_envs.statistics.resampling import RESAMPLES

Draw = Callable[[np.random.Generator, int], dict[str, Any]]
UNIT = (0.0, 1.0)


@dataclass(frozen=True)
class Scenario:
    """Data sets of known mean.

    Attributes:
        kind: "continuous", "bounded" or "clustered".
        draw: function from a generator and the number of units to the arguments of `bootstrap`.
        truth: mean of the distribution.
    """

    kind: str
    draw: Draw
    truth: float


def _plain(
    kind: str, sample: Callable[[np.random.Generator, int], np.ndarray], truth: float
) -> Scenario:
    bounds = UNIT if kind == "bounded" else (-math.inf, math.inf)
    return Scenario(kind, lambda rng, n: {"values": sample(rng, n), "bounds": bounds}, truth)


def _pile(share: float, at: float) -> Scenario:
    """A share of the values at a bound, the others uniform."""
    return _plain(
        "bounded",
        lambda rng, n: np.where(rng.random(n) < share, at, rng.random(n)),
        share * at + (1 - share) / 2,
    )


def _until_failure(p: float) -> Scenario:
    """Gaps cleared of five, each with probability p, until the first failure."""
    return _plain(
        "bounded",
        lambda rng, n: np.minimum(rng.geometric(1 - p, n) - 1, 5) / 5,
        sum(p**k for k in range(1, 6)) / 5,
    )


def _clips(n: int) -> Scenario:
    """Clips of 1 to 8 episodes in five behaviours of unequal difficulty and number."""
    behaviour = np.array([0, 0, 1, 1, 2, 2, 2, 3, 3, 4])[np.arange(n) % 10]
    level = np.array([0.9, 0.7, 0.5, 0.4, 0.1])[behaviour]
    episodes = 1 + 5 * np.arange(n) // 3 % 8
    unit = np.repeat(np.arange(n), episodes)

    def draw(rng: np.random.Generator, n: int) -> dict[str, Any]:
        skill = rng.beta(4 * level, 4 * (1 - level))[unit]
        scores = rng.beta(6 * skill + 0.01, 6 * (1 - skill) + 0.01)
        return {"values": scores, "units": unit, "strata": behaviour[unit], "bounds": UNIT}

    return Scenario("clustered", draw, float(((6 * level[unit] + 0.01) / 6.02).mean()))


LADDER = np.array([0.999, 0.99, 0.97, 0.9, 0.75, 0.5, 0.25, 0.1, 0.02, 0.001])


def _ladder(rng: np.random.Generator, n: int) -> dict[str, Any]:
    """Gaps cleared of five on ten widths, from easy to impossible."""
    width = np.arange(n) % len(LADDER)
    cleared = np.minimum(rng.geometric(1 - LADDER[width]) - 1, 5) / 5
    return {"values": cleared, "strata": width, "bounds": UNIT}


def _ladder_truth(n: int) -> float:
    cleared = LADDER[np.arange(n) % len(LADDER)]
    return float(np.mean([cleared**k for k in range(1, 6)]))


def _few(rng: np.random.Generator, n: int) -> dict[str, Any]:
    """Normal values in strata of two units each."""
    stratum = np.arange(n) // 2
    return {"values": stratum + rng.normal(size=n), "strata": stratum}


def scenarios(n: int) -> dict[str, Scenario]:
    """Scenarios by name. Means of ladders and pairs depend on the number of units."""
    return {
        "normal": _plain("continuous", lambda rng, n: rng.normal(size=n), 0),
        "exponential": _plain("continuous", lambda rng, n: rng.exponential(size=n), 1),
        "lognormal, sigma 0.5": _plain(
            "continuous", lambda rng, n: rng.lognormal(0, 0.5, n), math.exp(0.125)
        ),
        "lognormal, sigma 1": _plain(
            "continuous", lambda rng, n: rng.lognormal(0, 1, n), math.exp(0.5)
        ),
        "beta(5, 2)": _plain("bounded", lambda rng, n: rng.beta(5, 2, n), 5 / 7),
        "beta(0.5, 0.5), u-shaped": _plain("bounded", lambda rng, n: rng.beta(0.5, 0.5, n), 0.5),
        "beta(0.3, 1.5)": _plain("bounded", lambda rng, n: rng.beta(0.3, 1.5, n), 0.3 / 1.8),
        "beta(2, 30)": _plain("bounded", lambda rng, n: rng.beta(2, 30, n), 2 / 32),
        "80 % at 1, else uniform": _pile(0.8, 1),
        "90 % at 1, else uniform": _pile(0.9, 1),
        "80 % at 0, else uniform": _pile(0.8, 0),
        "five gaps, each cleared at 0.5": _until_failure(0.5),
        "five gaps, each cleared at 0.9": _until_failure(0.9),
        "clips of 1 to 8 episodes, 5 strata": _clips(n),
        "ladder of 10 widths": Scenario("clustered", _ladder, _ladder_truth(n)),
        "strata of 2 units": Scenario("clustered", _few, (n // 2 - 1) / 2),
    }


def coverage(scenario: Scenario, n: int, sets: int, seed: int = 0) -> float:
    """Coverage of `bootstrap`, per cent."""
    rng = np.random.default_rng([seed, n])
    return _per_cent(
        _holds(bootstrap(**scenario.draw(rng, n), seed=i), scenario.truth) for i in range(sets)
    )


def candidates(scenario: Scenario, n: int, sets: int) -> dict[str, float]:
    """Coverage of other intervals of plain means, on data sets of the same distribution."""
    rng = np.random.default_rng([0, n])
    values = np.stack([scenario.draw(rng, n)["values"] for _ in range(sets)])
    corrected = []
    for block in np.array_split(values, max(1, sets // 50)):
        # If all values are equal, there is nothing to correct, and SciPy would warn.
        spread = block[np.ptp(block, axis=1) > 0]
        ends = stats.bootstrap(
            (spread,), np.mean, axis=-1, n_resamples=999, method="BCa", rng=rng
        ).confidence_interval
        corrected += list(zip(ends.low, ends.high, strict=True))
        corrected += [(row[0], row[0]) for row in block[np.ptp(block, axis=1) == 0]]
    student = (
        (row.mean() - half, row.mean() + half)
        for row in values
        for half in [stats.t.ppf(0.975, n - 1) * row.std(ddof=1) / math.sqrt(n)]
    )
    return {
        "percentile": _per_cent(
            _holds(_percentile(row, i), scenario.truth) for i, row in enumerate(values)
        ),
        "bca": _per_cent(_holds(ends, scenario.truth) for ends in corrected),
        "student": _per_cent(_holds(ends, scenario.truth) for ends in student),
    }


def _percentile(values: np.ndarray, seed: int) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron and Tibshirani 1993, section 13.3)."""
    draws = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    return percentiles(values[draws].mean(axis=1))


def yes_no(p: float, n: int) -> dict[str, float]:
    """Exact coverage of a proportion's intervals: Wilson's and the normal approximation's."""
    successes = np.arange(n + 1)
    probability = stats.binom.pmf(successes, n, p)
    share = successes / n
    half = Z * np.sqrt(share * (1 - share) / n)
    ends = {
        "wilson": np.array([wilson(int(k), n) for k in successes]).T,
        "normal": (share - half, share + half),
    }
    return {
        name: round(100 * float(probability[(low <= p) & (p <= high)].sum()), 1)
        for name, (low, high) in ends.items()
    }


def simulated_yes_no(p: float, n: int, sets: int, seed: int = 0) -> float:
    """Coverage of `wilson`, per cent."""
    rng = np.random.default_rng([seed, n])
    return _per_cent(_holds(wilson(int(k), n), p) for k in rng.binomial(n, p, sets))


def ratios(n: int, sets: int) -> dict[str, float]:
    """Coverage of a retention's interval, and of the difference of two retentions."""
    rng = np.random.default_rng([1, n])
    top = np.arange(2 * n) < n
    unit = np.tile(np.arange(n), 2)

    def scores(kept: float, skill: np.ndarray) -> np.ndarray:
        level = np.concatenate([kept * skill, skill])
        return rng.beta(6 * level, 6 * (1 - level))

    def independent(kept: float) -> np.ndarray:
        nominal = np.minimum(rng.geometric(0.3, 2 * n) - 1, 5) / 5
        return np.where(top, nominal * (rng.random(2 * n) < kept), nominal)

    same_clips, other_corridors, difference = [], [], []
    for i in range(sets):
        skill = rng.beta(3, 2, n) * 0.98 + 0.01
        a, b = scores(0.8, skill), scores(0.6, skill)
        same_clips.append(_holds(bootstrap_ratio(a, top, unit, seed=i), 0.8))
        difference.append(_holds(bootstrap_ratio_difference(a, b, top, unit, seed=i), 0.2))
        other_corridors.append(_holds(bootstrap_ratio(independent(0.7), top, seed=i), 0.7))
    return {
        "retention, same clips": _per_cent(same_clips),
        "retention, other corridors": _per_cent(other_corridors),
        "difference of two retentions": _per_cent(difference),
    }


def pairs(n: int, sets: int) -> dict[str, dict[str, float]]:
    """For two policies with equal means: how often the interval of their difference contains 0, and
    how often the test rejects equality.
    """
    rng = np.random.default_rng([2, n])

    def alike() -> tuple[np.ndarray, np.ndarray]:
        easy = rng.random(n)
        a, b = (rng.binomial(5, easy) / 5 for _ in range(2))
        return a, b

    def alike_in_mean() -> tuple[np.ndarray, np.ndarray]:
        # One policy always scores half; the other scores all or nothing, rarely all.
        return np.full(n, 0.2), (rng.random(n) < 0.2).astype(float)

    rows = {}
    for name, draw in (("alike", alike), ("alike in the mean only", alike_in_mean)):
        results = [paired_test(*draw(), seed=i) for i in range(sets)]
        rows[name] = {
            "interval": _per_cent(r.low <= 0 <= r.high for r in results),
            "told apart": _per_cent(r.separates for r in results),
        }
    return rows


def training_seeds(count: int, sets: int) -> dict[str, float]:
    """Coverage for six tasks of `count` training seeds each; the truth is from 200 000 seeds."""
    rng = np.random.default_rng([3, count])
    a, b = np.array([2, 4, 1, 8, 3, 6]), np.array([6, 3, 2, 2, 9, 5])

    def runs(number: int) -> np.ndarray:
        return rng.beta(a, b, (number, 6))

    many, other = runs(200_000), runs(200_000) * 0.9
    truths = {
        "iqm": float(stats.trim_mean(many, 0.25, axis=None)),
        "optimality gap": 1 - float(many.mean()),
        "profile at 0.5": float((many > 0.5).mean()),
        "probability of improvement": float((many > other).mean()),
    }
    hits: dict[str, list[bool]] = {name: [] for name in truths}
    for i in range(sets):
        x, y = runs(count), runs(count) * 0.9
        found = {
            "iqm": across_seeds.iqm(x, seed=i),
            "optimality gap": across_seeds.optimality_gap(x, seed=i),
            "profile at 0.5": across_seeds.performance_profile(x, [0.5], seed=i)[0],
            "probability of improvement": across_seeds.probability_of_improvement(x, y, seed=i),
        }
        for name, interval in found.items():
            hits[name].append(_holds(interval[1:], truths[name]))
    return {name: _per_cent(held) for name, held in hits.items()}


def _holds(ends: tuple[float, ...], truth: float) -> bool:
    # A bound equal to the truth counts, with a tolerance for its last digit.
    return ends[0] - 1e-12 <= truth <= ends[1] + 1e-12


def _per_cent(held: Any) -> float:
    return round(100 * float(np.mean(list(held))), 2)


def _means(name: str, n: int, sets: int) -> dict[str, Any]:
    scenario = scenarios(n)[name]
    row = {"scenario": name, "kind": scenario.kind, "units": n}
    row["bootstrap"] = coverage(scenario, n, sets)
    if scenario.kind != "clustered" and n == 50:
        row |= candidates(scenario, n, sets)
    return row


def main(
    sets: Annotated[int, typer.Option(min=1, help="simulated data sets of each kind")] = 2000,
) -> None:
    """Simulate on every core and print the coverages as JSON."""
    sizes = [4, 10, 50, 100]
    shares = (0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.95)
    grid = np.linspace(0.02, 0.98, 961)
    with ProcessPoolExecutor() as pool:
        means = [pool.submit(_means, name, n, sets) for n in sizes for name in scenarios(n)]
        retentions = {n: pool.submit(ratios, n, sets) for n in (10, 50)}
        tests = {n: pool.submit(pairs, n, sets) for n in (10, 50)}
        runs = {count: pool.submit(training_seeds, count, sets) for count in (5, 10, 20)}
        report = {
            "data_sets": sets,
            "means": [job.result() for job in means],
            "yes_no": [
                {"p": p, "units": n, "simulated": simulated_yes_no(p, n, sets), **yes_no(p, n)}
                for n in sizes
                for p in shares
            ],
            "yes_no_mean_over_p": {
                n: round(float(np.mean([yes_no(float(p), n)["wilson"] for p in grid])), 2)
                for n in sizes
            },
            "ratios": {n: job.result() for n, job in retentions.items()},
            "pairs": {n: job.result() for n, job in tests.items()},
            "training_seeds": {count: job.result() for count, job in runs.items()},
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    typer.run(main)
