"""The report and the leaderboard, in a browser as their readers have it."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from browsing import NARROW, Visit, browsing, visit
from results import (
    AUTHORS,
    DESCRIPTION,
    HOSTILE,
    MAKERS,
    edit_result,
    make_result,
    make_suite,
    write_board,
)
from rich.console import Console
from typer.testing import CliRunner

from leaderboard import make_board, make_submissions
from vnl_envs.cli.score import app
from vnl_envs.problems import Code
from vnl_envs.replays.page import jpeg
from vnl_envs.scoring.board import charts, report
from vnl_envs.scoring.board.reading import read_board
from vnl_envs.scoring.board.site import LIST
from vnl_envs.scoring.board.videos import chosen
from vnl_envs.scoring.board.views import by_task
from vnl_envs.scoring.documents.schema.board import Board, BoardEntry
from vnl_envs.scoring.documents.schema.result import Estimate
from vnl_envs.scoring.documents.schema.text import to_text
from vnl_envs.scoring.documents.suites import load_suite
from vnl_envs.scoring.results.files import read_result, records_name, write_result
from vnl_envs.scoring.run.plan import part_of
from vnl_envs.statistics import resampling

JUMP = "task-core-v2-dev-vnl-RodentJumpGap-v0.html"
RANKED = ".board tbody.ranked tr"
ENTRIES = len(MAKERS)


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Coarse intervals: their ends are not what is tested here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(resampling, "RESAMPLES", 100)
        yield


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The pages of a board of made-up results, as the command writes them, and a report."""
    folder, out = (tmp_path_factory.mktemp(name) for name in ("board", "site"))
    write_board(folder)
    done = build(folder, out)
    assert done.exit_code == 0, done.output
    suite = make_suite()
    hostile = MAKERS[-len(HOSTILE)]
    (out / "report.html").write_text(report.page(make_result(suite, hostile), suite), "utf-8")
    return out


def pages(site: Path) -> list[str]:
    """The names of all pages."""
    return sorted(path.name for path in site.glob("*.html"))


# Without a browser


class Links(HTMLParser):
    """What a page refers to, and the places in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep addresses and ids."""
        for name, value in attrs:
            if name in ("href", "src"):
                self.links.append(value or "")
            elif name == "id":
                self.ids.append(value or "")


def test_every_link_of_every_page_leads_somewhere_on_the_site(site):
    read = {name: Links((site / name).read_text("utf-8")) for name in pages(site)}
    links = [(name, urlsplit(link)) for name, links in read.items() for link in links.links]
    assert len(links) > 20 * len(read)
    for name, link in links:
        assert not link.scheme, f"{name}: {link}"
        assert not link.netloc, f"{name}: {link}"
        target = unquote(link.path) or name
        assert (site / target).is_file(), f"{name}: {link}"
        if link.fragment:
            assert link.fragment in read[target].ids, f"{name}: {link}"
    for name, links in read.items():
        assert len(links.ids) == len({*links.ids}), name


