"""Comparisons, rank groups and the algorithm board, on results made up for a small suite."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from results import Maker, make_anchors, make_result, small_suite
from rich.console import Console
from typer.testing import CliRunner

from vnl_envs.cli.score import app
from vnl_envs.problems import Code, ScoringError, problem
from vnl_envs.scoring.board import printed
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.documents.schema.board import Anchors
from vnl_envs.scoring.documents.schema.result import Result
from vnl_envs.scoring.documents.schema.suite import Suite
from vnl_envs.scoring.results.compare import algorithm_board, compare, rank_groups
from vnl_envs.scoring.results.files import write_result
from vnl_envs.scoring.results.scores import aggregate
from vnl_envs.statistics import across_seeds

CLIPS, WIDTHS = [f"c{i}" for i in range(12)], [0.1, 0.2, 0.3]
TASKS = ("vnl/RodentImitation-v0", "vnl/RodentJumpGap-v0")


def _cells(task: str, few: bool) -> list[dict[str, object]]:
    common = {"options": {}, "env_hash": "x", "counted": True}
    if task == TASKS[0]:
        rows = [{"id": c, "episodes": 2, "stratum": "walk", "unit": c} for c in CLIPS]
        rows.append({"id": "train", "episodes": 5, "stratum": "walk", "unit": "train"})
    else:
        rows = [
            {"id": f"w-{w}", "episodes": 20, "stratum": str(w), "unit": None}
            for w in WIDTHS[: 2 if few else 3]
        ]
    return [common | row | ({"counted": False} if row["id"] == "train" else {}) for row in rows]


def _suite() -> Suite:
    primary = {"metric": "m", "form": "capped", "cap": 5.0, "name": "n", "unit": "1",
               "formula": "f", "ceiling": 1.0}  # fmt: skip
    tasks = [
        {"id": task, "observation": 3, "action": 2, "primary": primary,
         "tiers": {"nominal": _cells(task, False), "pushes": _cells(task, True)}}
        for task in TASKS
    ]  # fmt: skip
    return Suite.model_validate(
        {"schema_version": 1, "name": "tiny", "description": "d", "pins": {}, "dev_key": "0" * 64,
         "tiers": {"nominal": "n", "pushes": "p"}, "tasks": tasks}
    )  # fmt: skip


SUITE = _suite()
RANDOM = 0.2


def _estimate(value: float) -> dict[str, object]:
    return {"value": value, "low": value, "high": value, "units": 1}


ANCHORS = Anchors.model_validate(
    {"schema_version": 1, "suite": {"name": "tiny", "sha256": SUITE.sha256}, "policy": "random",
     "tasks": {task: {"primary": _estimate(RANDOM), "tiers": {}} for task in TASKS}}
)  # fmt: skip


def _result(
    name: str = "a",
    skill: float = 0.5,
    noise: int = 0,
    kept: float = 1.0,
    seed: int = 0,
    algorithm: str = "PPO",
    **changes: object,
) -> Result:
    """Scores around `skill`, drawn by `noise`; times `kept` in the other tier."""
    rng = np.random.default_rng(noise)
    rows = []
    for spec in SUITE.specs:
        score = float(np.clip(skill + rng.normal() / 10, 0, 1))
        rows.append(
            {"id": spec.id, "end": "truncated", "reason": None, "steps": 1, "clipped": 0,
             "score": score * (1 if spec.tier == "nominal" else kept), "metrics": {}}
        )  # fmt: skip
    normalised = (skill - RANDOM) / (1 - RANDOM)
    tier = {"primary": _estimate(skill), "normalised": _estimate(normalised), "aggregates": {},
            "metrics": {}, "strata": {}, "episodes": 1, "failed": {}}  # fmt: skip
    training = {"algorithm": algorithm, "env_steps": 1, "backend": "b", "hardware": "h",
                "seeds": [seed]}  # fmt: skip
    policy = {"sha256": "0" * 64, "parameters": 1, "training": training}
    return Result.model_validate(
        {"schema_version": 1, "suite": {"name": "tiny", "sha256": SUITE.sha256}, "split": "dev",
         "season": None, "engine": "native", "stamps": {}, "isolated": True, "episodes": rows,
         "entrant": {"identity": "reference:zero", "name": name, "authors": ["x"], "licence": "MIT",
                     "date": "2026-01-01", "description": "",
                     "policies": dict.fromkeys(TASKS, policy)},
         "tasks": {task: {"tiers": {"nominal": tier}, "uncounted": None}
                   for task in TASKS},
         "overall": _estimate(normalised), "complete": True} | changes
    )  # fmt: skip


def test_compare() -> None:
    """Differences of tasks in natural units, overall in normalised ones, and of retentions."""
    better, worse = _result("a", 0.7, noise=1), _result("b", 0.5, noise=2, kept=0.5)
    found = compare(better, worse, SUITE, ANCHORS)
    assert (found.a, found.b) == ("a", "b")
    assert found.overall.separates
    for row in found.tasks.values():
        assert row.primary.difference == pytest.approx(row.a - row.b)
        assert row.primary.low < 0.2 < row.primary.high
        kept = row.aggregates["retention"]["pushes"]
        assert kept is not None
        assert kept.low < 0.5 < kept.high
    mean = np.mean([row.primary.difference for row in found.tasks.values()])
    assert found.overall.difference == pytest.approx(mean / (1 - RANDOM))
    assert found == compare(better, worse, SUITE, ANCHORS)
    same = compare(better, better, SUITE, ANCHORS)
    assert (same.overall.difference, same.overall.p) == (0, 1)


def test_agrees_with_the_results() -> None:
    """Differences are those of the scores that results publish."""
    a, b = _result("a", 0.7, noise=1), _result("b", 0.5, noise=2, kept=0.5)
    found = compare(a, b, SUITE, ANCHORS)
    (a_tasks, a_overall), (b_tasks, b_overall) = (
        aggregate(SUITE, ANCHORS, result.episodes) for result in (a, b)
    )
    assert a_overall.value is not None
    assert b_overall.value is not None
    assert found.overall.difference == pytest.approx(a_overall.value - b_overall.value)
    for task, row in found.tasks.items():
        tiers = a_tasks[task].tiers, b_tasks[task].tiers
        assert [row.a, row.b] == pytest.approx([t["nominal"].primary.value for t in tiers])
        kept = [t["pushes"].aggregates["retention"] for t in tiers]
        published = [k.value for k in kept if k is not None and k.value is not None]
        difference = row.aggregates["retention"]["pushes"]
        assert difference is not None
        assert difference.difference == pytest.approx(published[0] - published[1])


def test_training_clips_do_not_count() -> None:
    """What a policy scores on cells that do not count changes nothing."""
    a, b = _result(noise=1), _result(noise=2)
    cheated = a.model_copy(
        update={
            "episodes": [
                e.model_copy(update={"score": 1.0}) if "/train/" in e.id else e for e in a.episodes
            ]
        }
    )
    assert cheated != a
    assert compare(cheated, b, SUITE, ANCHORS) == compare(a, b, SUITE, ANCHORS)


def test_nothing_to_keep() -> None:
    """No retention of a policy that scores nothing."""
    zero = _result(skill=-9)
    assert compare(zero, _result(), SUITE, ANCHORS).tasks[TASKS[0]].aggregates == {
        "retention": {"pushes": None}
    }


def test_one_unit_has_no_interval() -> None:
    """Neither in JSON, which knows no NaN, nor in the tables."""
    document = SUITE.model_dump(mode="json")
    for cells in document["tasks"][0]["tiers"].values():
        for cell in cells:
            cell["unit"] = "c0"
    suite = Suite.model_validate(document)
    stamp = {"name": "tiny", "sha256": suite.sha256}
    a, b = (_result(name, skill, suite=stamp) for name, skill in (("a", 0.5), ("b", 0.3)))
    found = compare(a, b, suite, ANCHORS)
    told = json.loads(json.dumps(found.record(), allow_nan=False))["tasks"][TASKS[0]]
    assert told["primary"]["difference"] == pytest.approx(0.2)
    assert told["primary"]["low"] is None
    assert told["aggregates"]["retention"]["pushes"]["high"] is None
    out = StringIO()
    Console(file=out, width=110).print(printed.differences(found, 0.5, 0.3))
    Console(file=out, width=110).print(*printed.aggregates(found))
    assert "+0.200" in out.getvalue()
    assert "nan" not in out.getvalue()


def test_rank_groups() -> None:
    """The like share a rank; one that beats nobody beaten ranks below; incomplete has none."""
    skills = [0.5, 0.9, 0.5, 0.9, 0.2]
    results = [_result(str(i), skill, noise=i) for i, skill in enumerate(skills)]
    results.append(_result("part", 0.95, complete=False))
    ranks = rank_groups(results, SUITE, ANCHORS)
    assert ranks == [3, 1, 3, 1, 5, None]
    order = np.random.default_rng(0).permutation(len(results))
    shuffled = rank_groups([results[i] for i in order], SUITE, ANCHORS)
    assert shuffled == [ranks[i] for i in order]


def test_ranks_follow_scores() -> None:
    """Of a chain of neighbours that no test separates, ranks still never improve downwards."""
    results = [_result(str(i), 0.5 + 0.012 * i, noise=i) for i in range(8)]
    ranks = rank_groups(results, SUITE, ANCHORS)
    assert ranks[-1] == 1
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] > 1


def test_cannot_be_compared() -> None:
    """Another suite, other seeds, missing episodes: every problem in one pass."""
    a = _result()
    other = a.model_copy(update={"suite": a.suite.model_copy(update={"sha256": "1" * 64})})
    season = _result("s", split="test", season="2" * 64)
    short = a.model_copy(update={"episodes": a.episodes[3:]})
    with pytest.raises(ScoringError) as caught:
        rank_groups([a, other, season, short], SUITE, ANCHORS)
    assert [p.code for p in caught.value.problems] == [Code.VERSION] * 2 + [Code.INCOMPLETE]
    assert "3 of" in caught.value.problems[2].message


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table for people, the same as JSON, and what is wrong in a line."""
    suite = small_suite()
    monkeypatch.setattr(suites, "load_suite", lambda name: suite)
    monkeypatch.setattr(suites, "load_anchors", lambda of, source: make_anchors(suite))
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    write_result(a, make_result(suite, Maker("first [bold]", 0.7)))
    second = make_result(suite, Maker("second", 0.5))
    write_result(b, second)
    shown = CliRunner().invoke(app, ["compare", str(a), str(b)])
    assert shown.exit_code == 0, shown.output
    for text in ("first [bold]", "A better", "pushes", "overall, normalised"):
        assert text in shown.output
    record = json.loads(CliRunner().invoke(app, ["compare", str(a), str(b), "--json"]).output)
    assert record["ok"]
    assert set(record["tasks"]) == {task.id for task in suite.tasks}
    season = {"split": "test", "season": "2" * 64}
    write_result(b, second.model_copy(update=season))
    refused = CliRunner().invoke(app, ["compare", str(a), str(b), "--json"])
    assert refused.exit_code == Code.VERSION
    assert json.loads(refused.output)["problems"][0]["code"] == "version"


