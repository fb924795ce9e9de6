"""Made-up suites, results and boards, seeded: nothing of them was simulated."""

from __future__ import annotations

import datetime
import hashlib
import json
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vnl_envs.scoring.documents.schema.board import Anchor, Anchors, Board, BoardEntry
from vnl_envs.scoring.documents.schema.result import (
    Entrant,
    EpisodeResult,
    Estimate,
    Policy,
    Rates,
    Result,
    Speed,
)
from vnl_envs.scoring.documents.schema.submission import Training
from vnl_envs.scoring.documents.schema.suite import (
    Cell,
    Primary,
    Spec,
    Suite,
    SuiteStamp,
    SuiteTask,
)
from vnl_envs.scoring.documents.schema.text import to_text
from vnl_envs.scoring.documents.suites import metric_ranges
from vnl_envs.scoring.results.episodes import episode_score
from vnl_envs.scoring.results.files import records_name, write_result
from vnl_envs.scoring.results.scores import aggregate
from vnl_envs.scoring.run.plan import part_of
from vnl_envs.scoring.run.verification import Rerun, write_record

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; DROP TABLE entries; -- &amp; &lt;b&gt;",
    "=HYPERLINK(\"http://example.invalid\",\"x\")",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "../../season.key",
    "W" * 120,
    "%00%1b[2J\\x1b]0;title\\x07",
    "javascript:alert(1)",
)  # fmt: skip
"""Names that a page must show as they are."""

AUTHORS = ["A. Author", "<u>B.</u> O'Author", "شبكة عصبية للجري", "Ünïcödé 🐀 大鼠 naïve"]
"""People's names are of any script."""

DESCRIPTION = "evil <b>bold</b>\nsecond line </p><script>alert(2)</script>"

_TIERS = {
    "nominal": "as trained on",
    "sensors": "noise on observations and repeated actions",
    "dynamics": "mass, friction and actuator gain drawn within 20 %",
    "pushes": "pushes, and gaps shifted by half a rung",
    "simulator": "half the time step, and another solver",
}
_LABELS = {"stand": 2, "walk": 4, "trot": 3, "turn": 3, "rear": 2}


class Maker(NamedTuple):
    """An entrant to be made up.

    Attributes:
        name: of it.
        skill: about what it scores, 0 to 1.
        status, pinned: on the board.
        algorithm, steps: of its training.
        fails: share of episodes that crash.
        seed: of its training.
        part: only every so many-th episode was run, of the nominal tier; 1 for all.
    """

    name: str
    skill: float
    status: str = "self-reported"
    pinned: bool = False
    algorithm: str = "PPO"
    steps: int = 20_000_000
    fails: float = 0.0
    seed: int = 0
    part: int = 1


MAKERS = (
    Maker("Zero: holds the standing pose", 0.12, "reference", True),
    Maker("Random: uniform actions", 0.0, "reference", True),
    Maker("PPO baseline", 0.62, "verified", steps=60_000_000),
    Maker("DMPO baseline", 0.55, "verified", algorithm="DMPO", steps=25_000_000),
    Maker("Crashes now and then", 0.35, "self-reported", fails=0.1),
    Maker("Stopped early", 0.9, "self-reported", part=3),
    *(Maker(f"PPO, seed {seed}", 0.5, "verified", seed=seed) for seed in range(1, 5)),
    *(
        Maker(name, 0.08 * i, "self-reported", algorithm="SAC <i>2</i>", steps=10 ** (5 + i))
        for i, name in enumerate(HOSTILE)
    ),
)


def make_suite(name: str = "core-v2") -> Suite:
    """Six tasks, with behaviours, widths and single cells, in five tiers."""
    tasks = []
    for body, ladder in (
        ("Rodent", np.arange(4, 22, 2) / 100),
        ("Humanoid", np.arange(3, 13) / 10),
    ):
        clips = [
            _cell(f"clip-{label}_{i}", 3, label, unit=f"{label}_{i}", counted=i > 0 or n < 3)
            for label, n in _LABELS.items()
            for i in range(n)
        ]
        rungs = [_cell(f"width-{w:g}", 4, f"{w:g}") for w in ladder]
        tasks += [
            _task(f"vnl/{body}Imitation-v0", clips, "per_step", "reward per step"),
            _task(f"vnl/{body}JumpGap-v0", rungs, "capped", "fraction of 5 gaps cleared"),
            _task(f"vnl/{body}GoalReaching-v0", [_cell("course", 20)], "capped",
                  "fraction of 5 goals reached"),
        ]  # fmt: skip
    return Suite(
        schema_version=1, name=name, description="Made up for tests.", pins={"mujoco": "3.17.0"},
        dev_key=hashlib.sha256(name.encode()).hexdigest(), tiers=_TIERS, tasks=tasks,
    )  # fmt: skip