def test_downloads_hold_the_same_rows(site):
    rows = json.loads((site / "data/core-v2-dev.json").read_text())
    with (site / "data/core-v2-dev.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert len(rows) == len(table) == ENTRIES
    assert {row["name"] for row in rows} == {maker.name for maker in MAKERS}
    for row, cells in zip(rows, table, strict=True):
        assert [*row] == [*cells]
        assert float(cells["overall"]) == row["overall"]
        assert cells["rank"] == ("" if row["rank"] is None else str(row["rank"]))
        # A spreadsheet would compute what begins so.
        assert cells["name"] in (row["name"], f"'{row['name']}")
        assert not cells["name"].startswith("=")


def test_incomplete_results_and_references_have_no_rank(site):
    rows = json.loads((site / "data/core-v2-dev.json").read_text())
    unranked = {row["name"] for row in rows if row["rank"] is None}
    assert unranked == {m.name for m in MAKERS if m.part > 1 or m.status == "reference"}
    best = max((row for row in rows if row["rank"]), key=lambda row: row["overall"])
    assert best["rank"] == 1


def test_algorithms_need_five_seeds(site):
    text = (site / "algorithms.html").read_text("utf-8")
    core, quick = text.split("<h2>")[1:]
    assert re.search(
        r'<th scope="row"><bdi class="name">PPO</bdi></th><td class="number">5</td>', core
    )
    assert re.search(r"DMPO</bdi> needs 5 different training seeds, has 1", core)
    assert "No algorithm has that many yet" in quick
    assert re.search(r"PPO</bdi> needs 5 different training seeds, has 1", quick)


def test_a_gap_to_another_engine_is_of_the_episodes_that_both_ran(site):
    rows = json.loads((site / "data/core-v2-dev.json").read_text())
    (gap,) = [row["engine_gap"] for row in rows if row["engine_gap"] is not None]
    # Of the same noise, with a skill that is 0.02 lower.
    assert gap == pytest.approx(-0.02, abs=0.008)


def test_a_board_without_entries_says_so(tmp_path):
    (tmp_path / "board.json").write_text(to_text(Board(schema_version=1, entries=[])))
    assert build(tmp_path, tmp_path / "site").exit_code == 0
    assert "No entries yet" in (tmp_path / "site/index.html").read_text("utf-8")


def test_the_best_the_median_and_the_worst_episode_are_shown():
    suite = make_suite()
    task = by_task(make_result(suite, MAKERS[2]), suite)[0]
    counted = {cell.id for cell in task.task.tiers["nominal"] if cell.counted}
    places = [(*episode.id.rsplit("/", 3)[1:3], episode.score) for episode in task.episodes]
    scores = sorted(s for tier, cell, s in places if tier == "nominal" and cell in counted)
    picked = [episode.score for _, episode in chosen(task)]
    assert picked[0] == scores[-1]
    assert picked[1] in scores[len(scores) // 2 - 1 : len(scores) // 2 + 1]
    assert picked[2] == scores[0]


def test_bars_of_scores_under_0_reach_to_the_left_of_it():
    estimate = Estimate(value=-0.5, low=-0.9, high=2.0, units=3)
    over = charts.domain([estimate])
    assert over == (-0.5, 1.0)
    bar = charts.bar(estimate, over)
    assert 'class="fill" x="0" y="2" width="33.33"' in bar
    assert "M0.00 5H100.00" in bar, "what is beyond the scale ends at its edge"


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """A board of few. Not to be changed."""
    folder = tmp_path_factory.mktemp("few")
    write_board(folder, MAKERS[:4])
    return folder


@pytest.fixture
def small(few, tmp_path) -> Path:
    """It, to be changed."""
    return shutil.copytree(few, tmp_path / "small")


def build(board: Path, out: Path, *options: str) -> Any:
    """What the command says."""
    return CliRunner().invoke(app, ["site", "--board", str(board), "--out", str(out), *options])


Change = Callable[[dict[str, Any]], Any]


def edit(path: Path, change: Change) -> None:
    """Change a JSON document."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_build_is_the_same_every_time(small, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert build(small, first).exit_code == 0
    told = json.loads(build(small, second, "--json").output)
    assert told["pages"] == len(pages(first)) == len(pages(second))
    names = [path.relative_to(first) for path in first.rglob("*") if path.is_file()]
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_what_a_build_before_wrote_is_removed(small, tmp_path):
    """And neither what others put beside it, nor what they changed, nor the board itself."""
    out, once = tmp_path / "out", tmp_path / "once"
    assert build(small, out).exit_code == 0
    others = ["entry-mine.html", "results/mine.json", "data/mine.csv", "report.html"]
    for name in others:
        (out / name).write_text("mine")
    changed = "entry-core-v2-03.html"
    (out / changed).write_text("mine, too")
    edit(small / "board.json", lambda board: board.update(entries=board["entries"][:2]))
    assert build(small, out).exit_code == build(small, once).exit_code == 0
    found, fresh = ({str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
                    for folder in (out, once))  # fmt: skip
    assert found == {*fresh, *others, changed}
    listed = json.loads((out / LIST).read_text())
    (tmp_path / "precious").write_bytes((out / "index.html").read_bytes())
    for name in ("../precious", str(tmp_path / "precious"), "results", "no\0name"):
        listed[name] = listed["index.html"]
    (out / LIST).write_text(json.dumps(listed))
    assert build(small, out).exit_code == 0
    assert (tmp_path / "precious").exists()
    for text in ("{", '{"index.html": 1, "entry-mine.html": []}'):
        (out / LIST).write_text(text)
        assert build(small, out).exit_code == 0


def test_a_site_in_the_folder_of_its_board_leaves_the_board_whole(small):
    assert build(small, small).exit_code == 0
    edit(small / "board.json", lambda board: board.update(entries=board["entries"][:2]))
    assert build(small, small).exit_code == 0
    assert (small / "results/core-v2-03.json").exists()


def test_a_result_with_an_invented_score_is_left_out(small, tmp_path):
    path = small / "results/core-v2-03.json"
    edit(path, lambda r: r["overall"].update(value=r["overall"]["value"] + 0.1))
    done = build(small, tmp_path / "out")
    assert done.exit_code == Code.CLAIM
    assert "core-v2-03.json: overall.value: is" in done.output
    rows = json.loads((tmp_path / "out/data/core-v2-dev.json").read_text())
    assert [row["result"] for row in rows] == [f"results/core-v2-0{i}.json" for i in (0, 1, 2)]
    assert not (tmp_path / "out/results/core-v2-03.json").exists()


def test_an_entrant_has_one_row_in_a_table(small, tmp_path):
    """Whatever it calls itself; in another suite's table it has another."""
    names = [small / f"results/{name}.json" for name in ("core-v2-02", "core-v2-03")]
    identity = json.loads(names[0].read_text())["entrant"]["identity"]
    edit_result(names[1], lambda r: r["entrant"].update(identity=identity))
    names[1].with_suffix(".verified.json").unlink()
    done = build(small, tmp_path / "out")
    assert done.exit_code == Code.SCHEMA
    told = f"core-v2-03.json: entrant.identity: is {identity}, as in core-v2-02.json"
    assert told in done.output.replace("\n", "")
    for suite, count in (("core-v2", 3), ("quick-v2", 3)):
        assert len(json.loads((tmp_path / f"out/data/{suite}-dev.json").read_text())) == count


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        (lambda r: r["entrant"].update(identity="0" * 64), Code.CLAIM, "entrant: is 000"),
        (lambda r: r["suite"].update(sha256="0" * 64), Code.VERSION, "suite: is core-v2 with"),
        (lambda r: r["episodes"][0].update(score=1.0), Code.CLAIM, "vnl/RodentImitation-v0/nom"),
        (lambda r: r.update(split="test", season="0" * 64), Code.CLAIM, "split: is test"),
        (lambda r: r.update(engine="native"), Code.CLAIM, "engine: is native"),
    ],
)
def test_a_cross_check_is_checked_as_every_result(
    small: Path, tmp_path: Path, change: Change, code: Code, told: str
) -> None:
    edit_result(small / "results/core-v2-02.mjx.json", change)
    edit(small / "board.json", lambda board: board.update(entries=board["entries"][2:3]))
    done = build(small, tmp_path / "out")
    assert done.exit_code == code
    assert f"core-v2-02.mjx.json: {told}" in done.output


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("results/core-v2-02.speed.json", '{"a": 1}'),
        ("results/core-v2-02.speed.json", '{"workers": "two", "all": {}, "tasks": {}}'),
        ("videos/core-v2-02/videos.json", '[{"name": "best"}]'),
        ("videos/core-v2-02/videos.json", "{}"),
    ],
)
def test_documents_beside_a_result_are_checked(
    small: Path, tmp_path: Path, name: str, text: str
) -> None:
    (small / name).write_text(text)
    edit(small / "board.json", lambda board: board.update(entries=board["entries"][2:3]))
    done = build(small, tmp_path / "out")
    assert done.exit_code == Code.SCHEMA, done.output
    assert Path(name).name in done.output