def test_algorithm_board() -> None:
    """Five seeds or none; another algorithm's runs are beaten as often as they are."""
    good = [_result(skill=0.7, seed=i, algorithm="A") for i in range(5)]
    bad = [_result(skill=0.4, seed=i, algorithm="B") for i in range(6)]
    few = [_result(skill=0.9, seed=i % 4, algorithm="C") for i in range(9)]
    part = [_result(seed=i, algorithm="D", complete=False) for i in range(9)]
    board, refused = algorithm_board(good + bad + few + part, SUITE)
    assert [(row.name, row.runs) for row in board] == [("A", 5), ("B", 6)]
    assert refused == {"C": "needs 5 different training seeds, has 4"}
    assert board[0].iqm.value == pytest.approx(0.625)
    assert board[0].optimality_gap.value == pytest.approx(0.375)
    assert board[0].improvement["B"] == (1, 1, 1)
    assert board[0].profile[0].value == 1


def test_aggregates() -> None:
    """SciPy's trimmed mean and U statistic; intervals around them; too few seeds refused."""
    from scipy import stats

    rng = np.random.default_rng(0)
    a, b = rng.random((7, 3)), rng.random((5, 3)).round(1)
    assert across_seeds.iqm(a).value == pytest.approx(stats.trim_mean(a, 0.25, axis=None))
    u = np.mean([stats.mannwhitneyu(a[:, t], b[:, t]).statistic / 35 for t in range(3)])
    improvement = across_seeds.probability_of_improvement(a, b)
    assert improvement.value == pytest.approx(u)
    opposite = across_seeds.probability_of_improvement(b, a)
    assert opposite.value == pytest.approx(1 - improvement.value)
    gap = across_seeds.optimality_gap(2 * a)
    assert gap.value == pytest.approx(1 - np.minimum(2 * a, 1).mean())
    profile = across_seeds.performance_profile(a, [0.2, 0.5, 0.8])
    assert [p.value for p in profile] == [(a > t).mean() for t in (0.2, 0.5, 0.8)]
    for figure in (across_seeds.iqm(a), improvement, gap, *profile):
        assert figure.low <= figure.value <= figure.high
    with pytest.raises(ValueError, match="scores must have at least 5 training seeds, got 4"):
        across_seeds.iqm(a[:4])
    with pytest.raises(ValueError, match="same tasks, got 3 and 2"):
        across_seeds.probability_of_improvement(a, b[:, :2])
    with pytest.raises(ValueError, match="finite numbers of shape"):
        across_seeds.iqm([[np.nan]] * 5)


def test_an_error_of_thousands_of_problems_is_a_few_lines() -> None:
    """All problems stay in the list; the message names the first ones and counts the others."""
    error = ScoringError([problem(Code.SCHEMA, f"episode {i}", "is wrong").problems[0]
                          for i in range(3000)])  # fmt: skip
    assert len(error.problems) == 3000
    assert str(error).startswith("episode 0: is wrong; episode 1: ")
    assert str(error).endswith("episode 19: is wrong; and 2980 more")
