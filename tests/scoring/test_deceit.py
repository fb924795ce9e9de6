"""Results and boards of strangers that lie: what the commands show, print and publish of them."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from results import (
    MAKERS,
    make_anchors,
    make_result,
    played,
    read_files,
    small_suite,
    write_entry,
    write_files,
)
from typer.testing import CliRunner

from vnl_envs.cli.score import app
from vnl_envs.problems import Code
from vnl_envs.scoring.documents import suites
from vnl_envs.scoring.documents.schema.board import Board, BoardEntry
from vnl_envs.scoring.documents.schema.result import Result
from vnl_envs.scoring.documents.schema.text import to_text
from vnl_envs.scoring.results.files import records_name, write_result
from vnl_envs.scoring.results.scores import aggregate
from vnl_envs.scoring.submission import archive
from vnl_envs.utils.texts import shown, skeleton

ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202e\u200b"
"""Sets a terminal's title, clears it, turns the direction of what follows, and shows nothing."""
KEY = "5" * 64
SUITE = small_suite()

Change = Callable[[dict[str, Any]], Any]


def score(*arguments: Any) -> Any:
    """`vnl-envs score`."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board of three entries. Not to be changed."""
    folder = tmp_path_factory.mktemp("sound")
    for name in ("results", "suites", "anchors"):
        (folder / name).mkdir()
    (folder / "suites/core-v2.json").write_text(to_text(SUITE))
    (folder / "anchors/core-v2.json").write_text(to_text(make_anchors(SUITE)))
    entries = []
    for i, maker in enumerate(MAKERS[1:4]):
        path = folder / f"results/core-v2-{i:02}.json"
        write_entry(path, make_result(SUITE, maker), verified=maker.status == "verified")
        entries.append(BoardEntry(result=path.name, pinned=maker.pinned))
    (folder / "board.json").write_text(to_text(Board(schema_version=1, entries=entries)))
    return folder


@pytest.fixture
def board(sound: Path, tmp_path: Path) -> Path:
    """It, to be changed."""
    return shutil.copytree(sound, tmp_path / "board")


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find the made-up suite."""
    monkeypatch.setattr(suites, "load_suite", lambda name: SUITE)
    monkeypatch.setattr(suites, "load_anchors", lambda of, source: make_anchors(SUITE))


def edit(path: Path, change: Change) -> None:
    """Change a JSON document."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def rows_of(site: Path) -> list[str]:
    """The results that a site shows."""
    return [row["result"] for row in json.loads((site / "data/core-v2-dev.json").read_text())]


# Contradictions


def raise_scores(result: Result) -> Result:
    """Every episode at its ceiling, whatever its metrics say; all sums right."""
    made = [e.model_copy(update={"score": 0.0 if e.reason else 1.0}) for e in result.episodes]
    return with_sums(result, made)


def hide_falls(result: Result) -> Result:
    """Fewer steps than the metrics say."""
    made = [e.model_copy(update={"steps": 0}) for e in result.episodes]
    return with_sums(result, made)


def invent_metrics(result: Result) -> Result:
    """One that the task does not have."""
    made = [e.model_copy(update={"metrics": {**e.metrics, "fame": 1.0}}) for e in result.episodes]
    return with_sums(result, made)


def fail_with_honours(result: Result) -> Result:
    """Failures that got somewhere."""
    made = [e.model_copy(update={"end": "failed", "reason": "crash", "score": 0.0})
            for e in result.episodes]  # fmt: skip
    return with_sums(result, made)


def cut_time(result: Result) -> Result:
    """Falls whose returns are divided by fewer steps than they took."""
    made = [
        e.model_copy(update={"end": "terminated", "score": min(1.0, 2 * e.score)})
        if "Imitation" in e.id else e for e in result.episodes
    ]  # fmt: skip
    return with_sums(result, made)


def with_sums(result: Result, made: list[Any]) -> Result:
    """A result of these episodes."""
    tasks, overall = aggregate(SUITE, make_anchors(SUITE), made)
    return result.model_copy(update={"episodes": made, "tasks": tasks, "overall": overall})