def test_the_front_page_does_not_depend_on_the_order_of_the_board(small, tmp_path):
    edit(small / "board.json", lambda board: board["entries"].reverse())
    tables = read_board(small).tables
    assert [(t.suite.name, t.page) for t in tables] == [
        ("core-v2", "index.html"), ("quick-v2", "board-quick-v2-dev.html")
    ]  # fmt: skip


def season(secret: str, **more: Any) -> dict[str, Any]:
    """A season of a key, as it is listed."""
    digest = hashlib.sha256(bytes.fromhex(secret)).hexdigest()
    return {"name": "spring", "sha256": digest, "opened": "2027-01-01"} | more


def list_seasons(board: Path, *seasons: dict[str, Any]) -> None:
    (board / "seasons.json").write_text(json.dumps({"schema_version": 1, "seasons": seasons}))


def test_results_of_seasons_are_shown_if_these_were_opened(small, tmp_path):
    """The newest season first; its key only when it is closed."""
    keys = ["1" * 64, "2" * 64]
    closed = season(keys[0], closed="2027-03-01", key=keys[0])
    opened = season(keys[1], name="summer", opened="2027-03-02")
    for name, listed in (("02", closed), ("03", opened)):
        test = {"split": "test", "season": listed["sha256"]}
        edit_result(small / f"results/core-v2-{name}.json", lambda r, test=test: r.update(test))
        (small / f"results/core-v2-{name}.verified.json").unlink()
    edit(small / "board.json", lambda b: b.update(entries=b["entries"][:4]))
    edit(small / "board.json", lambda b: b["entries"][2].update(cross_checks=[]))
    refused = build(small, tmp_path / "out")
    assert refused.exit_code == Code.CLAIM
    assert f"core-v2-02.json: season: is {closed['sha256']}, which seasons.json" in refused.output
    assert "core-v2-03.json: season: is" in refused.output
    list_seasons(small, closed, opened)
    assert build(small, tmp_path / "out").exit_code == 0
    splits = [table.season or table.split for table in read_board(small).tables]
    assert splits == [opened["sha256"], closed["sha256"], "dev"]
    text = (tmp_path / "out/index.html").read_text("utf-8")
    assert re.search(rf"<td><code>{closed['sha256']}</code></td><td><code>{keys[0]}</code>", text)
    assert re.search(rf"<td><code>{opened['sha256']}</code></td><td>open</td>", text)


