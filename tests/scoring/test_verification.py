"""What cannot be believed: results, their episodes run again, and their videos."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import lzma
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio
import pytest
from results import read_files, write_files
from tiny_suite import GOALS, IMITATION, forged, score

from vnl_envs.evaluation.policies import NAMES
from vnl_envs.problems import Code, ScoringError
from vnl_envs.scoring.board import replays, videos
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.documents.schema.board import Anchors, Verified
from vnl_envs.scoring.documents.schema.fields import MOST_BYTES
from vnl_envs.scoring.documents.schema.reading import read
from vnl_envs.scoring.documents.schema.result import Result, Summary
from vnl_envs.scoring.documents.schema.suite import Suite, SuiteStamp
from vnl_envs.scoring.documents.schema.text import to_text
from vnl_envs.scoring.results.files import PACKAGES, read_result, records_name, write_result
from vnl_envs.scoring.run import plan, runner, verification, worker
from vnl_envs.scoring.run.worker import Worker

pytest_plugins = ["tiny_suite"]

Tamper = Callable[[dict[str, Any]], Any]


def drop(result: dict[str, Any]) -> None:
    del result["episodes"][4]


def duplicate(result: dict[str, Any]) -> None:
    result["episodes"].insert(4, result["episodes"][3])


def swap(result: dict[str, Any]) -> None:
    result["episodes"][3:5] = result["episodes"][4:2:-1]


def invent(result: dict[str, Any]) -> None:
    result["episodes"][4]["id"] = f"{GOALS}/nominal/course/77"


def change_score(result: dict[str, Any]) -> None:
    result["episodes"][0]["score"] += 1e-12


def change_overall(result: dict[str, Any]) -> None:
    result["overall"]["value"] += 1e-12


def change_interval(result: dict[str, Any]) -> None:
    result["tasks"][GOALS]["tiers"]["nominal"]["primary"]["low"] += 1e-12


def hide_incompleteness(result: dict[str, Any]) -> None:
    result["complete"] = False


def score_a_failure(result: dict[str, Any]) -> None:
    result["episodes"][0].update(end="failed", reason="crash")


def take_another_suite(result: dict[str, Any]) -> None:
    result["suite"]["sha256"] = "0" * 64


def take_another_version(result: dict[str, Any]) -> None:
    result["stamps"]["mujoco"] = "3.16.0"


@pytest.mark.parametrize(
    ("tamper", "code", "where"),
    [
        (drop, Code.INCOMPLETE, "/4"),
        (duplicate, Code.CLAIM, "/3"),
        (swap, Code.CLAIM, "episodes"),
        (invent, Code.INCOMPLETE, "/4"),
        (change_score, Code.CLAIM, "/0"),
        (change_overall, Code.CLAIM, "overall.value"),
        (change_interval, Code.CLAIM, "primary.low"),
        (hide_incompleteness, Code.CLAIM, "complete"),
        (score_a_failure, Code.CLAIM, "/0"),
        (take_another_suite, Code.VERSION, "suite"),
        (take_another_version, Code.VERSION, "stamps.mujoco"),
    ],
)
def test_tampering_is_named(
    tamper: Tamper, code: Code, where: str, result: Result, suite: Suite, anchors: Anchors
) -> None:
    """Each kind of it, by the place."""
    assert verification.claims(result, suite, anchors) == []
    tampered = result.model_dump(mode="json")
    tamper(tampered)
    claimed = Result.model_validate_json(json.dumps(tampered))
    problems = verification.claims(claimed, suite, anchors)
    assert any(p.code == code and p.where.endswith(where) for p in problems), problems


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(engine="foo"),
        lambda r: r["episodes"][0].update(reason="bored"),
        lambda r: r["entrant"].update(identity="reference:foo"),
    ],
)
def test_words_that_a_result_cannot_have_are_refused(
    change: Tamper, finished: Path, tmp_path: Path
) -> None:
    document = read_files(finished / runner.RESULT)
    change(document)
    path = tmp_path / "result.json"
    write_files(path, document)
    done = score("verify", path)
    assert done.exit_code == Code.SCHEMA, done.output


@pytest.mark.usefixtures("inline", "only_tiny")
def test_verify_tells_true_from_false(bundle: Path, finished: Path, tmp_path: Path) -> None:
    """By its exit code, with or without the bundle."""
    true = finished / runner.RESULT
    sound = score("verify", true, "--sample", 3, "--json")
    assert sound.exit_code == Code.OK, sound.output
    told = json.loads(sound.stdout)
    assert (told["run_again"], told["same_to_the_bit"], told["differing_stamps"]) == (3, 3, [])
    assert score("verify", true, bundle).exit_code == Code.CLAIM
    sums = score("verify", true, "--sample", 0)
    assert sums.exit_code == Code.OK
    assert "no episode was run again: --sample is 0" in sums.stdout
    false = read_files(true)
    false["overall"]["value"] = 0.99
    path = tmp_path / "false.json"
    write_files(path, false)
    caught = score("verify", path, "--json")
    assert caught.exit_code == Code.CLAIM
    assert json.loads(caught.stdout)["problems"][0]["where"] == "overall.value"
    path.write_text('{"overall": NaN}')
    assert score("verify", path).exit_code == Code.SCHEMA


def test_a_result_knows_every_engine_and_reference(result: Result) -> None:
    """The schema has them spelled out, as it comes without the harness."""
    document = result.model_dump(mode="json")
    for engine in plan.ENGINES:
        assert Result.model_validate_json(json.dumps(document | {"engine": engine}))
    for name in NAMES:
        assert plan.reference(name).entrant.identity == f"reference:{name}"


def test_what_is_missing_is_told_in_a_line(result: Result, suite: Suite, anchors: Anchors) -> None:
    """However much it is."""
    empty = result.model_copy(update={"tasks": {}})
    problems = verification.claims(empty, suite, anchors)
    assert {p.where for p in problems} == {f"tasks.{task.id}" for task in suite.tasks}
    for found in problems:
        assert found.message.startswith("is None, its episodes give {'tiers'")
        assert len(found.message) < 300


def test_a_season_counts_from_the_sandbox_only(
    result: Result, suite: Suite, anchors: Anchors
) -> None:
    """References are no policies of others."""
    ours = result.model_copy(update={"split": "test", "season": "0" * 64, "isolated": False})
    assert verification.claims(ours, suite, anchors) == []
    entrant = result.entrant.model_copy(update={"identity": "0" * 64})

    def refused(**changes: Any) -> bool:
        claimed = ours.model_copy(update={"entrant": entrant, **changes})
        found = verification.claims(claimed, suite, anchors)
        return any((p.code, p.where) == (Code.SANDBOX, "isolated") for p in found)

    assert refused()
    assert not refused(isolated=True)
    assert not refused(split="dev", season=None)


def test_a_changed_suite_is_not_scored_by_the_anchors_of_its_name(
    suite: Suite, result: Result, anchors: Anchors, tmp_path: Path
) -> None:
    """Neither a run, which says so before it begins, nor a result."""
    path = tmp_path / "suite.json"
    path.write_text(to_text(suite.model_copy(update={"name": "quick-v2"})))
    out = tmp_path / "run"
    refused = score("run", "--reference", "zero", "--suite", path, "--out", out)
    assert refused.exit_code == Code.VERSION, refused.output
    assert "not the anchors of quick-v2" in refused.stderr
    assert not out.exists()
    other = SuiteStamp(name=suite.name, sha256="0" * 64)
    (found,) = verification.claims(result, suite, anchors.model_copy(update={"suite": other}))
    assert found.code == Code.VERSION


@pytest.mark.usefixtures("inline")
def test_a_forged_episode_is_found_by_its_rerun(what: plan.Run, result: Result) -> None:
    """Even with all sums right, and on other stamps, where little is let pass."""
    specs = verification.sample(what.suite.specs, 1, seed=3)
    honest = verification.run_again(result, what, specs, progress=False)
    assert (honest.same, honest.differing_stamps, honest.problems) == (1, (), ())
    lie = forged(what, result, {specs[0].id})
    assert verification.claims(lie, what.suite, what.anchors) == []
    found = verification.run_again(lie, what, specs, progress=False)
    assert {p.code for p in found.problems} == {Code.CLAIM}
    assert f"{specs[0].id}: score" in {p.where for p in found.problems}
    # One that is 1 where it was nearly 0 is let pass nowhere.
    elsewhere = {"stamps": {**result.stamps, "cpu": "another"}}
    found = verification.run_again(lie.model_copy(update=elsewhere), what, specs, progress=False)
    assert (found.same, found.differing_stamps) == (0, ("cpu",))
    assert [p.where for p in found.problems] == [specs[0].task]
    found = verification.run_again(result.model_copy(update=elsewhere), what, specs, progress=False)
    assert (found.same, found.problems) == (1, ())


@pytest.mark.usefixtures("inline", "only_tiny")
def test_nobody_knows_which_episodes_will_be_run_again(
    finished: Path, what: plan.Run, result: Result, tmp_path: Path
) -> None:
    """A result that lies but for the sample of one seed is found by others, and by all at once."""
    true, path = finished / runner.RESULT, tmp_path / "result.json"
    told = [json.loads(score("verify", true, "--sample", 2, "--json").stdout) for _ in range(2)]
    assert told[0]["seed"] != told[1]["seed"]
    specs = what.suite.specs
    spared = {spec.id for spec in verification.sample(specs, 2, seed=0)}
    write_result(path, forged(what, result, {spec.id for spec in specs} - spared))
    assert score("verify", path, "--sample", 2, "--seed", 0).exit_code == Code.OK
    drawn = score("verify", path, "--sample", len(spared) + 1)
    assert drawn.exit_code == Code.CLAIM
    seed = re.search(r"^3 of 20 episodes, drawn with --seed (\d+)$", drawn.stderr, re.M)
    again = score("verify", path, "--sample", 3, "--seed", seed[1])
    assert again.stderr == drawn.stderr
    whole = score("verify", path, "--all", "--record")
    assert whole.exit_code == Code.CLAIM
    assert not (tmp_path / "result.verified.json").exists()


@pytest.mark.usefixtures("inline", "only_tiny")
def test_a_record_tells_how_a_result_was_verified(
    finished: Path, result: Result, tmp_path: Path
) -> None:
    """Bound to what the result says; none without a re-run."""
    path = tmp_path / "result.json"
    write_result(path, result)
    record = tmp_path / "result.verified.json"
    done = score("verify", path, "--sample", 2, "--seed", 7, "--record", "--json")
    assert done.exit_code == Code.OK, done.output
    assert json.loads(done.stdout)["record"] == str(record)
    sample = read(Verified, record)
    assert (sample.episodes, sample.run_again, sample.seed, sample.same_to_the_bit) == (20, 2, 7, 2)
    assert (sample.result, sample.stamps) == (result.sha256, result.stamps)
    done = score("verify", path, "--all", "--record")
    assert "episodes run again: 20 of 20, all; 20 of them the same to the bit" in done.stdout
    whole = read(Verified, record)
    assert (whole.run_again, whole.seed) == (20, None)
    assert score("verify", path, "--sample", 0, "--record").exit_code == 2
    assert score("verify", path, "--all", "--seed", 1).exit_code == 2


@pytest.mark.usefixtures("inline")
def test_on_another_machine_means_are_compared(what: plan.Run, result: Result) -> None:
    """Episodes part ways there; but not all of them upwards."""
    specs = [spec for spec in what.suite.specs if spec.task == IMITATION]
    for shift, wrong in ((0.0, False), (0.01, False), (0.2, True)):
        episodes = [
            e.model_copy(update={"score": e.score + shift + 0.01 * (i % 2)})
            for i, e in enumerate(result.episodes)
        ]
        stamps = {**result.stamps, "cpu": "another"}
        claimed = result.model_copy(update={"episodes": episodes, "stamps": stamps})
        found = verification.run_again(claimed, what, specs, progress=False)
        assert [p.where for p in found.problems] == [IMITATION] * wrong


@pytest.mark.usefixtures("inline")
def test_episodes_that_are_run_again_have_a_process_of_the_policy_each(
    what: plan.Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a policy remembers of others against the rules shows then; a run has one a task."""
    started = []

    class Counted(worker.PolicyProcess):
        def _start(self) -> None:
            super()._start()
            started.append(self)

    monkeypatch.setattr(worker, "PolicyProcess", Counted)
    half = dataclasses.replace(what, candidate=plan.entry(bundle))
    goals = [spec for spec in what.suite.specs if spec.task == GOALS][:3]
    with contextlib.closing(half.pool()) as pool:
        kept = {r.episode.id: r.episode for r in runner.records(pool, goals)}
    assert len(started) == 1
    _, again = runner.rerun(half, goals, progress=False)
    assert len(started) == 1 + len(goals)
    assert again == kept