@pytest.mark.usefixtures("made_up")
@pytest.mark.parametrize(
    ("forge", "told"),
    [
        (raise_scores, "has the score 1.0, by its "),
        (hide_falls, "has 0 steps, by its metrics 500"),
        (invent_metrics, "must have the metrics "),
        (fail_with_honours, "has failed: nothing else is recorded of it"),
        (cut_time, "has the score "),
    ],
)
def test_an_episode_that_contradicts_itself_is_shown_by_no_command(
    board: Path, tmp_path: Path, forge: Callable[[Result], Result], told: str
) -> None:
    result = make_result(SUITE, MAKERS[3])
    honest, forged = board / "results/core-v2-01.json", board / "results/core-v2-02.json"
    write_result(forged, forge(result))
    (board / "results/core-v2-02.verified.json").unlink()
    page = tmp_path / "page.html"
    for command in (
        ("verify", forged), ("verify", forged, "--json"), ("report", forged, "--html", page),
        ("report", forged, "--json"), ("compare", honest, forged), ("compare", forged, honest),
        ("videos", forged, "--out", tmp_path),
    ):  # fmt: skip
        done = score(*command)
        assert done.exit_code == Code.CLAIM, done.output
        assert told in done.output
        assert "overall" not in done.output
    assert not page.exists()
    done = score("site", "--board", board, "--out", tmp_path / "site")
    assert done.exit_code == Code.CLAIM
    assert "core-v2-02.json: vnl/" in done.output
    assert told in done.output
    assert "results/core-v2-02.json" not in rows_of(tmp_path / "site")


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("results/core-v2-01.speed.json", lambda d: d["all"].update(steps=10**9),
         "core-v2-01.speed.json: is of "),
        ("videos/core-v2-01/videos.json", lambda d: d[0].update(score=0.999),
         "videos/core-v2-01/videos.json: videos/core-v2-01/best.mp4: is of vnl/"),
        ("results/core-v2-01.verified.json", lambda d: d.update(result="0" * 64),
         "core-v2-01.verified.json: is of the result 000"),
        ("results/core-v2-01.verified.json", lambda d: d.update(episodes=3, run_again=3,
         same_to_the_bit=3), "core-v2-01.verified.json: is of 3 of 3 episodes"),
    ],
)  # fmt: skip
def test_what_lies_beside_a_result_follows_from_it_or_is_left_out(
    board: Path, tmp_path: Path, name: str, change: Change, told: str
) -> None:
    third = board / "results/core-v2-02.speed.json"
    rates = {"episodes": 0, "steps": 0, "seconds": 1.0, "policy_seconds": 0.0,
             "simulation_seconds": 0.0, "steps_per_second": 0.0, "overhead": 0.0}  # fmt: skip
    third.write_text(json.dumps({"workers": 1, "all": rates, "tasks": {}}))
    shutil.copyfile(third, board / "results/core-v2-01.speed.json")
    third.unlink()
    folder = board / "videos/core-v2-01"
    folder.mkdir(parents=True)
    (folder / "best.mp4").write_bytes(b"\0\0\0\x14ftypisom")
    episode = read_files(board / "results/core-v2-01.json")["episodes"][0]
    video = {"task": "vnl/RodentImitation-v0", "which": "best", "episode": episode["id"],
             "score": episode["score"], "file": "videos/core-v2-01/best.mp4"}  # fmt: skip
    (folder / "videos.json").write_text(json.dumps([video]))
    if "speed" not in name:
        (board / "results/core-v2-01.speed.json").unlink()
    edit(board / name, change)
    done = score("site", "--board", board, "--out", tmp_path / "site")
    assert done.exit_code == Code.CLAIM, done.output
    assert told in done.output
    assert "results/core-v2-01.json" in rows_of(tmp_path / "site")