@pytest.mark.parametrize(
    "wrong",
    [
        [season("1" * 64, key="1" * 64)],
        [season("1" * 64, closed="2027-03-01")],
        [season("1" * 64, closed="2027-03-01", key="2" * 64)],
        [season("1" * 64, closed="2026-03-01", key="1" * 64)],
        [season("1" * 64), season("1" * 64, name="summer")],
    ],
)
def test_a_season_closes_with_the_key_that_it_opened_with(tmp_path, wrong):
    (tmp_path / "board.json").write_text(to_text(Board(schema_version=1, entries=[])))
    list_seasons(tmp_path, *wrong)
    done = build(tmp_path, tmp_path / "out")
    assert done.exit_code == Code.SCHEMA, done.output
    assert "seasons.json" in done.output


def test_a_cross_check_is_of_one_entry(small, tmp_path):
    cross = {"cross_checks": ["core-v2-02.mjx.json"]}
    edit(small / "board.json", lambda board: board["entries"][1].update(cross))
    done = build(small, tmp_path / "out")
    assert done.exit_code == Code.SCHEMA
    assert "lists 'core-v2-02.mjx.json' 2 times" in done.output


def test_publishing_again_keeps_what_still_holds(small, monkeypatch):
    monkeypatch.setattr(make_board, "BOARD", small / "board.json")
    monkeypatch.setattr(make_board, "RESULTS", small / "results")
    name, cross = "core-v2-02.json", "core-v2-02.mjx.json"
    order = [row.result for row in make_board.board()]
    make_board.publish(BoardEntry(result=name, pinned=True))
    make_board.publish(BoardEntry(result=name))
    rows = {row.result: row for row in make_board.board()}
    assert [*rows] == order
    assert rows[name] == BoardEntry(result=name, pinned=True, cross_checks=[cross])
    # Not of other policies.
    for file in (name, records_name(name)):
        shutil.copyfile(small / "results" / file.replace("02", "03"), small / "results" / file)
    make_board.publish(BoardEntry(result=name))
    rows = {row.result: row for row in make_board.board()}
    assert rows[name].cross_checks == []


def test_a_bundle_has_the_policies_of_its_suite(tmp_path, monkeypatch):
    monkeypatch.setattr(make_submissions, "FOLDER", tmp_path)
    row = make_board.Row("ppo", "bodies-v1")
    assert row.stem == "bodies-v1-ppo"
    tasks = {task.id for task in load_suite("bodies-v1").tasks}
    entry = row.candidate.entrant
    assert set(entry.policies) <= tasks
    assert "vnl/RodentGoalReaching-v0" in entry.policies
    assert [path.name for path in tmp_path.iterdir()] == ["bodies-v1-ppo.zip"]


