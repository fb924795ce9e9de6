"""Replays in a browser: what they show is what MuJoCo draws, and they harm nobody."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import mujoco
import numpy as np
import pytest
from browsing import NARROW, Visit, browsing, visit
from typer.testing import CliRunner

import vnl_envs
from vnl_envs.cli.main import app
from vnl_envs.evaluation.play import Player, record_episodes
from vnl_envs.rendering import gl_thread
from vnl_envs.rendering.renderer import following_camera, scene_option
from vnl_envs.replays.columns import Column, pack
from vnl_envs.replays.page import write_page
from vnl_envs.replays.recording import Recording
from vnl_envs.scenes.world import World
from vnl_envs.testing.environments import task_of

ROOT = Path(__file__).parents[2]
STATES = 5
SMALL = 480
"""Width of a window, pixels: pictures are drawn without a graphics card."""
BODIES = "vnl/RodentImitation-v0", "vnl/HumanoidImitation-v0"
HOSTILE = '</script><img src=x onerror=alert(1)> $policy &amp; \u202e"'
PLAYED = "played.html"


def random_states(world: World, seed: int) -> list[mujoco.MjData]:
    """The first body somewhere, turned, its joints anywhere within their middle two thirds."""
    rng, states, body = np.random.default_rng(seed), [], world.body
    for _ in range(STATES):
        data = mujoco.MjData(world.model)
        low, high = body.joint_range.T
        pose = body.standing_qpos.copy()
        pose[:2] = rng.uniform(-3, 3, 2)
        pose[2] *= 1.5
        pose[3:7] = rng.normal(size=4) * 0.2 + [1, 0, 0, rng.uniform(-2, 2)]
        pose[3:7] /= np.linalg.norm(pose[3:7])
        pose[7:] = (low + high) / 2 + rng.uniform(-1, 1, len(low)) * (high - low) / 3
        data.qpos[body.qpos] = pose
        data.mocap_pos[:] += rng.normal(size=data.mocap_pos.shape)
        mujoco.mj_fwdPosition(world.model, data)
        states.append(data)
    return states


STATES_OF = {id: random_states(task_of(id).world, i) for i, id in enumerate(vnl_envs.task_ids())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, gl) -> Path:
    """Random states of every task, by name and under a hostile title; and a policy at work."""
    out = tmp_path_factory.mktemp("replays")
    replays = []
    for id, states in STATES_OF.items():
        recording = Recording(task_of(id).world)
        for data in states:
            recording.add(data)
        replays.append(recording.replay(id))
    replays.append(recording.replay(HOSTILE))
    write_page(out / "states.html", replays, recording.still((96, 54)), HOSTILE, HOSTILE)
    command = ["play", BODIES[0], "--policy", "track", "--seconds", "2", "-o", "start=0"]
    done = CliRunner().invoke(app, [*command, "--html", str(out / PLAYED)])
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture
def at(browser, folder) -> Iterator[Visit]:
    """A new page that stands still; nothing may go wrong on it."""
    opened = visit(browser, folder.as_uri(), SMALL, reduced_motion="reduce")
    yield opened
    opened.page.context.close()
    assert opened.faults == []


def drawn(at: Visit, name: str) -> Any:
    """A page of the folder after its first picture."""
    at.open(name)
    at.page.wait_for_selector("#stage.drawn")
    return at.page


_SILHOUETTE = """(frame) => {
  const player = replayPlayer, { figure, stage } = player;
  figure.ground.forEach((mesh) => { mesh.visible = false; });
  player.seek(frame);
  stage.look(player.states.camera, player.focus());
  stage.scene.background.set(0x00ff00);
  player.draw();
  return [player.stage.canvas.toDataURL(), stage.canvas.width, stage.canvas.height];
}"""


def silhouette(world: World, data: mujoco.MjData, size: tuple[int, int]) -> np.ndarray:
    """Where MuJoCo draws the body, (height, width) bool."""
    width, height = size

    def draw() -> np.ndarray:
        visual = world.model.vis.global_
        visual.offwidth, visual.offheight = width, height
        renderer = mujoco.Renderer(world.model, height, width)
        renderer.enable_segmentation_rendering()
        renderer.update_scene(data, following_camera(world, data), scene_option(world))
        ids, kinds = np.moveaxis(renderer.render(), 2, 0)
        renderer.close()
        geoms = (kinds == mujoco.mjtObj.mjOBJ_GEOM) & (ids >= world.body.geoms.start)
        return geoms | (kinds == mujoco.mjtObj.mjOBJ_SKIN)

    return gl_thread.call(draw)


@browsing
@pytest.mark.parametrize("id", BODIES)
def test_bodies_cover_what_they_cover_in_mujoco(id, at):
    page, world = drawn(at, "states.html"), task_of(id).world
    page.evaluate("index => replayPlayer.open(index)", list(STATES_OF).index(id))
    for frame, data in enumerate(STATES_OF[id]):
        url, *size = page.evaluate(_SILHOUETTE, frame)
        picture = imageio.imread(base64.b64decode(url.split(",")[1]))
        ours = (picture[..., :3] != [0, 255, 0]).any(axis=2)
        theirs = silhouette(world, data, tuple(size))
        assert theirs.sum() > 500
        overlap = (ours & theirs).sum() / (ours | theirs).sum()
        assert overlap >= 0.9


@browsing
def test_bodies_are_where_they_are_in_mujoco(at):
    page = drawn(at, "states.html")
    for index, states in enumerate(STATES_OF.values()):
        page.evaluate("index => replayPlayer.open(index)", index)
        for frame in (0, STATES - 1):
            page.evaluate("frame => replayPlayer.seek(frame)", frame)
            places = page.evaluate("replayPlayer.figure.bodies.map((b) => b.position.toArray())")
            np.testing.assert_allclose(places, states[frame].xpos, atol=2e-3)


_PICTURE = "(replayPlayer.draw(), replayPlayer.stage.canvas.toDataURL())"


@browsing
def test_it_plays_scrubs_and_obeys_keys(at):
    page = drawn(at, PLAYED)
    pictures = [page.evaluate(_PICTURE)]

    def changed() -> bool:
        pictures.append(page.evaluate(_PICTURE))
        return pictures[-1] != pictures[-2]

    def clock() -> float:
        page.evaluate(_PICTURE)
        return float(page.text_content("#clock").split()[0])

    length = float(page.text_content("#clock").split()[2])
    page.locator("#time").fill("40")
    assert clock() == 0.8
    assert changed()
    page.keyboard.press("ArrowRight")
    assert clock() == 0.82
    page.keyboard.press("End")
    page.keyboard.press("Shift+ArrowLeft")
    assert clock() == pytest.approx(length - 1)
    assert changed()
    page.keyboard.press("g")
    assert changed(), "the reference is gone"
    page.focus("#canvas")
    page.keyboard.press("ArrowLeft")
    assert changed(), "the view has turned"
    assert clock() == pytest.approx(length - 1)
    page.keyboard.press("Home")
    before = clock()
    page.click("#play")
    # The page's policy forbids what `wait_for_function` does.
    for _ in range(300):
        if page.evaluate("replayPlayer.time") > 5:
            break
        page.wait_for_timeout(100)
    else:
        pytest.fail("it does not play")
    page.keyboard.press("k")
    assert clock() > before
    assert page.text_content("#play") == "Play"
    assert len(at.texts("#legend .term")) == len(task_of(BODIES[0]).reward_terms)
    page.click("#legend button")
    assert page.locator("#plot polyline[hidden]").count() == 1


@browsing
def test_it_fits_a_phone_and_is_a_picture_without_scripts(browser, folder):
    for scripts in (True, False):
        opened = visit(browser, folder.as_uri(), NARROW, java_script_enabled=scripts)
        opened.open(PLAYED)
        if scripts:
            opened.page.wait_for_selector("#stage.drawn")
            assert opened.page.evaluate("document.documentElement.scrollWidth") == NARROW
        assert opened.page.is_visible("#stage img") is not scripts
        assert opened.page.is_visible("#play") is scripts
        opened.page.context.close()
        assert opened.faults == []


@browsing
def test_hostile_names_are_text(at):
    page = drawn(at, "states.html")
    seen = HOSTILE.replace("\u202e", "\\u202e")
    assert page.text_content("h1") == seen
    assert page.text_content("#episode option:last-child") == seen
    assert page.locator("main img").count() == 1


def test_a_replay_is_small(folder):
    assert (folder / PLAYED).stat().st_size < 2e6
    policy = ROOT / "baselines/checkpoints/ppo/RodentGoalReaching-v0.onnx"
    player = Player("vnl/RodentGoalReaching-v0", policy, 0, {})
    ((_, recording),) = record_episodes(player, 20.0, "size")
    data = len(json.dumps(recording.replay().states))
    assert data < 300e3


def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="qpos: numbers must be finite"):
        pack({"qpos": Column(np.array([[np.nan]]), 0.1)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "give --video FILE.mp4, --html"), (["--html", "a.txt"], "ends in .html, got 'a.txt'")],
)
def test_commands_say_what_is_wrong(arguments, message):
    for command in (["play", BODIES[0]], ["data", "view", "rodent"]):
        done = CliRunner().invoke(app, [*command, *arguments])
        assert done.exit_code == 2
        assert message in done.output
