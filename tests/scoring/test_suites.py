"""Suites are frozen and current, their episodes have the seeds that the protocol says, and scores
are what the formulas say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from baselines.ppo.variants import variant
from leaderboard.make_suites import FAMILIES, FEWEST_RUNGS, make_suite, tasks_of
from vnl_envs.envs.core import Core
from vnl_envs.evaluation.evaluate import Finished, run_episodes
from vnl_envs.evaluation.policies import Zero, make_policy
from vnl_envs.problems import Code, PolicyError, ScoringError
from vnl_envs.registry import get_row, make_task, task_ids
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.documents.schema.board import Anchor, Anchors
from vnl_envs.scoring.documents.schema.result import EpisodeResult, Estimate, TaskScore
from vnl_envs.scoring.documents.schema.suite import (
    Cell,
    Primary,
    Spec,
    Suite,
    SuiteStamp,
    SuiteTask,
)
from vnl_envs.scoring.documents.schema.text import to_text
from vnl_envs.scoring.results import scores
from vnl_envs.scoring.results.episodes import episode_result, episode_score
from vnl_envs.statistics.intervals import wilson
from vnl_envs.tasks.cells import EachClip, Ladder
from vnl_envs.tasks.metrics import STANDARD

GAPS, GOALS = "vnl/RodentJumpGap-v0", "vnl/RodentGoalReaching-v0"
SUITES = suites.suite_names()
KEY = bytes(range(32))


# Frozen files


@pytest.mark.parametrize("name", SUITES)
def test_the_published_suite_is_what_its_script_makes(name: str) -> None:
    """Byte for byte but for the tasks' hashes, of which the next test computes some."""
    published = suites.load_suite(name)
    remade = make_suite(name, [task.id for task in published.tasks], known=published)
    assert to_text(remade) == suites.packaged("suites", f"{name}.json").read_text()
    assert not suites.version_problems(published)


def test_a_new_version_is_made_of_what_tasks_declare() -> None:
    """Any tasks make a suite, with the cells that a published one has of them."""
    published = suites.load_suite("quick-v2")
    made = make_suite("quick-v9", [GOALS, GAPS], published)
    assert made.tasks == [next(t for t in published.tasks if t.id == id) for id in (GOALS, GAPS)]
    assert made.description.startswith("For trying out: two tasks")
    assert made.dev_key == published.dev_key != suites.load_suite("core-v2").dev_key
    with pytest.raises(ValueError, match="core, quick, wide, bodies"):
        make_suite("mine-v1", [GOALS])


def test_every_task_belongs_to_one_family() -> None:
    """Or to the quick one as well, which is a part of the core; a variant belongs to none."""
    variant(GOALS, {"target_speed": 0.3})
    core, quick, wide = (tasks_of(FAMILIES[name]) for name in ("core", "quick", "wide"))
    assert core == quick == [task.id for task in suites.load_suite("core-v2").tasks]
    assert {*core, *wide} >= {id for id in task_ids() if id.startswith("vnl/")}
    assert not {*core} & {*wide}


@pytest.mark.parametrize("task_id", [id for id in task_ids() if id.startswith("vnl/")])
def test_what_a_task_declares_can_be_scored(task_id: str) -> None:
    """Its primary metric is one of its metrics, and its ladder climbs on an option of its own."""
    row = get_row(task_id)
    task = make_task(task_id).unwrapped
    assert task.primary is not None
    assert task.primary.metric in {metric.name for metric in STANDARD + task.metrics}
    assert (task.primary.cap is None) == (task.primary.form == "per_step")
    if isinstance(task.cells, Ladder):
        assert task.cells.option in task.options
        assert len(row.ladder) >= FEWEST_RUNGS
        assert list(row.ladder) == sorted({*row.ladder})
    if isinstance(task.cells, EachClip):
        assert {"clips", "split"} <= task.options.keys()


@pytest.mark.parametrize("name", SUITES)
def test_tasks_are_those_of_the_published_suite(name: str) -> None:
    """The last cell of every tier of every task has the hash that was published."""
    for task in suites.load_suite(name).tasks:
        for cells in task.tiers.values():
            suites.make_cell(task.id, cells[-1])


@pytest.mark.parametrize("name", SUITES)
def test_published_anchors_are_of_the_published_suite(name: str) -> None:
    """They name its hash, and every task and tier."""
    suite = suites.load_suite(name)
    anchors = suites.load_anchors(suite)
    assert anchors.suite.sha256 == suite.sha256
    tiers = {task: list(anchor.tiers) for task, anchor in anchors.tasks.items()}
    assert tiers == {task.id: list(task.tiers) for task in suite.tasks}