def test_report_names_the_tasks_the_failures_and_hostile_names_as_they_are(tmp_path):
    suite = make_suite("quick-v2")
    result = make_result(suite, MAKERS[4]._replace(name="[bold]no markup[/bold]"))
    out = StringIO()
    Console(file=out, width=110).print(report.summary(result, suite))
    text = out.getvalue()
    assert "[bold]no markup[/bold]" in text
    assert "Rodent jump gap" in text
    assert re.search(r"Humanoid imitation: \d+ of \d+ episodes count 0: crash", text)
    told = report.record(result, suite)
    assert told["overall"]["value"] == result.overall.value
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert sum(f["reason"] == "crash" for f in told["tasks"][suite.tasks[0].id]["failures"]) > 0


@pytest.mark.parametrize(
    ("engine", "part", "options"),
    [
        ("native", None, ""),
        ("native", ([], 2), " --episodes 2"),
        ("native", (["vnl/RodentJumpGap-v0"], None), " --task vnl/RodentJumpGap-v0"),
        ("native", (["vnl/RodentImitation-v0"], 1), " --task vnl/RodentImitation-v0 --episodes 1"),
        ("jax", ([], None), " --engine jax"),
        ("jax", ([], 5), " --engine jax --episodes 5"),
    ],
)
def test_a_report_says_how_to_run_just_its_episodes(engine, part, options):
    suite = make_suite()
    scope = (part and part_of(suite, engine, *part)) or suite
    ids = {spec.id for spec in scope.specs}
    whole = make_result(suite, MAKERS[2])
    some = [episode for episode in whole.episodes if episode.id in ids]
    result = whole.model_copy(update={"engine": engine, "episodes": some})
    run, verify = report.reproduce(result, suite, "a.json", "a.zip").splitlines()
    assert run == f"vnl-envs score run a.zip --suite core-v2 --split dev{options} --out run"
    assert verify == "vnl-envs score verify a.json a.zip"
    odd = result.model_copy(update={"episodes": some[1::2]})
    assert report.reproduce(odd, suite, "a.json", "a.zip") == verify


def test_report_of_another_version_of_a_suite_is_refused(tmp_path):
    path = tmp_path / "result.json"
    write_result(path, make_result(make_suite("quick-v2"), MAKERS[3]))
    done = CliRunner().invoke(app, ["report", str(path)])
    assert done.exit_code == Code.VERSION
    assert done.output.startswith("error[version] suite: is quick-v2 with SHA-256")