def test_a_result_survives_its_file(result: Result, tmp_path: Path) -> None:
    """And the file of a result read is the same to the byte."""
    write_result(tmp_path / "a.json", result)
    again = read_result(tmp_path / "a.json")
    assert again == result
    write_result(tmp_path / "b.json", again)
    for name in ("a.json", records_name("a.json")):
        assert (tmp_path / name).read_bytes() == (tmp_path / name.replace("a", "b", 1)).read_bytes()
    assert read(Summary, tmp_path / "a.json").sha256 == result.sha256


def bomb(packed: bytes) -> bytes:
    """Records that take more room than any may."""
    return lzma.compress(bytes(MOST_BYTES + 1), preset=0)


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        (lambda packed: b"", Code.SCHEMA, "is not one whole xz file"),
        (lambda packed: packed[:-1], Code.SCHEMA, "is not one whole xz file"),
        (lambda packed: packed + b"x", Code.SCHEMA, "is not one whole xz file"),
        (lambda packed: b"no xz" + packed, Code.SCHEMA, "is not proper xz"),
        (bomb, Code.SCHEMA, "is not one whole xz file"),
        (lambda packed: lzma.compress(b"[]", preset=9), Code.SCHEMA, "is not proper xz"),
        (lambda packed: lzma.compress(b"[]"), Code.DIGEST, "is not the file that result.json is"),
        (lambda packed: lzma.compress(lzma.decompress(packed), preset=0), Code.OK, ""),
    ],
)
def test_records_are_those_of_their_summary(
    finished: Path, tmp_path: Path, change: Callable[[bytes], bytes], code: Code, told: str
) -> None:
    """Whoever packed them; what is damaged, endless or another's is refused."""
    name = records_name(runner.RESULT)
    shutil.copyfile(finished / runner.RESULT, tmp_path / runner.RESULT)
    missing = score("report", tmp_path / runner.RESULT)
    assert missing.exit_code == 2
    assert name in missing.output
    (tmp_path / name).write_bytes(change((finished / name).read_bytes()))
    if code == Code.OK:
        assert read_result(tmp_path / runner.RESULT) == read_result(finished / runner.RESULT)
        return
    done = score("report", tmp_path / runner.RESULT)
    assert done.exit_code == code, done.output
    assert f"error[{code.slug}] {name}: {told}" in done.output.replace("\n", " ")