def test_a_suite_survives_its_file() -> None:
    """The text of a suite gives the same suite, hash included."""
    suite = suites.load_suite("quick-v2")
    again = Suite.model_validate_json(to_text(suite))
    assert again == suite
    assert again.sha256 == suite.sha256


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_lists_each_of_its_episodes_once(name: str) -> None:
    """Ids are unique, as many as the cells say, and cells differ by more than their name."""
    suite = suites.load_suite(name)
    specs = suite.specs
    for task in suite.tasks:
        assert list(task.tiers) == list(suite.tiers)
        for cells in task.tiers.values():
            assert len({cell.env_hash for cell in cells}) == len(cells)
    cells = [c for t in suite.tasks for cells in t.tiers.values() for c in cells]
    assert len({spec.id for spec in specs}) == len(specs) == sum(c.episodes for c in cells)


# Errors


def test_another_version_of_a_task_is_refused() -> None:
    """A cell whose hash is not that of the task that is made from it."""
    suite = suites.load_suite("quick-v2")
    cell = suite.tasks[2].tiers["nominal"][0].model_copy(update={"env_hash": "0" * 16})
    with pytest.raises(ScoringError, match="0000000000000000") as error:
        suites.make_cell(suite.tasks[2].id, cell)
    assert error.value.code is Code.VERSION


def test_other_versions_of_packages_are_named() -> None:
    """What is installed in another version, and what is not installed."""
    suite = suites.load_suite("quick-v2")
    pins = {**suite.pins, "mujoco": "1.2.3", "no-such-package": "1.0"}
    problems = suites.version_problems(suite.model_copy(update={"pins": pins}))
    assert [p.where for p in problems] == ["quick-v2: mujoco", "quick-v2: no-such-package"]
    assert {p.code for p in problems} == {Code.VERSION}


def test_unknown_suites_and_broken_files_are_refused(tmp_path: Any) -> None:
    """By name, by path, and with every fault of a document in one pass."""
    with pytest.raises(ScoringError, match="core-v2, quick-v2"):
        suites.load_suite("core-v9")
    with pytest.raises(ScoringError, match="no such suite file"):
        suites.load_suite(tmp_path / "suite.json")
    document = json.loads(to_text(suites.load_suite("quick-v2")))
    document |= {"name": "Not a slug", "extra": 1}
    (tmp_path / "suite.json").write_text(json.dumps(document))
    with pytest.raises(ScoringError) as error:
        suites.load_suite(str(tmp_path / "suite.json"))
    named = [p.message.partition(":")[0] for p in error.value.problems]
    assert named == ["name", "extra"]
    assert error.value.code is Code.SCHEMA


@pytest.mark.parametrize("text", ["", "00" * 31, "0G" * 32, "00" * 33])
def test_a_season_key_is_64_hexadecimal_digits(text: str, tmp_path: Any) -> None:
    """Anything else is refused."""
    (tmp_path / "key").write_text(text)
    with pytest.raises(ScoringError, match="64 hexadecimal digits"):
        suites.read_season_key(tmp_path / "key")


# Seeds


def test_seeds_are_hmac_sha256(tmp_path: Any) -> None:
    """Against `printf … | openssl dgst -sha256 -mac HMAC -macopt hexkey:0001…1f`."""
    (tmp_path / "key").write_text(KEY.hex() + "\n")
    key = suites.read_season_key(tmp_path / "key")
    spec = suites.load_suite("quick-v2").specs[0]
    cell = spec.cell.model_copy(update={"id": "course"})
    own = Spec("vnl/RodentGoalReaching-v0", "nominal", cell, 7, spec.primary)
    digest = "1982055e84a17771cee2321d88ed447f31d8d219b32f981f3dc1ed84d0c3a06c"
    assert own.seed(key).entropy == int(digest, 16)


def test_no_two_episodes_share_a_seed() -> None:
    """Neither within a split nor between the split "dev" and a season, nor between suites."""
    entropies = [
        spec.seed(key).entropy
        for name in SUITES
        for suite in [suites.load_suite(name)]
        for key in (suites.dev_key(suite), KEY)
        for spec in suite.specs
        if key != KEY or name == "core-v2"
    ]
    assert len(set(entropies)) == len(entropies)


# The loop