def bundle_of(result: dict[str, Any], **changes: Any) -> dict[str, bytes]:
    """The files of what a result says to be of, but for changes."""
    entrant, policy = result["entrant"], "policies/rat.onnx"
    said = {key: entrant[key] for key in ("name", "authors", "licence", "date", "description")}
    tasks = {task: {"policy": policy, "training": told["training"]}
             for task, told in entrant["policies"].items()}  # fmt: skip
    document = {"schema_version": 1, "suite": "core-v2", "tasks": tasks} | said | changes
    return {
        archive.MANIFEST: b"{}",
        archive.SUBMISSION: json.dumps(document).encode(),
        policy: b"x",
    }


def test_a_bundle_on_the_board_is_that_of_its_result(board: Path, tmp_path: Path) -> None:
    """Else it is left out: another's, one that says other things, and none."""
    path, bundle = board / "results/core-v2-01.json", board / "submissions/core-v2-01.zip"
    (board / "results/core-v2-01.verified.json").unlink()
    bundle.parent.mkdir()
    digest = hashlib.sha256(b"x").hexdigest()
    edit(path, lambda r: [p.update(sha256=digest) for p in r["entrant"]["policies"].values()])
    result = json.loads(path.read_text())

    def built(files: dict[str, bytes], *, same: bool = True) -> Any:
        archive.write_bundle(bundle, files)
        identity = archive.identity_of(files) if same else "0" * 64
        edit(path, lambda r: r["entrant"].update(identity=identity))
        return score("site", "--board", board, "--out", tmp_path / "site")

    done = built(bundle_of(result))
    assert done.exit_code == 0, done.output
    published = tmp_path / "site/submissions/core-v2-01.zip"
    assert published.read_bytes() == bundle.read_bytes()
    published.unlink()
    training = {t: {"policy": "policies/rat.onnx", "training": p["training"] | {"env_steps": 1}}
                for t, p in result["entrant"]["policies"].items()}  # fmt: skip
    for files, told in (
        (bundle_of(result, name="Somebody"), "name: is another than the result says"),
        (bundle_of(result, tasks=training), "policies: is another than the result says"),
        ({archive.MANIFEST: b"{}", archive.SUBMISSION: b"{}"}, "schema_version: Field required"),
    ):
        done = built(files)
        assert done.exit_code in (Code.CLAIM, Code.SCHEMA)
        assert told in done.output
    done = built(bundle_of(result), same=False)
    assert done.exit_code == Code.CLAIM
    assert "core-v2-01.zip: is the bundle" in done.output
    bundle.write_bytes(b"no zip")
    done = score("site", "--board", board, "--out", tmp_path / "site")
    assert done.exit_code == Code.ARCHIVE
    assert not published.exists()


# Texts


def everywhere(text: str) -> list[tuple[str, Change]]:
    """Where a result has texts of its authors."""
    task = "vnl/RodentImitation-v0"
    return [
        ("stamp", lambda r: r["stamps"].update(cpu=text)),
        ("stamp's name", lambda r: r["stamps"].update({text: "1"})),
        ("episode", lambda r: r["episodes"][0].update(id=f"{task}/nominal/{text}/0")),
        ("metric", lambda r: r["episodes"][0]["metrics"].update({text: 1.0})),
        ("name", lambda r: r["entrant"].update(name=text)),
        ("author", lambda r: r["entrant"].update(authors=[text])),
        ("licence", lambda r: r["entrant"].update(licence=text)),
        ("description", lambda r: r["entrant"].update(description=text)),
        ("suite", lambda r: r["suite"].update(name=text)),
        ("suite's hash", lambda r: r["suite"].update(sha256=text)),
        ("tier", lambda r: r["tasks"][task]["tiers"].update({text: {}})),
        ("stratum", lambda r: r["tasks"][task]["tiers"]["nominal"]["strata"].update({text: {}})),
        ("algorithm", lambda r: r["entrant"]["policies"][task]["training"].update(algorithm=text)),
        ("hardware", lambda r: r["entrant"]["policies"][task]["training"].update(hardware=text)),
        ("engine", lambda r: r.update(engine=text)),
        ("key", lambda r: r.update({text: text})),
        ("date", lambda r: r["entrant"].update(date=text)),
    ]