def test_a_summary_cannot_claim_another_number_of_records(finished: Path, tmp_path: Path) -> None:
    document = read_files(finished / runner.RESULT)
    path = tmp_path / runner.RESULT
    write_files(path, document)
    summary = json.loads(path.read_text())
    summary["records"]["episodes"] += 1
    path.write_text(json.dumps(summary))
    with pytest.raises(ScoringError, match=r"records\.episodes: is 21, .* has 20"):
        read_result(path)


def test_stamps_have_what_suites_pin() -> None:
    """Else no result could be checked for it."""
    for name in suites.suite_names():
        assert set(suites.load_suite(name).pins) <= set(PACKAGES)


def test_videos_are_of_the_recorded_episodes(what, result, tmp_path, monkeypatch):
    monkeypatch.setattr(videos, "SECONDS", 1)
    made = videos.write_videos(result, what, tmp_path / videos.FOLDER, "entry")
    assert [(v.task, v.which) for v in made] == [
        (task.id, which) for task in what.suite.tasks for which in ("best", "median", "worst")
    ]
    assert videos.read_videos(tmp_path, "entry", result) == made
    recorded = {episode.id: episode for episode in result.episodes}
    with contextlib.closing(Worker(what.job)) as worker:
        for video in made:
            episode = recorded[video.episode]
            assert video.score == episode.score
            assert sum(1 for _ in worker.play(video.episode)) == episode.steps + 1
            with imageio.get_reader(tmp_path / video.file) as film:
                assert film.get_meta_data()["size"] == videos.SIZE
    for task in what.suite.tasks:
        best, median, worst = (v.score for v in made if v.task == task.id)
        assert best >= median >= worst