def small_suite() -> Suite:
    """Imitation and goals of the rat, in two tiers, for what takes many results."""
    suite = make_suite()
    tasks = [task.model_copy(update={"tiers": {t: task.tiers[t] for t in ("nominal", "pushes")}})
             for task in (suite.tasks[0], suite.tasks[2])]  # fmt: skip
    return suite.model_copy(update={"tasks": tasks})


def _cell(
    id: str, episodes: int, stratum: str = "", unit: str | None = None, counted: bool = True
) -> Cell:
    return Cell(id=id, options={}, env_hash="0" * 16, episodes=episodes, counted=counted,
                stratum=stratum, unit=unit)  # fmt: skip


_METRICS = {"capped": "goals_reached", "per_step": "return"}


def _task(id: str, cells: list[Cell], form: str, name: str) -> SuiteTask:
    primary = Primary(
        metric=_METRICS[form] if "Jump" not in id else "gaps_cleared", form=form,
        cap=5.0 if form == "capped" else None, name=name, unit="1",
        formula=f"what is called {name}", ceiling=1.0,
    )  # fmt: skip
    counted = [cell for cell in cells if cell.counted][:4]
    tiers = {tier: cells if tier == "nominal" else counted for tier in _TIERS}
    return SuiteTask(id=id, observation=10, action=4, primary=primary, tiers=tiers)


def make_anchors(suite: Suite) -> Anchors:
    """A random policy that gets 0.05 everywhere."""
    estimate = Estimate(value=0.05, low=0.04, high=0.06, units=20)
    return Anchors(
        schema_version=1, suite=_stamp(suite), policy="random",
        tasks={task.id: Anchor(primary=estimate, tiers={}) for task in suite.tasks},
    )  # fmt: skip


def make_result(suite: Suite, maker: Maker, engine: str = "native") -> Result:
    """A result of an entrant; on another engine than the native one a small part of the suite."""
    rng = np.random.default_rng(sum(maker.name.encode()))
    scope = part_of(suite, engine) or suite
    if maker.part > 1:
        nominal = [spec.id for spec in suite.specs if spec.tier == "nominal"]
        scope = suite.restricted(nominal[:: maker.part])
    ids = {spec.id for spec in scope.specs}
    made = [_episode(rng, spec, maker) for spec in suite.specs]
    made = [episode for episode in made if episode.id in ids]
    tasks, overall = aggregate(suite, make_anchors(suite), made, scope)
    return Result(
        schema_version=1, suite=_stamp(suite), split="dev", season=None,
        entrant=_entrant(suite, maker), engine=engine,
        stamps={"mujoco": "3.17.0", "cpu": "<b>a processor</b>"}, isolated=True,
        episodes=made, tasks=tasks, overall=overall, complete=scope is suite,
    )  # fmt: skip


def _episode(rng: np.random.Generator, spec: Spec, maker: Maker) -> EpisodeResult:
    """Wide gaps are hard, and so is what is perturbed."""
    hard = (
        float(spec.cell.stratum) * (5 if "Rodent" in spec.task else 0.8)
        if "Jump" in spec.task
        else 0.3
    )
    level = maker.skill * (1.3 - hard) * (1.0 if spec.tier == "nominal" else 0.8)
    score = float(np.clip(level + 0.12 * rng.standard_normal(), 0, 1))
    if rng.random() < maker.fails:
        return EpisodeResult(id=spec.id, end="failed", reason="crash", score=0.0, steps=0,
                             clipped=0, metrics={})  # fmt: skip
    return played(spec, score)


def played(spec: Spec, score: float, steps: int = 500) -> EpisodeResult:
    """An episode to its end, whose metrics give about that score."""
    metrics: dict[str, float | None] = dict.fromkeys(metric_ranges(spec.task), 0.0)
    metrics["length"] = float(steps)
    metrics[spec.primary.metric] = score * (spec.primary.cap or steps)
    figures = {name: value or 0.0 for name, value in metrics.items()}
    return EpisodeResult(
        id=spec.id, end="truncated", reason=None, steps=steps, clipped=0, metrics=metrics,
        score=episode_score(spec.primary, figures, steps),
    )  # fmt: skip