# In a browser


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def root(site) -> Iterator[str]:
    """The address that the site is served at."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def at(browser, root) -> Iterator[Visit]:
    """A new page; nothing may go wrong on it."""
    opened = visit(browser, root)
    yield opened
    opened.page.context.close()
    assert opened.faults == []


@browsing
def test_every_page_fits_a_phone_and_says_what_is_on_it(site, browser, root):
    """Headers, regions and pictures have names, and nothing goes wrong."""
    opened = visit(browser, root, NARROW)
    nameless = "th:not([scope]), [role=region]:not([aria-label]), svg[role=img]:not([aria-label])"
    for name in pages(site):
        opened.open(name)
        width = opened.page.evaluate("document.documentElement.scrollWidth")
        assert width <= NARROW, name
        assert opened.page.locator(nameless).count() == 0, name
        assert opened.page.locator("h1").count() == 1, name
    opened.page.context.close()
    # The videos of made-up results are none.
    assert [fault for fault in opened.faults if ".mp4" not in fault] == []


@browsing
def test_faults_are_noticed(browser, root):
    opened = visit(browser, root)
    opened.open("index.html")
    opened.page.evaluate("""() => {
        document.body.setAttribute("style", "color: red");
        document.body.append(Object.assign(new Image(), {src: "http://example.invalid/"}));
    }""")
    opened.page.wait_for_timeout(100)
    opened.page.context.close()
    assert sum("Content Security Policy" in fault for fault in opened.faults) == 2


@browsing
def test_columns_sort_in_both_directions_and_pinned_rows_stay(at):
    at.open("index.html")
    pinned = at.texts(".board tbody.pinned .name")
    for key, label in (("overall", "Overall"), ("steps", "Steps"), ("retention", "Kept")):
        for clicks in (1, 2):
            at.page.click(f".board th[data-key={key}] button")
            values = at.page.eval_on_selector_all(
                f"{RANKED} td[data-label={label}]", "cells => cells.map(c => c.dataset.value)"
            )
            numbers = [float(value) for value in values if value]
            direction = at.page.get_attribute(f".board th[data-key={key}]", "aria-sort")
            assert numbers == sorted(numbers, reverse=direction == "descending")
            assert "" not in values[: len(numbers)], "what is missing comes last"
            assert (direction == "descending") == ((clicks == 1) == (key != "steps"))
    assert at.texts(".board tbody.pinned .name") == pinned
    at.page.click(".board th[data-key=name] button")
    names = at.texts(f"{RANKED} .name")
    assert names == at.page.evaluate("names => names.sort((a, b) => a.localeCompare(b))", names)


@browsing
def test_the_address_holds_sorting_filter_and_comparison(browser, root, at):
    at.open("index.html")
    at.page.fill("#query", "dmpo")
    assert at.texts(".board .name") == ["DMPO baseline"]
    at.page.fill("#query", "ppo")
    at.page.select_option("#status", "verified")
    at.page.click(".board th[data-key=overall] button")
    at.page.click(".board th[data-key=overall] button")
    names = at.texts(".board .name")
    assert {*names} == {m.name for m in MAKERS if m.algorithm == "PPO" and m.status == "verified"}
    assert at.texts("#shown") == [f"{len(names)} of {ENTRIES} entries"]
    again = visit(browser, root)
    again.page.goto(at.page.url)
    assert again.texts(".board .name") == names
    assert again.page.input_value("#query") == "ppo"
    assert again.faults == []
    again.page.context.close()
    at.page.fill("#query", "")
    at.page.select_option("#status", "")
    assert len(at.texts(".board .name")) == ENTRIES
    assert "filter" not in at.page.url


@browsing
def test_two_entries_side_by_side(browser, root, at):
    at.open("index.html")
    for name in ("PPO baseline", "DMPO baseline"):
        at.page.locator(".board tr", has=at.page.get_by_text(name, exact=True)).get_by_role(
            "checkbox"
        ).check()
    assert at.texts("#comparison thead bdi") == ["PPO baseline", "DMPO baseline"]
    rows = at.page.eval_on_selector_all(
        "#comparison tbody tr", "rows => rows.map(r => [...r.cells].map(c => c.innerText))"
    )
    (overall,) = [row for row in rows if row[0] == "Overall"]
    a, b, difference = (float(cell.split()[0].replace("−", "-")) for cell in overall[1:])
    assert difference == pytest.approx(a - b, abs=0.0015)
    again = visit(browser, root)
    again.page.goto(at.page.url)
    assert again.texts("#comparison thead bdi") == ["PPO baseline", "DMPO baseline"]
    again.page.context.close()
    at.page.click("#comparison button")
    assert not at.page.is_visible("#comparison")


@browsing
def test_an_address_from_anybody_does_no_harm(at):
    at.open(
        "index.html?filter=<img src=x onerror=alert(1)>&sort=__proto__&status=x&compare=a,b,<b>"
    )
    assert at.texts("#shown") == [f"1 of {ENTRIES} entries"]
    assert at.texts(".board .name") == [HOSTILE[1]]
    assert not at.page.is_visible("#comparison")
    assert at.page.query_selector("main img") is None


@browsing
def test_all_is_there_without_scripts(site, browser, root, at):
    plain = visit(browser, root, java_script_enabled=False)
    for name in ("index.html", JUMP, "cost.html", "algorithms.html"):
        at.open(name)
        plain.open(name)
        for selector in ("table td", "table bdi", "h1, h2, p, figure"):
            shown = plain.page.locator(f"main :is({selector}):visible")
            scripted = at.page.locator(f"main :is({selector}):visible")
            assert shown.count() == scripted.count() > 0, (name, selector)
    plain.open("index.html")
    assert plain.page.locator(".board tbody tr:visible").count() == ENTRIES
    assert not plain.page.is_visible("#controls"), "controls that do nothing are not shown"
    plain.page.context.close()


_RATIO = r"""() => {
  const level = (name) => {
    document.documentElement.style.color = `var(${name})`;
    const [r, g, b] = getComputedStyle(document.documentElement).color.match(/\d+/g)
      .map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  return ["--ink", "--quiet", "--accent"].flatMap((text) => ["--paper", "--raised"].map(
    (ground) => [level(text), level(ground)].sort((a, b) => b - a)).map(([a, b]) => a / b));
}"""


@browsing
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser, root, scheme):
    """By 4.5 to 1 at least (WCAG 2.2, 1.4.3)."""
    opened = visit(browser, root, color_scheme=scheme)
    opened.open("index.html")
    assert min(opened.page.evaluate(_RATIO)) >= 4.5
    opened.page.context.close()


@browsing
def test_hostile_names_are_text(at):
    at.open("index.html")
    assert {*HOSTILE} <= {*at.page.locator(".board .name").all_text_contents()}
    for i, name in enumerate(HOSTILE, ENTRIES - len(HOSTILE)):
        at.open(f"entry-core-v2-{i:02}.html")
        assert at.page.locator("h1").text_content() == name
        assert name in at.page.title()
        description = at.page.locator(".description").text_content()
        assert description == DESCRIPTION
        assert at.texts(".facts bdi, .facts dd")[0] == ", ".join(AUTHORS)
        assert at.page.locator("main :is(script, img, u, i)").count() == 0
    at.open("report.html")
    assert at.page.locator("h1").text_content() == HOSTILE[0]
    assert at.page.locator("script").count() == 0


@browsing
def test_the_pages_work_from_a_folder(site, browser):
    opened = visit(browser, site.as_uri())
    opened.open("index.html?filter=dmpo")
    assert opened.texts(".board .name") == ["DMPO baseline"]
    opened.page.context.close()
    assert opened.faults == []


def _replays(board: Path, key: str) -> None:
    """Files of replays of an entry whose content is nobody's."""
    result = read_result(board / f"results/{key}.json")
    episode = next(e for e in result.episodes if e.id.startswith("vnl/RodentJumpGap-v0/nominal"))
    folder = board / "replays" / key
    folder.mkdir(parents=True)
    row = {"which": "best", "episode": episode.id, "score": episode.score}
    content = {"worlds": [], "skins": {"../x": "</script><script>alert(1)</script>"}, "replays": []}
    told = {"task": "vnl/RodentJumpGap-v0", "episodes": [row], "content": content}
    (folder / "vnl-RodentJumpGap-v0.json").write_text(json.dumps(told))
    (folder / "vnl-RodentJumpGap-v0.jpg").write_bytes(jpeg(np.zeros((9, 16, 3), np.uint8)))


def show(board: Path, key: str, *options: Any) -> Any:
    """What the command says of an entry."""
    files = (board / f"results/{key}.json", "--suite", board / "suites/core-v2.json")
    return CliRunner().invoke(app, ["report", *map(str, (*files, *options))])


@browsing
@pytest.mark.parametrize("page", ["entry-core-v2-01", "report"])
def test_replays_are_data_whoever_made_them(page, small, tmp_path, browser):
    key, out = "core-v2-01", tmp_path / "out"
    _replays(small, key)
    assert build(small, out).exit_code == 0
    done = show(small, key, "--replays", small / "replays", "--html", out / "report.html")
    assert done.exit_code == 0, done.output
    opened = visit(browser, out.as_uri())
    opened.open(f"{page}.html")
    assert opened.page.evaluate("document.querySelector('.watch img').decode()") is None
    opened.page.click(".watch a")
    opened.page.wait_for_selector("#trouble:not(:empty)", state="attached")
    assert opened.page.is_visible("#stage img"), "the picture stays"
    opened.page.click("a.back")
    assert opened.page.url.endswith(f"{page}.html")
    opened.page.context.close()
    assert opened.faults == []


def test_a_report_without_the_replays_that_it_should_have_is_refused(small, tmp_path):
    html = tmp_path / "report.html"
    for options in (["--html", html], []):
        done = show(small, "core-v2-01", "--replays", tmp_path, *options)
        assert done.exit_code == 2, done.output
    assert not html.exists()