@pytest.mark.usefixtures("only_tiny")
def test_videos_need_the_bundle_that_a_result_is_of(
    result: Result, bundle: Path, tmp_path: Path
) -> None:
    """Which they ask for; and another's is refused, as is one of a reference's result."""
    reference, own = tmp_path / "reference.json", tmp_path / "own.json"
    write_result(reference, result)
    entrant = plan.entry(bundle).entrant.model_copy(update={"identity": "0" * 64})
    write_result(own, result.model_copy(update={"entrant": entrant}))
    asked = score("videos", own)
    assert asked.exit_code == 2
    assert asked.stderr.endswith("give the bundle of the result\n")
    for path in (own, reference):
        assert score("videos", path, bundle).exit_code == Code.CLAIM


def test_replays_are_of_the_recorded_episodes(what, result, tmp_path):
    made = replays.write_replays(result, what, tmp_path / replays.FOLDER, "entry")
    assert len(made) == len(what.suite.tasks)
    read = replays.read_replays(tmp_path, "replays/entry", result)
    steps = {episode.id: episode.steps for episode in result.episodes}
    for told in read:
        assert [shown.which for shown in told.episodes] == ["best", "median", "worst"]
        for shown, replay in zip(told.episodes, told.content["replays"], strict=True):
            assert replay["states"]["frames"] == steps[shown.episode] + 1
    text = made[0].read_text()
    score = f'"score":{read[0].episodes[0].score}'
    made[0].write_text(text.replace(score, '"score":0.123', 1))
    with pytest.raises(ScoringError, match="is not in the result"):
        replays.read_replays(tmp_path, "replays/entry", result)