class _FailsIn(Zero):
    """Fails in the second step of some episodes, or in the first."""

    def __init__(self, nu: int, fail: Sequence[int], begin: bool) -> None:
        super().__init__(nu)
        self.fail, self.at_begin = fail, begin
        self.episode, self.steps = -1, 0

    def begin(self, ids: np.ndarray, generators: Sequence[np.random.Generator]) -> None:
        self.episode, self.steps = self.episode + 1, 0
        if self.at_begin and self.episode in self.fail:
            raise PolicyError(Code.TIMEOUT, "too slow to start")

    def act(self, observation: np.ndarray) -> np.ndarray:
        self.steps += 1
        if self.steps == 2 and self.episode in self.fail:
            raise PolicyError(Code.CRASH, "is gone")
        return super().act(observation)


@pytest.fixture(scope="module")
def jump() -> tuple[Spec, ...]:
    """Episodes of the humanoid's corridor, in which a policy that does nothing soon falls."""
    suite = suites.load_suite("quick-v2")
    specs = [s for s in suite.specs if s.task == "vnl/HumanoidJumpGap-v0"]
    return tuple(s for s in specs if s.tier == "dynamics" and s.cell.id == "width-0.4")


def _run(specs: Sequence[Spec], policy: Any, num: int) -> list[Finished]:
    core = Core(suites.make_cell(specs[0].task, specs[0].cell), num, 1)
    policy = make_policy(policy, core) if isinstance(policy, str) else policy
    seeds = [spec.seed(KEY) for spec in specs]
    return sorted(run_episodes(core, policy, seeds), key=lambda f: f.number)


def test_episodes_do_not_depend_on_each_other(jump: tuple[Spec, ...]) -> None:
    """One simulation or three, in order or not: the same figures to the last bit."""
    one, three = _run(jump, "random", 1), _run(jump, "random", 3)
    assert one == three
    backwards = _run(jump[::-1], "random", 1)
    assert [f.figures for f in backwards] == [f.figures for f in one[::-1]]


@pytest.mark.parametrize("begin", [False, True])
def test_a_policy_that_fails_ends_its_episode_only(jump: tuple[Spec, ...], begin: bool) -> None:
    """It counts 0 with its reason, and the others are what they are without it."""
    good = _run(jump, "zero", 1)
    mixed = _run(jump, _FailsIn(56, [1], begin), 1)
    assert [mixed[0], mixed[2]] == [good[0], good[2]]
    result = episode_result(jump[1], mixed[1])
    reason = "timeout" if begin else "crash"
    assert (result.end, result.reason, result.score) == ("failed", reason, 0.0)
    assert result.steps == (0 if begin else 1)


def test_what_an_episode_earned_follows_from_its_figures() -> None:
    """Real episodes: reward over the steps to the clip's end; gaps and goals of five."""
    suite = suites.load_suite("quick-v2")
    specs = suite.specs
    (clip,) = [s for s in specs if s.id.startswith("vnl/HumanoidImitation-v0/nominal/clip-kick/")]
    (finished,) = _run([clip], "track", 1)
    result = episode_result(clip, finished)
    assert 0 < result.steps <= finished.available < 173
    assert result.score == result.metrics["return"] / finished.available
    goals = next(s for s in specs if s.task == "vnl/HumanoidGoalReaching-v0")
    (finished,) = _run([goals], "random", 1)
    assert finished.available == 1000
    result = episode_result(goals, finished)
    assert result.score == result.metrics["goals_reached"] / 5
    assert result.metrics["time_to_first_goal"] is None


def test_capped_scores_stop_at_their_cap() -> None:
    """Seven gaps are as good as five; a diverged episode counts nothing."""
    primary = _primary("gaps_cleared")
    assert episode_score(primary, {"gaps_cleared": 3.0}, 1000) == 0.6
    assert episode_score(primary, {"gaps_cleared": 7.0}, 1000) == 1.0
    spec = Spec(GAPS, "nominal", _cell("width-1", 1, "1"), 0, primary)
    figures = {"length": 9.0, "gaps_cleared": 3.0, "widest_gap": float("inf")}
    finished = Finished(0, "", "", "diverged", False, 1000, figures)
    result = episode_result(spec, finished)
    assert (result.end, result.reason, result.score) == ("diverged", "diverged", 0.0)
    assert result.metrics == {"length": 9.0, "gaps_cleared": 3.0, "widest_gap": None}


# Aggregates, by hand