def _entrant(suite: Suite, maker: Maker) -> Entrant:
    reference = maker.status == "reference"
    digest = hashlib.sha256(maker.name.encode()).hexdigest()
    training = Training(algorithm=maker.algorithm, env_steps=maker.steps, backend="MuJoCo C",
                        hardware="2 cores, no GPU", seeds=[maker.seed])  # fmt: skip
    policy = Policy(sha256=digest, parameters=262_144, training=training)
    return Entrant(
        identity=f"reference:{maker.name.split(':')[0].lower()}" if reference else digest,
        name=maker.name, authors=AUTHORS, licence="Apache-2.0",
        date=datetime.date(2026, 1, 1 + len(maker.name) % 28),
        description="" if reference else DESCRIPTION,
        policies={} if reference else {task.id: policy for task in suite.tasks},
    )  # fmt: skip


def _stamp(suite: Suite) -> SuiteStamp:
    return SuiteStamp(name=suite.name, sha256=suite.sha256)


def write_board(folder: Path, makers: Sequence[Maker] = MAKERS) -> None:
    """A board with all of these, a second suite, a cross-check, speeds and videos."""
    for name in ("results", "suites", "anchors"):
        (folder / name).mkdir(parents=True)
    entries = []
    for name, some in (("core-v2", makers), ("quick-v2", makers[:3])):
        suite = make_suite(name)
        (folder / "suites" / f"{name}.json").write_text(to_text(suite))
        (folder / "anchors" / f"{name}.json").write_text(to_text(make_anchors(suite)))
        for i, maker in enumerate(some):
            key = f"{name}-{i:02}"
            result = make_result(suite, maker)
            path = folder / "results" / f"{key}.json"
            write_entry(path, result, verified=maker.status == "verified")
            crosses = []
            if i == 2:
                slower = maker._replace(skill=maker.skill - 0.02)
                cross = make_result(suite, slower, "jax")
                crosses = [f"{key}.mjx.json"]
                write_result(folder / "results" / crosses[0], cross)
                rates = Rates(
                    episodes=len(result.episodes), steps=sum(e.steps for e in result.episodes),
                    seconds=30.0, policy_seconds=3.0,
                    simulation_seconds=26.4, steps_per_second=300.0, overhead=0.02,
                )  # fmt: skip
                speed = Speed(workers=2, all=rates, tasks={suite.tasks[0].id: rates})
                (folder / "results" / f"{key}.speed.json").write_text(to_text(speed))
                _write_videos(folder, key, result)
            entries.append(
                BoardEntry(result=f"{key}.json", pinned=maker.pinned, cross_checks=crosses)
            )
    board = Board(schema_version=1, entries=entries)
    (folder / "board.json").write_text(to_text(board))


def write_entry(path: Path, result: Result, *, verified: bool) -> None:
    """A result, and the record of having run all of it again."""
    write_result(path, result)
    if verified:
        count = len(result.episodes)
        write_record(path, result, count, Rerun(count, count, result.stamps, (), ()), None)


def read_files(path: Path) -> dict[str, Any]:
    """The JSON of a result's two files as one, whatever is in them."""
    records = path.with_name(records_name(path.name))
    document = json.loads(path.read_text())
    return document | {"episodes": json.loads(lzma.decompress(records.read_bytes()))}


def write_files(path: Path, document: dict[str, Any]) -> None:
    """Such JSON as the two files of a result."""
    episodes = json.dumps(document["episodes"]).encode()
    path.with_name(records_name(path.name)).write_bytes(lzma.compress(episodes, preset=0))
    summary = {key: value for key, value in document.items() if key != "episodes"}
    summary["records"] = {
        "episodes": len(document["episodes"]), "sha256": hashlib.sha256(episodes).hexdigest()
    }  # fmt: skip
    path.write_text(json.dumps(summary))


def edit_result(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the JSON of a result."""
    document = read_files(path)
    change(document)
    write_files(path, document)


def _write_videos(folder: Path, key: str, result: Result) -> None:
    """Files that are named like videos."""
    made = folder / "videos" / key
    made.mkdir(parents=True)
    (made / "best.mp4").write_bytes(b"\0\0\0\x14ftypisom, and no more")
    episode = result.episodes[0]
    index = [
        {"task": "vnl/RodentImitation-v0", "which": "best", "episode": episode.id,
         "score": episode.score, "file": f"videos/{key}/best.mp4"},
    ]  # fmt: skip
    (made / "videos.json").write_text(json.dumps(index))