@pytest.mark.usefixtures("made_up")
def test_texts_of_strangers_never_reach_a_terminal_as_they_are(board: Path) -> None:
    path = board / "results/core-v2-01.json"
    whole = read_files(path)
    for where, change in everywhere(ESCAPE):
        document = copy.deepcopy(whole)
        change(document)
        write_files(path, document)
        for command in (("verify", path), ("report", path), ("compare", path, path)):
            done = score(*command)
            assert done.exit_code == Code.SCHEMA, (where, done.output)
            assert not {*ESCAPE} & {*done.output} - {*"]0;owned[2J"}, where
    path.write_text(f'{{"{ESCAPE}": 1, "{ESCAPE}": 2}}'.replace("\x1b", "\\u001b"))
    done = score("verify", path)
    assert done.exit_code == Code.SCHEMA
    assert not any(unicodedata.category(c) in ("Cc", "Cf") for c in done.output.rstrip("\n"))


def test_foreign_text_is_shown_in_one_visible_line() -> None:
    assert shown("a\x1b[2J\nb\u202e\ufe0f\x9b") == "a\\x1b[2J\\nb\\u202e\\ufe0f\\x9b"
    assert shown("Ünïcödé 大鼠 🐀") == "Ünïcödé 大鼠 🐀"
    assert len(shown("x" * 500)) == 100


# Names


@pytest.mark.parametrize(
    ("name", "becomes"),
    [
        ("PPO\ufe0f", None),
        ("\u0420\u0420\u041e", None),
        ("PPO\u200b", None),
        ("P\u00adPO", None),
        ("ＰＰＯ  two", "PPO two"),
        (" PPO ", "PPO"),
        ("Ä", None),
        ("   ", None),
    ],
)
def test_names_are_normalised_ascii(board: Path, tmp_path: Path, name: str, becomes: Any) -> None:
    edit(board / "results/core-v2-02.json", lambda r: r["entrant"].update(name=name))
    (board / "results/core-v2-02.verified.json").unlink()
    done = score("site", "--board", board, "--out", tmp_path / "site")
    rows = json.loads((tmp_path / "site/data/core-v2-dev.json").read_text())
    assert (becomes in [row["name"] for row in rows]) == (becomes is not None)
    assert done.exit_code == (Code.OK if becomes else Code.SCHEMA), done.output
    assert len(rows) == (3 if becomes else 2)


@pytest.mark.parametrize("name", ["PPO baseIine", "ppo-base1ine", "PPO  baseline", "PPO baseline."])
def test_a_name_that_would_be_taken_for_an_entry_before_it_is_left_out(
    board: Path, tmp_path: Path, name: str
) -> None:
    edit(board / "results/core-v2-02.json", lambda r: r["entrant"].update(name=name))
    done = score("site", "--board", board, "--out", tmp_path / "site")
    assert done.exit_code == Code.SCHEMA
    assert "core-v2-02.json: entrant.name: " in done.output
    assert "'PPO baseline', an entry before it" in done.output
    assert rows_of(tmp_path / "site") == ["results/core-v2-00.json", "results/core-v2-01.json"]
    assert skeleton("modern") == skeleton("rnodern") != skeleton("moder")


# Numbers