def _primary(metric: str) -> Primary:
    return Primary(
        metric=metric, form="capped", cap=5.0, name="x", unit="1", formula="x", ceiling=1.0
    )


def _cell(id: str, episodes: int, stratum: str = "", unit: str | None = None, **more: Any) -> Cell:
    counted = more.get("counted", True)
    return Cell(
        id=id, options={}, env_hash="", episodes=episodes, counted=counted, stratum=stratum,
        unit=unit,
    )  # fmt: skip


def _suite() -> Suite:
    """Three widths and two of them pushed; a course, and a cell that does not count."""
    gaps = [_cell(f"width-{w}", 4, str(w)) for w in (1, 2, 3)]
    goals = [_cell("course", 4), _cell("training", 2, counted=False)]
    return Suite(
        schema_version=1, name="small", description="x", pins={}, dev_key="0" * 64,
        tiers={"nominal": "x", "pushes": "x"},
        tasks=[
            SuiteTask(
                id=GAPS, observation=1, action=1, primary=_primary("gaps_cleared"),
                tiers={"nominal": gaps, "pushes": gaps[:2]},
            ),
            SuiteTask(
                id=GOALS, observation=1, action=1, primary=_primary("goals_reached"),
                tiers={"nominal": goals, "pushes": goals[:1]},
            ),
        ],
    )  # fmt: skip


def _anchors(suite: Suite, gaps: float, goals: float) -> Anchors:
    def anchor(value: float) -> Anchor:
        estimate = Estimate(value=value, low=value, high=value, units=9)
        return Anchor(primary=estimate, tiers={"nominal": estimate, "pushes": estimate})

    return Anchors(
        schema_version=1, suite=SuiteStamp(name=suite.name, sha256=suite.sha256), policy="random",
        tasks={GAPS: anchor(gaps), GOALS: anchor(goals)},
    )  # fmt: skip


def _results(suite: Suite, score: dict[str, list[float]]) -> list[EpisodeResult]:
    """Episodes with the scores of their "task/tier/cell"."""
    return [
        EpisodeResult(
            id=spec.id, end="truncated", reason=None, score=value, steps=10, clipped=0,
            metrics={"length": 10.0, "time_to_first_goal": None if value < 0.5 else 2 * value},
        )
        for spec in suite.specs
        for value in [score[spec.id.rpartition("/")[0]][spec.number]]
    ]  # fmt: skip


SCORES = {
    f"{GAPS}/nominal/width-1": [1.0, 1.0, 1.0, 0.8],
    f"{GAPS}/nominal/width-2": [0.6, 0.4, 0.6, 0.4],
    f"{GAPS}/nominal/width-3": [0.0, 0.0, 0.0, 0.2],
    f"{GAPS}/pushes/width-1": [0.4, 0.6, 0.4, 0.6],
    f"{GAPS}/pushes/width-2": [0.2, 0.2, 0.4, 0.0],
    f"{GOALS}/nominal/course": [0.2, 0.4, 0.6, 0.8],
    f"{GOALS}/nominal/training": [1.0, 0.8],
    f"{GOALS}/pushes/course": [0.2, 0.4, 0.6, 0.8],
}


def test_aggregates_are_what_one_computes_by_hand() -> None:
    """Means by task, tier and stratum, normalised, retained, uncounted, and the overall one."""
    suite = _suite()
    tasks, overall = scores.aggregate(suite, _anchors(suite, 0.1, 0.0), _results(suite, SCORES))
    gaps, goals = tasks[GAPS].tiers, tasks[GOALS].tiers
    assert gaps["nominal"].primary.value == pytest.approx(0.5)
    assert gaps["nominal"].normalised.value == pytest.approx((0.5 - 0.1) / 0.9)
    assert gaps["nominal"].primary.units == 12
    widths = {k: v.value for k, v in gaps["nominal"].strata.items()}
    assert widths == pytest.approx({"1": 0.95, "2": 0.5, "3": 0.05})
    assert "retention" not in gaps["nominal"].aggregates
    # Of the same widths: 0.35 of (0.95 + 0.5) / 2.
    assert gaps["pushes"].aggregates["retention"].value == pytest.approx(0.35 / 0.725)
    assert goals["pushes"].aggregates["retention"].value == pytest.approx(1.0)
    assert goals["nominal"].primary.value == pytest.approx(0.5)
    assert goals["nominal"].episodes == 6
    assert goals["nominal"].strata == {}
    assert tasks[GOALS].uncounted.value == pytest.approx(0.9)
    assert tasks[GAPS].uncounted is None
    # Only where it happened: 0.6 and 0.8.
    assert goals["nominal"].metrics["time_to_first_goal"].value == pytest.approx(1.4)
    assert overall.value == pytest.approx(((0.5 - 0.1) / 0.9 + 0.5) / 2)
    assert overall.units == 16
    # The curve through 0.95, 0.5, 0.05 is symmetric about the middle.
    assert gaps["nominal"].aggregates["threshold_width"].value == pytest.approx(2.0)
    assert "threshold_width" not in goals["nominal"].aggregates
    estimates = [
        overall,
        gaps["nominal"].aggregates["threshold_width"],
        gaps["pushes"].aggregates["retention"],
    ]
    for e in (*estimates, *(t.primary for t in (*gaps.values(), *goals.values()))):
        assert e.low < e.value < e.high


