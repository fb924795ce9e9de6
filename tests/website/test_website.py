"""The site as one folder: built from the registry, by keyboard, on a phone, without a host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browsing import NARROW, Visit, browsing, visit

import vnl_envs
from vnl_envs.envs.core import Core
from vnl_envs.envs.parallel import RaceCore
from vnl_envs.registry import get_row, make_task
from vnl_envs.replays.page import jpeg
from vnl_envs.scoring.board.views import slug
from vnl_envs.scoring.results.files import read_result
from website import build, gallery
from website.checking import broken_links
from website.reuse import WAYS

SHOWN = "vnl/RodentJumpGap-v0", "vnl/RodentGoalRace-v0"


@pytest.fixture(scope="module")
def site(tmp_path_factory, gl) -> Path:
    """The site with some of its tasks and modules; the command itself does not take fewer."""
    out = tmp_path_factory.mktemp("site") / "built"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gallery, "ids", lambda: [*SHOWN])
        patched.setattr(build, "record_entries", lambda: None)
        patched.setattr(gallery, "SECONDS", 0.5)
        patched.setattr(gallery, "EPISODES", 1)
        patched.setattr(gallery, "POLICIES", ("baselines/checkpoints/ppo/RodentJumpGap-v0.onnx",))
        patched.setattr(build, "MODULES", ["tasks.task", "envs.single"])
        build.build(out)
    return out


@pytest.fixture
def at(browser, site) -> Iterator[Visit]:
    opened = visit(browser, site.as_uri(), NARROW, color_scheme="dark", reduced_motion="reduce")
    yield opened
    opened.page.context.close()
    assert opened.faults == []


@browsing
def test_all_kinds_of_pages_work_from_a_folder_on_a_phone(at):
    jump = slug(SHOWN[0])
    pages = ("index.html", "gallery/index.html", f"gallery/{jump}.html", "docs/replays.html",
             "api/tasks.task.html", "leaderboard/index.html", f"replays/{jump}.html")  # fmt: skip
    for name in pages:
        at.open(name)
        assert at.page.evaluate("document.documentElement.scrollWidth") == NARROW, name
        assert at.page.locator("h1").count() == 1, name
    at.page.wait_for_selector("#stage.drawn")


@browsing
def test_a_reader_gets_about_by_keyboard_and_search(at):
    at.open(f"gallery/{slug(SHOWN[0])}.html")
    replay = at.page.locator("a.replay")
    replay.focus()
    at.page.keyboard.press("Enter")
    at.page.wait_for_selector("#stage.drawn")
    at.page.locator("a.back").focus()
    at.page.keyboard.press("Enter")
    at.page.wait_for_selector("a.replay")
    at.open("search.html?q=ghost")
    at.page.wait_for_selector(".search a")
    assert any("Ghost" in text for text in at.texts(".search a"))
    at.open("leaderboard/index.html")
    at.page.click(".brand")
    assert at.page.url == f"{at.root}/index.html"


@browsing
def test_the_colours_chosen_in_the_documentation_hold_on_all_pages(at):
    """On a dark system: light is chosen, then dark, then the system's again."""
    paper = "getComputedStyle(document.body).backgroundColor"
    pages = ("leaderboard/index.html", f"replays/{slug(SHOWN[0])}.html")
    light, dark = "rgb(253, 253, 252)", "rgb(19, 23, 22)"
    for choice, colour in (("light", light), ("dark", dark), ("auto", dark)):
        at.open("docs/replays.html")
        at.page.locator(".theme-toggle:visible").first.click()
        assert at.page.evaluate("localStorage.theme") == choice
        for name in pages:
            at.open(name)
            assert at.page.evaluate(paper) == colour, (choice, name)
    # The documentation's theme tells its choice.
    at.faults[:] = [fault for fault in at.faults if not fault.startswith("log: Changed to")]


@pytest.mark.parametrize("task_id", [*vnl_envs.task_ids(), *vnl_envs.parallel_ids()])
def test_a_page_says_all_of_its_task(task_id):
    text = gallery.page(task_id, "somebody")
    for name in vnl_envs.task_options(task_id):
        assert f"| `{name}` |" in text
    assert task_id in text


@pytest.mark.parametrize("task_id", [*vnl_envs.task_ids(), *vnl_envs.parallel_ids()])
def test_policies_that_reach_goals_act_on_all_tasks_with_somewhere_to_go(task_id):
    """Which are all but imitation, and gaps, which have policies of their own."""
    agents = get_row(task_id).num_agents
    if agents > 1:
        core = RaceCore(make_task(task_id, agents), 1, 1)
    else:
        core = Core(make_task(task_id), 1, 1)
    core.reset(np.array([0]), core.draw([np.random.default_rng(0)]))
    shown = list(gallery.reused(task_id, core))
    own = any(gallery.committed(task_id))
    assert shown or own
    for entrant in shown:
        assert callable(entrant.policy)
        actions = entrant.policy(core.observation)
        assert actions.shape == (*core.observation.shape[:-1], core.task.body.nu)


def test_a_corridor_leads_to_its_middle_ahead():
    at = {"lateral_offset": np.array([[0.0], [0.0], [1.0]]),
          "heading": np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])}  # fmt: skip
    _, along = WAYS["lateral_offset"]
    np.testing.assert_allclose(along(at), [[1, 0], [0, -1], [1, -1]])


def test_replays_of_another_result_are_recorded_again(monkeypatch, tmp_path):
    board, name = build.make_board, "ppo"
    monkeypatch.setattr(board, "FOLDER", tmp_path)
    monkeypatch.setattr(build.make_submissions, "BASELINES", [name])
    result = read_result(board.RESULTS / f"{name}.json")
    episode = next(e for e in result.episodes if e.id.startswith(SHOWN[0]))
    folder = tmp_path / "replays" / name
    recorded = []

    def record(name: str, score: float = episode.score) -> None:
        recorded.append(score)
        row = {"which": "best", "episode": episode.id, "score": score}
        told = {"task": SHOWN[0], "episodes": [row], "content": {}}
        folder.mkdir(parents=True)
        (folder / f"{slug(SHOWN[0])}.json").write_text(json.dumps(told))
        (folder / f"{slug(SHOWN[0])}.jpg").write_bytes(jpeg(np.zeros((9, 16, 3), np.uint8)))

    monkeypatch.setattr(board, "replay", record)
    record(name, episode.score + 1)
    for _ in range(2):
        build.record_entries()
    assert recorded == [episode.score + 1, episode.score]


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#x"></a><a href="c.html"></a><img src="../d">')
    (tmp_path / "b.html").write_text('<p id="y"></p><a href="a.html"></a>')
    assert broken_links(tmp_path) == [
        "a.html: b.html#x: there is no such place on the page",
        "a.html: c.html leads nowhere",
        "a.html: ../d leads nowhere",
    ]