def numbers(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Places of one number of each kind: of a list, the first member's."""
    if isinstance(document, bool) or document is None or isinstance(document, str):
        return []
    if isinstance(document, int | float):
        return [path]
    members = document.items() if isinstance(document, dict) else [*enumerate(document)][:1]
    return [place for key, value in members for place in numbers(value, (*path, key))]


def test_no_number_stops_a_site(board: Path, tmp_path: Path) -> None:
    """Enormous, negative, or both: the result is named and left out."""
    path = board / "results/core-v2-02.json"
    whole = read_files(path)
    del whole["records"]
    places = numbers(whole)
    kinds = {tuple(k for k in place if not isinstance(k, int))[-2:]: place for place in places}
    assert len(kinds) > 20
    for place in kinds.values():
        for value in (-(10**300), 10**300):
            document = inner = copy.deepcopy(whole)
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
            write_files(path, document)
            done = score("verify", path, "--suite", board / "suites/core-v2.json")
            assert done.exit_code in (Code.SCHEMA, Code.VERSION), (place, done.output)
    edit(path, lambda r: r["entrant"]["policies"].update(whole["entrant"]["policies"]))
    done = score("site", "--board", board, "--out", tmp_path / "site", "--json")
    told = json.loads(done.output)
    assert done.exit_code == Code.SCHEMA
    assert {p["where"] for p in told["problems"]} == {records_name("core-v2-02.json")}
    assert told["pages"] > 0
    assert rows_of(tmp_path / "site") == ["results/core-v2-00.json", "results/core-v2-01.json"]


# Files


def link(path: Path, target: Path) -> None:
    """A link in place of whatever is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def published(site: Path) -> dict[str, bytes]:
    """Every file of a site."""
    return {str(p.relative_to(site)): p.read_bytes() for p in site.rglob("*") if p.is_file()}


def test_a_site_holds_only_what_its_board_lists(board: Path, tmp_path: Path) -> None:
    """No links, which could lead to a season's key, and no files of other kinds."""
    key = tmp_path / "season.key"
    key.write_text(KEY)
    before = score("site", "--board", board, "--out", tmp_path / "before")
    assert before.exit_code == 0, before.output
    link(board / "videos/core-v2-01/key.mp4", key)
    link(board / "videos/key.txt", key)
    (board / "videos/page.html").write_text("<script>alert(1)</script>")
    (board / "videos/deep").mkdir()
    (board / "videos/deep/page.html").write_text("<script>alert(1)</script>")
    (board / "results/other.json").write_text("{}")
    episode = read_files(board / "results/core-v2-01.json")["episodes"][0]
    listed = [
        {"task": "vnl/RodentImitation-v0", "which": "best", "episode": episode["id"],
         "score": episode["score"], "file": f"videos/core-v2-01/{name}.mp4"}
        for name in ("key", "page")
    ]  # fmt: skip
    index = board / "videos/core-v2-01/videos.json"
    for rows, told in ((listed[:1], "is a link"), (listed[1:], "is no MP4 file")):
        index.write_text(json.dumps(rows))
        (board / "videos/core-v2-01/page.mp4").write_text("<script>alert(1)</script>")
        done = score("site", "--board", board, "--out", tmp_path / told)
        assert done.exit_code == Code.SCHEMA, done.output
        assert told in done.output
        assert published(tmp_path / told) == published(tmp_path / "before")


@pytest.mark.parametrize(
    "name",
    ["results/core-v2-02.json", "results/core-v2-02.episodes.json.xz",
     "results/core-v2-02.speed.json", "results/core-v2-02.verified.json",
     "submissions/core-v2-02.zip", "videos/core-v2-02/videos.json", "suites/core-v2.json",
     "anchors/core-v2.json", "board.json", "seasons.json"],
)  # fmt: skip
def test_files_of_a_board_are_regular_ones_of_its_own(
    board: Path, tmp_path: Path, name: str
) -> None:
    """A link, a pipe and an endless device end nothing, and are not read."""
    path = board / name
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(KEY)
    for replace in (
        lambda: link(path, elsewhere), lambda: link(path, Path("/dev/zero")),
        lambda: os.mkfifo(path),
    ):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        replace()
        done = score("site", "--board", board, "--out", tmp_path / "site")
        assert done.exit_code == Code.SCHEMA, done.output
        assert Path(name).name in done.output
        assert KEY not in done.output


def test_a_score_is_not_taken_from_a_made_up_episode() -> None:
    """What these tests make up is consistent with itself."""
    spec = next(s for s in SUITE.specs if "Goal" in s.task)
    assert played(spec, 0.6).score == pytest.approx(0.6)