@pytest.mark.parametrize("score", [0.1, 0.3, 0.7, 0.9])
def test_an_estimate_lies_in_its_interval_and_one_unit_has_none(score: float) -> None:
    """Whatever rounding makes of a mean of equal scores."""
    whole = _suite()
    ids = [spec.id for spec in whole.specs]
    suite = whole.restricted([id for id in ids if not id.endswith("training/1")])
    alike = {cell: [score] * len(values) for cell, values in SCORES.items()}
    tasks, overall = scores.aggregate(suite, _anchors(suite, 0.1, 0.0), _results(suite, alike))
    estimates = [overall, *(e for t in tasks.values() for e in _estimates(t))]
    assert len(estimates) > 20
    assert {e.units < 2 for e in estimates} == {True, False}
    for e in estimates:
        if e.units < 2:
            assert (e.low, e.high) == (None, None)
        else:
            assert e.low <= e.value <= e.high


def _estimates(task: TaskScore) -> Iterator[Estimate]:
    """All of a task that have a value."""
    for tier in task.tiers.values():
        found = [tier.primary, tier.normalised, *tier.aggregates.values(), *tier.metrics.values()]
        yield from (e for e in (*found, *tier.strata.values()) if e and e.value is not None)
    yield from [task.uncounted] if task.uncounted else []


def test_aggregates_do_not_depend_on_the_order_of_episodes() -> None:
    """To the last bit."""
    suite = _suite()
    results, anchors = _results(suite, SCORES), _anchors(suite, 0.1, 0.0)
    assert scores.aggregate(suite, anchors, results) == scores.aggregate(
        suite, anchors, results[::-1]
    )


def test_episodes_that_are_missing_count_nothing() -> None:
    """With a reason, and in the mean."""
    suite = _suite()
    results = [r for r in _results(suite, SCORES) if not r.id.endswith("course/3")]
    tasks, _ = scores.aggregate(suite, _anchors(suite, 0.1, 0.0), results)
    goals = tasks[GOALS].tiers["nominal"]
    assert goals.failed == {"incomplete": 1}
    assert goals.episodes == 6
    assert goals.primary.value == pytest.approx((0.2 + 0.4 + 0.6) / 4)


def test_the_random_policy_is_at_zero_and_the_ceiling_at_one() -> None:
    """By construction."""
    suite = _suite()
    best = {cell: [1.0] * len(values) for cell, values in SCORES.items()}
    tasks, overall = scores.aggregate(suite, _anchors(suite, 0.1, 0.2), _results(suite, best))
    assert tasks[GAPS].tiers["nominal"].normalised.value == pytest.approx(1.0)
    assert overall.value == pytest.approx(1.0)
    assert "threshold_width" not in tasks[GAPS].tiers["nominal"].aggregates
    tasks, overall = scores.aggregate(suite, _anchors(suite, 0.5, 0.5), _results(suite, SCORES))
    assert tasks[GAPS].tiers["nominal"].normalised.value == pytest.approx(0.0)
    assert overall.value == pytest.approx(0.0)


@pytest.mark.parametrize("kind", ["foreign", "twice", "too_high", "paid", "fallen_twice"])
def test_episodes_that_cannot_be_are_refused(kind: str) -> None:
    """Of another suite, given twice, or with a score or metric that nothing earns."""
    suite = _suite()
    results = _results(suite, SCORES)
    first = results[0]
    results += {
        "foreign": [first.model_copy(update={"id": f"{GAPS}/nominal/width-9/0"})],
        "twice": [first],
        "too_high": [],
        "paid": [],
        "fallen_twice": [],
    }[kind]
    if kind == "too_high":
        results[0] = first.model_copy(update={"score": 1.5})
    if kind == "fallen_twice":
        results[0] = first.model_copy(update={"metrics": {"fallen": 2.0}})
    if kind == "paid":
        results[0] = first.model_copy(update={"reason": "crash", "end": "failed"})
    with pytest.raises(ScoringError) as error:
        scores.aggregate(suite, _anchors(suite, 0.1, 0.0), results)
    assert error.value.code is Code.CLAIM


def test_metrics_stay_in_their_range() -> None:
    """All falls are Wilson's interval, long times and few of them no negative one."""
    suite, rng = _suite(), np.random.default_rng(0)
    results = [
        r.model_copy(update={"metrics": {
            "fallen": 1.0, "gap_success": float(rng.random() ** 0.1),
            "length": 10.0 ** rng.integers(4),
        }})
        for r in _results(suite, SCORES)
    ]  # fmt: skip
    tasks, _ = scores.aggregate(suite, _anchors(suite, 0.1, 0.0), results)
    metrics = tasks[GAPS].tiers["pushes"].metrics
    fallen = metrics["fallen"]
    assert (fallen.low, fallen.high) == wilson(8, 8)
    assert fallen.high == 1.0
    assert 0 < metrics["gap_success"].low < metrics["gap_success"].high <= 1
    assert 0 <= metrics["length"].low < metrics["length"].high


def test_a_task_that_is_not_there_is_named() -> None:
    """Whose ranges nobody knows."""
    with pytest.raises(ScoringError, match="no task with id 'vnl/Rat-v0'") as error:
        suites.metric_ranges("vnl/Rat-v0")
    assert error.value.code is Code.VERSION


def test_anchors_of_another_suite_are_refused() -> None:
    """They name the hash of theirs."""
    suite = _suite()
    other = suite.model_copy(update={"description": "another"})
    with pytest.raises(ScoringError, match="not the anchors") as error:
        scores.aggregate(suite, _anchors(other, 0.1, 0.0), _results(suite, SCORES))
    assert error.value.code is Code.VERSION


def _threshold_width(fractions: list[float], episodes: int) -> Estimate | None:
    """Of a ladder from 0.04 m on, by 0.02, with so many equal episodes at each width."""
    scored = {f"{0.04 + 0.02 * i:.2f}": [f] * episodes for i, f in enumerate(fractions)}
    cells = [_cell(f"width-{w}", episodes, w) for w in scored]
    task = SuiteTask(
        id=GAPS, observation=1, action=1, primary=_primary("gaps_cleared"), tiers={"nominal": cells}
    )
    suite = _suite().model_copy(update={"tasks": [task], "tiers": {"nominal": "x"}})
    results = _results(suite, {f"{GAPS}/nominal/width-{w}": f for w, f in scored.items()})
    return (
        scores.aggregate(suite, _anchors(suite, 0.0, 0.0), results)[0][GAPS]
        .tiers["nominal"]
        .aggregates.get("threshold_width")
    )


@pytest.mark.parametrize(
    ("fractions", "width"),
    [
        # Every rung up to 0.08 and none from 0.10 on.
        ([1, 1, 1, 0, 0, 0], 0.09),
        ([1, 1, 1, 1, 1, 1], None),
        ([0, 0, 0, 0, 0, 0], None),
        # exp(-(w - 0.075) / 0.02) / (1 + …) at the rungs.
        (list(1 / (1 + np.exp((np.arange(0.04, 0.15, 0.02) - 0.075) / 0.02))), 0.075),
    ],
)
def test_the_width_at_half_is_where_the_curve_passes_it(
    fractions: list[float], width: float | None
) -> None:
    """Sharp steps, ladders that are too short, and a curve that is known."""
    half = _threshold_width(fractions, 3)
    assert (half is None) == (width is None)
    if width is not None:
        assert half.value == pytest.approx(width, abs=2e-4)


@pytest.mark.filterwarnings("error")
def test_widths_of_one_episode_each_give_an_interval_about_the_width_at_half() -> None:
    """They are drawn from together, so that most resamples lack some of them."""
    half = _threshold_width([1, 1, 0.8, 0.2, 0, 0], 1)
    assert half.value == pytest.approx(0.09, abs=2e-4)
    # The first width without a doubt is 0.06, the last 0.12.
    assert 0.06 < half.low < half.value < half.high < 0.12
